"""Cpusets: the tree's rules, and tasks that move; policies that move along."""

from collections.abc import Iterator
from typing import Any

import pytest

from emu.cpu.cpuset import EACCES, EBUSY, EINVAL, ENODEV, ENOSPC
from emu.cpu.mempolicy import (
    MPOL_BIND,
    MPOL_F_LOCAL,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED,
)  # fmt: skip
from emu.zone.ctl_types import CS_MEM_EXCLUSIVE, CS_MEM_HARDWALL, CS_MEMORY_MIGRATE, MAX_CPUSETS
from emu.zone.gfp import __GFP_DMA32, __GFP_HARDWALL, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_USER
from emu.zone.mm_types import Vm
from emu.zone.mmzone import ZONE_MOVABLE, ZONE_NORMAL
from emu.zone.sched import PF_EXITING, Task
from shm.struct import record_at
from tests.bench import Bench, bench, core, shape

FOUR = shape([(nid, ZONE_NORMAL, 1024 + nid * 4096, 4096) for nid in range(4)], (0, 1))
NAMES = "cpuset_create cpuset_destroy cpuset_set_mems cpuset_set_flag cpuset_attach cpuset_own_mems cpuset_hotplug"
CALLS = {name: getattr(core, name) for name in NAMES.split()}
POLICY = {name: getattr(core, name) for name in ("set_mempolicy_of", "mempolicy_nodemask_intersects")}
MASKS = {name: getattr(core, name) for name in ("nodes_remap", "nodes_fold", "nodes_onto")}
ALLOWED = getattr(core, "__cpuset_node_allowed")


class Sets(Bench):
    """A bench with cpusets."""

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.base + self.m.vm)

    def call(self, name: str, *args: int) -> int:
        result = CALLS[name](self.m, self.cpu(1), *args)
        return 0 if result is None else int(result)

    def make(self, parent: int, mems: int) -> int:
        cs = self.call("cpuset_create", parent)
        assert cs > 0 and self.call("cpuset_set_mems", cs, mems) == 0
        return cs

    def policy(self, mode: int, nodes: int, task: Task | None = None) -> int:
        return int(POLICY["set_mempolicy_of"](self.m, self.cpu(), task or self.task(), mode, nodes))


@pytest.fixture
def b() -> Iterator[Any]:
    with bench(FOUR) as made:
        made.__class__ = Sets
        yield made


def test_top_cpuset_has_all_memory_and_is_not_written(b: Sets) -> None:
    assert b.vm.cpusets[0].mems_allowed == 0b1111
    assert b.call("cpuset_set_mems", 0, 1) == -EACCES
    assert b.m.cpusets_enabled == 0


def test_new_cpuset_is_empty_and_switches_the_checks_on(b: Sets) -> None:
    cs = b.call("cpuset_create", 0)
    assert (b.vm.cpusets[cs].mems_allowed, b.m.cpusets_enabled) == (0, 1)
    assert b.call("cpuset_destroy", cs) == 0
    assert b.m.cpusets_enabled == 0


def test_task_needs_memory(b: Sets) -> None:
    cs = b.call("cpuset_create", 0)
    before = b.task().mems_allowed
    assert b.call("cpuset_attach", cs, 0) == -ENOSPC
    assert (b.task().cpuset, b.task().mems_allowed) == (0, before)
    assert b.call("cpuset_set_mems", cs, 0b10) == 0
    assert b.call("cpuset_attach", cs, 0) == 0
    assert (b.task().cpuset, b.task().mems_allowed, b.vm.cpusets[cs].nr_tasks) == (cs, 0b10, 1)
    assert b.call("cpuset_set_mems", cs, 0) == -ENOSPC
    assert b.call("cpuset_destroy", cs) == -EBUSY
    assert b.task().mems_allowed == 0b10


