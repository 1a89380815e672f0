"""The current task: memory policies, cpusets, memory cgroups, scopes."""

import pytest

from emu.cpu.mempolicy import EINVAL, MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED
from emu.zone.gfp import (
    __GFP_ACCOUNT,
    __GFP_ATOMIC,
    __GFP_DMA32,
    __GFP_HARDWALL,
    __GFP_NOWARN,
    __GFP_THISNODE,
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_USER,
)  # fmt: skip
from emu.zone.vmstat_items import NUMA_INTERLEAVE_HIT
from tests.bench import Bench, bench, core, shape, two_nodes

THREE = shape([(nid, 2, 1024 + nid * 8192, 8192) for nid in range(3)], (0, 1, 2))
CPUSET_ALLOWED = getattr(core, "__cpuset_node_allowed")


def node_of(b: Bench, pfn: int) -> int:
    return int(b.page(pfn).page_flags >> 2 & 7)


def policy(b: Bench, mode: int, nodes: int = 0, cpu: int = 0) -> int:
    return int(core.do_set_mempolicy(b.m, b.cpu(cpu), mode, nodes))


def nodes(b: Bench, count: int = 6, gfp: int = GFP_USER, cpu: int = 0) -> list[int]:
    """Where allocations under the task's policy land."""
    return [node_of(b, b.alloc(1, gfp, cpu)) for _ in range(count)]


def test_without_a_policy_the_own_node_is_preferred() -> None:
    with bench(THREE) as b:
        assert [nodes(b, 2, cpu=cpu) for cpu in range(3)] == [[0, 0], [1, 1], [2, 2]]


def test_preferred_node_comes_first_and_others_after_it() -> None:
    with bench(THREE) as b:
        assert policy(b, MPOL_PREFERRED, 0b100) == 0
        assert nodes(b, 2) == [2, 2]
        while b.alloc(9, GFP_KERNEL | __GFP_THISNODE | __GFP_NOWARN, nid=2) >= 0:
            pass
        assert node_of(b, b.alloc(9)) != 2


def test_bind_keeps_to_its_nodes_nearest_first() -> None:
    with bench(THREE) as b:
        policy(b, MPOL_BIND, 0b110)
        taken = []
        while (pfn := b.alloc(9, GFP_USER | __GFP_NOWARN)) >= 0:
            taken.append(node_of(b, pfn))
        assert set(taken) == {1, 2}
        assert b.zone(0).free_area[10].nr_free == 8


def test_bind_does_not_hold_for_lower_zones() -> None:
    with bench(two_nodes()) as b:
        policy(b, MPOL_BIND, 0b10)
        assert nodes(b, 2) == [1, 1]
        assert nodes(b, 1, GFP_USER | __GFP_DMA32) == [0]


def test_bind_that_misses_the_cpuset_is_ignored() -> None:
    with bench(THREE) as b:
        policy(b, MPOL_BIND, 0b10)
        b.task().mems_allowed = 0b101
        assert core.policy_nodemask(b.m, b.cpu(), GFP_USER) == 0


def test_interleave_goes_round_and_counts_its_hits() -> None:
    with bench(THREE) as b:
        policy(b, MPOL_INTERLEAVE, 0b101)
        assert nodes(b, 6) == [0, 2, 0, 2, 0, 2]
        hits = [b.pcp(b.zone(z)).numa_stat_diff[NUMA_INTERLEAVE_HIT] for z in range(3)]
        assert hits == [3, 0, 3]


def test_interleave_hit_is_only_what_landed_where_it_should() -> None:
    with bench(THREE) as b:
        policy(b, MPOL_INTERLEAVE, 0b100)
        while b.alloc(9, GFP_KERNEL | __GFP_THISNODE | __GFP_NOWARN, nid=2) >= 0:
            pass
        before = b.pcp(b.zone(2)).numa_stat_diff[NUMA_INTERLEAVE_HIT]
        assert node_of(b, b.alloc(9, GFP_USER)) != 2
        assert [b.pcp(b.zone(z)).numa_stat_diff[NUMA_INTERLEAVE_HIT] for z in range(3)] == [0, 0, before]


def test_local_policy_is_the_node_of_the_cpu() -> None:
    with bench(THREE) as b:
        policy(b, MPOL_LOCAL, cpu=1)
        assert nodes(b, 2, cpu=1) == [1, 1]


@pytest.mark.parametrize("mode", [MPOL_BIND, MPOL_INTERLEAVE, MPOL_PREFERRED])
def test_interrupts_and_thisnode_have_no_policy(mode: int) -> None:
    with bench(THREE) as b:
        policy(b, mode, 0b100)
        assert nodes(b, 1, GFP_USER | __GFP_THISNODE) == [0]
        b.cpu().irq_nesting = 1
        assert nodes(b, 1, GFP_ATOMIC) == [0]
        b.cpu().irq_nesting = 0
        assert nodes(b, 1) == [2]


