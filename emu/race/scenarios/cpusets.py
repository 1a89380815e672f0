"""Races of the slow path with a change of the task's nodes (``kernel/cgroup/cpuset.c``, ``mm/page_alloc.c`` (5.10))."""

from emu.cpu.mempolicy import MPOL_BIND
from emu.race.invariants_tasks import failed_needlessly, kill_that_can_help, killed_needlessly, rounds_are_bounded
from emu.race.ops_pages import alloc
from emu.race.ops_tasks import cache, cpuset_mems, request, set_mempolicy, spawn, take, task_mems
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Shape, Tuning, ZoneShape
from emu.zone.gfp import (
    __GFP_NOWARN, __GFP_RETRY_MAYFAIL, GFP_ATOMIC, GFP_HIGHUSER, GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE_LIGHT,
)  # fmt: skip
from emu.zone.mmzone import ZONE_MOVABLE, ZONE_NORMAL

__all__ = ["SCENARIOS"]

NODE0, NODE1, BOTH = 0b01, 0b10, 0b11
TUNING = Tuning(watermark_boost_factor=0)


def full_node_in_cpuset(w: World) -> None:
    """cpu0's task is in a cpuset of node 0, which has nothing left."""
    w.run(take(node=0))
    w.run(task_mems(cpu=0, mems=NODE0))


def bound_to_full_node(w: World) -> None:
    """cpu0's task is in a cpuset of node 1, which has nothing left, and bound to it. Node 0 has some page cache."""
    w.run(cache(file=1, pages=4))
    w.run(spawn(task=0, pages=1))
    w.run(take(node=1))
    w.run(task_mems(cpu=0, mems=NODE1))
    w.run(set_mempolicy(MPOL_BIND, NODE1))
    w.vm().slow_stat.measured = 1


R2 = Scenario(
    id="R2",
    title="cpuset mems update against the slow path: a request fails with half the memory free",
    story="""
    A task allocates in a cpuset of node 0, which is full; somebody moves the cpuset to node 1, which is empty.
    The allocator has looked at node 0 with the old mask and found nothing.
    The mask changes; node 1 would have everything.
    It fails all the same: nobody looks whether the mask is still the one that it went by.
    The cookie (the sequence of mems_allowed, taken at the start) makes it begin again.
    """,
    shape=small(nodes=2),
    tuning=TUNING,
    programs={
        "cpu0": (request(order=9, gfp=GFP_TRANSHUGE_LIGHT),),
        "cpu1": (cpuset_mems(cpuset=1, mems=NODE1),),
    },
    invariants=(failed_needlessly,),
    setup=full_node_in_cpuset,
    commits=(
        Commit("c0ff7453bb5c", "cpuset,mm: fix no node to alloc memory when changing cpuset's mems"),
        Commit("16096c25bf0c", "mm, page_alloc: fix fast-path race with cpuset update or removal", "S"),
        Commit("902b62810a57", "mm, page_alloc: fix more premature OOM due to race with cpuset update"),
    ),
    switch="R2",
    tags=("cpuset", "slow path"),
)

S2 = Scenario(
    id="S2",
    title="cpuset mems update against the slow path: a process is killed with half the memory free",
    story="""
    A task is bound to node 1, which is full; its cpuset moves to node 0, which is empty, and the policy moves along.
    The allocator has chosen where to begin in the zonelist by the old nodes: behind node 0.
    From there on nothing is found, reclaim brings nothing, and it goes to the OOM killer.
    The last look before the kill begins at the same stale place, and a process dies for memory that is there.
    One more look at the cookie before the kill (e47483bca2cc) sends it back to the start.
    """,
    shape=small(nodes=2),
    tuning=TUNING,
    programs={
        "cpu0": (request(gfp=GFP_HIGHUSER_MOVABLE | __GFP_NOWARN),),
        "cpu1": (cpuset_mems(cpuset=1, mems=NODE0),),
    },
    invariants=(killed_needlessly,),
    setup=bound_to_full_node,
    commits=(Commit("e47483bca2cc", "mm, page_alloc: fix premature OOM when racing with cpuset mems update"),),
    switch="R2",
    bound=2,
    tags=("cpuset", "mempolicy", "slow path", "oom", "storm"),
)

