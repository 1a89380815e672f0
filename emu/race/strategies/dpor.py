"""Exhaustive search that explores one schedule of each kind: dynamic partial-order reduction with sleep sets.

Schedules that differ only in the order of steps that don't conflict end in the same state. After each schedule, every
pair of conflicting steps that could have come the other way round adds a decision to try before the first of them
(Flanagan, Godefroid, POPL 2005); actors whose next step was explored from a node and commutes with all since then are
asleep (Godefroid 1996). Footprints come from instrumented mode.

Happens-before is kept as one vector for each step: the last step of each actor that precedes it through a chain of
conflicts. For a step of p and every other actor q, the latest conflicting step of q before which p could have run is
where p is tried; where p could not run, everybody is, and the search for such a step goes on. That is a superset of
what the original algorithm tries.

What an invariant that must *always* hold looks at after a step belongs to the step's footprint, so that both orders of
two steps are tried if it could tell them apart.
"""

from emu.race.arena import Arena, Dpor, Watch
from emu.race.plan import MAX_ACTORS, Plan
from emu.race.watch import chain_of, conflict, end_step, overlap
from shm.access import ACCESS_WRITE
from shm.baton import MAX_STEPS, Baton, fallback, lowest
from shm.core import core

__all__ = ["begin_dpor", "choose_dpor", "end_dpor", "next_dpor"]


@core
def begin_dpor(b: Baton, dpor: Dpor) -> None:
    """A schedule begins: nobody is asleep yet."""
    dpor.asleep = 0
    dpor.filtered = 0


@core
def step_conflicts(watch: Watch, dpor: Dpor, step: int, first: int, count: int) -> bool:
    """Whether a step of this schedule conflicts with a footprint that was kept."""
    for i in range(watch.first[step], watch.first[step + 1]):
        a = watch.accesses[i]
        for k in range(first, first + count):
            kept = dpor.kept[k]
            if (a.flags | kept.flags) & ACCESS_WRITE != 0 and overlap(a.at, a.nr_bytes, kept.at, kept.nr_bytes):
                return True
    return False


@core
def wake_sleepers(b: Baton, watch: Watch, dpor: Dpor) -> None:
    """Those whose next step conflicts with a step that was made since, or who have made one."""
    end_step(watch, b.steps)
    while dpor.filtered < b.steps:
        step = dpor.filtered
        dpor.filtered += 1
        dpor.asleep &= ~(1 << b.log[step].actor)
        rest = dpor.asleep
        while rest != 0:
            actor = lowest(rest)
            rest &= rest - 1
            if step_conflicts(watch, dpor, step, dpor.sleep_first[actor], dpor.sleep_count[actor]):
                dpor.asleep &= ~(1 << actor)


@core
def sleep_siblings(plan: Plan, dpor: Dpor, at_node: int) -> None:
    """At a node that is met again: who was explored from it already is asleep."""
    node = plan.nodes[at_node]
    rest = node.sleep
    while rest != 0:
        actor = lowest(rest)
        rest &= rest - 1
        place = dpor.done[at_node * MAX_ACTORS + actor]
        dpor.asleep |= 1 << actor
        dpor.sleep_first[actor] = place >> 16
        dpor.sleep_count[actor] = place & 0xFFFF


@core
def choose_dpor(b: Baton, plan: Plan, arena: Arena) -> int:
    """The next decision on the path, or a new one; steps without a choice are nodes only if they must be given up."""
    dpor = arena.dpor
    wake_sleepers(b, arena.watch, dpor)
    single = b.enabled & (b.enabled - 1) == 0
    if single:
        return -1 if dpor.asleep & b.enabled != 0 else lowest(b.enabled)
    if plan.at_node < plan.nr_nodes:
        node = plan.nodes[plan.at_node]
        if node.enabled != b.enabled or node.step != b.steps:
            plan.drift = plan.at_node + 1
            return -1
        sleep_siblings(plan, dpor, plan.at_node)
        plan.at_node += 1
        return node.chosen
    awake = b.enabled & ~dpor.asleep
    if awake == 0 or plan.nr_nodes == MAX_STEPS:
        return -1
    node = plan.nodes[plan.nr_nodes]
    plan.nr_nodes += 1
    plan.at_node += 1
    node.enabled = b.enabled
    node.step = b.steps
    node.todo = 0
    node.sleep = 0
    node.current = b.current
    node.spent = dpor.asleep  # who needn't be tried here
    first = fallback(b)
    if awake >> first & 1 == 0:
        first = lowest(awake)
    node.chosen = first
    dpor.kept_from[plan.nr_nodes - 1] = dpor.nr_kept
    return first


@core
def node_of(plan: Plan, step: int) -> int:
    """The node that decided a step, or -1: there was no choice."""
    low = 0
    high = plan.nr_nodes
    while low < high:
        middle = (low + high) // 2
        if plan.nodes[middle].step < step:
            low = middle + 1
        else:
            high = middle
    return low if low < plan.nr_nodes and plan.nodes[low].step == step else -1


@core
def try_before(plan: Plan, step: int, actor: int) -> bool:
    """Have the actor tried before a step; false if it could not run there, and everybody is tried instead."""
    at = node_of(plan, step)
    if at < 0:
        return False
    node = plan.nodes[at]
    if node.enabled >> actor & 1 != 0:
        node.todo |= 1 << actor
        return True
    node.todo |= node.enabled
    return False


