"""``emu stress oversubscribe``: many more CPU processes than this host has cores.

A spinlock's holder that isn't running makes everybody wait. Each count of CPUs runs the same workload on the same
memory, after a warm-up; throughput is told as a share of what two processes reach, which is measured before and after
every other one, since hosts are not quiet. Without parking (``park=False``) waiters only spin, as a spinlock on bare
metal would.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from emu.config import MachineConfig, make_config
from emu.machine import CMD_WORKLOAD
from emu.run import WorkloadRun
from emu.zone.validate import validate
from shm.spinlock import Spinlock

__all__ = ["COUNTS", "OversubscribeReport", "Point", "jain", "stress_oversubscribe"]

COUNTS = (2, 4, 8, 16, 32, 64, 128, 256)
WARM_UP = 4_000_000  # operations, shared by the CPUs: every process has seen the memory map
NEVER_PARK = -1


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
    switches: int  # of context, of all processes
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


def _measure(config: MachineConfig, park: bool) -> tuple[Point, list[str]]:
    """One machine."""
    with WorkloadRun(config) as work:
        machine = work.machine
        cpus = range(config.cpus)
        if not park:
            for i in cpus:
                machine.board.cpu(i).party.spin_limit = NEVER_PARK
        work.post(max(WARM_UP // config.cpus, 1))
        locks = [z.lock for nid in range(machine.m.nr_nodes) for z in machine.m.nodes[nid].node_zones]
        for i in cpus:
            machine.board.cpu(i).party.lock_stat = 1
        for lock in locks:
            lock.stat.waits.longest = 0
        counted = _counted(locks)
        before = [run.ops for run in work.runs()]
        processes = [psutil.Process(child.pid) for child in machine.children[: config.cpus]]
        switches = sum(sum(p.num_ctx_switches()) for p in processes)
        idle, began = psutil.cpu_times().idle, time.monotonic()
        for run in work.runs():
            run.target, run.deadline = 0, time.monotonic_ns() + int(config.duration * 1e9)
        for i in cpus:
            machine.post(i, CMD_WORKLOAD)
        machine.wait(cpus)
        seconds = time.monotonic() - began
        idle = (psutil.cpu_times().idle - idle) / seconds / (psutil.cpu_count() or 1)
        switches = sum(sum(p.num_ctx_switches()) for p in processes) - switches
        done = [run.ops - b for run, b in zip(work.runs(), before, strict=True)]
        acquired, contended, stolen = (now - was for now, was in zip(_counted(locks), counted, strict=True))
        rate = sum(done) / seconds
        point = Point(
            config.cpus, rate, 1.0, jain(done),
            max(lock.stat.waits.longest for lock in locks), acquired, contended, stolen, switches, idle,
        )  # fmt: skip
        work.release()
        return point, validate(machine.m)


def stress_oversubscribe(
    config: MachineConfig | None = None, *, counts: Iterable[int] = COUNTS, park: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> OversubscribeReport:  # fmt: skip
    """The workload on each count of CPUs, for ``config.duration`` seconds each."""
    config = config or make_config({"memory": "1G", "workload": "bulk", "duration": 2.0}, "stress oversubscribe")
    points: list[Point] = []
    problems: list[str] = []

    def two() -> float:
        return _measure(config.model_copy(update={"cpus": 2}), park)[0].ops_per_second

    reference = two()
    for cpus in counts:
        point, wrong = _measure(config.model_copy(update={"cpus": cpus}), park)
        after = two()
        share = point.ops_per_second / ((reference + after) / 2)
        reference = after
        points.append(Point(**{**asdict(point), "share": share}))
        problems += [f"{cpus} CPUs: {problem}" for problem in wrong]
        told(f"{cpus} CPUs: {point.ops_per_second / 1e6:.1f} M/s, {share:.0%} of two")
    cores = len(psutil.Process().cpu_affinity())
    return OversubscribeReport(config.model_dump(mode="json"), cores, park, tuple(points), tuple(problems))
