"""Free pages taken out of the buddy lists for compaction, and its turning of free lists (``mm/page_alloc.c``,
``mm/compaction.c`` (5.10)). The zone lock is held."""

from emu.zone.buddy import buddy_order, del_page_from_free_list
from emu.zone.gfp import ALLOC_CMA
from emu.zone.list import link_of, list_add, list_del
from emu.zone.mmzone import (
    MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, WMARK_MIN,
    Cpu, Machine, Page, Zone, page_record,
)  # fmt: skip
from emu.zone.types import ListHead, list_head_at
from emu.zone.page import PG_buddy, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype, set_pageblock_migratetype
from emu.zone.vmstat import __mod_zone_freepage_state
from emu.zone.watermark import zone_watermark_ok
from shm.core import core


@core(cold=True)
def __isolate_free_page(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int) -> int:
    """``mm/page_alloc.c:__isolate_free_page() (5.10)``: pages isolated, 0 if the min watermark forbids it.

    From half a pageblock on, the blocks become movable, as what is migrated there will be.
    """
    mt = get_pfnblock_migratetype(m, pfn)
    if mt != MIGRATE_ISOLATE:
        watermark = zone.watermark[WMARK_MIN] + (1 << order)
        if not zone_watermark_ok(m, zone, 0, watermark, 0, ALLOC_CMA):
            return 0
        __mod_zone_freepage_state(m, cpu, zone, -(1 << order), mt)
    del_page_from_free_list(m, zone, page_record(m, pfn_to_page(m, pfn)), order)
    if order >= PAGEBLOCK_ORDER - 1:
        at = pfn
        while at < pfn + (1 << order) - 1:
            mt = get_pfnblock_migratetype(m, at)
            if mt != MIGRATE_ISOLATE and mt != MIGRATE_CMA and mt != MIGRATE_HIGHATOMIC:
                set_pageblock_migratetype(m, at, MIGRATE_MOVABLE)
            at += PAGEBLOCK_NR_PAGES
    return 1 << order


@core(cold=True)
def move_freelist_head(m: Machine, freelist: ListHead, freepage: Page) -> None:
    """``mm/compaction.c:move_freelist_head() (5.10)``: what lies before the page goes to the tail.

    Cutting a circular list and splicing the front behind the rest leaves the circle as it was and moves its head.
    """
    link = link_of(m, freepage.lru)
    if freelist.next != link:
        list_del(m, freelist)
        list_add(m, freelist, list_head_at(m, freepage.lru.prev << 2))


@core(cold=True)
def move_freelist_tail(m: Machine, freelist: ListHead, freepage: Page) -> None:
    """``mm/compaction.c:move_freelist_tail() (5.10)``: the page and what lies before it go to the tail."""
    link = link_of(m, freepage.lru)
    if freelist.prev != link:
        list_del(m, freelist)
        list_add(m, freelist, freepage.lru)


@core(cold=True)
def free_list_of(m: Machine, zone: Zone, page: Page) -> int:
    """Link of the head of the free list that a page is on: its pageblock's type need not be the list's."""
    first = link_of(m, zone.free_area[0].free_list[0])
    last = link_of(m, zone.free_area[10].free_list[5])
    link = link_of(m, page.lru)
    while link < first or link > last:
        link = list_head_at(m, link << 2).next
    return link


@core(cold=True)
def rotate_free_list(m: Machine, zone: Zone, pfn: int, tohead: int) -> bool:
    """Make a free page the first (``tohead``) or the last of its list; false if it is on none."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags & PG_buddy == 0 or buddy_order(page) < 0:
        return False
    freelist = list_head_at(m, free_list_of(m, zone, page) << 2)
    if tohead != 0:
        move_freelist_head(m, freelist, page)
    else:
        move_freelist_tail(m, freelist, page)
    return True
