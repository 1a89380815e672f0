"""Stealing from another migratetype: which block, how much of it, and what it does to the watermarks."""

import pytest

from emu.zone.event import KINDS
from emu.zone.fallback import FALLBACKS, can_steal_fallback
from emu.zone.gfp import (
    ALLOC_KSWAPD,
    ALLOC_NOFRAGMENT,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
)  # fmt: skip
from emu.zone.mmzone import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_UNMOVABLE,
    ZONE_BOOSTED_WATERMARK,
)  # fmt: skip
from emu.zone.page import NULL, PAGE_MAPPING_MOVABLE, PG_lru, set_flag
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests import naive
from tests.bench import Bench, bench, core, one_zone, two_zones

U, M, R = MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE
SMALL = one_zone(4096)


def rmqueue(b: Bench, order: int, migratetype: int, flags: int = ALLOC_KSWAPD) -> int:
    """``__rmqueue()`` with the accounting of its callers."""
    pfn = int(getattr(core, "__rmqueue")(b.m, b.cpu(), b.zone(), order, migratetype, flags))
    if pfn != NULL:
        getattr(core, "__mod_zone_page_state")(b.m, b.cpu(), b.zone(), NR_FREE_PAGES, -(1 << order))
        b.page(pfn).refcount = 1
    return pfn


def block_type(b: Bench, pfn: int) -> int:
    return int(core.get_pfnblock_migratetype(b.m, pfn))


def extfrag(b: Bench) -> list[tuple[int, int, int, int, bool]]:
    """(alloc order, fallback order, type, fallback type, owned) of the steals."""
    return [
        (int(e["order"]), int(e["a"]) & 255, int(e["migratetype"]), int(e["b"]), bool(e["a"] >> 8))
        for e in b.events()
        if KINDS[e["kind"]] == "mm_page_alloc_extfrag"
    ]


def test_each_type_looks_at_the_two_others() -> None:
    assert [set(FALLBACKS[2 * mt : 2 * mt + 2]) | {mt} for mt in (U, M, R)] == [{U, M, R}] * 3
    assert FALLBACKS == (R, M, R, U, U, M)


@pytest.mark.parametrize(("order", "migratetype", "can"), [
    (0, M, False), (3, M, False), (4, M, True), (9, M, True), (0, U, True), (0, R, True),
])  # fmt: skip
def test_movable_requests_steal_large_blocks_only(order: int, migratetype: int, can: bool) -> None:
    with bench(SMALL) as b:
        assert can_steal_fallback(b.m, order, migratetype) == can
        b.m.page_group_by_mobility_disabled = 1
        assert can_steal_fallback(b.m, order, migratetype)
        b.m.page_group_by_mobility_disabled = 0


def test_whole_largest_block_changes_owner_without_boost() -> None:
    with bench(SMALL) as b:
        b.cpu().trace = 1
        pfn = rmqueue(b, 0, U)
        assert pfn == 1024
        assert [block_type(b, p) for p in (1024, 1536, 2048)] == [U, U, M]
        assert b.zone().watermark_boost == 0
        assert extfrag(b) == [(0, 10, U, M, True)]
        assert {order for order in range(10) if b.free_list(order, U)} == set(range(10))


def partly_used(b: Bench, used: int, migratetype: int = M) -> int:
    """A zone whose only free pages are the last ones of one block; ``used`` pages of that block are in use."""
    first = rmqueue(b, 9, migratetype)
    for at in range(first, first + 512):
        b.page(at).refcount = 1
    while rmqueue(b, 10, M) != NULL:
        pass
    while rmqueue(b, 9, M) != NULL:
        pass
    for at in range(first + used, first + 512):
        b.page(at).refcount = 0
        getattr(core, "__free_one_page")(b.m, b.cpu(), at, b.zone(), 0, migratetype, 0)
    return first


@pytest.mark.parametrize(("used", "owned"), [(256, True), (257, True), (511, True)])
def test_unmovable_request_takes_a_movable_block_over(used: int, owned: bool) -> None:
    with bench(one_zone(8192)) as b:
        first = partly_used(b, used)  # none of the pages in use is movable: all count as alike
        b.cpu().trace = 1
        assert rmqueue(b, 0, U) >= first + used
        assert block_type(b, first) == (U if owned else M)
        assert extfrag(b)[0][4] is owned
        assert not any(b.free_list(order, M) for order in range(11))
        b.strict = False


@pytest.mark.parametrize(("used", "movable", "owned"), [(300, 0, True), (300, 200, True), (300, 299, False)])
def test_movable_pages_in_use_count_against_it(used: int, movable: int, owned: bool) -> None:
    with bench(one_zone(8192)) as b:
        first = partly_used(b, used)
        for at in range(first, first + movable):
            if at & 1:
                set_flag(b.page(at), PG_lru)
            else:
                b.page(at).mapping = 0x100 | PAGE_MAPPING_MOVABLE
        rmqueue(b, 0, U)
        assert block_type(b, first) == (U if owned else M)
        b.strict = False


@pytest.mark.parametrize(("used", "owner"), [(200, R), (300, U)])
def test_half_of_the_block_must_be_free_between_unmovable_and_reclaimable(used: int, owner: int) -> None:
    with bench(one_zone(8192)) as b:
        first = partly_used(b, used, U)
        rmqueue(b, 0, R)
        assert block_type(b, first) == owner
        b.strict = False


