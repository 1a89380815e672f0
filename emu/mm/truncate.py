"""Taking pages out of the page cache: truncation, invalidation, ``drop_caches`` (``mm/truncate.c``,
``fs/drop_caches.c`` (5.10))."""

from emu.cpu.workqueue import cond_resched
from emu.mm.mmap import mapping_mapped
from emu.mm.page_cache import (
    XA_KIND, __delete_from_page_cache, clear_exceptional_entry, find_get_page, next_entry,
)  # fmt: skip
from emu.mm.page_dirty import cancel_dirty_page, wait_on_page_writeback
from emu.mm.page_lock import lock_page, trylock_page, unlock_page
from emu.mm.pagevec import deactivate_file_page, pagevec_release, put_page
from emu.mm.rmap import page_mapped
from emu.mm.shmem import shmem_free_swap
from emu.mm.vma import PLACE_MASK, PLACE_SHIFT, file_offset, file_slot, rmap_place, rmap_places
from emu.mm.zap import zap_range
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import AS_FILE, AS_NONE, XA_PAGE, XA_SWAP, file_record, slot_at, vm_at
from emu.zone.mmzone import PAGEVEC_SIZE, Cpu, Machine, Pagevec, page_record
from emu.zone.page import NULL, PG_dirty, PG_writeback, pfn_to_page
from emu.zone.page_ref import page_ref_freeze, page_ref_unfreeze, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import DROP_PAGECACHE
from shm.atomic import load_acquire, store_release
from shm.core import OnStack, core, entry
from shm.point import site

EBUSY = 16
EINVAL = 22
EINTR = 4
S_REMOVE = site("__remove_mapping:i_pages_lock of invalidation")
S_BATCH = site("delete_from_page_cache_batch:i_pages_lock")

pagevec = OnStack(Pagevec)


@core
def lookup_entries(m: Machine, cpu: Cpu, file: int, index: int, end: int, pvec: Pagevec) -> int:
    """``pagevec_lookup_entries()``: the next fifteen entries' pages, referenced, in a pagevec; shadows among them go.
    Returns the slot after the last entry, -1 if there was none."""
    pvec.nr = 0
    found = 0
    index = next_entry(m, file, index, end)
    after = -1
    while index >= 0 and found < PAGEVEC_SIZE:
        value = load_acquire(slot_at(m, file_slot(m, file, index)), "value")
        if value & XA_KIND == XA_PAGE:
            pfn = find_get_page(m, cpu, file, index)
            if pfn != NULL:
                pvec.pages[pvec.nr] = pfn
                pvec.nr += 1
        elif value & XA_KIND != XA_SWAP:
            clear_exceptional_entry(m, cpu, file, index)
        found += 1
        after = index + 1
        index = next_entry(m, file, after, end)
    return after


# --- truncation -------------------------------------------------------------------------------------------------------


@core
def unmap_mapping_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``unmap_mapping_pages()`` of one page: out of all address spaces; private copies of it stay."""
    page = page_record(m, pfn_to_page(m, pfn))
    mapping = page.mapping
    for i in range(rmap_places(m, mapping)):
        place = rmap_place(m, mapping, page.index, i)
        if place >= 0:
            zap_range(m, cpu, place >> PLACE_SHIFT, place & PLACE_MASK, 1, mapping >> 2)


@core
def truncate_cleanup_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/truncate.c:truncate_cleanup_page() (5.10)``: not mapped any more, and not dirty: nobody wants it written."""
    if page_mapped(page_record(m, pfn_to_page(m, pfn))):
        unmap_mapping_page(m, cpu, pfn)
    cancel_dirty_page(m, cpu, pfn)


@core
def truncate_pagevec(m: Machine, cpu: Cpu, file: int, pvec: Pagevec, wait: int) -> None:
    """The pages of a pagevec leave the file; without ``wait`` those that are locked or written stay for later."""
    mapping = file_record(m, file_offset(m, file))
    for i in range(pvec.nr):
        pfn = pvec.pages[i]
        page = page_record(m, pfn_to_page(m, pfn))
        if wait == 0:
            if not trylock_page(page):
                continue
        elif not lock_page(m, cpu, pfn):
            return
        if wait != 0:
            wait_on_page_writeback(m, cpu, pfn)
        if page.mapping != file << 2 or test_flag(page, PG_writeback):
            unlock_page(m, cpu, pfn)
            continue
        truncate_cleanup_page(m, cpu, pfn)
        flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_BATCH)
        __delete_from_page_cache(m, cpu, pfn, 0)
        spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
        put_page(m, cpu, pfn)
        unlock_page(m, cpu, pfn)


@core
def truncate_pass(m: Machine, cpu: Cpu, file: int, start: int, end: int, wait: int) -> bool:
    """One pass over the slots ``[start, end)``: true if there was nothing."""
    pvec = pagevec()
    index = lookup_entries(m, cpu, file, start, end, pvec)
    if index < 0:
        return True
    while index >= 0:
        truncate_pagevec(m, cpu, file, pvec, wait)
        pagevec_release(m, cpu, pvec)
        if not cond_resched(m, cpu):
            return True
        index = lookup_entries(m, cpu, file, index, end, pvec)
    return False


