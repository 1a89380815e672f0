"""Contiguous ranges of pages, emptied if need be (``mm/page_alloc.c:alloc_contig_range()`` and what it is for
(5.10.262)).

The pageblocks of the range are isolated, what is in use there migrates away, and the free pages are taken out of the
buddy lists; each of them then is a page of its own with one reference.
"""

from emu.compact.control import (
    COMPACT_CLUSTER_MAX, FREEPAGES, MIGRATEPAGES, CompactControl, compact_control, dying, pageblock_end_pfn,
    pageblock_pfn_to_page, pageblock_start_pfn,
)  # fmt: skip
from emu.compact.isolate_free import isolate_freepages_block, release_freepages, split_map_pages
from emu.compact.isolate_migrate import isolate_migratepages_block
from emu.cpu.free import __free_pages
from emu.cpu.task import current_gfp_context
from emu.mm.isolate_lru import ISOLATE_UNEVICTABLE
from emu.mm.migrate import (
    MIGRATE_SYNC, MR_CONTIG_RANGE, TARGET_ALLOC, migrate_pages, migrate_prep, putback_movable_pages,
)  # fmt: skip
from emu.mm.migrate_range import GFP_TARGET
from emu.mm.page_isolation import (
    compound_head, start_isolate_page_range, test_pages_isolated, undo_isolate_page_range,
)  # fmt: skip
from emu.mm.pagevec import lru_add_drain_all
from emu.zone.buddy import buddy_order
from emu.zone.gfp import gfp_zone
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD, list_empty
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, Cpu, Machine, Zone, page_record, zone_at,
    zonelist_at,
)  # fmt: skip
from emu.zone.online import pfn_to_online_zone
from emu.zone.page import NULL, PG_buddy, PG_reserved, pfn_to_page
from emu.zone.page_ref import page_count
from emu.zone.sched import task_at
from emu.zone.zonelist import node_zonelist
from shm.core import core, entry, seam
from shm.point import site

EINTR = 4
EBUSY = 16
MIGRATE_TRIES = 5
S_SCAN = site("alloc_contig_pages:lock")


@seam
def reclaim_clean_pages(m: Machine, cpu: Cpu, zone: Zone, which: int) -> int:
    """``mm/vmscan.c:reclaim_clean_pages_from_list() (5.10)``: clean page cache on the list ``cpu.scratch[which]`` can
    go instead of migrating. Its body is in ``emu.reclaim``; where nobody reclaims, 0 pages do."""
    return 0


@core(cold=True)
def isolate_migratepages_range(m: Machine, cpu: Cpu, cc: CompactControl, start_pfn: int, end_pfn: int) -> int:
    """``mm/compaction.c:isolate_migratepages_range() (5.10)``: pages of the range, block by block until there are 32,
    onto the list of those to be migrated. Where it stopped; 0 to give up."""
    zone = zone_at(m, cc.zone)
    pfn = start_pfn
    block_start = max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
    block_end = pageblock_end_pfn(pfn)
    while pfn < end_pfn:
        block_end = min(block_end, end_pfn)
        if pageblock_pfn_to_page(m, zone, block_start, block_end) != NULL:
            pfn = isolate_migratepages_block(m, cpu, cc, pfn, block_end, ISOLATE_UNEVICTABLE)
            if pfn == 0 or cc.nr_migratepages >= COMPACT_CLUSTER_MAX:
                break
        pfn = block_end
        block_start = block_end
        block_end += PAGEBLOCK_NR_PAGES
    return pfn


@core(cold=True)
def __alloc_contig_migrate_range(m: Machine, cpu: Cpu, cc: CompactControl, start: int, end: int) -> int:
    """``mm/page_alloc.c:__alloc_contig_migrate_range() (5.10)``: 0, -EBUSY after five attempts at the same pages, or
    -EINTR. New pages are of the same node if it has any."""
    head = cpu.scratch[MIGRATEPAGES]
    zone = zone_at(m, cc.zone)
    cc.target.kind = TARGET_ALLOC
    cc.target.nid = zone.node
    cc.target.gfp_mask = GFP_TARGET
    migrate_prep(m, cpu)
    pfn = start
    tries = 0
    ret = 0
    while pfn < end or not list_empty(m, head):
        if dying(m, cpu):
            ret = -EINTR
            break
        if list_empty(m, head):
            cc.nr_migratepages = 0
            pfn = isolate_migratepages_range(m, cpu, cc, pfn, end)
            if pfn == 0:
                ret = -EINTR
                break
            tries = 0
        else:
            tries += 1
            if tries == MIGRATE_TRIES:
                ret = ret if ret < 0 else -EBUSY
                break
        cc.nr_migratepages -= reclaim_clean_pages(m, cpu, zone, MIGRATEPAGES)
        ret = migrate_pages(m, cpu, head, cc.target, cc.mode, MR_CONTIG_RANGE)
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
def isolate_freepages_range(m: Machine, cpu: Cpu, cc: CompactControl, start_pfn: int, end_pfn: int) -> int:
    """``mm/compaction.c:isolate_freepages_range() (5.10)``: take all free blocks of an isolated range, as single pages.

    Returns one past the last page taken, which may lie beyond the end; 0 if a page wasn't free: then nothing is kept.
    """
    zone = zone_at(m, cc.zone)
    freelist = cpu.scratch[FREEPAGES]
    INIT_LIST_HEAD(m, freelist)
    pfn = start_pfn
    block_start = max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
    block_end = pageblock_end_pfn(pfn)
    while pfn < end_pfn:
        block_end = min(block_end, end_pfn)
        if pfn >= block_end:  # the last free block was larger than a pageblock
            block_start = pageblock_start_pfn(pfn)
            block_end = min(pageblock_end_pfn(pfn), end_pfn)
        if pageblock_pfn_to_page(m, zone, block_start, block_end) == NULL:
            break
        isolated = isolate_freepages_block(m, cpu, cc, pfn, block_end, 1, 1)
        if isolated == 0:
            break
        pfn += isolated
        block_start = block_end
        block_end += PAGEBLOCK_NR_PAGES
    split_map_pages(m, cpu, freelist)
    vm_at(m, m.vm).pgfree_surplus += cc.nr_freepages
    if pfn < end_pfn:
        release_freepages(m, cpu, freelist)
        return 0
    return pfn


