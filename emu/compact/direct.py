"""Compaction for one's own allocation (``mm/compaction.c``, ``mm/page_alloc.c`` (5.10))."""

from emu.compact.compact_zone import compact_zone
from emu.compact.control import MIN_COMPACT_PRIORITY, compact_control, dying
from emu.compact.defer import compaction_defer_reset, compaction_deferred, defer_compaction
from emu.compact.suitable import compaction_zonelist_suitable
from emu.cpu.page_alloc import get_page_from_freelist
from emu.cpu.prep import prep_new_page
from emu.cpu.seams import (
    COMPACT_COMPLETE, COMPACT_CONTENDED, COMPACT_DEFERRED, COMPACT_PARTIAL_SKIPPED, COMPACT_SKIPPED, COMPACT_SUCCESS,
    __alloc_pages_direct_compact, should_compact_retry,
)  # fmt: skip
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import MIGRATE_ASYNC, MIGRATE_SYNC_LIGHT
from emu.zone.buddy import compaction_capture
from emu.zone.deviations import R19, deviates
from emu.zone.event import EV_COMPACT_RETRY, EV_TRY_TO_COMPACT_PAGES, record
from emu.zone.gfp import __GFP_IO, PAGE_ALLOC_COSTLY_ORDER, PF_KTHREAD, PF_MEMALLOC
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import (
    MIGRATE_CMA, MIGRATE_ISOLATE, MIGRATE_MOVABLE, PAGEBLOCK_ORDER, Cpu, Machine, Zone, page_record, zone_at,
)  # fmt: skip
from emu.zone.page import NULL, page_zone, pfn_to_page
from emu.zone.pageblock import init_pageblocks
from emu.zone.sched import task_at
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import COMPACTFAIL, COMPACTSTALL, COMPACTSUCCESS
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.atomic import address
from shm.core import core, implements
from shm.point import point, site

COMPACT_PRIO_SYNC_LIGHT = 1
COMPACT_PRIO_ASYNC = 2
MIN_COMPACT_COSTLY_PRIORITY = COMPACT_PRIO_SYNC_LIGHT
MAX_COMPACT_RETRIES = 16
S_SHOW = site("compact_zone_order:write capture_control")
S_HIDE = site("compact_zone_order:clear capture_control")


@implements(compaction_capture)
def __compaction_capture(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int, migratetype: int) -> bool:
    """``mm/page_alloc.c:task_capc()`` and ``compaction_capture() (5.10)``: the block that the current task compacts
    for, just before it would be listed. Not for kernel threads; smaller ones not from movable pageblocks."""
    if cpu.capture != address(zone) - address(m) or cpu.capture_page != 0 or order != cpu.capture_order:
        return False
    if task_at(m, cpu.current).process_flags & PF_KTHREAD != 0:
        return False
    if migratetype == MIGRATE_CMA or migratetype == MIGRATE_ISOLATE:
        return False
    if order < PAGEBLOCK_ORDER and migratetype == MIGRATE_MOVABLE:
        return False
    cpu.capture_page = pfn + 1
    return True


@core(cold=True)
def show_capture_control(m: Machine, cpu: Cpu, zone: int, order: int) -> None:
    """What is freed from here on may be captured, by interrupts as well: all of it has to be there first.

    Race R19 (b9e20f0da1f5): without a barrier the compiler sets the pointer before what it points to.
    """
    if deviates(m, R19):
        cpu.capture = zone
        point(cpu.party, S_SHOW)
    cpu.capture_page = 0
    cpu.capture_order = order
    cpu.capture = zone


@core(cold=True)
def hide_capture_control(m: Machine, cpu: Cpu) -> None:
    """Nothing is captured any more; what was before is in ``cpu.capture_page``.

    Race R19: the captured page was read first, and one that an interrupt captured between the two was lost.
    """
    captured = cpu.capture_page
    point(cpu.party, S_HIDE)
    cpu.capture = 0
    if deviates(m, R19):
        cpu.capture_page = captured


@core(cold=True)
def compact_zone_order(
    m: Machine, cpu: Cpu, zone: Zone, order: int, gfp_mask: int, prio: int, alloc_flags: int, highest_zoneidx: int
) -> int:
    """``mm/compaction.c:compact_zone_order() (5.10)``: COMPACT_*; a captured page is in ``cpu.capture_page``."""
    cc = compact_control()
    cc.order = order
    cc.search_order = order
    cc.gfp_mask = gfp_mask
    cc.zone = address(zone) - address(m)
    cc.mode = MIGRATE_ASYNC if prio == COMPACT_PRIO_ASYNC else MIGRATE_SYNC_LIGHT
    cc.alloc_flags = alloc_flags
    cc.highest_zoneidx = highest_zoneidx
    cc.direct_compaction = 1
    cc.whole_zone = 1 if prio == MIN_COMPACT_PRIORITY else 0
    cc.ignore_skip_hint = cc.whole_zone
    cc.ignore_block_suitable = cc.whole_zone
    show_capture_control(m, cpu, cc.zone, order)
    ret = compact_zone(m, cpu, cc)
    hide_capture_control(m, cpu)
    return ret


