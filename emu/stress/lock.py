"""``emu stress lock``: allocators on N CPUs; who waits for zone->lock, how long, where, and how fairly.

A run fills memory once (``warmup``), so that first touches of the segment are over, clears all statistics and then
measures. What is measured is plain data, the same for one point of a sweep on another machine.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from emu.config import MachineConfig, make_config, parse_size, validated
from emu.cpu.process import Handler
from emu.machine import CMD_WORKLOAD, Machine
from emu.proc.lock_stat import clear_lock_stats, render
from emu.run import CMD_RELEASE, MAX_PARTS, run_of
from emu.stress.measure import ClassMeasure, CpuTimes, cpu_times, measure_locks
from emu.stress.mix import Mix, mixes_of
from emu.stress.oversubscribe import jain
from emu.workload.catalogue import WORKLOADS, init_run, release_held, shares
from emu.workload.run import PageSlot, Run
from emu.zone.board import Board
from emu.zone.init import zones_of
from emu.zone.locks import locks_of
from emu.zone.mmzone import MAX_ORDER, ZONE_NAMES
from emu.zone.mmzone import Machine as MachineRecord
from emu.zone.snapshot import pageset_of
from emu.zone.validate import validate
from shm.atomic import clock_ns, load_acquire
from shm.loader import Progress
from shm.struct import address_of, records_at, size_of

__all__ = ["CpuReport", "LockConfig", "LockReport", "LockRun", "lock_config", "point", "set_pcp", "stress_lock"]

ZONE_LOCK = "&zone->lock"
BUDGET = 1 << 12  # operations between two looks at the clock
WARMUP_MOST = 1 << 18

Size = Annotated[int, BeforeValidator(parse_size)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]


class LockConfig(BaseModel):
    """One point: a machine, what its CPUs do, and what may change contention."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: int = 4
    memory: Size = 1 << 30
    nodes: tuple[Size, ...] = ()
    mix: Names = ("bulk",)
    order: int = Field(default=0, ge=0, lt=MAX_ORDER)  # of bulk, repeat and rand
    fill: float = Field(default=1.0, gt=0, le=1.6)
    duration: float = Field(default=2.0, gt=0)
    operations: int = Field(default=0, ge=0)  # of each CPU, instead of the duration
    warmup: int = Field(default=-1, ge=-1)  # operations of each CPU; -1: once through its memory
    pcp_high: int | None = Field(default=None, ge=0, lt=1 << 30)
    pcp_batch: int | None = Field(default=None, ge=1, lt=1 << 30)
    spin_limit: int = Field(default=1000, ge=-1, lt=1 << 30)  # looks at a lock before parking; -1: never park
    lock_stat: bool = True
    pin: bool = True
    seed: int = 1
    sysctl: dict[str, Any] = Field(default_factory=dict)

    def machine(self) -> MachineConfig:
        """The machine it runs on."""
        shared = ("cpus", "memory", "nodes", "seed", "lock_stat", "pin", "sysctl")
        return make_config({**self.model_dump(include=set(shared)), "workload": "bulk"}, "stress lock")

    def mixes(self) -> list[Mix]:
        """What each CPU does."""
        return mixes_of(self.mix, self.cpus)


def lock_config(values: dict[str, Any]) -> LockConfig:
    """Checked, with the machine and the mixes; ConfigError in one line."""
    config = validated(LockConfig, values, "stress lock")
    config.machine()
    config.mixes()
    return config


@dataclass(frozen=True)
class CpuReport:
    """One CPU. Shares are of its own time from first to last operation."""

    cpu: int
    mix: str
    ops: int
    failed: int
    seconds: float
    running: float  # on a core of this host
    spinning: float  # looking at a lock, or waiting for a core while doing so
    parked: float  # asleep in a lock's queue
    holding: float  # with a lock held, on a core or not


@dataclass(frozen=True)
class LockReport:
    """What a run measured, after its warm-up and before it gave its memory back."""

    config: dict[str, Any]
    seconds: float
    ops: int
    allocs: int
    frees: int
    failed: int
    ops_per_second: float
    by_order: list[int]  # successful allocations
    cpus: tuple[CpuReport, ...]
    classes: tuple[ClassMeasure, ...]
    jain: float  # of operations per second, each CPU against those with the same mix
    longest_wait_ns: int
    longest_wait_class: str
    acquisitions_per_op: float  # of zone->lock, by an operation of order 0
    pcp: dict[str, dict[str, int]]
    lock_stat: str
    validate: list[str]

    def zone_lock(self) -> ClassMeasure | None:
        """The class that this is about."""
        return next((c for c in self.classes if c.name == ZONE_LOCK), None)


