"""``emu run``: a workload on all CPUs of a machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from emu.config import ConfigError, MachineConfig
from emu.cpu.process import Handler
from emu.machine import CMD_WORKLOAD, Machine
from emu.mm.filemap import create_file
from emu.workload.catalogue import WORKLOADS, init_run, release_held, shares
from emu.workload.run import PageSlot, Run
from emu.zone.board import Board
from emu.zone.mm_types import AS_FILE, AS_SHMEM, MAX_MMS
from emu.zone.task_stats import slowpath_total
from shm.atomic import load_acquire
from shm.loader import Progress
from shm.struct import address_of, record_at, size_of

__all__ = ["WorkloadReport", "WorkloadRun"]

BUDGET = 1 << 16  # operations of a slice: a few milliseconds
TURN = 1 << 12  # of a slice, where a CPU does several workloads in turns
TASKS_PER_CPU = 8
CMD_RELEASE = 7


RECLAIM_EVENTS = (
    "allocstall", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pgrefill", "pgrotated", "pswp", "kswapd",
    "compact", "oom_kill", "pgmajfault", "slabs_scanned", "pageoutrun", "pgmigrate", "drop_", "thp_fault", "workingset",
    "unevictable",
)  # fmt: skip
SHARED_FILE_PAGES = 512


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
    killed: int  # processes that the OOM killer took
    vmstat: dict[str, int]  # what reclaim and compaction counted, by the names of /proc/vmstat
    slowpath: dict[str, Any]  # passes through the slow path and their reasons, of all tasks


MAX_PARTS = 8  # workloads that a CPU does in turns


def run_of(board: Board, index: int, part: int = 0) -> Run:
    """The Run record of a CPU's part, in the script area."""
    return record_at(Run, address_of(board.m) + board.m.script + (index * MAX_PARTS + part) * size_of(Run))


def _slices(board: Board, index: int) -> int:
    """CMD_WORKLOAD: slices of all parts in turn until each is done, the time is over or the machine stops."""
    m, cpu = board.m, board.cpu(index)
    runs = [run for run in (run_of(board, index, part) for part in range(MAX_PARTS)) if run.nr_slots]
    names = list(WORKLOADS)
    budget = BUDGET if len(runs) == 1 else TURN
    going = list(runs)
    while going and not load_acquire(m, "stop"):
        for run in list(going):
            if (run.deadline and time.monotonic_ns() >= run.deadline) or (run.target and run.ops >= run.target):
                going.remove(run)
                continue
            work = WORKLOADS[names[run.workload]].entry
            if not work(m, cpu, run, min(budget, run.target - run.ops) if run.target else budget):
                going.remove(run)
            cpu.party.heartbeat += 1
    return sum(run.ops for run in runs)


def _release(board: Board, index: int) -> int:
    """CMD_RELEASE: free what the workloads still hold."""
    runs = (run_of(board, index, part) for part in range(MAX_PARTS))
    return sum(release_held(board.m, board.cpu(index), run) for run in runs if run.nr_slots)


def parts_of(config: MachineConfig) -> list[str]:
    """The workloads that a configuration names, separated by commas."""
    parts = config.workload.split(",")
    unknown = [name for name in parts if name not in WORKLOADS]
    if unknown or len(parts) > MAX_PARTS:
        raise ConfigError(f"workload {config.workload}: give up to {MAX_PARTS} of {', '.join(WORKLOADS)}")
    if len(set(parts)) < len(parts):
        raise ConfigError(f"workload {config.workload}: each one once")
    if any(WORKLOADS[name].tasks or WORKLOADS[name].file for name in parts) and config.cpus > MAX_MMS // TASKS_PER_CPU:
        raise ConfigError(
            f"workload {config.workload}: {config.cpus} CPUs, but processes and files for "
            f"{MAX_MMS // TASKS_PER_CPU} at most"
        )
    return parts


