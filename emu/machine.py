"""A running machine: a board with one OS process per CPU, and the daemons: kswapd and kcompactd of each node, the
disk, the flusher, the oom_reaper.

::

    with Machine(cpus=4, memory="1G") as m:
        pfn = m.alloc_pages(cpu=0, gfp=GFP_KERNEL, order=3)
        m.free_pages(cpu=1, pfn=pfn, order=3)
        print(m.run("bulk", duration=1.0))

The parent never allocates pages itself: it posts commands to the CPUs' processes and supervises them. A process that
ends without having been told to is named, with what it held; the machine is then stopped and nothing is left behind,
or, if ``on_death`` is "offline" and nothing was half done, its CPU goes offline (``emu.hotplug``).
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import multiprocessing_logging
import numpy as np

from emu.config import MachineConfig, make_config
from emu.cpu.cpu_hotplug import salvage_page
from emu.cpu.irq import raise_irq
from emu.cpu.process import STATE_BUSY, STATE_STARTING, Handler, cpu_main, daemon_main
from emu.daemons import daemons_idle, daemons_of
from emu.death import Child, Death, examine, waits_for
from emu.hotplug import Hotplug
from emu.programs import load_all
from emu.trace.recorder import Recorder, undisturbed
from emu.workload.command import alloc_command, free_command
from emu.zone.alloc_context import NODES_OF_POLICY
from emu.zone.board import RING_CAPACITY, Board
from emu.zone.event import REPORTS, Event
from emu.zone.init_vm import vm_of
from emu.zone.mmzone import Cpu
from emu.zone.report_oom import PANICS
from emu.zone.snapshot import State
from emu.zone.sysctl import SYSCTLS, sysctl_write
from shm.atomic import clock_ns, fetch_add, futex_wait, futex_wake, load_acquire, store_release
from shm.loader import Progress
from shm.ring import Ring, ring_drain
from shm.struct import address_of, record_at

__all__ = [
    "CMD_ALLOC", "CMD_FREE", "CMD_FREE_RUN", "CMD_ORDERED", "CMD_SALVAGE", "CMD_WORKLOAD", "Machine", "MachineError",
    "post_args",
]  # fmt: skip

log = logging.getLogger("emu.machine")

CMD_ALLOC, CMD_FREE, CMD_WORKLOAD, CMD_ORDERED, CMD_FREE_RUN, CMD_SALVAGE = 1, 2, 3, 4, 5, 6
TRACE_RING_CAPACITY = 1 << 17  # some 20 ms of a CPU at full speed
PUMP_NS, RECORDING_PUMP_NS = 10_000_000, 2_000_000  # how often the rings are emptied
SOFT_LOCKUP_S = 20.0  # the kernel's default: twice watchdog_thresh
STOP_S = 3.0


class MachineError(RuntimeError):
    """A CPU's process ended or hangs: which, and what it held."""


def _alloc(board: Board, index: int) -> int:
    return alloc_command(board.m, board.cpu(index))


def _free(board: Board, index: int) -> int:
    return free_command(board.m, board.cpu(index))


