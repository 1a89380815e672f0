"""Who is to die: badness, eligibility, constraints, against the rules written down naively."""

import random
from typing import Any

import pytest

from emu.cpu.mempolicy import MPOL_BIND, MPOL_PREFERRED
from emu.reclaim.oom_control import (
    CONSTRAINT_CPUSET,
    CONSTRAINT_MEMCG,
    CONSTRAINT_MEMORY_POLICY,
    CONSTRAINT_NONE,
    LONG_MIN,
)  # fmt: skip
from emu.zone.gfp import __GFP_DMA32, __GFP_HARDWALL, __GFP_THISNODE, GFP_KERNEL, GFP_USER, PF_EXITING, PF_KTHREAD
from emu.zone.mm_types import MMF_OOM_SKIP, MMF_OOM_VICTIM
from emu.zone.mmzone import ZONE_DMA32, ZONE_NORMAL
from tests.bench import core, shape
from tests.reclaim.oom import BADNESS, WILL_FREE, Killer, constrain, evaluate, killer

THREE = shape([(nid, ZONE_NORMAL, 1024 + nid * 4096, 4096) for nid in range(3)], (0, 1, 2))
TWO_ZONES = shape([(0, ZONE_DMA32, 1024, 4096), (0, ZONE_NORMAL, 5120, 4096), (1, ZONE_NORMAL, 9216, 2048)], (0, 1))


def pretend(b: Killer, k: int, anon: int, file: int = 0, shmem: int = 0, swap: int = 0, tables: int = 0) -> Any:
    """A task that is said to have so many pages."""
    task = b.spawn(k) if not b.user(k).alive else b.user(k)
    for i, value in enumerate((file, anon, swap, shmem)):
        b.mm(k).rss_stat[i].counter = value
    b.mm(k).nr_page_tables = tables
    return task


def forget(b: Killer) -> None:
    for k in range(b.vm.nr_mms):
        for i in range(4):
            b.mm(k).rss_stat[i].counter = 0
        b.mm(k).nr_page_tables = 0


