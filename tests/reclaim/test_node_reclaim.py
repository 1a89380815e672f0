"""Reclaim of the own node's page cache before memory of another is taken."""

from collections.abc import Iterator

import pytest

from emu.cpu.seams import NODE_RECLAIM_FULL, NODE_RECLAIM_NOSCAN
from emu.zone.gfp import GFP_ATOMIC, GFP_KERNEL, PF_MEMALLOC, PF_SWAPWRITE
from emu.zone.vmstat_items import NR_SLAB_RECLAIMABLE_B, PGSCAN_ZONE_RECLAIM_FAILED
from tests.bench import bench, two_nodes
from tests.reclaim.entries import node_reclaim, reclaimable, refresh
from tests.reclaim.lists import Lists, dirty, map_page

ZONE, WRITE, UNMAP = 1, 2, 4
LOCKED = 4


@pytest.fixture
def lists() -> Iterator[Lists]:
    """Two nodes with a CPU each; 200 pages of a file on node 0."""
    with bench(two_nodes(8192)) as b:
        made = Lists(b)
        made.m.node_reclaim_mode = ZONE
        made.fill_file(made.file(400), 200)
        refresh(made.m, b.cpu(), 0)
        for nid in (0, 1):
            made.node(nid).min_unmapped_pages = 150
            made.node(nid).min_slab_pages = 50
        yield made


def run(lists: Lists, gfp: int = GFP_KERNEL, order: int = 0, nid: int = 0, cpu: int = 0) -> int:
    return int(node_reclaim(lists.m, lists.b.cpu(cpu), lists.node(nid), gfp, order))


def test_takes_page_cache(lists: Lists) -> None:
    assert run(lists) == 1
    assert lists.sizes()[2] < 200
    assert lists.node().pgdat_flags == 0
    assert not lists.b.task().process_flags & (PF_MEMALLOC | PF_SWAPWRITE)


def test_not_worth_it_below_the_minimum(lists: Lists) -> None:
    lists.node().min_unmapped_pages = 200
    assert run(lists) == NODE_RECLAIM_FULL
    lists.node().vm_stat[NR_SLAB_RECLAIMABLE_B].counter = 51
    assert run(lists) == 0, "there is slab to look at, but the page cache stays"
    assert lists.sizes()[2] == 200
    assert lists.count(PGSCAN_ZONE_RECLAIM_FAILED) == 1
    lists.node().vm_stat[NR_SLAB_RECLAIMABLE_B].counter = 0


def test_who_may_not(lists: Lists) -> None:
    assert run(lists, GFP_ATOMIC) == NODE_RECLAIM_NOSCAN
    lists.b.task().process_flags |= PF_MEMALLOC
    assert run(lists) == NODE_RECLAIM_NOSCAN
    lists.b.task().process_flags &= ~PF_MEMALLOC
    assert run(lists, cpu=1) == NODE_RECLAIM_NOSCAN, "node 0 has a CPU of its own"
    lists.b.cpu(0).online = 0
    assert run(lists, cpu=1) == 1, "now it hasn't"
    lists.b.cpu(0).online = 1


def test_one_at_a_time(lists: Lists) -> None:
    lists.node().pgdat_flags = LOCKED
    assert run(lists) == NODE_RECLAIM_NOSCAN
    assert lists.node().pgdat_flags == LOCKED, "and it stays locked"
    lists.node().pgdat_flags = 0
    assert run(lists) == 1


def test_too_few_come_free(lists: Lists) -> None:
    lists.node().min_unmapped_pages = 0
    assert run(lists, order=9) == 0
    assert lists.count(PGSCAN_ZONE_RECLAIM_FAILED) == 1


@pytest.mark.parametrize(("mode", "pages"), [(ZONE, 180), (ZONE | WRITE, 190), (ZONE | UNMAP, 190), (7, 200)])
def test_what_the_mode_allows(lists: Lists, mode: int, pages: int) -> None:
    """10 pages are dirty, 10 others mapped."""
    p = lists.on(2)
    for pfn in p[:10]:
        dirty(lists.m, lists.b.cpu(), pfn)
    lists.space(file=1)
    for pfn in p[10:20]:
        map_page(lists.m, lists.b.cpu(), 1, lists.b.page(pfn).index, pfn)
    refresh(lists.m, lists.b.cpu(), 0)
    lists.m.node_reclaim_mode = mode
    assert reclaimable(lists.m, lists.node()) == pages
    run(lists)
    left = set(lists.on(2)) | set(lists.on(3))
    assert set(p[:10]) <= left, "kswapd and flushers write, not we"
    if not mode & UNMAP:
        assert set(p[10:20]) <= left
