"""A pass over all lists of a lruvec, and over a node: when it stops, what it concludes."""

import pytest

from emu.zone.gfp import PF_KSWAPD
from emu.zone.mmzone import ZONE_NORMAL
from emu.zone.page import PG_reclaim
from emu.zone.vmstat_items import (
    NR_ACTIVE_FILE,
    NR_FREE_PAGES,
    NR_INACTIVE_ANON,
    NR_INACTIVE_FILE,
    WORKINGSET_ACTIVATE_BASE,
)  # fmt: skip
from tests.reclaim.entries import refresh, shrink, shrink_a_node, shrink_whole, snapshot
from tests.reclaim.lists import ACTIVE_FILE, INACTIVE_ANON, INACTIVE_FILE, Lists, dirty, write_done, writeback

ANON, FILE = 1, 2
MAY_DEACTIVATE, TRIM, TINY = 8, 9, 10
PGDAT_DIRTY, PGDAT_WRITEBACK = 1, 2
LRUVEC_CONGESTED = 1


def whole(lists: Lists, priority: int, to_reclaim: int, target: int = 0) -> int:
    return int(shrink_whole(lists.m, lists.b.cpu(), lists.lruvec(target), priority, to_reclaim, target))


def node(lists: Lists, priority: int = 12, to_reclaim: int = 32, order: int = 0, target: int = 0) -> int:
    return int(shrink_a_node(lists.m, lists.b.cpu(), lists.node(), priority, to_reclaim, order, target))


def word(lists: Lists, at: int) -> int:
    return int(lists.b.words()[at])


def be_kswapd(lists: Lists) -> None:
    lists.b.task().process_flags |= PF_KSWAPD


def fold(lists: Lists) -> None:
    """Counters without differentials."""
    refresh(lists.m, lists.b.cpu(), 0)


@pytest.mark.parametrize(("kswapd", "priority", "reclaimed"), [(1, 1, 96), (0, 1, 96), (1, 0, 96)])
def test_stops_when_enough_is_reclaimed(lists: Lists, kswapd: int, priority: int, reclaimed: int) -> None:
    lists.fill_file(lists.file(1000), 1000)
    if kswapd:
        be_kswapd(lists)
    assert whole(lists, priority, 96) == reclaimed


def test_direct_reclaims_first_pass_does_all_it_planned(lists: Lists) -> None:
    # a list of which 1/4096 is 40 pages would be large: plan as if it were
    lruvec = lists.lruvec()
    lists.fill_file(lists.file(400), 200)
    lruvec.lru_zone_size[ZONE_NORMAL * 5 + INACTIVE_FILE] += 100 << 12
    assert whole(lists, 12, 32) == 100
    be_kswapd(lists)
    assert whole(lists, 12, 32) == 32
    lruvec.lru_zone_size[ZONE_NORMAL * 5 + INACTIVE_FILE] -= 100 << 12


def test_both_kinds_are_scanned_in_proportion(swapping: Lists) -> None:
    """Equal lists and costs, swappiness 60: 30 % of the pressure is on anonymous pages."""
    lists = swapping
    be_kswapd(lists)
    lists.space()
    lists.fill_anon(400)
    lists.fill_file(lists.file(1000), 400)
    assert whole(lists, 1, 30) == 64
    # 60 and 140 planned. After 32 of each enough is reclaimed: anonymous pages are done with, and the files get one
    # more batch of what is left of their plan.
    assert lists.vm.disk.head == 32
    assert lists.sizes()[INACTIVE_FILE] == 400 - 64
    lists.run_disk()


def test_deactivation_follows_sizes_and_refaults(lists: Lists) -> None:
    lists.fill_file(lists.file(200), 100)
    fold(lists)
    node(lists)
    assert word(lists, MAY_DEACTIVATE) == 0
    lists.node().vm_stat[NR_ACTIVE_FILE].counter += 101
    node(lists)
    assert word(lists, MAY_DEACTIVATE) == FILE
    lists.node().vm_stat[NR_ACTIVE_FILE].counter -= 101
    lists.node().vm_stat[WORKINGSET_ACTIVATE_BASE].counter += 1
    node(lists)
    assert word(lists, MAY_DEACTIVATE) == ANON
    snapshot(lists.m, 0, lists.node())
    node(lists)
    assert word(lists, MAY_DEACTIVATE) == 0


