"""A schedule made by hand: the parent chooses every step, and may look at memory between two.

Replays that are to be shown, and ``emu.testing.Sequencer``, are built on this.
"""

from emu.race.judge import begin_batch, end_observed
from emu.race.players import Players
from emu.race.scenario import ScenarioError
from emu.race.schedule import actor_name, actor_number
from emu.race.verdict import Verdict, verdict_of
from emu.race.words import waits_for
from shm.baton import S_START, SEAT_DONE, VERDICT_OK
from shm.play import grant, observe
from shm.point import site_name

__all__ = ["Stepper"]


class Stepper:
    """One schedule of players that are there: ``begin()``, ``step()`` until none is ``enabled()``, ``end()``."""

    def __init__(self, players: Players) -> None:
        self.players, self.baton = players, players.baton
        self.alive = True

    def begin(self) -> None:
        """Memory as it was at first; daemons have gone to sleep."""
        self.players.revive()
        self.alive = True
        self.baton.observed = 1
        self.players.arena.plan.drift = 0
        self.players.learn()  # what schedules made by hand have changed
        begin_batch(self.baton)
        self._settle()

    def _settle(self) -> None:
        """Daemons that aren't asleep yet go first, whatever anybody wants."""
        while self.alive and self.baton.prologue:
            mask = observe(self.baton)
            if self.baton.prologue:
                self._give(mask.bit_length() - 1)

    def _give(self, actor: int) -> None:
        seen = self.baton.parent
        grant(self.baton, actor)
        self.alive = self.players.wait(seen=seen)

    def enabled(self) -> list[str]:
        """Who could make the next step. Empty: the schedule is over."""
        mask = observe(self.baton) if self.alive else 0
        return [actor_name(self.players.scenario, actor) for actor in range(mask.bit_length()) if mask >> actor & 1]

    def step(self, who: str) -> str:
        """Let an actor make one step, up to its next point, whose name is returned."""
        scenario = self.players.scenario
        actor = actor_number(scenario, who)
        if who not in self.enabled():
            seat = self.baton.seats[actor & 15]
            why = "has ended" if seat.state == SEAT_DONE else f"waits for {waits_for(self.players, seat)}"
            raise ScenarioError(f"{scenario.id}: {who} can't make a step at {self.where(who)}: it {why}")
        self._give(actor)
        return self.where(who)

    def where(self, who: str) -> str:
        """The point at which an actor stands; ``end`` when it is through."""
        actor = actor_number(self.players.scenario, who)
        if actor < 0:
            return site_name(S_START)
        seat = self.baton.seats[actor & 15]
        return site_name(seat.site) if seat.context == actor >> 4 else "end"

    def end(self) -> Verdict:
        """Judge it, whether or not it is over; processes are free for the next schedule."""
        if self.alive and not self.enabled():
            end_observed(self.baton)
        self.baton.observed = 0
        self.players.learn()
        return verdict_of(self.players) if self.baton.verdict != VERDICT_OK else Verdict.fine()
