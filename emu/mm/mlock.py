"""Memory that stays (``mm/mlock.c`` (5.10)): ``mlock()`` and ``munlock()``."""

from emu.cpu.workqueue import cond_resched
from emu.mm.memory import VM_FAULT_ERROR, VM_FAULT_KILLED, VM_FAULT_OOM, touch
from emu.mm.mlock_page import mlock_vma_page
from emu.mm.mmap import isolate_range, next_vma
from emu.mm.munlock import follow_page, munlock_vma_pages_range
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.pagevec import lru_add_drain, put_page
from emu.mm.vma import mm_offset
from emu.zone.mm_types import VM_LOCKED, VM_WRITE, VM_SHARED, Vma, mm_record
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, pfn_to_page
from shm.core import core

EINTR = 4
EAGAIN = 11
ENOMEM = 12
EFAULT = 14
EINVAL = 22


@core
def mlock_mapped(m: Machine, cpu: Cpu, mm_id: int, slot: int) -> None:
    """The FOLL_MLOCK part of ``follow_page_pte()``: the mapped page becomes unevictable, unless somebody has it locked:
    then reclaim will find out (``try_to_unmap()``)."""
    pfn = follow_page(m, cpu, mm_id, slot)
    if pfn == NULL:
        return
    page = page_record(m, pfn_to_page(m, pfn))
    if page.mapping != 0 and trylock_page(page):
        lru_add_drain(m, cpu)
        mlock_vma_page(m, cpu, pfn)
        unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)


@core
def populate_vma_page_range(m: Machine, cpu: Cpu, mm_id: int, vma: Vma) -> int:
    """``mm/gup.c:populate_vma_page_range() (5.10)`` of a whole area: fault its pages in; a private writable area's as
    if they were written. 0 or -errno."""
    write = 1 if vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE else 0
    for slot in range(vma.start, vma.end):
        met = touch(m, cpu, mm_id, slot, write)
        if met & VM_FAULT_KILLED != 0:
            return -EINTR
        if met & VM_FAULT_ERROR != 0:
            return -ENOMEM if met & VM_FAULT_OOM != 0 else -EFAULT
        if vma.vm_flags & VM_LOCKED != 0:
            mlock_mapped(m, cpu, mm_id, slot)
    return 0


@core
def lock_area(m: Machine, cpu: Cpu, mm_id: int, which: int, lock: int) -> None:
    """``mm/mlock.c:mlock_fixup() (5.10)``: an area's flag; unlocked, its pages are evictable again."""
    mm = mm_record(m, mm_offset(m, mm_id))
    vma = mm.vmas[which]
    locked = vma.vm_flags & VM_LOCKED != 0
    if lock != 0 and not locked:
        mm.locked_vm += vma.end - vma.start
        vma.vm_flags = vma.vm_flags | VM_LOCKED
    elif lock == 0 and locked:
        mm.locked_vm -= vma.end - vma.start
        munlock_vma_pages_range(m, cpu, mm_id, vma, vma.start, vma.end)


@core
def apply_lock(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int, lock: int) -> int:
    """``mm/mlock.c:apply_vma_lock_flags() (5.10)``: 0; -ENOMEM for a hole in the range, or when an area can't be
    split."""
    mm = mm_record(m, mm_offset(m, mm_id))
    end = start + nr_pages
    if start < 0 or nr_pages <= 0 or end > mm.nr_slots:
        return -EINVAL
    if not isolate_range(m, mm_id, start, end):
        return -ENOMEM
    at = start
    which = next_vma(mm, at, end)
    while which >= 0:
        if mm.vmas[which].start != at:
            return -ENOMEM
        lock_area(m, cpu, mm_id, which, lock)
        at = mm.vmas[which].end
        which = next_vma(mm, at, end)
    return 0 if at == end else -ENOMEM


@core
def mlock(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int) -> int:
    """``mm/mlock.c:do_mlock() (5.10)``: 0 or -errno, -EAGAIN when there was no memory for all pages.

    Differs from 5.10: RLIMIT_MEMLOCK is not enforced.
    """
    mm = mm_record(m, mm_offset(m, mm_id))
    error = apply_lock(m, cpu, mm_id, start, nr_pages, 1)
    which = next_vma(mm, start, start + nr_pages)
    while error == 0 and which >= 0:
        error = populate_vma_page_range(m, cpu, mm_id, mm.vmas[which])
        which = next_vma(mm, mm.vmas[which].end, start + nr_pages)
        cond_resched(m, cpu)
        if error == -ENOMEM:
            return -EAGAIN
        if error == -EFAULT:
            return -ENOMEM
    return error


@core
def munlock(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int) -> int:
    """``munlock()``: 0 or -errno."""
    return apply_lock(m, cpu, mm_id, start, nr_pages, 0)
