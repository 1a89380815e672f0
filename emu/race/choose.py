"""The strategy's decisions, by number (``Plan.strategy``)."""

from emu.race.arena import arena_at
from emu.race.plan import DPOR, EXHAUSTIVE, PCT, POS, RANDOM, REPLAY, ROBIN, SURW, Plan
from emu.race.strategies.dpor import begin_dpor, choose_dpor, end_dpor, next_dpor
from emu.race.strategies.exhaustive import choose_exhaustive, next_exhaustive
from emu.race.strategies.pct import begin_pct, choose_pct
from emu.race.strategies.pos import begin_pos, choose_pos
from emu.race.strategies.random_walk import choose_random
from emu.race.strategies.replay import begin_replay, choose_replay, end_replay
from emu.race.strategies.robin import choose_robin
from emu.race.strategies.surw import begin_surw, choose_surw, count_surw
from shm.baton import Baton, choose, fallback
from shm.core import core, implements

__all__ = ["begin_strategy", "end_strategy", "next_schedule"]


@implements(choose)
def by_strategy(b: Baton) -> int:
    """Who goes next."""
    plan = arena_at(b, 0).plan
    strategy = plan.strategy
    if strategy == EXHAUSTIVE:
        return choose_exhaustive(b, plan)
    if strategy == RANDOM:
        return choose_random(b, plan)
    if strategy == PCT:
        return choose_pct(b, plan)
    if strategy == POS:
        return choose_pos(b, plan)
    if strategy == SURW:
        return choose_surw(b, plan)
    if strategy == ROBIN:
        return choose_robin(b, plan)
    if strategy == REPLAY:
        return choose_replay(b, plan)
    if strategy == DPOR:
        return choose_dpor(b, plan, arena_at(b, 0))
    return fallback(b)


@core
def begin_strategy(b: Baton, plan: Plan) -> None:
    """A schedule begins."""
    plan.at_node = 0
    plan.delays = 0
    if plan.strategy == PCT:
        begin_pct(b, plan)
    elif plan.strategy == POS:
        begin_pos(b, plan)
    elif plan.strategy == SURW:
        begin_surw(b, plan)
    elif plan.strategy == REPLAY:
        begin_replay(b, plan)
    elif plan.strategy == DPOR:
        begin_dpor(b, arena_at(b, 0).dpor)


@core
def end_strategy(b: Baton, plan: Plan) -> None:
    """A schedule has ended."""
    plan.steps_estimate = max(plan.steps_estimate, b.steps)
    if plan.strategy == SURW:
        count_surw(b, plan)
    elif plan.strategy == REPLAY:
        end_replay(plan)
    elif plan.strategy == DPOR:
        end_dpor(b, plan, arena_at(b, 0))


@core
def next_schedule(b: Baton, plan: Plan) -> bool:
    """Whether there is another schedule to play."""
    if plan.strategy == EXHAUSTIVE:
        return next_exhaustive(b, plan)
    if plan.strategy == DPOR:
        return next_dpor(b, plan, arena_at(b, 0))
    return plan.strategy != ROBIN and plan.strategy != REPLAY
