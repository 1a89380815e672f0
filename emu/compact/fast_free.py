"""The free scanner's shortcut: free pages far up in the zone, found on the free lists (``mm/compaction.c`` (5.10))."""

from emu.compact.control import (
    COMPACT_CLUSTER_MAX, FREEPAGES, CompactControl, compact_control_of, pageblock_end_pfn, pageblock_pfn_to_page,
    pageblock_start_pfn, pfn_to_online_page, set_pageblock_skip, zone_end_pfn,
)  # fmt: skip
from emu.compact.isolate_free import isolate_freepages_block, isolate_to, linear_isolate_freepages, split_map_pages
from emu.mm.migrate import MIGRATE_ASYNC, MigrateTarget, compaction_alloc, compaction_free
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.isolation import move_freelist_head
from emu.zone.list import link_of, list_add, list_del, list_empty
from emu.zone.mmzone import MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, Cpu, Machine, page_record, zone_at
from emu.zone.page import NULL, link_to_pfn, pfn_to_page
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import COMPACTISOLATED
from shm.core import OnStack, core, implements
from shm.point import site
from shm.struct import Struct, i64, struct

S_SEARCH = site("fast_isolate_freepages:lock")
SHIFT_MOST = 63
BEYOND = 1 << 62  # above every pfn


@struct
class FastSearch(Struct):
    """The local variables of ``fast_isolate_freepages()``."""

    limit: int = i64()  # entries to look at on a list
    low_pfn: int = i64()  # from here on a page is as good as any
    min_pfn: int = i64()  # from here on it will do
    highest: int = i64()  # start of the highest pageblock seen
    nr_scanned: int = i64()
    exhausted: int = i64()  # as many entries were looked at as the limit allows
    failed: int = i64()  # a page was found, but isolating it failed


fast_search = OnStack(FastSearch)


@core
def freelist_scan_limit(cc: CompactControl) -> int:
    """``freelist_scan_limit()``: less with every search that found nothing."""
    return (COMPACT_CLUSTER_MAX >> min(SHIFT_MOST, cc.fast_search_fail)) + 1


@core
def next_search_order(cc: CompactControl, order: int) -> int:
    """``mm/compaction.c:next_search_order() (5.10)``: round robin over the orders below the one wanted; -1 at the end
    of the round, which moves the start for the next one."""
    order -= 1
    if order < 0:
        order = cc.order - 1
    if order == cc.search_order:
        cc.search_order -= 1
        if cc.search_order < 0:
            cc.search_order = cc.order - 1
        return -1
    return order


@core
def scan_free_list(m: Machine, cc: CompactControl, s: FastSearch, order: int) -> int:
    """Look at a free list from its tail on: a page to take, or NULL. What was looked at goes to its head's side, so
    that the next search sees others. The zone lock is held.

    With a candidate the search gets shorter by half; the limit starts at 0 or 1, so that it usually is one page.
    """
    zone = zone_at(m, cc.zone)
    freelist = zone.free_area[order].free_list[MIGRATE_MOVABLE]
    end = link_of(m, freelist)
    link = freelist.prev
    found = NULL
    high_pfn = 0
    scanned = 0
    while link != end:
        scanned += 1
        s.nr_scanned += 1
        pfn = link_to_pfn(m, link)
        if pfn >= s.highest:
            s.highest = max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
        if pfn >= s.low_pfn:
            cc.fast_search_fail = 0
            cc.search_order = order
            found = pfn
            break
        if pfn >= s.min_pfn and pfn > high_pfn:
            high_pfn = pfn
            s.limit = s.limit >> 1
        if scanned >= s.limit:
            break
        link = page_record(m, pfn_to_page(m, pfn)).lru.prev
    if found == NULL and high_pfn != 0:
        found = high_pfn
    if found != NULL:
        move_freelist_head(m, freelist, page_record(m, pfn_to_page(m, found)))
    elif link != end:
        move_freelist_head(m, freelist, page_record(m, pfn_to_page(m, link_to_pfn(m, link))))
    s.exhausted = 1 if scanned >= s.limit else 0
    return found


@core
def search_order(m: Machine, cpu: Cpu, cc: CompactControl, s: FastSearch, order: int) -> int:
    """One turn of the loop in ``fast_isolate_freepages()``: the first page of what was isolated, or NULL."""
    zone = zone_at(m, cc.zone)
    flags = spin_lock_irqsave(cpu, zone.lock, S_SEARCH)
    s.failed = 0
    pfn = scan_free_list(m, cc, s, order)
    if pfn != NULL:
        isolated = isolate_to(m, cpu, cc, pfn, order)
        if isolated != 0:
            __count_vm_events(cpu, COMPACTISOLATED, isolated)
        else:
            pfn = NULL
            s.failed = 1
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    if s.exhausted != 0:
        s.limit = min(1, s.limit >> 1)
    return pfn