class WorkloadRun:
    """A machine that is to run its configured workload. Use as a context manager."""

    def __init__(self, config: MachineConfig, progress: Progress | None = None, order: int = 0) -> None:
        self.parts = parts_of(config)
        self.config = config
        pages = sum(config.node_bytes()) >> 12
        slots = pages // config.cpus + 1536  # of each part: one may want nearly all
        handlers: dict[int, Handler] = {CMD_WORKLOAD: _slices, CMD_RELEASE: _release}
        runs = config.cpus * MAX_PARTS * size_of(Run)
        table = runs + config.cpus * len(self.parts) * slots * size_of(PageSlot)
        self.machine = Machine(config, script_size=table + 8192, handlers=handlers, progress=progress)
        m = self.machine.m
        at = m.script + runs
        group = m.memcgs[0]
        group.memory_max, group.memory_high = config.memcg_max >> 12, config.memcg_high >> 12
        limited = int(bool(config.memcg_max or config.memcg_high))
        shared = create_file(m, AS_FILE, min(SHARED_FILE_PAGES, max(pages // 16, 1)))
        for i in range(config.cpus):
            for p, name in enumerate(self.parts):
                run = run_of(self.machine.board, i, p)
                run.slots, run.nr_slots = at, slots
                at += slots * size_of(PageSlot)
                want = int(pages // config.cpus * config.fill * shares(self.parts)[name])
                if not (WORKLOADS[name].tasks or WORKLOADS[name].file):
                    want = min(want, slots)
                init_run(run, name, seed=(config.seed * 1000 + i) * MAX_PARTS + p, pages=want, order=order)
                run.target = config.operations
                run.first_task, run.nr_tasks = i * TASKS_PER_CPU + WORKLOADS[name].task, WORKLOADS[name].tasks
                run.shared_file = shared
                if WORKLOADS[name].file:
                    run.file = create_file(m, AS_FILE, max(run.want, 1))
                    run.tmpfs = create_file(m, AS_SHMEM, max(run.want >> 4, 1))
                run.memcg = limited

    def done(self) -> int:
        """Operations so far."""
        return sum(run.ops for run in self.runs())

    def runs(self) -> list[Run]:
        """Each CPU's parameters and results, part by part."""
        return [run_of(self.machine.board, i, p) for i in range(self.config.cpus) for p in range(len(self.parts))]

    def counters(self) -> dict[str, int]:
        """Reclaim's and compaction's events so far, those that happened."""
        events = self.machine.state(light=True)["vm_events"]
        return {name: n for name, n in events.items() if n and name.startswith(RECLAIM_EVENTS)}

    def post(self, operations: int) -> None:
        """Do so many more operations on each CPU, and wait for it."""
        cpus = range(self.config.cpus)
        for run in self.runs():
            run.deadline, run.target = 0, run.ops + operations
        for i in cpus:
            self.machine.post(i, CMD_WORKLOAD)
        self.machine.wait(cpus)

    def run(self, tick: Callable[[], None] | None = None) -> WorkloadReport:
        """Run it to its end and free everything. The machine must be started."""
        cpus = range(self.config.cpus)
        began = time.perf_counter()
        for run in self.runs():
            run.target = run.ops + self.config.operations if self.config.operations else 0
            run.deadline = 0 if self.config.operations else time.monotonic_ns() + int(self.config.duration * 1e9)
        for i in cpus:
            self.machine.post(i, CMD_WORKLOAD)
        self.machine.wait(cpus, tick=tick)
        seconds = time.perf_counter() - began
        self.release()
        runs = self.runs()
        ops = sum(r.ops for r in runs)
        return WorkloadReport(
            self.config.workload, self.config.seed, self.config.cpus, seconds, ops, sum(r.allocs for r in runs),
            sum(r.frees for r in runs), sum(r.failed for r in runs), ops / seconds if seconds else 0.0,
            [sum(r.by_order[o] for r in runs) for o in range(11)],
            [sum(r.ops for r in runs[i * len(self.parts) : (i + 1) * len(self.parts)]) for i in cpus],
            sum(r.killed for r in runs), self.counters(), slowpath_total(self.machine.m),
        )  # fmt: skip

    def release(self) -> None:
        """Free everything that the workload holds."""
        for i in range(self.config.cpus):
            self.machine.post(i, CMD_RELEASE)
        self.machine.wait(range(self.config.cpus))

    def __enter__(self) -> WorkloadRun:
        self.machine.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.machine.stop()
