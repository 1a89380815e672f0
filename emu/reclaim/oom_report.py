"""What the OOM killer says (``mm/oom_kill.c:dump_header()`` and others (5.10)), as records in the CPU's ring.

A report is a row of records: the header, the tasks, the summary, the kill. The numbers of tasks are in the records, as
the tasks will soon be gone; ``emu.zone.report_oom`` makes the kernel's text of them.
"""

from emu.reclaim.oom_control import OomControl, get_mm_counter, is_candidate, mm_of, oom_cpuset_eligible
from emu.reclaim.oom_control import oom_unkillable_task
from emu.zone.console import console_unlock
from emu.zone.event import (
    EV_MARK_VICTIM, EV_OOM_KILL, EV_OOM_KILLED, EV_OOM_MESSAGE, EV_OOM_PANIC, EV_OOM_REAPED, EV_OOM_SUMMARY,
    EV_OOM_TASK, record,
)  # fmt: skip
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, Mm, mm_record, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import TASK_SIZE, Task, task_at, user_task
from shm.atomic import address, load_acquire, store_release
from shm.core import core

OOM_BY_GLOBAL = 0
OOM_BY_MEMCG = 1
OOM_BY_ALLOCATING_TASK = 2
OOM_PANIC_DEADLOCK = 0
OOM_PANIC_SYSTEM_WIDE = 1
OOM_PANIC_COMPULSORY = 2
OOM_SAYS_NO_KILLABLE = 0
OOM_SAYS_EXITING = 1
OOM_SAYS_PINNED = 2
OOM_SAYS_UNABLE = 3


@core
def task_number(m: Machine, task: Task) -> int:
    """A task's place in the table."""
    return (address(task) - address(m) - m.tasks) // TASK_SIZE


@core(cold=True)
def record_task(m: Machine, cpu: Cpu, kind: int, why: int, task: Task, mm: Mm) -> None:
    """One record of a task's memory."""
    size = mm.total_vm | mm.nr_page_tables << 32
    anon = get_mm_counter(mm, MM_ANONPAGES) | get_mm_counter(mm, MM_FILEPAGES) << 32
    shmem = get_mm_counter(mm, MM_SHMEMPAGES) | get_mm_counter(mm, MM_SWAPENTS) << 32
    who = task_number(m, task) | (task.oom_score_adj + 1000) << 16
    record(m, cpu, kind, size, why, 0, who, anon, shmem)


@core(cold=True)
def dump_tasks(m: Machine, cpu: Cpu, oc: OomControl) -> None:
    """``mm/oom_kill.c:dump_tasks() (5.10)``: those that could have been chosen, as far as their memory goes."""
    for k in range(vm_at(m, m.vm).nr_mms):
        task = task_at(m, user_task(m, k))
        mm_id = load_acquire(task, "mm")
        if is_candidate(task, oc) and mm_id != 0 and not oom_unkillable_task(task):
            if oom_cpuset_eligible(m, cpu, task, oc):
                record_task(m, cpu, EV_OOM_TASK, 0, task, mm_record(m, mm_of(m, mm_id)))


@core(cold=True)
def dump_header(m: Machine, cpu: Cpu, oc: OomControl, victim: int) -> None:
    """``mm/oom_kill.c:dump_header() (5.10)``; ``victim``: offset of its task, 0 for none."""
    dump = 1 if vm_at(m, m.vm).oom_dump_tasks != 0 else 0
    record(m, cpu, EV_OOM_KILL, oc.nodemask, oc.order & 255, dump, oc.gfp_mask, 0, oc.memcg)
    if dump != 0:
        dump_tasks(m, cpu, oc)
    if victim != 0:
        task = task_at(m, victim)
        groups = oc.memcg << 8 | task.memcg << 16
        record(m, cpu, EV_OOM_SUMMARY, oc.nodemask, 0, 0, 0, task_number(m, task), oc.constraint | groups)
    console_unlock(m, cpu)


@core(cold=True)
def trace_mark_victim(m: Machine, cpu: Cpu, task: Task, mm: Mm) -> None:
    """``mark_victim``"""
    if cpu.trace != 0:
        record_task(m, cpu, EV_MARK_VICTIM, 0, task, mm)


@core(cold=True)
def say_killed(m: Machine, cpu: Cpu, why: int, task: Task, mm: Mm) -> None:
    """``Out of memory: Killed process ...``"""
    record_task(m, cpu, EV_OOM_KILLED, why, task, mm)


@core(cold=True)
def say_reaped(m: Machine, cpu: Cpu, task: Task, mm: Mm) -> None:
    """``oom_reaper: reaped process ...``"""
    record_task(m, cpu, EV_OOM_REAPED, 0, task, mm)


@core(cold=True)
def say(m: Machine, cpu: Cpu, which: int, one: int, two: int) -> None:
    """Any other line (OOM_SAYS_*), with the numbers of the tasks that it names."""
    record(m, cpu, EV_OOM_MESSAGE, -1, which, 0, 0, one, two)


@core(cold=True)
def oom_panic(m: Machine, cpu: Cpu, which: int) -> None:
    """``panic()``: the last words, and the machine stops."""
    record(m, cpu, EV_OOM_PANIC, -1, which, 0, 0, 0, 0)
    store_release(vm_at(m, m.vm), "panicked", which + 1)
    store_release(m, "stop", 1)
