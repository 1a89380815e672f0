"""Looking for a schedule that fails, with one strategy or with what finds most races soonest.

``auto``: bounded search with no preemption, with one, with two - most races need no more, and what is found there has
as few as there can be - and then sampling, by turns with each strategy, until the budget is spent.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from emu.race.explore import ALL, Result, play_batch
from emu.race.players import Players
from emu.race.spread import seed_of

__all__ = ["AUTO", "Hunt", "hunt"]

AUTO = "auto"
BOUNDS = (0, 1, 2)
SAMPLERS = ("random", "pct", "pos", "surw")
CHUNK = 500  # schedules of one turn
SHARE = 0.5  # of what is left of the budget, for the bounded search with the most preemptions


@dataclass
class Hunt:
    """What was searched, in order; the last search is the one that found something, if any did."""

    searches: list[Result] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of each: "1 preemption", "pct"
    preemptions: int = 0  # of the schedule that was found
    fewest: bool = False  # all schedules with fewer preemptions have been played, and none failed

    @property
    def found(self) -> Result | None:
        """The search that found a failure."""
        return self.searches[-1] if self.searches and self.searches[-1].found else None

    @property
    def schedules(self) -> int:
        """Played in all."""
        return sum(result.schedules for result in self.searches)

    @property
    def coverage(self) -> str:
        """The most that is certain: ``exhaustive``, ``bounded(k)`` or ``sampled(n)``."""
        whole = [result.coverage for result in self.searches if not result.coverage.startswith("sampled")]
        return whole[-1] if whole else f"sampled({self.schedules})"

    def summed(self) -> Iterator[tuple[str, int, float]]:
        """A line for each kind of search: what, how many schedules, seconds. Turns of a sampler are added up."""
        sums: dict[str, tuple[int, float]] = {}
        for name, result in zip(self.names, self.searches, strict=True):
            schedules, seconds = sums.get(name, (0, 0.0))
            sums[name] = schedules + result.schedules, seconds + result.seconds
        for name, (schedules, seconds) in sums.items():
            yield name, schedules, seconds


def hunt(
    players: Players, strategy: str = AUTO, *, seed: int = 1, bound: int = -1, depth: int = 3, schedules: int = ALL,
    seconds: float = 10.0,
) -> Hunt:  # fmt: skip
    """Until a schedule fails, all have been played, or the budget is spent. ``bound`` and ``depth`` are those of the
    exhaustive search and of PCT."""
    out = Hunt()
    end = time.monotonic() + seconds

    def play(how: str, limit: int, share: float = 1.0, own_seed: int = seed, most: int = -1) -> Result:
        left = max((end - time.monotonic()) * share, 0.001)
        result = play_batch(players, how, seed=own_seed, bound=most, depth=depth, schedules=limit, seconds=left)
        out.searches.append(result)
        out.names.append(how if most < 0 else f"{most} preemption{'' if most == 1 else 's'}")
        if result.found:
            out.preemptions = int(players.baton.preemptions)
        return result

    if strategy != AUTO:
        play(strategy, schedules, most=bound)
        return out
    for most in BOUNDS:
        result = play("exhaustive", schedules - out.schedules, SHARE if most == BOUNDS[-1] else 1.0, most=most)
        if result.found:
            out.fewest = most == out.preemptions  # the bounds below have been searched to their ends
        if result.found or result.coverage == "exhaustive" or _spent(out, schedules, end):
            return out
        if result.coverage.startswith("sampled"):
            break
    turn = 0
    while not _spent(out, schedules, end):
        how = SAMPLERS[turn % len(SAMPLERS)]
        limit = min(CHUNK, schedules - out.schedules)
        if play(how, limit, own_seed=seed_of(seed, turn // len(SAMPLERS))).found:
            break
        turn += 1
    return out


def _spent(out: Hunt, schedules: int, end: float) -> bool:
    return out.schedules >= schedules or time.monotonic() >= end
