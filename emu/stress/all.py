"""``emu stress all``: every question once, small (``quick``) or at full size, and whether each answer is right."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from emu.config import make_config
from emu.run import WorkloadRun
from emu.stress.irq import stress_irq
from emu.stress.kill import stress_kill
from emu.stress.lock import lock_config, stress_lock
from emu.stress.oversubscribe import COUNTS, stress_oversubscribe
from emu.stress.slowpath import DEFAULTS, stress_slowpath
from emu.zone.validate import validate

__all__ = ["Part", "stress_all"]

# every workload on four CPUs: for three windows those that wait for the disk and must be able to kill, then the others
# until all operations are done
WORKLOADS = {"frag,hog,filecache,forkstorm": 3, "bulk,repeat,rand,pagefault,network,thp,orders,mixed": 0}
QUICK_OPS, FULL_OPS = 1_000_000, 1_000_000_000
QUICK_KILLS, FULL_KILLS = 12, 1000
# what is asked of the lock on a quiet host; quick runs are too short to hold anybody to it
LEAST_SHARE = {64: 0.8, 256: 0.6}
LEAST_JAIN = 0.95


@dataclass(frozen=True)
class Part:
    """One question."""

    name: str
    seconds: float
    ok: bool
    says: str
    report: dict[str, Any]


Answer = tuple[bool, str, dict[str, Any]]


def _lock(quick: bool, seed: int) -> Answer:
    values = {"cpus": 4, "memory": "256M", "mix": ["3*bulk", "highorder"], "duration": 1.0 if quick else 10.0}
    report = stress_lock(lock_config({**values, "seed": seed}))
    zone = report.zone_lock()
    waited = zone.contentions / max(zone.acquisitions, 1) if zone else 0.0
    says = f"{report.ops_per_second / 1e6:.1f} M/s, {waited:.1%} of acquisitions waited, Jain {report.jain:.3f}"
    return not report.validate and zone is not None, says, asdict(report)


def _irq(quick: bool, seed: int) -> Answer:
    config = make_config({"cpus": 2, "memory": "128M", "duration": 1.0 if quick else 20.0, "seed": seed}, "stress irq")
    report = stress_irq(config)
    says = f"{report.delivered:,} interrupts, {report.deferred:,} found them off, {report.lost_pages} pages lost"
    return report.consistent and report.delivered > 0, says, report.as_dict()


def _slowpath(quick: bool, seed: int) -> Answer:
    config = make_config({**DEFAULTS, "duration": 2.0 if quick else 20.0, "seed": seed}, "stress slowpath")
    report = stress_slowpath(config)
    total = report.total
    failed = total.attempts - total.succeeded
    says = f"{total.slow:,} of {total.attempts:,} allocations took the slow path, {failed:,} failed"
    return not report.problems, says, asdict(report)


def _oversubscribe(quick: bool, seed: int) -> Answer:
    config = make_config(
        {"memory": "256M" if quick else "1G", "workload": "bulk", "duration": 1.0 if quick else 4.0, "seed": seed},
        "stress oversubscribe",
    )
    report = stress_oversubscribe(config, counts=(8, 64) if quick else COUNTS)
    says = ", ".join(f"{p.cpus} CPUs {p.share:.0%}" for p in report.points) + " of two"
    ok = not report.problems
    if not quick:
        ok = ok and all(p.share >= LEAST_SHARE.get(p.cpus, 0.0) for p in report.points)
        ok = ok and all(p.jain >= LEAST_JAIN for p in report.points if p.cpus == 8)
    return ok, says, report.as_dict()


def _kill(quick: bool, seed: int) -> Answer:
    report = stress_kill(QUICK_KILLS if quick else FULL_KILLS, seed=seed)
    says = f"{report.kills:,} kills: {report.stopped} stops, {report.offlined} CPUs offline, {len(report.wrong)} wrong"
    return report.ok, says, asdict(report)


def _workloads(quick: bool, seed: int) -> Answer:
    wanted, window = (QUICK_OPS, 1.0) if quick else (FULL_OPS, 20.0)
    done, problems = 0, []
    for names, windows in WORKLOADS.items():
        values = {"cpus": 4, "memory": "256M", "swap": "64M", "workload": names, "seed": seed, "duration": window}
        with WorkloadRun(make_config(values, "stress all")) as work:
            before, turns = done, 0
            while turns < windows or turns == 0 or (windows == 0 and done < wanted):
                done = before + work.run().ops
                turns += 1
            work.machine.settle()
            problems += validate(work.machine.m)
    says = f"{done:,} operations of all workloads, {len(problems)} problems"
    return not problems and done >= wanted, says, {"operations": done, "problems": problems}


PARTS: dict[str, Callable[[bool, int], Answer]] = {
    "lock": _lock, "irq": _irq, "slowpath": _slowpath, "oversubscribe": _oversubscribe, "kill": _kill,
    "workloads": _workloads,
}  # fmt: skip


def stress_all(quick: bool, seed: int = 1) -> Iterator[Part]:
    """Part by part, as they are done."""
    for name, ask in PARTS.items():
        began = time.monotonic()
        ok, says, report = ask(quick, seed)
        yield Part(name, time.monotonic() - began, ok, says, report)