@pytest.mark.parametrize(("inactive", "priority", "trim"), [(100, 6, 1), (100, 7, 0), (0, 0, 0)])
def test_cache_trim_mode(lists: Lists, inactive: int, priority: int, trim: int) -> None:
    lists.node().vm_stat[NR_INACTIVE_FILE].counter += inactive
    node(lists, priority)
    assert word(lists, TRIM) == trim
    lists.node().vm_stat[NR_INACTIVE_FILE].counter -= inactive


def test_file_is_tiny(lists: Lists) -> None:
    zone, stat = lists.b.zone(), lists.node().vm_stat
    high = zone.watermark[2]
    free = zone.vm_stat[NR_FREE_PAGES].counter
    zone.vm_stat[NR_FREE_PAGES].counter = high - 10
    stat[NR_INACTIVE_ANON].counter += 5000
    for files, priority, tiny in ((10, 12, 1), (11, 12, 0), (10, 13, 0)):
        stat[NR_INACTIVE_FILE].counter += files
        node(lists, priority)
        assert word(lists, TINY) == tiny
        stat[NR_INACTIVE_FILE].counter -= files
    stat[NR_INACTIVE_ANON].counter -= 5000
    zone.vm_stat[NR_FREE_PAGES].counter = free


def test_kswapd_marks_a_node_full_of_dirty_pages(lists: Lists) -> None:
    p = lists.fill_file(lists.file(40), 20)
    for q in p:
        dirty(lists.m, lists.b.cpu(), q)
    node(lists, 0)
    assert lists.node().pgdat_flags == 0, "direct reclaim doesn't"
    fold(lists)
    shrink(lists.m, lists.b.cpu(), lists.lruvec(), ACTIVE_FILE, 32, 0xCC0, 7, 0)
    be_kswapd(lists)
    for q in p:
        lists.b.page(q).page_flags &= ~PG_reclaim
    node(lists, 0)
    assert lists.node().pgdat_flags == PGDAT_DIRTY


def test_kswapd_marks_a_node_full_of_pages_under_writeback(lists: Lists) -> None:
    p = lists.fill_file(lists.file(40), 20)
    for q in p:
        writeback(lists.m, lists.b.cpu(), q)
    be_kswapd(lists)
    node(lists, 0)
    assert lists.node().pgdat_flags & PGDAT_WRITEBACK
    for q in p:
        write_done(lists.m, lists.b.cpu(), q)


def test_a_congested_list_is_marked_by_kswapd(lists: Lists) -> None:
    (pfn,) = lists.fill_file(lists.file(40), 1)
    dirty(lists.m, lists.b.cpu(), pfn)
    lists.vm.nr_wb_congested.counter = 1
    be_kswapd(lists)
    node(lists, 0)
    assert lists.lruvec().lruvec_flags == LRUVEC_CONGESTED
    lists.vm.nr_wb_congested.counter = 0


@pytest.mark.slow
def test_high_orders_go_on_until_compaction_can_work(lists: Lists) -> None:
    """With the free pages below what compaction needs one call goes on at its priority; an order-0 call doesn't."""
    lists.fill_file(lists.file(8000), 6000)
    taken = lists.b.take_all(leave=lists.b.zone().watermark[1] + 100)
    once = node(lists, 6)
    assert 0 < once < 200
    again = node(lists, 6, order=9)
    assert 512 <= again < 640, "until a whole block has come free"
    for q in taken:
        lists.b.free(q)


def test_reclaim_revives_kswapd(lists: Lists) -> None:
    lists.node().kswapd_failures = 16
    node(lists, 0)
    assert lists.node().kswapd_failures == 16
    lists.fill_file(lists.file(8), 8)
    assert node(lists, 0) == 8
    assert lists.node().kswapd_failures == 0


def test_an_empty_node_is_no_trouble(lists: Lists) -> None:
    assert node(lists, 0) == 0
    assert lists.sizes() == [0] * 5
    assert lists.on(INACTIVE_ANON) == []
