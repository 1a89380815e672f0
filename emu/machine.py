"""A running machine: a board with one OS process per CPU, and the daemons: kswapd and kcompactd of each node, the
disk, the flusher, the oom_reaper.

::

    with Machine(cpus=4, memory="1G") as m:
        pfn = m.alloc_pages(cpu=0, gfp=GFP_KERNEL, order=3)
        m.free_pages(cpu=1, pfn=pfn, order=3)
        print(m.run("bulk", duration=1.0))

The parent never allocates pages itself: it posts commands to the CPUs' processes and supervises them. A process that
ends without having been told to is named, with what it held; the machine is then stopped and nothing is left behind.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import multiprocessing_logging
import numpy as np
import psutil

from emu.config import MachineConfig, make_config
from emu.cpu.irq import raise_irq
from emu.cpu.process import STATE_BUSY, STATE_STARTING, Handler, cpu_main, daemon_main
from emu.daemons import daemons_idle, daemons_of
from emu.programs import load_all
from emu.workload.command import alloc_command, free_command
from emu.zone.board import RING_CAPACITY, Board
from emu.zone.event import REPORTS, Event
from emu.zone.init import EXIT_OWNER_DEAD
from emu.zone.init_vm import vm_of
from emu.zone.locks import locks_of, party_name
from emu.zone.mmzone import Cpu
from emu.zone.report_oom import PANICS
from emu.zone.snapshot import State
from emu.zone.sysctl import SYSCTLS, sysctl_write
from shm.atomic import clock_ns, fetch_add, futex_wait, futex_wake, load_acquire, store_release
from shm.loader import Progress
from shm.point import site_name
from shm.ring import Ring, ring_drain
from shm.spinlock import holder_of, wait_position
from shm.struct import address_of, record_at

__all__ = [
    "CMD_ALLOC",
    "CMD_FREE",
    "CMD_FREE_RUN",
    "CMD_ORDERED",
    "CMD_WORKLOAD",
    "Machine",
    "MachineError",
    "post_args",
]

log = logging.getLogger("emu.machine")

CMD_ALLOC, CMD_FREE, CMD_WORKLOAD, CMD_ORDERED, CMD_FREE_RUN = 1, 2, 3, 4, 5
SOFT_LOCKUP_S = 20.0  # the kernel's default: twice watchdog_thresh
STOP_S = 3.0


class MachineError(RuntimeError):
    """A CPU's process ended or hangs: which, and what it held."""


def _alloc(board: Board, index: int) -> int:
    return alloc_command(board.m, board.cpu(index))


def _free(board: Board, index: int) -> int:
    return free_command(board.m, board.cpu(index))


@dataclass
class Child:
    """One process of the machine."""

    name: str
    index: int
    pid: int
    status: int | None = None
    heartbeat: int = -1
    since: float = field(default_factory=time.monotonic)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number < signal.SIGRTMIN else f"SIGRTMIN+{number - signal.SIGRTMIN}"


def post_args(cpu: Cpu, code: int, args: Iterable[int]) -> None:
    """Put a command into a CPU's record and ring its doorbell."""
    cpu.command_code = code
    for i, value in enumerate(args):
        cpu.command_args[i] = value
    store_release(cpu, "command", (cpu.command + 1) & 0xFFFFFFFF)
    fetch_add(cpu, "doorbell", 1)
    futex_wake(cpu, "doorbell", 0x7FFFFFFF, 0xFFFFFFFF)