@core
def mark_conflicts(watch: Watch, dpor: Dpor, step: int) -> int:
    """Note in ``dpor.racing`` which earlier steps conflict with a step. Returns how many."""
    found = 0
    for i in range(watch.first[step], watch.first[step + 1]):
        a = watch.accesses[i]
        e = a.before
        while e != 0:
            earlier = watch.accesses[e - 1]
            if earlier.step < step and dpor.racing[earlier.step] != step + 1 and conflict(watch, i, e - 1):
                dpor.racing[earlier.step] = step + 1
                found += 1
            e = earlier.before
        if a.nr_bytes > 8:
            for k in range(watch.first[step]):
                if dpor.racing[watch.accesses[k].step] != step + 1 and conflict(watch, i, k):
                    dpor.racing[watch.accesses[k].step] = step + 1
                    found += 1
        else:
            e = watch.wide
            while e != 0:
                wide = watch.accesses[e - 1]
                if wide.step < step and dpor.racing[wide.step] != step + 1 and conflict(watch, i, e - 1):
                    dpor.racing[wide.step] = step + 1
                    found += 1
                e = wide.before
    return found


@core
def add_backtracking(b: Baton, plan: Plan, dpor: Dpor, step: int) -> None:
    """The step's conflicts that aren't ordered by what its actor had seen before: each is tried the other way round."""
    actor = b.log[step].actor
    settled = 0  # actors q for which p is tried before a step of q already
    j = step - 1
    while j >= 0:
        other = b.log[j].actor
        if dpor.racing[j] == step + 1 and other != actor and settled >> other & 1 == 0:
            if dpor.clocks[actor * MAX_ACTORS + other] <= j:  # not seen
                if try_before(plan, j, actor):
                    settled |= 1 << other
        j -= 1


@core
def join_clocks(b: Baton, dpor: Dpor, step: int) -> None:
    """What the step's actor has seen after it."""
    actor = b.log[step].actor
    mine = actor * MAX_ACTORS
    for j in range(step):
        if dpor.racing[j] == step + 1:
            theirs = j * MAX_ACTORS
            for k in range(MAX_ACTORS):
                dpor.clocks[mine + k] = max(dpor.clocks[mine + k], dpor.of_step[theirs + k])
    dpor.clocks[mine + actor] = step + 1
    for k in range(MAX_ACTORS):
        dpor.of_step[step * MAX_ACTORS + k] = dpor.clocks[mine + k]


@core
def end_dpor(b: Baton, plan: Plan, arena: Arena) -> None:
    """A schedule is over: what else is to be tried?"""
    watch = arena.watch
    dpor = arena.dpor
    if watch.overflow != 0:
        plan.cut = 1
    end_step(watch, b.steps)
    for k in range(MAX_ACTORS * MAX_ACTORS):
        dpor.clocks[k] = 0
    for step in range(b.steps):
        dpor.racing[step] = 0
    for step in range(b.steps):
        if mark_conflicts(watch, dpor, step) != 0:
            add_backtracking(b, plan, dpor, step)
        join_clocks(b, dpor, step)
    # an actor that was held up at the end would have gone on if others had let it
    for i in range(b.nr_seats):
        if b.seats[i].state > 1 and b.seats[i].state < 5:
            blocked_at_end(b, plan, watch, i)


@core(cold=True)
def blocked_at_end(b: Baton, plan: Plan, watch: Watch, index: int) -> None:
    """A seat waits for a word: every step that wrote it may be what keeps it waiting."""
    seat = b.seats[index]
    offset = seat.word - watch.base
    e = chain_of(watch, offset)
    while e != 0:
        a = watch.accesses[e - 1]
        if a.flags & ACCESS_WRITE != 0 and overlap(a.at, a.nr_bytes, offset, 4) and a.actor & 15 != index:
            try_before(plan, a.step, index + 16 * seat.context)
        e = a.before


@core
def keep_footprint(b: Baton, plan: Plan, watch: Watch, dpor: Dpor, at_node: int) -> bool:
    """The chosen actor's step at a node is explored: keep its footprint while the node lasts. False: no room."""
    node = plan.nodes[at_node]
    first = watch.first[node.step]
    count = watch.first[node.step + 1] - first
    if dpor.nr_kept + count > dpor.capacity or count > 0xFFFF:
        return False
    for i in range(count):
        kept = dpor.kept[dpor.nr_kept + i]
        a = watch.accesses[first + i]
        kept.at = a.at
        kept.nr_bytes = a.nr_bytes
        kept.flags = a.flags
    dpor.done[at_node * MAX_ACTORS + node.chosen] = dpor.nr_kept << 16 | count
    dpor.nr_kept += count
    return True


@core
def next_dpor(b: Baton, plan: Plan, arena: Arena) -> bool:
    """Back to the last node that leaves something to try."""
    dpor = arena.dpor
    while plan.nr_nodes > 0:
        at_node = plan.nr_nodes - 1
        node = plan.nodes[at_node]
        left = node.todo & ~node.sleep & ~node.spent & ~(1 << node.chosen)
        if left != 0:
            if not keep_footprint(b, plan, arena.watch, dpor, at_node):
                plan.cut = 1
                return False
            node.sleep |= 1 << node.chosen
            node.chosen = lowest(left)
            return True
        dpor.nr_kept = dpor.kept_from[at_node]
        plan.nr_nodes -= 1
    return False
