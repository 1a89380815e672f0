"""A recording as the stream that binary files are made of."""

from collections.abc import Iterable

import numpy as np

from emu.trace.ftrace import in_order
from emu.trace.recording import Recording
from emu.trace.stream import HARDIRQ, IRQS_OFF, Batch, Ints, Rows, Stream, rows_of

__all__ = ["stream_of"]


def stream_of(recording: Recording, systems: Iterable[str] | None = None) -> Stream:
    """All events that the kernel has or might have. ``systems``: only these."""
    facts = recording.facts
    parts = list(recording.by_type(systems))
    place = _places([rows for _, rows, _ in parts])
    count = sum(map(len, place))
    ts, cpu, pid, lost = (np.zeros(count, np.int64) for _ in range(4))
    batches = []
    for (type_, rows, lost_before), here in zip(parts, place, strict=True):
        ts[here], cpu[here], pid[here], lost[here] = rows["ts"], rows["cpu"], facts.pids(rows["task"]), lost_before
        flags, preempt = _irq_info(rows)
        batches.append(Batch(type_, here, rows_of(type_, type_.columns(rows, facts), pid[here], flags, preempt)))
    comms = {task.pid: task.comm for task in (*facts.tasks, *facts.parties)}
    return Stream(ts, cpu, pid, lost, tuple(batches), comms, recording.nr_cpus)


def _places(parts: list[Rows]) -> list[Ints]:
    """Where the rows of each part are among all in the order of time."""
    place = np.empty(sum(map(len, parts)), np.int64)
    place[in_order(parts)] = np.arange(len(place))
    return np.split(place, np.cumsum([len(rows) for rows in parts])[:-1]) if parts else []


def _irq_info(rows: Rows) -> tuple[Ints, Ints]:
    """``common_flags`` and ``common_preempt_count``. Where interrupts are off, a lock has been taken: depth 1."""
    off = rows["irq"] & 1
    return off * IRQS_OFF + (rows["irq"] > 1) * HARDIRQ, off
