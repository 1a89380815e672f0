"""Is compaction worth the trouble? (``mm/compaction.c`` (5.10))"""

from emu.compact.frag import fragmentation_index
from emu.cpu.seams import COMPACT_CONTINUE, COMPACT_NOT_SUITABLE_ZONE, COMPACT_SKIPPED, COMPACT_SUCCESS
from emu.mm.swapfile import get_nr_swap_pages
from emu.zone.deviations import R17, deviates
from emu.zone.event import EV_COMPACTION_SUITABLE, record
from emu.zone.gfp import ALLOC_CMA, ALLOC_WMARK_MASK, PAGE_ALLOC_COSTLY_ORDER
from emu.zone.lru import LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import Cpu, Machine, Zone, zone_at
from emu.zone.vmstat import zone_page_state, zone_page_state_snapshot
from emu.zone.vmstat_items import NR_FREE_PAGES, NR_ZONE_LRU_BASE
from emu.zone.watermark import __zone_watermark_ok, low_wmark_pages, min_wmark_pages, wmark_pages, zone_watermark_ok
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.core import core


@core(inline=True)
def is_via_compact_memory(order: int) -> bool:
    """``is_via_compact_memory()``: no order is wanted, all is to be compacted."""
    return order == -1


@core(inline=True)
def compact_gap(order: int) -> int:
    """``compact_gap()``: free pages that compaction needs above the watermark to work with."""
    return 2 << order


@core(cold=True)
def __compaction_suitable(
    m: Machine, zone: Zone, order: int, alloc_flags: int, highest_zoneidx: int, wmark_target: int
) -> int:
    """``mm/compaction.c:__compaction_suitable() (5.10)``: COMPACT_SUCCESS (not needed), _SKIPPED (too few free pages)
    or _CONTINUE. ``wmark_target``: the free pages to reckon with."""
    if is_via_compact_memory(order):
        return COMPACT_CONTINUE
    watermark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK)
    if zone_watermark_ok(m, zone, order, watermark, highest_zoneidx, alloc_flags):
        return COMPACT_SUCCESS
    watermark = low_wmark_pages(zone) if order > PAGE_ALLOC_COSTLY_ORDER else min_wmark_pages(zone)
    watermark += compact_gap(order)
    if not __zone_watermark_ok(m, zone, 0, watermark, highest_zoneidx, ALLOC_CMA, wmark_target):
        return COMPACT_SKIPPED
    return COMPACT_CONTINUE


@core(cold=True)
def compaction_suitable(
    m: Machine, cpu: Cpu, zone: Zone, order: int, alloc_flags: int, highest_zoneidx: int
) -> int:  # fmt: skip
    """``mm/compaction.c:compaction_suitable() (5.10)``: costly orders also only if memory is there but in pieces."""
    free = zone_page_state(zone, NR_FREE_PAGES)
    ret = __compaction_suitable(m, zone, order, alloc_flags, highest_zoneidx, free)
    if ret == COMPACT_CONTINUE and order > PAGE_ALLOC_COSTLY_ORDER:
        fragindex = fragmentation_index(zone, order)
        if fragindex >= 0 and fragindex <= vm_at(m, m.vm).extfrag_threshold:
            ret = COMPACT_NOT_SUITABLE_ZONE
    if cpu.trace != 0:
        record(m, cpu, EV_COMPACTION_SUITABLE, -1, max(order, 0), 0, 0, ret, zone.zone_id)
    return COMPACT_SKIPPED if ret == COMPACT_NOT_SUITABLE_ZONE else ret


@core(cold=True)
def zone_reclaimable_pages(m: Machine, zone: Zone) -> int:
    """``mm/vmscan.c:zone_reclaimable_pages() (5.10.262)``: the zone's LRU pages as far as they can go anywhere; its
    free pages if there are none. Who adds the free pages to that counts them twice; R17's remedy: none are in it."""
    nr = zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE)
    nr += zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_ACTIVE_FILE)
    if get_nr_swap_pages(m) > 0:
        nr += zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_INACTIVE_ANON)
        nr += zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_ACTIVE_ANON)
    if nr == 0 and not deviates(m, R17):
        nr = zone_page_state_snapshot(m, zone, NR_FREE_PAGES)
    return nr


@core(cold=True)
def compaction_zonelist_suitable(m: Machine, cpu: Cpu, ac: AllocContext, order: int, alloc_flags: int) -> bool:
    """``mm/compaction.c:compaction_zonelist_suitable() (5.10)``: would some zone do if a part of what can be reclaimed
    were free?"""
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        available = zone_reclaimable_pages(m, zone) // order
        available += zone_page_state_snapshot(m, zone, NR_FREE_PAGES)
        ret = __compaction_suitable(m, zone, order, alloc_flags, ac.highest_zoneidx, available)
        if ret != COMPACT_SKIPPED:
            return True
        z = next_zones_zonelist(m, cpu, ac, z + 1)
    return False
