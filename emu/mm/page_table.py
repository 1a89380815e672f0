"""The pages of page tables (``pte_alloc()``, ``free_pgtables()`` in ``mm/memory.c`` (5.10)).

Differs from 5.10: there is one level, a page for 512 slots; the levels above (one page for each GiB, one for each 512
GiB, and the root) are not allocated.
"""

from emu.mm.alloc import alloc_page
from emu.mm.mmu_gather import MmuGather, tlb_flush_mmu, tlb_remove_page
from emu.mm.pagevec import put_page
from emu.mm.vma import mm_offset
from emu.zone.gfp import __GFP_ZERO, GFP_KERNEL_ACCOUNT
from emu.zone.lru import mod_zone_page_state
from emu.zone.mm_types import PTRS_PER_PTE, SLOT_SIZE, Mm, mm_record, slot_at
from emu.zone.mmzone import Cpu, Machine, page_record, zone_at
from emu.zone.page import NULL, PG_table, page_zone, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag
from emu.zone.vmstat_items import NR_PAGETABLE
from shm.atomic import fetch_add, load_acquire, store_release, xchg
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

S_POPULATE = site("__pte_alloc:page_table_lock")
S_FREE = site("free_pte_range:page_table_lock")


@core(inline=True)
def pmd_offset(mm: Mm, slot: int) -> int:
    """Offset of the entry that names a slot's page table, as pfn + 1."""
    return mm.pmd + slot // PTRS_PER_PTE * SLOT_SIZE


@core
def pte_alloc_one(m: Machine, cpu: Cpu) -> int:
    """``pte_alloc_one()`` with its constructor: a page for a page table, or -1."""
    pfn = alloc_page(m, cpu, GFP_KERNEL_ACCOUNT | __GFP_ZERO)
    if pfn != NULL:
        page = page_record(m, pfn_to_page(m, pfn))
        SetPageFlag(page, PG_table)
        mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_PAGETABLE, 1)
    return pfn


@core
def pgtable_pte_page_dtor(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``pgtable_pte_page_dtor()``"""
    page = page_record(m, pfn_to_page(m, pfn))
    ClearPageFlag(page, PG_table)
    mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_PAGETABLE, -1)


@core
def pmd_install(m: Machine, cpu: Cpu, mm_id: int, slot: int, pfn: int) -> None:
    """``pmd_populate()`` unless somebody was faster: then the page is freed."""
    mm = mm_record(m, mm_offset(m, mm_id))
    entry = slot_at(m, pmd_offset(mm, slot))
    spin_lock(cpu.party, mm.page_table_lock, S_POPULATE)
    first = load_acquire(entry, "value") == 0
    if first:
        store_release(entry, "value", pfn + 1)
        fetch_add(mm, "nr_page_tables", 1)
    spin_unlock(cpu.party, mm.page_table_lock)
    if not first:
        pgtable_pte_page_dtor(m, cpu, pfn)
        put_page(m, cpu, pfn)


@core
def pmd_none(m: Machine, mm_id: int, slot: int) -> bool:
    """``pmd_none()``: there is no page table for this slot."""
    return load_acquire(slot_at(m, pmd_offset(mm_record(m, mm_offset(m, mm_id)), slot)), "value") == 0


@core
def pte_alloc(m: Machine, cpu: Cpu, mm_id: int, slot: int) -> bool:
    """``pte_alloc()``: there is a page table for this slot now; false without memory."""
    if not pmd_none(m, mm_id, slot):
        return True
    pfn = pte_alloc_one(m, cpu)
    if pfn == NULL:
        return False
    pmd_install(m, cpu, mm_id, slot, pfn)
    return True


@core
def table_in_use(mm: Mm, first: int) -> bool:
    """Whether an area reaches into the page table that starts at slot ``first``."""
    for i in range(mm.nr_vmas):
        vma = mm.vmas[i]
        if vma.end > vma.start and vma.start < first + PTRS_PER_PTE and vma.end > first:
            return True
    return False


@core
def free_pte_range(m: Machine, cpu: Cpu, mm_id: int, slot: int, tlb: MmuGather) -> None:
    """``mm/memory.c:free_pte_range() (5.10)``: the page of a table without entries goes with the unmapped pages."""
    mm = mm_record(m, mm_offset(m, mm_id))
    spin_lock(cpu.party, mm.page_table_lock, S_FREE)
    pfn = xchg(slot_at(m, pmd_offset(mm, slot)), "value", 0) - 1
    spin_unlock(cpu.party, mm.page_table_lock)
    if pfn < 0:
        return
    fetch_add(mm, "nr_page_tables", -1)
    pgtable_pte_page_dtor(m, cpu, pfn)
    if tlb_remove_page(m, cpu, tlb, pfn):
        tlb_flush_mmu(m, cpu, tlb)


@core
def free_pgtables(m: Machine, cpu: Cpu, mm_id: int, start: int, end: int, tlb: MmuGather) -> None:
    """``mm/memory.c:free_pgtables() (5.10)``: the tables of slots ``[start, end)`` that no remaining area needs."""
    mm = mm_record(m, mm_offset(m, mm_id))
    slot = start // PTRS_PER_PTE * PTRS_PER_PTE
    while slot < end:
        if not pmd_none(m, mm_id, slot) and not table_in_use(mm, slot):
            free_pte_range(m, cpu, mm_id, slot, tlb)
        slot += PTRS_PER_PTE
