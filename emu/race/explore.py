"""Exploring a scenario's schedules until one fails, all are done, or the budget is spent."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emu.race.arena import MAX_KEPT
from emu.race.plan import DPOR, EXHAUSTIVE, STRATEGIES
from emu.race.players import Players
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule, schedule_of
from emu.race.verdict import Verdict, verdict_of
from shm.core import INSTRUMENTED

__all__ = ["Result", "bounded", "explore", "play_batch", "set_plan"]

ALL = 1 << 60


@dataclass
class Result:
    """What an exploration found."""

    scenario: str
    unfixed: bool
    strategy: str
    seed: int
    schedules: int
    failures: int
    pruned: int
    seconds: float
    steps: int  # of all schedules
    most_steps: int
    coverage: str  # "exhaustive", "bounded(k)", "sampled(n)"
    verdict: Verdict
    schedule: Schedule | None = None  # the one that failed
    handoffs: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether a schedule failed."""
        return self.failures > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "scenario": self.scenario, "unfixed": self.unfixed, "strategy": self.strategy, "seed": self.seed,
            "schedules": self.schedules, "failures": self.failures, "pruned": self.pruned, "seconds": self.seconds,
            "steps": self.steps, "most_steps": self.most_steps, "coverage": self.coverage,
            "verdict": self.verdict.as_dict(), "schedule": str(self.schedule) if self.schedule else None,
            "handoffs": self.handoffs, **self.more,
        }  # fmt: skip


def set_plan(
    players: Players, strategy: str, *, seed: int = 1, bound: int = -1, delay: int = -1, depth: int = 3,
    limit: int = ALL,
) -> None:  # fmt: skip
    """Put an exploration into the plan, from its first schedule on."""
    plan = players.arena.plan
    if strategy not in STRATEGIES:
        raise ScenarioError(f"strategy {strategy!r}: not one of {', '.join(STRATEGIES)}")
    if strategy == "dpor":
        if not INSTRUMENTED:
            raise ScenarioError("strategy dpor: needs EMU_MODE=instrumented, which sees what steps access")
        if players.baton.buffers:
            raise ScenarioError("strategy dpor: store buffers are not for it; use exhaustive instead")
    plan.strategy = STRATEGIES.index(strategy)
    players.baton.every = int(strategy == "dpor")
    players.arena.dpor.nr_kept, players.arena.dpor.capacity = 0, MAX_KEPT
    players.arena.kcsan.nr = players.arena.kcsan.cut = 0
    plan.seed, plan.rng = seed & (1 << 62) - 1, 0
    plan.preemption_bound, plan.delay_bound, plan.depth = bound, delay, depth
    plan.limit = limit
    plan.schedules = plan.failures = plan.pruned = plan.exhausted = plan.contaminated = plan.drift = plan.cut = 0
    plan.all_steps = plan.most_steps = plan.nr_nodes = plan.at_node = 0
    plan.steps_estimate = 8
    plan.interest = 0
    for i in range(len(plan.expected)):
        plan.expected[i] = 1


def play_batch(
    players: Players, strategy: str = "random", *, seed: int = 1, bound: int = -1, delay: int = -1, depth: int = 3,
    schedules: int = ALL, seconds: float = 1e9, stop_at_failure: bool = True, may_drift: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Result:  # fmt: skip
    """One exploration with processes that are there already. ``prepare`` may change the plan before it begins."""
    began = time.monotonic()
    handoffs = players.baton.handoffs
    plan = players.arena.plan
    deadline = began + seconds
    while True:
        set_plan(players, strategy, seed=seed, bound=bound, delay=delay, depth=depth, limit=schedules)
        plan.stop_at_failure = int(stop_at_failure)
        prepare()
        alive = players.batch(lambda: time.monotonic() > deadline)
        if (not alive or plan.schedules > players.arena.memory.learn_until) and players.learn():
            plan.contaminated = 1
        if not plan.contaminated:
            break  # else: schedules began in memory that others had left behind: again, putting that back as well
    verdict = verdict_of(players)
    if not alive:  # in the middle of a schedule
        plan.schedules += 1
        plan.failures += 1
    elif players.arena.plan.failures == 0:
        verdict = Verdict.fine()
    result = Result(
        players.scenario.id, players.unfixed, strategy, seed, int(plan.schedules), int(plan.failures),
        int(plan.pruned), time.monotonic() - began, int(plan.all_steps), int(plan.most_steps),
        _coverage(players, strategy), verdict,
        handoffs=int(players.baton.handoffs) - handoffs,
    )  # fmt: skip
    if plan.drift and not may_drift:
        raise ScenarioError(
            f"{players.scenario.id}: schedule {plan.schedules} did not go as before at its decision {plan.drift}: "
            "something besides the order of steps decides (the clock, a random number, memory outside the machine)"
        )
    if result.found and stop_at_failure:
        result.schedule = schedule_of(players, seed)
    return result


def bounded(bound: int, delay: int) -> str:
    """The coverage of a search that its bounds have kept something from."""
    return "bounded({})".format(
        ", ".join(f"{name}{value}" for name, value in (("", bound), ("delays ", delay)) if value >= 0)
    )


def _coverage(players: Players, strategy: str) -> str:
    plan = players.arena.plan
    if STRATEGIES.index(strategy) in (EXHAUSTIVE, DPOR) and plan.exhausted:
        if not plan.cut:
            return "exhaustive"
        if STRATEGIES.index(strategy) == DPOR:
            return f"sampled({plan.schedules})"  # there was no room for all footprints
        return bounded(plan.preemption_bound, plan.delay_bound)
    return f"sampled({plan.schedules})"


def explore(
    scenario: Scenario, *, unfixed: bool = True, strategy: str = "random", buffers: bool = False, **limits: Any
) -> Result:
    """Play a scenario's schedules: see :func:`play_batch` for the limits, :class:`Players` for ``buffers``."""
    with Players(scenario, unfixed, buffers=buffers) as players:
        return play_batch(players, strategy, **limits)
