"""Processes of a workload: user tasks with address spaces that one CPU runs in turns.

A CPU has eight user tasks. A workload becomes one of them (:func:`switch_to`), lets it touch its memory, and goes back
to the CPU's own task. The OOM killer may take a task at any time: :func:`alive` is the look at its signals.
"""

from emu.mm.exit import do_exit
from emu.mm.memcontrol import mem_cgroup_handle_over_high
from emu.mm.memory import VM_FAULT_OOM, touch
from emu.mm.mmap import mm_create
from emu.mm.slab import kmem_cache_alloc, kmem_cache_free
from emu.reclaim.oom_exit import die_if_killed
from emu.workload.run import Run
from emu.zone.gfp import GFP_KERNEL
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import TASK_SIZE, task_at, user_task
from emu.zone.slab_types import CACHE_TASK_STRUCT
from shm.atomic import smp_mb, store_release
from shm.core import core

__all__ = ["alive", "end_process", "end_processes", "fork", "leave", "step", "switch_to"]


@core
def switch_to(m: Machine, cpu: Cpu, k: int) -> None:
    """``context_switch()`` to user task ``k``."""
    store_release(cpu, "current", user_task(m, k))
    smp_mb()  # whoever runs the exit of killed tasks looks at this after the signal is set, and we look the other way


@core
def leave(m: Machine, cpu: Cpu) -> None:
    """Back to the CPU's own task."""
    store_release(cpu, "current", m.tasks + cpu.party.index * TASK_SIZE)


@core
def alive(m: Machine, cpu: Cpu, run: Run, k: int) -> bool:
    """Whether the task that this CPU now runs still is a process; if it was killed it exits here."""
    task = task_at(m, user_task(m, k))
    if not die_if_killed(m, cpu, k) and task.mm != 0:
        return True
    leave(m, cpu)
    run.killed += 1
    return False


@core
def fork(m: Machine, cpu: Cpu, run: Run, k: int, comm: int) -> int:
    """A new process as user task ``k``: its address space's id, or 0 while the old one still goes."""
    obj = kmem_cache_alloc(m, cpu, CACHE_TASK_STRUCT, GFP_KERNEL)
    if obj == 0:
        return 0
    mm = mm_create(m, cpu, k, run.memcg)
    if mm == 0:
        kmem_cache_free(m, cpu, obj)
        return 0
    task = task_at(m, user_task(m, k))
    task.task_struct = obj
    task.comm = comm
    return mm


@core
def step(m: Machine, cpu: Cpu, run: Run, mm: int, slot: int, write: int) -> bool:
    """The current process touches one page; false when there is no memory for it."""
    run.ops += 1
    fault = touch(m, cpu, mm, slot, write)
    if task_at(m, cpu.current).memcg_nr_pages_over_high != 0:
        mem_cgroup_handle_over_high(m, cpu)  # on its way back to user space
    return fault & VM_FAULT_OOM == 0


@core
def end_process(m: Machine, cpu: Cpu, run: Run, k: int) -> None:
    """The process exits; a killed one may be gone already."""
    switch_to(m, cpu, k)
    if not die_if_killed(m, cpu, k) and task_at(m, user_task(m, k)).mm != 0:
        do_exit(m, cpu, k)
    leave(m, cpu)


@core
def end_processes(m: Machine, cpu: Cpu, run: Run) -> None:
    """All of a workload's."""
    for i in range(run.nr_tasks):
        if task_at(m, user_task(m, run.first_task + i)).mm != 0:
            end_process(m, cpu, run, run.first_task + i)
