"""Contiguous ranges of pages, emptied if need be (``mm/page_alloc.c:alloc_contig_range()`` and what it is for
(5.10.262)).

The pageblocks of the range are isolated, what is in use there migrates away, and the free pages are taken out of the
buddy lists; each of them then is a page of its own with one reference.
"""

from emu.cpu.free import __free_pages
from emu.cpu.prep import prep_new_page
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import (
    MIGRATE_SYNC, MR_CONTIG_RANGE, TARGET_ALLOC, MigrateTarget, migrate_pages, migrate_prep, putback_movable_pages,
)  # fmt: skip
from emu.mm.migrate_range import GFP_TARGET, SOURCE, isolate_for_offline
from emu.mm.movable import __PageMovable
from emu.mm.page_isolation import start_isolate_page_range, test_pages_isolated, undo_isolate_page_range
from emu.mm.pagevec import lru_add_drain_all
from emu.zone.buddy import buddy_order
from emu.zone.gfp import __GFP_MOVABLE, gfp_zone
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.isolation import __isolate_free_page
from emu.zone.list import INIT_LIST_HEAD, list_empty
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_MOVABLE, PAGEBLOCK_ORDER, Cpu, Machine, Zone, page_record, zone_at,
    zonelist_at,
)  # fmt: skip
from emu.zone.online import pfn_to_online_zone
from emu.zone.page import NULL, PG_buddy, PG_lru, PG_reserved, pfn_to_page
from emu.zone.pageblock import init_pageblocks
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.zonelist import node_zonelist
from shm.core import OnStack, core, entry, seam
from shm.point import site

EINTR = 4
EBUSY = 16
COMPACT_CLUSTER_MAX = 32
MIGRATE_TRIES = 5
S_GRAB = site("isolate_freepages_range:lock")
S_SCAN = site("alloc_contig_pages:lock")
migrate_target = OnStack(MigrateTarget)


@seam
def reclaim_clean_pages(m: Machine, cpu: Cpu, zone: Zone, which: int) -> int:
    """``mm/vmscan.c:reclaim_clean_pages_from_list() (5.10)``: clean page cache on the list ``cpu.scratch[which]`` can
    go instead of migrating. Its body is in ``emu.reclaim``; where nobody reclaims, 0 pages do."""
    return 0


@core(cold=True)
def isolate_some(m: Machine, cpu: Cpu, start_pfn: int, end_pfn: int) -> int:
    """``mm/compaction.c:isolate_migratepages_range() (5.10)``: up to 32 pages of the range onto the list of pages to
    migrate. Returns where it stopped."""
    isolated = 0
    pfn = start_pfn
    while pfn < end_pfn and isolated < COMPACT_CLUSTER_MAX:
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy != 0:
            pfn += 1 << min(max(buddy_order(page), 0), MAX_ORDER - 1)  # read without a lock
            continue
        if page.page_flags & PG_lru != 0 or __PageMovable(page):
            isolated += 1 if isolate_for_offline(m, cpu, pfn) else 0
        pfn += 1
    return pfn


@core(cold=True)
def __alloc_contig_migrate_range(m: Machine, cpu: Cpu, zone: Zone, start: int, end: int) -> int:
    """``mm/page_alloc.c:__alloc_contig_migrate_range() (5.10)``: 0, -EBUSY after five attempts at the same pages, or
    -EINTR. New pages are of the same node if it has any."""
    head = cpu.scratch[SOURCE]
    INIT_LIST_HEAD(m, head)
    target = migrate_target()
    target.kind = TARGET_ALLOC
    target.nid = zone.node
    target.gfp_mask = GFP_TARGET
    target.nmask = 0
    migrate_prep(m, cpu)
    pfn = start
    tries = 0
    ret = 0
    while pfn < end or not list_empty(m, head):
        if fatal_signal_pending(task_at(m, cpu.current)) or not cond_resched(m, cpu):
            ret = -EINTR
            break
        if list_empty(m, head):
            pfn = isolate_some(m, cpu, pfn, end)
            tries = 0
        else:
            tries += 1
            if tries == MIGRATE_TRIES:
                ret = ret if ret < 0 else -EBUSY
                break
        reclaim_clean_pages(m, cpu, zone, SOURCE)
        ret = migrate_pages(m, cpu, head, target, MIGRATE_SYNC, MR_CONTIG_RANGE)
    if ret >= 0:
        return 0
    putback_movable_pages(m, cpu, head)
    return ret


@core(cold=True)
def outer_start_of(m: Machine, start: int) -> int:
    """Where the free block that contains ``start`` begins; ``start`` itself if it is in none."""
    order = 0
    outer = start
    while page_record(m, pfn_to_page(m, outer)).page_flags & PG_buddy == 0:
        order += 1
        if order >= MAX_ORDER:
            return start
        outer &= -1 << order
    if outer != start and outer + (1 << buddy_order(page_record(m, pfn_to_page(m, outer)))) <= start:
        return start
    return outer