def test_tree(b: Sets) -> None:
    outer = b.make(0, 0b0111)
    inner = b.make(outer, 0b0011)
    assert b.call("cpuset_set_mems", inner, 0b1000) == -EACCES  # not in its parent
    assert b.call("cpuset_set_mems", outer, 0b0110) == -EBUSY  # a child needs node 0
    assert b.call("cpuset_set_mems", outer, 0b10000) == -EINVAL  # no such node
    assert b.call("cpuset_destroy", outer) == -EBUSY
    assert b.call("cpuset_set_flag", inner, CS_MEM_EXCLUSIVE, 1) == -EACCES  # its parent isn't
    assert b.call("cpuset_set_flag", outer, 64, 1) == -EINVAL
    assert b.call("cpuset_set_mems", 9, 1) == -ENODEV
    assert [b.vm.cpusets[cs].mems_allowed for cs in (outer, inner)] == [0b0111, 0b0011]


def test_exclusive_siblings_do_not_overlap(b: Sets) -> None:
    one = b.make(0, 0b0011)
    other = b.make(0, 0b0110)
    assert b.call("cpuset_set_flag", one, CS_MEM_EXCLUSIVE, 1) == -EINVAL
    assert b.call("cpuset_set_mems", other, 0b0100) == 0
    assert b.call("cpuset_set_flag", one, CS_MEM_EXCLUSIVE, 1) == 0
    assert b.call("cpuset_set_mems", other, 0b0101) == -EINVAL
    assert b.call("cpuset_set_mems", other, 0b1100) == 0


def test_tasks_move_with_their_cpuset(b: Sets) -> None:
    cs = b.make(0, 0b0011)
    for number in (0, 1):
        assert b.call("cpuset_attach", cs, number) == 0
    sequences = [b.task(cpu).mems_allowed_seq.sequence for cpu in (0, 1)]
    assert b.call("cpuset_set_mems", cs, 0b1100) == 0
    assert [b.task(cpu).mems_allowed for cpu in (0, 1)] == [0b1100] * 2
    assert [b.task(cpu).mems_allowed_seq.sequence - s for cpu, s in enumerate(sequences)] == [2, 2]
    assert b.call("cpuset_set_mems", cs, 0b1100) == 0  # nothing to do
    assert [b.task(cpu).mems_allowed_seq.sequence - s for cpu, s in enumerate(sequences)] == [2, 2]


def test_task_of_the_top_cpuset_gets_one_of_its_own(b: Sets) -> None:
    assert b.call("cpuset_own_mems", 0, 0b0100) == 0
    cs = b.task().cpuset
    assert cs != 0 and b.task().mems_allowed == 0b0100
    assert b.call("cpuset_own_mems", 0, 0b1000) == 0
    assert (b.task().cpuset, b.task().mems_allowed) == (cs, 0b1000)


@pytest.mark.parametrize(("mems", "error"), [(0, ENOSPC), (0b10000, EINVAL)])
def test_refused_nodes_leave_no_trace(b: Sets, mems: int, error: int) -> None:
    assert b.call("cpuset_own_mems", 0, mems) == -error
    assert (b.task().cpuset, b.task().mems_allowed, b.m.cpusets_enabled) == (0, 0b1111, 0)
    assert sum(cs.online for cs in b.vm.cpusets) == 1


def test_table_of_cpusets_is_finite(b: Sets) -> None:
    made = [b.call("cpuset_create", 0) for _ in range(MAX_CPUSETS)]
    assert made[-1] == -ENOSPC and min(made[:-1]) > 0
    assert b.m.cpusets_enabled == MAX_CPUSETS - 1


def test_request_without_hardwall_finds_the_nearest_wall(b: Sets) -> None:
    outer = b.make(0, 0b0111)
    inner = b.make(outer, 0b0001)
    b.call("cpuset_attach", inner, 0)

    def allowed(gfp: int = GFP_KERNEL) -> list[bool]:
        return [bool(ALLOWED(b.m, b.cpu(), nid, gfp)) for nid in range(4)]

    assert allowed(__GFP_HARDWALL) == [True, False, False, False]
    assert allowed() == [True] * 4  # up to the top
    b.call("cpuset_set_flag", outer, CS_MEM_HARDWALL, 1)
    assert allowed() == [True, True, True, False]
    b.call("cpuset_set_flag", inner, CS_MEM_HARDWALL, 1)
    assert allowed() == [True, False, False, False]
    b.task().process_flags = PF_EXITING
    assert allowed() == [True] * 4
    assert b.call("cpuset_set_flag", inner, CS_MEMORY_MIGRATE, 1) == 0