def _salvage(board: Board, index: int) -> int:
    salvage_page(board.m, board.cpu(index), board.cpu(index).command_args[0])
    return 0


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
        self, config: MachineConfig | None = None, *, state: State | None = None, ring_capacity: int = 0,
        script_size: int = 0, handlers: dict[int, Handler] | None = None, progress: Progress | None = None,
        daemons: bool = True, processes: int | None = None, harmless: Iterable[int] = (), **values: Any,
    ) -> None:  # fmt: skip
        """A machine as ``config`` or the keyword ``values`` say, or in a recorded ``state``.

        ``processes``: as many as CPUs unless given (a process may play several CPUs in ordered scripts).
        ``harmless``: commands that may be cut short by the end of their CPU, if ``on_death`` is "offline".
        ``ring_capacity``: events that a process can have waiting to be read, a power of two; 0: more with tracing on.
        """
        self.config = config or make_config(values, "machine")
        ring_capacity = ring_capacity or (TRACE_RING_CAPACITY if self.config.trace else RING_CAPACITY)
        self.children: list[Child] = []
        self.deaths: list[tuple[int, Death]] = []  # when they were noticed (CLOCK_MONOTONIC ns)
        self.events: list[np.ndarray[Any, Any]] = []
        self.keep_events = False
        self.recorder: Recorder | None = None  # gets all that comes out of the rings
        self.soft_lockup_s = 0.0  # when a CPU is said to be stuck; 0: SOFT_LOCKUP_S
        self._on_report: Callable[[Any], None] | None = None
        self._handlers = {CMD_ALLOC: _alloc, CMD_FREE: _free, CMD_SALVAGE: _salvage, **(handlers or {})}
        self._daemons = daemons
        self._harmless = frozenset({CMD_ALLOC, CMD_FREE, *harmless})
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
        self.hotplug = Hotplug(self.board, self.children)
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
        try:
            for i in range(self.processes):
                self._fork_cpu(i)
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

    def _fork_cpu(self, i: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        # a core each, or none: a holder that lost its core must be free to go on elsewhere
        core_number = cores[i] if self.config.pin and 1 < self.processes <= len(cores) else -1
        at = self.party(i)
        self._fork(f"cpu{i}", at, partial(cpu_main, self.board, at, os.getpid(), core_number, self._handlers))

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
        """One look at the processes and their rings: raises MachineError when one is gone or stuck.

        With ``on_death = "offline"`` a CPU whose process left nothing half done is taken offline instead.
        """
        self._reap()
        if panicked := vm_of(self.m).panicked:
            self.pump()
            raise MachineError(f"Kernel panic - not syncing: {PANICS[panicked - 1]}")
        if any(c.status is not None and c.death is None for c in self.children):
            self._bury()
        self.hotplug.step()
        now = time.monotonic()
        for child in self.children:
            party = self.board.cpu(child.index).party
            if party.heartbeat != child.heartbeat or party.state != STATE_BUSY:
                child.heartbeat, child.since = party.heartbeat, now
            elif now - child.since > (self.soft_lockup_s or SOFT_LOCKUP_S):
                raise MachineError(
                    f"watchdog: BUG: soft lockup - CPU#{child.index} stuck for {now - child.since:.0f}s! "
                    f"[{child.name}:{child.pid}] {waits_for(self.m, child.index)}"
                )
        self.pump()

    def _bury(self) -> None:
        """Some processes have ended. The machine is stopped if one left something half done, or was told to by nobody
        and ``on_death`` says so, or if no CPU is left."""
        fresh = [c for c in self.children if c.status is not None and c.death is None]
        for child in fresh:
            store_release(self.board.cpu(child.index).party, "dead", 1)
        for child in fresh:
            child.death = examine(self.m, child, self._harmless)
            self.deaths.append((time.monotonic_ns(), child.death))
        first = [c.death for c in fresh if c.death and not c.death.waited] or [c.death for c in fresh if c.death]
        stop = [d for d in first if d.fatal or not (self.config.on_death == "offline" or self.hotplug.leaves(d.index))]
        if stop or not self.hotplug.living():
            raise MachineError("; ".join(str(d) for d in stop or first))
        for child in fresh:
            self.hotplug.begin(child)

    def offline_cpu(self, cpu: int, timeout: float = 30.0) -> None:
        """Take a CPU offline: it ends its present slice and its process, the others take over what it had."""
        if not any(c.index == cpu for c in self.hotplug.living()):
            raise MachineError(f"cpu{cpu} is not online")
        if len(self.hotplug.living()) == 1:
            raise MachineError(f"cpu{cpu} is the last CPU")
        self.hotplug.ask_to_leave(cpu)
        self._wait(lambda: not any(c.index == cpu for c in self.children), timeout)

    def online_cpu(self, cpu: int, timeout: float = 30.0) -> None:
        """Bring a CPU back that went offline: a new process, idle."""
        if not 0 <= cpu < self.processes or any(c.index == cpu for c in self.children):
            raise MachineError(f"cpu{cpu} is not offline")
        self.hotplug.bring_up(cpu)
        self._fork_cpu(cpu)
        self._wait(lambda: self.board.cpu(cpu).party.state != STATE_STARTING, timeout)

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
        with nullcontext() if self.recorder is None else undisturbed():
            self._pump()

    def _pump(self) -> None:
        vm = vm_of(self.m)
        reports = load_acquire(vm, "reports")
        for index in range(self.m.nr_parties):
            ring = record_at(Ring, address_of(self.m) + self.board.cpu(index).event_ring)
            if ring.head == ring.tail:
                continue
            events = ring_drain(ring, Event)
            if self.keep_events:
                self.events.append(events)
            if self.recorder is not None:
                self.recorder.take(index, events, ring.lost)
            if self.on_report is not None:
                for event in events[np.isin(events["kind"], REPORTS)]:
                    self.on_report(event)
        if self.recorder is not None:
            self.recorder.take_holds()
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
            every = PUMP_NS if self.recorder is None else RECORDING_PUMP_NS
            futex_wait(self.m, "parent_bell", bell, 0xFFFFFFFF, clock_ns() + every)

    def wait_for(self, done: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until something is so, supervising meanwhile."""
        self._wait(done, timeout)

    # --- commands -----------------------------------------------------------------------------------------------------

    def post(self, index: int, code: int, *args: int) -> None:
        """Give a CPU's process something to do; it must be idle."""
        if not self.hotplug.online(index):
            raise MachineError(f"cpu{index} is offline")
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
        """Allocate on a CPU's process: a pfn, or -1. A library call for small experiments: it costs a round trip.

        ``nodemask`` 0: no mask; -1: that of the task's policy. Raises ValueError for less.
        """
        if nodemask < NODES_OF_POLICY:
            raise ValueError(f"nodemask {nodemask}: no set of nodes")
        self.post(cpu, CMD_ALLOC, gfp, order, node, nodemask)
        pfn: int = self._answer(cpu)
        return pfn

    def free_pages(self, *, cpu: int = 0, pfn: int, order: int = 0) -> None:
        """``__free_pages()`` on a CPU's process."""
        self.post(cpu, CMD_FREE, pfn, order)
        self._answer(cpu)

    def _answer(self, cpu: int) -> int:
        result = self.wait([cpu])[0]
        if not self.hotplug.online(cpu):
            raise MachineError(f"cpu{cpu} went offline before it answered")
        return result

    def interrupt(self, cpu: int, bits: int) -> None:
        """Interrupt a CPU (``IRQ_NET``, ``IRQ_TIMER``, ``IRQ_IPI`` of :mod:`emu.cpu.irq`)."""
        if self.hotplug.online(cpu):
            raise_irq(self.board.cpu(cpu), bits)

    # --- looking ------------------------------------------------------------------------------------------------------

    def state(self, light: bool = False) -> State:
        """The allocator's state; consistent when all CPUs are idle."""
        return self.board.state(light)