@core(cold=True)
def take_range(m: Machine, cpu: Cpu, cc: CompactControl, start: int, end: int) -> int:
    """The second half of ``alloc_contig_range()``: the range is isolated, and empty if that could be: 0 or -EBUSY."""
    lru_add_drain_all(m, cpu)
    outer_start = outer_start_of(m, start)
    if test_pages_isolated(m, cpu, outer_start, end, 0) != 0:
        return -EBUSY
    outer_end = isolate_freepages_range(m, cpu, cc, outer_start, end)
    if outer_end == 0:
        return -EBUSY
    if start != outer_start:
        free_contig_range(m, cpu, outer_start, start - outer_start)
    if end != outer_end:
        free_contig_range(m, cpu, end, outer_end - end)
    return 0


@entry
def alloc_contig_range(m: Machine, cpu: Cpu, start: int, end: int, migratetype: int, gfp_mask: int) -> int:
    """``mm/page_alloc.c:alloc_contig_range() (5.10.262)``: 0 if all pages of the range are the caller's; -EBUSY or
    -EINTR. ``migratetype`` is that of its pageblocks: MIGRATE_MOVABLE or MIGRATE_CMA; without ``__GFP_FS`` in
    ``gfp_mask`` pages of files stay where they are.

    Isolation covers whole blocks of the largest order around the range, so that nothing merges across its ends. Busy
    pages may have come free after all, hence only the test after the migration decides.
    """
    first = start & -MAX_ORDER_NR_PAGES
    last = -(-end // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
    zone_offset = pfn_to_online_zone(m, start)
    if zone_offset == 0 or last > m.max_pfn:
        return -EBUSY
    cc = compact_control()
    cc.order = -1
    cc.zone = zone_offset
    cc.mode = MIGRATE_SYNC
    cc.ignore_skip_hint = 1
    cc.no_set_skip_hint = 1
    cc.gfp_mask = current_gfp_context(task_at(m, cpu.current), gfp_mask)
    cc.alloc_contig = 1
    INIT_LIST_HEAD(m, cpu.scratch[MIGRATEPAGES])
    if start_isolate_page_range(m, cpu, first, last, migratetype, 0) != 0:
        return -EBUSY
    ret = __alloc_contig_migrate_range(m, cpu, cc, start, end)
    if ret == 0 or ret == -EBUSY:
        ret = take_range(m, cpu, cc, start, end)
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
        if page.page_flags & PG_reserved != 0:
            return False
        if page_count(page_record(m, pfn_to_page(m, compound_head(m, pfn)))) > 0:
            return False
    return True


@core(cold=True)
def alloc_contig_in_zone(m: Machine, cpu: Cpu, zone_offset: int, nr_pages: int, gfp_mask: int) -> int:
    """The first range of a zone that can be had, aligned to its size, or NULL."""
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_SCAN)
    pfn = (zone.zone_start_pfn + nr_pages - 1) & -nr_pages
    while pfn + nr_pages <= zone.zone_start_pfn + zone.spanned_pages:
        if pfn_range_valid_contig(m, zone_offset, pfn, nr_pages):
            # who waits for the lock now may take a page of it: then the range fails, and the next one is tried
            spin_unlock_irqrestore(m, cpu, zone.lock, flags)
            if alloc_contig_range(m, cpu, pfn, pfn + nr_pages, MIGRATE_MOVABLE, gfp_mask) == 0:
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
        pfn = alloc_contig_in_zone(m, cpu, ref.zone, nr_pages, gfp_mask)
        if pfn != NULL:
            return pfn
    return NULL
