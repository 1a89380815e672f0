"""One pass over struct pages: how many of a cell's pages are free, and whose the others are.

A cell is a pageblock, or some neighbours on a large machine. The pass takes no lock and steps over free and compound
blocks as ``mm/page_owner.c:pagetypeinfo_showmixedcount_print() (5.10)`` does, so on a machine that runs a few pages may
be counted as what they were or will be.
"""

from emu.workload.run import SLOT_SIZE, slot_at
from emu.zone.mmzone import (
    MAX_ORDER,
    MIGRATE_TYPES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    Machine,
    Page,
    page_record,
    pageblock_record,
)  # fmt: skip
from emu.zone.page import (
    PAGE_MAPPING_ANON,
    PAGE_MAPPING_FLAGS,
    PageTail,
    PG_buddy,
    PG_guard,
    PG_head,
    PG_lru,
    PG_offline,
    PG_reserved,
    PG_slab,
    PG_swapbacked,
    PG_table,
    link_to_page,
    pfn_to_page,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE
from shm.core import as_entries, core, entry
from shm.struct import Array, At, Struct, array, i32, size_of, struct, u16

__all__ = ["COUNT_ENTRIES", "OWNERS", "Cell", "Count", "count_blocks", "count_slots"]

# who a page belongs to: Cell.owners
FREE, PCP, ANON, FILE, SLAB, TABLE, RESERVED, OTHER, HELD = range(9)
OWNERS = ("free", "pcp", "anon", "file", "slab", "page tables", "reserved", "other", "workload")


@struct
class Cell(Struct):
    """What was found in a cell; at most 127 pageblocks."""

    owners: Array[int] = array(u16, 9)  # pages of each
    orders: Array[int] = array(u16, MAX_ORDER)  # free blocks that begin here, by order
    types: Array[int] = array(u16, MIGRATE_TYPES)  # pageblocks of each migratetype


@struct
class Count(Struct):
    """One number of a table."""

    n: int = i32()


CELL_SIZE, COUNT_SIZE = size_of(Cell), size_of(Count)
cell_at, count_at = At(Cell), At(Count)


@core
def owner_of(page: Page) -> int:
    """Of a page that is not free: by its flags, then by its mapping (a page on its way to an LRU list has one)."""
    flags = page.page_flags
    if flags & PG_reserved != 0:
        return RESERVED
    if flags & PG_slab != 0:
        return SLAB
    if flags & PG_table != 0:
        return TABLE
    if flags & (PG_guard | PG_offline) != 0:
        return OTHER
    kind = page.mapping & PAGE_MAPPING_FLAGS
    if kind == PAGE_MAPPING_ANON:
        return ANON
    if page.mapping != 0 and kind == 0:
        return FILE
    if flags & PG_lru != 0:
        return ANON if flags & PG_swapbacked != 0 else FILE
    return PCP if page.refcount == 0 else OTHER


@core
def buddy_order(m: Machine, pfn: int) -> int:
    """The order of the free block that begins at a page; -1: none does."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags & PG_buddy == 0:
        return -1
    order = page.private
    return order if 0 <= order < MAX_ORDER else -1


@core
def is_second_half(m: Machine, pfn: int) -> bool:
    """Whether a pageblock is the rest of a free block of the largest order, whose struct page is before it."""
    return pfn & PAGEBLOCK_NR_PAGES != 0 and buddy_order(m, pfn - PAGEBLOCK_NR_PAGES) == PAGEBLOCK_ORDER + 1


@core
def count_untouched(m: Machine, cell: Cell, pfn: int) -> None:
    """A block whose struct pages were never made: free, or nobody's (a hole, or still deferred)."""
    if is_second_half(m, pfn):
        cell.owners[FREE] += PAGEBLOCK_NR_PAGES
        return
    order = buddy_order(m, pfn)
    if order >= PAGEBLOCK_ORDER:
        cell.owners[FREE] += PAGEBLOCK_NR_PAGES
        cell.orders[order] += 1


@core
def count_pages(m: Machine, cell: Cell, first: int) -> None:
    """A block page by page."""
    if is_second_half(m, first):
        cell.owners[FREE] += PAGEBLOCK_NR_PAGES
        return
    pfn, end = first, first + PAGEBLOCK_NR_PAGES
    while pfn < end:
        page = page_record(m, pfn_to_page(m, pfn))
        order = buddy_order(m, pfn)
        owner = FREE
        if order >= 0:
            cell.orders[order] += 1
        elif page.page_flags & PG_head != 0:
            owner = owner_of(page)
            order = page_record(m, pfn_to_page(m, pfn + 1)).private
        elif PageTail(page):  # of a head in the block before
            owner = owner_of(page_record(m, link_to_page(m, page.lru.next - 1)))
        else:
            owner = owner_of(page)
        step = 1 << order if 0 <= order < MAX_ORDER else 1
        step = min(step, end - pfn)
        cell.owners[owner] += step
        pfn += step


@entry
def count_blocks(m: Machine, table: Count, cells: Cell, first: int, last: int) -> None:
    """Count pageblocks ``[first, last)`` into the cells that ``table`` names for them (-1: none)."""
    for block in range(first, last):
        at = count_at(table, block * COUNT_SIZE).n
        bits = pageblock_record(m, m.pageblocks + block).bits
        if at < 0 or bits & PB_OFFLINE != 0:
            continue
        cell = cell_at(cells, at * CELL_SIZE)
        migratetype = bits & PB_MIGRATE
        if migratetype < MIGRATE_TYPES:
            cell.types[migratetype] += 1
        if bits & PB_INITIALISED != 0:
            count_pages(m, cell, block << PAGEBLOCK_ORDER)
        else:
            count_untouched(m, cell, block << PAGEBLOCK_ORDER)


@core
def move_to_held(cell: Cell, in_use: int, listed: int) -> None:
    """Pages were counted as nobody's, or as if they were on a pcp list: they are the workload's."""
    other, pcp = min(in_use, cell.owners[OTHER]), min(listed, cell.owners[PCP])
    cell.owners[OTHER] -= other
    cell.owners[PCP] -= pcp
    cell.owners[HELD] += other + pcp


@core
def count_slot(m: Machine, table: Count, cells: Cell, counts: Count, pfn: int, order: int) -> None:
    """One block of a workload. Pages behind the first of a block that isn't compound have no reference, so they look
    as if they were on a pcp list."""
    head = page_record(m, pfn_to_page(m, pfn))
    if owner_of(head) != OTHER:  # it has changed hands since
        return
    pages = min(1 << order, PAGEBLOCK_NR_PAGES)
    in_use = pages if head.page_flags & PG_head != 0 else 1
    for part in range(pfn, pfn + (1 << order), pages):
        at = count_at(table, (part >> PAGEBLOCK_ORDER) * COUNT_SIZE).n
        if at >= 0:
            count_at(counts, at * COUNT_SIZE).n += pages
            move_to_held(cell_at(cells, at * CELL_SIZE), in_use, pages - in_use)
        in_use = pages if in_use == pages else 0


@entry
def count_slots(m: Machine, table: Count, cells: Cell, counts: Count, slots: int, nr_slots: int) -> None:
    """The blocks that a workload holds in its slots (offset, number in use): theirs in the cells, and by cell in
    ``counts``."""
    for i in range(nr_slots):
        slot = slot_at(m, slots + i * SLOT_SIZE)
        pfn, order = slot.pfn, slot.order
        if 0 <= pfn < m.max_pfn and 0 <= order < MAX_ORDER:
            count_slot(m, table, cells, counts, pfn, order)


COUNT_ENTRIES = as_entries(count_blocks, count_slots)
