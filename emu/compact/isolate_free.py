"""The free scanner: from the end of a zone backwards, free pages to migrate to (``mm/compaction.c`` (5.10))."""

from emu.compact.control import (
    COMPACT_CLUSTER_MAX, FREEPAGES, SPLIT, CompactControl, pageblock_end_pfn, pageblock_pfn_to_page,
    pageblock_start_pfn, zone_end_pfn,
)  # fmt: skip
from emu.compact.lock import compact_lock_irqsave, compact_should_abort
from emu.compact.skip import isolation_suitable, update_pageblock_skip
from emu.cpu.free import SWAP_CLUSTER_MAX, __free_pages
from emu.cpu.prep import alloc_debug
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import MIGRATE_ASYNC
from emu.zone.buddy import buddy_order
from emu.zone.event import EV_ISOLATE_FREE, EV_ISOLATE_FREEPAGES, record
from emu.zone.gfp import __GFP_MOVABLE
from emu.zone.irq import spin_unlock_irqrestore
from emu.zone.isolation import __isolate_free_page
from emu.zone.list import INIT_LIST_HEAD, link_of, list_add, list_add_tail, list_del, list_splice
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu, Machine, Zone, page_record,
    zone_at,
)  # fmt: skip
from emu.zone.types import ListHead
from emu.zone.page import NULL, PG_buddy, PageCompound, compound_order, link_to_pfn, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype, init_pageblocks
from emu.zone.page_ref import test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import COMPACTISOLATED
from shm.core import core
from shm.point import point, site

S_BLOCK = site("isolate_freepages_block:lock")
S_BUDDY = site("isolate_freepages_block:read PageBuddy")


@core
def is_migrate_movable(mt: int) -> bool:
    """``is_migrate_movable()``"""
    return mt == MIGRATE_MOVABLE or mt == MIGRATE_CMA


@core
def isolate_to(m: Machine, cpu: Cpu, cc: CompactControl, pfn: int, order: int) -> int:
    """A free block onto the list of free pages, its order in ``private``: pages taken, 0 if the watermark forbids."""
    zone = zone_at(m, cc.zone)
    isolated = __isolate_free_page(m, cpu, zone, pfn, order)
    if isolated == 0:
        return 0
    if order >= PAGEBLOCK_ORDER:
        init_pageblocks(m, zone, pfn, order)
    if cpu.trace != 0:
        record(m, cpu, EV_ISOLATE_FREE, pfn, order, get_pfnblock_migratetype(m, pfn), 0, 0, 0)
    page = page_record(m, pfn_to_page(m, pfn))
    page.private = order
    cc.nr_freepages += isolated
    list_add_tail(m, page.lru, cpu.scratch[FREEPAGES])
    return isolated


@core
def release_freepages(m: Machine, cpu: Cpu, freelist: ListHead) -> int:
    """``mm/compaction.c:release_freepages() (5.10)``: free what was not used; the highest pfn of it."""
    high_pfn = 0
    end = link_of(m, freelist)
    while freelist.next != end:
        pfn = link_to_pfn(m, freelist.next)
        list_del(m, page_record(m, pfn_to_page(m, pfn)).lru)
        __free_pages(m, cpu, pfn, 0)
        high_pfn = max(high_pfn, pfn)
    return high_pfn


@core
def split_map_pages(m: Machine, cpu: Cpu, freelist: ListHead) -> None:
    """``mm/compaction.c:split_map_pages() (5.10)``: isolated blocks become single pages with one reference each; they
    come to lie in reverse order."""
    pages = cpu.scratch[SPLIT]
    INIT_LIST_HEAD(m, pages)
    end = link_of(m, freelist)
    while freelist.next != end:
        first = link_to_pfn(m, freelist.next)
        head = page_record(m, pfn_to_page(m, first))
        list_del(m, head.lru)
        for pfn in range(first, first + (1 << head.private)):
            page = page_record(m, pfn_to_page(m, pfn))
            page.refcount = 1
            page.private = 0
            if m.page_debug != 0:
                alloc_debug(m, cpu, pfn, 0, __GFP_MOVABLE)
            list_add(m, page.lru, pages)
    list_splice(m, pages, freelist)


