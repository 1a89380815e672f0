"""Who has which page: a zone's lists walked, and each of its pages in one class. Validation asks it.

The struct pages of a block that was never taken apart are all zero, and reading them would make the host allocate
them: only blocks with ``PB_INITIALISED`` are looked at page by page. What grows with the zone is one byte a page.
"""

import ctypes
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_PCPTYPES, MIGRATE_TYPES, MIGRATETYPE_NAMES, PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER, ZONE_NAMES, Machine, Zone,
)  # fmt: skip
from emu.zone.types import ListHead
from emu.zone.page import PG_guard, PG_reserved, ZONE_ID_MASK
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE
from emu.zone.snapshot import mem_map, pageblocks, pageset_of
from shm.struct import address_of

Ints = np.ndarray[Any, np.dtype[Any]]

UNCLAIMED, FREE, PCP, GUARD = 0, 1, 2, 3
LIMIT = 8  # findings of one kind that are told one by one
CHUNK_BLOCKS = 128


def told(pfns: Ints, text: str) -> Iterator[str]:
    """``text`` with each pfn, the first few; then how many more."""
    for pfn in pfns[:LIMIT]:
        yield f"pfn:{int(pfn):05x}: {text}"
    if len(pfns) > LIMIT:
        yield f"... and {len(pfns) - LIMIT} more: {text}"


class Chunk:
    """A run of initialised pageblocks of a zone, struct page by column."""

    def __init__(self, census: "Census", first: int, last: int) -> None:
        pages = census.pages[first:last]
        self.census, self.first = census, first
        self.pfn = np.arange(first, last)
        self.kind = census.kind[first - census.base : last - census.base]
        self.flags, self.refcount, self.mapcount, self.private, self.mapping, self.next = (
            np.ascontiguousarray(column)
            for column in (
                pages["page_flags"], pages["refcount"], pages["mapcount"], pages["private"], pages["mapping"],
                pages["lru"]["next"],
            )
        )  # fmt: skip
        made = (self.flags != 0) | (self.refcount != 0) | (self.mapcount != 0)  # a hole's page never was
        inside = (self.pfn >= census.start) & (self.pfn < census.end)
        self.mine = made & inside & (self.flags & ZONE_ID_MASK == census.zone_bits)
        self.reserved = self.mine & (self.flags & PG_reserved != 0)
        self.idle = self.mine & (self.kind != UNCLAIMED)  # on a list
        self.taken = self.mine & ~self.reserved & (self.kind == UNCLAIMED)


