"""Trace events in columns, their payloads as the kernel's ring buffer holds them: what binary files are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu.trace.event_type import EventType, Field, Rows

__all__ = ["HARDIRQ", "IRQS_OFF", "Batch", "Ints", "Rows", "Stream", "Words", "put_words", "rows_of", "words_of"]

Ints = NDArray[np.integer[Any]]
Words = NDArray[np.uint32]

IRQS_OFF = 0x01  # enum trace_flag_type (include/linux/trace_events.h, 5.10)
HARDIRQ = 0x08

COMMON = [("common_type", "u2"), ("common_flags", "u1"), ("common_preempt_count", "u1"), ("common_pid", "i4")]


@dataclass(frozen=True)
class Batch:
    """The events of one type. ``index``: their places in the stream, ascending; ``rows``: see :func:`rows_of`."""

    type: EventType
    index: Ints
    rows: Rows

    def fields(self) -> list[tuple[int | str, ...]]:
        """What the fields of each event hold, without the common ones; texts where the kernel has strings."""
        columns: list[list[Any]] = []
        for field in self.type.fields:
            column = self.rows[_area(field) if field.is_string else field.name]
            columns.append([text.decode() for text in column.tolist()] if column.dtype.kind == "S" else column.tolist())
        return list(zip(*columns, strict=True)) if columns else [()] * len(self.index)


@dataclass(frozen=True)
class Stream:
    """Events of all CPUs in the order of time.

    ``ts``: CLOCK_MONOTONIC, ns; ``cpu``, ``pid``; ``lost``: how many events of its CPU were lost right before it (a
    column each, of one length); ``batches``: the same events by type; ``comms``: the names of the tasks by their pids.
    """

    ts: Ints
    cpu: Ints
    pid: Ints
    lost: Ints
    batches: tuple[Batch, ...]
    comms: Mapping[int, str]
    nr_cpus: int

    @property
    def types(self) -> tuple[EventType, ...]:
        """Of the events that occur."""
        return tuple(batch.type for batch in self.batches)


def rows_of(type_: EventType, columns: Sequence[Any], pid: Ints, flags: Ints, preempt: Ints) -> Rows:
    """The payloads of events of one type: the four common fields, then its own in ``columns``.

    They are padded to whole words. Strings (``__data_loc``) follow the fields, each in the room that the longest needs.
    """
    columns = [np.asarray(column, field.dtype) for field, column in zip(type_.fields, columns, strict=True)]
    rows = np.zeros(len(pid), _row_dtype(type_, columns))
    for name, column in zip((name for name, _ in COMMON), (type_.id, flags, preempt, pid), strict=True):
        rows[name] = column
    for field, column in zip(type_.fields, columns, strict=True):
        if field.is_string:
            rows[_area(field)] = column
            at = rows.dtype.fields[_area(field)][1]  # type: ignore[index]
            rows[field.name] = (np.strings.str_len(column) + 1) << 16 | at
        else:
            rows[field.name] = column
    return rows


def words_of(rows: Rows) -> Words:
    """The memory of rows made by ``np.zeros``, a line each. (Copies of rows have anything where fields are padded.)"""
    return rows.view("<u4").reshape(len(rows), rows.dtype.itemsize // 4)


def put_words(out: Words, at: Ints, words: Words) -> None:
    """Copy each line of ``words`` to its place in a file's memory; places are counted in words."""
    for i in range(words.shape[1]):
        out[at + i] = words[:, i]


def _area(field: Field) -> str:
    """Where the string is that a ``__data_loc`` points to."""
    return f"{field.name}[]"


def _row_dtype(type_: EventType, columns: Sequence[NDArray[Any]]) -> np.dtype[np.void]:
    """The fields where C puts them, what the strings need, and the end on a whole word."""
    own = [(field.name, "u4" if field.is_string else field.dtype) for field in type_.fields]
    fixed = np.dtype([*COMMON, *own], align=True)
    names, formats = list(fixed.names or ()), [str(fixed[name].str) for name in fixed.names or ()]
    offsets, end = [fixed.fields[name][1] for name in names], fixed.itemsize  # type: ignore[index]
    for field, column in zip(type_.fields, columns, strict=True):
        if field.is_string:
            names.append(_area(field))
            formats.append(f"S{column.dtype.itemsize + 1}")
            offsets.append(end)
            end += column.dtype.itemsize + 1
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": -(-end // 4) * 4})
