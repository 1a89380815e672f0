"""Looks at a running machine that cost little, at most a few hundred of them however long it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from emu.zone.init import zones_of
from emu.zone.mmzone import Cpu, Machine, Pageset, Zone
from emu.zone.snapshot import view
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.struct import address_of, records_at

__all__ = ["Sample", "Sampler", "Thinned"]

T = TypeVar("T")
Ints = np.ndarray[Any, np.dtype[np.int64]]
SHARE = 33  # of a core's time, one part at most goes into looking


class Thinned(Generic[T]):
    """Things seen at moments that are ``every`` ns apart. When there are too many, every second one is forgotten and
    the pace is halved."""

    def __init__(self, most: int, every: int) -> None:
        self.most, self.every = most, every
        self.items: list[T] = []
        self._next = 0

    def due(self, now: int) -> bool:
        """Whether it is time for another one."""
        return now >= self._next

    def take(self, look: Callable[[], T]) -> None:
        """One more; a look that costs much CPU time is followed by a longer pause."""
        began, spent = time.monotonic_ns(), -time.thread_time_ns()
        self.items.append(look())
        spent += time.thread_time_ns()
        if len(self.items) > self.most:
            del self.items[1::2]
            self.every *= 2
        self._next = max(began + self.every, time.monotonic_ns() + spent * SHARE)


@dataclass(frozen=True)
class Sample:
    """The allocator's counters at one time. Pages, except where it says otherwise."""

    at: int  # CLOCK_MONOTONIC ns
    free: list[int]  # of each zone
    marks: list[list[int]]  # min, low, high of each zone, with boost
    boost: list[int]
    pcp: list[int]
    nr_free: list[list[int]]  # free blocks of each zone by order
    events: Ints  # vm_events, by number
    failed: int  # allocations, so far


class Sampler:
    """Takes samples of a machine. ``failed``: how many allocations its workload couldn't get so far."""

    def __init__(self, m: Machine, failed: Callable[[], int]) -> None:
        self.m, self.failed = m, failed
        self._zones = [records_at(Zone, address_of(zone), 1)[0] for zone in zones_of(m)]
        self._pcp = [view(m, Pageset, int(zone["pageset"]), m.nr_parties)["count"] for zone in self._zones]
        self._events = view(m, Cpu, m.cpus, m.nr_parties)["vm_events"]

    def sample(self) -> Sample:
        """Now."""
        boost = [int(zone["watermark_boost"]) for zone in self._zones]
        return Sample(
            time.monotonic_ns(),
            [max(int(zone["vm_stat"]["counter"][NR_FREE_PAGES]), 0) for zone in self._zones],
            [(zone["watermark"] + extra).tolist() for zone, extra in zip(self._zones, boost, strict=True)],
            boost, [int(counts.sum()) for counts in self._pcp],
            [zone["free_area"]["nr_free"].tolist() for zone in self._zones], self._events.sum(axis=0),
            self.failed(),
        )  # fmt: skip
