"""Taking a page's mappings away and giving them back (``mm/rmap.c:try_to_unmap()``, ``mm/migrate.c`` (5.10))."""

from emu.mm.mlock_page import mlock_vma_page
from emu.mm.page_dirty import set_page_dirty
from emu.mm.pagevec import put_page
from emu.mm.rmap_walk import (
    REFERENCED_FLAGS_SHIFT, PageAnon, page_add_anon_rmap, page_add_file_rmap, page_add_new_anon_rmap, page_mapcount,
    page_mapped, page_referenced, page_referenced_unlocked, page_remove_rmap, pte_maps,
)  # fmt: skip
from emu.mm.seams import page_mkclean
from emu.mm.swapfile import swap_duplicate
from emu.mm.vma import (
    PLACE_MASK, PLACE_SHIFT, add_mm_counter, get_mm_counter, mm_counter_file, place_mm, place_pte, rmap_place,
    rmap_places, vma_flags,
)  # fmt: skip
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, PRIVATE_SWAP_MASK, PTE_DIRTY, PTE_FILE, PTE_MIGRATION,
    PTE_PRESENT, PTE_SHIFT, PTE_SWAP, PTE_WRITE, VM_LOCKED, Mm, Slot, mm_record, slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PG_swapcache, pfn_to_page
from emu.zone.page_ref import get_page, test_flag
from shm.atomic import load_acquire, store_release, xchg
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

__all__ = [
    "REFERENCED_FLAGS_SHIFT", "TTU_BATCH_FLUSH", "TTU_IGNORE_MLOCK", "TTU_MIGRATION", "TTU_MUNLOCK", "PageAnon",
    "page_add_anon_rmap", "page_add_file_rmap", "page_add_new_anon_rmap", "page_mapcount", "page_mapped",
    "page_mkclean", "page_referenced", "page_referenced_unlocked", "page_remove_rmap", "pte_maps",
    "remove_migration_ptes", "try_to_munlock", "try_to_unmap",
]  # fmt: skip

TTU_MIGRATION = 0x1
TTU_MUNLOCK = 0x2
TTU_IGNORE_MLOCK = 0x8
TTU_BATCH_FLUSH = 0x40
GO_ON = 0
GONE = 1  # unmapped here
STAYS = 2  # this mapping stays, and so does the page
S_UNMAP = site("try_to_unmap_one:page_table_lock")
S_REMOVE_MIGRATION = site("remove_migration_pte:page_table_lock")


@core(inline=True)
def update_hiwater_rss(mm: Mm) -> None:
    """``update_hiwater_rss()``"""
    rss = get_mm_counter(mm, MM_FILEPAGES) + get_mm_counter(mm, MM_ANONPAGES) + get_mm_counter(mm, MM_SHMEMPAGES)
    if mm.hiwater_rss < rss:
        mm.hiwater_rss = rss


@core
def swap_out_one(m: Machine, cpu: Cpu, page: Page, mm: Mm, pte: Slot) -> bool:
    """The swap case of ``try_to_unmap_one()``: the mapping becomes a reference to the swap slot."""
    if not test_flag(page, PG_swapcache):
        return False
    entry = page.private & PRIVATE_SWAP_MASK
    if swap_duplicate(m, cpu, entry) < 0:
        return False
    add_mm_counter(mm, MM_ANONPAGES, -1)
    add_mm_counter(mm, MM_SWAPENTS, 1)
    store_release(pte, "value", entry << PTE_SHIFT | PTE_SWAP)
    return True


@core
def unmap_locked(m: Machine, cpu: Cpu, pfn: int, mm: Mm, pte: Slot, flags: int, vm_flags: int) -> int:
    """``mm/rmap.c:try_to_unmap_one() (5.10)`` for a mapping that was found; ``page_table_lock`` is held."""
    page = page_record(m, pfn_to_page(m, pfn))
    if flags & TTU_IGNORE_MLOCK == 0:
        if vm_flags & VM_LOCKED != 0:
            mlock_vma_page(m, cpu, pfn)
            return STAYS
        if flags & TTU_MUNLOCK != 0:
            return GO_ON
    value = xchg(pte, "value", 0)
    if value & PTE_DIRTY != 0:
        set_page_dirty(m, cpu, pfn)
    update_hiwater_rss(mm)
    if flags & TTU_MIGRATION != 0:
        store_release(pte, "value", pfn << PTE_SHIFT | PTE_MIGRATION | value & (PTE_WRITE | PTE_FILE))
    elif PageAnon(page):
        if not swap_out_one(m, cpu, page, mm, pte):
            store_release(pte, "value", value)
            return STAYS
    else:
        add_mm_counter(mm, mm_counter_file(page), -1)
    page_remove_rmap(m, cpu, pfn)
    return GONE


