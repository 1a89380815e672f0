"""Faults that give a process memory of its own: anonymous pages and copies on write (``mm/memory.c`` (5.10)).

What a fault was told is ``VM_FAULT_*``. A fault that fails leaves nothing behind.
"""

from emu.mm.alloc import alloc_page
from emu.mm.memcontrol import mem_cgroup_charge
from emu.mm.munlock import munlock_vma_page
from emu.mm.page_dirty import set_page_dirty
from emu.mm.page_lock import lock_page, trylock_page, unlock_page
from emu.mm.page_table import pte_alloc
from emu.mm.page_writeback import balance_dirty_pages_ratelimited
from emu.mm.pagevec import lru_cache_add_inactive_or_unevictable, put_page
from emu.mm.rmap import PageAnon, page_add_new_anon_rmap, page_mapcount, page_remove_rmap
from emu.mm.vma import add_mm_counter, mm_counter_file, mm_offset, pte_offset
from emu.zone.gfp import __GFP_ZERO, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mm_types import (
    MM_ANONPAGES, MMF_UNSTABLE, PTE_DIRTY, PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTE_WRITE, PTE_YOUNG, VM_LOCKED,
    VM_SHARED, VM_WRITE, Mm, mm_record, slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_mlocked, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag, get_page, page_count, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGREUSE
from shm.atomic import fetch_or, load_acquire, store_release
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

VM_FAULT_OOM = 0x1
VM_FAULT_SIGBUS = 0x2
VM_FAULT_MAJOR = 0x4
VM_FAULT_WRITE = 0x8
VM_FAULT_SIGSEGV = 0x40
VM_FAULT_NOPAGE = 0x100
VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV
S_ANON = site("do_anonymous_page:page_table_lock")
S_COPY = site("wp_page_copy:page_table_lock")
S_WP = site("do_wp_page:page_table_lock")


@core(inline=True)
def own_pte(pfn: int, vm_flags: int) -> int:
    """The entry for a new page of one's own: young, and writable and dirty where the area is."""
    pte = pfn << PTE_SHIFT | PTE_PRESENT | PTE_YOUNG
    return pte | PTE_WRITE | PTE_DIRTY if vm_flags & VM_WRITE != 0 else pte


@core
def new_anon_page(m: Machine, cpu: Cpu, mm: Mm, gfp: int) -> int:
    """A charged page for an address space, or -1."""
    pfn = alloc_page(m, cpu, gfp)
    if pfn != NULL and mem_cgroup_charge(m, cpu, pfn, mm.memcg, GFP_KERNEL) != 0:
        put_page(m, cpu, pfn)
        return NULL
    return pfn


@core
def map_zero_page(m: Machine, cpu: Cpu, mm: Mm, slot: int) -> int:
    """The read case of ``do_anonymous_page()``: the zero page, which belongs to nobody."""
    pte = slot_at(m, pte_offset(mm, slot))
    result = 0
    spin_lock(cpu.party, mm.page_table_lock, S_ANON)
    if load_acquire(pte, "value") == 0:
        if load_acquire(mm, "mm_flags") & MMF_UNSTABLE != 0:
            result = VM_FAULT_SIGBUS
        else:
            store_release(pte, "value", PTE_PRESENT | PTE_YOUNG | PTE_SPECIAL)
    spin_unlock(cpu.party, mm.page_table_lock)
    return result


@core
def do_anonymous_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, write: int) -> int:
    """``mm/memory.c:do_anonymous_page() (5.10)``: a read maps the zero page, a write a zeroed page."""
    mm = mm_record(m, mm_offset(m, mm_id))
    if vm_flags & VM_SHARED != 0:
        return VM_FAULT_SIGBUS
    if not pte_alloc(m, cpu, mm_id, slot):
        return VM_FAULT_OOM
    if write == 0:
        return map_zero_page(m, cpu, mm, slot)
    pfn = new_anon_page(m, cpu, mm, GFP_HIGHUSER_MOVABLE | __GFP_ZERO)
    if pfn == NULL:
        return VM_FAULT_OOM
    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    pte = slot_at(m, pte_offset(mm, slot))
    result = 0
    mapped = False
    spin_lock(cpu.party, mm.page_table_lock, S_ANON)
    if load_acquire(pte, "value") == 0:
        if load_acquire(mm, "mm_flags") & MMF_UNSTABLE != 0:
            result = VM_FAULT_SIGBUS
        else:
            add_mm_counter(mm, MM_ANONPAGES, 1)
            page_add_new_anon_rmap(m, cpu, pfn, mm_id, slot)
            lru_cache_add_inactive_or_unevictable(m, cpu, pfn, vm_flags)
            store_release(pte, "value", own_pte(pfn, vm_flags))
            mapped = True
    spin_unlock(cpu.party, mm.page_table_lock)
    if not mapped:
        put_page(m, cpu, pfn)
    return result


