"""``include/trace/events/lock.h`` (5.10), made of the holds that a machine with lock_stat keeps on record.

An event is a row of ``LOCK_ROW``. A hold becomes lock_acquire, lock_contended if the lock was not free, lock_acquired
and lock_release: from contended to acquired is the wait that lock_stat adds up, from acquired to release the hold.

Differs from 5.10: a lock that was not to be had by ``spin_trylock()`` leaves no trace, and one that was looks as if by
``spin_lock()``.
"""

import numpy as np
from numpy.typing import NDArray

from emu.trace.event_type import Column, Rows, event, plain, rec, string, unsigned
from emu.trace.facts import Facts
from emu.zone.lock_class import LOCK_CLASS_NAMES

__all__ = ["LOCK", "LOCK_ROW", "lock_name", "lock_rows"]

LOCK_ROW = np.dtype([
    ("ts", "i8"), ("lock", "i8"), ("kind", "u1"), ("irq", "u1"), ("cpu", "i2"), ("task", "i4"), ("lock_class", "i4"),
    ("site", "u4"),
])  # fmt: skip
KIND = 128  # from here on; the kinds of emu.zone.event are below
ACQUIRE, CONTENDED, ACQUIRED, RELEASE = range(KIND, KIND + 4)
LOCKS = 0xFFFF888001000000  # the direct mapping of x86-64, as if the parties' table lay 16 MiB in


def lock_name(lock_class: int) -> str:
    """``lock->name``"""
    return LOCK_CLASS_NAMES.get(lock_class, "?")


def name(rows: Rows, _: Facts) -> Column:
    """The class of the lock, as lockdep calls it."""
    names = np.array([lock_name(number).encode() for number in range(max(LOCK_CLASS_NAMES) + 1)])
    known = (rows["lock_class"] >= 0) & (rows["lock_class"] < len(names))
    return names[np.where(known, rows["lock_class"], 0)]


def address(rows: Rows, _: Facts) -> Column:
    """Where the lock lies: made up, but each has its own."""
    return rows["lock"].astype("u8") + np.uint64(LOCKS)


NAME = string("name", name)
ADDRESS = unsigned("lockdep_addr", address, "void *", 8)

LOCK = {
    ACQUIRE: event(
        ACQUIRE, "lock", "lock_acquire",
        (unsigned("flags", lambda rows, _: rows["lock_class"] & 0), NAME, ADDRESS), "%p %s%s%s", "lockdep_addr",
        rec("flags", '({} & 1) ? "try " : ""', lambda flags: "try " if flags & 1 else ""),
        rec("flags", '({} & 2) ? "read " : ""', lambda flags: "read " if flags & 2 else ""), plain("name"),
    ),
    **{
        kind: event(kind, "lock", called, (NAME, ADDRESS), "%p %s", "lockdep_addr", plain("name"))
        for kind, called in (
            (CONTENDED, "lock_contended"), (ACQUIRED, "lock_acquired"), (RELEASE, "lock_release"),
        )
    },
}  # fmt: skip


def lock_rows(holds: Rows) -> NDArray[np.void]:
    """The events of holds, in the order of time. ``holds``: LockHolds with a column ``cpu``."""
    began = holds["acquired"] - np.maximum(holds["waited"], 0)
    contended = holds["waited"] >= 0
    parts = []
    for kind, ts, which in (
        (ACQUIRE, began, slice(None)), (CONTENDED, began, contended), (ACQUIRED, holds["acquired"], slice(None)),
        (RELEASE, holds["released"], slice(None)),
    ):  # fmt: skip
        part = np.zeros(len(ts[which]), LOCK_ROW)
        part["ts"], part["kind"] = ts[which], kind
        for column, source in (("cpu", "cpu"), ("task", "cpu"), ("lock", "lock"), ("lock_class", "lock_class"),
                               ("site", "site")):  # fmt: skip
            part[column] = holds[source][which]
        parts.append(part)
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows["kind"], rows["ts"]))]