@pytest.mark.parametrize("seed", range(5))
def test_badness_is_memory_and_a_share_of_all_pages(seed: int) -> None:
    dice = random.Random(seed)
    with killer() as b:
        for k in range(20):
            anon, file, shmem, swap, tables = (dice.randrange(5000) for _ in range(5))
            task = pretend(b, k, anon, file, shmem, swap, tables)
            task.oom_score_adj = dice.choice([-1000, -999, -500, -1, 0, 1, 300, 1000])
            task.process_flags = dice.choice([0, 0, 0, PF_KTHREAD, PF_EXITING])
            task.tgid = dice.choice([1, 2, 3, 4])
            b.mm(k).mm_flags = dice.choice([0, 0, MMF_OOM_SKIP])
            total = dice.randrange(100, 100_000)
            hidden = task.oom_score_adj == -1000 or b.mm(k).mm_flags or task.process_flags == PF_KTHREAD
            points = anon + file + shmem + swap + tables + task.oom_score_adj * (total // 1000)
            assert BADNESS(b.m, task, total) == (LONG_MIN if hidden or task.tgid == 1 else points)
        forget(b)


def test_counter_below_zero_counts_as_nothing() -> None:
    with killer() as b:
        assert BADNESS(b.m, pretend(b, 0, anon=-5, file=7), 1000) == 7
        forget(b)


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_is_chosen_and_of_equals_the_last(seed: int) -> None:
    dice = random.Random(seed)
    with killer() as b:
        tasks = [pretend(b, k, anon=dice.choice([10, 20, 30])) for k in range(12)]
        for task in tasks:
            task.oom_score_adj = dice.choice([-1000, 0, 0, 10])
        points = [int(BADNESS(b.m, task, 4000)) for task in tasks]
        worst = max(k for k in range(12) if points[k] == max(points))
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == b.number(worst)
        tasks[3].oom_flag_origin, tasks[3].oom_score_adj = 1, -1000
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == b.number(3)
        forget(b)


def test_nobody_is_chosen_where_nobody_may_be() -> None:
    with killer() as b:
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == 0
        pretend(b, 0, anon=100).oom_score_adj = -1000
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == 0
        forget(b)


def test_victim_on_its_way_out_ends_the_search_unless_it_was_reaped() -> None:
    with killer() as b:
        pretend(b, 0, anon=100)
        pretend(b, 1, anon=50).oom_mm = 2
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == -1
        b.mm(1).mm_flags = MMF_OOM_SKIP | MMF_OOM_VICTIM
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == b.number(0)
        b.user(1).oom_mm = 0
        forget(b)


def test_only_tasks_that_share_nodes_are_eligible() -> None:
    with killer(THREE) as b:
        pretend(b, 0, anon=10).mems_allowed = 0b011
        pretend(b, 1, anon=90).mems_allowed = 0b100
        b.task().mems_allowed = 0b001
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == b.number(0)
        b.task().mems_allowed = 0b110
        assert evaluate(b.m, b.cpu(), 0, 0, 4000) == b.number(1)
        forget(b)


def test_under_a_policy_the_cpuset_is_irrelevant() -> None:
    with killer(THREE) as b:
        pretend(b, 0, anon=10)
        bound = pretend(b, 1, anon=90)
        bound.mems_allowed = 0b100
        assert evaluate(b.m, b.cpu(), 0, 0b001, 4000) == b.number(1)  # without a policy: anywhere
        bound.has_policy, bound.mempolicy.mode, bound.mempolicy.nodes = 1, MPOL_BIND, 0b110
        assert evaluate(b.m, b.cpu(), 0, 0b001, 4000) == b.number(0)
        assert evaluate(b.m, b.cpu(), 0, 0b010, 4000) == b.number(1)
        bound.mempolicy.mode = MPOL_PREFERRED
        assert evaluate(b.m, b.cpu(), 0, 0b001, 4000) == b.number(1)
        forget(b)


def test_memory_cgroup_kills_its_own() -> None:
    with killer(THREE) as b:
        pretend(b, 0, anon=90)
        pretend(b, 1, anon=10).memcg = 2
        b.user(1).mems_allowed = 0b100
        b.task().mems_allowed = 0b001
        assert evaluate(b.m, b.cpu(), 2, 0, 4000) == b.number(1)
        assert evaluate(b.m, b.cpu(), 3, 0, 4000) == 0
        forget(b)


@pytest.mark.parametrize(("gfp", "nodemask", "mems", "constraint", "total"), [
    (GFP_KERNEL, 0, 0b11, CONSTRAINT_NONE, 10240),
    (GFP_KERNEL, 0b11, 0b11, CONSTRAINT_NONE, 10240),
    (GFP_KERNEL, 0b10, 0b11, CONSTRAINT_MEMORY_POLICY, 2048),
    (GFP_KERNEL | __GFP_THISNODE, 0b10, 0b11, CONSTRAINT_NONE, 10240),
    (GFP_KERNEL, 0, 0b10, CONSTRAINT_NONE, 10240),  # not hardwalled: the top cpuset has all nodes
    (GFP_USER, 0, 0b10, CONSTRAINT_CPUSET, 2048),
    (GFP_USER, 0, 0b01, CONSTRAINT_CPUSET, 8192),
    (GFP_USER | __GFP_DMA32, 0, 0b01, CONSTRAINT_NONE, 10240),  # node 1 has no zone for it
])  # fmt: skip
def test_what_constrains_a_request(gfp: int, nodemask: int, mems: int, constraint: int, total: int) -> None:
    with killer(TWO_ZONES) as b:
        b.m.cpusets_enabled, b.task().mems_allowed = 1, mems
        zonelist = core.node_zonelist(b.m, 0, 0)
        assert gfp & __GFP_HARDWALL or gfp & GFP_KERNEL == GFP_KERNEL
        found = constrain(b.m, b.cpu(), zonelist, nodemask, 0, gfp)
        assert (found & 255, found >> 8) == (constraint, total)


def test_memory_cgroup_constrains_to_its_limit() -> None:
    with killer(TWO_ZONES) as b:
        b.m.memcgs[1].memory_max = 300
        assert constrain(b.m, b.cpu(), 0, 0, 2, GFP_KERNEL) == CONSTRAINT_MEMCG | 300 << 8
        assert constrain(b.m, b.cpu(), 0, 0, 1, GFP_KERNEL) == CONSTRAINT_MEMCG | 1 << 8


def test_task_that_will_free_its_memory() -> None:
    with killer() as b:
        task = pretend(b, 0, anon=10)
        assert not WILL_FREE(b.m, task)
        task.fatal_signal = 1
        assert WILL_FREE(b.m, task)
        other = b.spawn(1)
        other.mm, b.mm(0).mm_users = 1, 2
        assert not WILL_FREE(b.m, task)  # shared with one that lives
        other.process_flags = PF_EXITING
        assert WILL_FREE(b.m, task)
        b.mm(0).mm_flags = MMF_OOM_SKIP
        assert not WILL_FREE(b.m, task)
        task.fatal_signal = 0
        forget(b)
