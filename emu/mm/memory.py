"""Page faults, and what the hardware does without one (``mm/memory.c`` (5.10))."""

from emu.mm.fault_anon import (
    VM_FAULT_ERROR, VM_FAULT_MAJOR, VM_FAULT_NOPAGE, VM_FAULT_OOM, VM_FAULT_SIGBUS, VM_FAULT_SIGSEGV, VM_FAULT_WRITE,
    do_anonymous_page, do_wp_page,
)  # fmt: skip
from emu.mm.fault_file import do_fault
from emu.mm.fault_swap import do_swap_page
from emu.mm.page_lock import dying
from emu.mm.vma import find_vma, get_mm_counter, mm_offset, pte_of, pte_offset
from emu.mm.zap import zap_page_range
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG, VM_WRITE, Mm, mm_record,
    slot_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGFAULT
from shm.atomic import cmpxchg, load_acquire
from shm.core import core
from shm.point import point, site

__all__ = [
    "VM_FAULT_ERROR", "VM_FAULT_MAJOR", "VM_FAULT_NOPAGE", "VM_FAULT_OOM", "VM_FAULT_SIGBUS", "VM_FAULT_SIGSEGV",
    "VM_FAULT_WRITE", "get_mm_rss", "handle_mm_fault", "touch", "zap_page_range",
]  # fmt: skip

VM_FAULT_KILLED = 0x10000  # the task has to die, or the machine is being stopped: not one of the kernel's
S_TOUCH = site("touch:read pte")


@core
def get_mm_rss(mm: Mm) -> int:
    """``get_mm_rss()``: pages that an address space maps."""
    return get_mm_counter(mm, MM_FILEPAGES) + get_mm_counter(mm, MM_ANONPAGES) + get_mm_counter(mm, MM_SHMEMPAGES)


@core
def mark_pte(m: Machine, mm: Mm, slot: int, old: int, write: int) -> bool:
    """The processor sets the accessed bit, and the dirty bit for a write: false if the entry changed meanwhile."""
    new = old | PTE_YOUNG | (PTE_DIRTY if write != 0 else 0)
    return new == old or cmpxchg(slot_at(m, pte_offset(mm, slot)), "value", old, new) == old


@core
def handle_pte_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, write: int) -> int:
    """``mm/memory.c:handle_pte_fault() (5.10)``: by what is in the entry now."""
    mm = mm_record(m, mm_offset(m, mm_id))
    vma = mm.vmas[find_vma(mm, slot)]
    old = pte_of(m, mm_id, slot)
    if old == 0:
        if vma.file == 0:
            return do_anonymous_page(m, cpu, mm_id, slot, vma.vm_flags, write)
        return do_fault(m, cpu, mm_id, slot, vma, write)
    if old & PTE_PRESENT == 0:
        return do_swap_page(m, cpu, mm_id, slot, vma.vm_flags, old, write)
    if write != 0 and old & PTE_WRITE == 0:
        return do_wp_page(m, cpu, mm_id, slot, vma.vm_flags, old)
    mark_pte(m, mm, slot, old, write)
    return 0


@core
def handle_mm_fault(m: Machine, cpu: Cpu, mm_id: int, slot: int, write: int) -> int:
    """``mm/memory.c:handle_mm_fault() (5.10)``: ``VM_FAULT_*``; without an error the access is to be tried again.
    VM_FAULT_SIGSEGV: nothing may be there, or it may not be written."""
    mm = mm_record(m, mm_offset(m, mm_id))
    which = find_vma(mm, slot)
    if which < 0 or (write != 0 and mm.vmas[which].vm_flags & VM_WRITE == 0):
        return VM_FAULT_SIGSEGV
    __count_vm_events(cpu, PGFAULT, 1)
    return handle_pte_fault(m, cpu, mm_id, slot, write)


@core
def touch(m: Machine, cpu: Cpu, mm_id: int, slot: int, write: int) -> int:
    """The current task reads or writes a page of an address space: 0 or the ``VM_FAULT_*`` that were met on the way;
    VM_FAULT_KILLED if it has to die first, or the machine is being stopped."""
    mm = mm_record(m, mm_offset(m, mm_id))
    met = 0
    while not dying(m, cpu):
        point(cpu.party, S_TOUCH)
        pte = load_acquire(slot_at(m, pte_offset(mm, slot)), "value")
        if pte & PTE_PRESENT != 0 and (write == 0 or pte & PTE_WRITE != 0):
            if mark_pte(m, mm, slot, pte, write):
                return met
            continue
        met |= handle_mm_fault(m, cpu, mm_id, slot, write)
        if met & VM_FAULT_ERROR != 0:
            return met
    return met | VM_FAULT_KILLED
