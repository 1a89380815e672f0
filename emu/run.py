"""``emu run``: a workload on all CPUs of a machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from emu.config import ConfigError, MachineConfig
from emu.cpu.cpu_hotplug import CPUHP_ONLINE
from emu.cpu.process import Handler
from emu.machine import CMD_WORKLOAD, Machine
from emu.mm.filemap import create_file
from emu.salvage import forget_doubles, salvage, slots_of
from emu.workload.catalogue import WORKLOADS, init_run, release_held, shares
from emu.workload.file_lists import load_file_lists
from emu.workload.run import ORPHAN, PageSlot, Run
from emu.workload.user_tasks import TASKS_PER_CPU
from emu.zone.board import Board
from emu.zone.mm_types import AS_FILE, AS_SHMEM, MAX_MMS
from emu.zone.snapshot import State
from emu.zone.sysctl import SYSCTLS, sysctl_write
from emu.zone.task_stats import slowpath_total
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.atomic import cmpxchg, fetch_add, load_acquire, store_release
from shm.loader import Progress
from shm.struct import address_of, record_at, size_of

__all__ = ["WorkloadReport", "WorkloadRun"]

BUDGET = 1 << 16  # operations of a slice: a few milliseconds
TURN = 1 << 12  # of a slice, where a CPU does several workloads in turns
CMD_RELEASE = 7
CMD_ADOPT = 8


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
    deaths: list[str] = field(default_factory=list)  # CPUs that went offline, and how
    in_flight: int = 0  # pages that those had in hand, neither on a list nor in a slot


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
    while going and not load_acquire(m, "stop") and load_acquire(cpu, "hotplug") == CPUHP_ONLINE:
        adopt(board, index)
        for run in list(going):
            if (run.deadline and time.monotonic_ns() >= run.deadline) or (run.target and run.ops >= run.target):
                going.remove(run)
                continue
            work = WORKLOADS[names[run.workload]].entry
            if not work(m, cpu, run, min(budget, run.target - run.ops) if run.target else budget):
                going.remove(run)
            cpu.party.heartbeat += 1
    return sum(run.ops for run in runs)


def adopt(board: Board, index: int) -> int:
    """``do_exit()`` of what ran on CPUs that went offline: their runs' pages are freed here. Returns the blocks."""
    given = 0
    if run_of(board, 0).orphans:
        for cpu in range(board.m.nr_cpus):
            for run in (run_of(board, cpu, part) for part in range(MAX_PARTS)):
                if run.orphan == ORPHAN and cmpxchg(run, "orphan", ORPHAN, index + 2) == ORPHAN:
                    given += release_held(board.m, board.cpu(index), run)
                    store_release(run, "orphan", 0)
                    fetch_add(run_of(board, 0), "orphans", -1)
    return given


