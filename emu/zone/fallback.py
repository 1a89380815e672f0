"""Stealing from another migratetype (``mm/page_alloc.c`` (5.10)). The zone lock is held."""

from emu.zone.buddy import buddy_order, get_page_from_free_area, move_to_free_list, rmqueue_traced
from emu.zone.deviations import R10, deviates
from emu.zone.event import trace_boost, trace_mm_page_alloc_extfrag
from emu.zone.gfp import ALLOC_CMA, ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from emu.zone.kswapd_wake import wakeup_kswapd
from emu.zone.list import list_empty
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, WMARK_HIGH, ZONE_BOOSTED_WATERMARK, Cpu, Machine, Zone, page_record,
)  # fmt: skip
from emu.zone.page import NULL, PAGE_MAPPING_FLAGS, PAGE_MAPPING_MOVABLE, PG_buddy, PG_lru, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype, set_pageblock_migratetype
from emu.zone.vmstat import zone_page_state
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from shm.atomic import fetch_or
from shm.core import core

# [migratetype * 2 + attempt]: where to look next
FALLBACKS = (
    MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE,  # for unmovable
    MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE,  # for movable
    MIGRATE_UNMOVABLE, MIGRATE_MOVABLE,  # for reclaimable
)  # fmt: skip


@core(inline=True)
def zone_spans_pfn(zone: Zone, pfn: int) -> bool:
    """``zone_spans_pfn()``"""
    return zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages


@core
def move_freepages_block(m: Machine, zone: Zone, pfn: int, migratetype: int) -> int:
    """``mm/page_alloc.c:move_freepages_block() (5.10)``: all free pages of the block to the tail of another list.

    Returns pages moved | movable pages seen << 32. A block that the zone spans only partly at its end moves nothing;
    at its start, the walk begins at the given page.
    """
    start = pfn & -PAGEBLOCK_NR_PAGES
    end = start + PAGEBLOCK_NR_PAGES - 1
    if not zone_spans_pfn(zone, start):
        start = pfn
    if not zone_spans_pfn(zone, end):
        return 0
    moved = 0
    movable = 0
    at = start
    while at <= end:
        page = page_record(m, pfn_to_page(m, at))
        if page.page_flags & PG_buddy == 0:
            if page.page_flags & PG_lru != 0 or page.mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE:
                movable += 1
            at += 1
            continue
        order = buddy_order(page)
        move_to_free_list(m, zone, page, order, migratetype)
        at += 1 << order
        moved += 1 << order
    return moved | movable << 32


@core(inline=True)
def can_steal_fallback(m: Machine, order: int, start_mt: int) -> bool:
    """``can_steal_fallback()``: large blocks, and anything for the types that pollute most."""
    return (
        order >= PAGEBLOCK_ORDER >> 1
        or start_mt == MIGRATE_RECLAIMABLE
        or start_mt == MIGRATE_UNMOVABLE
        or m.page_group_by_mobility_disabled != 0
    )


@core
def boost_watermark(m: Machine, cpu: Cpu, zone: Zone) -> bool:
    """``mm/page_alloc.c:boost_watermark() (5.10)``: a pageblock more, up to a share of the high watermark."""
    factor = m.watermark_boost_factor
    if factor == 0 or PAGEBLOCK_NR_PAGES * 4 > zone.managed_pages:
        return False
    high = zone.watermark[WMARK_HIGH]
    max_boost = high // 10000 * factor + high % 10000 * factor // 10000  # mult_frac()
    if max_boost == 0:
        return False
    max_boost = max(PAGEBLOCK_NR_PAGES, max_boost)
    old = zone.watermark_boost
    zone.watermark_boost = min(old + PAGEBLOCK_NR_PAGES, max_boost)
    trace_boost(m, cpu, zone, old)
    return True


