"""The process that interrupts: as a device does, it waits for nobody."""

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Mapping
from types import TracebackType

from emu.cpu.irq_signal import IRQ_SIGNAL
from emu.workload.irq_source import IRQ_KINDS, IrqSource, raise_interrupts
from emu.zone.mmzone import Machine
from shm.atomic import clock_ns, load_acquire
from shm.parent import end_with_parent
from shm.struct import size_of

__all__ = ["InterruptSource"]

PR_SET_TIMERSLACK = 29
SLICE_NS = 20_000_000
END_S = 2.0


class InterruptSource:
    """Interrupts all CPUs of a started machine while the context lasts. ``rates``: per second and CPU, by kind."""

    def __init__(self, m: Machine, rates: Mapping[str, float], seed: int) -> None:
        unknown = [kind for kind in rates if kind not in IRQ_KINDS]
        if unknown or any(rate < 0 for rate in rates.values()):
            raise ValueError(f"interrupt rates: {dict(rates)}: give {', '.join(IRQ_KINDS)} and rates from 0")
        self.m = m
        self._memory = mmap.mmap(-1, size_of(IrqSource))
        self.source = IrqSource.from_buffer(self._memory)
        self.source.signal = int(IRQ_SIGNAL)
        self.source.random = (seed * 0x9E3779B97F4A7C15 + 1) & 0x7FFFFFFFFFFFFFFF or 1
        for number, kind in enumerate(IRQ_KINDS):
            self.source.interval[number] = int(1e9 / rates[kind]) if rates.get(kind) else 0
        self._pid = 0

    def sent(self) -> dict[str, int]:
        """Interrupts raised so far, by kind."""
        return dict(zip(IRQ_KINDS, self.source.sent, strict=True))

    def __enter__(self) -> "InterruptSource":
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._run(parent)
            finally:
                os._exit(0)
        return self

    def _run(self, parent: int) -> None:
        end_with_parent(signal.SIGKILL)
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while os.getppid() == parent and not load_acquire(self.m, "stop"):
            raise_interrupts(self.m, self.source, clock_ns() + SLICE_NS)

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        os.kill(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.001)
