"""``--record FILE``: what comes out of a machine's rings goes into a file (see :mod:`emu.trace.recording`)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from emu.trace.recording import EVENT_CHUNK, FORMAT, HOLD_CHUNK, VERSION, layouts
from emu.whole import WholeFile
from emu.zone.init import party_of, zones_of
from emu.zone.mmzone import CPU_SIZE, Machine
from emu.zone.report import comm, task_comm
from emu.zone.sched import TASK_SIZE, Task
from shm.lockstat import LockHold
from shm.point import site_names
from shm.ring import Ring, ring_drain
from shm.struct import address_of, record_at

__all__ = ["Recorder", "undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: the exception that they raise would leave half a chunk in the file, or take events
    out of a ring that are written nowhere."""
    old: dict[int, Any] = {}
    came: list[int] = []
    try:
        with suppress(ValueError):  # signal.signal() is for the main thread; others get no exception anyway
            for which in (signal.SIGINT, signal.SIGTERM):
                old[which] = signal.signal(which, lambda got, _: came.append(got))
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


class Recorder:
    """A file that appears when everything has been written. The machine gives it what it drains.

    It is complete whatever ends the run: what a machine that died had in its rings is in it. After an error (OSError)
    there will be no file.
    """

    def __init__(self, m: Machine, path: Path, *, seed: int, workload: str, config: dict[str, Any]) -> None:
        self.m, self.path = m, path
        self.events = self.lost = self.holds = self.lost_holds = 0
        # what a ring lost before it was looked at is not missing from what is recorded
        self._lost_of = {(EVENT_CHUNK, i): event_ring(m, i).lost for i in range(m.nr_parties)}
        self._packer = msgpack.Packer()
        self._failed: OSError | None = None
        self._file = WholeFile(path)
        self._put({
            "format": FORMAT, "version": VERSION, "layouts": layouts(), "clock": "CLOCK_MONOTONIC", "seed": seed,
            "workload": workload, "facts": {**facts_of(m), "config": config},
        })  # fmt: skip

    def take(self, party: int, events: np.ndarray[Any, Any], lost: int) -> None:
        """Events of a party's ring. ``lost``: how many it has lost so far."""
        self.lost += self._chunk(EVENT_CHUNK, party, events, lost)
        self.events += len(events)

    def take_holds(self) -> None:
        """What the rings of locks hold."""
        for party in range(self.m.nr_parties):
            offset = party_of(self.m, party).party.lock_ring
            if offset:
                ring = record_at(Ring, address_of(self.m) + self.m.cpus + party * CPU_SIZE + offset)
                holds = ring_drain(ring, LockHold)
                self.lost_holds += self._chunk(HOLD_CHUNK, party, holds, ring.lost)
                self.holds += len(holds)

    def close(self) -> None:
        """Write the end, and let the file appear. Errors: OSError, that of an earlier part too."""
        if self._failed is not None:
            raise self._failed
        counts = {"events": self.events, "lost": self.lost, "holds": self.holds, "lost_holds": self.lost_holds}
        self._put({**counts, "tasks": tasks_of(self.m)})
        self._file.keep()

    def discard(self) -> None:
        """There is to be no file."""
        self._file.discard()

    def line(self) -> str:
        """What was recorded, in words."""
        lost = (
            f", {self.lost:,} lost ({self.lost / max(self.lost + self.events, 1):.1%})" if self.lost else ", none lost"
        )
        holds = f"; {self.holds:,} holds of locks, {self.lost_holds:,} lost" if self.holds or self.lost_holds else ""
        return f"recorded: {self.path}: {self.events:,} events{lost}{holds}"

    def summary(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "file": str(self.path), "events": self.events, "lost": self.lost, "holds": self.holds,
            "lost_holds": self.lost_holds,
        }  # fmt: skip

    def _chunk(self, what: str, party: int, records: np.ndarray[Any, Any], lost: int) -> int:
        fresh = lost - self._lost_of.get((what, party), 0)
        if len(records) or fresh:
            self._put([what, party, fresh, records.tobytes()])
            self._lost_of[what, party] = lost
        return fresh

    def _put(self, what: Any) -> None:
        try:
            self._file.write(self._packer.pack(what))
        except OSError as err:
            self._failed = err
            raise


def event_ring(m: Machine, party: int) -> Ring:
    """Where a party's events come from."""
    return record_at(Ring, address_of(m) + party_of(m, party).event_ring)


def facts_of(m: Machine) -> dict[str, Any]:
    """What must be known of a machine, as plain data (:class:`emu.trace.facts.Facts`)."""
    parties = range(m.nr_parties)
    return {
        "nr_cpus": m.nr_cpus,
        "cpu_node": [int(party_of(m, i).node) for i in range(m.nr_cpus)],
        "zones": [[z.node, z.zid, z.zone_start_pfn, z.spanned_pages] for z in zones_of(m)],
        "parties": [[comm(m, i), int(party_of(m, i).party.pid)] for i in parties],
        "sites": dict(site_names()),
    }


def tasks_of(m: Machine) -> list[list[Any]]:
    """Names and pids of all tasks."""
    base = address_of(m) + m.tasks
    return [[task_comm(m, i), int(record_at(Task, base + i * TASK_SIZE).pid)] for i in range(m.nr_tasks)]
