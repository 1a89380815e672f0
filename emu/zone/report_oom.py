"""The OOM killer's reports in the kernel's words (``mm/oom_kill.c`` (5.10)).

The core writes a row of records (``emu.reclaim.oom_report``); each becomes its lines here.

Differs from 5.10: no stack trace under the header, no list of unreclaimable slabs, no memory+swap line and no
statistics of a memory cgroup, which is called by its number (``/1``).
"""

from collections.abc import Callable, Iterator
from typing import Any

from emu.zone.event import (
    EV_OOM_KILL, EV_OOM_KILLED, EV_OOM_MESSAGE, EV_OOM_PANIC, EV_OOM_REAPED, EV_OOM_SUMMARY, EV_OOM_TASK,
)  # fmt: skip
from emu.zone.gfp_names import gfp_names
from emu.zone.mmzone import Machine
from emu.zone.report import node_list, show_mem, task_comm
from emu.zone.sched import TASK_SIZE, Task
from emu.zone.state_out import state_of
from shm.struct import address_of, record_at

__all__ = ["OOM_RENDER", "PANICS"]

CONSTRAINTS = ("CONSTRAINT_NONE", "CONSTRAINT_CPUSET", "CONSTRAINT_MEMORY_POLICY", "CONSTRAINT_MEMCG")
WHY = ("Out of memory", "Memory cgroup out of memory", "Out of memory (oom_kill_allocating_task)")
PANICS = (
    "System is deadlocked on memory",
    "Out of memory: system-wide panic_on_oom is enabled",
    "Out of memory: compulsory panic_on_oom is enabled",
)
LOW = 0xFFFFFFFF


def _task(m: Machine, number: int) -> Task:
    return record_at(Task, address_of(m) + m.tasks + number * TASK_SIZE)


def _nodes(mask: int) -> str:
    return node_list(mask) if mask else "(null)"


def _current(event: Any) -> int:
    return int(event["task"]) // TASK_SIZE


def _who(event: Any) -> int:
    return int(event["gfp"]) & 0xFFFF


def _adj(event: Any) -> int:
    return (int(event["gfp"]) >> 16) - 1000


def _sizes(event: Any) -> str:
    anon, file, shmem = int(event["a"]) & LOW, int(event["a"]) >> 32, int(event["b"]) & LOW
    return f"anon-rss:{anon * 4}kB, file-rss:{file * 4}kB, shmem-rss:{shmem * 4}kB"


def _group(number: int) -> str:
    return f"/{number}" if number else "/"


def _header(event: Any, m: Machine) -> Iterator[str]:
    gfp, number = int(event["gfp"]), _current(event)
    order, memcg = int(event["order"]), int(event["b"])
    task = _task(m, number)
    yield (
        f"{task_comm(m, number)} invoked oom-killer: gfp_mask={gfp:#x}({gfp_names(gfp)}), "
        f"order={order if order < 128 else order - 256}, oom_score_adj={task.oom_score_adj}"
    )
    if memcg:
        yield from _memcg_meminfo(m, memcg)
    else:
        yield from show_mem(state_of(m, light=True), int(event["pfn"]) or task.mems_allowed, int(event["cpu"]))
    if event["migratetype"]:
        yield "Tasks state (memory values in pages):"
        yield "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name"


def _memcg_meminfo(m: Machine, number: int) -> Iterator[str]:
    group = m.memcgs[number - 1]
    for name, usage, limit, failures in (
        ("memory", group.memory, group.memory_max, group.memory_failcnt),
        ("kmem", group.kmem, group.limit, group.failcnt),
    ):
        most = limit * 4 if limit else 9007199254740988  # PAGE_COUNTER_MAX in KiB
        yield f"{name}: usage {usage * 4}kB, limit {most}kB, failcnt {failures}"


def _dump_task(event: Any, m: Machine) -> Iterator[str]:
    task, a, b = _task(m, _who(event)), int(event["a"]), int(event["b"])
    rss = (a & LOW) + (a >> 32) + (b & LOW)
    size, tables = int(event["pfn"]) & LOW, (int(event["pfn"]) >> 32) * 4096
    yield (
        f"[{task.pid:7d}] {0:5d} {task.tgid:5d} {size:8d} {rss:8d} {tables:8d} {b >> 32:8d}         "
        f"{_adj(event):5d} {task_comm(m, _who(event))}"
    )


def _summary(event: Any, m: Machine) -> Iterator[str]:
    b, victim = int(event["b"]), _task(m, int(event["a"]))
    memcg, own = b >> 8 & 255, b >> 16 & 255
    current = _task(m, _current(event))
    yield (
        f"oom-kill:constraint={CONSTRAINTS[b & 255]},nodemask={_nodes(int(event['pfn']))},"
        f"cpuset={_group(current.cpuset)},mems_allowed={node_list(current.mems_allowed)},"
        f"{f'oom_memcg={_group(memcg)}' if memcg else 'global_oom'},task_memcg={_group(own)},"
        f"task={task_comm(m, int(event['a']))},pid={victim.pid},uid=0"
    )


def _killed(event: Any, m: Machine) -> Iterator[str]:
    size, tables = (int(event["pfn"]) & LOW) * 4, (int(event["pfn"]) >> 32) * 4
    yield (
        f"{WHY[int(event['order'])]}: Killed process {_task(m, _who(event)).pid} ({task_comm(m, _who(event))}) "
        f"total-vm:{size}kB, {_sizes(event)}, UID:0 pgtables:{tables}kB oom_score_adj:{_adj(event)}"
    )


def _reaped(event: Any, m: Machine) -> Iterator[str]:
    who = _who(event)
    yield f"oom_reaper: reaped process {_task(m, who).pid} ({task_comm(m, who)}), now {_sizes(event)}"


def _message(event: Any, m: Machine) -> Iterator[str]:
    which, a, b = int(event["order"]), int(event["a"]), int(event["b"])
    one = f"{_task(m, a).pid} ({task_comm(m, a)})"
    if which == 0:
        yield "Out of memory and no killable processes..."
    elif which == 1:
        yield f"{WHY[b]}: OOM victim {one} is already exiting. Skip killing the task"
    elif which == 2:
        yield f"oom killer {one} has mm pinned by {_task(m, b).pid} ({task_comm(m, b)})"
    else:
        yield f"oom_reaper: unable to reap pid:{one}"


def _panic(event: Any, m: Machine) -> Iterator[str]:
    yield f"Kernel panic - not syncing: {PANICS[int(event['order'])]}"


OOM_RENDER: dict[int, Callable[[Any, Machine], Iterator[str]]] = {
    EV_OOM_KILL: _header, EV_OOM_TASK: _dump_task, EV_OOM_SUMMARY: _summary, EV_OOM_KILLED: _killed,
    EV_OOM_REAPED: _reaped, EV_OOM_MESSAGE: _message, EV_OOM_PANIC: _panic,
}  # fmt: skip
