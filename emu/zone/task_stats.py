"""What the slow path cost each task: passes through ``retry`` and ``restart``, by reason; and what it cost while it was
measured."""

from collections.abc import Iterable
from typing import Any

from emu.zone.init_vm import vm_of
from emu.zone.mmzone import Machine
from emu.zone.report import task_comm
from emu.zone.sched import RESTART_REASONS, RETRY_REASONS, TASK_SIZE, Task
from emu.zone.slow_types import FAILED_NAMES, SPENT_NAMES
from shm.struct import address_of, record_at

__all__ = ["drain_costs", "slow_costs", "slowpath_counts", "slowpath_total"]

DRAIN_COUNTERS = (
    "drains", "drains_busy", "drain_works", "drained_local", "drained_remote", "drains_empty", "missed_cpus",
    "missed_pages", "refilled_cpus", "refilled_pages", "kswapd_wakes",
)  # fmt: skip


def slowpath_counts(m: Machine) -> list[dict[str, Any]]:
    """Of every task that was ever in the slow path: how often, its passes and their reasons."""
    rows = []
    for number in range(m.nr_tasks):
        task = record_at(Task, address_of(m) + m.tasks + number * TASK_SIZE)
        if task.slowpaths:
            rows.append({
                "task": task_comm(m, number), "pid": task.pid, "slowpaths": task.slowpaths, "retries": task.retries,
                "retries_by": dict(zip(RETRY_REASONS, task.retries_by, strict=True)),
                "restarts_by": dict(zip(RESTART_REASONS, task.restarts_by, strict=True)),
            })  # fmt: skip
    return rows


def slowpath_total(m: Machine) -> dict[str, Any]:
    """The same of all tasks together; every reason is told, also of a machine that never was in the slow path."""
    rows = slowpath_counts(m)
    return {
        "slowpaths": sum(row["slowpaths"] for row in rows), "retries": sum(row["retries"] for row in rows),
        "retries_by": {name: sum(row["retries_by"][name] for row in rows) for name in RETRY_REASONS},
        "restarts_by": {name: sum(row["restarts_by"][name] for row in rows) for name in RESTART_REASONS},
    }  # fmt: skip


def slow_costs(m: Machine, tasks: Iterable[int]) -> dict[str, Any]:
    """What the slow path cost some tasks (by number) together, as far as it was measured."""
    costs = [record_at(Task, address_of(m) + m.tasks + number * TASK_SIZE).slow for number in tasks]
    return {
        "ns": {name: sum(c.spent[i] for c in costs) for i, name in enumerate(SPENT_NAMES)},
        "times": {name: sum(c.times[i] for c in costs) for i, name in enumerate(SPENT_NAMES)},
        "failures": sum(c.failures for c in costs),
        "failed_for": {name: sum(c.failed_for[i] for c in costs) for i, name in enumerate(FAILED_NAMES)},
        "pcp_pages": sum(c.pcp_pages for c in costs), "reserve_pages": sum(c.reserve_pages for c in costs),
    }  # fmt: skip


def drain_costs(m: Machine) -> dict[str, int]:
    """What draining all pcp lists took, and kswapd's wakes: the counters of :class:`SlowStat` by name."""
    stat = vm_of(m).slow_stat
    return {name: int(getattr(stat, name).counter) for name in DRAIN_COUNTERS}