@core
def free_swapped(m: Machine, cpu: Cpu, file: int, start: int, end: int) -> None:
    """Swap entries of tmpfs in ``[start, end)`` go (``shmem_undo_range()``)."""
    index = next_entry(m, file, start, end)
    while index >= 0:
        if load_acquire(slot_at(m, file_slot(m, file, index)), "value") & XA_KIND == XA_SWAP:
            shmem_free_swap(m, cpu, file, index)
        index = next_entry(m, file, index + 1, end)


@core
def truncate_inode_pages(m: Machine, cpu: Cpu, file: int, start: int) -> None:
    """``mm/truncate.c:truncate_inode_pages_range() (5.10)`` from slot ``start`` to the end of the file: first what can
    be had at once, then the rest, waiting for it.

    Differs from 5.10: the pages of a pagevec leave the file one by one, not under one hold of the lock.
    """
    end = file_record(m, file_offset(m, file)).nr_slots
    truncate_pass(m, cpu, file, start, end, 0)
    free_swapped(m, cpu, file, start, end)
    while not truncate_pass(m, cpu, file, start, end, 1):
        free_swapped(m, cpu, file, start, end)


@core
def truncate_setsize(m: Machine, cpu: Cpu, file: int, nr_pages: int) -> int:
    """``truncate_setsize()``: a file of another length: 0 or -EINVAL."""
    if nr_pages < 0 or nr_pages > vm_at(m, m.vm).file_slots:
        return -EINVAL
    mapping = file_record(m, file_offset(m, file))
    if nr_pages < mapping.nr_slots:
        truncate_inode_pages(m, cpu, file, nr_pages)
    mapping.nr_slots = nr_pages
    return 0


@entry
def remove_file(m: Machine, cpu: Cpu, file: int) -> int:
    """The last link of a file goes: its pages, its id: 0, or -EBUSY while it is mapped, -EINTR when the machine is
    being stopped, -EINVAL for no file."""
    vm = vm_at(m, m.vm)
    if file <= 0 or file > vm.nr_files:
        return -EINVAL
    mapping = file_record(m, file_offset(m, file))
    if mapping.kind == AS_NONE:
        return -EINVAL
    if mapping_mapped(m, file):
        return -EBUSY
    truncate_inode_pages(m, cpu, file, 0)
    if mapping.nrpages != 0:
        return -EINTR
    store_release(mapping, "kind", AS_NONE)
    return 0


# --- invalidation -----------------------------------------------------------------------------------------------------


@core
def invalidate_complete_page(m: Machine, cpu: Cpu, file: int, pfn: int) -> bool:
    """``mm/truncate.c:invalidate_complete_page() (5.10)``: out of the page cache, if only that and the caller have
    it."""
    page = page_record(m, pfn_to_page(m, pfn))
    mapping = file_record(m, file_offset(m, file))
    removed = False
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_REMOVE)
    if page_ref_freeze(page, 2):
        if test_flag(page, PG_dirty):
            page_ref_unfreeze(page, 2)
        else:
            __delete_from_page_cache(m, cpu, pfn, 0)
            page_ref_unfreeze(page, 1)
            removed = True
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    return removed


@core
def invalidate_inode_page(m: Machine, cpu: Cpu, file: int, pfn: int) -> bool:
    """``mm/truncate.c:invalidate_inode_page() (5.10)``: a clean page that nobody maps. It is locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.mapping != file << 2 or load_acquire(page, "page_flags") & (PG_dirty | PG_writeback) != 0:
        return False
    return not page_mapped(page) and invalidate_complete_page(m, cpu, file, pfn)


@core
def invalidate_mapping_pages(m: Machine, cpu: Cpu, file: int, start: int, end: int) -> int:
    """``mm/truncate.c:invalidate_mapping_pages() (5.10)``: drop what can be dropped of slots ``[start, end)``, and put
    the rest where reclaim looks first. Returns how many pages went."""
    pvec = pagevec()
    count = 0
    index = lookup_entries(m, cpu, file, start, end, pvec)
    while index >= 0:
        for i in range(pvec.nr):
            pfn = pvec.pages[i]
            if not trylock_page(page_record(m, pfn_to_page(m, pfn))):
                continue
            gone = invalidate_inode_page(m, cpu, file, pfn)
            unlock_page(m, cpu, pfn)
            if gone:
                count += 1
            else:
                deactivate_file_page(m, cpu, pfn)
        pagevec_release(m, cpu, pvec)
        if not cond_resched(m, cpu):
            return count
        index = lookup_entries(m, cpu, file, index, end, pvec)
    return count


@entry
def drop_pagecache(m: Machine, cpu: Cpu) -> int:
    """``fs/drop_caches.c (5.10)``: ``echo 1 > /proc/sys/vm/drop_caches``. Returns how many pages went."""
    vm = vm_at(m, m.vm)
    count = 0
    for file in range(1, vm.nr_files + 1):
        mapping = file_record(m, file_offset(m, file))
        if mapping.kind == AS_FILE and mapping.nrpages != 0:
            count += invalidate_mapping_pages(m, cpu, file, 0, mapping.nr_slots)
    __count_vm_events(cpu, DROP_PAGECACHE, 1)
    return count
