"""The buddy system: free lists per order and migratetype (``mm/page_alloc.c`` (5.10)). The zone lock is held."""

from emu.zone.event import trace_buddy_free, trace_mm_page_alloc_zone_locked
from emu.zone.list import link_of, list_add, list_add_tail, list_del, list_move_tail
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_ISOLATE, PAGEBLOCK_ORDER, Cpu, Machine, Page, Zone, page_record,
    pageblock_record,
)  # fmt: skip
from emu.zone.page import NULL, PG_buddy, PG_guard, PG_reported, ZONE_ID_MASK, clear_flag, link_to_pfn, pfn_to_page
from emu.zone.page import set_flag
from emu.zone.pageblock import PB_INITIALISED, get_pfnblock_migratetype, init_head, init_pageblocks
from emu.zone.vmstat import __mod_zone_freepage_state
from shm.core import core, seam

FPI_NONE = 0
FPI_SKIP_REPORT_NOTIFY = 1
FPI_TO_TAIL = 2


@core(inline=True)
def buddy_order(page: Page) -> int:
    """``buddy_order()``"""
    return page.private


@core(inline=True)
def set_buddy_order(page: Page, order: int) -> None:
    """``set_buddy_order()``"""
    page.private = order
    set_flag(page, PG_buddy)


@core(inline=True)
def get_page_from_free_area(m: Machine, zone: Zone, order: int, migratetype: int) -> int:
    """``get_page_from_free_area()``: pfn of the first block on the list, or NULL."""
    head = zone.free_area[order].free_list[migratetype]
    first = head.next
    if first == link_of(m, head):
        return NULL
    return link_to_pfn(m, first)


@core(inline=True)
def add_to_free_list(m: Machine, zone: Zone, page: Page, order: int, migratetype: int) -> None:
    """``add_to_free_list()``"""
    area = zone.free_area[order]
    list_add(m, page.lru, area.free_list[migratetype])
    area.nr_free += 1


@core(inline=True)
def add_to_free_list_tail(m: Machine, zone: Zone, page: Page, order: int, migratetype: int) -> None:
    """``add_to_free_list_tail()``"""
    area = zone.free_area[order]
    list_add_tail(m, page.lru, area.free_list[migratetype])
    area.nr_free += 1


@core(inline=True)
def move_to_free_list(m: Machine, zone: Zone, page: Page, order: int, migratetype: int) -> None:
    """``move_to_free_list()``: to the tail, so that it isn't the next to go."""
    list_move_tail(m, page.lru, zone.free_area[order].free_list[migratetype])


@core(inline=True)
def del_page_from_free_list(m: Machine, zone: Zone, page: Page, order: int) -> None:
    """``del_page_from_free_list()``: no longer reported, no longer a buddy."""
    list_del(m, page.lru)
    clear_flag(page, PG_buddy | PG_reported)
    page.private = 0
    zone.free_area[order].nr_free -= 1


@core(cold=True)
def set_page_guard(m: Machine, cpu: Cpu, zone: Zone, page: Page, order: int, migratetype: int) -> bool:
    """``set_page_guard()``: keep the half as a guard instead of listing it."""
    if order >= m.debug_guardpage_minorder:
        return False
    set_flag(page, PG_guard)
    here = link_of(m, page.lru)
    page.lru.next = here
    page.lru.prev = here
    page.private = order
    __mod_zone_freepage_state(m, cpu, zone, -(1 << order), migratetype)
    return True


@core(cold=True)
def clear_page_guard(m: Machine, cpu: Cpu, zone: Zone, page: Page, order: int, migratetype: int) -> None:
    """``clear_page_guard()``"""
    clear_flag(page, PG_guard)
    page.private = 0
    if migratetype != MIGRATE_ISOLATE:
        __mod_zone_freepage_state(m, cpu, zone, 1 << order, migratetype)


