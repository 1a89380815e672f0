"""pfn and struct page, page flags, compound pages (``include/linux/page-flags.h``, ``mm/page_alloc.c`` (5.10)).

Pages are named by pfn between functions; NULL is -1.
"""

from emu.zone.mmzone import MAX_NR_ZONES, PAGE_SIZE_OF, Machine, Page, Zone, page_record
from shm.atomic import address
from shm.core import core

NULL = -1

ZONE_BITS = 2
NODE_SHIFT = 2
NODE_BITS = 3
ZONE_ID_MASK = (1 << (ZONE_BITS + NODE_BITS)) - 1
_names = (
    "locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "waiters", "slab",
    "owner_priv_1", "reserved", "private", "writeback", "head", "mappedtodisk", "reclaim", "swapbacked", "unevictable",
    "mlocked", "hwpoison", "reported", "buddy", "guard", "table", "offline", "kmemcg",
)  # fmt: skip
PAGE_FLAG_NAMES = {name: 1 << (at + ZONE_BITS + NODE_BITS) for at, name in enumerate(_names)}
PG_locked = PAGE_FLAG_NAMES["locked"]
PG_error = PAGE_FLAG_NAMES["error"]
PG_uptodate = PAGE_FLAG_NAMES["uptodate"]
PG_referenced = PAGE_FLAG_NAMES["referenced"]
PG_dirty = PAGE_FLAG_NAMES["dirty"]
PG_lru = PAGE_FLAG_NAMES["lru"]
PG_active = PAGE_FLAG_NAMES["active"]
PG_workingset = PAGE_FLAG_NAMES["workingset"]
PG_waiters = PAGE_FLAG_NAMES["waiters"]
PG_swapcache = PAGE_FLAG_NAMES["owner_priv_1"]  # as in the kernel: PG_owner_priv_1 of a swap-backed page
PG_slab = PAGE_FLAG_NAMES["slab"]
PG_reserved = PAGE_FLAG_NAMES["reserved"]
PG_private = PAGE_FLAG_NAMES["private"]
PG_writeback = PAGE_FLAG_NAMES["writeback"]
PG_head = PAGE_FLAG_NAMES["head"]
PG_reclaim = PAGE_FLAG_NAMES["reclaim"]
PG_readahead = PG_reclaim  # the same bit: of a page that is read, not written
PG_swapbacked = PAGE_FLAG_NAMES["swapbacked"]
PG_unevictable = PAGE_FLAG_NAMES["unevictable"]
PG_mlocked = PAGE_FLAG_NAMES["mlocked"]
PG_hwpoison = PAGE_FLAG_NAMES["hwpoison"]
PG_reported = PAGE_FLAG_NAMES["reported"]
PG_buddy = PAGE_FLAG_NAMES["buddy"]
PG_guard = PAGE_FLAG_NAMES["guard"]
PG_table = PAGE_FLAG_NAMES["table"]
PG_offline = PAGE_FLAG_NAMES["offline"]
PG_kmemcg = PAGE_FLAG_NAMES["kmemcg"]
# the page types share _mapcount in the kernel: one of them set there is a mapcount that isn't -1
PAGE_TYPES = PG_buddy | PG_guard | PG_table | PG_offline
PAGEFLAGS_MASK = (1 << (len(_names) + ZONE_BITS + NODE_BITS)) - 1 - ZONE_ID_MASK
PAGE_FLAGS_CHECK_AT_FREE = (
    PG_lru | PG_locked | PG_private | PG_writeback | PG_reserved | PG_slab | PG_active | PG_unevictable | PG_mlocked
)
PAGE_FLAGS_CHECK_AT_PREP = PAGEFLAGS_MASK & ~(PG_hwpoison | PAGE_TYPES | PG_kmemcg)
TAIL_MAPPING = 0x400
PAGE_MAPPING_ANON = 1  # low bits of mapping
PAGE_MAPPING_MOVABLE = 2
PAGE_MAPPING_FLAGS = 3
_KEEP = (1 << 32) - 1


@core(inline=True)
def pfn_to_page(m: Machine, pfn: int) -> int:
    """Offset of ``struct page`` of a pfn."""
    return m.mem_map + pfn * PAGE_SIZE_OF


@core(inline=True)
def link_to_pfn(m: Machine, link: int) -> int:
    """The page whose ``lru`` has this link."""
    return (link - m.mem_map_link) >> 3


@core(inline=True)
def link_to_page(m: Machine, link: int) -> int:
    """Offset of the page whose ``lru`` has this link: ``lru`` is its first field."""
    return link << 2


@core(inline=True)
def page_to_pfn(m: Machine, page: Page) -> int:
    """``page_to_pfn()``"""
    return (address(page) - address(m) - m.mem_map) >> 5


@core(inline=True)
def page_zone_id(page: Page) -> int:
    """``page_zone_id()``: zone and node in one number."""
    return page.page_flags & ZONE_ID_MASK


@core(inline=True)
def zone_id_bits(zone: Zone) -> int:
    """What ``page_zone_id`` is for the pages of a zone."""
    return zone.zid | zone.node << NODE_SHIFT


@core(inline=True)
def page_zone(m: Machine, page: Page) -> int:
    """``page_zone()``: offset of the page's zone."""
    flags = page.page_flags
    node = (flags >> NODE_SHIFT) & ((1 << NODE_BITS) - 1)
    return address(m.nodes[node].node_zones[flags & (MAX_NR_ZONES - 1)]) - address(m)


@core(inline=True)
def set_flag(page: Page, flag: int) -> None:
    """``__SetPageFlag()``: not atomic, the caller owns the page."""
    page.page_flags = page.page_flags | flag


@core(inline=True)
def clear_flag(page: Page, flag: int) -> None:
    """``__ClearPageFlag()``: not atomic, the caller owns the page."""
    page.page_flags = page.page_flags & (_KEEP - flag)


@core(inline=True)
def PageTail(page: Page) -> bool:
    """``PageTail()``: bit 0 of compound_head; links of pages are even."""
    return page.lru.next & 1 != 0


@core(inline=True)
def PageCompound(page: Page) -> bool:
    """``PageCompound()``"""
    return page.page_flags & PG_head != 0 or page.lru.next & 1 != 0


@core
def prep_compound_page(m: Machine, pfn: int, order: int) -> None:
    """``mm/page_alloc.c:prep_compound_page() (5.10)``: a head, and tails that point at it.

    Differs from 5.10: order and compound_mapcount of ``page[1]`` are in its ``private`` and ``mapcount``; the
    destructor is always free_compound_page.
    """
    head = page_record(m, pfn_to_page(m, pfn))
    set_flag(head, PG_head)
    tail_link = m.mem_map_link + (pfn << 3) | 1
    for i in range(1, 1 << order):
        p = page_record(m, pfn_to_page(m, pfn + i))
        p.refcount = 0
        p.mapping = TAIL_MAPPING
        p.lru.next = tail_link
    first = page_record(m, pfn_to_page(m, pfn + 1))
    first.private = order


@core
def compound_order(m: Machine, pfn: int) -> int:
    """``compound_order()``: of a head page; 0 for any other."""
    if page_record(m, pfn_to_page(m, pfn)).page_flags & PG_head == 0:
        return 0
    return page_record(m, pfn_to_page(m, pfn + 1)).private
