"""The OS process that is a CPU (or a node's kswapd).

It is forked from the parent with the segment mapped and the native code loaded, and then serves commands that the
parent posts in its record: a command runs in slices of a few milliseconds inside the core, and between slices the
process is in Python, where signals and the log are served. It ends when ``m.stop`` is set, when it is told to by
SIGTERM, and when its parent dies - whoever notices that also removes the segment's name.
"""

import ctypes
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import psutil

from emu.cpu.workqueue import poll, sleep_on_doorbell
from emu.zone.board import Board
from emu.zone.event import EV_KSWAPD_SLEEP, EV_KSWAPD_WAKE, record
from emu.zone.mmzone import Cpu, Machine, Node
from shm.atomic import clock_ns, fetch_add, futex_wake, load_acquire, store_release
from shm.core import as_entries, core, entry
from shm.waitqueue import finish_wait, prepare_to_wait, schedule

__all__ = ["PROCESS_ENTRIES", "Handler", "answer", "cpu_main", "kswapd_main"]

PR_SET_PDEATHSIG = 1
WAKE_ALL, ANY = 0x7FFFFFFF, 0xFFFFFFFF
TICK_NS = 100_000_000
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


@core
def kswapd_try_to_sleep(m: Machine, cpu: Cpu, node: Node) -> bool:
    """Sleep on the node's wait queue for at most a tick; true when woken."""
    cookie = prepare_to_wait(node.kswapd_wait)
    woken = schedule(node.kswapd_wait, cookie, clock_ns() + TICK_NS)
    finish_wait(node.kswapd_wait, cookie)
    return woken


@entry
def kswapd_round(m: Machine, cpu: Cpu, node: Node) -> bool:
    """One round of ``mm/vmscan.c:kswapd() (5.10)`` while there is nothing to reclaim.

    Woken, it takes the request over (order and zone index), notes that it was woken, and goes back to sleep.
    """
    if not kswapd_try_to_sleep(m, cpu, node):
        return False
    if cpu.trace != 0:
        record(m, cpu, EV_KSWAPD_WAKE, -1, node.kswapd_order, 0, 0, node.node_id, node.kswapd_highest_zoneidx)
    node.kswapd_order = 0
    node.kswapd_highest_zoneidx = 4
    fetch_add(cpu.party, "heartbeat", 1)
    if cpu.trace != 0:
        record(m, cpu, EV_KSWAPD_SLEEP, -1, 0, 0, 0, node.node_id, 0)
    return True


PROCESS_ENTRIES = as_entries(idle, kswapd_round)


def answer(board: Board, cpu: Cpu, result: int) -> None:
    """Tell the parent that the current command is done."""
    cpu.result = result
    cpu.party.state = STATE_IDLE
    store_release(cpu, "answered", cpu.command)
    fetch_add(board.m, "parent_bell", 1)
    futex_wake(board.m, "parent_bell", WAKE_ALL, ANY)


def _become(board: Board, name: str, index: int, parent: int, core_number: int) -> None:
    """What every process of the machine does first."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it stops the machine in order
    signal.signal(signal.SIGTERM, lambda *_: store_release(board.m, "stop", 1))
    if os.getppid() != parent:
        store_release(board.m, "stop", 1)
    if core_number >= 0:
        psutil.Process().cpu_affinity([core_number])
    cpu = board.cpu(index)
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
    """A CPU's process: serve commands until the machine stops."""
    _become(board, f"cpu{index}", index, parent, core_number)
    m, cpu = board.m, board.cpu(index)
    while not load_acquire(m, "stop"):
        if load_acquire(cpu, "command") == cpu.answered:
            idle(m, cpu)
            continue
        cpu.party.state = STATE_BUSY
        answer(board, cpu, handlers[cpu.command_code](board, index))
    _leave(board, parent)


def kswapd_main(board: Board, nid: int, parent: int) -> NoReturn:
    """A node's kswapd. It also watches the parent: CPUs deep in the core can't."""
    index = board.m.nr_cpus + nid
    _become(board, f"kswapd{nid}", index, parent, -1)
    m, cpu, node = board.m, board.cpu(index), board.m.nodes[nid]
    while not load_acquire(m, "stop"):
        if kswapd_round(m, cpu, node):
            log.debug("kswapd%d was woken", nid)
        if os.getppid() != parent:
            store_release(m, "stop", 1)
    _leave(board, parent)
