"""Which memory is online, and whose it is (``pfn_to_online_page()``, ``include/linux/memory_hotplug.h`` (5.10)).

Differs from 5.10: there are no sections. A pageblock says it: PB_OFFLINE is memory that is plugged in but offline; and
a block is online if its struct pages are made, or if it lies in a free block whose first one is.
"""

from emu.zone.fallback import zone_spans_pfn
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, PAGE_EXT_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Machine, Page, Zone,
    page_ext_record, page_record, pageblock_record, zone_at,
)  # fmt: skip
from emu.zone.page import page_zone, pfn_to_page
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE
from shm.core import core


@core(inline=True)
def block_bits(m: Machine, pfn: int) -> int:
    """All bits of a pageblock."""
    return pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits


@core(inline=True)
def page_is_made(page: Page) -> bool:
    """A struct page that was initialised: it has a zone, or at least a mapcount."""
    return page.page_flags != 0 or page.refcount != 0 or page.mapcount != 0


@core
def pfn_to_online_zone(m: Machine, pfn: int) -> int:
    """Offset of the zone of a page of online memory; 0: a hole, offline, or its struct page is deferred."""
    if pfn < 0 or pfn >= m.max_pfn:
        return 0
    bits = block_bits(m, pfn)
    if bits & PB_OFFLINE != 0:
        return 0
    page = page_record(m, pfn_to_page(m, pfn))
    if bits & PB_INITIALISED == 0:
        page = page_record(m, pfn_to_page(m, pfn & -PAGEBLOCK_NR_PAGES))
        if not page_is_made(page):
            page = page_record(m, pfn_to_page(m, pfn & -MAX_ORDER_NR_PAGES))
    if not page_is_made(page):
        return 0
    zone = page_zone(m, page)
    return zone if zone_spans_pfn(zone_at(m, zone), pfn) else 0


@core
def first_online_zone(m: Machine, pfn: int, nr_pages: int) -> int:
    """Zone of the first online page of a range (``__first_valid_page()``), or 0."""
    for at in range(pfn, pfn + nr_pages):
        zone = pfn_to_online_zone(m, at)
        if zone != 0:
            return zone
    return 0


@core(cold=True)
def block_has_hole(m: Machine, pfn: int) -> bool:
    """Whether a page of the pageblock isn't online memory."""
    if block_bits(m, pfn) & PB_INITIALISED == 0:
        return pfn_to_online_zone(m, pfn) == 0
    for at in range(pfn, pfn + PAGEBLOCK_NR_PAGES):
        if pfn_to_online_zone(m, at) == 0:
            return True
    return False


@core(cold=True)
def set_zone_contiguous(m: Machine, zone: Zone, zone_offset: int) -> None:
    """``mm/page_alloc.c:set_zone_contiguous() (5.10)``: every block that the zone spans is online and in it."""
    end = zone.zone_start_pfn + zone.spanned_pages
    pfn = zone.zone_start_pfn
    while pfn < end:
        if pfn_to_online_zone(m, pfn) != zone_offset:
            zone.contiguous = 0
            return
        pfn = (pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1
    zone.contiguous = 1


@core(cold=True)
def mark_plugged(m: Machine, pfn: int, nid: int) -> None:
    """The pageblock is memory of a node, offline."""
    pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits = PB_OFFLINE | nid


@core
def plugged_node(m: Machine, pfn: int) -> int:
    """Node of a pageblock that is plugged in and offline, or -1."""
    bits = block_bits(m, pfn)
    return bits & PB_MIGRATE if bits & PB_OFFLINE != 0 else -1


@core(cold=True)
def forget_struct_pages(m: Machine, start: int, end: int) -> None:
    """``page_init_poison()``: struct pages of whole pageblocks become what they were before they were made."""
    pfn = start
    while pfn < end:
        made = PAGEBLOCK_NR_PAGES if block_bits(m, pfn) & PB_INITIALISED != 0 else 1
        for at in range(pfn, pfn + made):
            page = page_record(m, pfn_to_page(m, at))
            page.lru.next = 0
            page.lru.prev = 0
            page.page_flags = 0
            page.refcount = 0
            page.mapcount = 0
            page.mapping = 0
            page.private = 0
            page.index = 0
            if m.page_ext != 0:
                ext = page_ext_record(m, m.page_ext + at * PAGE_EXT_SIZE)
                ext.content = 0
                ext.order = 0
                ext.owner_cpu = 0
                ext.gfp = 0
                ext.ts = 0
        pfn += PAGEBLOCK_NR_PAGES


assert PB_MIGRATE + 1 >= 8, "the node of an offline block is kept in the bits of its type"
assert MAX_ORDER - 1 == PAGEBLOCK_ORDER + 1
