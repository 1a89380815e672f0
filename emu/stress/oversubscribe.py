"""``emu stress oversubscribe``: many more CPU processes than this host has cores.

A spinlock's holder that isn't running makes everybody wait. Each count of CPUs runs the same workload on the same
memory, after a warm-up; throughput is told as a share of what two processes reach. Hosts are not quiet, so both are
measured by turns, and the middle of the shares is told. Without parking (``park=False``) waiters only spin, as a
spinlock on bare metal would.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from emu.config import MachineConfig, make_config
from emu.machine import CMD_WORKLOAD
from emu.run import WorkloadRun
from emu.zone.validate import validate
from shm.spinlock_types import Spinlock

__all__ = ["COUNTS", "OversubscribeReport", "Point", "jain", "stress_oversubscribe"]

COUNTS = (2, 4, 8, 16, 32, 64, 128, 256)
WARM_UP = 4_000_000  # operations, shared by the CPUs: every process has seen the memory map
NEVER_PARK = -1
ROUNDS = 4


@dataclass(frozen=True)
class Point:
    """One count of CPUs. Times in ns."""

    cpus: int
    ops_per_second: float
    share: float  # of the throughput of two
    jain: float
    longest_wait: int
    acquisitions: int
    contentions: int
    stolen: int
    switches: int  # of context in a second, of all processes
    idle: float  # share of the host's time in which nothing ran: everybody was parked

    @property
    def acquisitions_per_op(self) -> float:
        """Of zone locks."""
        return self.acquisitions / max(self.ops_per_second, 1.0)


@dataclass(frozen=True)
class OversubscribeReport:
    """The table."""

    config: dict[str, Any]
    cores: int
    parking: bool
    points: tuple[Point, ...]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def jain(values: Iterable[float]) -> float:
    """Jain's index of fairness: 1 when all got the same, 1/n when one got everything."""
    known = list(values)
    squares = sum(v * v for v in known)
    return sum(known) ** 2 / (len(known) * squares) if squares else 1.0


def _counted(locks: list[Spinlock]) -> tuple[int, int, int]:
    """Acquisitions, contentions and thefts, of all."""
    return (
        sum(lock.acquisitions for lock in locks), sum(lock.contentions for lock in locks),
        sum(lock.stolen for lock in locks),
    )  # fmt: skip


def _window(work: WorkloadRun, seconds: float) -> tuple[list[int], float]:
    """Let all CPUs work for a while: operations of each, and the time it took."""
    before = [run.ops for run in work.runs()]
    began = time.monotonic()
    for run in work.runs():
        run.target, run.deadline = 0, time.monotonic_ns() + int(seconds * 1e9)
    cpus = range(work.config.cpus)
    for i in cpus:
        work.machine.post(i, CMD_WORKLOAD)
    work.machine.wait(cpus)
    return [run.ops - b for run, b in zip(work.runs(), before, strict=True)], time.monotonic() - began


@contextmanager
def _warm(config: MachineConfig, park: bool) -> Iterator[WorkloadRun]:
    """A machine that has been through all its memory."""
    with WorkloadRun(config) as work:
        for i in range(config.cpus if not park else 0):
            work.machine.board.cpu(i).party.spin_limit = NEVER_PARK
        work.post(max(WARM_UP // config.cpus, 1))
        yield work


def _measure(work: WorkloadRun, two: WorkloadRun) -> Point:
    """Throughput first, by turns with two CPUs and nothing measured on the way; then how long the waits are."""
    config, machine = work.config, work.machine
    parties = [machine.board.cpu(i).party for i in range(config.cpus)]
    locks = [z.lock for nid in range(machine.m.nr_nodes) for z in machine.m.nodes[nid].node_zones]
    processes = [psutil.Process(child.pid) for child in machine.children[: config.cpus]]
    counted, switches = _counted(locks), sum(sum(p.num_ctx_switches()) for p in processes)
    window = config.duration / ROUNDS
    done, idle, spent = [0] * config.cpus, 0.0, 0.0
    rates, shares = [], []
    reference = _rate(two, window)
    for _ in range(ROUNDS):
        idle_before = psutil.cpu_times().idle
        ops, seconds = _window(work, window)
        idle += psutil.cpu_times().idle - idle_before
        spent += seconds
        done = [a + b for a, b in zip(done, ops, strict=True)]
        after = _rate(two, window)
        rates.append(sum(ops) / seconds)
        shares.append(rates[-1] / ((reference + after) / 2))
        reference = after
    acquired, contended, stolen = (now - was for now, was in zip(_counted(locks), counted, strict=True))
    switches = sum(sum(p.num_ctx_switches()) for p in processes) - switches
    for party in parties:
        party.lock_stat = 1
    _window(work, window)
    longest = max(lock.stat.waits.longest for lock in locks)
    return Point(
        config.cpus, statistics.median(rates), statistics.median(shares), jain(done), longest, acquired, contended,
        stolen, int(switches / spent), idle / spent / (psutil.cpu_count() or 1),
    )  # fmt: skip


def _rate(work: WorkloadRun, window: float) -> float:
    done, seconds = _window(work, window)
    return sum(done) / seconds


def stress_oversubscribe(
    config: MachineConfig | None = None, *, counts: Iterable[int] = COUNTS, park: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> OversubscribeReport:  # fmt: skip
    """The workload on each count of CPUs, for ``config.duration`` seconds each."""
    config = config or make_config({"memory": "1G", "workload": "bulk", "duration": 4.0}, "stress oversubscribe")
    points: list[Point] = []
    problems: list[str] = []
    with _warm(config.model_copy(update={"cpus": 2}), park) as two:
        for cpus in counts:
            with _warm(config.model_copy(update={"cpus": cpus}), park) as work:
                point = _measure(work, two)
                work.release()
                problems += [f"{cpus} CPUs: {problem}" for problem in validate(work.machine.m)]
            points.append(point)
            told(f"{cpus} CPUs: {point.ops_per_second / 1e6:.1f} M/s, {point.share:.0%} of two")
    cores = len(psutil.Process().cpu_affinity())
    return OversubscribeReport(config.model_dump(mode="json"), cores, park, tuple(points), tuple(problems))
