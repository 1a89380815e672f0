"""The map of physical memory: cells of one or more pageblocks, counted as often as somebody looks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.html.counts import COUNT_ENTRIES, OWNERS, Cell, Count, count_blocks, count_slots
from emu.trace.page_owner import has_page_owner
from emu.workload.run import Run
from emu.zone.init import zones_of
from emu.zone.mmzone import (
    MAX_ORDER,
    MIGRATETYPE_NAMES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
    Machine,
    PageExt,
)  # fmt: skip
from emu.zone.snapshot import view
from shm import loader
from shm.struct import record_at

__all__ = ["PLANES", "Frame", "MemoryMap", "ZoneCells", "load_counts"]

MOST_CELLS = 4096
MOST_BLOCKS = 64  # of a cell: its pages are counted in 16 bits
HOLDER = "holder"  # the CPU or daemon that has most of a cell, + 1: by page_owner, or else by the workloads' slots
PLANES = (
    *OWNERS, *(f"order {order}" for order in range(MAX_ORDER)), *(name.lower() for name in MIGRATETYPE_NAMES), HOLDER,
)  # fmt: skip
Frame = np.ndarray[Any, np.dtype[np.uint16]]


@dataclass(frozen=True)
class ZoneCells:
    """A zone's cells are ``[first, first + count)``; its memory begins at ``block``."""

    name: str
    first: int
    count: int
    block: int
    blocks: int


def load_counts() -> None:
    """Native code for the passes, a program of its own: before processes are forked."""
    loader.load(COUNT_ENTRIES)


class MemoryMap:
    """A machine's map. ``runs``: the workloads, one record for each part of each CPU."""

    def __init__(self, m: Machine, runs: Iterable[tuple[int, Run]] = ()) -> None:
        self.m, self.runs = m, list(runs)
        zones = zones_of(m)
        spans = [
            (zone.zone_start_pfn >> PAGEBLOCK_ORDER,
             -(-(zone.zone_start_pfn + zone.spanned_pages) // PAGEBLOCK_NR_PAGES)) for zone in zones
        ]  # fmt: skip
        total = sum(last - first for first, last in spans)
        self.per_cell = 1
        while total > MOST_CELLS * self.per_cell and self.per_cell < MOST_BLOCKS:
            self.per_cell *= 2
        self._table = np.full((m.max_pfn >> PAGEBLOCK_ORDER) + 1, -1, np.int32)
        self.zones: list[ZoneCells] = []
        count = 0
        for zone, (first, last) in zip(zones, spans, strict=True):
            blocks = np.arange(last - first, dtype=np.int32)
            self._table[first:last] = count + blocks // self.per_cell
            cells = -(-(last - first) // self.per_cell)
            name = f"Node {zone.node} {ZONE_NAMES[zone.zid]}"
            self.zones.append(ZoneCells(name, count, cells, first, last - first))
            count += cells
        self.nr_cells = count

    def frame(self) -> Frame:
        """A look: for each cell its PLANES."""
        cells = np.zeros((self.nr_cells, len(PLANES) - 1), np.uint16)
        into, table = _record(Cell, cells), _record(Count, self._table)
        count_blocks(self.m, table, into, 0, self.m.max_pfn >> PAGEBLOCK_ORDER)
        held = np.zeros((self.m.nr_parties, self.nr_cells), np.int32)
        for cpu, run in self.runs:
            count_slots(self.m, table, into, _record(Count, held[cpu]), run.slots, min(run.held, run.nr_slots))
        if has_page_owner(self.m):
            held = self._owned()
        holder = np.where(held.any(axis=0), held.argmax(axis=0) + 1, 0)
        return np.column_stack([cells, holder.astype(np.uint16)])

    def _owned(self) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
        """Pages of each party in each cell that are in use, as page_owner has them."""
        owners = view(self.m, PageExt, self.m.page_ext, self.m.max_pfn)
        pfns = np.flatnonzero((owners["owner_cpu"] > 0) & (owners["order"] >= 0))
        cells = self._table[pfns >> PAGEBLOCK_ORDER]
        parties = owners["owner_cpu"][pfns].astype(np.int64) - 1
        at = (parties * self.nr_cells + cells)[cells >= 0]
        counts = np.bincount(at, minlength=self.m.nr_parties * self.nr_cells)
        return counts.astype(np.int32).reshape(self.m.nr_parties, self.nr_cells)


def _record(kind: type[Any], of: np.ndarray[Any, Any]) -> Any:
    """The first record of an array, for the core; the array must outlive it."""
    return record_at(kind, of.ctypes.data)


assert Cell.types.offset // 2 + len(MIGRATETYPE_NAMES) == len(PLANES) - 1  # type: ignore[attr-defined]