@core
def expand(m: Machine, cpu: Cpu, zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    """``mm/page_alloc.c:expand() (5.10)``: give back the upper halves until the block is of order ``low``."""
    while high > low:
        high -= 1
        upper = pfn + (1 << high)
        page = page_record(m, pfn_to_page(m, upper))
        if high >= PAGEBLOCK_ORDER:
            if pageblock_record(m, m.pageblocks + (upper >> PAGEBLOCK_ORDER)).bits & PB_INITIALISED == 0:
                init_head(m, zone, upper)
        if m.debug_guardpage_minorder != 0 and set_page_guard(m, cpu, zone, page, high, migratetype):
            continue
        add_to_free_list(m, zone, page, high, migratetype)
        set_buddy_order(page, high)


@core(inline=True)
def __rmqueue_smallest(m: Machine, cpu: Cpu, zone: Zone, order: int, migratetype: int) -> int:
    """``mm/page_alloc.c:__rmqueue_smallest() (5.10)``: the first block of the smallest order that has one, or NULL.

    The page is stamped with the requested type, not with its block's.
    """
    for current_order in range(order, MAX_ORDER):
        pfn = get_page_from_free_area(m, zone, current_order, migratetype)
        if pfn == NULL:
            continue
        page = page_record(m, pfn_to_page(m, pfn))
        del_page_from_free_list(m, zone, page, current_order)
        if current_order >= PAGEBLOCK_ORDER:
            init_pageblocks(m, zone, pfn, order if order > PAGEBLOCK_ORDER else PAGEBLOCK_ORDER)
        if current_order > order:
            expand(m, cpu, zone, pfn, order, current_order, migratetype)
        page.index = migratetype
        return pfn
    return NULL


@core(inline=True)
def page_is_buddy(buddy: Page, order: int, zone_id: int) -> bool:
    """``page_is_buddy()``: free (or a guard), of this order, in this zone."""
    flags = buddy.page_flags
    return flags & (PG_buddy | PG_guard) != 0 and buddy.private == order and flags & ZONE_ID_MASK == zone_id


@core(inline=True)
def buddy_merge_likely(m: Machine, pfn: int, buddy_pfn: int, order: int, zone_id: int) -> bool:
    """``buddy_merge_likely()``: the next-higher buddy is free, so this one will soon be wanted whole."""
    if order >= MAX_ORDER - 2:
        return False
    combined_pfn = buddy_pfn & pfn
    higher = page_record(m, pfn_to_page(m, combined_pfn ^ (1 << (order + 1))))
    return page_is_buddy(higher, order + 1, zone_id)


@seam
def compaction_capture(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int, migratetype: int) -> bool:
    """``compaction_capture()``: a direct compactor takes the block it waits for. Nobody compacts here: never."""
    return False


@core(cold=True)
def page_reporting_notify_free(m: Machine, order: int) -> None:
    """``page_reporting_notify_free()``: free blocks of pageblock order or more are worth telling the hypervisor."""
    if order >= PAGEBLOCK_ORDER:
        m.page_reporting += 1


@core(inline=True)
def __free_one_page(m: Machine, cpu: Cpu, pfn: int, zone: Zone, order: int, migratetype: int, fpi_flags: int) -> int:
    """``mm/page_alloc.c:__free_one_page() (5.10)``: merge with free buddies as far as possible, list the result.

    Returns the merged order.
    """
    return merge_and_list(m, cpu, pfn, zone, order, migratetype, fpi_flags, 0)


@core(cold=True)
def free_one_page_captured(
    m: Machine, cpu: Cpu, pfn: int, zone: Zone, order: int, migratetype: int, fpi_flags: int
) -> int:
    """:func:`__free_one_page` while the current task compacts: it may get the block."""
    return merge_and_list(m, cpu, pfn, zone, order, migratetype, fpi_flags, 1)


@core(inline=True)
def merge_and_list(
    m: Machine, cpu: Cpu, pfn: int, zone: Zone, order: int, migratetype: int, fpi_flags: int, capturing: int
) -> int:
    """The body of ``__free_one_page()``; ``capturing`` is a constant, so that who doesn't compact isn't asked."""
    if migratetype != MIGRATE_ISOLATE:
        __mod_zone_freepage_state(m, cpu, zone, 1 << order, migratetype)
    zone_id = page_record(m, pfn_to_page(m, pfn)).page_flags & ZONE_ID_MASK
    max_order = PAGEBLOCK_ORDER
    freed_pfn, freed_order = pfn, order
    buddy_pfn = pfn
    while order < MAX_ORDER - 1:
        if order >= max_order:
            # from pageblock order on, don't merge an isolated block with one that isn't
            if zone.nr_isolate_pageblock != 0 and keeps_apart(m, pfn, order, migratetype):
                buddy_pfn = pfn ^ (1 << order)
                break
            max_order = order + 1
        if capturing != 0 and compaction_capture(m, cpu, zone, pfn, order, migratetype):
            __mod_zone_freepage_state(m, cpu, zone, -(1 << order), migratetype)
            return order
        buddy_pfn = pfn ^ (1 << order)
        buddy = page_record(m, pfn_to_page(m, buddy_pfn))
        if not page_is_buddy(buddy, order, zone_id):
            break
        if buddy.page_flags & PG_guard != 0:
            clear_page_guard(m, cpu, zone, buddy, order, migratetype)
        else:
            del_page_from_free_list(m, zone, buddy, order)
        pfn = buddy_pfn & pfn
        order += 1
    page = page_record(m, pfn_to_page(m, pfn))
    set_buddy_order(page, order)
    to_tail = 1 if fpi_flags & FPI_TO_TAIL != 0 or buddy_merge_likely(m, pfn, buddy_pfn, order, zone_id) else 0
    if to_tail != 0:
        add_to_free_list_tail(m, zone, page, order, migratetype)
    else:
        add_to_free_list(m, zone, page, order, migratetype)
    trace_buddy_free(m, cpu, pfn, order, freed_pfn, freed_order, migratetype, to_tail)
    if m.page_reporting != 0 and fpi_flags & FPI_SKIP_REPORT_NOTIFY == 0:
        page_reporting_notify_free(m, order)
    return order


@core(cold=True)
def keeps_apart(m: Machine, pfn: int, order: int, migratetype: int) -> bool:
    """Whether isolation forbids merging the block with its buddy."""
    buddy_mt = get_pfnblock_migratetype(m, pfn ^ (1 << order))
    return migratetype != buddy_mt and (migratetype == MIGRATE_ISOLATE or buddy_mt == MIGRATE_ISOLATE)


@core(inline=True)
def rmqueue_traced(m: Machine, cpu: Cpu, zone: Zone, order: int, take: int, migratetype: int) -> int:
    """``__rmqueue_smallest`` of type ``take`` for a request of ``migratetype``, with its trace point."""
    pfn = __rmqueue_smallest(m, cpu, zone, order, take)
    if pfn != NULL:
        trace_mm_page_alloc_zone_locked(m, cpu, pfn, order, migratetype)
    return pfn