def test_node_without_memory_leaves_all_cpusets(b: Sets) -> None:
    cs = b.make(0, 0b0110)
    lonely = b.make(0, 0b0010)
    b.call("cpuset_attach", cs, 0)
    b.call("cpuset_attach", lonely, 1)
    b.m.nodes[1].node_present_pages = 0
    b.call("cpuset_hotplug")
    assert [b.vm.cpusets[i].mems_allowed for i in (0, cs, lonely)] == [0b1101, 0b0100, 0]
    assert (b.task().mems_allowed, b.task(1).mems_allowed, b.task(1).cpuset) == (0b0100, 0b1101, 0)
    b.m.nodes[1].node_present_pages = 4096
    b.call("cpuset_hotplug")
    assert [b.vm.cpusets[i].mems_allowed for i in (0, cs, lonely)] == [0b1111, 0b0100, 0]


def test_movable_only_cpuset_fails_kernel_requests_that_are_walled_in() -> None:
    movable = shape([(0, ZONE_NORMAL, 1024, 4096), (1, ZONE_MOVABLE, 8192, 4096)], (0, 0))
    with bench(movable) as made:
        made.__class__ = Sets
        b: Any = made
        assert b.call("cpuset_own_mems", 0, 0b10) == 0
        assert b.vm.cpusets_insane_config == 1
        retries = b.task().retries
        assert b.alloc(0, GFP_USER | __GFP_NOWARN) == -1
        assert b.task().retries == retries  # it did not even try
        assert b.alloc(0, GFP_HIGHUSER_MOVABLE) >= 8192


REMAP = [0b0001, 0b0011, 0b0101, 0b1111, 0b1000, 0b0110]


@pytest.mark.parametrize("old", REMAP)
@pytest.mark.parametrize("new", REMAP)
def test_node_sets_against_lists(old: int, new: int, b: Sets) -> None:
    olds, news = ([n for n in range(8) if mask >> n & 1] for mask in (old, new))
    for mask in REMAP:
        nodes = [n for n in range(8) if mask >> n & 1]
        moved = {news[olds.index(n) % len(news)] if n in olds else n for n in nodes}
        assert MASKS["nodes_remap"](mask, old, new) == sum(1 << n for n in moved)
        folded = {n % len(news) for n in nodes}
        assert MASKS["nodes_fold"](mask, len(news)) == sum(1 << n for n in folded)
        assert MASKS["nodes_onto"](mask, new) == sum(1 << news[n] for n in nodes if n < len(news))


@pytest.mark.parametrize(("flags", "then"), [
    (0, [0b0110, 0b1100, 0b1000, 0b0001]),
    (MPOL_F_STATIC_NODES, [0b0110, 0b0100, 0b1000, 0b0001]),
    (MPOL_F_RELATIVE_NODES, [0b0110, 0b1100, 0b1000, 0b0001]),
])  # fmt: skip
@pytest.mark.parametrize("mode", [MPOL_BIND, MPOL_INTERLEAVE])
def test_nodes_of_a_policy_follow_the_cpuset(b: Sets, mode: int, flags: int, then: list[int]) -> None:
    assert b.policy(mode | flags, 0b0110) == 0
    found = [b.task().mempolicy.nodes]
    for mems in (0b1100, 0b1000, 0b0001):
        assert b.call("cpuset_own_mems", 0, mems) == 0
        found.append(b.task().mempolicy.nodes)
    if flags == 0:
        then = [0b0110, _remapped(0b0110, 0b1111, 0b1100), 0b1000, 0b0001]
    elif flags == MPOL_F_RELATIVE_NODES:
        then = [0b0110, 0b1100, 0b1000, 0b0001]
    assert found == then


