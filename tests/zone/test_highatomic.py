"""Pageblocks kept for high-order atomic requests."""

import pytest

from emu.zone.alloc_context import AllocContext
from emu.zone.gfp import ALLOC_WMARK_LOW, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE
from tests.bench import Bench, bench, core, one_zone


def block_type(b: Bench, pfn: int) -> int:
    return int(core.get_pfnblock_migratetype(b.m, pfn))


def reserve(b: Bench, pfn: int) -> None:
    core.reserve_highatomic_pageblock(b.m, b.cpu(), pfn, b.zone())


def below_low(b: Bench) -> None:
    """Bring the zone to where only requests that may try harder succeed."""
    zone = b.zone()
    while core.zone_watermark_ok(b.m, zone, 3, zone.watermark[ALLOC_WMARK_LOW], 3, 0):
        assert b.alloc(3, GFP_HIGHUSER_MOVABLE & ~0xC00 | 0x2000) >= 0


def test_atomic_high_order_request_reserves_its_block() -> None:
    with bench(one_zone(16384)) as b:
        below_low(b)
        pfn = b.alloc(3, GFP_ATOMIC)
        assert block_type(b, pfn) == MIGRATE_HIGHATOMIC
        assert b.zone().nr_reserved_highatomic == 512
        assert any(b.free_list(order, MIGRATE_HIGHATOMIC) for order in range(11))


@pytest.mark.parametrize(("order", "gfp"), [(0, GFP_ATOMIC), (3, GFP_KERNEL)])
def test_other_requests_reserve_nothing(order: int, gfp: int) -> None:
    with bench(one_zone(16384)) as b:
        below_low(b)
        b.alloc(order, gfp)
        assert b.zone().nr_reserved_highatomic == 0


def test_plenty_of_memory_reserves_nothing() -> None:
    with bench() as b:
        b.alloc(3, GFP_ATOMIC)  # the fast path isn't allowed to try harder
        assert b.zone().nr_reserved_highatomic == 0


@pytest.mark.parametrize("pages", [4096, 16384, 131072])
def test_reserve_is_a_hundredth_of_the_zone_and_a_block(pages: int) -> None:
    with bench(one_zone(pages)) as b:
        for _ in range(8):
            reserve(b, b.alloc(9, GFP_HIGHUSER_MOVABLE))
        blocks = -(-(pages // 100 + 512) // 512)
        assert b.zone().nr_reserved_highatomic == min(blocks, 8) * 512


@pytest.mark.parametrize("migratetype", [MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_CMA])
def test_special_blocks_are_not_reserved(migratetype: int) -> None:
    with bench() as b:
        pfn = b.alloc(9)
        core.set_pageblock_migratetype(b.m, pfn, migratetype)
        reserve(b, pfn)
        assert (b.zone().nr_reserved_highatomic, block_type(b, pfn)) == (0, migratetype)
        b.strict = False


def test_only_those_who_may_try_harder_count_on_it() -> None:
    with bench() as b:
        zone = b.zone()
        reserve(b, b.alloc(3))
        free = b.nr_free()
        ok = core.zone_watermark_ok
        assert not ok(b.m, zone, 0, free - 512, 3, 0)
        assert ok(b.m, zone, 0, free - 513, 3, 0)
        assert ok(b.m, zone, 0, free - 512, 3, 0x10)


def unreserve(b: Bench, force: int, migratetype: int = MIGRATE_MOVABLE) -> bool:
    ac = AllocContext()
    ac.zonelist = core.node_zonelist(b.m, 0, 0)
    ac.highest_zoneidx, ac.migratetype = 3, migratetype
    return bool(core.unreserve_highatomic_pageblock(b.m, b.cpu(), ac, force))


def test_one_block_is_kept_unless_forced() -> None:
    with bench(one_zone(65536)) as b:
        first, second = b.alloc(3), b.alloc(9)
        reserve(b, first)
        assert not unreserve(b, 0)
        reserve(b, second)
        assert b.zone().nr_reserved_highatomic == 1024
        b.free(second, 9)
        assert unreserve(b, 0)
        assert b.zone().nr_reserved_highatomic == 512
        assert not unreserve(b, 0)
        assert unreserve(b, 1)
        assert b.zone().nr_reserved_highatomic == 0
        assert block_type(b, first) == block_type(b, second) == MIGRATE_MOVABLE
        assert not any(b.free_list(order, MIGRATE_HIGHATOMIC) for order in range(11))


def test_reserve_without_free_pages_gives_nothing_back() -> None:
    with bench() as b:
        reserve(b, b.alloc(9))
        assert not unreserve(b, 1)


def test_pages_of_a_reserved_block_travel_on_the_movable_list() -> None:
    with bench() as b:
        pfn = b.alloc()
        reserve(b, pfn)
        b.free(pfn)
        assert b.pcp_list(MIGRATE_MOVABLE)[0] == pfn
        assert b.page(pfn).index == MIGRATE_HIGHATOMIC
        b.drain()
        assert not b.pcp_list(MIGRATE_MOVABLE)
        assert any(p <= pfn < p + (1 << order) for order in range(11) for p in b.free_list(order, MIGRATE_HIGHATOMIC))