@pytest.mark.parametrize(("mode", "mask", "result"), [
    (MPOL_DEFAULT, 0, 0), (MPOL_DEFAULT, 1, -EINVAL), (MPOL_BIND, 0, -EINVAL), (MPOL_INTERLEAVE, 0, -EINVAL),
    (MPOL_BIND, 0b1000, -EINVAL), (MPOL_PREFERRED, 0, 0), (MPOL_LOCAL, 1, -EINVAL), (5, 1, -EINVAL), (-1, 1, -EINVAL),
    (MPOL_BIND, 0b1001, 0),
])  # fmt: skip
def test_policies_that_make_no_sense_are_refused(mode: int, mask: int, result: int) -> None:
    with bench(THREE) as b:
        assert policy(b, mode, mask) == result
        assert bool(b.task().has_policy) == (result == 0 and mode != MPOL_DEFAULT)


@pytest.mark.parametrize(("nid", "gfp", "allowed"), [(0, 0, True), (1, 0, True), (1, __GFP_HARDWALL, False)])
def test_hardwall_keeps_to_the_cpuset(nid: int, gfp: int, allowed: bool) -> None:
    with bench(THREE) as b:
        b.task().mems_allowed = 0b001
        assert bool(CPUSET_ALLOWED(b.m, b.cpu(), nid, gfp)) == allowed


@pytest.mark.parametrize("why", ["interrupt", "oom victim"])
def test_some_are_above_cpusets(why: str) -> None:
    with bench(THREE) as b:
        b.task().mems_allowed = 0b001
        if why == "interrupt":
            b.cpu().irq_nesting = 1
        b.task().oom_victim = int(why == "oom victim")
        assert CPUSET_ALLOWED(b.m, b.cpu(), 2, __GFP_HARDWALL)
        b.cpu().irq_nesting = 0


def test_cpuset_confines_once_there_is_one() -> None:
    with bench(THREE) as b:
        b.task().mems_allowed = 0b010
        assert nodes(b, 1) == [0]
        b.m.cpusets_enabled = 1
        assert nodes(b, 1) == [1]
        assert nodes(b, 1, GFP_KERNEL) == [1]


def test_request_with_a_nodemask_is_held_to_the_cpuset_as_well() -> None:
    with bench(THREE) as b:
        b.m.cpusets_enabled, b.task().mems_allowed = 1, 0b010
        assert node_of(b, b.alloc(1, GFP_USER, nid=0, nodemask=0b111)) == 1
        assert b.alloc(1, GFP_USER | __GFP_NOWARN, nid=0, nodemask=0b101) >= 0  # the slow path drops the mask


def test_interrupt_is_not_confined() -> None:
    with bench(THREE) as b:
        b.m.cpusets_enabled, b.task().mems_allowed = 1, 0b010
        b.cpu().irq_nesting = 1
        assert nodes(b, 1, GFP_ATOMIC) == [0]
        b.cpu().irq_nesting = 0


def test_atomic_request_leaves_its_cpuset_in_the_slow_path() -> None:
    with bench(THREE) as b:
        b.m.cpusets_enabled, b.task().mems_allowed = 1, 0b010
        while b.alloc(9, GFP_USER | __GFP_NOWARN) >= 0:
            pass
        assert b.alloc(9, GFP_USER | __GFP_NOWARN) == -1
        assert node_of(b, b.alloc(9, GFP_ATOMIC | __GFP_ATOMIC)) in {0, 1, 2}


def test_group_over_its_limit_gets_nothing_and_the_page_goes_back() -> None:
    with bench(THREE) as b:
        b.task().memcg, b.m.memcgs[0].limit = 1, 10
        assert b.alloc(3, GFP_KERNEL | __GFP_ACCOUNT) >= 0
        free = b.nr_free()
        assert b.alloc(2, GFP_KERNEL | __GFP_ACCOUNT) == -1
        assert (b.nr_free(), b.m.memcgs[0].kmem, b.m.memcgs[0].failcnt) == (free, 8, 1)
        assert b.alloc(1, GFP_KERNEL | __GFP_ACCOUNT) >= 0
        assert b.alloc(2, GFP_KERNEL) >= 0


def test_task_without_a_group_is_not_charged() -> None:
    with bench(THREE) as b:
        b.alloc(0, GFP_KERNEL | __GFP_ACCOUNT)
        assert all(group.kmem == 0 for group in b.m.memcgs)
