"""``emu stress slowpath``: many CPUs at the watermarks, with kswapd, kcompactd and direct reclaim racing for them.

What an allocation costs there and why: retries, drains of the pcp lists, throttling, and which failures were avoidable.
All numbers are counted while it runs; the text is made in ``emu.stress.slowpath_text``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from emu.config import ConfigError, MachineConfig, make_config
from emu.cpu.process import Handler
from emu.machine import CMD_WORKLOAD, Machine
from emu.mm.filemap import create_file
from emu.stress.histogram import hdr_of
from emu.workload import watermark as core
from emu.workload.run import PageSlot, Run
from emu.workload.user_tasks import TASKS_PER_CPU
from emu.workload.watermark import KINDS, NR_CLASSES, NR_ORDERS, ClassCost, Watermark
from emu.zone.board import Board
from emu.zone.init import zones_of
from emu.zone.init_vm import vm_of
from emu.zone.mm_types import AS_FILE, MAX_MMS
from emu.zone.mmzone import WMARK_HIGH, WMARK_LOW, WMARK_MIN, ZONE_NAMES
from emu.zone.sched import RESTART_REASONS, RETRY_REASONS
from emu.zone.slow_types import FAILED_NAMES, SPENT_NAMES, THROTTLES
from emu.zone.task_stats import drain_costs, slow_costs, slowpath_total
from emu.zone.validate import validate
from shm.atomic import load_acquire
from shm.loader import Progress
from shm.lockstat import HISTOGRAM_SIZE, Histogram, bucket_value
from shm.struct import address_of, record_at, records_at, size_of

__all__ = ["DEFAULTS", "Class", "Failures", "SlowpathReport", "SlowpathRun", "Spread", "ZoneFloor", "stress_slowpath"]

DEFAULTS: dict[str, Any] = {
    "cpus": 4, "memory": "256M", "swap": "128M", "duration": 5.0,
    "disk_latency": 50, "disk_bandwidth": "2G",
}  # fmt: skip
BUDGET = 1 << 12  # operations of a slice
SETTLE, RELEASE = 16, 17
ANON = 0.3  # of the memory
SWING = 2  # high watermarks that each CPU holds at most: it takes them faster than kswapd gives them
HELD = 0.3  # of the memory, that all of them hold at most
KSWAPD_EVENTS = (
    "pageoutrun", "kswapd_low_wmark_hit_quickly", "kswapd_high_wmark_hit_quickly", "pgscan_kswapd", "pgsteal_kswapd",
    "pgscan_direct", "pgsteal_direct", "pgscan_direct_throttle", "compact_stall", "compact_success",
    "compact_daemon_wake", "pswpout", "pswpin", "oom_kill",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """A distribution: mean, median, 99th percentile, largest."""

    mean: float
    p50: int
    p99: int
    longest: int


@dataclass(frozen=True)
class Failures:
    """Failed allocations, and of how many one remedy would have been enough (one may count for several)."""

    failed: int
    late: int  # the memory was there by then: another try would have got it
    avoidable: int  # pages on the CPUs' pcp lists, others' among them
    own: int  # pages on the lists of its own CPU alone
    daemon: int  # only with those on the lists of kswapd and its like too
    reserve: int  # the highatomic reserve


@dataclass(frozen=True)
class Class:
    """The allocations of one kind and order."""

    flags: str
    order: int
    attempts: int
    succeeded: int
    fast: int  # without the slow path
    slow: int
    failures: Failures
    retries: int
    retries_by: dict[str, int]
    restarts_by: dict[str, int]
    retries_per_slow: Spread
    slow_ns: Spread


@dataclass(frozen=True)
class ZoneFloor:
    """A zone's watermarks and what was seen of its free pages after every burst of every CPU."""

    node: int
    zone: str
    min: int
    low: int
    high: int
    lowest: int
    looks: int
    below_low: int
    below_min: int
    boosted: int  # looks that saw a boost on top of the marks


