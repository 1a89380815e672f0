"""The end of killed tasks (``kernel/exit.c``, ``mm/oom_kill.c:exit_oom_victim() (5.10)``).

A task that a CPU runs looks at its signals between two steps and then calls :func:`die_if_killed`. A task that no CPU
runs - its program has ended, or it stands only for the memory it has - is a process asleep: the signal wakes it, and
some CPU runs its exit. That is whoever looks first: the oom_reaper's process, or an allocation that waits for its
memory. :func:`reap_dead_task` is that one look; the task's own word ``dying`` lets one of them through.
"""

from emu.cpu.workqueue import cond_resched
from emu.mm.exit import do_exit, exit_oom_victim, reap_areas
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.mm_types import (
    MMF_OOM_REAP_DONE, MMF_OOM_REAP_QUEUED, MMF_OOM_SKIP, MMF_OOM_VICTIM, MMF_UNSTABLE, mm_at, mm_record, vm_at,
)  # fmt: skip
from emu.zone.mmzone import CPU_SIZE, Cpu, Machine, cpu_record
from emu.zone.sched import Task, fatal_signal_pending, task_at, user_task
from emu.zone.signal import send_sigkill
from shm.atomic import cmpxchg, fetch_add, fetch_and, fetch_or, load_acquire, store_release, xchg
from shm.core import core, entry, implements
from shm.point import point, site

DYING = 1  # of Task.dying: somebody runs its do_exit()
REAPED = 2  # the reaper holds its address space (mmap_lock)
S_LOOK = site("reap_dead_task:read current of all CPUs")
S_CLAIM = site("reap_dead_task:claim")
KEEP = (1 << 32) - 1


@core(cold=True)
def is_running(m: Machine, at: int) -> bool:
    """Whether some CPU runs a task (its offset)."""
    for index in range(m.nr_parties):
        if load_acquire(cpu_record(m, m.cpus + index * CPU_SIZE), "current") == at:
            return True
    return False


@core(cold=True)
def drop_oom_mm(m: Machine, task: Task) -> None:
    """``mmdrop(signal->oom_mm)``: the OOM killer is done with a dead victim, so its address space may be used again."""
    mm = mm_record(m, mm_at(m, vm_at(m, m.vm), task.oom_mm))
    fetch_and(mm, "mm_flags", KEEP - (MMF_OOM_REAP_QUEUED | MMF_OOM_REAP_DONE))
    store_release(task, "oom_mm", 0)


@core(cold=True)
def reaper_done(m: Machine, task: Task) -> None:
    """``put_task_struct()`` of the oom_reaper, which looks at a victim no longer, or never will.

    It and the victim's exit (``MMF_OOM_VICTIM``) each leave a bit in one word; who comes last lets go of the address
    space.
    """
    mm = mm_record(m, mm_at(m, vm_at(m, m.vm), task.oom_mm))
    if fetch_or(mm, "mm_flags", MMF_OOM_REAP_DONE) & MMF_OOM_VICTIM == 0:
        drop_oom_mm(m, task)


@core(cold=True)
def __oom_reap_task_mm(m: Machine, cpu: Cpu, mm_id: int) -> None:
    """``mm/oom_kill.c:__oom_reap_task_mm() (5.10)``: private memory goes, but for what is locked; the owner's accesses
    fail from now on."""
    mm = mm_record(m, mm_at(m, vm_at(m, m.vm), mm_id))
    fetch_or(mm, "mm_flags", MMF_UNSTABLE)
    reap_areas(m, cpu, mm, mm_id)


@implements(exit_oom_victim)
def leave_oom_victim(m: Machine, cpu: Cpu, task: Task) -> None:
    """``mm/oom_kill.c:exit_oom_victim() (5.10)``: the reserves are closed to it, the killer may look for others.

    Its memory is gone: a reaper that has not been told yet will not be.
    """
    vm = vm_at(m, m.vm)
    if task.oom_mm != 0:
        mm = mm_record(m, mm_at(m, vm, task.oom_mm))
        fetch_or(mm, "mm_flags", MMF_OOM_SKIP)
        if xchg(task, "oom_reaper_expires", 0) != 0:
            fetch_or(mm, "mm_flags", MMF_OOM_REAP_DONE)
        flags = fetch_and(mm, "mm_flags", KEEP - MMF_OOM_VICTIM)
        if flags & MMF_OOM_REAP_QUEUED == 0 or flags & MMF_OOM_REAP_DONE != 0:
            drop_oom_mm(m, task)
    if xchg(task, "oom_victim", 0) != 0:
        fetch_add(vm.oom_victims, "counter", -1)


@core(cold=True)
def claim(m: Machine, cpu: Cpu, task: Task) -> bool:
    """Become the one who runs a task's exit. While the reaper has its memory, that waits, as for ``mmap_lock``."""
    while True:
        point(cpu.party, S_CLAIM)
        held = cmpxchg(task, "dying", 0, DYING)
        if held == 0:
            return True
        if held == DYING or not cond_resched(m, cpu):
            return False


@core(cold=True)
def exit_task(m: Machine, cpu: Cpu, k: int) -> bool:
    """``do_exit()`` of user task ``k`` on this CPU, once; false if others are at it or it has no memory."""
    at = user_task(m, k)
    task = task_at(m, at)
    if task.mm == 0 or not claim(m, cpu, task):
        return False
    before = cpu.current
    store_release(cpu, "current", at)
    if task.mm != 0:
        do_exit(m, cpu, k)
    store_release(cpu, "current", before)
    store_release(task, "dying", 0)
    return True


@entry
def reap_dead_task(m: Machine, cpu: Cpu, k: int) -> bool:
    """If user task ``k`` is killed and no CPU runs it, run its exit here; true if that was done."""
    if not fatal_signal_pending(task_at(m, user_task(m, k))):
        return False
    point(cpu.party, S_LOOK)
    if is_running(m, user_task(m, k)):
        return False
    return exit_task(m, cpu, k)


@core(cold=True)
def exit_killed_tasks(m: Machine, cpu: Cpu) -> bool:
    """:func:`reap_dead_task` for all; true if there was one."""
    found = False
    critical_enter(cpu, S_CLAIM)
    for k in range(vm_at(m, m.vm).nr_mms):
        if fatal_signal_pending(task_at(m, user_task(m, k))) and reap_dead_task(m, cpu, k):
            found = True
    critical_exit(cpu)
    return found


@core
def die_if_killed(m: Machine, cpu: Cpu, k: int) -> bool:
    """A running task's look at its signals (``get_signal()``): it exits here if it was killed; the caller, who plays
    it, then ends."""
    if not fatal_signal_pending(task_at(m, user_task(m, k))):
        return False
    exit_task(m, cpu, k)
    return True


@core(cold=True)
def kill_task(m: Machine, k: int) -> bool:
    """``kill -KILL``; false if there is no such process."""
    task = task_at(m, user_task(m, k))
    if task.mm == 0 or load_acquire(task, "alive") == 0:
        return False
    send_sigkill(m, task)
    return True
