"""Faults on what was swapped out or is being migrated (``mm/memory.c:do_swap_page()`` (5.10))."""

from emu.mm.fault_anon import VM_FAULT_MAJOR, VM_FAULT_OOM, VM_FAULT_SIGBUS, VM_FAULT_WRITE, do_wp_page
from emu.mm.page_lock import lock_page, put_and_wait_on_page_locked, unlock_page
from emu.mm.pagevec import put_page
from emu.mm.rmap import page_add_anon_rmap
from emu.mm.swap_state import lookup_swap_cache, reuse_swap_page, swapin, try_to_free_swap
from emu.mm.swapfile import swap_free, vm_swap_full
from emu.mm.vma import add_mm_counter, mm_offset, pte_of, pte_offset
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_SWAPENTS, PRIVATE_SWAP_MASK, PTE_DIRTY, PTE_MIGRATION, PTE_PRESENT, PTE_SHIFT, PTE_WRITE,
    PTE_YOUNG, VM_LOCKED, VM_WRITE, mm_record, slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_mlocked, PG_swapcache, PG_uptodate, pfn_to_page
from emu.zone.page_ref import get_page_unless_zero, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGMAJFAULT
from shm.atomic import load_acquire, store_release
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

S_SWAP = site("do_swap_page:page_table_lock")
S_MIGRATION = site("__migration_entry_wait:page_table_lock")


@core
def migration_entry_wait(m: Machine, cpu: Cpu, mm_id: int, slot: int) -> None:
    """``mm/migrate.c:__migration_entry_wait() (5.10)``: until the page that is being migrated is unlocked; its
    reference count must not be raised meanwhile."""
    mm = mm_record(m, mm_offset(m, mm_id))
    pfn = NULL
    spin_lock(cpu.party, mm.page_table_lock, S_MIGRATION)
    pte = load_acquire(slot_at(m, pte_offset(mm, slot)), "value")
    if pte & PTE_MIGRATION != 0:
        pfn = pte >> PTE_SHIFT
        if not get_page_unless_zero(page_record(m, pfn_to_page(m, pfn))):
            pfn = NULL
    spin_unlock(cpu.party, mm.page_table_lock)
    if pfn != NULL:
        put_and_wait_on_page_locked(m, cpu, pfn)


@core
def map_swapped(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, old: int, pfn: int, write: int) -> int:
    """The part of ``do_swap_page()`` under the lock: map the page that is locked and read. Returns the entry made, 0 if
    the slot has changed, or -1 if the page couldn't be read."""
    mm = mm_record(m, mm_offset(m, mm_id))
    pte = slot_at(m, pte_offset(mm, slot))
    made = 0
    spin_lock(cpu.party, mm.page_table_lock, S_SWAP)
    if load_acquire(pte, "value") == old:
        if not test_flag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate):
            made = -1
        else:
            add_mm_counter(mm, MM_ANONPAGES, 1)
            add_mm_counter(mm, MM_SWAPENTS, -1)
            made = pfn << PTE_SHIFT | PTE_PRESENT | PTE_YOUNG
            if write != 0 and reuse_swap_page(m, cpu, pfn):
                made |= PTE_DIRTY | (PTE_WRITE if vm_flags & VM_WRITE != 0 else 0)
            store_release(pte, "value", made)
            page_add_anon_rmap(m, cpu, pfn, mm_id, slot)
    spin_unlock(cpu.party, mm.page_table_lock)
    return made


@core
def do_swap_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, old: int, write: int) -> int:
    """``mm/memory.c:do_swap_page() (5.10)``: read the page back (with others around it) and map it.

    Differs from 5.10: the waits for the page lock are not killable retries of the whole fault.
    """
    if old & PTE_MIGRATION != 0:
        migration_entry_wait(m, cpu, mm_id, slot)
        return 0
    entry = old >> PTE_SHIFT
    result = 0
    major = lookup_swap_cache(m, entry) == NULL
    pfn = swapin(m, cpu, entry, mm_id, slot)
    if pfn == NULL:
        return VM_FAULT_OOM if pte_of(m, mm_id, slot) == old else 0
    if major:
        result = VM_FAULT_MAJOR
        __count_vm_events(cpu, PGMAJFAULT, 1)
    if not lock_page(m, cpu, pfn):
        put_page(m, cpu, pfn)
        return result
    page = page_record(m, pfn_to_page(m, pfn))
    made = 0
    if test_flag(page, PG_swapcache) and page.private & PRIVATE_SWAP_MASK == entry:
        made = map_swapped(m, cpu, mm_id, slot, vm_flags, old, pfn, write)
    if made <= 0:
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        return VM_FAULT_SIGBUS if made < 0 else result
    swap_free(m, cpu, entry)
    if vm_swap_full(m) or vm_flags & VM_LOCKED != 0 or test_flag(page, PG_mlocked):
        try_to_free_swap(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    if made & PTE_DIRTY != 0:
        return result | VM_FAULT_WRITE
    return result | do_wp_page(m, cpu, mm_id, slot, vm_flags, made) if write != 0 else result
