"""Where a zone's free blocks lie: somewhere that fits their number, so that no two of them would have been merged.

A block of order o < 10 is put in one half of an aligned region of twice its size; the other half, its buddy, is kept
from being a free block of the same order, but smaller ones may lie in it. From the largest order down, each in the
smallest region that will do, so what fits at all fits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from emu.zone.mmzone import MAX_ORDER, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER

__all__ = ["Space"]

TOP = MAX_ORDER - 1


@dataclass
class Space:
    """Aligned regions nobody has yet, by order. ``tainted``: their buddy is a free block of that order.

    ``pageblocks``: free blocks of order 9 in any space, which meets another one within a region of order 10.
    """

    pageblocks: set[int]
    regions: list[list[int]] = field(default_factory=lambda: [[] for _ in range(MAX_ORDER)])
    tainted: list[list[int]] = field(default_factory=lambda: [[] for _ in range(MAX_ORDER)])

    def add(self, start: int, end: int) -> None:
        """A range of pages, cut into aligned regions."""
        while start < end:
            order = min((start & -start).bit_length() - 1 if start else TOP, TOP, (end - start).bit_length() - 1)
            self.regions[order].append(start)
            start += 1 << order

    def take(self, order: int) -> int:
        """The first page of a place for a free block; -1: there is none."""
        while self.regions[order]:
            start = self.regions[order].pop()
            if order == PAGEBLOCK_ORDER and start ^ PAGEBLOCK_NR_PAGES in self.pageblocks:
                self.tainted[order].append(start)
                continue
            return self._whole(start, order)
        for larger in range(order + 1, MAX_ORDER):
            pool = self.tainted[larger] or self.regions[larger]
            if pool:
                return self._split(pool.pop(), larger, order)
        return -1

    def _whole(self, start: int, order: int) -> int:
        """A region as it is. Its buddy, if it is free to be had too, may not become a block of this order."""
        if order == PAGEBLOCK_ORDER:
            self.pageblocks.add(start)
        buddy = start ^ (1 << order)
        if order < TOP and buddy in self.regions[order]:
            self.regions[order].remove(buddy)
            self.tainted[order].append(buddy)
        return start

    def _split(self, start: int, larger: int, order: int) -> int:
        """The lower end of a region; the upper halves are left over."""
        for half in range(larger - 1, order, -1):
            self.regions[half].append(start + (1 << half))
        self.tainted[order].append(start + (1 << order))
        if order == PAGEBLOCK_ORDER:
            self.pageblocks.add(start)
        return start

    def left(self) -> Iterator[tuple[int, int]]:
        """What nobody took: first page and order of each region."""
        for pools in (self.regions, self.tainted):
            for order, starts in enumerate(pools):
                for start in starts:
                    yield start, order
