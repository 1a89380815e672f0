"""Taking slots of an address space away (``zap_page_range()`` and below in ``mm/memory.c`` (5.10))."""

from emu.cpu.workqueue import cond_resched
from emu.mm.mmu_gather import MmuGather, mmu_gather, tlb_finish_mmu, tlb_flush_mmu, tlb_gather_mmu, tlb_remove_page
from emu.mm.page_dirty import set_page_dirty
from emu.mm.page_table import pmd_none
from emu.mm.pagevec import lru_add_drain, mark_page_accessed
from emu.mm.rmap import PageAnon, page_remove_rmap
from emu.mm.swapfile import free_swap_and_cache
from emu.mm.vma import add_mm_counter, mm_counter_file, mm_offset, pte_offset
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_SWAPENTS, PTE_DIRTY, PTE_MIGRATION, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_SWAP, PTE_YOUNG,
    PTRS_PER_PTE, Mm, mm_record, slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import pfn_to_page
from shm.atomic import load_acquire, xchg
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

ANY_FILE = -1  # which pages go: all of them
S_ZAP = site("zap_pte_range:page_table_lock")


@core
def zap_present(m: Machine, cpu: Cpu, mm: Mm, pte: int, tlb: MmuGather) -> bool:
    """A mapping of a page that was cleared: true if the gather is full."""
    pfn = pte >> PTE_SHIFT
    page = page_record(m, pfn_to_page(m, pfn))
    if PageAnon(page):
        add_mm_counter(mm, MM_ANONPAGES, -1)
    else:
        if pte & PTE_DIRTY != 0:
            tlb.force_flush = 1
            set_page_dirty(m, cpu, pfn)
        if pte & PTE_YOUNG != 0:
            mark_page_accessed(m, cpu, pfn)
        add_mm_counter(mm, mm_counter_file(page), -1)
    page_remove_rmap(m, cpu, pfn)
    return tlb_remove_page(m, cpu, tlb, pfn)


@core
def zap_one(m: Machine, cpu: Cpu, mm: Mm, offset: int, file: int, tlb: MmuGather) -> bool:
    """One entry of ``zap_pte_range()``; ``page_table_lock`` is held. True if the gather is full.

    ``file``: only mappings of its pages go (truncation), anonymous copies of them stay.
    """
    slot = slot_at(m, offset)
    pte = load_acquire(slot, "value")
    if pte == 0:
        return False
    if pte & (PTE_PRESENT | PTE_SPECIAL) == PTE_PRESENT:
        if file != ANY_FILE and page_record(m, pfn_to_page(m, pte >> PTE_SHIFT)).mapping != file << 2:
            return False
        return zap_present(m, cpu, mm, xchg(slot, "value", 0), tlb)
    if file != ANY_FILE and pte & PTE_MIGRATION == 0:
        return False
    if pte & PTE_MIGRATION != 0:
        page = page_record(m, pfn_to_page(m, pte >> PTE_SHIFT))
        if file != ANY_FILE and page.mapping != file << 2:
            return False
        add_mm_counter(mm, MM_ANONPAGES if PageAnon(page) else mm_counter_file(page), -1)
    elif pte & PTE_SWAP != 0:
        add_mm_counter(mm, MM_SWAPENTS, -1)
        free_swap_and_cache(m, cpu, pte >> PTE_SHIFT)
    xchg(slot, "value", 0)
    return False


@core
def zap_pte_range(m: Machine, cpu: Cpu, mm_id: int, slot: int, end: int, file: int, tlb: MmuGather) -> None:
    """``mm/memory.c:zap_pte_range() (5.10)``: the slots of one page table; when the gather is full, the lock is given
    up and the pages are freed, and so they are at the end of a table that had dirty mappings of a file."""
    mm = mm_record(m, mm_offset(m, mm_id))
    while slot < end:
        full = False
        spin_lock(cpu.party, mm.page_table_lock, S_ZAP)
        while slot < end and not full:
            full = zap_one(m, cpu, mm, pte_offset(mm, slot), file, tlb)
            slot += 1
        spin_unlock(cpu.party, mm.page_table_lock)
        if full or tlb.force_flush != 0:
            tlb.force_flush = 0
            tlb_flush_mmu(m, cpu, tlb)


@core
def unmap_page_range(m: Machine, cpu: Cpu, mm_id: int, start: int, end: int, file: int, tlb: MmuGather) -> None:
    """``mm/memory.c:unmap_page_range() (5.10)``: page table by page table."""
    slot = start
    while slot < end:
        last = min((slot // PTRS_PER_PTE + 1) * PTRS_PER_PTE, end)
        if not pmd_none(m, mm_id, slot):
            zap_pte_range(m, cpu, mm_id, slot, last, file, tlb)
        cond_resched(m, cpu)
        slot = last


@core
def zap_range(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int, file: int) -> None:
    """:func:`zap_page_range`, of all pages or of a file's only."""
    tlb = mmu_gather()
    lru_add_drain(m, cpu)
    tlb_gather_mmu(m, cpu, tlb)
    unmap_page_range(m, cpu, mm_id, start, start + nr_pages, file, tlb)
    tlb_finish_mmu(m, cpu, tlb)


@core
def zap_page_range(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int) -> None:
    """``mm/memory.c:zap_page_range() (5.10)``: nothing is mapped there any more; the areas stay."""
    zap_range(m, cpu, mm_id, start, nr_pages, ANY_FILE)