@core
def replace_pte(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, old: int, pfn: int) -> bool:
    """The part of ``wp_page_copy()`` under the lock: the copy takes the place of what was mapped, if that is still
    so."""
    mm = mm_record(m, mm_offset(m, mm_id))
    pte = slot_at(m, pte_offset(mm, slot))
    copied = False
    spin_lock(cpu.party, mm.page_table_lock, S_COPY)
    now = load_acquire(pte, "value")
    if (now ^ old) & ~(PTE_YOUNG | PTE_DIRTY) == 0:
        if old & PTE_SPECIAL != 0:
            add_mm_counter(mm, MM_ANONPAGES, 1)
        else:
            was = page_record(m, pfn_to_page(m, old >> PTE_SHIFT))
            if not PageAnon(was):
                add_mm_counter(mm, mm_counter_file(was), -1)
                add_mm_counter(mm, MM_ANONPAGES, 1)
        page_add_new_anon_rmap(m, cpu, pfn, mm_id, slot)
        lru_cache_add_inactive_or_unevictable(m, cpu, pfn, vm_flags)
        store_release(pte, "value", own_pte(pfn, vm_flags))
        if old & PTE_SPECIAL == 0:
            page_remove_rmap(m, cpu, old >> PTE_SHIFT)
        copied = True
    spin_unlock(cpu.party, mm.page_table_lock)
    return copied


@core
def wp_page_copy(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, old: int) -> int:
    """``mm/memory.c:wp_page_copy() (5.10)``: a page of one's own instead of the one (or the zero page) that is mapped.
    The caller's reference on that one is dropped."""
    mm = mm_record(m, mm_offset(m, mm_id))
    zero = old & PTE_SPECIAL != 0
    old_pfn = old >> PTE_SHIFT
    pfn = new_anon_page(m, cpu, mm, GFP_HIGHUSER_MOVABLE | __GFP_ZERO if zero else GFP_HIGHUSER_MOVABLE)
    if pfn == NULL:
        if not zero:
            put_page(m, cpu, old_pfn)
        return VM_FAULT_OOM
    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    copied = replace_pte(m, cpu, mm_id, slot, vm_flags, old, pfn)
    if not copied:
        put_page(m, cpu, pfn)
    elif not zero:
        put_page(m, cpu, old_pfn)
        if vm_flags & VM_LOCKED != 0 and lock_page(m, cpu, old_pfn):
            if test_flag(page_record(m, pfn_to_page(m, old_pfn)), PG_mlocked):
                munlock_vma_page(m, cpu, old_pfn)
            unlock_page(m, cpu, old_pfn)
    if not zero:
        put_page(m, cpu, old_pfn)
    return VM_FAULT_WRITE if copied else 0


@core
def may_reuse(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """Whether an anonymous page is only mapped here: not in the swap cache, and held by nobody."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page_count(page) != 1 or not trylock_page(page):
        return False
    alone = page_mapcount(page) == 1 and page_count(page) == 1
    unlock_page(m, cpu, pfn)
    return alone


@core
def wp_page_shared(m: Machine, cpu: Cpu, pfn: int) -> int:
    """The end of ``mm/memory.c:wp_page_shared() (5.10)``: the file's page, writable again, is dirty. The reference
    goes."""
    page = page_record(m, pfn_to_page(m, pfn))
    if lock_page(m, cpu, pfn):
        file = page.mapping >> 2
        set_page_dirty(m, cpu, pfn)
        unlock_page(m, cpu, pfn)
        if file != 0:
            balance_dirty_pages_ratelimited(m, cpu, file)
    put_page(m, cpu, pfn)
    return VM_FAULT_WRITE


@core
def do_wp_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, old: int) -> int:
    """``mm/memory.c:do_wp_page() (5.10)``: a write to a page that is mapped read-only: an anonymous page of one's own
    is made writable, a shared file's is dirtied, anything else is copied.

    Differs from 5.10: a file without ``page_mkwrite()`` is tmpfs only, whose shared pages are writable from the start.
    """
    mm = mm_record(m, mm_offset(m, mm_id))
    pte = slot_at(m, pte_offset(mm, slot))
    pfn = old >> PTE_SHIFT
    copy = True
    shared = False
    spin_lock(cpu.party, mm.page_table_lock, S_WP)
    same = (load_acquire(pte, "value") ^ old) & ~(PTE_YOUNG | PTE_DIRTY) == 0
    if same and old & PTE_SPECIAL == 0:
        page = page_record(m, pfn_to_page(m, pfn))
        if PageAnon(page):
            copy = not may_reuse(m, cpu, pfn)
        elif vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED:
            shared = True
            copy = False
        if not copy:
            fetch_or(pte, "value", PTE_YOUNG | PTE_DIRTY | PTE_WRITE)
        if copy or shared:
            get_page(page)
    spin_unlock(cpu.party, mm.page_table_lock)
    if not same:
        return 0
    if copy:
        return wp_page_copy(m, cpu, mm_id, slot, vm_flags, old)
    __count_vm_events(cpu, PGREUSE, 1)
    return wp_page_shared(m, cpu, pfn) if shared else VM_FAULT_WRITE
