"""PCT(d): probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010).

Actors get random priorities and the highest that can run does; at d - 1 random steps the priority of whoever is about
to run drops below all others. A bug of depth d - d - 1 preemptions are needed - among n actors and k steps is hit with
a probability of at least 1 / (n k^(d-1)).

Differs from the paper: k is not given but is the length of the longest schedule so far, and steps at which nobody has
a choice count as well. An interrupt is an actor: it has a priority of its own.
"""

from emu.race.plan import MAX_ACTORS, MAX_CHANGES, Plan, random_below, random_bits
from shm.baton import Baton
from shm.core import core

__all__ = ["begin_pct", "choose_pct"]


@core
def begin_pct(b: Baton, plan: Plan) -> None:
    """New priorities, all above those that change points give, and new change points."""
    for actor in range(MAX_ACTORS):
        plan.priority[actor] = MAX_CHANGES + 1 + (random_bits(plan) >> 16)
    plan.nr_changes = min(max(plan.depth - 1, 0), MAX_CHANGES)
    for i in range(plan.nr_changes):
        plan.changes[i] = 1 + random_below(plan, max(plan.steps_estimate - 1, 1))


@core
def highest(b: Baton, plan: Plan) -> int:
    """Of those that can run the one with the highest priority."""
    best = -1
    for actor in range(MAX_ACTORS):
        if b.enabled >> actor & 1 != 0 and (best < 0 or plan.priority[actor] > plan.priority[best]):
            best = actor
    return best


@core
def choose_pct(b: Baton, plan: Plan) -> int:
    """Change points that have been reached since the last decision lower whoever would run."""
    actor = highest(b, plan)
    for i in range(plan.nr_changes):
        if 0 <= plan.changes[i] <= b.steps:
            plan.changes[i] = -1
            plan.priority[actor] = i + 1
            actor = highest(b, plan)
    return actor
