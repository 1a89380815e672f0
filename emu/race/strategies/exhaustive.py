"""Every schedule, depth first; or every one within a bound.

A decision is a node: it is met again on the way down to the last node that still has something to try, so a schedule is
its own prefix and nothing but the path is remembered. Bounds: *preemptions* (switches away from an actor that could go
on: Musuvathi and Qadeer's iterative context bounding) and *delays* (how many times a deterministic scheduler is told to
skip an actor: Emmi, Qadeer, Rakamaric). What a bound leaves out sets ``Plan.cut``: only without it is a search that has
come to its end exhaustive.
"""

from emu.race.plan import MAX_ACTORS, Plan
from shm.baton import MAX_STEPS, Baton, fallback, lowest
from shm.core import core

__all__ = ["choose_exhaustive", "next_exhaustive"]


@core
def delay_of(b: Baton, first: int, actor: int) -> int:
    """How many actors that could run are skipped, going round from the first one."""
    skipped = 0
    at = first
    while at != actor:
        if b.enabled >> at & 1 != 0:
            skipped += 1
        at = (at + 1) % MAX_ACTORS
    return skipped


@core
def allowed(b: Baton, plan: Plan, first: int) -> int:
    """Whom the bounds let go on; what they take away is noted as cut."""
    mask = b.enabled
    current = b.current
    if plan.preemption_bound >= 0 and b.preemptions >= plan.preemption_bound:
        if current >= 0 and mask >> current & 1 != 0:
            mask = 1 << current
    if plan.delay_bound >= 0:
        rest = mask
        while rest != 0:
            actor = lowest(rest)
            rest &= rest - 1
            if delay_of(b, first, actor) > plan.delay_bound - plan.delays:
                mask &= ~(1 << actor)
    if mask != b.enabled:
        plan.cut = 1
    return mask


@core
def choose_exhaustive(b: Baton, plan: Plan) -> int:
    """The next decision on the path, or a new one."""
    first = fallback(b)
    if plan.at_node < plan.nr_nodes:
        node = plan.nodes[plan.at_node]
        if node.enabled != b.enabled or node.current != b.current:
            plan.drift = plan.at_node + 1
            return -1
    else:
        if plan.nr_nodes == MAX_STEPS:
            plan.cut = 1
            return -1
        node = plan.nodes[plan.nr_nodes]
        plan.nr_nodes += 1
        node.enabled = b.enabled
        node.current = b.current
        node.step = b.steps
        node.chosen = first
        node.todo = allowed(b, plan, first) & ~(1 << first)
    plan.at_node += 1
    if plan.delay_bound >= 0:
        plan.delays += delay_of(b, first, node.chosen)
    return node.chosen


@core
def next_exhaustive(b: Baton, plan: Plan) -> bool:
    """Back to the last decision that leaves something to try; false: there is none."""
    while plan.nr_nodes > 0:
        node = plan.nodes[plan.nr_nodes - 1]
        if node.todo != 0:
            node.chosen = lowest(node.todo)
            node.todo &= node.todo - 1
            return True
        plan.nr_nodes -= 1
    return False