def test_movable_request_that_cannot_steal_takes_the_smallest_block() -> None:
    with bench(one_zone(8192)) as b:
        partly_used(b, 512 - 15, U)  # free: 1 + 2 + 4 + 8 pages
        before = [len(b.free_list(order, U)) for order in range(4)]
        assert before == [1, 1, 1, 1]
        rmqueue(b, 0, M)
        assert [len(b.free_list(order, U)) for order in range(4)] == [0, 1, 1, 1]
        b.strict = False


def test_nofragment_takes_whole_pageblocks_only() -> None:
    with bench(one_zone(8192)) as b:
        first = partly_used(b, 256)
        assert rmqueue(b, 0, U, ALLOC_NOFRAGMENT) == NULL
        assert rmqueue(b, 0, U) == first + 256
        b.strict = False


def test_highatomic_block_that_is_met_is_left_its_type() -> None:
    with bench(one_zone(8192)) as b:
        first = partly_used(b, 256)
        core.set_pageblock_migratetype(b.m, first, MIGRATE_HIGHATOMIC)
        rmqueue(b, 0, U)
        assert block_type(b, first) == MIGRATE_HIGHATOMIC
        assert b.zone().watermark_boost == 0
        b.strict = False


@pytest.mark.parametrize("factor", [0, 1, 5000, 15000, 100000])
def test_boost_grows_by_a_pageblock_up_to_its_bound(factor: int) -> None:
    with bench(one_zone(16384), watermark_boost_factor=factor, min_free_kbytes=2000) as b:
        zone = b.zone()
        most = naive.max_boost(zone.managed_pages, zone.watermark[2], factor)
        for step in range(1, 40):
            assert core.boost_watermark(b.m, b.cpu(), zone) == (most > 0)
            assert zone.watermark_boost == min(512 * step, most)


def test_tiny_zone_is_not_boosted() -> None:
    with bench(SMALL) as b:
        b.zone().managed_pages = 2047
        assert not core.boost_watermark(b.m, b.cpu(), b.zone())
        b.zone().managed_pages = 4096


@pytest.mark.parametrize("flags", [0, ALLOC_KSWAPD])
def test_steal_from_a_block_boosts_and_asks_for_kswapd(flags: int) -> None:
    with bench(one_zone(8192)) as b:
        partly_used(b, 256)
        rmqueue(b, 0, U, flags)
        assert b.zone().watermark_boost > 0
        assert bool(b.zone().zone_flags & ZONE_BOOSTED_WATERMARK) == bool(flags)
        b.strict = False


def asleep(b: Bench) -> None:
    """kswapd waits on its queue."""
    b.m.nodes[0].kswapd_wait.state = 1


def test_flag_is_cleared_and_kswapd_woken_by_the_allocation_that_set_it() -> None:
    with bench(one_zone(8192), min_free_kbytes=128) as b:
        partly_used(b, 256)
        asleep(b)
        b.m.nodes[0].kswapd_order = 0
        b.cpu().trace = 1
        b.alloc(0, GFP_KERNEL)
        assert b.zone().watermark_boost > 0
        assert not b.zone().zone_flags & ZONE_BOOSTED_WATERMARK
        assert b.kinds().count("mm_vmscan_wakeup_kswapd") == 1
        assert b.m.nodes[0].kswapd_highest_zoneidx == 2
        assert b.m.nodes[0].kswapd_wait.state & 0xFFFFFFFF == 0
        b.strict = False


def test_all_free_pages_of_the_block_move_to_the_tail() -> None:
    with bench(SMALL) as b:
        pfn = rmqueue(b, 3, M)
        moved = core.move_freepages_block(b.m, b.zone(), pfn, R)
        assert moved & 0xFFFFFFFF == 512 - 8
        assert {p for order in range(11) for p in b.free_list(order, R)} == {1024 + (8 << i) for i in range(6)}
        assert core.move_freepages_block(b.m, b.zone(), pfn, M) >> 32 == 0


def test_block_that_the_zone_does_not_span_to_its_end_stays() -> None:
    from tests.bench import shape

    with bench(shape([(0, 2, 1024, 4096 + 100)])) as b:
        assert core.move_freepages_block(b.m, b.zone(), 1024 + 4096 + 3, R) == 0


def test_lower_zone_comes_before_mixing_pageblocks() -> None:
    with bench(two_zones(), lowmem_reserve_ratio=(0, 0, 0, 0)) as b:
        low, high = b.zone(0), b.zone(1)
        assert b.alloc(0, GFP_HIGHUSER_MOVABLE) >= high.zone_start_pfn
        while b.alloc(10, GFP_HIGHUSER_MOVABLE) >= high.zone_start_pfn:
            pass
        b.take_all(9, GFP_HIGHUSER_MOVABLE, leave=low.free_area[10].nr_free * 1024 + 512)
        assert high.free_area[10].nr_free + high.free_area[9].nr_free <= 1
        pfn = b.alloc(0, GFP_KERNEL)
        assert pfn < high.zone_start_pfn or not b.free_list(9, M, high)
        assert high.watermark_boost == 0