@core
def search_orders(m: Machine, cpu: Cpu, cc: CompactControl, s: FastSearch) -> int:
    """The loop of ``fast_isolate_freepages()`` over the orders, the last successful one first."""
    zone = zone_at(m, cc.zone)
    cc.search_order = min(cc.order - 1, cc.search_order)
    order = cc.search_order
    pfn = NULL
    while pfn == NULL and order >= 0:
        if zone.free_area[order].nr_free != 0:
            pfn = search_order(m, cpu, cc, s, order)
            if s.failed != 0:
                order = cc.search_order + 1
        order = next_search_order(cc, order)
    return pfn


@core
def start_of_scan(m: Machine, cc: CompactControl, s: FastSearch) -> int:
    """Where the linear scan begins when the first search found nothing; a page of that block, or NULL."""
    zone = zone_at(m, cc.zone)
    if s.highest != 0:
        cc.free_pfn = s.highest
        return s.highest
    if cc.direct_compaction == 0 or not pfn_to_online_page(m, zone, s.min_pfn):
        return NULL
    cc.free_pfn = s.min_pfn
    return pageblock_pfn_to_page(m, zone, s.min_pfn, min(pageblock_end_pfn(s.min_pfn), zone_end_pfn(zone)))


@core
def fast_isolate_around(m: Machine, cpu: Cpu, cc: CompactControl, pfn: int) -> None:
    """``mm/compaction.c:fast_isolate_around() (5.10)``: the rest of the pageblock, unless there are enough pages."""
    if cc.nr_freepages >= cc.nr_migratepages:
        return
    if cc.direct_compaction != 0 and cc.mode == MIGRATE_ASYNC:
        return
    zone = zone_at(m, cc.zone)
    start_pfn = max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
    end_pfn = min(pageblock_end_pfn(pfn), zone_end_pfn(zone))
    if pageblock_pfn_to_page(m, zone, start_pfn, end_pfn) == NULL:
        return
    isolate_freepages_block(m, cpu, cc, start_pfn, end_pfn, 1, 0)
    if cc.nr_freepages < cc.nr_migratepages:
        set_pageblock_skip(m, start_pfn)


@core
def fast_isolate_freepages(m: Machine, cpu: Cpu, cc: CompactControl) -> None:
    """``mm/compaction.c:fast_isolate_freepages() (5.10)``: from the top quarter between the scanners, or else the top
    half. A search at the start of the scan is deep and may move the scanner."""
    if cc.order <= 0:
        return
    zone = zone_at(m, cc.zone)
    s = fast_search()
    s.limit = min(1, freelist_scan_limit(cc) >> 1)
    scan_start = cc.free_pfn >= zone.compact.init_free_pfn
    if scan_start:
        s.limit = PAGEBLOCK_NR_PAGES >> 1
    distance = cc.free_pfn - cc.migrate_pfn
    s.low_pfn = pageblock_start_pfn(cc.free_pfn - (distance >> 2))
    s.min_pfn = pageblock_start_pfn(cc.free_pfn - (distance >> 1))
    if distance < 0:  # unsigned in the kernel: once the scanners have passed each other, no page will do
        s.low_pfn = BEYOND
        s.min_pfn = BEYOND
    pfn = search_orders(m, cpu, cc, s)
    if pfn == NULL:
        cc.fast_search_fail += 1
        if scan_start:
            pfn = start_of_scan(m, cc, s)
    if s.highest != 0 and s.highest >= zone.compact.cached_free_pfn:
        zone.compact.cached_free_pfn = s.highest - PAGEBLOCK_NR_PAGES
    cc.total_free_scanned += s.nr_scanned
    if pfn != NULL:
        fast_isolate_around(m, cpu, cc, pfn)


@core
def isolate_freepages(m: Machine, cpu: Cpu, cc: CompactControl) -> None:
    """``mm/compaction.c:isolate_freepages() (5.10)``: the free lists first, then pageblock by pageblock."""
    fast_isolate_freepages(m, cpu, cc)
    if cc.nr_freepages == 0:
        linear_isolate_freepages(m, cpu, cc)
    split_map_pages(m, cpu, cpu.scratch[FREEPAGES])


@implements(compaction_alloc)
def __compaction_alloc(m: Machine, cpu: Cpu, target: MigrateTarget) -> int:
    """``mm/compaction.c:compaction_alloc() (5.10)``: an isolated free page, or NULL when there are no more."""
    cc = compact_control_of(target, 0)
    freepages = cpu.scratch[FREEPAGES]
    if list_empty(m, freepages):
        isolate_freepages(m, cpu, cc)
        if list_empty(m, freepages):
            return NULL
    pfn = link_to_pfn(m, freepages.next)
    list_del(m, page_record(m, pfn_to_page(m, pfn)).lru)
    cc.nr_freepages -= 1
    return pfn


@implements(compaction_free)
def __compaction_free(m: Machine, cpu: Cpu, target: MigrateTarget, pfn: int) -> None:
    """``mm/compaction.c:compaction_free() (5.10)``: a page that wasn't needed, to be given out next."""
    cc = compact_control_of(target, 0)
    list_add(m, page_record(m, pfn_to_page(m, pfn)).lru, cpu.scratch[FREEPAGES])
    cc.nr_freepages += 1