R2B = Scenario(
    id="R2b",
    title="the retry loop goes by two different sets of nodes",
    story="""
    A task is bound to node 1, which is full; its cpuset moves to node 0, which is empty, and the policy moves along.
    The allocator begins in the zonelist where the old nodes told it to: behind node 0. It finds nothing.
    Whether another pass is worth it is asked of the new nodes: of course, node 0 is nearly empty.
    And so on: as long as reclaim finds something on node 0, nothing ends this loop.
    The fix looks at the cookie at the head of the loop too.
    """,
    shape=small(nodes=2),
    tuning=TUNING,
    programs={
        "cpu0": (request(gfp=GFP_HIGHUSER_MOVABLE | __GFP_RETRY_MAYFAIL | __GFP_NOWARN),),
        "cpu1": (cpuset_mems(cpuset=1, mems=NODE0),),
    },
    invariants=(rounds_are_bounded,),
    setup=bound_to_full_node,
    commits=(Commit("e05741fb10c3", "mm/page_alloc.c: avoid infinite retries caused by cpuset race", "V*"),),
    switch="R2b",
    kind="livelock",
    bound=2,
    tags=("cpuset", "mempolicy", "slow path"),
)


def full_nodes_in_cpuset(w: World) -> None:
    """cpu0's task is in a cpuset of both nodes, and memory is so low that who allocates takes the slow path."""
    for node in range(2):
        w.run(take(node=node))
    w.run(task_mems(cpu=0, mems=BOTH))


R7B = Scenario(
    id="R7b",
    title="an interrupt waits for the mems_allowed that the task under it is changing",
    story="""
    A task changes its own cpuset: it takes the sequence of its mems_allowed for writing (it is odd now).
    An interrupt comes in on the same CPU and allocates; memory is low, so that it takes the slow path.
    There it reads the mems_allowed of the current task, which is the one below it, and waits for an even sequence.
    The task can't go on before the interrupt is over: the CPU is dead.
    With interrupts off before the sequence becomes odd there is no such interrupt.
    """,
    shape=small(cpus=1, nodes=2),
    tuning=TUNING,
    programs={"cpu0": (cpuset_mems(cpuset=1, mems=NODE1),)},
    irqs={"cpu0": ((alloc(slot=1, gfp=GFP_ATOMIC | __GFP_NOWARN),),)},
    invariants=(),
    setup=full_nodes_in_cpuset,
    commits=(Commit("db751fe3ea68", "cpuset: Fix potential deadlock w/ set_mems_allowed"),),
    switch="R7b",
    kind="deadlock",
    tags=("cpuset", "interrupt"),
)


def movable_cpuset(w: World) -> None:
    """cpu0's task is in a cpuset of node 1, all of whose memory is movable."""
    w.run(spawn(task=0, pages=1))
    w.run(task_mems(cpu=0, mems=NODE1))


R36 = Scenario(
    id="R36",
    title="a cpuset with movable memory only: one process after another is killed for nothing",
    story="""
    A cpuset has one node, and all memory of that is in its Movable zone.
    A task in it asks for a page that can't be movable. No zone of its cpuset may be used for that.
    The nodes outside look as if reclaim could help, since its policy doesn't forbid them: sixteen passes.
    Then a process is killed, whose memory helps nobody; and again, until there is nobody left.
    The fix asks first whether the cpuset has any zone for the request, and lets it fail.
    """,
    shape=Shape(
        (0,), (ZoneShape(0, ZONE_NORMAL, 0, 2048, 2048, 2048), ZoneShape(1, ZONE_MOVABLE, 2048, 1024, 1024, 1024)), 2,
        files=2, mms=2,
    ),
    tuning=TUNING,
    programs={"cpu0": (request(gfp=GFP_HIGHUSER | __GFP_NOWARN),)},
    invariants=(kill_that_can_help,),
    setup=movable_cpuset,
    commits=(
        Commit("8ca1b5a49885", "mm/page_alloc: detect allocation forbidden by cpuset and bail out early", "V*"),
    ),
    switch="R36",
    preemptions=0,
    tags=("cpuset", "oom", "storm"),
)  # fmt: skip

SCENARIOS = (R2, R2B, S2, R7B, R36)
