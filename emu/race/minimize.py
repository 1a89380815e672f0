"""Shrinking a failing schedule: preemptions, then actors, then operations, until nothing can go.

Delta debugging (Zeller, Hildebrandt) over the switches: a schedule with fewer of them is played leniently - a switch
that doesn't come is left out - and kept if it fails in the same way. A local minimum need not be the smallest, so
bounded search then looks for a failure with fewer preemptions: none within a bound that was exhausted is the proof.
Actors and operations are taken away one at a time. What is left must fail within the same number of preemptions, not
with fewer, and not with the fix: else it shows something other than the race. Daemons stay.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from emu.race.explore import play_batch
from emu.race.players import Players
from emu.race.replay import Recording, record, replay
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule, reduced, schedule_of
from emu.race.verdict import Verdict

__all__ = ["Minimized", "minimize"]

SEARCH_S = 3.0  # for one variant of the scenario


@dataclass
class Minimized:
    """A schedule that can't be made smaller."""

    scenario: Scenario  # perhaps with fewer actors and operations
    schedule: Schedule
    recording: Recording
    preemptions: int
    proven: bool  # bounded search has shown that fewer preemptions don't do
    tries: int
    seconds: float
    original: Schedule


@dataclass(frozen=True)
class _Failure:
    schedule: Schedule
    preemptions: int

    @property
    def size(self) -> tuple[int, int]:
        return self.preemptions, len(self.schedule.switches)


class _Shrinker:
    """The players of one variant, and what counts as the same failure."""

    def __init__(self, players: Players, wanted: Verdict, deadline: float) -> None:
        self.players, self.wanted, self.deadline = players, wanted, deadline
        self.tries = 0

    def _failure(self, verdict: Verdict, seed: int) -> _Failure | None:
        if (verdict.kind, verdict.invariant) != (self.wanted.kind, self.wanted.invariant):
            return None
        return _Failure(schedule_of(self.players, seed), int(self.players.baton.preemptions))

    def play(self, schedule: Schedule) -> _Failure | None:
        """What is left of a schedule when it still fails."""
        self.tries += 1
        return self._failure(replay(self.players, schedule, lenient=True).verdict, schedule.seed)

    def search(self, bound: int, seed: int) -> tuple[_Failure | None, bool]:
        """A failure with at most so many preemptions; and whether all schedules within the bound were played."""
        result = play_batch(self.players, "exhaustive", bound=bound, seconds=self.seconds(), seed=seed)
        self.tries += result.schedules
        return self._failure(result.verdict, seed), not result.coverage.startswith("sampled")

    def fails(self, bound: int) -> bool:
        """Whether anything fails with at most so many preemptions."""
        return play_batch(self.players, "exhaustive", bound=bound, seconds=self.seconds()).found

    def seconds(self) -> float:
        """Of one search."""
        return max(0.1, min(SEARCH_S, self.deadline - time.monotonic()))

    def in_time(self) -> bool:
        return time.monotonic() < self.deadline

    def ddmin(self, failure: _Failure) -> _Failure:
        """Fewer switches."""
        parts = 2
        while len(failure.schedule.switches) > 0 and self.in_time():
            count = len(failure.schedule.switches)
            parts = min(parts, count)
            smaller = next(self._smaller(failure, parts), None)
            if smaller is not None:
                failure, parts = smaller, max(parts - 1, 2)
            elif parts >= count:
                break
            else:
                parts *= 2
        return failure

    def _smaller(self, failure: _Failure, parts: int) -> Iterator[_Failure]:
        count = len(failure.schedule.switches)
        for i in range(parts):
            part = set(range(i * count // parts, (i + 1) * count // parts))
            found = self.play(failure.schedule.without(part))
            if found is not None and found.size < failure.size:
                yield found

    def fewest(self, failure: _Failure) -> tuple[_Failure, bool]:
        """A failure with the fewest preemptions, and whether that is certain."""
        for bound in range(failure.preemptions):
            found, all_of_it = self.search(bound, failure.schedule.seed)
            if found is not None:
                return self.ddmin(found), True
            if not all_of_it or not self.in_time():
                return failure, False
        return failure, True


def _parts(scenario: Scenario) -> list[str]:
    """What could be dropped: whole actors first, then operations from the last one on."""
    actors: dict[str, int] = {
        **{name: len(ops) for name, ops in scenario.programs.items() if name.startswith("cpu")},
        **{f"irq{cpu[3:]}": len(ops) for cpu, ops in scenario.irqs.items()},
    }
    return [*actors, *(f"{name}.{i}" for name, count in actors.items() if count > 1 for i in reversed(range(count)))]


def minimize(
    scenario: Scenario, schedule: Schedule, *, seconds: float = 60.0, told: Callable[[str], None] = lambda _: None
) -> Minimized:
    """Shrink a schedule that fails. Raises ScenarioError if it doesn't, or can't be played."""
    began = time.monotonic()
    deadline = began + seconds
    whole = scenario
    with Players(reduced(whole, schedule.dropped), schedule.unfixed) as players:
        wanted = replay(players, schedule).verdict
        if wanted.ok:
            raise ScenarioError(f"{scenario.id}: the schedule does not fail, there is nothing to minimise")
        shrinker = _Shrinker(players, wanted, deadline)
        failure = shrinker.ddmin(_Failure(schedule_of(players, schedule.seed), int(players.baton.preemptions)))
        told(f"{len(failure.schedule.switches)} switches of {len(schedule.switches)} left")
        failure, proven = shrinker.fewest(failure)
        told(f"{failure.preemptions} preemptions" + (", fewer do not do" if proven else ""))
        tries = shrinker.tries
    dropped = schedule.dropped
    for what in _parts(reduced(whole, dropped)):
        if what.partition(".")[0] in dropped or time.monotonic() > deadline:
            continue
        found, more = _without(whole, (*dropped, what), failure, wanted, deadline)
        tries += more
        if found is not None:
            failure, dropped = found, (*dropped, what)
            told(f"without {what}")
    smallest = reduced(whole, dropped)
    with Players(smallest, schedule.unfixed) as players:
        recording = record(players, failure.schedule)
    return Minimized(
        smallest, failure.schedule, recording, failure.preemptions, proven, tries, time.monotonic() - began, schedule
    )


def _without(
    whole: Scenario, dropped: tuple[str, ...], failure: _Failure, wanted: Verdict, deadline: float
) -> tuple[_Failure | None, int]:
    """The same failure in a smaller scenario, with no more preemptions."""
    smaller = reduced(whole, dropped)
    if not smaller.programs and not smaller.irqs:
        return None, 0
    try:
        players = Players(smaller, failure.schedule.unfixed)
    except ScenarioError:
        return None, 0
    with players:
        shrinker = _Shrinker(players, wanted, deadline)
        kept = tuple(s for s in failure.schedule.switches if not {s.actor, s.target} & set(dropped))
        found = shrinker.play(Schedule(whole.id, failure.schedule.unfixed, failure.schedule.seed, kept, dropped))
        if found is None or found.preemptions > failure.preemptions:
            found, _ = shrinker.search(failure.preemptions, failure.schedule.seed)
        if found is not None and failure.preemptions and shrinker.fails(failure.preemptions - 1):
            found = None
        if found is not None:
            found = shrinker.ddmin(found)
    if found is not None and whole.switch:
        with Players(smaller, not failure.schedule.unfixed) as players:
            if _Shrinker(players, wanted, deadline).fails(failure.preemptions):
                found = None
    return found, shrinker.tries