class Machine:
    """A machine with its processes. Use as a context manager."""

    def __init__(
        self, config: MachineConfig | None = None, *, state: State | None = None, ring_capacity: int = RING_CAPACITY,
        script_size: int = 0, handlers: dict[int, Handler] | None = None, progress: Progress | None = None,
        daemons: bool = True, processes: int | None = None, **values: Any,
    ) -> None:  # fmt: skip
        """A machine as ``config`` or the keyword ``values`` say, or in a recorded ``state``.

        ``processes``: as many as CPUs unless given (a process may play several CPUs in ordered scripts).
        """
        self.config = config or make_config(values, "machine")
        self.children: list[Child] = []
        self.events: list[np.ndarray[Any, Any]] = []
        self.keep_events = False
        self.soft_lockup_s = 0.0  # when a CPU is said to be stuck; 0: SOFT_LOCKUP_S
        self._on_report: Callable[[Any], None] | None = None
        self._handlers = {CMD_ALLOC: _alloc, CMD_FREE: _free, **(handlers or {})}
        self._daemons = daemons
        load_all(progress)
        tuning = self.config.tuning()
        if state is not None:
            self.board = Board.from_state(
                state, tuning, ring_capacity=ring_capacity, script_size=script_size,
                extra_parties=max(0, (processes or 0) - len(state["cpu_node"])),
            )  # fmt: skip
        else:
            shape = self.config.shape()
            self.board = Board.boot(shape, tuning, ring_capacity=ring_capacity, script_size=script_size or 1 << 16)
        self.m = self.board.m
        for name, value in self.config.sysctl.later().items():
            sysctl_write(self.m, self.board.cpu(0), SYSCTLS[name].number, 0, value)
        self.processes = self.m.nr_cpus if processes is None else processes
        if self.config.trace:
            self.trace(True)

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> "Machine":
        """Fork the processes. Log records of theirs come to this process's handlers."""
        root = logging.getLogger()
        multiprocessing_logging.install_mp_handler(root)
        parent = os.getpid()
        cores = sorted(os.sched_getaffinity(0))
        try:
            for i in range(self.processes):
                core_number = cores[i % len(cores)] if self.config.pin and self.processes > 1 else -1
                at = self.party(i)
                self._fork(f"cpu{i}", at, partial(cpu_main, self.board, at, parent, core_number, self._handlers))
            for daemon in daemons_of(self.m) if self._daemons else ():
                body = partial(daemon_main, self.board, daemon.index, daemon.name, parent, daemon.turn)
                self._fork(daemon.name, daemon.index, body)
            self._wait(lambda: all(self.board.cpu(c.index).party.state != STATE_STARTING for c in self.children), 30.0)
        except BaseException:
            self.stop()
            raise
        return self

    def party(self, process: int) -> int:
        """The record of a CPU process: those beyond the CPUs come after the daemons."""
        return process if process < self.m.nr_cpus else process + self.m.nr_daemons

    def _fork(self, name: str, index: int, body: Callable[[], None]) -> None:
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                body()
            except BaseException:
                log.exception("%s failed", name)
            finally:
                os._exit(status)
        self.children.append(Child(name, index, pid))

    def stop(self) -> None:
        """Stop all processes and remove the segment. Safe to call twice."""
        self.halt()
        self.board.close()
        multiprocessing_logging.uninstall_mp_handler(logging.getLogger())

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until the daemons have nothing to do: what the CPUs caused is then done."""
        self._wait(lambda: not self._daemons or daemons_idle(self.m), timeout)

    def halt(self) -> None:
        """Stop all processes. The machine's memory stays, to look at."""
        store_release(self.m, "stop", 1)
        for index in range(self.m.nr_parties):
            fetch_add(self.board.cpu(index), "doorbell", 1)
        deadline = time.monotonic() + STOP_S
        while self._reap() and time.monotonic() < deadline:
            time.sleep(0.002)
        for child in self.children:
            if child.status is None:
                os.kill(child.pid, signal.SIGKILL)
                child.status = os.waitpid(child.pid, 0)[1]

    def __enter__(self) -> "Machine":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    # --- supervision --------------------------------------------------------------------------------------------------

    def _reap(self) -> list[Child]:
        """Collect exit statuses. Returns the children that live."""
        for child in self.children:
            if child.status is None:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    child.status = status
        return [c for c in self.children if c.status is None]

    def supervise(self) -> None:
        """One look at the processes and their rings: raises MachineError when one is gone or stuck."""
        self._reap()
        if panicked := vm_of(self.m).panicked:
            self.pump()
            raise MachineError(f"Kernel panic - not syncing: {PANICS[panicked - 1]}")
        gone = [c for c in self.children if c.status is not None]
        for child in gone:
            store_release(self.board.cpu(child.index).party, "dead", 1)
        first = [c for c in gone if os.waitstatus_to_exitcode(c.status or 0) not in (EXIT_OWNER_DEAD, 0)] or gone
        if first:
            self.m.broken = 1
            raise MachineError("; ".join(self._obituary(c) for c in first))
        now = time.monotonic()
        for child in self.children:
            party = self.board.cpu(child.index).party
            if party.heartbeat != child.heartbeat or party.state != STATE_BUSY:
                child.heartbeat, child.since = party.heartbeat, now
            elif now - child.since > (self.soft_lockup_s or SOFT_LOCKUP_S):
                raise MachineError(
                    f"watchdog: BUG: soft lockup - CPU#{child.index} stuck for {now - child.since:.0f}s! "
                    f"[{child.name}:{child.pid}] {self._waits(child)}"
                )
        self.pump()

    def _obituary(self, child: Child) -> str:
        code = os.waitstatus_to_exitcode(child.status or 0)
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        held = [
            f"{name}, taken at {site_name(lock.site or self.board.cpu(child.index).party.lock_site)}"
            for name, lock in locks_of(self.m)
            if holder_of(lock) == child.index + 1
        ]
        irqs = "irqs off" if self.board.cpu(child.index).party.irqs_off else "irqs on"
        return f"{child.name} (pid {child.pid}) {how}, holding {' and '.join(held) or 'no lock'}, {irqs}"

    def _waits(self, child: Child) -> str:
        party = self.board.cpu(child.index).party
        wait = party.waits[party.context]
        if not wait.lock:
            return f"last seen at {site_name(party.last_site or party.lock_site)}"
        for name, lock in locks_of(self.m):
            if address_of(lock) - address_of(self.m) - self.m.cpus == wait_position(wait):
                holder = "nobody"
                if holder_of(lock):
                    holder = f"{party_name(self.m, holder_of(lock) - 1)} from {site_name(lock.site)}"
                return f"waiting at {site_name(wait.site)} for {name}, held by {holder}"
        return f"waiting at {site_name(wait.site)}"

    @property
    def on_report(self) -> Callable[[Any], None] | None:
        """Told of every report, such as a failed allocation; who reports one with Mem-Info waits for it."""
        return self._on_report

    @on_report.setter
    def on_report(self, told: Callable[[Any], None] | None) -> None:
        self._on_report = told
        vm_of(self.m).console = int(told is not None)

    def pump(self) -> None:
        """Empty the event rings: reports go to ``on_report``, everything to ``events`` if they are kept."""
        vm = vm_of(self.m)
        reports = load_acquire(vm, "reports")
        for index in range(self.m.nr_parties):
            ring = record_at(Ring, address_of(self.m) + self.board.cpu(index).event_ring)
            if ring.head == ring.tail:
                continue
            events = ring_drain(ring, Event)
            if self.keep_events:
                self.events.append(events)
            if self.on_report is not None:
                for event in events[np.isin(events["kind"], REPORTS)]:
                    self.on_report(event)
        if vm.reports_printed != reports:
            store_release(vm, "reports_printed", reports)
            futex_wake(vm, "reports_printed", 0x7FFFFFFF, 0xFFFFFFFF)

    def lost_events(self) -> int:
        """Events that found their ring full."""
        rings = (self.board.cpu(i).event_ring for i in range(self.m.nr_parties))
        return sum(record_at(Ring, address_of(self.m) + at).lost for at in rings)

    def trace(self, on: bool) -> None:
        """Switch the trace points."""
        for index in range(self.m.nr_parties):
            self.board.cpu(index).trace = int(on)

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            bell = load_acquire(self.m, "parent_bell")
            self.supervise()
            if done():
                return
            if time.monotonic() > deadline:
                raise MachineError(f"no answer within {timeout:g} s")
            futex_wait(self.m, "parent_bell", bell, 0xFFFFFFFF, clock_ns() + 10_000_000)

    # --- commands -----------------------------------------------------------------------------------------------------

    def post(self, index: int, code: int, *args: int) -> None:
        """Give a CPU's process something to do; it must be idle."""
        post_args(self.board.cpu(index), code, args)

    def idle(self, index: int) -> bool:
        """Whether a CPU's process has answered its last command."""
        cpu = self.board.cpu(index)
        return load_acquire(cpu, "answered") == cpu.command

    def wait(
        self, indices: Iterable[int], timeout: float = 3600.0, tick: Callable[[], None] | None = None
    ) -> list[int]:
        """Wait for the answers of some CPUs, supervising meanwhile; ``tick`` is called every 10 ms or so."""
        which = list(indices)

        def done() -> bool:
            if tick is not None:
                tick()
            return all(self.idle(i) for i in which)

        self._wait(done, timeout)
        return [int(self.board.cpu(i).result) for i in which]

    def alloc_pages(self, *, cpu: int = 0, gfp: int = 0xCC0, order: int = 0, node: int = -1, nodemask: int = 0) -> int:
        """Allocate on a CPU's process: a pfn, or -1. A library call for small experiments: it costs a round trip."""
        self.post(cpu, CMD_ALLOC, gfp, order, node, nodemask)
        pfn: int = self.wait([cpu])[0]
        return pfn

    def free_pages(self, *, cpu: int = 0, pfn: int, order: int = 0) -> None:
        """``__free_pages()`` on a CPU's process."""
        self.post(cpu, CMD_FREE, pfn, order)
        self.wait([cpu])

    def interrupt(self, cpu: int, bits: int) -> None:
        """Interrupt a CPU (``IRQ_NET``, ``IRQ_TIMER``, ``IRQ_IPI`` of :mod:`emu.cpu.irq`)."""
        raise_irq(self.board.cpu(cpu), bits)

    # --- looking ------------------------------------------------------------------------------------------------------

    def state(self, light: bool = False) -> State:
        """The allocator's state; consistent when all CPUs are idle."""
        return self.board.state(light)

    def memory_use(self) -> int:
        """Resident bytes: the segment's pages and the processes' own memory."""
        own: int = sum(psutil.Process(c.pid).memory_info().rss for c in self.children if c.status is None)
        return int(self.board.segment.touched() + own)
