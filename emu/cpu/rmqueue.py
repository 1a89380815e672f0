"""One zone's allocator: pcp lists for order 0, the buddy lists for the rest (``mm/page_alloc.c:rmqueue() (5.10)``)."""

from emu.cpu.pageset import from_highatomic, rmqueue_pcplist
from emu.zone.bad_page import check_new_pages
from emu.zone.buddy import rmqueue_traced
from emu.zone.deviations import R9B, R11, R24, deviates
from emu.zone.event import WARN_NOFAIL_ORDER, warn_on_once
from emu.zone.fallback import __rmqueue
from emu.zone.gfp import __GFP_NOFAIL, ALLOC_CMA, ALLOC_HARDER, ALLOC_KSWAPD
from emu.zone.irq import local_irq_restore, spin_lock_irqsave
from emu.zone.kswapd_wake import wakeup_kswapd
from emu.zone.mmzone import MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, ZONE_BOOSTED_WATERMARK, Cpu, Machine, Zone, page_record
from emu.zone.page import NULL, pfn_to_page
from emu.zone.vmstat import __count_vm_events, __mod_zone_freepage_state, zone_statistics
from emu.zone.vmstat_items import PGALLOC
from emu.zone.watermark import pages_above_mark
from shm.atomic import fetch_and
from shm.core import core
from shm.point import point, site
from shm.spinlock import spin_unlock

S_RMQUEUE = site("rmqueue:lock")
S_TAKEN = site("rmqueue:taken")
S_BOOSTED = site("rmqueue:clear ZONE_BOOSTED_WATERMARK")
_NOT_BOOSTED = 0xFFFFFFFF - ZONE_BOOSTED_WATERMARK


@core(inline=True)
def count_block_taken(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int) -> None:
    """NR_FREE_PAGES, by the type of the list that the block was on."""
    index = page_record(m, pfn_to_page(m, pfn)).index
    __mod_zone_freepage_state(m, cpu, zone, -(1 << order), index)


@core(cold=True)
def rmqueue_buddy(
    m: Machine,
    cpu: Cpu,
    preferred_zone: Zone,
    zone: Zone,
    order: int,
    gfp_flags: int,
    alloc_flags: int,
    migratetype: int,
) -> int:
    """The part of ``rmqueue()`` under the zone lock: HIGHATOMIC first for ALLOC_HARDER, bad blocks skipped.

    Race R24: the watermark was looked at without the lock, so several CPUs may pass it with the same free pages. Its
    remedy asks once more under the lock, of the true number: all CPUs' differentials with it, and a block is counted
    before the lock is given back and not afterwards. No kernel does that.
    """
    if gfp_flags & __GFP_NOFAIL != 0 and order > 1:
        warn_on_once(m, cpu, WARN_NOFAIL_ORDER, gfp_flags, order)
    flags = spin_lock_irqsave(cpu, zone.lock, S_RMQUEUE)
    while True:
        pfn = NULL
        if deviates(m, R24) and pages_above_mark(m, zone, alloc_flags) < 1 << order:
            break
        if order > 0 and alloc_flags & ALLOC_HARDER != 0:
            pfn = rmqueue_traced(m, cpu, zone, order, MIGRATE_HIGHATOMIC, migratetype)
        if pfn == NULL:
            pfn = __rmqueue(m, cpu, zone, order, migratetype, alloc_flags)
        if pfn == NULL:
            pfn = from_highatomic(m, cpu, zone, order, migratetype, alloc_flags)
        if pfn == NULL or not check_new_pages(m, cpu, pfn, order):
            break
    counted = deviates(m, R24)
    if pfn != NULL and counted:
        count_block_taken(m, cpu, zone, pfn, order)
    spin_unlock(cpu.party, zone.lock)
    point(cpu.party, S_TAKEN)
    if pfn != NULL:
        if not counted:
            count_block_taken(m, cpu, zone, pfn, order)
        __count_vm_events(cpu, PGALLOC + zone.zid, 1 << order)
        zone_statistics(m, cpu, preferred_zone, zone)
    local_irq_restore(m, cpu, flags)
    return pfn


@core(cold=True)
def wake_for_boost(m: Machine, cpu: Cpu, zone: Zone, alloc_flags: int) -> None:
    """A pageblock was stolen: clear the zone's request and wake kswapd, outside the zone lock.

    Test and clear are two steps, so another CPU may have cleared the bit in between; kswapd is then woken twice. To
    clear it first makes sure (R9b) that a request from the clearing on is answered by whoever made it.

    To wake first and clear afterwards is a bug that no kernel had: it shows what the order is for (R9b).

    It needn't be the caller's own steal. R11's remedy: who mustn't wake kswapd leaves that to others.
    """
    if deviates(m, R11) and alloc_flags & ALLOC_KSWAPD == 0:
        return
    if deviates(m, R9B):
        wakeup_kswapd(m, cpu, zone, 0, 0, zone.zid)
        point(cpu.party, S_BOOSTED)
        fetch_and(zone, "zone_flags", _NOT_BOOSTED)
        return
    point(cpu.party, S_BOOSTED)
    fetch_and(zone, "zone_flags", _NOT_BOOSTED)
    wakeup_kswapd(m, cpu, zone, 0, 0, zone.zid)


@core(inline=True)
def rmqueue(
    m: Machine,
    cpu: Cpu,
    preferred_zone: Zone,
    zone: Zone,
    order: int,
    gfp_flags: int,
    alloc_flags: int,
    migratetype: int,
    plain: int,
) -> int:
    """``mm/page_alloc.c:rmqueue() (5.10)``: a block from this zone, or NULL.

    Movable order-0 requests that may not use CMA pages bypass the pcp list, which may hold some. ``plain``:
    see :func:`emu.cpu.pageset.__rmqueue_pcplist`.
    """
    if order == 0 and (m.cma_enabled == 0 or alloc_flags & ALLOC_CMA != 0 or migratetype != MIGRATE_MOVABLE):
        pfn = rmqueue_pcplist(m, cpu, preferred_zone, zone, migratetype, alloc_flags, plain)
    else:
        pfn = rmqueue_buddy(m, cpu, preferred_zone, zone, order, gfp_flags, alloc_flags, migratetype)
        if pfn == NULL:
            return NULL
    if zone.zone_flags & ZONE_BOOSTED_WATERMARK != 0:
        wake_for_boost(m, cpu, zone, alloc_flags)
    return pfn
