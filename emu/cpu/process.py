"""The OS process that is a CPU, or a daemon such as a node's kswapd.

It is forked from the parent with the segment mapped and the native code loaded, and then serves commands that the
parent posts in its record: a command runs in slices of a few milliseconds inside the core, and between slices the
process is in Python, where signals and the log are served. It ends when ``m.stop`` is set, when it is told to by
SIGTERM, and when its parent dies - whoever notices that also removes the segment's name.
"""

import logging
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import psutil

from emu.cpu.cpu_hotplug import CPUHP_ONLINE
from emu.cpu.irq_signal import install_irq_handler
from emu.cpu.workqueue import poll, sleep_on_doorbell
from emu.zone.board import Board
from emu.zone.mmzone import Cpu, Machine
from shm.parent import end_with_parent
from shm.atomic import fetch_add, futex_wake, load_acquire, store_release
from shm.core import as_entries, entry

__all__ = ["PROCESS_ENTRIES", "Handler", "answer", "cpu_main", "daemon_main"]

WAKE_ALL, ANY = 0x7FFFFFFF, 0xFFFFFFFF
STATE_STARTING, STATE_IDLE, STATE_BUSY = 0, 1, 2

Handler = Callable[[Board, int], int]
"""Serves one command on a CPU: ``handler(board, index)``; arguments are in the CPU's record."""

log = logging.getLogger("emu.cpu")


@entry
def idle(m: Machine, cpu: Cpu) -> None:
    """The idle loop's body: do what came in, then sleep until the doorbell rings or a tick passes."""
    seen = load_acquire(cpu, "doorbell")
    poll(m, cpu)
    if load_acquire(cpu, "command") == cpu.answered and load_acquire(m, "stop") == 0:
        sleep_on_doorbell(cpu, seen)


PROCESS_ENTRIES = as_entries(idle)


def answer(board: Board, cpu: Cpu, result: int) -> None:
    """Tell the parent that the current command is done."""
    cpu.result = result
    cpu.party.state = STATE_IDLE
    store_release(cpu, "answered", cpu.command)
    fetch_add(board.m, "parent_bell", 1)
    futex_wake(board.m, "parent_bell", WAKE_ALL, ANY)


def _become(board: Board, name: str, index: int, parent: int, core_number: int) -> None:
    """What every process of the machine does first."""
    end_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it stops the machine in order
    signal.signal(signal.SIGTERM, lambda *_: store_release(board.m, "stop", 1))
    if os.getppid() != parent:
        store_release(board.m, "stop", 1)
    if core_number >= 0:
        psutil.Process().cpu_affinity([core_number])
    cpu = board.cpu(index)
    if cpu.irq_stat:  # who signals us waits until we are up
        install_irq_handler(board.m, cpu)
    cpu.party.pid = os.getpid()
    cpu.party.state = STATE_IDLE
    log.debug("%s is up: pid %d, core %s", name, os.getpid(), core_number if core_number >= 0 else "any")


def _leave(board: Board, parent: int) -> NoReturn:
    """The way out: flush the log; without a parent, remove the segment's name."""
    if os.getppid() != parent:
        board.segment.path.unlink(missing_ok=True)
    for handler in logging.getLogger().handlers:
        queue: Any = getattr(handler, "queue", None)
        if queue is not None:
            queue.close()
            queue.join_thread()
    os._exit(0)


def cpu_main(board: Board, index: int, parent: int, core_number: int, handlers: dict[int, Handler]) -> NoReturn:
    """A CPU's process: serve commands until the machine stops, or the CPU is to go offline."""
    _become(board, f"cpu{index}", index, parent, core_number)
    m, cpu = board.m, board.cpu(index)
    while not load_acquire(m, "stop") and load_acquire(cpu, "hotplug") == CPUHP_ONLINE:
        if load_acquire(cpu, "command") == cpu.answered:
            idle(m, cpu)
            continue
        cpu.party.state = STATE_BUSY
        answer(board, cpu, handlers[cpu.command_code](board, index))
    _leave(board, parent)


def daemon_main(board: Board, index: int, name: str, parent: int, turn: Callable[[Machine, Cpu], bool]) -> NoReturn:
    """A daemon's process: its ``turn`` again and again, each at most a tick long when there is nothing to do.

    It also watches the parent: CPUs deep in the core can't.
    """
    _become(board, name, index, parent, -1)
    m, cpu = board.m, board.cpu(index)
    while not load_acquire(m, "stop"):
        if turn(m, cpu):
            log.debug("%s had work", name)
        if os.getppid() != parent:
            store_release(m, "stop", 1)
    _leave(board, parent)
