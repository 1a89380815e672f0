"""Per-cpu lists: taking, refilling, freeing, draining, ageing."""

import pytest

from emu.zone.event import KINDS
from emu.zone.gfp import __GFP_RECLAIMABLE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests.bench import Bench, bench, core, one_zone, two_nodes

BIG = one_zone(65536)  # batch 15, high 90
GFP_OF = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | __GFP_RECLAIMABLE)


@pytest.mark.parametrize("migratetype", range(3))
def test_empty_list_is_refilled_with_a_batch(migratetype: int) -> None:
    with bench(BIG) as b:
        first = b.alloc(gfp=GFP_OF[migratetype])
        assert b.pcp().count == b.pcp().batch - 1 == 14
        listed = b.pcp_list(migratetype)
        assert [b.alloc(gfp=GFP_OF[migratetype]) for _ in range(14)] == listed
        assert first not in listed
        assert b.pcp().count == 0


def test_freed_page_is_the_next_to_go() -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(4)]
        b.free(pages[1])
        b.free(pages[2])
        assert [b.alloc(), b.alloc()] == [pages[2], pages[1]]


def test_batch_goes_back_when_the_list_reaches_high() -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(100)]
        while b.pcp().count:
            pages.append(b.alloc())
        high, batch = b.pcp().high, b.pcp().batch
        for n, pfn in enumerate(pages[:high], 1):
            b.free(pfn)
            assert b.pcp().count == (n if n < high else high - batch)


def test_pages_go_back_oldest_first_and_round_robin_over_types() -> None:
    with bench(BIG) as b:
        for gfp in GFP_OF:
            b.alloc(gfp=gfp)
        lists = [b.pcp_list(mt) for mt in range(3)]
        b.cpu().trace = 1
        core.drain_zone_pages(b.m, b.cpu(), b.zone())
        drained = [int(e["pfn"]) for e in b.events() if KINDS[e["kind"]] == "mm_page_pcpu_drain"]
        order = [lists[mt].pop() for mt in (1, 2, 0, 1, 2, 0)]
        assert len(drained) == 15
        assert set(order) <= set(drained)
        assert drained[0] == order[0]


def test_drain_empties_every_zone_of_this_cpu_only() -> None:
    with bench(two_nodes()) as b:
        for cpu in (0, 1):
            for nid in (0, 1):
                b.free(b.alloc(cpu=cpu, nid=nid), cpu=cpu)
        core.drain_local_pages(b.m, b.cpu(0), 0)
        assert [b.pcp(b.zone(z), 0).count for z in (1, 2)] == [0, 0]
        assert all(b.pcp(b.zone(z), 1).count > 0 for z in (1, 2))


def test_drain_of_one_zone_leaves_the_others() -> None:
    with bench(two_nodes()) as b:
        for nid in (0, 1):
            b.free(b.alloc(nid=nid))
        core.drain_pages_zone(b.m, b.cpu(), b.zone(2))
        assert (b.pcp(b.zone(2)).count, b.pcp(b.zone(1)).count > 0) == (0, True)


def test_isolated_page_goes_straight_back() -> None:
    with bench(BIG) as b:
        pfn = b.alloc()
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_ISOLATE)
        b.zone().nr_isolate_pageblock = 1
        listed = b.pcp().count
        b.free(pfn)
        assert b.pcp().count == listed
        assert pfn in b.free_list(0, MIGRATE_ISOLATE)
        b.strict = False  # the block's other free pages are where they were


def test_stamp_is_the_blocks_type_when_the_page_was_freed() -> None:
    with bench(BIG) as b:
        pfn = b.alloc(gfp=GFP_HIGHUSER_MOVABLE)
        b.free(pfn)
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_UNMOVABLE)
        b.drain()
        assert b.nr_free() == 65536
        assert b.zone().free_area[10].nr_free == 64


def test_isolation_makes_the_drain_look_at_the_block_again() -> None:
    with bench(BIG) as b:
        pfn = b.alloc(gfp=GFP_HIGHUSER_MOVABLE)
        b.free(pfn)
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_ISOLATE)
        b.zone().nr_isolate_pageblock = 1
        b.drain()
        assert any(b.free_list(order, MIGRATE_ISOLATE) for order in range(11))
        b.strict = False


def remote_page(b: Bench) -> None:
    """CPU 0 gets node 1's pages on its lists."""
    b.free(b.alloc(nid=1))


def test_remote_pageset_is_drained_after_three_quiet_rounds() -> None:
    with bench(two_nodes()) as b:
        remote_page(b)
        pset = b.pcp(b.zone(2))
        counts = []
        for _ in range(3):
            core.refresh_cpu_vm_stats(b.m, b.cpu(), 1)
            counts.append((pset.expire, pset.count > 0))
        assert counts == [(2, True), (1, True), (0, False)]


def test_use_in_between_starts_the_rounds_again() -> None:
    with bench(two_nodes()) as b:
        for pfn in [b.alloc(nid=1) for _ in range(3)]:
            b.free(pfn)
        pset = b.pcp(b.zone(2))
        core.refresh_cpu_vm_stats(b.m, b.cpu(), 1)
        core.refresh_cpu_vm_stats(b.m, b.cpu(), 1)
        assert pset.expire == 1
        b.alloc(nid=1)
        core.refresh_cpu_vm_stats(b.m, b.cpu(), 1)
        assert pset.expire == 2


def test_local_pageset_never_expires() -> None:
    with bench(two_nodes()) as b:
        b.free(b.alloc(nid=0))
        pset = b.pcp(b.zone(1))
        for _ in range(5):
            core.refresh_cpu_vm_stats(b.m, b.cpu(), 1)
        assert (pset.expire, pset.count > 0) == (0, True)


def test_fold_without_pagesets_leaves_the_rounds_alone() -> None:
    with bench(two_nodes()) as b:
        remote_page(b)
        for _ in range(5):
            core.refresh_cpu_vm_stats(b.m, b.cpu(), 0)
        assert b.pcp(b.zone(2)).expire == 3
        assert b.pcp(b.zone(2)).vm_stat_diff[NR_FREE_PAGES] == 0


def test_bulk_stops_when_memory_ends() -> None:
    with bench(one_zone(8192)) as b:
        b.take_all(order=9)
        assert b.nr_free_now() == 0
        assert core.rmqueue_bulk(b.m, b.cpu(), b.zone(), b.pcp(), MIGRATE_MOVABLE, 0) == 0
