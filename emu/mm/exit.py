"""The end of a process, as far as memory goes (``kernel/exit.c``, ``mm/mmap.c:exit_mmap()`` (5.10))."""

from emu.mm.mmap import next_vma, unlock_area, unmap_region
from emu.mm.slab import kmem_cache_free
from emu.mm.vma import mm_offset
from emu.mm.zap import zap_page_range
from emu.zone.mm_types import MMF_OOM_SKIP, MMF_OOM_VICTIM, VM_LOCKED, VM_SHARED, Mm, mm_record
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import PF_EXITING, Task, task_at, user_task
from shm.atomic import fetch_or, load_acquire, store_release, xchg
from shm.core import core, seam
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

S_EXIT_MM = site("exit_mm:task_lock")


@seam
def exit_oom_victim(m: Machine, cpu: Cpu, task: Task) -> None:
    """``mm/oom_kill.c:exit_oom_victim() (5.10)``: a task that the OOM killer chose has given its memory back. Its body
    is in ``emu.reclaim``; without an OOM killer just the mark goes."""
    task.oom_victim = 0


@core(cold=True)
def reap_areas(m: Machine, cpu: Cpu, mm: Mm, mm_id: int) -> None:
    """``mm/oom_kill.c:__oom_reap_task_mm() (5.10)`` by the task itself: private memory that isn't locked goes first."""
    which = next_vma(mm, 0, mm.nr_slots)
    while which >= 0:
        vma = mm.vmas[which]
        if vma.vm_flags & VM_LOCKED == 0 and (vma.file == 0 or vma.vm_flags & VM_SHARED == 0):
            zap_page_range(m, cpu, mm_id, vma.start, vma.end - vma.start)
        which = next_vma(mm, vma.start + 1, mm.nr_slots)


@core
def exit_mmap(m: Machine, cpu: Cpu, mm_id: int) -> None:
    """``mm/mmap.c:exit_mmap() (5.10)``: everything that an address space has, page tables included; its id is free
    then.

    A victim of the OOM killer is reaped first, and disregarded from then on.
    """
    mm = mm_record(m, mm_offset(m, mm_id))
    if load_acquire(mm, "mm_flags") & MMF_OOM_VICTIM != 0:
        reap_areas(m, cpu, mm, mm_id)
        fetch_or(mm, "mm_flags", MMF_OOM_SKIP)
    which = next_vma(mm, 0, mm.nr_slots)
    while which >= 0:
        unlock_area(m, cpu, mm, mm_id, mm.vmas[which])
        which = next_vma(mm, mm.vmas[which].start + 1, mm.nr_slots)
    unmap_region(m, cpu, mm_id, 0, mm.nr_slots)
    store_release(mm, "mm_users", 0)


@core
def do_exit(m: Machine, cpu: Cpu, k: int) -> None:
    """``kernel/exit.c:do_exit() (5.10)`` of user task ``k``: as in ``exit_mm()`` it has no address space from the
    moment on at which that is torn down."""
    task = task_at(m, user_task(m, k))
    task.process_flags = task.process_flags | PF_EXITING
    spin_lock(cpu.party, task.alloc_lock, S_EXIT_MM)
    mm_id = task.mm
    store_release(task, "mm", 0)
    spin_unlock(cpu.party, task.alloc_lock)
    if mm_id != 0:
        exit_mmap(m, cpu, mm_id)
    if task.oom_victim != 0:
        exit_oom_victim(m, cpu, task)
    if task.task_struct != 0:
        kmem_cache_free(m, cpu, xchg(task, "task_struct", 0))
    store_release(task, "alive", 0)
