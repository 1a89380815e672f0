"""Recordings for tests, without a machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emu.trace.events import EVENTS
from emu.trace.facts import Facts, TaskFacts, ZoneFacts
from emu.trace.recording import Recording
from emu.trace.stream import Rows
from emu.zone.event import Event
from emu.zone.lock_class import LOCK_CLASS_LRU, LOCK_CLASS_ZONE
from shm.lockstat import LockHold
from shm.struct import dtype_of

TASKS = (TaskFacts("emu_cpu0", 1000), TaskFacts("emu_cpu1", 1001))
FACTS = Facts(2, (0, 0), (ZoneFacts(0, 0, 1, 4095), ZoneFacts(0, 1, 4096, 100_000)), TASKS, TASKS)
HOLD = np.dtype([*dtype_of(LockHold).descr, ("cpu", "i2")])


def recording_of(events: Rows, holds: Sequence[tuple[int, ...]] = ()) -> Recording:
    """``holds``: acquired, released, waited (-1: not at all), lock, lock_class, cpu."""
    rows = np.zeros(len(holds), HOLD)
    for row, hold in zip(rows, holds, strict=True):
        for name, value in zip(("acquired", "released", "waited", "lock", "lock_class", "cpu"), hold, strict=True):
            row[name] = value
    return Recording(Path("r.emu"), FACTS, 1, "none", events, np.zeros(len(events), np.int64), rows, 0, 0)


def events_of(count: int) -> Rows:
    """Records from the first second on, one each us, on the CPUs in turn."""
    rows = np.zeros(count, dtype_of(Event))
    rows["seq"], rows["ts"] = np.arange(count), 10**9 + np.arange(count) * 1000
    rows["cpu"] = rows["task"] = np.arange(count) % 2
    return rows


def handing_over() -> list[tuple[int, ...]]:
    """CPU 1 waits 900 ns for the lock that CPU 0 holds for 999 ns; then it holds it for 990 ns."""
    return [
        (1130, 1140, -1, 640, LOCK_CLASS_LRU, 0), (1001, 2000, -1, 320, LOCK_CLASS_ZONE, 0),
        (2010, 3000, 900, 320, LOCK_CLASS_ZONE, 1),
    ]  # fmt: skip


def every_kind() -> Recording:
    """Twenty events of each kind, with numbers as they may be, and a lock that is handed over."""
    random = np.random.default_rng(5)
    kinds = sorted(kind for kind, type_ in EVENTS.items() if type_.system != "lock")
    rows = events_of(20 * len(kinds))
    count = len(rows)
    rows["kind"] = np.resize(kinds, count)
    rows["pfn"] = random.integers(-1, 1 << 24, count)
    for packed in ("a", "b"):
        rows[packed] = random.integers(0, 1 << 62, count) & 0x0000000300000303
    rows["gfp"] = random.choice([0, 0xCC0, 0xDC0, 0x100CCA, 0x1, 0x2000000], count)
    rows["order"], rows["migratetype"] = random.integers(0, 11, count), random.integers(0, 4, count)
    return recording_of(rows, handing_over())
