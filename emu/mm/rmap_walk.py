"""Who maps a page (``mm/rmap.c`` (5.10)): counting mappings, collecting and clearing the bits the hardware sets.

Differs from 5.10: address spaces share no anonymous pages, so such a page has at most one mapping, slot ``page.index``
of its owner; a file's mappings are in its ``i_mmap``. There are no huge pages on the LRU lists.
"""

from emu.mm.mlock_page import clear_page_mlock
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.seams import page_mkclean
from emu.mm.vma import PLACE_MASK, place_mm, place_pte, rmap_place, rmap_places, vma_flags
from emu.zone.lru import mod_node_page_state, page_to_nid
from emu.zone.mm_types import (
    PTE_DIRTY, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, PTE_YOUNG, VM_LOCKED, VM_SHARED, Mm, Slot, mm_record,
    slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PAGE_MAPPING_ANON, PG_mlocked, PG_swapbacked, pfn_to_page
from emu.zone.page_ref import SetPageFlag, test_flag
from emu.zone.vmstat_items import NR_ANON_MAPPED, NR_FILE_MAPPED
from shm.atomic import fetch_add, fetch_and, load_acquire
from shm.core import core, implements
from shm.point import point, site
from shm.spinlock import spin_lock, spin_unlock

REFERENCED_FLAGS_SHIFT = 32  # of page_referenced(): the areas' flags above the count
S_REFERENCED = site("page_referenced_one:page_table_lock")
S_MKCLEAN = site("page_mkclean_one:page_table_lock")
S_MAPCOUNT = site("page_add_rmap:mapcount")


@core(inline=True)
def page_mapped(page: Page) -> bool:
    """``page_mapped()``"""
    return load_acquire(page, "mapcount") >= 0


@core(inline=True)
def page_mapcount(page: Page) -> int:
    """``page_mapcount()``"""
    return load_acquire(page, "mapcount") + 1


@core(inline=True)
def PageAnon(page: Page) -> bool:
    """``PageAnon()``"""
    return page.mapping & PAGE_MAPPING_ANON != 0


@core(inline=True)
def pte_maps(pte: int, pfn: int) -> bool:
    """Whether a page table entry maps this page."""
    return pte & (PTE_PRESENT | PTE_SPECIAL) == PTE_PRESENT and pte >> PTE_SHIFT == pfn


# --- counting ---------------------------------------------------------------------------------------------------------


@core
def page_add_new_anon_rmap(m: Machine, cpu: Cpu, pfn: int, mm_id: int, slot: int) -> None:
    """``mm/rmap.c:page_add_new_anon_rmap() (5.10)``: the first mapping of a page that nobody else knows."""
    page = page_record(m, pfn_to_page(m, pfn))
    SetPageFlag(page, PG_swapbacked)
    page.mapcount = 0
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_ANON_MAPPED, 1)
    page.index = slot
    page.mapping = mm_id << 2 | PAGE_MAPPING_ANON


@core
def page_add_anon_rmap(m: Machine, cpu: Cpu, pfn: int, mm_id: int, slot: int) -> None:
    """``mm/rmap.c:page_add_anon_rmap() (5.10)``: mapped again, from the swap cache or after migration."""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_MAPCOUNT)
    if fetch_add(page, "mapcount", 1) != -1:
        return
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_ANON_MAPPED, 1)
    page.index = slot
    page.mapping = mm_id << 2 | PAGE_MAPPING_ANON


@core
def page_add_file_rmap(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/rmap.c:page_add_file_rmap() (5.10)``"""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_MAPCOUNT)
    if fetch_add(page, "mapcount", 1) == -1:
        mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_FILE_MAPPED, 1)


@core
def page_remove_rmap(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/rmap.c:page_remove_rmap() (5.10)``: one mapping less; ``page_table_lock`` is held."""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_MAPCOUNT)
    if fetch_add(page, "mapcount", -1) != 0:
        return
    item = NR_ANON_MAPPED if PageAnon(page) else NR_FILE_MAPPED
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], item, -1)
    if test_flag(page, PG_mlocked):
        clear_page_mlock(m, cpu, pfn)


