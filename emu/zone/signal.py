"""Killing a task (``kernel/signal.c`` (5.10)): SIGKILL is the only signal there is."""

from emu.zone.deviations import R25, deviates
from emu.zone.mmzone import Machine
from emu.zone.sched import Task
from shm.atomic import load_acquire, smp_mb, store_release
from shm.core import core
from shm.waitqueue import wake_up


@core(cold=True)
def send_sigkill(m: Machine, task: Task) -> None:
    """``do_send_sig_info(SIGKILL)``: the signal is pending, and a task that is throttled is woken for it. Who sleeps
    elsewhere looks for it by himself.

    Differs from 5.10: all that are throttled on that node wake up with it, look again and go on sleeping. And it is off
    the queue at once, but for R25, where it stays there until it gets a processor.
    """
    store_release(task, "fatal_signal", 1)
    smp_mb()  # throttled is set before a sleeper looks for signals
    node = load_acquire(task, "throttled")
    if node != 0 and not deviates(m, R25):
        wake_up(m.nodes[node - 1].pfmemalloc_wait)
