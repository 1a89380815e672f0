"""May a zone be used? (``mm/page_alloc.c`` (5.10))"""

from emu.zone.deviations import R1, deviates
from emu.zone.gfp import (
    __GFP_ATOMIC, ALLOC_CMA, ALLOC_HARDER, ALLOC_HIGH, ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_WMARK_MASK,
)  # fmt: skip
from emu.zone.list import list_empty
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Machine, Zone,
)  # fmt: skip
from emu.zone.vmstat import zone_page_state, zone_page_state_snapshot
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from shm.core import core


@core(inline=True)
def wmark_pages(z: Zone, i: int) -> int:
    """``wmark_pages()``: with the boost, read without a lock."""
    return z.watermark[i] + z.watermark_boost


@core(inline=True)
def min_wmark_pages(z: Zone) -> int:
    """``min_wmark_pages()``"""
    return wmark_pages(z, WMARK_MIN)


@core(inline=True)
def low_wmark_pages(z: Zone) -> int:
    """``low_wmark_pages()``"""
    return wmark_pages(z, WMARK_LOW)


@core(inline=True)
def high_wmark_pages(z: Zone) -> int:
    """``high_wmark_pages()``"""
    return wmark_pages(z, WMARK_HIGH)


@core(inline=True)
def __zone_watermark_unusable_free(m: Machine, z: Zone, order: int, alloc_flags: int) -> int:
    """``__zone_watermark_unusable_free()``: free pages that this request may not count on."""
    unusable_free = (1 << order) - 1
    if alloc_flags & (ALLOC_HARDER | ALLOC_OOM) == 0:
        unusable_free += z.nr_reserved_highatomic
    if m.cma_enabled != 0 and alloc_flags & ALLOC_CMA == 0:
        unusable_free += zone_page_state(z, NR_FREE_CMA_PAGES)
    return unusable_free


@core
def __zone_watermark_ok(
    m: Machine, z: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int
) -> bool:
    """``mm/page_alloc.c:__zone_watermark_ok() (5.10)``: enough pages above the mark, and a block of the order."""
    low = mark
    alloc_harder = alloc_flags & (ALLOC_HARDER | ALLOC_OOM) != 0
    free_pages -= __zone_watermark_unusable_free(m, z, order, alloc_flags)
    # halves and quarters are of non-negative numbers, where a shift is C's division
    if alloc_flags & ALLOC_HIGH != 0:
        low -= low >> 1
    if alloc_harder:
        if alloc_flags & ALLOC_OOM != 0:
            low -= low >> 1
        else:
            low -= low >> 2
    if free_pages <= low + z.lowmem_reserve[highest_zoneidx]:
        return False
    if order == 0:
        return True
    for o in range(order, MAX_ORDER):
        area = z.free_area[o]
        if area.nr_free == 0:
            continue
        for mt in range(MIGRATE_PCPTYPES):
            if not list_empty(m, area.free_list[mt]):
                return True
        if m.cma_enabled != 0 and alloc_flags & ALLOC_CMA != 0 and not list_empty(m, area.free_list[MIGRATE_CMA]):
            return True
        if alloc_harder and not list_empty(m, area.free_list[MIGRATE_HIGHATOMIC]):
            return True
    return False


@core
def zone_watermark_ok(m: Machine, z: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    """``zone_watermark_ok()``"""
    free_pages = zone_page_state(z, NR_FREE_PAGES)
    return __zone_watermark_ok(m, z, order, mark, highest_zoneidx, alloc_flags, free_pages)


@core(cold=True)
def pages_above_mark(m: Machine, z: Zone, alloc_flags: int) -> int:
    """R24's remedy, for who holds the zone lock: how many pages may go before the zone is at the watermark of a
    request, which is lower for those that may use reserves, as in :func:`__zone_watermark_ok`. What CPUs have in their
    differentials counts; lowmem reserves don't."""
    free_pages = zone_page_state_snapshot(m, z, NR_FREE_PAGES)
    if alloc_flags & ALLOC_NO_WATERMARKS != 0:
        return free_pages
    free_pages -= __zone_watermark_unusable_free(m, z, 0, alloc_flags)
    which = alloc_flags & ALLOC_WMARK_MASK
    mark = wmark_pages(z, which)
    if which == WMARK_MIN and alloc_flags & ALLOC_HARDER != 0:  # GFP_ATOMIC ignores the boost there
        mark = z.watermark[WMARK_MIN]
    if alloc_flags & ALLOC_HIGH != 0:
        mark -= mark // 2
    if alloc_flags & ALLOC_OOM != 0:
        mark -= mark // 2
    elif alloc_flags & ALLOC_HARDER != 0:
        mark -= mark // 4
    return max(0, free_pages - mark)


@core(inline=True)
def zone_has_plenty(m: Machine, z: Zone, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int) -> bool:
    """The first test of ``zone_watermark_fast()``, for order 0."""
    reserved = __zone_watermark_unusable_free(m, z, 0, alloc_flags)
    return free_pages - min(free_pages, reserved) > mark + z.lowmem_reserve[highest_zoneidx]


@core(inline=True)
def zone_watermark_fast(
    m: Machine, z: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp_mask: int
) -> bool:
    """``mm/page_alloc.c:zone_watermark_fast() (5.10)``: order 0 decided quickly when there is plenty.

    GFP_ATOMIC order-0 requests ignore the boost at the min watermark.
    """
    free_pages = zone_page_state(z, NR_FREE_PAGES)
    if order == 0 and zone_has_plenty(m, z, mark, highest_zoneidx, alloc_flags, free_pages):
        return True
    if __zone_watermark_ok(m, z, order, mark, highest_zoneidx, alloc_flags, free_pages):
        return True
    if order == 0 and gfp_mask & __GFP_ATOMIC != 0 and z.watermark_boost != 0:
        if alloc_flags & ALLOC_WMARK_MASK == WMARK_MIN:
            return __zone_watermark_ok(m, z, order, z.watermark[WMARK_MIN], highest_zoneidx, alloc_flags, free_pages)
    return False


@core
def zone_watermark_ok_safe(m: Machine, z: Zone, order: int, mark: int, highest_zoneidx: int) -> bool:
    """``zone_watermark_ok_safe()``: below the drift mark the per-cpu differentials are added first. Without that (R1)
    a node passes for balanced that has used up what its CPUs haven't told yet."""
    free_pages = zone_page_state(z, NR_FREE_PAGES)
    if z.percpu_drift_mark != 0 and free_pages < z.percpu_drift_mark and not deviates(m, R1):
        free_pages = zone_page_state_snapshot(m, z, NR_FREE_PAGES)
    return __zone_watermark_ok(m, z, order, mark, highest_zoneidx, 0, free_pages)