@core
def block_freepages(m: Machine, cpu: Cpu, cc: CompactControl, at: int, end_pfn: int, stride: int, strict: int) -> int:
    """The scan of ``isolate_freepages_block()`` from pfn ``at``: pages isolated | pages looked at << 32. Where it
    ended is in ``cc.scanned_to``."""
    zone = zone_at(m, cc.zone)
    nr_scanned = 0
    total = 0
    locked = False
    flags = 0
    while at < end_pfn:
        if at & (SWAP_CLUSTER_MAX - 1) == 0:
            if locked:
                spin_unlock_irqrestore(m, cpu, zone.lock, flags)
                locked = False
            if compact_should_abort(m, cpu, cc):
                break
        nr_scanned += 1
        page = page_record(m, pfn_to_page(m, at))
        free = False
        if PageCompound(page):
            order = compound_order(m, at)
            if order < MAX_ORDER:
                at += (1 << order) - 1
        else:
            point(cpu.party, S_BUDDY)
            free = test_flag(page, PG_buddy)
        if free and not locked:
            flags = compact_lock_irqsave(m, cpu, zone.lock, cc, S_BLOCK)
            locked = True
            free = test_flag(page, PG_buddy)
        if not free:
            if strict != 0:
                break
            at += stride
            continue
        isolated = isolate_to(m, cpu, cc, at, buddy_order(page))
        if isolated == 0:
            break
        total += isolated
        if strict == 0 and cc.nr_migratepages <= cc.nr_freepages:
            at += isolated
            break
        at += isolated - 1 + stride
    if locked:
        spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    cc.scanned_to = min(at, end_pfn)
    return total | nr_scanned << 32


@core
def isolate_freepages_block(
    m: Machine, cpu: Cpu, cc: CompactControl, start_pfn: int, end_pfn: int, stride: int, strict: int
) -> int:
    """``mm/compaction.c:isolate_freepages_block() (5.10)``: pages isolated within a pageblock; ``cc.scanned_to`` is
    how far it got. ``strict``: it ends at the first page that isn't free, and then the result is 0."""
    found = block_freepages(m, cpu, cc, start_pfn, end_pfn, stride, strict)
    total = found & 0xFFFFFFFF
    if cpu.trace != 0:
        record(m, cpu, EV_ISOLATE_FREEPAGES, start_pfn, 0, 0, 0, cc.scanned_to, found >> 32 | total << 32)
    if strict != 0 and cc.scanned_to < end_pfn:
        total = 0
    cc.total_free_scanned += found >> 32
    if total != 0:
        __count_vm_events(cpu, COMPACTISOLATED, total)
    return total


@core
def suitable_migration_target(m: Machine, cc: CompactControl, pfn: int) -> bool:
    """``mm/compaction.c:suitable_migration_target() (5.10)``: movable, and not free as a whole."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_buddy) and buddy_order(page) >= PAGEBLOCK_ORDER:
        return False
    return cc.ignore_block_suitable != 0 or is_migrate_movable(get_pfnblock_migratetype(m, pfn))


@core
def usable_target(m: Machine, cc: CompactControl, zone: Zone, block_start: int, block_end: int) -> bool:
    """Whether the free scanner looks into a pageblock."""
    pfn = pageblock_pfn_to_page(m, zone, block_start, block_end)
    return pfn != NULL and suitable_migration_target(m, cc, pfn) and isolation_suitable(m, cc, pfn)


@core
def linear_isolate_freepages(m: Machine, cpu: Cpu, cc: CompactControl) -> None:
    """The second half of ``isolate_freepages()``: pageblock by pageblock down to that of the migration scanner."""
    zone = zone_at(m, cc.zone)
    start_pfn = cc.free_pfn
    block_start = pageblock_start_pfn(start_pfn)
    block_end = min(block_start + PAGEBLOCK_NR_PAGES, zone_end_pfn(zone))
    low_pfn = pageblock_end_pfn(cc.migrate_pfn)
    stride = COMPACT_CLUSTER_MAX if cc.mode == MIGRATE_ASYNC else 1
    while block_start >= low_pfn:
        if block_start % (SWAP_CLUSTER_MAX * PAGEBLOCK_NR_PAGES) == 0:
            cond_resched(m, cpu)
        if usable_target(m, cc, zone, block_start, block_end):
            nr_isolated = isolate_freepages_block(m, cpu, cc, start_pfn, block_end, stride, 0)
            start_pfn = cc.scanned_to
            if start_pfn == block_end:
                update_pageblock_skip(m, cpu, cc, block_start, block_start)
            if cc.nr_freepages >= cc.nr_migratepages:
                if start_pfn >= block_end:
                    start_pfn = block_start - PAGEBLOCK_NR_PAGES
                break
            if start_pfn < block_end:
                break
            stride = 1 if nr_isolated != 0 else min(COMPACT_CLUSTER_MAX, stride << 1)
        block_end = block_start
        block_start -= PAGEBLOCK_NR_PAGES
        start_pfn = block_start
    cc.free_pfn = start_pfn
