"""Is a scenario what it says? Its race is found, by sampling and by bounded search; with the fix there is none.

The fixed variant is searched with partial-order reduction until all is done; where that is too much, within two
preemptions, and the verdict says so.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from emu.race.exhaust import BOUND, exhaust
from emu.race.explore import Result, play_batch
from emu.race.minimize import minimize
from emu.race.players import Players
from emu.race.scenario import Scenario

__all__ = ["NO_FIX", "Proof", "prove"]

SAMPLING = ("random", "pct", "pos", "surw")
FIND_S = 10.0  # within which a race must be found
DEEPEST = 4
NO_FIX = "no fix"  # a race by design


@dataclass
class Proof:
    """What was found of one scenario."""

    scenario: str
    sampled_by: str  # the sampling strategy that found the race
    sampled_schedules: int
    sampled_s: float
    bounded_by: int  # preemptions within which bounded search found it; -1: it didn't
    bounded_schedules: int
    bounded_s: float
    fewest: int  # preemptions of the minimised schedule
    fewest_proven: bool
    fixed: str  # "exhaustive", "bounded(2)", NO_FIX; "failed: ..." if the fixed variant has a race
    fixed_schedules: int
    fixed_s: float
    schedule: str  # minimised
    seconds: float
    otherwise: tuple[str, ...] = ()  # what the scenario says that isn't so

    @property
    def ok(self) -> bool:
        """Whether all of it is as it must be."""
        found = bool(self.sampled_by) and self.bounded_by >= 0
        return found and self.fixed_holds and not self.otherwise

    @property
    def fixed_holds(self) -> bool:
        """Whether no schedule of the fixed variant fails, at least none with two preemptions."""
        bound = re.fullmatch(r"bounded\((\d+)\)", self.fixed)
        return self.fixed in (NO_FIX, "exhaustive") or (bound is not None and int(bound[1]) >= BOUND)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "ok": self.ok}


def _sample(players: Players, seed: int) -> tuple[str, Result | None]:
    for strategy in SAMPLING:
        result = play_batch(players, strategy, seed=seed, seconds=FIND_S)
        if result.found:
            return strategy, result
    return "", None


def _bounded(players: Players) -> tuple[int, int, float]:
    """The least bound within which the race is found, the schedules played and the time it took."""
    began, schedules = time.monotonic(), 0
    for bound in range(DEEPEST + 1):
        result = play_batch(players, "exhaustive", bound=bound, seconds=FIND_S - (time.monotonic() - began))
        schedules += result.schedules
        if result.found:
            return bound, schedules, time.monotonic() - began
        if result.coverage == "exhaustive" or time.monotonic() - began > FIND_S:
            break
    return -1, schedules, time.monotonic() - began


def prove(scenario: Scenario, *, seed: int = 1, seconds: float = 10.0) -> Proof:
    """Check one scenario. ``seconds``: for the fixed variant, before a bound is set."""
    began = time.monotonic()
    with Players(scenario, True) as players:
        strategy, sampled = _sample(players, seed)
        bounded_by, bounded_schedules, bounded_s = _bounded(players)
    small = minimize(scenario, sampled.schedule) if sampled and sampled.schedule else None
    fixed = exhaust(scenario, False, first_s=seconds, seconds=9 * seconds) if scenario.switch else None
    return Proof(
        scenario.id, strategy, sampled.schedules if sampled else 0, sampled.seconds if sampled else 0.0,
        bounded_by, bounded_schedules, bounded_s,
        small.preemptions if small else -1, bool(small and small.proven),
        NO_FIX if fixed is None else f"failed: {fixed.verdict}" if fixed.found else fixed.coverage,
        fixed.schedules if fixed else 0, fixed.seconds if fixed else 0.0,
        str(small.schedule) if small else "", time.monotonic() - began,
        tuple(_otherwise(scenario, sampled, small.preemptions if small else -1)),
    )  # fmt: skip


def _otherwise(scenario: Scenario, sampled: Result | None, fewest: int) -> Iterator[str]:
    """What was found, where the scenario says something else."""
    if sampled and sampled.verdict.kind != scenario.kind:
        yield f"{sampled.verdict.kind}, not {scenario.kind}"
    if fewest != scenario.preemptions:
        yield f"{fewest} preemptions, not {scenario.preemptions}"