class Census:
    """One zone: members of its lists, and who claims each page."""

    def __init__(self, m: Machine, zone: Zone) -> None:
        self.m, self.zone = m, zone
        self.name = f"node {zone.node} zone {ZONE_NAMES[zone.zid]}"
        self.zone_bits = zone.zid | zone.node << 2
        self.start, self.end = zone.zone_start_pfn, min(zone.zone_start_pfn + zone.spanned_pages, m.max_pfn)
        self.base = self.start & -MAX_ORDER_NR_PAGES
        self.pages, self.blocks = mem_map(m), pageblocks(m)
        self.kind = np.zeros(-(-self.end // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES - self.base, np.uint8)
        self.faults: list[str] = []
        whole = (ctypes.c_uint8 * (m.segment_size & -4)).from_address(address_of(m))
        self._words = memoryview(whole).cast("B").cast("I")
        self.free = {
            (order, mt): self._walk(
                zone.free_area[order].free_list[mt], f"order {order} {MIGRATETYPE_NAMES[mt]} free list"
            )
            for order in range(MAX_ORDER)
            for mt in range(MIGRATE_TYPES)
        }
        self.pcp = {
            (party, mt): self._walk(
                pageset_of(m, zone, party).lists[mt], f"cpu {party} {MIGRATETYPE_NAMES[mt]} pcp list"
            )
            for party in range(m.nr_parties)
            for mt in range(MIGRATE_PCPTYPES)
        }
        self._words.release()
        for (order, _), pfns in self.free.items():
            self._mark(pfns, order, FREE)
        for pfns in self.pcp.values():
            self._mark(pfns, 0, PCP)
        self.guards = self._mark_guards()
        self.taken = 0  # pages in use, counted as the chunks go by

    def _walk(self, head: ListHead, what: str) -> Ints:
        """pfns of a list, head first; what comes after the first broken link is left out."""
        m, words = self.m, self._words
        here = (address_of(head) - address_of(m)) >> 2
        first, last = m.mem_map_link, m.mem_map_link + (m.max_pfn << 3)
        found = array("q")
        before, link = here, words[here]
        while True:
            if link != here and (not first <= link < last or (link - first) & 7):
                self._fault(what, before, here, f"its next link {link:#x} is no page")
                break
            if words[link + 1] != before:
                prev = words[link + 1]
                self._fault(what, link, here, f"its prev link is expected {before:#x}, found {prev:#x}")
                break
            if link == here:
                break
            pfn = (link - first) >> 3
            if not self.start <= pfn < self.end:
                self._fault(what, link, here, "a page of this zone is expected")
                break
            found.append(pfn)
            before, link = link, words[link]
        return np.frombuffer(found, np.int64) if found else np.empty(0, np.int64)

    def _fault(self, what: str, link: int, here: int, text: str) -> None:
        where = "the head" if link == here else f"pfn:{(link - self.m.mem_map_link) >> 3:05x}"
        self.faults.append(f"{what}: {where}: {text}")

    def _mark(self, pfns: Ints, order: int, kind: int) -> None:
        at = (pfns - self.base) >> order
        self.kind.reshape(-1, 1 << order)[at] = kind

    @property
    def deferred(self) -> tuple[int, int]:
        """pfns ``[first, end)`` whose struct pages wait for ``deferred_grow_zone()``."""
        first = self.zone.first_deferred_pfn
        return (first, self.zone.deferred_end_pfn) if first else (self.end, self.end)

    def block_types(self) -> tuple[Ints, Ints]:
        """First pfns of the zone's pageblocks that have a type, and the types. Memory that is offline has none, and
        what went to another zone inside this one's span is that zone's."""
        first, last = self.start >> PAGEBLOCK_ORDER, -(-self.end // PAGEBLOCK_NR_PAGES)
        bits = self.blocks[first:last]
        pfns = np.arange(first, last) << PAGEBLOCK_ORDER
        made = np.flatnonzero(bits & PB_INITIALISED)
        flags = self.pages["page_flags"][np.maximum(pfns[made], self.start)]
        mine = bits & PB_OFFLINE == 0
        mine[made[flags & ZONE_ID_MASK != self.zone_bits]] = False
        return pfns[mine], bits[mine] & PB_MIGRATE

    def chunks(self) -> Iterator[Chunk]:
        """The zone's initialised blocks, run by run; no block of the largest order is cut."""
        first, last = self.base >> PAGEBLOCK_ORDER, (self.base + len(self.kind)) >> PAGEBLOCK_ORDER
        made = self.blocks[first:last] & PB_INITIALISED != 0
        at = 0
        while at < len(made):
            if not made[at]:
                rest = np.flatnonzero(made[at:])
                if not len(rest):
                    return
                at += int(rest[0])
            border = (first + at) // CHUNK_BLOCKS * CHUNK_BLOCKS + CHUNK_BLOCKS - first
            run = made[at:border]
            length = int(np.argmin(run)) if not run.all() else len(run)
            yield Chunk(self, (first + at) << PAGEBLOCK_ORDER, (first + at + length) << PAGEBLOCK_ORDER)
            at += length

    def _mark_guards(self) -> int:
        """Give blocks that are kept as guards instead of listed their class. Returns their pages."""
        if not self.m.debug_guardpage_minorder:
            return 0
        total = 0
        heads = [chunk.pfn[chunk.mine & (chunk.flags & PG_guard != 0)] for chunk in self.chunks()]
        whole = self.untouched()
        heads.append(whole[self.pages["page_flags"][whole] & PG_guard != 0])
        for pfn in np.concatenate(heads):
            order = int(self.pages["private"][pfn])
            block = self.kind[pfn - self.base : pfn - self.base + (1 << order)]
            if block.any():
                self.faults.append(f"pfn:{pfn:05x}: a guard of order {order} has free pages")
            block[:] = GUARD
            total += 1 << order
        return total

    def untouched(self) -> Ints:
        """First pfns of the blocks that were never taken apart, and that no list has either; without the deferred."""
        first, last = -(-self.start // PAGEBLOCK_NR_PAGES), self.end >> PAGEBLOCK_ORDER
        made = self.blocks[first:last] & PB_INITIALISED != 0
        pfns = np.arange(first, last) << PAGEBLOCK_ORDER
        waiting = (pfns >= self.deferred[0]) & (pfns < self.deferred[1])
        idle: Ints = pfns[~made & ~waiting & (self.kind[pfns - self.base] == UNCLAIMED)]
        return idle

    def heads(self) -> tuple[Ints, Ints, Ints]:
        """All free blocks by pfn: pfns, orders, migratetypes of their lists."""
        pfns = np.concatenate(list(self.free.values()))
        orders = np.concatenate([np.full(len(p), order) for (order, _), p in self.free.items()])
        types = np.concatenate([np.full(len(p), mt) for (_, mt), p in self.free.items()])
        by_pfn = np.argsort(pfns, kind="stable")
        return pfns[by_pfn], orders[by_pfn], types[by_pfn]
