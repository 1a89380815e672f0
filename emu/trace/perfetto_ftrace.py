"""Trace events as Perfetto's own records of ftrace: bundles for each CPU. Those of locks are left to the tracks.

Events that the format doesn't know (``reclaim_retry_zone``, ``compact_retry``) are written as generic ones: a name and
fields with theirs. Of an event that it knows, fields that it doesn't know are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from emu.trace.event_type import EventType
from emu.trace.protobuf import proto
from emu.trace.stream import Batch, Stream

__all__ = ["ftrace_packets"]

BUNDLE = 4096  # events in one packet, at most

Filler = Callable[[Any, Any], None]
"""Puts the fields of a row into an FtraceEvent."""


def ftrace_packets(stream: Stream) -> Iterator[bytes]:
    """The tasks' names, then the events of one CPU after the other, each in the order of time."""
    yield _processes(stream)
    batches = [batch for batch in stream.batches if batch.type.system != "lock"]
    rows, fill = _rows_and_fillers(len(stream.ts), batches)
    shown = np.zeros(len(stream.ts), np.bool)
    for batch in batches:
        shown[batch.index] = True
    ts, pid = stream.ts.tolist(), stream.pid.tolist()
    for cpu in range(stream.nr_cpus):
        mine = np.flatnonzero(stream.cpu == cpu)
        lost_so_far = np.cumsum(stream.lost[mine])[shown[mine]]
        lost = np.diff(lost_so_far, prepend=0) > 0
        for part in _parts(lost):
            trace = proto().Trace()
            bundle = trace.packet.add().ftrace_events
            bundle.cpu = cpu
            bundle.lost_events = bool(lost[part.start])
            for i in mine[shown[mine]][part].tolist():
                event = bundle.event.add()
                event.timestamp = ts[i]
                event.pid = pid[i]
                fill[i](event, rows[i])
            yield trace.SerializeToString()


def _parts(lost: np.ndarray[tuple[int], np.dtype[np.bool]]) -> Iterator[slice]:
    """A part for each bundle: a new one begins where events were lost, or where the one before is full."""
    first = 0
    for end in [*np.flatnonzero(lost).tolist(), len(lost)]:
        for start in range(first, end, BUNDLE):
            yield slice(start, min(start + BUNDLE, end))
        first = end


def _processes(stream: Stream) -> bytes:
    trace = proto().Trace()
    packet = trace.packet.add()
    for pid, comm in sorted(stream.comms.items()):
        packet.process_tree.processes.add(pid=pid, cmdline=[comm])
    data: bytes = trace.SerializeToString()
    return data


def _rows_and_fillers(count: int, batches: Sequence[Batch]) -> tuple[list[Any], list[Any]]:
    """For each event of the stream, of those that are in the batches."""
    rows: list[Any] = [None] * count
    fill: list[Any] = [None] * count
    for batch in batches:
        filler = _filler(batch.type)
        for i, row in zip(batch.index.tolist(), batch.fields(), strict=True):
            rows[i], fill[i] = row, filler
    return rows, fill


def _filler(type_: EventType) -> Filler:
    known = proto().FtraceEvent.DESCRIPTOR.fields_by_name.get(type_.name)
    names = [field.name for field in type_.fields]
    if known is None:
        return _generic_filler(type_.name, names)
    theirs = known.message_type.fields_by_name
    pairs = [(i, name) for i, name in enumerate(names) if name in theirs]
    which: str = type_.name

    def fill(event: Any, row: Any) -> None:
        message = getattr(event, which)
        message.SetInParent()  # one without fields is there as well
        for i, name in pairs:
            setattr(message, name, row[i])

    return fill


def _generic_filler(which: str, names: list[str]) -> Filler:
    def fill(event: Any, row: Any) -> None:
        event.generic.event_name = which
        for name, value in zip(names, row, strict=True):
            if isinstance(value, str):
                event.generic.field.add(name=name, str_value=value)
            elif value < 0:
                event.generic.field.add(name=name, int_value=value)
            else:
                event.generic.field.add(name=name, uint_value=value)

    return fill
