"""A recording as the text of ftrace's ``trace`` file (``kernel/trace/trace.c``, ``trace_output.c`` (5.10)).

Dialects are for two scripts of the kernel's tree (``Documentation/trace/postprocess``), which know tasks by letters,
digits and dashes only. ``trace-pagealloc-postprocess.pl`` passes over each line that has the column of irq-info.
``trace-vmscan-postprocess.pl`` wants it, and has the texts of an older kernel: it gets these for the events that it
would not understand otherwise.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu.trace.event_type import Arg, EventType, event, show_gfp, symbol
from emu.trace.events import EVENTS
from emu.trace.facts import Facts
from emu.trace.recording import Recording
from emu.trace.types.vmscan import LRU_NAMES
from emu.zone.event import EV_DIRECT_RECLAIM_BEGIN, EV_LRU_ISOLATE, EV_WAKEUP_KSWAPD

__all__ = ["KERNEL_SYSTEMS", "ftrace_text", "in_order"]

KERNEL_SYSTEMS = ("kmem", "vmscan", "compaction", "migrate", "oom", "lock")
"""All but what only this program has."""
SYSTEMS = {None: KERNEL_SYSTEMS, "pagealloc": ("kmem",), "vmscan": ("vmscan",)}
"""By dialect: those of the kernel, or what a script looks at."""
LINES = 4096  # of a part

IRQ_HEADER = """\
#                                _-----=> irqs-off
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| /     delay
#           TASK-PID     CPU#  ||||   TIMESTAMP  FUNCTION
#              | |         |   ||||      |         |
"""
HEADER = """\
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
#              | |         |         |         |
"""


def _as_script_knows(kind: int, form: str, *args: Arg | str) -> EventType:
    """A type with the text of an older kernel."""
    type_ = EVENTS[kind]
    return event(kind, type_.system, type_.name, tuple(zip(type_.fields, type_.sources, strict=True)), form, *args)


SCRIPT_TYPES = {
    type_.name: type_
    for type_ in (
        _as_script_knows(
            EV_DIRECT_RECLAIM_BEGIN, "order=%d may_writepage=1 gfp_flags=%s", "order", show_gfp()
        ),
        _as_script_knows(
            EV_WAKEUP_KSWAPD, "nid=%d zid=%d order=%d gfp_flags=%s", "nid", "zid", "order", show_gfp()
        ),
        _as_script_knows(
            EV_LRU_ISOLATE,
            "isolate_mode=%d classzone_idx=%d order=%d nr_requested=%lu nr_scanned=%lu nr_skipped=%lu nr_taken=%lu "
            "lru=%s",
            "isolate_mode", "highest_zoneidx", "order", "nr_requested", "nr_scanned", "nr_skipped", "nr_taken",
            symbol("lru", LRU_NAMES),
        ),
    )
}  # fmt: skip


def ftrace_text(
    recording: Recording, irq_info: bool = True, dialect: str | None = None, systems: Iterable[str] | None = None
) -> Iterator[bytes]:
    """The file in parts. ``systems``: only these; those of the dialect unless given."""
    words = _Words(recording.facts, irq_info and dialect != "pagealloc", plain=dialect is not None)
    types = SCRIPT_TYPES if dialect == "vmscan" else {}
    parts = list(recording.by_type(SYSTEMS[dialect] if systems is None else systems))
    count, lost = sum(len(rows) for _, rows, _ in parts), recording.lost
    yield (
        f"# tracer: nop\n#\n# entries-in-buffer/entries-written: {count}/{count + lost}   #P:{recording.nr_cpus}\n#\n"
        f"{IRQ_HEADER if words.irq_info else HEADER}"
    ).encode()
    lines = [
        line for type_, rows, before in parts for line in _lines(types.get(type_.name, type_), rows, before, words)
    ]
    order = in_order([rows for _, rows, _ in parts])
    for at in range(0, count, LINES):
        yield "".join(lines[i] for i in order[at : at + LINES]).encode()


def in_order(parts: list[NDArray[np.void]]) -> list[int]:
    """The order of time of rows that stand type by type: at one time, by their numbers."""
    none = np.zeros(0, np.int64)
    ts = np.concatenate([none, *(rows["ts"] for rows in parts)])
    number = np.concatenate([none, *(rows["seq" if "seq" in (rows.dtype.names or ()) else "kind"] for rows in parts)])
    order: list[int] = np.lexsort((number, ts)).tolist()
    return order


class _Words:
    """What stands before an event's text: each combination is made once."""

    def __init__(self, facts: Facts, irq_info: bool, plain: bool) -> None:
        self.facts, self.irq_info, self.plain = facts, irq_info, plain
        self._seen: dict[tuple[int, int, int], str] = {}

    def before_time(self, task: int, cpu: int, irq: int) -> str:
        """Task, CPU and irq-info (``trace_print_lat_fmt()``): where interrupts are off, a lock has been taken."""
        key = (task, cpu, irq)
        if key not in self._seen:
            known = 0 <= task < len(self.facts.tasks)
            comm, pid = (self.facts.tasks[task].comm, self.facts.tasks[task].pid) if known else ("<...>", task)
            if self.plain:
                comm = re.sub(r"[^a-zA-Z0-9-]", "", comm)
            flags = f" {'d' if irq & 1 else '.'}.{'h' if irq > 1 else '.'}{'1' if irq & 1 else '.'}"
            self._seen[key] = f"{comm:>16}-{pid:<7} [{cpu:03d}]{flags if self.irq_info else ''} "
        return self._seen[key]


def _lines(type_: EventType, rows: NDArray[np.void], lost: NDArray[np.int64], words: _Words) -> Iterator[str]:
    columns: list[list[Any]] = [rows[name].tolist() for name in ("task", "cpu", "irq", "ts")]
    for task, cpu, irq, ts, text, before in zip(
        *columns, type_.texts(rows, words.facts), lost.tolist(), strict=True
    ):  # fmt: skip
        seconds, micros = divmod((ts + 500) // 1000, 1_000_000)  # rounded, as ns2usecs() does
        line = f"{words.before_time(task, cpu, irq)}{seconds:5d}.{micros:06d}: {type_.name}: {text}\n"
        yield f"CPU:{cpu} [LOST {before} EVENTS]\n{line}" if before else line
