"""All schedules of a scenario: one of each kind where that can be done, else all within a few preemptions."""

import time
from dataclasses import replace

from emu.race.explore import Result, play_batch
from emu.race.players import Players
from emu.race.scenario import Scenario
from shm.core import INSTRUMENTED

__all__ = ["BOUND", "exhaust"]

BOUND = 2  # preemptions, where a scenario can't be exhausted and doesn't say how far to go


def exhaust(scenario: Scenario, unfixed: bool, *, seed: int = 1, first_s: float, seconds: float) -> Result:
    """Search with partial-order reduction for ``first_s``; where that is too short, within the scenario's bound.

    The result's coverage says which it was; ``seconds`` is for both. Without EMU_MODE=instrumented nothing is reduced.
    """
    began = time.monotonic()
    with Players(scenario, unfixed) as players:
        strategy = "dpor" if INSTRUMENTED and not players.baton.buffers else "exhaustive"
        result = play_batch(players, strategy, seed=seed, seconds=min(first_s, seconds))
        if not result.found and result.coverage != "exhaustive" and first_s < seconds:
            left = seconds - (time.monotonic() - began)
            bound = scenario.bound or BOUND
            result = play_batch(players, "exhaustive", seed=seed, bound=bound, seconds=max(left, 0.0))
    return replace(result, seconds=time.monotonic() - began)
