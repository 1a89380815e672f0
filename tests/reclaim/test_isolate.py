"""Which pages come off an LRU list, and where they go back to."""

from collections.abc import Iterator

import pytest

from emu.zone.gfp import __GFP_DMA32, GFP_KERNEL, GFP_NOFS, PF_KSWAPD
from emu.zone.page import PG_active, PG_lru, PG_mlocked
from emu.zone.snapshot import walk
from emu.zone.vmstat_items import NR_INACTIVE_FILE, NR_ISOLATED_FILE, PGSCAN_SKIP
from tests.bench import bench, two_zones
from tests.reclaim.entries import delete_cached, free_rest, isolate, isolated_too_many, lock, put_back, unlock
from tests.reclaim.lists import INACTIVE_FILE, UNEVICTABLE, Lists, map_page

L_PAGES = 0


@pytest.fixture
def two() -> Iterator[Lists]:
    """DMA32 below Normal."""
    with bench(two_zones(8192)) as b:
        yield Lists(b)


def take(lists: Lists, nr: int, lru: int = INACTIVE_FILE, idx: int = 3, may_unmap: int = 1) -> tuple[int, int]:
    """Pages taken and looked at."""
    both = int(isolate(lists.m, lists.b.cpu(), lists.lruvec(), nr, lru, idx, may_unmap))
    return both & 0xFFFFFFFF, both >> 32


def taken(lists: Lists) -> list[int]:
    """The CPU's list of isolated pages, head first."""
    return list(walk(lists.m, lists.b.cpu().scratch[L_PAGES], 100))


def back(lists: Lists) -> int:
    return int(put_back(lists.m, lists.b.cpu(), lists.node()))


def test_the_oldest_are_taken_and_come_back_as_the_newest(lists: Lists) -> None:
    p = lists.fill_file(lists.file(16), 10)
    assert take(lists, 3) == (3, 3)
    assert taken(lists) == [p[2], p[1], p[0]]
    assert lists.sizes()[INACTIVE_FILE] == 7
    assert not lists.flags(p[0]) & PG_lru and lists.b.page(p[0]).refcount == 2
    assert back(lists) == 3
    assert lists.on(INACTIVE_FILE) == [p[2], p[1], p[0], *reversed(p[3:])]
    assert lists.sizes()[INACTIVE_FILE] == 10


def test_pages_of_higher_zones_are_skipped_and_put_first(two: Lists) -> None:
    file = two.file(16)
    pages = []
    for i in range(12):  # every third page is of DMA32
        pages += two.fill_file(file, 1, i, zone=__GFP_DMA32 if i % 3 == 2 else 0)
    low, high = pages[2::3], [p for i, p in enumerate(pages) if i % 3 != 2]
    assert take(two, 2, idx=1) == (2, 6), "two eligible pages, and the four before them"
    assert taken(two) == [low[1], low[0]]
    assert two.on(INACTIVE_FILE) == [*reversed(high[:4]), *reversed(pages[6:])]
    assert two.count(PGSCAN_SKIP + 2) == 4 and two.count(PGSCAN_SKIP + 1) == 0
    assert back(two) == 2
    assert sorted(two.on(INACTIVE_FILE)) == sorted(pages)


def test_nothing_eligible_ends_with_the_list(two: Lists) -> None:
    pages = two.fill_file(two.file(8), 8)
    assert take(two, 4, idx=1) == (0, 8)
    assert two.on(INACTIVE_FILE) == [*reversed(pages)]


def test_mapped_pages_stay_where_only_unmapped_ones_are_wanted(lists: Lists) -> None:
    file = lists.file(8)
    p = lists.fill_file(file, 4)
    lists.space(file=file)
    map_page(lists.m, lists.b.cpu(), 1, 0, p[0])
    assert take(lists, 2, may_unmap=0) == (1, 2)
    assert taken(lists) == [p[1]]
    assert lists.on(INACTIVE_FILE) == [p[0], p[3], p[2]]
    back(lists)


def test_a_page_that_is_being_freed_goes_round(lists: Lists) -> None:
    p = lists.fill_file(lists.file(8), 4)
    lists.b.page(p[0]).refcount = 0
    assert take(lists, 2) == (1, 2)
    assert taken(lists) == [p[1]]
    lists.b.page(p[0]).refcount = 1
    assert lists.on(INACTIVE_FILE) == [p[0], p[3], p[2]]
    back(lists)


def test_pages_mlocked_meanwhile_become_unevictable(lists: Lists) -> None:
    p = lists.fill_file(lists.file(8), 4)
    take(lists, 2)
    lists.b.page(p[0]).page_flags |= PG_mlocked
    assert back(lists) == 1
    lists.drain()
    assert lists.on(UNEVICTABLE) == [p[0]]
    assert lists.on(INACTIVE_FILE) == [p[1], p[3], p[2]]
    lists.b.strict = False  # the flag came without its counter


def test_a_page_that_only_isolation_holds_is_left_for_freeing(lists: Lists) -> None:
    p = lists.fill_file(lists.file(8), 4)
    take(lists, 2)
    lists.b.page(p[0]).page_flags |= PG_active
    assert lock(lists.m, p[0])
    delete_cached(lists.m, lists.b.cpu(), p[0])
    unlock(lists.m, lists.b.cpu(), p[0])
    assert back(lists) == 1
    assert taken(lists) == [p[0]]
    assert lists.sizes() == [0, 0, 3, 0, 0]
    free_rest(lists.m, lists.b.cpu(), L_PAGES)
    assert taken(lists) == []
    assert lists.b.page(p[0]).refcount == 0


@pytest.mark.parametrize(
    ("isolated", "gfp", "too_many"),
    [(12, GFP_KERNEL, False), (13, GFP_KERNEL, True), (100, GFP_NOFS, False), (101, GFP_NOFS, True)],
)
def test_too_many_isolated(lists: Lists, isolated: int, gfp: int, too_many: bool) -> None:
    stat = lists.node().vm_stat
    stat[NR_INACTIVE_FILE].counter += 100
    stat[NR_ISOLATED_FILE].counter += isolated
    assert bool(isolated_too_many(lists.m, lists.b.cpu(), lists.node(), 1, gfp)) is too_many
    lists.b.task().process_flags |= PF_KSWAPD
    assert not isolated_too_many(lists.m, lists.b.cpu(), lists.node(), 1, gfp)
    lists.b.strict = False