def _release(board: Board, index: int) -> int:
    """CMD_RELEASE: free what the workloads still hold."""
    runs = (run_of(board, index, part) for part in range(MAX_PARTS))
    own = sum(release_held(board.m, board.cpu(index), run) for run in runs if run.nr_slots)
    return own + adopt(board, index)


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
    """A machine that is to run its configured workload. Use as a context manager.

    ``state``: where it begins, instead of a fresh boot; the workload then wants its part of what is free there.
    """

    def __init__(
        self, config: MachineConfig, progress: Progress | None = None, order: int = 0, state: State | None = None
    ) -> None:
        self.parts = parts_of(config)
        self.config = config
        pages = sum(z["vm_stat"][NR_FREE_PAGES] for z in state["zones"]) if state else sum(config.node_bytes()) >> 12
        slots = pages // config.cpus + 1536  # of each part: one may want nearly all
        handlers: dict[int, Handler] = {CMD_WORKLOAD: _slices, CMD_RELEASE: _release, CMD_ADOPT: adopt}
        runs = config.cpus * MAX_PARTS * size_of(Run)
        table = runs + config.cpus * len(self.parts) * slots * size_of(PageSlot)
        self.machine = Machine(
            config, state=state, script_size=table + 8192, handlers=handlers, progress=progress, harmless=handlers
        )  # fmt: skip
        if state:
            self._write_sysctls()
            load_file_lists(self.machine.m, state)
        self.machine.hotplug.on_offline = self._orphan
        self._wants: dict[tuple[int, int], int] = {}
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
                self._wants[i, p] = want
                run.target = config.operations
                run.first_task, run.nr_tasks = i * TASKS_PER_CPU + WORKLOADS[name].task, WORKLOADS[name].tasks
                run.shared_file = shared
                if WORKLOADS[name].file:
                    run.file = create_file(m, AS_FILE, max(run.want, 1))
                    run.tmpfs = create_file(m, AS_SHMEM, max(run.want >> 4, 1))
                run.memcg = limited

    def _write_sysctls(self) -> None:
        """Those that were asked for, on top of the state's."""
        asked = self.config.sysctl.model_fields_set
        for name, value in self.config.sysctl.model_dump(include=asked).items():
            for index, number in enumerate(value if isinstance(value, tuple) else (value,)):
                sysctl_write(self.machine.m, self.machine.board.cpu(0), SYSCTLS[name].number, index, number)

    def done(self) -> int:
        """Operations so far."""
        return sum(run.ops for run in self.runs())

    def runs(self) -> list[Run]:
        """Each CPU's parameters and results, part by part."""
        return [run_of(self.machine.board, i, p) for i in range(self.config.cpus) for p in range(len(self.parts))]

    def parts_by_cpu(self) -> list[tuple[int, Run]]:
        """The same, each with its CPU."""
        return [(i // len(self.parts), run) for i, run in enumerate(self.runs())]

    def failed(self) -> int:
        """Allocations that failed so far."""
        return sum(run.failed for run in self.runs())

    def counters(self) -> dict[str, int]:
        """Reclaim's and compaction's events so far, those that happened."""
        events = self.machine.state(light=True)["vm_events"]
        return {name: n for name, n in events.items() if n and name.startswith(RECLAIM_EVENTS)}

    # --- CPUs that go offline ---------------------------------------------------------------------------------------

    def _parts_of(self, index: int) -> list[Run]:
        return [run_of(self.machine.board, index, p) for p in range(len(self.parts))]

    def _orphan(self, index: int) -> None:
        """A CPU is gone: what its workload holds is to be freed by the others, and what it was freeing for another."""
        for run in self.runs():
            if run.orphan == index + 2:
                forget_doubles(self.machine.m, run)
                store_release(run, "orphan", ORPHAN)
        for run in self._parts_of(index):
            forget_doubles(self.machine.m, run)
            if run.orphan == 0:
                fetch_add(run_of(self.machine.board, 0), "orphans", 1)
                store_release(run, "orphan", ORPHAN)

    def release_orphans(self) -> None:
        """Have it freed now; the CPUs must be idle."""
        while run_of(self.machine.board, 0).orphans:
            first = self.machine.hotplug.living()[0].index
            self.machine.post(first, CMD_ADOPT)
            self.machine.wait([first])

    def restart(self, index: int) -> None:
        """A CPU that is online again begins its workload anew, when all that it held is free."""
        self.machine.wait_for(lambda: all(run.orphan == 0 for run in self._parts_of(index)))
        for p, run in enumerate(self._parts_of(index)):
            run.phase = run.position = run.held = run.mm = run.turn = 0
            run.want = self._wants[index, p]
        self.machine.post(index, CMD_WORKLOAD)

    def held(self) -> tuple[list[int], list[int]]:
        """The blocks that the workloads hold, pfns and orders, while the CPUs are idle."""
        slots = [slots_of(self.machine.m, run) for run in self.runs()]
        held = np.concatenate([s[s["pfn"] >= 0] for s in slots])
        return held["pfn"].tolist(), held["order"].tolist()

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
        if tick is not None:
            tick()  # how it was before
        for i in cpus:
            self.machine.post(i, CMD_WORKLOAD)
        self.machine.wait(cpus, tick=tick)
        seconds = time.perf_counter() - began
        self.release()
        salvaged = salvage(self.machine, [], []) if self.machine.deaths else 0
        runs = self.runs()
        ops = sum(r.ops for r in runs)
        return WorkloadReport(
            self.config.workload, self.config.seed, self.config.cpus, seconds, ops, sum(r.allocs for r in runs),
            sum(r.frees for r in runs), sum(r.failed for r in runs), ops / seconds if seconds else 0.0,
            [sum(r.by_order[o] for r in runs) for o in range(11)],
            [sum(r.ops for r in runs[i * len(self.parts) : (i + 1) * len(self.parts)]) for i in cpus],
            sum(r.killed for r in runs), self.counters(), slowpath_total(self.machine.m),
            [str(death) for _, death in self.machine.deaths], salvaged,
        )  # fmt: skip

    def release(self) -> None:
        """Free everything that the workload holds."""
        alive = [child.index for child in self.machine.hotplug.living()]
        for i in alive:
            self.machine.post(i, CMD_RELEASE)
        self.machine.wait(alive)
        self.release_orphans()

    def __enter__(self) -> WorkloadRun:
        self.machine.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.machine.stop()
