"""Virtual time of a scheduled run, for a test that has to do with timeouts.

Time stands still while anybody can make a step. When nobody can, it jumps to the next deadline by itself.
"""

from emu.race.scenario import ScenarioError
from emu.race.schedule import actor_name
from emu.race.stepper import Stepper
from shm.baton import SEAT_WAITS_CHANGE
from shm.waitqueue import NEVER

__all__ = ["Clock"]


class Clock:
    """A :class:`~emu.testing.Sequencer`'s time, in ns since the schedule began.

    >>> from emu.race.ops_litmus import nap, step
    >>> with Sequencer(litmus([nap(0, ns=500)], [step(2)])) as s:
    ...     _ = s.run("cpu0")
    ...     s.clock.now, s.clock.deadlines, s.clock.advance(), s.enabled
    (0, {'cpu0': 500}, 500, ('cpu0', 'cpu1'))
    """

    def __init__(self, stepper: Stepper) -> None:
        self._stepper, self._baton = stepper, stepper.baton
        self.moved = False  # by hand, which no schedule says

    @property
    def now(self) -> int:
        """What ``clock_ns()`` says, from the schedule's beginning."""
        return int(self._baton.clock_ns - self._baton.start_ns)

    @property
    def deadlines(self) -> dict[str, int]:
        """Who sleeps until when at most."""
        b = self._baton
        return {
            actor_name(self._stepper.players.scenario, seat.index): int(seat.deadline - b.start_ns)
            for seat in b.seats[: b.nr_seats]
            if seat.state == SEAT_WAITS_CHANGE and 0 <= seat.deadline < NEVER
        }

    def advance(self, ns: int | None = None) -> int:
        """Let time pass: to the next deadline, or by so many ns. Returns what it is now.

        Others may be able to run: a timeout that comes early is a timeout that came while they did. No schedule can
        say that, so the Sequencer has none to show from here on.
        """
        later = [at for at in self.deadlines.values() if at > self.now]
        if ns is None and not later:
            raise ScenarioError(
                f"{self._stepper.players.scenario.id}: nobody waits for a later time than {self.now} ns"
            )
        if ns is not None and ns < 0:
            raise ScenarioError(f"{self._stepper.players.scenario.id}: time goes forward, not {ns} ns")
        self._baton.clock_ns = self._baton.start_ns + (min(later) if ns is None else self.now + ns)
        self.moved = True
        return self.now
