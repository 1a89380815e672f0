"""What the slow path cost each task: passes through ``retry`` and ``restart``, by reason."""

from typing import Any

from emu.zone.mmzone import Machine
from emu.zone.report import task_comm
from emu.zone.sched import RESTART_REASONS, RETRY_REASONS, TASK_SIZE, Task
from shm.struct import address_of, record_at

__all__ = ["slowpath_counts", "slowpath_total"]


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
