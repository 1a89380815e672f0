"""Asking a running machine for something, from this process or any other that has its memory attached.

::

    with Machine(cpus=2) as machine:
        request(machine.m, CTL_SYSCTL, SYSCTLS["min_free_kbytes"].number, 0, 8192)

:func:`request` goes through ``Vm.ctl`` and is served by a daemon, whatever the CPUs do. :func:`ctl_command` is the same
on an idle CPU, as a command of its process.
"""

import errno
import os
import time

import psutil

from emu.reclaim.ctl import CTL_SYSCTL, ctl_do
from emu.zone.board import Board
from emu.zone.mm_types import Vm
from emu.zone.mmzone import Machine
from emu.zone.sysctl import SYSCTLS
from shm.atomic import clock_ns, cmpxchg, futex_wait, load_acquire, store_release
from shm.struct import address_of, record_at
from shm.waitqueue import wake_up

__all__ = ["ctl_command", "refuse", "request", "set_sysctl"]

ANY = 0xFFFFFFFF
LOOK_NS = 10_000_000
TIMEOUT_S = 60.0


def refuse(code: int, what: str) -> OSError:
    """A result below 0 as the exception for it."""
    name = errno.errorcode.get(-code, str(-code))
    return OSError(-code, f"{name} ({os.strerror(-code)})", what)


def _claim(vm: Vm, deadline: float) -> None:
    """The slot is ours; that of a client that is gone is taken over."""
    while True:
        client = cmpxchg(vm.ctl, "client", 0, os.getpid())
        if client == 0 or (not psutil.pid_exists(client) and cmpxchg(vm.ctl, "client", client, os.getpid()) == client):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"process {client} does not let go of it", "the machine's request slot")
        time.sleep(LOOK_NS / 1e9)


def request(m: Machine, code: int, *args: int, timeout: float = TIMEOUT_S) -> int:
    """Post a request (CTL_* of :mod:`emu.reclaim.ctl`) and wait for its result, an errno below 0 if it was refused."""
    vm = record_at(Vm, address_of(m) + m.vm)
    deadline = time.monotonic() + timeout
    _claim(vm, deadline)
    try:
        slot = vm.ctl
        slot.code = code
        for i, value in enumerate(args):
            slot.args[i] = value
        posted = (slot.posted + 1) & ANY
        store_release(slot, "posted", posted)
        wake_up(vm.flusher_wait)
        while (served := load_acquire(slot, "served")) != posted:
            if load_acquire(m, "stop") or time.monotonic() > deadline:
                store_release(slot, "served", posted)
                raise TimeoutError(errno.ETIMEDOUT, "it does not answer", "the machine")
            futex_wait(slot, "served", served, ANY, clock_ns() + LOOK_NS)
        return int(slot.result)
    finally:
        store_release(vm.ctl, "client", 0)


def set_sysctl(m: Machine, name: str, values: list[int]) -> None:
    """Write a file in ``/proc/sys/vm`` of a running machine; OSError with the kernel's errno if it is refused."""
    if name not in SYSCTLS:
        raise refuse(-errno.ENOENT, f"vm.{name}")
    what = SYSCTLS[name]
    if not 1 <= len(values) <= what.count or any(not what.low <= value <= what.high for value in values):
        raise refuse(-errno.EINVAL, f"vm.{name}")
    for index, value in enumerate(values):
        result = request(m, CTL_SYSCTL, what.number, index, value)
        if result < 0:
            raise refuse(result, f"vm.{name}")


def ctl_command(board: Board, index: int) -> int:
    """Serve a request as a command of a CPU's process: arguments are the code and what it takes."""
    args = board.cpu(index).command_args
    return int(ctl_do(board.m, board.cpu(index), args[0], args[1], args[2], args[3]))
