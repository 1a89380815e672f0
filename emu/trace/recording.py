"""Recordings of a machine's events: the file that ``emu run --record`` writes, whole records as they are.

A stream of msgpack objects. First the header, a map: ``format``, ``version``, the layouts of the records, facts about
the machine. Then chunks ``[what, party, lost, bytes]``: records of one party's ring in their order ("e" for
:class:`emu.zone.event.Event`, "l" for :class:`shm.lockstat.LockHold`), and how many were lost right behind them.
The trailer, a map with what all chunks add up to, is last: a file without it has been cut short.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from emu.trace.events import EVENTS, EventType
from emu.trace.facts import Facts, TaskFacts, ZoneFacts
from emu.trace.types.lock import lock_rows
from emu.zone.event import Event
from emu.zone.sched import TASK_SIZE
from shm.lockstat import LockHold
from shm.struct import Struct, dtype_of, layout_of

__all__ = ["EVENT_CHUNK", "FORMAT", "HOLD_CHUNK", "VERSION", "Recording", "RecordingError", "layouts", "load_recording"]

FORMAT, VERSION = "emu recording", 1
EVENT_CHUNK, HOLD_CHUNK = "e", "l"
LARGEST = 1 << 31  # bytes of one object of a file
KINDS: dict[str, type[Struct]] = {EVENT_CHUNK: Event, HOLD_CHUNK: LockHold}


class RecordingError(ValueError):
    """A file that is no recording, or not all of one: the file and what is wrong with it, in one line."""


def layouts() -> dict[str, str]:
    """The layouts of the records that a file holds."""
    return {what: layout_of(kind) for what, kind in KINDS.items()}


@dataclass(frozen=True)
class Recording:
    """What was recorded, in the order of time."""

    path: Path
    facts: Facts
    seed: int
    workload: str
    events: NDArray[np.void]
    """Records of :class:`emu.zone.event.Event`, by (ts, seq). ``task`` is the task's number in ``facts.tasks``."""
    lost_before: NDArray[np.int64]
    """How many events of its CPU were lost right before each."""
    holds: NDArray[np.void]
    """Records of :class:`shm.lockstat.LockHold` with a column ``cpu``, by the time of release."""
    lost: int
    """Events that found their ring full."""
    lost_holds: int

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return float(self.events["ts"][-1] - self.events["ts"][0]) / 1e9 if len(self.events) else 0.0

    @property
    def nr_cpus(self) -> int:
        """CPUs that events can be of. Each daemon is a process of its own: as a CPU, it comes after the others."""
        return max(len(self.facts.parties), 1)

    def by_type(
        self, systems: Iterable[str] | None = None
    ) -> Iterator[tuple[EventType, NDArray[np.void], NDArray[np.int64]]]:
        """The events type by type, in the order of time, each with the number lost right before it. Their records have
        ``ts``, ``cpu``, ``task`` and ``irq``, and what the type makes its fields of. ``systems``: only these."""
        wanted = None if systems is None else set(systems)
        locks = lock_rows(self.holds)
        for rows, lost in ((self.events, self.lost_before), (locks, np.zeros(len(locks), np.int64))):
            for kind in np.unique(rows["kind"]).tolist():
                if kind in EVENTS and (wanted is None or EVENTS[kind].system in wanted):
                    these = rows["kind"] == kind
                    yield EVENTS[kind], rows[these], lost[these]