@dataclass(frozen=True)
class SlowpathReport:
    """All that ``emu stress slowpath`` found. Times in ns."""

    seed: int
    cpus: int
    memory: int
    swap: int
    sysctl: dict[str, Any]
    boot: dict[str, Any]
    duration: float  # asked for, if ``target`` is 0
    target: int  # operations of each CPU asked for
    seconds: float
    operations: int
    classes: list[Class]
    total: Class  # of all classes; flags "all", order -1
    elsewhere: int  # slow paths of page cache, page tables, anonymous memory
    spent: dict[str, int]  # by tasks, all allocations; the later ones within the earlier ones
    times: dict[str, int]
    daemons_spent: dict[str, int]
    drain: dict[str, int]
    pcp_pages_per_failure: float
    reserve_pages_per_failure: float
    vmstat: dict[str, int]
    zones: list[ZoneFloor]
    killed: int
    problems: list[str]


def _table_of(board: Board, index: int) -> Watermark:
    return record_at(Watermark, address_of(board.m) + board.m.script + index * size_of(Watermark))


def _slices(board: Board, index: int) -> int:
    """CMD_WORKLOAD: slices until the time is over, the operations are done or the machine stops."""
    w = _table_of(board, index)
    run, cpu = w.run, board.cpu(index)
    while not load_acquire(board.m, "stop"):
        if (run.deadline and time.monotonic_ns() >= run.deadline) or (run.target and run.ops >= run.target):
            break
        core.watermark(board.m, cpu, w, min(BUDGET, run.target - run.ops) if run.target else BUDGET)
        cpu.party.heartbeat += 1
    return int(run.ops)


def _settle(board: Board, index: int) -> int:
    cpu = board.cpu(index)
    return core.settle_in(board.m, cpu, _table_of(board, index), cpu.command_args[0])


def _release(board: Board, index: int) -> int:
    cpu = board.cpu(index)
    return core.give_all(board.m, cpu, _table_of(board, index), cpu.command_args[0])


