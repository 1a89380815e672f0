"""How fast schedules are played: ``emu bench race``.

Three CPU processes allocate a block each and one frees it, which takes them a dozen points together; memory is put back
and judged after every schedule. Random schedules hand the baton over at most points, PCT(1) only when a process is
through: from the two, the time of a hand-over follows, and so what is left for everything else. Of that, putting memory
back and judging are timed by themselves, with the call from Python.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from emu.race.explore import Result, play_batch
from emu.race.invariants_pages import SOUND
from emu.race.judge import end_observed
from emu.race.ops_pages import alloc, free
from emu.race.players import Players
from emu.race.scenario import Scenario, small

__all__ = ["RACE", "measure_race", "race_text"]

ROUNDS = 7
SCHEDULES = 5_000
CALLS = 1_000
RACE = Scenario(
    id="BENCH", title="three CPUs allocate a block of two pages each, one frees it", story="",
    shape=small(cpus=3),
    programs={
        "cpu0": (alloc(0, order=1), free(0, order=1)), "cpu1": (alloc(1, order=1),), "cpu2": (alloc(2, order=1),)
    }, invariants=SOUND,
)  # fmt: skip


def _rates(results: list[Result]) -> tuple[float, float, float]:
    """Medians of ns a schedule, hand-overs a schedule and hand-overs a second."""
    return (
        statistics.median(r.seconds * 1e9 / r.schedules for r in results),
        statistics.median(r.handoffs / r.schedules for r in results),
        statistics.median(r.handoffs / r.seconds for r in results),
    )


def _ns(act: Callable[[], None]) -> float:
    """Of one call, at best."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            act()
        best = min(best, (time.perf_counter_ns() - began) / CALLS)
    return best


def measure_race() -> dict[str, Any]:
    """Schedules and hand-overs a second, and the share of the time that hand-overs take."""
    with Players(RACE) as players:
        play_batch(players, "random", schedules=SCHEDULES)  # all memory that schedules change is known then
        found: dict[str, list[Result]] = {"random": [], "pct": []}
        for seed in range(ROUNDS):
            for strategy, results in found.items():
                results.append(play_batch(players, strategy, depth=1, seed=seed, schedules=SCHEDULES))
        judge_ns = _ns(lambda: end_observed(players.baton))  # once more, of the last schedule
        reset_ns = _ns(players.reset)
    ns, handoffs, per_second = _rates(found["random"])
    quiet_ns, quiet_handoffs, _ = _rates(found["pct"])
    handoff_ns = (ns - quiet_ns) / max(handoffs - quiet_handoffs, 1e-9)
    return {
        "key": "race", "procs": len(RACE.programs), "points": found["random"][0].most_steps,
        "schedules_per_second": 1e9 / ns, "handoffs_per_second": per_second, "handoff_ns": handoff_ns,
        "handoff_share": min(1.0, max(0.0, handoff_ns * handoffs / ns)), "schedule_ns": ns, "reset_ns": reset_ns,
        "judge_ns": judge_ns,
    }  # fmt: skip


def race_text(r: dict[str, Any]) -> str:
    """The result in words."""
    parts = ", ".join(
        f"{what} {r[name] / r['schedule_ns']:.0%}"
        for name, what in (("reset_ns", "memory put back"), ("judge_ns", "judging"))
    )
    return (
        f"{r['schedules_per_second']:,.0f} schedules/s of {r['points']} points, {r['handoffs_per_second']:,.0f} "
        f"hand-overs/s; a hand-over takes {r['handoff_ns']:,.0f} ns, all of them {r['handoff_share']:.0%} of the time, "
        f"{parts}"
    )
