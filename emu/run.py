"""``emu run``: a workload on all CPUs of a machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from emu.config import ConfigError, MachineConfig
from emu.cpu.process import Handler
from emu.machine import CMD_WORKLOAD, Machine
from emu.workload.catalogue import WORKLOADS, init_run, release_held
from emu.workload.run import PageSlot, Run
from emu.zone.board import Board
from shm.atomic import load_acquire
from shm.loader import Progress
from shm.struct import address_of, record_at, size_of

__all__ = ["WorkloadReport", "WorkloadRun"]

BUDGET = 1 << 16  # operations of a slice: a few milliseconds
CMD_RELEASE = 7


@dataclass(frozen=True)
class WorkloadReport:
    """What a run did, summed over the CPUs."""

    workload: str
    seed: int
    cpus: int
    seconds: float
    ops: int
    allocs: int
    frees: int
    failed: int
    ops_per_second: float
    by_order: list[int]
    per_cpu: list[int]


def run_of(board: Board, index: int) -> Run:
    """A CPU's Run record, in the script area."""
    return record_at(Run, address_of(board.m) + board.m.script + index * size_of(Run))


def _slices(board: Board, index: int) -> int:
    """CMD_WORKLOAD: slices until the workload is done, its time is over or the machine stops."""
    m, cpu, run = board.m, board.cpu(index), run_of(board, index)
    names = list(WORKLOADS)
    work = WORKLOADS[names[run.workload]].entry
    while not load_acquire(m, "stop"):
        if run.deadline and time.monotonic_ns() >= run.deadline:
            break
        if run.target and run.ops >= run.target:
            break
        if not work(m, cpu, run, min(BUDGET, run.target - run.ops) if run.target else BUDGET):
            break
        cpu.party.heartbeat += 1
    return run.ops


def _release(board: Board, index: int) -> int:
    """CMD_RELEASE: free what the workload still holds."""
    return release_held(board.m, board.cpu(index), run_of(board, index))


class WorkloadRun:
    """A machine that is to run its configured workload. Use as a context manager."""

    def __init__(self, config: MachineConfig, progress: Progress | None = None, order: int = 0) -> None:
        if config.workload not in WORKLOADS:
            raise ConfigError(f"workload {config.workload}: not one of {', '.join(WORKLOADS)}")
        self.config = config
        pages = sum(config.node_bytes()) >> 12
        slots = pages // config.cpus + 1024
        handlers: dict[int, Handler] = {CMD_WORKLOAD: _slices, CMD_RELEASE: _release}
        table = config.cpus * (size_of(Run) + slots * size_of(PageSlot))
        self.machine = Machine(config, script_size=table + 8192, handlers=handlers, progress=progress)
        m = self.machine.m
        first = m.script + -(-config.cpus * size_of(Run) // 64) * 64
        for i in range(config.cpus):
            run = run_of(self.machine.board, i)
            run.slots, run.nr_slots = first + i * slots * size_of(PageSlot), slots
            init_run(run, config.workload, seed=config.seed * 1000 + i, pages=pages // config.cpus, order=order)
            run.target = config.operations

    def done(self) -> int:
        """Operations so far."""
        return sum(run_of(self.machine.board, i).ops for i in range(self.config.cpus))

    def runs(self) -> list[Run]:
        """Each CPU's parameters and results."""
        return [run_of(self.machine.board, i) for i in range(self.config.cpus)]

    def post(self, operations: int) -> None:
        """Do so many more operations on each CPU, and wait for it."""
        cpus = range(self.config.cpus)
        for i in cpus:
            run = run_of(self.machine.board, i)
            run.deadline, run.target = 0, run.ops + operations
            self.machine.post(i, CMD_WORKLOAD)
        self.machine.wait(cpus)

    def run(self, tick: Callable[[], None] | None = None) -> WorkloadReport:
        """Run it to its end and free everything. The machine must be started."""
        cpus = range(self.config.cpus)
        began = time.perf_counter()
        for i in cpus:
            run = run_of(self.machine.board, i)
            run.deadline = 0 if self.config.operations else time.monotonic_ns() + int(self.config.duration * 1e9)
            self.machine.post(i, CMD_WORKLOAD)
        self.machine.wait(cpus, tick=tick)
        seconds = time.perf_counter() - began
        for i in cpus:
            self.machine.post(i, CMD_RELEASE)
        self.machine.wait(cpus)
        runs = [run_of(self.machine.board, i) for i in cpus]
        ops = sum(r.ops for r in runs)
        return WorkloadReport(
            self.config.workload, self.config.seed, self.config.cpus, seconds, ops, sum(r.allocs for r in runs),
            sum(r.frees for r in runs), sum(r.failed for r in runs), ops / seconds if seconds else 0.0,
            [sum(r.by_order[o] for r in runs) for o in range(11)], [r.ops for r in runs],
        )  # fmt: skip

    def __enter__(self) -> WorkloadRun:
        self.machine.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.machine.stop()