@core(cold=True)
def try_to_compact_pages(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, prio: int
) -> int:
    """``mm/compaction.c:try_to_compact_pages() (5.10.262)``: zone by zone until one is done: the best COMPACT_*.

    Differs from 5.10: asynchronous compaction doesn't end after a zone because another task wants this CPU
    (``need_resched()``): every task here has a processor of its own.
    """
    rc = COMPACT_SKIPPED
    cpu.capture_page = 0
    if gfp_mask & __GFP_IO == 0:
        return COMPACT_SKIPPED
    if cpu.trace != 0:
        record(m, cpu, EV_TRY_TO_COMPACT_PAGES, -1, order, 0, gfp_mask, prio, 0)
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        z = next_zones_zonelist(m, cpu, ac, z + 1)
        if prio > MIN_COMPACT_PRIORITY and compaction_deferred(m, cpu, zone, order):
            rc = max(COMPACT_DEFERRED, rc)
            continue
        status = compact_zone_order(m, cpu, zone, order, gfp_mask, prio, alloc_flags, ac.highest_zoneidx)
        rc = max(status, rc)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(m, cpu, zone, order, 0)
            break
        if prio != COMPACT_PRIO_ASYNC and (status == COMPACT_COMPLETE or status == COMPACT_PARTIAL_SKIPPED):
            defer_compaction(m, cpu, zone, order)
        if dying(m, cpu):
            break
    return rc


@core(cold=True)
def take_captured(m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int) -> int:
    """A captured page made ready for use, or NULL."""
    pfn = cpu.capture_page - 1
    if pfn == NULL:
        return NULL
    cpu.capture_page = 0
    if order >= PAGEBLOCK_ORDER:
        init_pageblocks(m, zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn)))), pfn, order)
    prep_new_page(m, cpu, pfn, order, gfp_mask, alloc_flags)
    return pfn


@implements(__alloc_pages_direct_compact)
def alloc_pages_direct_compact(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, priority: int
) -> int:
    """``mm/page_alloc.c:__alloc_pages_direct_compact() (5.10)``: compact, then the captured page or another try."""
    if order == 0:
        return NULL
    task = task_at(m, cpu.current)
    before = task.process_flags & PF_MEMALLOC
    task.process_flags |= PF_MEMALLOC
    ac.compact_result = try_to_compact_pages(m, cpu, gfp_mask, order, alloc_flags, ac, priority)
    if before == 0:
        task.process_flags &= ~PF_MEMALLOC
    __count_vm_events(cpu, COMPACTSTALL, 1)
    pfn = take_captured(m, cpu, gfp_mask, order, alloc_flags)
    if pfn == NULL:
        pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    if pfn != NULL:
        zone = zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn))))
        zone.compact.blockskip_flush = 0
        compaction_defer_reset(m, cpu, zone, order, 1)
        __count_vm_events(cpu, COMPACTSUCCESS, 1)
        return pfn
    __count_vm_events(cpu, COMPACTFAIL, 1)
    cond_resched(m, cpu)
    return NULL


@core(cold=True)
def raise_priority(ac: AllocContext, order: int) -> bool:
    """The label ``check_priority``: once more, and harder; false at the highest priority for this order."""
    least = MIN_COMPACT_COSTLY_PRIORITY if order > PAGE_ALLOC_COSTLY_ORDER else MIN_COMPACT_PRIORITY
    if ac.compact_priority <= least:
        return False
    ac.compact_priority -= 1
    ac.compaction_retries = 0
    return True


@core(cold=True)
def worth_another_try(
    m: Machine, cpu: Cpu, ac: AllocContext, order: int, alloc_flags: int, result: int, max_retries: int
) -> bool:
    """What ``should_compact_retry()`` decides from a result: after reclaim if memory was short, at a higher priority
    after a whole pass or a withdrawal, and a number of times after success."""
    if result == COMPACT_COMPLETE:
        return raise_priority(ac, order)
    if result == COMPACT_SKIPPED:
        return compaction_zonelist_suitable(m, cpu, ac, order, alloc_flags)
    if result == COMPACT_DEFERRED or result == COMPACT_CONTENDED or result == COMPACT_PARTIAL_SKIPPED:
        return raise_priority(ac, order)
    return ac.compaction_retries <= max_retries or raise_priority(ac, order)


@implements(should_compact_retry)
def __should_compact_retry(m: Machine, cpu: Cpu, ac: AllocContext, order: int, alloc_flags: int) -> bool:
    """``mm/page_alloc.c:should_compact_retry() (5.10)``"""
    if order == 0:
        return False
    result = ac.compact_result
    priority = ac.compact_priority
    retries = ac.compaction_retries
    max_retries = MAX_COMPACT_RETRIES
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    if result == COMPACT_SUCCESS:
        ac.compaction_retries += 1
        if costly:
            max_retries //= 4
    ret = worth_another_try(m, cpu, ac, order, alloc_flags, result, max_retries)
    if cpu.trace != 0:
        how = priority | result << 8 | (1 << 16 if ret else 0)
        record(m, cpu, EV_COMPACT_RETRY, -1, order, 0, 0, how, retries | max_retries << 32)
    return ret