def _remapped(mask: int, old: int, new: int) -> int:
    news = [n for n in range(8) if new >> n & 1]
    olds = [n for n in range(8) if old >> n & 1]
    return sum({1 << news[olds.index(n) % len(news)] for n in range(8) if mask >> n & 1})


def test_static_nodes_come_back_remapped_ones_do_not(b: Sets) -> None:
    for mode, back in ((MPOL_BIND | MPOL_F_STATIC_NODES, 0b0110), (MPOL_BIND, 0b0001)):
        b.call("cpuset_own_mems", 0, 0b1111)
        assert b.policy(mode, 0b0110) == 0
        b.call("cpuset_own_mems", 0, 0b0001)
        b.call("cpuset_own_mems", 0, 0b1111)
        assert b.task().mempolicy.nodes == back


def test_static_preferred_node_falls_back_to_local(b: Sets) -> None:
    assert b.policy(MPOL_PREFERRED | MPOL_F_STATIC_NODES, 0b0100) == 0
    b.call("cpuset_own_mems", 0, 0b0011)
    assert b.task().mempolicy.policy_flags & MPOL_F_LOCAL
    b.call("cpuset_own_mems", 0, 0b0110)
    assert not b.task().mempolicy.policy_flags & MPOL_F_LOCAL
    assert b.task().mempolicy.preferred_node == 2


@pytest.mark.parametrize(("mode", "nodes"), [
    (MPOL_PREFERRED | MPOL_F_STATIC_NODES, 0), (MPOL_LOCAL | MPOL_F_RELATIVE_NODES, 0),
    (MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, 1), (MPOL_BIND | 1 << 13, 1),
])  # fmt: skip
def test_flags_that_make_no_sense_are_refused(b: Sets, mode: int, nodes: int) -> None:
    assert b.policy(mode, nodes) == -EINVAL
    assert b.task().has_policy == 0


def test_relative_nodes_count_within_the_cpuset(b: Sets) -> None:
    b.call("cpuset_own_mems", 0, 0b1010)
    assert b.policy(MPOL_BIND | MPOL_F_RELATIVE_NODES, 0b0110) == 0
    assert b.task().mempolicy.nodes == 0b1010  # node 1 is the second, node 2 goes round to the first
    assert b.policy(MPOL_BIND, 0b0101) == -EINVAL  # as they are they miss the cpuset


@pytest.mark.parametrize(("mode", "nodes", "meets"), [
    (None, 0, True), (MPOL_BIND, 0b0011, True), (MPOL_BIND, 0b1100, False), (MPOL_INTERLEAVE, 0b1000, False),
    (MPOL_PREFERRED, 0b1000, True),
])  # fmt: skip
def test_who_may_have_memory_on_some_nodes(b: Sets, mode: int | None, nodes: int, meets: bool) -> None:
    if mode is not None:
        assert b.policy(mode, nodes) == 0
    assert bool(POLICY["mempolicy_nodemask_intersects"](b.task(), 0b0010)) == meets
    assert POLICY["mempolicy_nodemask_intersects"](b.task(), 0)


def test_interleave_goes_on_while_its_nodes_move(b: Sets) -> None:
    b.policy(MPOL_INTERLEAVE, 0b1111)
    b.m.cpusets_enabled = 1
    assert [b.page(b.alloc(1, GFP_USER)).page_flags >> 2 & 7 for _ in range(4)] == [0, 1, 2, 3]
    b.call("cpuset_own_mems", 0, 0b0110)
    assert [b.page(b.alloc(1, GFP_USER)).page_flags >> 2 & 7 for _ in range(4)] == [1, 2, 1, 2]
    assert b.alloc(1, GFP_USER | __GFP_DMA32 | __GFP_NOWARN) == -1