def set_pcp(m: MachineRecord, high: int | None, batch: int | None) -> None:
    """``mm/page_alloc.c:pageset_update() (5.10)`` for every pageset: batch to 1, then high, then batch.

    What isn't given follows as in 5.10: six batches, or a quarter of high up to 96.
    """
    if high is None and batch is None:
        return
    if batch is None:
        batch = max(1, min((high or 0) // 4, 96))
    if high is None:
        high = 6 * batch
    for zone in zones_of(m):
        for i in range(m.nr_parties):
            pcp = pageset_of(m, zone, i)
            pcp.batch = 1
            pcp.high = high
            pcp.batch = batch


def _work(board: Board, index: int) -> int:
    """CMD_WORKLOAD: slices until the target or the deadline; leaves when it began and its CPU time."""
    m, cpu, run = board.m, board.cpu(index), run_of(board, index)
    work = list(WORKLOADS.values())[run.workload].entry
    on_core, began = time.process_time_ns(), clock_ns()
    while not load_acquire(m, "stop") and (not run.deadline or clock_ns() < run.deadline):
        left = run.target - run.ops if run.target else BUDGET
        if left <= 0 or not work(m, cpu, run, min(left, BUDGET)):
            break
        cpu.party.heartbeat += 1
    cpu.command_args[0], cpu.command_args[1] = began, time.process_time_ns() - on_core
    return clock_ns() - began


def _release(board: Board, index: int) -> int:
    """CMD_RELEASE: free what the workload still holds."""
    return release_held(board.m, board.cpu(index), run_of(board, index))


@dataclass(frozen=True)
class _Seen:
    """A CPU's counts at one time."""

    ops: int
    allocs: int
    frees: int
    failed: int
    by_order: tuple[int, ...]
    held: tuple[int, ...]  # blocks, by order
    times: CpuTimes


class LockRun:
    """A machine set up for one point. Use as a context manager."""

    def __init__(self, config: LockConfig, progress: Progress | None = None) -> None:
        self.config, self.mixes = config, config.mixes()
        machine = config.machine()
        pages = sum(machine.node_bytes()) >> 12
        self.slots = pages // config.cpus + 1024
        runs = config.cpus * MAX_PARTS * size_of(Run)
        table = runs + config.cpus * self.slots * size_of(PageSlot)
        handlers: dict[int, Handler] = {CMD_WORKLOAD: _work, CMD_RELEASE: _release}
        self.machine = Machine(machine, script_size=table + 8192, handlers=handlers, progress=progress)
        m = self.m = self.machine.m
        set_pcp(m, config.pcp_high, config.pcp_batch)
        for i in range(m.nr_parties):
            self.machine.board.cpu(i).party.spin_limit = config.spin_limit
        for i, mix in enumerate(self.mixes):
            run = run_of(self.machine.board, i)
            run.slots, run.nr_slots = m.script + runs + i * self.slots * size_of(PageSlot), self.slots
            want = int(pages // config.cpus * config.fill * shares([mix.workload])[mix.workload])
            init_run(
                run, mix.workload, seed=(config.seed * 1000 + i) * MAX_PARTS, pages=max(want, 1), order=config.order,
                weights=mix.weights,
            )  # fmt: skip

    def runs(self) -> list[Run]:
        """Each CPU's."""
        return [run_of(self.machine.board, i) for i in range(self.config.cpus)]

    def failed(self) -> int:
        """Allocations that failed so far."""
        return sum(run.failed for run in self.runs())

    def _post(self, command: int, tick: Callable[[], None] | None = None) -> list[int]:
        if tick is not None:
            tick()  # how it was before
        for i in range(self.config.cpus):
            self.machine.post(i, command)
        return self.machine.wait(range(self.config.cpus), tick=tick)

    def warm_up(self) -> None:
        """Touch the memory, then forget what was counted."""
        for run in self.runs():
            once = min(2 * (run.want >> run.order), WARMUP_MOST)
            run.target = run.ops + (once if self.config.warmup < 0 else self.config.warmup)
        self._post(CMD_WORKLOAD)
        self.machine.settle()
        clear_lock_stats(locks_of(self.m))

    def _seen(self) -> list[_Seen]:
        out = []
        for run, times in zip(self.runs(), cpu_times(self.m), strict=True):
            slots = records_at(PageSlot, address_of(self.m) + run.slots, run.nr_slots)[: run.held]
            held = [0] * MAX_ORDER
            for order in slots["order"][slots["pfn"] >= 0]:
                held[order] += 1
            out.append(_Seen(run.ops, run.allocs, run.frees, run.failed, tuple(run.by_order), tuple(held), times))
        return out

    def run(self, tick: Callable[[], None] | None = None) -> LockReport:
        """Warm up, measure, give everything back. The machine must be started, and is halted in the end.

        ``tick`` is called now and then while it measures.
        """
        self.warm_up()
        before = self._seen()
        for run in self.runs():
            run.target = run.ops + self.config.operations if self.config.operations else 0
            run.deadline = 0 if self.config.operations else clock_ns() + int(self.config.duration * 1e9)
        spans = self._post(CMD_WORKLOAD, tick)
        began = [int(self.machine.board.cpu(i).command_args[0]) for i in range(self.config.cpus)]
        seconds = (max(b + s for b, s in zip(began, spans, strict=True)) - min(began)) / 1e9
        after, classes, text = self._seen(), measure_locks(self.m), render(locks_of(self.m))
        self._post(CMD_RELEASE)
        self.machine.settle()
        self.machine.halt()
        return self._report(seconds, spans, before, after, classes, text)

    def _cpu(self, index: int, span: int, before: _Seen, after: _Seen) -> CpuReport:
        times, on_core = after.times - before.times, int(self.machine.board.cpu(index).command_args[1])
        shares_of = [ns / span for ns in (on_core, times.spinning, times.parked, times.holding)]
        ops, failed = after.ops - before.ops, after.failed - before.failed
        return CpuReport(index, self.mixes[index].name, ops, failed, span / 1e9, *shares_of)

    def _report(
        self, seconds: float, spans: list[int], before: list[_Seen], after: list[_Seen],
        classes: tuple[ClassMeasure, ...], text: str,
    ) -> LockReport:  # fmt: skip
        cpus = tuple(self._cpu(i, span, b, a) for i, (span, b, a) in enumerate(zip(spans, before, after, strict=True)))
        by_order = [sum(a.by_order[o] - b.by_order[o] for a, b in zip(after, before, strict=True)) for o in _ORDERS]
        freed = [
            n + sum(b.held[o] - a.held[o] for a, b in zip(after, before, strict=True)) for o, n in enumerate(by_order)
        ]
        ops = sum(c.ops for c in cpus)
        longest = max(classes, key=lambda c: c.waits.longest, default=None)
        return LockReport(
            self.config.model_dump(mode="json"), seconds, ops,
            sum(a.allocs - b.allocs for a, b in zip(after, before, strict=True)),
            sum(a.frees - b.frees for a, b in zip(after, before, strict=True)), sum(c.failed for c in cpus),
            ops / seconds if seconds else 0.0, by_order, cpus, classes, _fairness(cpus),
            longest.waits.longest if longest else 0, longest.name if longest and longest.waits.longest else "",
            _per_op(classes, by_order, freed), _pcp(self.m), text, validate(self.m),
        )  # fmt: skip

    def __enter__(self) -> "LockRun":
        self.machine.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.machine.stop()


_ORDERS = range(MAX_ORDER)


def _fairness(cpus: tuple[CpuReport, ...]) -> float:
    """Jain's index of each CPU's speed, as a part of what those with its mix do on average."""
    speed = [c.ops / c.seconds if c.seconds else 0.0 for c in cpus]
    relative = []
    for mix in {c.mix for c in cpus}:
        group = [s for s, c in zip(speed, cpus, strict=True) if c.mix == mix]
        mean = sum(group) / len(group)
        relative += [s / mean if mean else 1.0 for s in group]
    return jain(relative)


def _per_op(classes: tuple[ClassMeasure, ...], by_order: list[int], freed: list[int]) -> float:
    """How often an operation of order 0 took zone->lock: those of higher orders take it each time, and are left out."""
    taken = sum(c.acquisitions for c in classes if c.name == ZONE_LOCK)
    small = by_order[0] + freed[0]
    return max(taken - sum(by_order[1:]) - sum(freed[1:]), 0) / small if small else 0.0


def _pcp(m: MachineRecord) -> dict[str, dict[str, int]]:
    first = ((zone, pageset_of(m, zone, 0)) for zone in zones_of(m))
    return {
        f"Node {zone.node} {ZONE_NAMES[zone.zid]}": {"high": pcp.high, "batch": pcp.batch} for zone, pcp in first
    }  # fmt: skip


def stress_lock(config: LockConfig) -> LockReport:
    """Run one point on a machine of its own."""
    with LockRun(config) as made:
        return made.run()


def point(config: dict[str, Any]) -> dict[str, Any]:
    """One point as plain data in and out: what a worker on another machine is asked for."""
    return asdict(stress_lock(lock_config(config)))