def load_recording(path: Path) -> Recording:
    """Read a file. Errors: RecordingError, OSError."""
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file, raw=False, max_buffer_size=LARGEST, strict_map_key=False)
        objects = _objects(unpacker, path)
        header = _header(next(objects, None), path)
        chunks: list[tuple[str, int, int, bytes]] = []
        trailer: dict[str, Any] | None = None
        for what in objects:
            if trailer is not None:
                raise RecordingError(f"{path}: something follows the end of the recording")
            if isinstance(what, dict):
                trailer = what
            else:
                chunks.append(_chunk(what, path))
    if trailer is None:
        raise RecordingError(f"{path}: cut short: {len(chunks)} chunks, and no end")
    events, lost_before = _events(chunks)
    holds = _holds(chunks)
    lost, lost_holds = (sum(c[2] for c in chunks if c[0] == what) for what in (EVENT_CHUNK, HOLD_CHUNK))
    counts = {"events": len(events), "lost": lost, "holds": len(holds), "lost_holds": lost_holds}
    if any(trailer.get(name) != count for name, count in counts.items()):
        raise RecordingError(
            f"{path}: damaged: its end tells of {trailer.get('events')} events, here are {len(events)}"
        )
    try:
        facts = _facts(header["facts"], trailer["tasks"])
        seed, workload = int(header["seed"]), str(header["workload"])
    except (KeyError, TypeError, ValueError) as err:
        raise RecordingError(f"{path}: damaged: {err}") from None
    return Recording(path, facts, seed, workload, events, lost_before, holds, lost, lost_holds)


def _objects(unpacker: Any, path: Path) -> Iterator[Any]:
    try:
        yield from unpacker
    except (ValueError, msgpack.exceptions.UnpackException) as err:
        raise RecordingError(f"{path}: not a recording, or damaged: {str(err) or type(err).__name__}") from None
    if unpacker.tell() != path.stat().st_size:
        raise RecordingError(f"{path}: cut short in the middle of a chunk, at byte {unpacker.tell():,}")


def _header(header: Any, path: Path) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RecordingError(f"{path}: not a recording (emu run --record makes one)")
    if header.get("version") != VERSION or header.get("layouts") != layouts():
        raise RecordingError(
            f"{path}: recorded by another version of this program (format {header.get('version')}, this one reads "
            f"{VERSION} with its own records)"
        )
    return header


def _chunk(what: Any, path: Path) -> tuple[str, int, int, bytes]:
    match what:
        case [str(kind), int(party), int(lost), bytes(data)] if kind in KINDS and lost >= 0 and party >= 0:
            if len(data) % dtype_of(KINDS[kind]).itemsize == 0:
                return kind, party, lost, data
    raise RecordingError(f"{path}: damaged: a chunk that is none")


def _events(chunks: list[tuple[str, int, int, bytes]]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """All events, and the losses before each: those behind a chunk are before the next one's first event."""
    dtype = dtype_of(Event)
    parts, losses = [np.empty(0, dtype)], [np.empty(0, np.int64)]
    pending: dict[int, int] = {}
    for kind, party, lost, data in chunks:
        if kind != EVENT_CHUNK:
            continue
        part = np.frombuffer(data, dtype)
        before = np.zeros(len(part), np.int64)
        if len(part):
            before[0] = pending.pop(party, 0)
        pending[party] = pending.get(party, 0) + lost
        parts.append(part)
        losses.append(before)
    events, before = np.concatenate(parts), np.concatenate(losses)
    events["task"] //= TASK_SIZE
    order = np.lexsort((events["seq"], events["ts"]))
    return events[order], before[order]


def _holds(chunks: list[tuple[str, int, int, bytes]]) -> NDArray[np.void]:
    own = dtype_of(LockHold)
    dtype = np.dtype([*((name, own[name]) for name in own.names or ()), ("cpu", "i2")])
    parts = [np.empty(0, dtype)]
    for kind, party, _, data in chunks:
        if kind == HOLD_CHUNK:
            records = np.frombuffer(data, own)
            part = np.empty(len(records), dtype)
            for name in own.names or ():
                part[name] = records[name]
            part["cpu"] = party
            parts.append(part)
    holds = np.concatenate(parts)
    return holds[np.argsort(holds["released"], kind="stable")]


def _facts(values: dict[str, Any], tasks: list[list[Any]]) -> Facts:
    return Facts(
        nr_cpus=int(values["nr_cpus"]), cpu_node=tuple(values["cpu_node"]),
        zones=tuple(ZoneFacts(*zone) for zone in values["zones"]),
        parties=tuple(TaskFacts(*party) for party in values["parties"]),
        tasks=tuple(TaskFacts(*task) for task in tasks),
        sites={int(number): str(name) for number, name in values["sites"].items()}, config=dict(values["config"]),
    )  # fmt: skip