@core(cold=True)
def ask_for_kswapd(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """``ZONE_BOOSTED_WATERMARK``: rmqueue() wakes kswapd once the zone lock is given back. Woken here (R10), under that
    lock as before 73444bc4d8f9, the scheduler's locks are taken inside it, while who holds those may allocate."""
    if deviates(m, R10):
        wakeup_kswapd(m, cpu, zone, 0, 0, zone.zid)
        return
    fetch_or(zone, "zone_flags", ZONE_BOOSTED_WATERMARK)


@core
def steal_suitable_fallback(
    m: Machine, cpu: Cpu, zone: Zone, pfn: int, alloc_flags: int, start_type: int, whole_block: int
) -> None:
    """``mm/page_alloc.c:steal_suitable_fallback() (5.10)``: the page, its free neighbours, perhaps the whole block."""
    page = page_record(m, pfn_to_page(m, pfn))
    current_order = buddy_order(page)
    old_block_type = get_pfnblock_migratetype(m, pfn)
    if old_block_type == MIGRATE_HIGHATOMIC:
        # can happen through races; the reserve's accounting comes first
        move_to_free_list(m, zone, page, current_order, start_type)
        return
    if current_order >= PAGEBLOCK_ORDER:
        for at in range(pfn, pfn + (1 << current_order), PAGEBLOCK_NR_PAGES):
            set_pageblock_migratetype(m, at, start_type)
        move_to_free_list(m, zone, page, current_order, start_type)
        return
    if boost_watermark(m, cpu, zone) and alloc_flags & ALLOC_KSWAPD != 0:
        ask_for_kswapd(m, cpu, zone)
    if whole_block == 0:
        move_to_free_list(m, zone, page, current_order, start_type)
        return
    walked = move_freepages_block(m, zone, pfn, start_type)
    free_pages = walked & 0xFFFFFFFF
    movable_pages = walked >> 32
    if start_type == MIGRATE_MOVABLE:
        alike_pages = movable_pages
    elif old_block_type == MIGRATE_MOVABLE:
        # the rest of a movable block is taken for compatible with either of the other types
        alike_pages = PAGEBLOCK_NR_PAGES - (free_pages + movable_pages)
    else:
        alike_pages = 0
    if free_pages == 0:
        move_to_free_list(m, zone, page, current_order, start_type)
        return
    if free_pages + alike_pages >= PAGEBLOCK_NR_PAGES >> 1 or m.page_group_by_mobility_disabled != 0:
        set_pageblock_migratetype(m, pfn, start_type)


@core
def find_suitable_fallback(m: Machine, zone: Zone, order: int, migratetype: int, only_stealable: int) -> int:
    """``mm/page_alloc.c:find_suitable_fallback() (5.10)``: migratetype | can_steal << 8, or -1."""
    area = zone.free_area[order]
    if area.nr_free == 0:
        return -1
    can_steal = 0
    for i in range(2):
        fallback_mt = FALLBACKS[migratetype * 2 + i]
        if list_empty(m, area.free_list[fallback_mt]):
            continue
        if can_steal_fallback(m, order, migratetype):
            can_steal = 1
        if only_stealable == 0 or can_steal != 0:
            return fallback_mt | can_steal << 8
    return -1


@core(cold=True)
def __rmqueue_fallback(m: Machine, cpu: Cpu, zone: Zone, order: int, start_migratetype: int, alloc_flags: int) -> bool:
    """``mm/page_alloc.c:__rmqueue_fallback() (5.10)``: bring a block of another type to the requested list.

    The largest block, so that few pageblocks are touched; the smallest one when a movable request can't take the
    whole pageblock anyway.
    """
    min_order = order
    if alloc_flags & ALLOC_NOFRAGMENT != 0:
        min_order = PAGEBLOCK_ORDER
    current_order = MAX_ORDER - 1
    found = -1
    while current_order >= min_order:
        found = find_suitable_fallback(m, zone, current_order, start_migratetype, 0)
        if found != -1:
            break
        current_order -= 1
    if found == -1:
        return False
    if found >> 8 == 0 and start_migratetype == MIGRATE_MOVABLE and current_order > order:
        current_order = order
        while current_order < MAX_ORDER:
            found = find_suitable_fallback(m, zone, current_order, start_migratetype, 0)
            if found != -1:
                break
            current_order += 1
    fallback_mt = found & 0xFF
    pfn = get_page_from_free_area(m, zone, current_order, fallback_mt)
    steal_suitable_fallback(m, cpu, zone, pfn, alloc_flags, start_migratetype, found >> 8)
    if cpu.trace != 0:
        owned = 1 if get_pfnblock_migratetype(m, pfn) == start_migratetype else 0
        trace_mm_page_alloc_extfrag(m, cpu, pfn, order, current_order, start_migratetype, fallback_mt, owned)
    return True


@core(inline=True)
def __rmqueue(m: Machine, cpu: Cpu, zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int:
    """``mm/page_alloc.c:__rmqueue() (5.10)``: a block of the type, of CMA if allowed, or stolen. NULL: none.

    Movable requests use CMA first while it holds over half of the zone's free memory.
    """
    if m.cma_enabled != 0 and alloc_flags & ALLOC_CMA != 0:
        if zone_page_state(zone, NR_FREE_CMA_PAGES) > zone_page_state(zone, NR_FREE_PAGES) >> 1:
            pfn = rmqueue_traced(m, cpu, zone, order, MIGRATE_CMA, migratetype)
            if pfn != NULL:
                return pfn
    pfn = rmqueue_traced(m, cpu, zone, order, migratetype, migratetype)
    if pfn != NULL:
        return pfn
    return rmqueue_elsewhere(m, cpu, zone, order, migratetype, alloc_flags)


@core(cold=True)
def rmqueue_elsewhere(m: Machine, cpu: Cpu, zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int:
    """The part of ``__rmqueue()`` behind its ``retry`` label, once the own list is empty."""
    while True:
        if m.cma_enabled != 0 and alloc_flags & ALLOC_CMA != 0:
            pfn = rmqueue_traced(m, cpu, zone, order, MIGRATE_CMA, migratetype)
            if pfn != NULL:
                return pfn
        if not __rmqueue_fallback(m, cpu, zone, order, migratetype, alloc_flags):
            return NULL
        pfn = rmqueue_traced(m, cpu, zone, order, migratetype, migratetype)
        if pfn != NULL:
            return pfn
