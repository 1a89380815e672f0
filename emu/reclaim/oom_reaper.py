"""The oom_reaper (``mm/oom_kill.c:oom_reaper() (5.10.262)``): takes a victim's memory if it doesn't exit in time.

It is a process of the machine; a round of it is :func:`oom_reaper_round`. The timers that wake it in the kernel are
times in the victims, and it looks at them itself.
"""

from emu.cpu.pageset import drain_local_pages, refresh_cpu_vm_stats
from emu.cpu.wait import schedule_timeout, schedule_timeout_uninterruptible
from emu.mm.pagevec import lru_add_drain
from emu.reclaim.oom_exit import REAPED, __oom_reap_task_mm, exit_killed_tasks, reaper_done
from emu.reclaim.oom_report import OOM_SAYS_UNABLE, say, say_reaped, task_number
from emu.zone.event import EV_FINISH_REAPING, EV_SKIP_REAPING, EV_START_REAPING, EV_WAKE_REAPER, record
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import MMF_OOM_SKIP, mm_at, mm_record, vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import Task, task_at, user_task
from emu.zone.time import HZ, NS_PER_JIFFY, NS_PER_MS
from shm.atomic import clock_ns, cmpxchg, fetch_or, load_acquire, store_release
from shm.core import core, entry
from shm.point import point, site
from shm.waitqueue import finish_wait, look_again, prepare_to_wait

__all__ = ["oom_reaper_round"]

MAX_OOM_REAP_RETRIES = 10
OOM_REAPER_LIST = 16
TICK_NS = 100 * NS_PER_MS
S_LIST = site("wake_oom_reaper:lock")
S_TAKE = site("oom_reaper:lock")
S_SKIP = site("oom_reap_task_mm:read MMF_OOM_SKIP")


@core(cold=True)
def trace_reaping(m: Machine, cpu: Cpu, kind: int, task: Task) -> None:
    """``wake_reaper``, ``start_task_reaping``, ``finish_task_reaping``, ``skip_task_reaping``: a = a task's number."""
    if cpu.trace != 0:
        record(m, cpu, kind, -1, 0, 0, 0, task_number(m, task), 0)


@core(cold=True)
def oom_reap_task_mm(m: Machine, cpu: Cpu, task: Task) -> bool:
    """``mm/oom_kill.c:oom_reap_task_mm() (5.10)``: false to be tried again, while its own exit takes it apart."""
    mm_id = task.oom_mm
    mm = mm_record(m, mm_at(m, vm_at(m, m.vm), mm_id))
    if cmpxchg(task, "dying", 0, REAPED) != 0:
        trace_reaping(m, cpu, EV_SKIP_REAPING, task)
        return False
    point(cpu.party, S_SKIP)
    if load_acquire(mm, "mm_flags") & MMF_OOM_SKIP != 0:
        trace_reaping(m, cpu, EV_SKIP_REAPING, task)
    else:
        trace_reaping(m, cpu, EV_START_REAPING, task)
        __oom_reap_task_mm(m, cpu, mm_id)
        say_reaped(m, cpu, task, mm)
        trace_reaping(m, cpu, EV_FINISH_REAPING, task)
    store_release(task, "dying", 0)
    return True


@core(cold=True)
def oom_reap_task(m: Machine, cpu: Cpu, task: Task) -> None:
    """``mm/oom_kill.c:oom_reap_task() (5.10)``: ten tries, then the killer may look for others whatever came of it."""
    attempts = 0
    reaped = oom_reap_task_mm(m, cpu, task)
    while not reaped and attempts < MAX_OOM_REAP_RETRIES and load_acquire(m, "stop") == 0:
        schedule_timeout_uninterruptible(m, cpu, HZ // 10 * NS_PER_JIFFY)
        attempts += 1
        reaped = attempts < MAX_OOM_REAP_RETRIES and oom_reap_task_mm(m, cpu, task)
    flags = fetch_or(mm_record(m, mm_at(m, vm_at(m, m.vm), task.oom_mm)), "mm_flags", MMF_OOM_SKIP)
    if attempts >= MAX_OOM_REAP_RETRIES and flags & MMF_OOM_SKIP == 0:
        say(m, cpu, OOM_SAYS_UNABLE, task_number(m, task), 0)
    reaper_done(m, task)


@core(cold=True)
def wake_oom_reaper(m: Machine, cpu: Cpu, k: int) -> None:
    """``mm/oom_kill.c:wake_oom_reaper() (5.10.262)``: a victim's time is up; onto the list, unless it is gone."""
    vm = vm_at(m, m.vm)
    task = task_at(m, user_task(m, k))
    if load_acquire(mm_record(m, mm_at(m, vm, task.oom_mm)), "mm_flags") & MMF_OOM_SKIP != 0:
        reaper_done(m, task)
        return
    flags = spin_lock_irqsave(cpu, vm.oom_reaper_lock, S_LIST)
    if vm.oom_reaper_nr < OOM_REAPER_LIST:
        vm.oom_reaper_list[vm.oom_reaper_nr] = k + 1
        vm.oom_reaper_nr += 1
    else:
        store_release(task, "oom_reaper_expires", 1)  # there is no room: once more
    spin_unlock_irqrestore(m, cpu, vm.oom_reaper_lock, flags)
    trace_reaping(m, cpu, EV_WAKE_REAPER, task)


@core(cold=True)
def run_timers(m: Machine, cpu: Cpu) -> int:
    """Victims whose time is up go onto the reaper's list. Returns when the next one is due (CLOCK_MONOTONIC ns)."""
    now = clock_ns()
    due = look_again(TICK_NS)
    for k in range(vm_at(m, m.vm).nr_mms):
        task = task_at(m, user_task(m, k))
        expires = load_acquire(task, "oom_reaper_expires")
        if expires > now:
            due = min(due, expires)
        elif expires != 0 and cmpxchg(task, "oom_reaper_expires", expires, 0) == expires:
            wake_oom_reaper(m, cpu, k)
    return due


@core(cold=True)
def next_victim(m: Machine, cpu: Cpu) -> int:
    """The one that came last off ``oom_reaper_list``: number + 1; 0 for none."""
    vm = vm_at(m, m.vm)
    k = 0
    flags = spin_lock_irqsave(cpu, vm.oom_reaper_lock, S_TAKE)
    if vm.oom_reaper_nr > 0:
        vm.oom_reaper_nr -= 1
        k = vm.oom_reaper_list[vm.oom_reaper_nr]
    spin_unlock_irqrestore(m, cpu, vm.oom_reaper_lock, flags)
    return k


@entry
def oom_reaper_round(m: Machine, cpu: Cpu) -> bool:
    """One round of ``mm/oom_kill.c:oom_reaper() (5.10.262)``; true if there was something to do.

    It also runs the exit of killed tasks that no CPU runs. It sleeps for at most 100 ms, and what its own pcp lists and
    pagevecs hold goes back first.
    """
    vm = vm_at(m, m.vm)
    cookie = prepare_to_wait(vm.oom_reaper_wait)
    found = exit_killed_tasks(m, cpu)
    due = run_timers(m, cpu)
    k = next_victim(m, cpu)
    if k != 0:
        oom_reap_task(m, cpu, task_at(m, user_task(m, k - 1)))
        found = True
    if found:
        lru_add_drain(m, cpu)
        drain_local_pages(m, cpu, 0)
        refresh_cpu_vm_stats(m, cpu, 0)
    else:
        schedule_timeout(m, cpu, vm.oom_reaper_wait, cookie, due)
    finish_wait(vm.oom_reaper_wait, cookie)
    return found
