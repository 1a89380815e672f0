"""Counters, their differentials, and folding."""

import random

import pytest

from emu.zone.gfp import __GFP_THISNODE, GFP_KERNEL
from emu.zone.mmzone import NODESTAT_SIZE, NodeStat
from emu.zone.vmstat import NUMA_STATS_THRESHOLD
from emu.zone.vmstat_items import (
    NODE_STAT_NAMES,
    NR_FILE_DIRTY,
    NR_FREE_PAGES,
    NUMA_FOREIGN,
    NUMA_HIT,
    NUMA_LOCAL,
    NUMA_MISS,
    NUMA_OTHER,
    PGALLOC,
    PGFREE,
    VM_EVENT_NAMES,
    ZONE_STAT_NAMES,
)  # fmt: skip
from shm.struct import record_at
from tests.bench import Bench, bench, core, two_nodes

MOD_ZONE, MOD_NODE = (getattr(core, f"__mod_{kind}_page_state") for kind in ("zone", "node"))


def test_tables_have_as_many_names_as_the_structs_have_room() -> None:
    with bench() as b:
        assert len(b.zone().vm_stat) == len(ZONE_STAT_NAMES) == 11
        assert len(b.m.nodes[0].vm_stat) == len(NODE_STAT_NAMES) == 37
        assert len(b.cpu().vm_events) == len(VM_EVENT_NAMES) == 88


@pytest.mark.parametrize("seed", range(3))
def test_drift_goes_to_the_zone_beyond_the_threshold_only(seed: int) -> None:
    rnd = random.Random(seed)
    with bench() as b:
        b.strict = False  # counters of nothing
        zone, pset, item = b.zone(), b.pcp(), 5
        threshold, total, global_, diff = pset.stat_threshold, 0, 0, 0
        for _ in range(300):
            delta = rnd.randint(-2 * threshold, 2 * threshold)
            MOD_ZONE(b.m, b.cpu(), zone, item, delta)
            total, diff = total + delta, diff + delta
            if abs(diff) > threshold:
                global_, diff = global_ + diff, 0
            assert (zone.vm_stat[item].counter, pset.vm_stat_diff[item]) == (global_, diff)
        assert global_ + diff == total


def test_node_counters_drift_the_same_way() -> None:
    with bench() as b:
        b.strict = False  # counters of nothing
        node = b.m.nodes[0]
        stat = record_at(NodeStat, b.base + node.per_cpu_nodestats)
        MOD_NODE(b.m, b.cpu(), node, NR_FILE_DIRTY, stat.stat_threshold)
        assert (node.vm_stat[NR_FILE_DIRTY].counter, stat.vm_node_stat_diff[NR_FILE_DIRTY]) == (0, stat.stat_threshold)
        MOD_NODE(b.m, b.cpu(), node, NR_FILE_DIRTY, 1)
        assert (node.vm_stat[NR_FILE_DIRTY].counter, stat.vm_node_stat_diff[NR_FILE_DIRTY]) == (
            stat.stat_threshold + 1,
            0,
        )


def test_fold_empties_the_differentials_and_sets_the_expiry() -> None:
    with bench(two_nodes()) as b:
        b.alloc(cpu=0)
        zone = b.zone(1)
        assert b.pcp(zone).vm_stat_diff[NR_FREE_PAGES] != 0
        assert core.fold_zone(b.m, b.cpu(), zone) > 0
        assert not any(b.pcp(zone).vm_stat_diff)
        assert not any(b.pcp(zone).numa_stat_diff)
        assert b.pcp(zone).expire == 3
        assert zone.vm_stat[NR_FREE_PAGES].counter == b.nr_free(zone)
        assert core.fold_zone(b.m, b.cpu(), zone) == 0


def test_fold_node_moves_each_counter() -> None:
    with bench() as b:
        b.strict = False  # counters of nothing
        node = b.m.nodes[0]
        stat = record_at(NodeStat, b.base + node.per_cpu_nodestats + 0 * NODESTAT_SIZE)
        stat.vm_node_stat_diff[3], stat.vm_node_stat_diff[7] = 2, -1
        assert core.fold_node(b.m, b.cpu(), node) == 2
        assert (node.vm_stat[3].counter, node.vm_stat[7].counter) == (2, -1)


def numa(b: Bench, at: int, item: int) -> int:
    """A zone's numa counter with its differentials."""
    zone = b.zone(at)
    return int(zone.numa_stat[item].counter + sum(b.pcp(zone, i).numa_stat_diff[item] for i in range(b.m.nr_cpus)))


def test_page_of_the_own_node_is_a_local_hit() -> None:
    with bench(two_nodes()) as b:
        b.alloc(cpu=1)
        assert (numa(b, 2, NUMA_HIT), numa(b, 2, NUMA_LOCAL), numa(b, 2, NUMA_MISS)) == (1, 1, 0)


def test_page_asked_for_elsewhere_is_a_hit_but_not_local() -> None:
    with bench(two_nodes()) as b:
        b.alloc(cpu=0, nid=1)
        assert (numa(b, 2, NUMA_HIT), numa(b, 2, NUMA_OTHER), numa(b, 2, NUMA_LOCAL)) == (1, 1, 0)


def test_page_that_fell_back_is_a_miss_there_and_foreign_here() -> None:
    with bench(two_nodes()) as b:
        while b.alloc(4, GFP_KERNEL | __GFP_THISNODE, cpu=1, nid=1) >= 0:
            pass
        hits = numa(b, 2, NUMA_HIT)
        assert b.alloc(4, cpu=1) >= 0
        assert (numa(b, 2, NUMA_HIT), numa(b, 2, NUMA_FOREIGN)) == (hits, 1)
        assert (numa(b, 1, NUMA_MISS), numa(b, 1, NUMA_OTHER), numa(b, 1, NUMA_HIT)) == (1, 1, 0)


def test_numa_counters_may_be_switched_off() -> None:
    with bench(two_nodes()) as b:
        b.m.numa_stat_enabled = 0
        b.alloc()
        assert not any(numa(b, at, item) for at in range(3) for item in range(6))


def test_numa_differential_is_folded_before_it_overflows() -> None:
    with bench() as b:
        b.pcp().numa_stat_diff[NUMA_HIT] = b.pcp().numa_stat_diff[NUMA_LOCAL] = NUMA_STATS_THRESHOLD
        b.alloc()
        assert b.zone().numa_stat[NUMA_HIT].counter == NUMA_STATS_THRESHOLD + 1
        assert b.pcp().numa_stat_diff[NUMA_HIT] == 0


@pytest.mark.parametrize("order", [0, 4])
def test_vm_events_count_pages_by_zone(order: int) -> None:
    with bench(two_nodes()) as b:
        pfn = b.alloc(order)
        assert b.cpu().vm_events[PGALLOC + 2] == 1 << order
        b.free(pfn, order, cpu=1)
        assert b.cpu(1).vm_events[PGFREE] == 1 << order
        assert b.cpu(0).vm_events[PGFREE] == 0