@core
def try_to_unmap_one(m: Machine, cpu: Cpu, pfn: int, place: int, flags: int) -> int:
    """``mm/rmap.c:try_to_unmap_one() (5.10)``"""
    mm = mm_record(m, place_mm(m, place))
    vm_flags = vma_flags(mm, place & PLACE_MASK)
    if flags & TTU_MUNLOCK != 0 and vm_flags & VM_LOCKED == 0:
        return GO_ON
    pte = slot_at(m, place_pte(m, place))
    result = GO_ON
    spin_lock(cpu.party, mm.page_table_lock, S_UNMAP)
    if pte_maps(load_acquire(pte, "value"), pfn):
        result = unmap_locked(m, cpu, pfn, mm, pte, flags, vm_flags)
    spin_unlock(cpu.party, mm.page_table_lock)
    if result == GONE:
        put_page(m, cpu, pfn)
    return result


@core
def try_to_unmap(m: Machine, cpu: Cpu, pfn: int, flags: int) -> bool:
    """``mm/rmap.c:try_to_unmap() (5.10)``: true if nobody maps the page any more. It is locked, and referenced.

    Anonymous pages in the swap cache leave their swap entry, with ``TTU_MIGRATION`` all pages a migration entry. The
    dirty bit goes to the page. There is no TLB, so ``TTU_BATCH_FLUSH`` makes no difference.

    Differs from 5.10: no MADV_FREE, so every anonymous page is ``PG_swapbacked``.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    mapping = page.mapping
    for i in range(rmap_places(m, mapping)):
        place = rmap_place(m, mapping, page.index, i)
        if place < 0:
            continue
        if try_to_unmap_one(m, cpu, pfn, place, flags) == STAYS or not page_mapped(page):
            break
    return not page_mapped(page)


@core
def try_to_munlock(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/rmap.c:try_to_munlock() (5.10)``: is there another locked area that maps it? Then it is mlocked again."""
    try_to_unmap(m, cpu, pfn, TTU_MUNLOCK)


@core
def remove_migration_pte(m: Machine, cpu: Cpu, old_pfn: int, new_pfn: int, place: int) -> None:
    """``mm/migrate.c:remove_migration_pte() (5.10)``"""
    new = page_record(m, pfn_to_page(m, new_pfn))
    mm = mm_record(m, place_mm(m, place))
    pte = slot_at(m, place_pte(m, place))
    spin_lock(cpu.party, mm.page_table_lock, S_REMOVE_MIGRATION)
    value = load_acquire(pte, "value")
    if value & PTE_MIGRATION != 0 and value >> PTE_SHIFT == old_pfn:
        get_page(new)
        store_release(pte, "value", new_pfn << PTE_SHIFT | PTE_PRESENT | value & (PTE_WRITE | PTE_FILE))
        if PageAnon(new):
            page_add_anon_rmap(m, cpu, new_pfn, place >> PLACE_SHIFT, place & PLACE_MASK)
        else:
            page_add_file_rmap(m, cpu, new_pfn)
        if vma_flags(mm, place & PLACE_MASK) & VM_LOCKED != 0:
            mlock_vma_page(m, cpu, new_pfn)
    spin_unlock(cpu.party, mm.page_table_lock)


@core
def remove_migration_ptes(m: Machine, cpu: Cpu, old_pfn: int, new_pfn: int) -> None:
    """``mm/migrate.c:remove_migration_ptes() (5.10)``: migration entries of the old page become mappings of the new
    one, old (not young) and clean. Both may be the same page, when its migration failed."""
    new = page_record(m, pfn_to_page(m, new_pfn))
    mapping = new.mapping
    for i in range(rmap_places(m, mapping)):
        place = rmap_place(m, mapping, new.index, i)
        if place >= 0:
            remove_migration_pte(m, cpu, old_pfn, new_pfn, place)
