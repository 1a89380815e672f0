"""Where pages are: the free lists, the pcp lists and the slots of a scenario, walked with an eye on every link."""

from emu.race.area import RaceArea
from emu.race.ops_pages import GHOST_ORDER, OWNERS
from emu.zone.list import link_of
from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_ORDER, MIGRATE_ISOLATE, MIGRATE_PCPTYPES, MIGRATE_TYPES, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER,
    PAGESET_SIZE, Machine, Zone, page_record, pageblock_record, pageset_at,
)  # fmt: skip
from emu.zone.types import ListHead, list_head_at
from emu.zone.page import PageTail, PG_buddy, link_to_pfn, pfn_to_page
from emu.zone.pageblock import PB_INITIALISED, PB_OFFLINE, get_pfnblock_migratetype
from shm.core import OnStack, core
from shm.struct import Array, Struct, array, i64, struct

MAX_PAGES = 16384
BITS = 32
WHOLE = (1 << BITS) - 1
END, BROKEN = -1, -2


@struct
class Marks(Struct):
    """A bit for each page of the machine."""

    words: Array[int] = array(i64, MAX_PAGES // BITS)


marks = OnStack(Marks)


# --- marking ----------------------------------------------------------------------------------------------------------


@core
def mark(seen: Marks, pfn: int, order: int) -> bool:
    """Mark a block; false if a page of it was marked before."""
    if order >= 5:
        clean = True
        for word in range(pfn // BITS, (pfn + (1 << order)) // BITS):
            clean = clean and seen.words[word] == 0
            seen.words[word] = WHOLE
        return clean
    bits = ((1 << (1 << order)) - 1) << (pfn % BITS)
    before = seen.words[pfn // BITS]
    seen.words[pfn // BITS] = before | bits
    return before & bits == 0


@core(inline=True)
def marked(seen: Marks, pfn: int) -> bool:
    """Whether a page is."""
    return seen.words[pfn // BITS] >> (pfn % BITS) & 1 != 0


@core
def after(m: Machine, head: ListHead, link: int) -> int:
    """The link behind one of a list; END at its end, BROKEN if what comes is no page or doesn't point back."""
    to = list_head_at(m, link << 2).next
    if to != link_of(m, head) and (to < m.mem_map_link or to >= m.mem_map_link + (m.max_pfn << 3)):
        return BROKEN
    if (to - m.mem_map_link) & 7 != 0 and to != link_of(m, head):
        return BROKEN
    if list_head_at(m, to << 2).prev != link:
        return BROKEN
    return END if to == link_of(m, head) else to


@core
def mark_free_list(m: Machine, zone: Zone, order: int, mt: int, seen: Marks) -> int:
    """Mark the blocks of a free list. What is wrong: a broken link, no head of a free block of this order, a page that
    has a reference or is elsewhere, too."""
    head = zone.free_area[order].free_list[mt]
    link = after(m, head, link_of(m, head))
    while link != END:
        if link == BROKEN:
            return -1
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy == 0 or page.private != order or page.refcount != 0:
            return pfn + 1
        if pfn & ((1 << order) - 1) != 0 or not mark(seen, pfn, order):
            return pfn + 1
        link = after(m, head, link)
    return 0


@core
def mark_pcp_list(m: Machine, zone: Zone, party: int, mt: int, seen: Marks) -> int:
    """The same for a pcp list."""
    head = pageset_at(m, zone.pageset + party * PAGESET_SIZE).lists[mt]
    link = after(m, head, link_of(m, head))
    while link != END:
        if link == BROKEN:
            return -1
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy != 0 or page.refcount != 0 or not mark(seen, pfn, 0):
            return pfn + 1
        link = after(m, head, link)
    return 0


@core
def mark_lists(m: Machine, zone: Zone, seen: Marks) -> int:
    """All free pages of a zone, those on pcp lists too."""
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            wrong = mark_free_list(m, zone, order, mt, seen)
            if wrong != 0:
                return wrong
    for party in range(m.nr_parties):
        for mt in range(MIGRATE_PCPTYPES):
            wrong = mark_pcp_list(m, zone, party, mt, seen)
            if wrong != 0:
                return wrong
    return 0


@core
def mark_slots(a: RaceArea, seen: Marks) -> int:
    """The blocks that slots own: a page that is marked already."""
    for slot in range(OWNERS):
        order = a.ghost[GHOST_ORDER + slot] - 1
        if order >= 0 and not mark(seen, a.slots[slot] - 1, order):
            return a.slots[slot]
    return 0


# --- where a page is --------------------------------------------------------------------------------------------------


@core
def in_use(m: Machine, pfn: int) -> bool:
    """Whether somebody has a page that is on no list: a reference holds it, or the block whose tail it is."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.refcount > 0:
        return True
    if not PageTail(page):
        return False
    head = link_to_pfn(m, page.lru.next - 1)
    return 0 <= head < pfn and page_record(m, pfn_to_page(m, head)).refcount > 0


@core
def find_lost_page(m: Machine, zone: Zone, seen: Marks) -> int:
    """A page of the zone that is neither marked nor in use. Memory that is offline belongs to nobody."""
    end = zone.zone_start_pfn + zone.spanned_pages
    pfn = zone.zone_start_pfn
    while pfn < end:
        block = pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits
        if block & PB_OFFLINE != 0:
            pfn = (pfn | PAGEBLOCK_NR_PAGES - 1) + 1
            continue
        if pfn % BITS == 0 and seen.words[pfn // BITS] == WHOLE:
            pfn += BITS
            continue
        if not marked(seen, pfn) and (block & PB_INITIALISED == 0 or not in_use(m, pfn)):
            return pfn + 1
        pfn += 1
    return 0


@core(cold=True)
def pages_are_conserved(m: Machine, a: RaceArea) -> int:
    """Each page is in one place.

    Alone notices a page that nobody has and nobody misses (the tails of R16, the captured block of R19: no count is
    wrong), and one that is on a list while its owner uses it, or on two lists (R16b).
    """
    seen = marks()
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages != 0:
                wrong = mark_lists(m, zone, seen)
                if wrong != 0:
                    return wrong
    for slot in range(OWNERS):
        order = a.ghost[GHOST_ORDER + slot] - 1
        pfn = a.slots[slot] - 1
        if order >= 0:
            for at in range(pfn, pfn + (1 << order)):
                if marked(seen, at):
                    return at + 1
    mark_slots(a, seen)
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages != 0:
                wrong = find_lost_page(m, zone, seen)
                if wrong != 0:
                    return wrong
    return 0


@core(cold=True)
def one_owner(m: Machine, a: RaceArea) -> int:
    """No two slots own the same page.

    Alone notices a page that was handed out twice by an allocator whose books are right: what left the lists twice is
    on none, and referenced.
    """
    return mark_slots(a, marks())


@core(cold=True)
def nr_free_is_length(m: Machine, zone: Zone) -> int:
    """``nr_free`` is the number of entries of an order's lists.

    Alone notices a block that is moved between lists without del_page_from_free_list() and add_to_free_list(): pages
    and NR_FREE_PAGES are where they belong, and compaction and watermark checks go by a wrong number of blocks.
    """
    for order in range(MAX_ORDER):
        entries = 0
        for mt in range(MIGRATE_TYPES):
            entries += length_of(m, zone.free_area[order].free_list[mt])
        if zone.free_area[order].nr_free != entries:
            return zone.free_area[order].nr_free - entries
    return 0


@core
def length_of(m: Machine, head: ListHead) -> int:
    """Entries of a list, up to the first broken link, of which :func:`pages_are_conserved` tells."""
    entries = 0
    link = after(m, head, link_of(m, head))
    while link >= 0 and entries <= m.max_pfn:
        entries += 1
        link = after(m, head, link)
    return entries


# --- types ------------------------------------------------------------------------------------------------------------


@core
def strange_block(m: Machine, zone: Zone, order: int, mt: int, isolated: bool) -> int:
    """pfn + 1 of a free block on a list whose pageblock is of another type, where one of the two is ISOLATE, or none
    is."""
    head = zone.free_area[order].free_list[mt]
    link = after(m, head, link_of(m, head))
    while link >= 0:
        pfn = link_to_pfn(m, link)
        block = get_pfnblock_migratetype(m, pfn)
        if block != mt and (block == MIGRATE_ISOLATE or mt == MIGRATE_ISOLATE) == isolated:
            return pfn + 1
        link = after(m, head, link)
    return 0


@core
def find_strange_block(m: Machine, zone: Zone, isolated: bool) -> int:
    """:func:`strange_block` of any list."""
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            wrong = strange_block(m, zone, order, mt, isolated)
            if wrong != 0:
                return wrong
    return 0


@core(cold=True)
def isolated_pages_are_apart(m: Machine, zone: Zone) -> int:
    """Free pages of isolated blocks, and no others, are on ISOLATE lists.

    Alone notices a page that was freed by the type that its block had before it was isolated, or while it was (R4):
    what a list counts as free it has, so the counters agree.
    """
    return find_strange_block(m, zone, True)


@core(cold=True)
def lists_match_blocks(m: Machine, zone: Zone) -> int:
    """Every free page is on the list of its block's type; of ISOLATE, :func:`isolated_pages_are_apart` tells.

    Alone notices R3. Not for every scenario: 5.10 tolerates it, and stealing a part of a block does it on purpose.
    """
    return find_strange_block(m, zone, False)


@core(cold=True)
def nothing_isolated_on_pcp(m: Machine, zone: Zone) -> int:
    """No page on a pcp list belongs to an isolated block.

    Alone notices a page that was missed by the drain after isolation (R5, R15): it may be handed out again, out of a
    block that its owner believes to be empty soon. A matter of the end of a scenario, not of every one: 5.10 promises
    it to nobody who doesn't drain again.
    """
    if zone.nr_isolate_pageblock == 0:
        return 0
    for party in range(m.nr_parties):
        for mt in range(MIGRATE_PCPTYPES):
            head = pageset_at(m, zone.pageset + party * PAGESET_SIZE).lists[mt]
            link = after(m, head, link_of(m, head))
            while link >= 0:
                if get_pfnblock_migratetype(m, link_to_pfn(m, link)) == MIGRATE_ISOLATE:
                    return link_to_pfn(m, link) + 1
                link = after(m, head, link)
    return 0
