"""Which user tasks a CPU runs: the workloads of ``emu run`` give eight to each, so what a task counts is its CPU's."""

from emu.zone.mmzone import Machine
from emu.zone.sched import TASK_SIZE, Task, user_task
from shm.struct import address_of, record_at

__all__ = ["TASKS_PER_CPU", "tasks_of"]

TASKS_PER_CPU = 8


def tasks_of(m: Machine, cpu: int) -> list[Task]:
    """The CPU's own task, and the user tasks that there are for it: a machine without user tasks has none."""
    users = (user_task(m, cpu * TASKS_PER_CPU + i) for i in range(TASKS_PER_CPU))
    places = [m.tasks + cpu * TASK_SIZE, *(at for at in users if at < m.tasks + m.nr_tasks * TASK_SIZE)]
    return [record_at(Task, address_of(m) + at) for at in places]
