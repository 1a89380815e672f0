"""Faults in mappings of files (``mm/filemap.c:filemap_fault()``, ``mm/memory.c:do_fault()`` (5.10))."""

from emu.mm.fault_anon import (
    VM_FAULT_ERROR, VM_FAULT_MAJOR, VM_FAULT_NOPAGE, VM_FAULT_OOM, VM_FAULT_SIGBUS, new_anon_page, own_pte,
)  # fmt: skip
from emu.mm.filemap import EIO, read_page
from emu.mm.page_cache import find_get_page, find_or_create_page
from emu.mm.page_dirty import set_page_dirty
from emu.mm.page_lock import unlock_page
from emu.mm.page_table import pmd_install, pmd_none, pte_alloc_one
from emu.mm.page_writeback import balance_dirty_pages_ratelimited
from emu.mm.pagevec import lru_cache_add_inactive_or_unevictable, put_page
from emu.mm.readahead import do_page_cache_ra, page_cache_async_ra
from emu.mm.rmap import page_add_file_rmap, page_add_new_anon_rmap
from emu.mm.shmem import SGP_CACHE, shmem_getpage
from emu.mm.vma import add_mm_counter, file_offset, mm_counter_file, mm_offset, pte_offset
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mm_types import (
    AS_SHMEM, MM_ANONPAGES, MMF_UNSTABLE, PTE_DIRTY, PTE_FILE, PTE_PRESENT, PTE_SHIFT, PTE_WRITE, PTE_YOUNG, VM_SHARED,
    VM_WRITE, Mm, Vma, file_record, mm_record, slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_readahead, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGMAJFAULT
from shm.atomic import load_acquire, store_release
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

MMAP_LOTSAMISS = 100
CODE_BITS = 16  # a fault's page and code in one number: pfn << CODE_BITS | VM_FAULT_*; negative: -VM_FAULT_*
CODE_MASK = (1 << CODE_BITS) - 1
ENOMEM = 12
S_MAP = site("finish_fault:page_table_lock")


@core
def do_sync_mmap_readahead(m: Machine, cpu: Cpu, file: int, index: int) -> None:
    """``mm/filemap.c:do_sync_mmap_readahead() (5.10)``: around the page that is missing, unless misses are the rule."""
    ra = file_record(m, file_offset(m, file))
    if ra.ra_pages == 0:
        return
    if ra.mmap_miss < MMAP_LOTSAMISS * 10:
        ra.mmap_miss += 1
    if ra.mmap_miss > MMAP_LOTSAMISS:
        return
    ra.ra_start = max(0, index - ra.ra_pages // 2)
    ra.ra_size = ra.ra_pages
    ra.ra_async_size = ra.ra_pages // 4
    do_page_cache_ra(m, cpu, file, ra.ra_start, ra.ra_size, ra.ra_async_size, GFP_HIGHUSER_MOVABLE)


@core
def do_async_mmap_readahead(m: Machine, cpu: Cpu, file: int, index: int, pfn: int) -> None:
    """``mm/filemap.c:do_async_mmap_readahead() (5.10)``"""
    ra = file_record(m, file_offset(m, file))
    if ra.ra_pages == 0:
        return
    if ra.mmap_miss > 0:
        ra.mmap_miss -= 1
    if test_flag(page_record(m, pfn_to_page(m, pfn)), PG_readahead):
        page_cache_async_ra(m, cpu, file, index, pfn, ra.ra_pages, GFP_HIGHUSER_MOVABLE)


@core
def fault_page(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """The page for ``filemap_fault()`` after readahead: locked, uptodate and referenced, or -VM_FAULT_*."""
    while load_acquire(m, "stop") == 0:
        pfn = find_or_create_page(m, cpu, file, index, GFP_HIGHUSER_MOVABLE, 0)
        if pfn == NULL:
            return -VM_FAULT_OOM
        if test_flag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate):
            return pfn
        error = read_page(m, cpu, file, pfn)
        put_page(m, cpu, pfn)
        if error == -EIO:
            return -VM_FAULT_SIGBUS
    return -VM_FAULT_NOPAGE


@core
def filemap_fault(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``mm/filemap.c:filemap_fault() (5.10)``: the locked page << CODE_BITS | VM_FAULT_MAJOR or 0; or -VM_FAULT_*.

    Differs from 5.10: there is no mmap_lock to be dropped for IO, so a fault isn't begun again after it, and is counted
    once.
    """
    if index >= file_record(m, file_offset(m, file)).nr_slots:
        return -VM_FAULT_SIGBUS
    code = 0
    pfn = find_get_page(m, cpu, file, index)
    if pfn != NULL:
        do_async_mmap_readahead(m, cpu, file, index, pfn)
        put_page(m, cpu, pfn)
    else:
        __count_vm_events(cpu, PGMAJFAULT, 1)
        code = VM_FAULT_MAJOR
        do_sync_mmap_readahead(m, cpu, file, index)
    pfn = fault_page(m, cpu, file, index)
    return pfn if pfn < 0 else pfn << CODE_BITS | code


@core
def shmem_fault(m: Machine, cpu: Cpu, file: int, index: int, memcg: int) -> int:
    """``mm/shmem.c:shmem_fault() (5.10)``: as :func:`filemap_fault`."""
    major = cpu.vm_events[PGMAJFAULT]
    pfn = shmem_getpage(m, cpu, file, index, SGP_CACHE, 1, memcg)
    if pfn == -ENOMEM:
        return -VM_FAULT_OOM
    if pfn < 0:
        return -VM_FAULT_SIGBUS
    return pfn << CODE_BITS | (VM_FAULT_MAJOR if cpu.vm_events[PGMAJFAULT] != major else 0)


@core
def __do_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vma: Vma) -> int:
    """``mm/memory.c:__do_fault() (5.10)``: a page table first, should one be missing; then the file's page, locked."""
    if pmd_none(m, mm_id, slot):
        table = pte_alloc_one(m, cpu)
        if table == NULL:
            return -VM_FAULT_OOM
        pmd_install(m, cpu, mm_id, slot, table)
    index = slot - vma.start + vma.pgoff
    if file_record(m, file_offset(m, vma.file)).kind == AS_SHMEM:
        return shmem_fault(m, cpu, vma.file, index, mm_record(m, mm_offset(m, mm_id)).memcg)
    return filemap_fault(m, cpu, vma.file, index)


@core
def set_pte(m: Machine, cpu: Cpu, mm: Mm, mm_id: int, slot: int, vm_flags: int, pfn: int, pte: int) -> None:
    """The counting of ``alloc_set_pte()``; ``page_table_lock`` is held."""
    if pte & PTE_FILE == 0:
        add_mm_counter(mm, MM_ANONPAGES, 1)
        page_add_new_anon_rmap(m, cpu, pfn, mm_id, slot)
        lru_cache_add_inactive_or_unevictable(m, cpu, pfn, vm_flags)
    else:
        add_mm_counter(mm, mm_counter_file(page_record(m, pfn_to_page(m, pfn))), 1)
        page_add_file_rmap(m, cpu, pfn)
    store_release(slot_at(m, pte_offset(mm, slot)), "value", pte)


@core
def finish_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int, pfn: int, pte: int) -> int:
    """``mm/memory.c:finish_fault() (5.10)``: the entry, if nobody was faster: 0, VM_FAULT_NOPAGE or VM_FAULT_SIGBUS."""
    mm = mm_record(m, mm_offset(m, mm_id))
    result = 0
    spin_lock(cpu.party, mm.page_table_lock, S_MAP)
    if vm_flags & VM_SHARED == 0 and load_acquire(mm, "mm_flags") & MMF_UNSTABLE != 0:
        result = VM_FAULT_SIGBUS
    elif load_acquire(slot_at(m, pte_offset(mm, slot)), "value") != 0:
        result = VM_FAULT_NOPAGE
    else:
        set_pte(m, cpu, mm, mm_id, slot, vm_flags, pfn, pte)
    spin_unlock(cpu.party, mm.page_table_lock)
    return result


@core
def do_read_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vma: Vma) -> int:
    """``mm/memory.c:do_read_fault() (5.10)``: the file's page, read-only, except in shared tmpfs.

    Differs from 5.10: only the page that is asked for (``fault_around_bytes`` is one page).
    """
    found = __do_fault(m, cpu, mm_id, slot, vma)
    if found < 0:
        return -found
    pfn = found >> CODE_BITS
    pte = pfn << PTE_SHIFT | PTE_PRESENT | PTE_YOUNG | PTE_FILE
    if vma.vm_flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE:
        if file_record(m, file_offset(m, vma.file)).kind == AS_SHMEM:
            pte |= PTE_WRITE
    result = finish_fault(m, cpu, mm_id, slot, vma.vm_flags, pfn, pte)
    unlock_page(m, cpu, pfn)
    if result != 0:
        put_page(m, cpu, pfn)
    return found & CODE_MASK | result


@core
def do_cow_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vma: Vma) -> int:
    """``mm/memory.c:do_cow_fault() (5.10)``: a copy of the file's page, allocated before that is looked for."""
    cow = new_anon_page(m, cpu, mm_record(m, mm_offset(m, mm_id)), GFP_HIGHUSER_MOVABLE)
    if cow == NULL:
        return VM_FAULT_OOM
    found = __do_fault(m, cpu, mm_id, slot, vma)
    if found < 0:
        put_page(m, cpu, cow)
        return -found
    SetPageFlag(page_record(m, pfn_to_page(m, cow)), PG_uptodate)
    result = finish_fault(m, cpu, mm_id, slot, vma.vm_flags, cow, own_pte(cow, vma.vm_flags))
    unlock_page(m, cpu, found >> CODE_BITS)
    put_page(m, cpu, found >> CODE_BITS)
    if result != 0:
        put_page(m, cpu, cow)
    return found & CODE_MASK | result


@core
def do_shared_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vma: Vma) -> int:
    """``mm/memory.c:do_shared_fault() (5.10)``: the file's page, writable and dirty."""
    found = __do_fault(m, cpu, mm_id, slot, vma)
    if found < 0:
        return -found
    pfn = found >> CODE_BITS
    pte = pfn << PTE_SHIFT | PTE_PRESENT | PTE_YOUNG | PTE_FILE | PTE_WRITE | PTE_DIRTY
    result = finish_fault(m, cpu, mm_id, slot, vma.vm_flags, pfn, pte)
    if result & (VM_FAULT_ERROR | VM_FAULT_NOPAGE) != 0:
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        return found & CODE_MASK | result
    set_page_dirty(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    balance_dirty_pages_ratelimited(m, cpu, vma.file)
    return found & CODE_MASK


@core
def do_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, vma: Vma, write: int) -> int:
    """``mm/memory.c:do_fault() (5.10)``: of a file's mapping without an entry."""
    if write == 0:
        return do_read_fault(m, cpu, mm_id, slot, vma)
    if vma.vm_flags & VM_SHARED == 0:
        return do_cow_fault(m, cpu, mm_id, slot, vma)
    return do_shared_fault(m, cpu, mm_id, slot, vma)
