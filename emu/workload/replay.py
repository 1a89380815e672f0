"""A recorded trace as a workload: who allocated and freed what, in which order, on which CPU.

Pages are matched by pfn while they live, so a free in the trace becomes a free of the page that *this* machine gave out
for the matching allocation. Pages allocated before the recording began are allocated in a prelude, or are those of the
state before, if one is given. A block freed in pieces (``split_page()``) is split here as well.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emu.workload import replay_ops as s
from emu.workload.trace import EVENT_KINDS, Trace
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from shm.struct import dtype_of

__all__ = ["Plan", "plan_replay"]

ALLOC, FREE, BATCHED = (EVENT_KINDS[n] for n in ("mm_page_alloc", "mm_page_free", "mm_page_free_batched"))
POPULATION_GFP = GFP_HIGHUSER_MOVABLE


@dataclass
class Plan:
    """Operations of a replay. ``ops[:prelude]`` make the pages that the recording found allocated."""

    ops: NDArray[np.void]
    prelude: int
    handles: int
    cpus: int
    peak_pages: int
    not_replayed: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Operations that stand for events of the trace."""
        return len(self.ops) - self.prelude


@dataclass
class _Live:
    """A page that is allocated at this point of the trace."""

    handle: int
    order: int
    split: bool = False


class _Matcher:
    """Goes through the events in order and matches frees with allocations."""

    def __init__(self, cpus: int, known_before: bool) -> None:
        self.cpus, self.known_before = cpus, known_before
        self.rows: list[tuple[int, int, int, int, int, int]] = []  # code, order, cpu, gfp, handle, n
        self.population: list[tuple[int, int]] = []  # order, cpu
        self.live: dict[int, _Live] = {}
        self.inside: dict[int, int] = {}  # pfn of a page within a block of order > 0 -> the block's first pfn
        self.handles = 0
        self.pages = self.peak = 0
        self.not_replayed = {"failed allocations": 0, "batched frees (each has its mm_page_free)": 0, "other kinds": 0}

    def alloc(self, pfn: int, order: int, cpu: int, gfp: int) -> None:
        """mm_page_alloc"""
        if pfn in self.live:  # its free was lost
            del self.live[pfn]
        self.live[pfn] = _Live(self.handles, order)
        if order:
            self.inside.update(dict.fromkeys(range(pfn + 1, pfn + (1 << order)), pfn))
        self.rows.append((s.RP_ALLOC, order, cpu % self.cpus, gfp, self.handles, 0))
        self.handles += 1
        self.pages += 1 << order
        self.peak = max(self.peak, self.pages)

    def free(self, pfn: int, order: int, cpu: int) -> None:
        """mm_page_free"""
        cpu %= self.cpus
        known = self.live.get(pfn)
        first = pfn
        if known is None and pfn in self.inside:
            first = self.inside[pfn]
            known = self.live.get(first)
        self.pages -= 1 << order
        if known is None and self.known_before:
            self.rows.append((s.RP_FREE_PFN, order, cpu, 0, 0, pfn))
        elif known is None:
            self.rows.append((s.RP_FREE, order, cpu, 0, -1 - len(self.population), 0))
            self.population.append((order, cpu))
        elif first == pfn and known.order == order and not known.split:
            self.rows.append((s.RP_FREE, order, cpu, 0, known.handle, 0))
            self._forget(pfn, order)
        else:
            if not known.split:
                self.rows.append((s.RP_SPLIT, known.order, cpu, 0, known.handle, 0))
                known.split = True
            self.rows.append((s.RP_FREE_PART, order, cpu, 0, known.handle, pfn - first))

    def _forget(self, pfn: int, order: int) -> None:
        del self.live[pfn]
        for at in range(pfn + 1, pfn + (1 << order)) if order else ():
            self.inside.pop(at, None)


def plan_replay(trace: Trace, cpus: int, known_before: bool = False) -> Plan:
    """Turn a trace into operations for ``cpus`` CPUs (recorded CPU c runs on c modulo that).

    ``known_before``: the machine begins in the recorded state, so pages of unknown origin are freed by pfn.
    """
    match = _Matcher(cpus, known_before)
    events = trace.events
    columns = (events[name].tolist() for name in ("kind", "pfn", "order", "cpu", "gfp"))
    for kind, pfn, order, cpu, gfp in zip(*columns, strict=True):
        if kind == ALLOC:
            if pfn < 0:
                match.not_replayed["failed allocations"] += 1
            else:
                match.alloc(pfn, order, cpu, gfp)
        elif kind == FREE:
            match.free(pfn, order, cpu)
        elif kind == BATCHED:
            match.not_replayed["batched frees (each has its mm_page_free)"] += 1
        else:
            match.not_replayed["other kinds"] += 1
    return _assemble(match)


def _assemble(match: _Matcher) -> Plan:
    before = len(match.population)
    ops = np.zeros(before + len(match.rows), dtype_of(s.ReplayOp))
    for at, (order, cpu) in enumerate(match.population):
        ops[at] = (s.RP_ALLOC, order, cpu, POPULATION_GFP, match.handles + at, 0)
    if match.rows:
        rows = np.array(match.rows, np.int64)
        for column, name in enumerate(("code", "order", "cpu", "gfp", "handle", "n")):
            ops[name][before:] = rows[:, column]
    handles = ops["handle"][before:]
    handles[handles < 0] = match.handles - 1 - handles[handles < 0]  # -1 - k stands for population k
    peak = match.peak + sum(1 << order for order, _ in match.population)
    skipped = {reason: n for reason, n in match.not_replayed.items() if n}
    return Plan(ops, before, match.handles + before, match.cpus, peak, skipped)
