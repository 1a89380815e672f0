"""Bits of a pageblock, and struct pages made when first used (``mm/page_alloc.c``, ``pageblock-flags.h`` (5.10)).

Differs from 5.10: a byte per block instead of four bits in a bitmap, and struct pages of a block are initialised when a
free block of at least pageblock order is first taken apart or handed out. An all-zero page is "not in the buddy
system", which is all that anybody asks of a page before that.
"""

from emu.zone.mmzone import (
    MIGRATE_PCPTYPES, MIGRATE_UNMOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Machine, Zone, page_record,
    pageblock_record,
)  # fmt: skip
from emu.zone.page import pfn_to_page, zone_id_bits
from shm.atomic import cmpxchg
from shm.core import core

PB_MIGRATE = 7
PB_SKIP = 8
PB_INITIALISED = 16
PB_OFFLINE = 32  # memory that is plugged in but offline: the three bits of the type say whose (the node)


@core(inline=True)
def get_pfnblock_migratetype(m: Machine, pfn: int) -> int:
    """``get_pfnblock_migratetype()``: read without a lock."""
    return pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits & PB_MIGRATE


@core
def change_bits(m: Machine, pfn: int, clear: int, add: int) -> None:
    """``set_pfnblock_flags_mask()``: a cmpxchg loop, since neighbours in the byte change without the zone lock."""
    block = pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER))
    old = block.bits
    while True:
        new = (old & (255 - clear)) | add
        seen = cmpxchg(block, "bits", old, new)
        if seen == old:
            return
        old = seen


@core
def set_pageblock_migratetype(m: Machine, pfn: int, migratetype: int) -> None:
    """``mm/page_alloc.c:set_pageblock_migratetype() (5.10)``"""
    if m.page_group_by_mobility_disabled != 0 and migratetype < MIGRATE_PCPTYPES:
        migratetype = MIGRATE_UNMOVABLE
    change_bits(m, pfn, PB_MIGRATE, migratetype)


@core(cold=True)
def init_pageblock(m: Machine, zone: Zone, pfn: int) -> None:
    """``__init_single_page()`` for the 512 pages of a block that was never taken apart."""
    first = pfn & -PAGEBLOCK_NR_PAGES
    bits = zone_id_bits(zone)
    for at in range(first, first + PAGEBLOCK_NR_PAGES):
        page = page_record(m, pfn_to_page(m, at))
        page.page_flags = bits
        page.refcount = 0
        page.mapcount = -1
    change_bits(m, pfn, 0, PB_INITIALISED)


@core(inline=True)
def init_pageblocks(m: Machine, zone: Zone, pfn: int, order: int) -> None:
    """Make the struct pages of a block that leaves the free lists; ``order`` is at least pageblock order."""
    for at in range(pfn, pfn + (1 << order), PAGEBLOCK_NR_PAGES):
        if pageblock_record(m, m.pageblocks + (at >> PAGEBLOCK_ORDER)).bits & PB_INITIALISED == 0:
            init_pageblock(m, zone, at)


@core(inline=True)
def init_head(m: Machine, zone: Zone, pfn: int) -> None:
    """Only the first page of a free block of pageblock order or more."""
    page = page_record(m, pfn_to_page(m, pfn))
    page.page_flags = zone_id_bits(zone)
    page.mapcount = -1
