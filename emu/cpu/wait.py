"""Sleeping on a wait queue while this CPU goes on serving others (``schedule_timeout()`` (5.10)).

A process that sleeps is a CPU whose current task sleeps: what other CPUs queue for it is done meanwhile.
"""

from emu.cpu.workqueue import poll, sleep_on_doorbell_until
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.time import NS_PER_MS
from shm.atomic import clock_ns, load_acquire
from shm.core import core
from shm.waitqueue import WaitQueue, finish_wait, look_again, prepare_to_wait, schedule

SLICE_NS = 2 * NS_PER_MS


@core
def schedule_timeout(m: Machine, cpu: Cpu, wq: WaitQueue, cookie: int, deadline_ns: int) -> bool:
    """Sleep after ``prepare_to_wait()`` until woken (true), or until the deadline or the machine's stop (false)."""
    while load_acquire(m, "stop") == 0:
        now = clock_ns()
        if now >= deadline_ns:
            return False
        if schedule(wq, cookie, min(look_again(SLICE_NS), deadline_ns)):
            return True
        cpu.party.heartbeat += 1
        poll(m, cpu)
    return False


@core
def sleep_on_timeout(m: Machine, cpu: Cpu, wq: WaitQueue, ns: int) -> bool:
    """Queue, sleep for at most ``ns``, leave the queue; true when woken."""
    cookie = prepare_to_wait(wq)
    woken = schedule_timeout(m, cpu, wq, cookie, clock_ns() + ns)
    finish_wait(wq, cookie)
    return woken


@core
def schedule_timeout_uninterruptible(m: Machine, cpu: Cpu, ns: int) -> None:
    """``schedule_timeout_uninterruptible()``: sleep on no queue; work and interrupts of this CPU are served."""
    end = clock_ns() + ns
    while clock_ns() < end and load_acquire(m, "stop") == 0:
        cpu.party.heartbeat += 1
        seen = load_acquire(cpu, "doorbell")
        poll(m, cpu)
        sleep_on_doorbell_until(cpu, seen, end)


@core
def schedule_timeout_killable(m: Machine, cpu: Cpu, ns: int) -> None:
    """``schedule_timeout_killable()``: the same, ended by a fatal signal too."""
    end = clock_ns() + ns
    task = task_at(m, cpu.current)
    while clock_ns() < end and load_acquire(m, "stop") == 0 and not fatal_signal_pending(task):
        schedule_timeout_uninterruptible(m, cpu, min(end - clock_ns(), SLICE_NS))
