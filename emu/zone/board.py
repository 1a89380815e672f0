"""A machine's memory without processes: segment, records, boot or recorded state.

:class:`emu.machine.Machine` puts processes on a board; tests and tools may use it as it is and play all CPUs.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import cast

import psutil

from emu.zone.boot import BOOT_ENTRIES, Layout, Shape, ShapeError, Tuning, ZoneShape, init_zones, lay_out
from emu.zone.init import boot, init_records, party_of
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import Task
from emu.zone.snapshot import State
from emu.zone.state_in import load_state, shape_of_state
from emu.zone.state_out import state_of
from shm import loader
from shm.core import Entry
from shm.loader import Progress
from shm.segment import Segment, SegmentError, directory
from shm.struct import address_of, layout_of, record_at

RING_CAPACITY = 1 << 14
SCRIPT_SIZE = 1 << 20


class Board:
    """The segment and the machine record in it. Use as a context manager: the segment goes with it."""

    def __init__(self, segment: Segment, shape: Shape) -> None:
        self.segment, self.shape = segment, shape
        self.m = record_at(Machine, segment.base)

    @classmethod
    def _new(cls, shape: Shape, tuning: Tuning, ring_capacity: int, script_size: int) -> "Board":
        layout = lay_out(
            shape, ring_capacity=ring_capacity, script_size=script_size,
            tuning=tuning,
        )  # fmt: skip
        _check_host(shape, layout)
        segment = Segment.create(layout.size, **_facts(shape))
        board = cls(segment, shape)
        try:
            init_records(board.m, shape, layout, tuning)
            init_zones(board.m)
        except BaseException:
            segment.unlink()
            raise
        return board

    @classmethod
    def boot(
        cls, shape: Shape, tuning: Tuning | None = None, *, ring_capacity: int = RING_CAPACITY,
        script_size: int = SCRIPT_SIZE, entries: Iterable[Entry] = (), progress: Progress | None = None,
    ) -> "Board":  # fmt: skip
        """A freshly booted machine. ``entries`` are loaded together with what booting needs."""
        loader.load([*BOOT_ENTRIES, *entries], progress)
        tuning = tuning or Tuning()
        board = cls._new(shape, tuning, ring_capacity, script_size)
        try:
            boot(board.m, shape, tuning)
        except BaseException:
            board.close()
            raise
        return board

    @classmethod
    def from_state(
        cls, state: State, tuning: Tuning | None = None, *, ring_capacity: int = RING_CAPACITY,
        script_size: int = SCRIPT_SIZE, entries: Iterable[Entry] = (), progress: Progress | None = None,
        extra_parties: int = 0,
    ) -> "Board":  # fmt: skip
        """A machine in a recorded state."""
        loader.load([*BOOT_ENTRIES, *entries], progress)
        shape = replace(shape_of_state(state), extra_parties=extra_parties)
        board = cls._new(shape, tuning or Tuning(), ring_capacity, script_size)
        try:
            load_state(board.m, state)
        except BaseException:
            board.close()
            raise
        return board

    @classmethod
    def attach(cls, name: str) -> "Board":
        """A running machine's memory, to look at: nothing here is locked."""
        segment = Segment.attach(name)
        if segment.facts.get("layout") != _facts_layout():
            raise SegmentError(f"{name}: a machine of another version of this program")
        zones = tuple(ZoneShape(*z) for z in cast(list[list[int]], segment.facts["zones"]))
        cpu_node = tuple(cast(list[int], segment.facts["cpu_node"]))
        return cls(segment, Shape(cpu_node, zones, 1 + max(z.nid for z in zones)))

    def cpu(self, index: int) -> Cpu:
        """The record of a CPU or, from ``nr_cpus`` on, of a node's kswapd."""
        return party_of(self.m, index)

    def task(self, index: int) -> Task:
        """The task that runs on a CPU."""
        return record_at(Task, address_of(self.m) + self.cpu(index).current)

    def state(self, light: bool = False) -> State:
        """The allocator's state as plain data."""
        return state_of(self.m, light)

    def close(self) -> None:
        """Remove the segment."""
        self.segment.unlink()

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _facts_layout() -> str:
    return hashlib.sha256(layout_of(Machine).encode()).hexdigest()


def _facts(shape: Shape) -> dict[str, object]:
    return {
        "layout": _facts_layout(),
        "cpu_node": list(shape.cpu_node),
        "zones": [[z.nid, z.zid, z.start_pfn, z.spanned, z.present, z.managed] for z in shape.zones],
    }


def _check_host(shape: Shape, layout: Layout) -> None:
    """Refuse what this host can't hold: every largest block touches one page of the memory map."""
    blocks = sum(z.present for z in shape.zones) >> 10
    needed = blocks * 4096 + layout.rings + (64 << 20)
    free = min(psutil.disk_usage(str(directory())).free, psutil.virtual_memory().available)
    if needed > free:
        gib = sum(z.present for z in shape.zones) / (1 << 18)
        raise ShapeError(
            f"{gib:,.0f} GiB: booting it takes {needed >> 20:,} MiB, this host has {free >> 20:,} MiB left"
        )