# --- the bits of the hardware -----------------------------------------------------------------------------------------


@core
def page_referenced_one(m: Machine, cpu: Cpu, pfn: int, place: int) -> int:
    """``mm/rmap.c:page_referenced_one() (5.10)``: one mapping: its area's flags << 32 | 1 if it was referenced; of a
    locked area just the flag."""
    mm = mm_record(m, place_mm(m, place))
    pte = slot_at(m, place_pte(m, place))
    found = 0
    spin_lock(cpu.party, mm.page_table_lock, S_REFERENCED)
    if pte_maps(load_acquire(pte, "value"), pfn):
        flags = vma_flags(mm, place & PLACE_MASK)
        if flags & VM_LOCKED != 0:
            found = VM_LOCKED << REFERENCED_FLAGS_SHIFT
        elif fetch_and(pte, "value", -1 - PTE_YOUNG) & PTE_YOUNG != 0:
            found = flags << REFERENCED_FLAGS_SHIFT | 1
    spin_unlock(cpu.party, mm.page_table_lock)
    return found


@core
def page_referenced(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/rmap.c:page_referenced() (5.10)``: how many mappings were referenced since the last time, and above bit 32
    the flags of their areas. The young bits are cleared.

    The caller holds the page lock, or a reference and calls :func:`page_referenced_unlocked`. Differs from 5.10: in
    reclaim for a memory cgroup's limit, references from other cgroups' tasks count too.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    if not page_mapped(page):
        return 0
    mapping = page.mapping
    referenced = 0
    flags = 0
    for i in range(rmap_places(m, mapping)):
        place = rmap_place(m, mapping, page.index, i)
        if place < 0:
            continue
        found = page_referenced_one(m, cpu, pfn, place)
        referenced += found & 1
        flags |= found >> REFERENCED_FLAGS_SHIFT
        if flags & VM_LOCKED != 0:
            break
    return referenced | flags << REFERENCED_FLAGS_SHIFT


@core
def page_referenced_unlocked(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``page_referenced()`` for a caller without the page lock: 1 for a page of a file that somebody has locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not page_mapped(page) or page.mapping == 0:
        return 0
    if PageAnon(page):
        return page_referenced(m, cpu, pfn)
    if not trylock_page(page):
        return 1
    found = page_referenced(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    return found


@core
def page_mkclean_one(m: Machine, cpu: Cpu, mm: Mm, pte: Slot, pfn: int) -> int:
    """``mm/rmap.c:page_mkclean_one() (5.10)``: 1 if the mapping was dirty or writable; it is neither now."""
    cleaned = 0
    spin_lock(cpu.party, mm.page_table_lock, S_MKCLEAN)
    value = load_acquire(pte, "value")
    if pte_maps(value, pfn) and value & (PTE_DIRTY | PTE_WRITE) != 0:
        fetch_and(pte, "value", -1 - PTE_DIRTY - PTE_WRITE)
        cleaned = 1
    spin_unlock(cpu.party, mm.page_table_lock)
    return cleaned


@implements(page_mkclean)
def clean_ptes(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/rmap.c:page_mkclean() (5.10)``: write-protect the shared mappings of a page that is about to be written out.
    Returns how many were dirty or writable. The page is locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    mapping = page.mapping
    if not page_mapped(page) or mapping & PAGE_MAPPING_ANON != 0:
        return 0
    cleaned = 0
    for i in range(rmap_places(m, mapping)):
        place = rmap_place(m, mapping, page.index, i)
        if place < 0:
            continue
        mm = mm_record(m, place_mm(m, place))
        if vma_flags(mm, place & PLACE_MASK) & VM_SHARED != 0:
            cleaned += page_mkclean_one(m, cpu, mm, slot_at(m, place_pte(m, place)), pfn)
    return cleaned