@core(cold=True)
def isolate_freepages_range(m: Machine, cpu: Cpu, zone: Zone, start: int, end: int) -> int:
    """``mm/compaction.c:isolate_freepages_range() (5.10)``: take all free blocks of an isolated range, as single pages.

    Returns one past the last page taken, which may lie beyond ``end``; 0 if a page wasn't free: then nothing is kept.
    Differs from 5.10: the zone lock is held for the range, not anew for each pageblock.
    """
    pfn = start
    flags = spin_lock_irqsave(cpu, zone.lock, S_GRAB)
    while pfn < end:
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy == 0:
            break
        order = buddy_order(page)
        __isolate_free_page(m, cpu, zone, pfn, order)
        if order >= PAGEBLOCK_ORDER:
            init_pageblocks(m, zone, pfn, order)
        pfn += 1 << order
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    for at in range(start, pfn):
        prep_new_page(m, cpu, at, 0, __GFP_MOVABLE, 0)
    vm_at(m, m.vm).pgfree_surplus += pfn - start
    if pfn < end:
        free_contig_range(m, cpu, start, pfn - start)
        return 0
    return pfn


@core(cold=True)
def take_range(m: Machine, cpu: Cpu, zone: Zone, start: int, end: int) -> int:
    """The second half of ``alloc_contig_range()``: the range is isolated, and empty if that could be: 0 or -EBUSY."""
    lru_add_drain_all(m, cpu)
    outer_start = outer_start_of(m, start)
    if test_pages_isolated(m, cpu, outer_start, end, 0) != 0:
        return -EBUSY
    outer_end = isolate_freepages_range(m, cpu, zone, outer_start, end)
    if outer_end == 0:
        return -EBUSY
    if start != outer_start:
        free_contig_range(m, cpu, outer_start, start - outer_start)
    if end != outer_end:
        free_contig_range(m, cpu, end, outer_end - end)
    return 0


@entry
def alloc_contig_range(m: Machine, cpu: Cpu, start: int, end: int, migratetype: int) -> int:
    """``mm/page_alloc.c:alloc_contig_range() (5.10.262)``: 0 if all pages of the range are the caller's; -EBUSY or
    -EINTR. ``migratetype`` is that of its pageblocks: MIGRATE_MOVABLE or MIGRATE_CMA.

    Isolation covers whole blocks of the largest order around the range, so that nothing merges across its ends. Busy
    pages may have come free after all, hence only the test after the migration decides.
    """
    first = start & -MAX_ORDER_NR_PAGES
    last = -(-end // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
    zone_offset = pfn_to_online_zone(m, start)
    if zone_offset == 0 or last > m.max_pfn:
        return -EBUSY
    zone = zone_at(m, zone_offset)
    if start_isolate_page_range(m, cpu, first, last, migratetype, 0) != 0:
        return -EBUSY
    ret = __alloc_contig_migrate_range(m, cpu, zone, start, end)
    if ret == 0 or ret == -EBUSY:
        ret = take_range(m, cpu, zone, start, end)
    undo_isolate_page_range(m, cpu, first, last, migratetype)
    return ret


@entry
def free_contig_range(m: Machine, cpu: Cpu, pfn: int, nr_pages: int) -> None:
    """``mm/page_alloc.c:free_contig_range() (5.10)``: page by page."""
    for at in range(pfn, pfn + nr_pages):
        __free_pages(m, cpu, at, 0)


@core(cold=True)
def pfn_range_valid_contig(m: Machine, zone_offset: int, start_pfn: int, nr_pages: int) -> bool:
    """``mm/page_alloc.c:pfn_range_valid_contig() (5.10.262)``: online, of the zone, neither reserved nor in use."""
    for pfn in range(start_pfn, start_pfn + nr_pages):
        if pfn_to_online_zone(m, pfn) != zone_offset:
            return False
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_reserved != 0 or page.refcount > 0:
            return False
    return True


@core(cold=True)
def alloc_contig_in_zone(m: Machine, cpu: Cpu, zone_offset: int, nr_pages: int) -> int:
    """The first range of a zone that can be had, aligned to its size, or NULL."""
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_SCAN)
    pfn = (zone.zone_start_pfn + nr_pages - 1) & -nr_pages
    while pfn + nr_pages <= zone.zone_start_pfn + zone.spanned_pages:
        if pfn_range_valid_contig(m, zone_offset, pfn, nr_pages):
            # who waits for the lock now may take a page of it: then the range fails, and the next one is tried
            spin_unlock_irqrestore(m, cpu, zone.lock, flags)
            if alloc_contig_range(m, cpu, pfn, pfn + nr_pages, MIGRATE_MOVABLE) == 0:
                return pfn
            flags = spin_lock_irqsave(cpu, zone.lock, S_SCAN)
        pfn += nr_pages
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    return NULL


@entry
def alloc_contig_pages(m: Machine, cpu: Cpu, nr_pages: int, gfp_mask: int, nid: int, nodemask: int) -> int:
    """``mm/page_alloc.c:alloc_contig_pages() (5.10)``: first pfn of free pages in a row, aligned to their number if it
    is a power of two, or NULL. ``nodemask`` 0: any node."""
    zonelist = zonelist_at(m, node_zonelist(m, nid, gfp_mask))
    z = 0
    while zonelist.zonerefs[z].zone != 0:
        ref = zonelist.zonerefs[z]
        z += 1
        if ref.zone_idx > gfp_zone(gfp_mask) or (nodemask != 0 and nodemask >> ref.node & 1 == 0):
            continue
        pfn = alloc_contig_in_zone(m, cpu, ref.zone, nr_pages)
        if pfn != NULL:
            return pfn
    return NULL
