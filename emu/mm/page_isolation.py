"""Pageblocks that nothing is allocated from any more (``mm/page_isolation.c``, ``mm/page_alloc.c`` (5.10.262)).

Free pages of an isolated block lie on the MIGRATE_ISOLATE lists, which no request looks at, and don't count in
NR_FREE_PAGES. Pages that are freed later join them: who frees looks at the block's type again under the zone lock while
``nr_isolate_pageblock`` isn't 0. What a CPU had put on its pcp list before can still come out of there, hence the
draining.
"""

from emu.cpu.workqueue import drain_all_pages
from emu.mm.movable import __PageMovable
from emu.zone.buddy import FPI_SKIP_REPORT_NOTIFY, FPI_TO_TAIL, __free_one_page, buddy_order
from emu.zone.deviations import R30, deviates
from emu.zone.event import EV_SET_ISOLATE, record
from emu.zone.fallback import move_freepages_block
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.isolation import __isolate_free_page
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_ISOLATE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, ZONE_MOVABLE, Cpu, Machine, Zone,
    page_record, zone_at,
)  # fmt: skip
from emu.zone.online import block_bits, first_online_zone
from emu.zone.page import (
    NULL, PG_buddy, PG_hwpoison, PG_lru, PG_offline, PG_reserved, PageCompound, PageTail, compound_order, link_to_pfn,
    pfn_to_page,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED, get_pfnblock_migratetype, set_pageblock_migratetype
from emu.zone.vmstat import __mod_zone_freepage_state
from shm.core import core
from shm.point import site

EBUSY = 16
MEMORY_OFFLINE = 1
S_ISOLATE = site("set_migratetype_isolate:lock")
S_UNISOLATE = site("unset_migratetype_isolate:lock")
S_TEST = site("test_pages_isolated:lock")


@core(inline=True)
def is_migrate_isolate_page(m: Machine, pfn: int) -> bool:
    """``is_migrate_isolate_page()``"""
    return get_pfnblock_migratetype(m, pfn) == MIGRATE_ISOLATE


@core
def compound_head(m: Machine, pfn: int) -> int:
    """``compound_head()``"""
    page = page_record(m, pfn_to_page(m, pfn))
    return link_to_pfn(m, page.lru.next - 1) if PageTail(page) else pfn


@core(cold=True)
def unmovable_compound(m: Machine, head: int) -> bool:
    """A compound page that is neither on the LRU lists nor movable by its driver."""
    page = page_record(m, pfn_to_page(m, head))
    return page.page_flags & PG_lru == 0 and not __PageMovable(page)


@core(cold=True)
def has_unmovable_pages(m: Machine, zone: Zone, pfn: int, migratetype: int, isol_flags: int) -> int:
    """``mm/page_alloc.c:has_unmovable_pages() (5.10)``: a page of the block, from ``pfn`` on, that can't be moved
    away, or NULL. The zone lock is held, so free pages stay free; all else is a guess.

    In the movable zone all pages count as movable but reserved ones. A page in a pagevec isn't on the LRU list yet.
    """
    if get_pfnblock_migratetype(m, pfn) == MIGRATE_CMA:
        return NULL if migratetype == MIGRATE_CMA else pfn
    if block_bits(m, pfn) & PB_INITIALISED == 0:
        return NULL  # never taken apart, so it is part of a free block
    at = pfn
    end = (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES
    while at < end:
        page = page_record(m, pfn_to_page(m, at))
        flags = page.page_flags
        if flags & PG_reserved != 0:
            return at
        if zone.zid == ZONE_MOVABLE:
            at += 1
            continue
        if PageCompound(page):
            head = compound_head(m, at)
            if unmovable_compound(m, head):
                return at
            at = max(head + (1 << min(compound_order(m, head), MAX_ORDER - 1)), at + 1)
            continue
        if page.refcount == 0:
            at += 1 << buddy_order(page) if flags & PG_buddy != 0 else 1
            continue
        if isol_flags & MEMORY_OFFLINE != 0 and flags & (PG_hwpoison | PG_offline) != 0:
            at += 1
            continue
        if flags & PG_lru == 0 and not __PageMovable(page):
            return at
        at += 1
    return NULL


@core(cold=True)
def set_migratetype_isolate(m: Machine, cpu: Cpu, pfn: int, zone_offset: int, migratetype: int, isol_flags: int) -> int:
    """``mm/page_isolation.c:set_migratetype_isolate() (5.10)``: 0; -EBUSY if it is isolated already; or the unmovable
    page's pfn + 1, which its caller reports.

    All CPUs drain what they have of the zone. A page that was stamped before and reaches its pcp list after that stays
    there: whoever needs the range to be free drains again.

    Race R30: without the refusal (2c7452a075d4) two callers have the same block, and its pages leave NR_FREE_PAGES
    twice.
    """
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_ISOLATE)
    if is_migrate_isolate_page(m, pfn) and not deviates(m, R30):
        spin_unlock_irqrestore(m, cpu, zone.lock, flags)
        return -EBUSY
    unmovable = has_unmovable_pages(m, zone, pfn, migratetype, isol_flags)
    mt = get_pfnblock_migratetype(m, pfn)
    if unmovable == NULL:
        set_pageblock_migratetype(m, pfn, MIGRATE_ISOLATE)
        zone.nr_isolate_pageblock += 1
        nr_pages = move_freepages_block(m, zone, pfn, MIGRATE_ISOLATE) & 0xFFFFFFFF
        __mod_zone_freepage_state(m, cpu, zone, -nr_pages, mt)
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    if cpu.trace != 0:
        record(m, cpu, EV_SET_ISOLATE, pfn, PAGEBLOCK_ORDER, mt, 0, 1, unmovable)
    if unmovable == NULL:
        drain_all_pages(m, cpu, zone_offset)
    return unmovable + 1


@core(cold=True)
def merges_with_buddy(m: Machine, pfn: int) -> int:
    """Order of the free block that starts here, if it is so large that isolation may have kept it from merging with a
    buddy that isn't isolated; else -1."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags & PG_buddy == 0 or buddy_order(page) < PAGEBLOCK_ORDER:
        return -1
    order = buddy_order(page)
    buddy_pfn = pfn ^ (1 << order)
    if buddy_pfn < m.max_pfn and is_migrate_isolate_page(m, buddy_pfn):
        return -1
    return order


@core(cold=True)
def unset_migratetype_isolate(m: Machine, cpu: Cpu, pfn: int, zone_offset: int, migratetype: int) -> None:
    """``mm/page_isolation.c:unset_migratetype_isolate() (5.10)``: the block's free pages count again.

    A large free block is taken out and freed anew, since moving lists merges nothing. Either way they go to the tails.

    5.10 counts some pages twice here when others allocate meanwhile, and so does this: a block of the largest order
    covers two pageblocks and counts as a whole with the first one. If it is taken apart before the second one is given
    back, the free pages of that one count again. If it is stolen as a whole, steal_suitable_fallback() gives both
    pageblocks a type, and nr_isolate_pageblock keeps the second one.
    """
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_UNISOLATE)
    if is_migrate_isolate_page(m, pfn):
        order = merges_with_buddy(m, pfn)
        if order >= 0:
            __isolate_free_page(m, cpu, zone, pfn, order)
        else:
            nr_pages = move_freepages_block(m, zone, pfn, migratetype) & 0xFFFFFFFF
            __mod_zone_freepage_state(m, cpu, zone, nr_pages, migratetype)
        set_pageblock_migratetype(m, pfn, migratetype)
        if order >= 0:
            __free_one_page(m, cpu, pfn, zone, order, migratetype, FPI_SKIP_REPORT_NOTIFY | FPI_TO_TAIL)
        zone.nr_isolate_pageblock -= 1
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    if cpu.trace != 0:
        record(m, cpu, EV_SET_ISOLATE, pfn, PAGEBLOCK_ORDER, migratetype, 0, 0, -1)


@core(cold=True)
def undo_isolate_page_range(m: Machine, cpu: Cpu, start_pfn: int, end_pfn: int, migratetype: int) -> None:
    """``mm/page_isolation.c:undo_isolate_page_range() (5.10)``"""
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        zone = first_online_zone(m, pfn, PAGEBLOCK_NR_PAGES)
        if zone != 0 and is_migrate_isolate_page(m, pfn):
            unset_migratetype_isolate(m, cpu, pfn, zone, migratetype)


@core(cold=True)
def start_isolate_page_range(
    m: Machine, cpu: Cpu, start_pfn: int, end_pfn: int, migratetype: int, isol_flags: int
) -> int:
    """``mm/page_isolation.c:start_isolate_page_range() (5.10)``: 0 when all blocks of the range are isolated; else none
    is, and the result is -EBUSY or an unmovable page's pfn + 1.

    Blocks are isolated one after the other. Two callers with overlapping ranges: the second finds a block isolated.
    """
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        zone = first_online_zone(m, pfn, PAGEBLOCK_NR_PAGES)
        if zone == 0:
            continue
        ret = set_migratetype_isolate(m, cpu, pfn, zone, migratetype, isol_flags)
        if ret != 0:
            undo_isolate_page_range(m, cpu, start_pfn, pfn, migratetype)
            return ret
    return 0


@core(cold=True)
def first_busy_page(m: Machine, start_pfn: int, end_pfn: int, isol_flags: int) -> int:
    """``__test_page_isolated_in_pageblock()``: the first page of the range that isn't free; ``end_pfn`` or beyond: all
    are. The zone lock is held. When going offline, poisoned pages and those a driver gave up don't matter."""
    pfn = start_pfn
    while pfn < end_pfn:
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy != 0:
            pfn += 1 << buddy_order(page)
        elif isol_flags & MEMORY_OFFLINE != 0 and page.page_flags & PG_hwpoison != 0:
            pfn += 1
        elif isol_flags & MEMORY_OFFLINE != 0 and page.page_flags & PG_offline != 0 and page.refcount == 0:
            pfn += 1
        else:
            break
    return pfn


@core(cold=True)
def test_pages_isolated(m: Machine, cpu: Cpu, start_pfn: int, end_pfn: int, isol_flags: int) -> int:
    """``mm/page_isolation.c:test_pages_isolated() (5.10)``: 0 if all blocks are isolated and all pages free, else
    -EBUSY."""
    zone_offset = first_online_zone(m, start_pfn, end_pfn - start_pfn)
    if zone_offset == 0:
        return -EBUSY
    for pfn in range(start_pfn & -PAGEBLOCK_NR_PAGES, end_pfn, PAGEBLOCK_NR_PAGES):
        at = max(pfn, start_pfn)
        if first_online_zone(m, at, min(end_pfn, pfn + PAGEBLOCK_NR_PAGES) - at) != 0:
            if not is_migrate_isolate_page(m, at):
                return -EBUSY
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_TEST)
    pfn = first_busy_page(m, start_pfn, end_pfn, isol_flags)
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    return -EBUSY if pfn < end_pfn else 0