class SlowpathRun:
    """A machine whose memory is to be kept at the watermarks. Use as a context manager."""

    def __init__(self, config: MachineConfig, progress: Progress | None = None) -> None:
        if config.cpus > MAX_MMS // TASKS_PER_CPU:
            raise ConfigError(f"slowpath: {config.cpus} CPUs, but processes for {MAX_MMS // TASKS_PER_CPU} at most")
        self.config = config
        self.pages = sum(config.node_bytes()) >> 12
        slots = self.pages // config.cpus // 4 + 1024
        tables = config.cpus * size_of(Watermark)
        histograms = 2 * NR_CLASSES * HISTOGRAM_SIZE
        size = tables + config.cpus * (histograms + slots * size_of(PageSlot)) + 8192
        handlers: dict[int, Handler] = {CMD_WORKLOAD: _slices, SETTLE: _settle, RELEASE: _release}
        self.machine = Machine(config, script_size=size, handlers=handlers, progress=progress)
        m = self.machine.m
        self.file = create_file(m, AS_FILE, self.pages)
        high = sum(int(z.watermark[WMARK_HIGH]) for z in zones_of(m))
        want = max(min(SWING * high, int(self.pages * HELD) // config.cpus), 128)
        for i in range(config.cpus):
            w = self.table(i)
            run = w.run
            begin = m.script + tables + i * (histograms + slots * size_of(PageSlot))
            w.histograms = begin + address_of(m) - address_of(w)
            run.slots, run.nr_slots = begin + histograms, slots
            run.seed = run.random = ((config.seed * 1000 + i) * 0x9E3779B97F4A7C15 + 1) & 0x7FFFFFFFFFFFFFFF or 1
            run.want, run.file, w.burst = want, self.file, max(want // 2, 64)
            run.first_task, run.nr_tasks = i * TASKS_PER_CPU, 1
            w.anon = int(self.pages * ANON) // config.cpus
            w.file_pages, w.read_at = self.pages, i * self.pages // config.cpus

    def table(self, index: int) -> Watermark:
        """A CPU's parameters and results."""
        return _table_of(self.machine.board, index)

    def _all(self, command: int, *args: int, tick: Callable[[], None] | None = None) -> None:
        cpus = range(self.config.cpus)
        if tick is not None:
            tick()  # how it was before
        for i in cpus:
            self.machine.post(i, command, *args)
        self.machine.wait(cpus, tick=tick)

    def done(self) -> int:
        """Operations so far."""
        return sum(self.table(i).run.ops for i in range(self.config.cpus))

    def runs(self) -> list[tuple[int, Run]]:
        """What each CPU holds."""
        return [(i, self.table(i).run) for i in range(self.config.cpus)]

    def failed(self) -> int:
        """Allocations that failed so far, in the bursts."""
        tables = (self.table(i) for i in range(self.config.cpus))
        return sum(int(c.failed) for w in tables for c in w.classes)

    def fill(self) -> None:
        """Fill memory with anonymous pages and page cache; the disk takes no time for it."""
        disk = vm_of(self.machine.m).disk
        times = disk.latency_ns, disk.page_ns
        disk.latency_ns = disk.page_ns = 0
        self._all(SETTLE, self.pages // self.config.cpus)
        disk.latency_ns, disk.page_ns = times

    def run(self, tick: Callable[[], None] | None = None) -> SlowpathReport:
        """Fill memory, do the bursts, free everything. The machine must be started."""
        m, config = self.machine.m, self.config
        self.fill()
        before = self.machine.state(light=True)["vm_events"]
        slow_before = slowpath_total(m)["slowpaths"]
        vm_of(m).slow_stat.measured = 1
        filled = self.done()
        began = time.perf_counter()
        for i in range(config.cpus):
            run = self.table(i).run
            run.target = run.ops + config.operations if config.operations else 0
            run.deadline = 0 if config.operations else time.monotonic_ns() + int(config.duration * 1e9)
        self._all(CMD_WORKLOAD, tick=tick)
        seconds = time.perf_counter() - began
        vm_of(m).slow_stat.measured = 0
        operations = self.done() - filled
        after = self.machine.state(light=True)["vm_events"]
        slow = slowpath_total(m)["slowpaths"] - slow_before
        zones = self._zones()
        self._all(RELEASE, 0)
        self.machine.post(0, RELEASE, self.file)
        self.machine.wait([0])
        self.machine.settle()
        self.machine.halt()
        return self._report(seconds, operations, slow, {n: after[n] - before[n] for n in after}, zones)

    def __enter__(self) -> SlowpathRun:
        self.machine.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.machine.stop()

    def _zones(self) -> list[ZoneFloor]:
        tables = [self.table(i) for i in range(self.config.cpus)]
        out = []
        for zone in zones_of(self.machine.m):
            at = zone.zone_id
            out.append(
                ZoneFloor(
                    zone.node, ZONE_NAMES[zone.zid], int(zone.watermark[WMARK_MIN]), int(zone.watermark[WMARK_LOW]),
                    int(zone.watermark[WMARK_HIGH]), min(int(w.lowest[at]) for w in tables),
                    sum(int(w.looks) for w in tables), sum(int(w.below_low[at]) for w in tables),
                    sum(int(w.below_min[at]) for w in tables), sum(int(w.boosted[at]) for w in tables),
                )
            )  # fmt: skip
        return out

    def _report(
        self, seconds: float, operations: int, slow: int, events: dict[str, int], zones: list[ZoneFloor]
    ) -> SlowpathReport:
        m, config = self.machine.m, self.config
        classes = [made for i in range(NR_CLASSES) if (made := self._class([i], KINDS[i // NR_ORDERS], i % NR_ORDERS))]
        total = self._class(range(NR_CLASSES), "all", -1)
        if total is None:
            raise ConfigError("slowpath: no time for a single allocation")
        daemons = set(range(m.nr_cpus, m.nr_parties))
        tasks = slow_costs(m, set(range(m.nr_tasks)) - daemons)
        theirs = slow_costs(m, daemons)
        failures = tasks["failures"] + theirs["failures"]
        kept = {k: events[k] for k in events if k.startswith(KSWAPD_EVENTS) or k.startswith("allocstall")}
        return SlowpathReport(
            config.seed, config.cpus, sum(config.node_bytes()), config.swap,
            config.sysctl.model_dump(exclude_unset=True), config.boot.model_dump(exclude_unset=True), config.duration,
            config.operations, seconds, operations, classes, total, slow - total.slow, tasks["ns"], tasks["times"],
            {name: theirs["ns"][name] for name in (SPENT_NAMES[i] for i in THROTTLES)}, drain_costs(m),
            (tasks["pcp_pages"] + theirs["pcp_pages"]) / max(failures, 1),
            (tasks["reserve_pages"] + theirs["reserve_pages"]) / max(failures, 1), kept, zones,
            sum(self.table(i).run.killed for i in range(config.cpus)), validate(m),
        )  # fmt: skip

    def _class(self, which: Iterable[int], flags: str, order: int) -> Class | None:
        costs = [self.table(i).classes[k] for i in range(self.config.cpus) for k in which]
        attempts = sum(int(c.attempts) for c in costs)
        if not attempts:
            return None
        retries, times = [], []
        for w in (self.table(i) for i in range(self.config.cpus)):
            for k in which:
                at = address_of(w) + w.histograms + 2 * k * HISTOGRAM_SIZE
                if w.classes[k].slow:
                    retries.append(record_at(Histogram, at))
                    times.append(record_at(Histogram, at + HISTOGRAM_SIZE))
        failed_for = [sum(int(c.failed_for[i]) for c in costs) for i in range(len(FAILED_NAMES))]
        return Class(
            flags, order, attempts, sum(int(c.succeeded) for c in costs), sum(int(c.fast) for c in costs),
            sum(int(c.slow) for c in costs), Failures(sum(int(c.failed) for c in costs), *failed_for),
            sum(int(c.retries) for c in costs), _by(costs, "retries_by", RETRY_REASONS),
            _by(costs, "restarts_by", RESTART_REASONS),
            _spread(_retries_of(retries), 1, [c.retries for c in costs], [c.most_retries for c in costs]),
            _spread(hdr_of(times), 0, [c.ns for c in costs], [c.longest_ns for c in costs]),
        )  # fmt: skip


def _by(costs: list[ClassCost], field: str, names: tuple[str, ...]) -> dict[str, int]:
    return {name: sum(int(getattr(c, field)[i]) for c in costs) for i, name in enumerate(names)}


def _retries_of(histograms: Iterable[Histogram]) -> HdrHistogram:
    """Of small numbers plus one: an HdrHistogram doesn't take 0."""
    found = HdrHistogram(1, 1 << 20, 3)
    for histogram in histograms:
        counts = records_at(Histogram, address_of(histogram), 1)["counts"][0]
        for index in np.flatnonzero(counts):
            found.record_value(bucket_value(int(index)) + 1, int(counts[index]))
    return found


def _spread(of: HdrHistogram, shift: int, sums: Iterable[int], longest: Iterable[int]) -> Spread:
    """Percentiles by the histogram; the mean and the longest are exact."""
    count, most = int(of.get_total_count()), int(max(longest))
    if not count:
        return Spread(0.0, 0, 0, 0)
    p50, p99 = (min(int(of.get_value_at_percentile(p)) - shift, most) for p in (50, 99))
    return Spread(sum(int(n) for n in sums) / count, p50, p99, most)


def stress_slowpath(config: MachineConfig | None = None) -> SlowpathReport:
    """Run it on a machine of its own."""
    with SlowpathRun(config or make_config(DEFAULTS, "slowpath")) as work:
        return work.run()
