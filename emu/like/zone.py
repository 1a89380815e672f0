"""One zone of a likeness: which page is what, where its blocks lie, and the zone as a state has it."""

import itertools
from collections.abc import Iterator

import numpy as np

from emu.like.files import LikeError
from emu.like.place import Space
from emu.like.zoneinfo import ZoneFacts
from emu.zone.mmzone import (
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
)  # fmt: skip
from emu.zone.snapshot import State
from emu.zone.vmstat_items import NUMA_STAT_NAMES, ZONE_STAT_NAMES

__all__ = ["TYPES", "LikeZone"]

TYPES = 4  # unmovable, movable, reclaimable, highatomic
NO_MEMORY = -1
HOLE, RESERVED, USED, ON_PCP, ON_LRU, FREE = "x", "R", "u", "p", "F", "b"
FILE_LISTS = ("inactive_file", "active_file")


class LikeZone:
    """One zone while its pages are given out. Whole pageblocks of holes come first, then one run for each type; of what
    the free blocks leave, reserved pages come first and what is left of the holes last.

    ``moved``: free blocks that had no room in pageblocks of their type; ``file``: pfns of the page cache by list.
    """

    def __init__(self, facts: ZoneFacts, cpus: int) -> None:
        self.facts, self.cpus, self.moved = facts, cpus, 0
        p = facts.pages
        self.first, self.end = facts.start_pfn, facts.end_pfn
        self.block = self.first & -PAGEBLOCK_NR_PAGES
        blocks = -(-(self.end - self.block) // PAGEBLOCK_NR_PAGES)
        self.kinds = np.full(blocks * PAGEBLOCK_NR_PAGES, HOLE, "<U1")
        self.orders = np.zeros(len(self.kinds), np.int8)  # of free blocks, at their first page
        self.types = self._types(blocks, (p["spanned"] - p["present"]) // PAGEBLOCK_NR_PAGES)
        self.lists = self._place()
        self._give_rest()
        movable, other = self._in_use()
        # kernels from 6.7 on lower ``high`` below what is there: 5.10 never has so many
        most = {cpu: min(count, max(high + max(batch, 1) - 1, 0)) for cpu, (count, high, batch) in facts.pcp.items()}
        self.pcp = {cpu: self._turn(movable, count, ON_PCP) for cpu, count in most.items()}
        pages = itertools.chain(movable, other)
        self.file = {name: self._turn(pages, p.get(f"nr_zone_{name}", 0), ON_LRU) for name in FILE_LISTS}

    def _types(self, blocks: int, holes: int) -> list[int]:
        """The type of each pageblock, NO_MEMORY for holes."""
        wanted = self.facts.blocks or [0] * TYPES
        if sum(wanted):
            holes = min(holes, max(blocks - sum(wanted), 0))
        kinds = [mt for mt in range(TYPES) if mt != MIGRATE_MOVABLE for _ in range(wanted[mt])][: blocks - holes]
        return [NO_MEMORY] * holes + kinds + [MIGRATE_MOVABLE] * (blocks - holes - len(kinds))

    def _place(self) -> list[list[list[int]]]:
        """Free blocks, each in pageblocks of its type as long as there is room, then anywhere."""
        pageblocks: set[int] = set()
        spaces = [Space(pageblocks) for _ in range(TYPES)]
        at = 0
        for mt, run in itertools.groupby(self.types):
            start = self.block + at * PAGEBLOCK_NR_PAGES
            at += len(list(run))
            if mt != NO_MEMORY:
                spaces[mt].add(max(start, self.first), min(self.block + at * PAGEBLOCK_NR_PAGES, self.end))
        lists: list[list[list[int]]] = [[[] for _ in range(TYPES)] for _ in range(MAX_ORDER)]
        for order in reversed(range(MAX_ORDER)):
            for mt in range(TYPES):
                for _ in range(self.facts.free[order][mt]):
                    pfn = self._take(spaces, order, mt)
                    self.kinds[pfn - self.block : pfn - self.block + (1 << order)] = FREE
                    self.orders[pfn - self.block] = order
                    lists[order][mt].append(pfn)
        return lists

    def _give_rest(self) -> None:
        """Pages that no free block has: reserved, in use, or holes."""
        p = self.facts.pages
        begin = max(self.first - self.block, self.types.count(NO_MEMORY) * PAGEBLOCK_NR_PAGES)
        rest = begin + np.flatnonzero(self.kinds[begin : self.end - self.block] != FREE)
        used = p["managed"] - int((self.kinds == FREE).sum())
        reserved = p["present"] - p["managed"]
        if used < 0 or used + reserved > len(rest):
            raise LikeError(f"{self.facts.where}: {self.facts.name}: more pages are free than it has")
        looked_at = rest % PAGEBLOCK_NR_PAGES == self.first % PAGEBLOCK_NR_PAGES  # to see whether a block has memory
        rest = np.concatenate([rest[looked_at], rest[~looked_at]])
        self.kinds[rest[:reserved]] = RESERVED
        self.kinds[rest[reserved : reserved + used]] = USED

    def _take(self, spaces: list[Space], order: int, mt: int) -> int:
        for at, space in enumerate([spaces[mt], *(space for other, space in enumerate(spaces) if other != mt)]):
            pfn = space.take(order)
            if pfn >= 0:
                self.moved += at > 0
                return pfn
        facts = self.facts
        raise LikeError(f"{facts.where}: {facts.name}: the free blocks don't fit into {facts.pages['managed']} pages")

    def _in_use(self) -> tuple[Iterator[int], Iterator[int]]:
        """Pages in use, those that lie in movable pageblocks and the others."""
        used = np.flatnonzero(self.kinds == USED)
        movable = np.array(self.types, np.int8)[used >> PAGEBLOCK_ORDER] == MIGRATE_MOVABLE
        return iter((used[movable] + self.block).tolist()), iter((used[~movable] + self.block).tolist())

    def _turn(self, pages: Iterator[int], count: int, kind: str) -> list[int]:
        """The next pages become of another kind; fewer if there are no more."""
        pfns = list(itertools.islice(pages, count))
        self.kinds[np.array(pfns, np.int64) - self.block] = kind
        return pfns

    def _map(self, block: int) -> str:
        """The page map of a pageblock: runs of a letter, and ``b`` with the order for a free block."""
        first = block * PAGEBLOCK_NR_PAGES
        kinds = self.kinds[first : first + PAGEBLOCK_NR_PAGES]
        inside = kinds[0] == FREE and not self._begins(first)
        if inside:
            return "+"
        text, at = [], 0
        while at < PAGEBLOCK_NR_PAGES:
            if kinds[at] == FREE:
                order = int(self.orders[first + at])
                text.append(f"b{order}")
                at += 1 << order
                continue
            differs = np.flatnonzero(kinds[at:] != kinds[at])
            run = int(differs[0]) if len(differs) else PAGEBLOCK_NR_PAGES - at
            text.append(f"{kinds[at]}{run}")
            at += run
        return "".join(text)

    def _begins(self, at: int) -> bool:
        """Whether a free block begins at this page: no larger one that began before covers it."""
        earlier = at - (at + self.block) % (1 << (MAX_ORDER - 1))
        return earlier == at or not (self.kinds[earlier] == FREE and self.orders[earlier] == MAX_ORDER - 1)

    def state(self) -> State:
        """The zone as a state has it."""
        facts, p = self.facts, self.facts.pages
        boost = p.get("boost", 0)
        mark = [p[name] - boost for name in ("min", "low", "high")]
        free = sum(len(pfns) << order for order, by_type in enumerate(self.lists) for pfns in by_type)
        drift = self.cpus * facts.threshold
        behind = self._behind(free - p["free"])
        counters = {"nr_free_pages": free - sum(behind)} | {
            f"nr_zone_{name}": len(pfns) for name, pfns in self.file.items()
        }
        return {
            "nid": facts.nid, "zid": facts.zid, "name": ZONE_NAMES[facts.zid], "start_pfn": facts.start_pfn,
            "spanned": p["spanned"], "present": p["present"], "managed": p["managed"], "watermark": mark,
            "watermark_boost": boost, "lowmem_reserve": (list(facts.protection) + [0] * MAX_NR_ZONES)[:MAX_NR_ZONES],
            "flags": 0, "nr_reserved_highatomic": self.types.count(3) * PAGEBLOCK_NR_PAGES,
            "percpu_drift_mark": mark[2] + drift if drift > mark[1] - mark[0] else 0,
            "contiguous": int(p["spanned"] == p["present"]), "initialized": 1, "all_unreclaimable": 0,
            "compact": {
                "cached_free_pfn": 0, "cached_migrate_pfn": [0, 0], "init_migrate_pfn": 0, "init_free_pfn": 0,
                "considered": 0, "defer_shift": 0, "order_failed": 0, "blockskip_flush": 0,
            },
            "vm_stat": [counters.get(name, 0) for name in ZONE_STAT_NAMES], "numa_stat": [0] * len(NUMA_STAT_NAMES),
            "free_area": [
                {"nr_free": sum(map(len, by_type)), "lists": by_type} for by_type in self.lists
            ],
            "pcp": [self._pcp(cpu, behind[cpu]) for cpu in range(self.cpus)],
            "pageblocks": [
                [self.block + at * PAGEBLOCK_NR_PAGES, mt, 0 if mt >= 0 else -1, self._map(at) if mt >= 0 else ""]
                for at, mt in enumerate(self.types)
            ],
        }  # fmt: skip

    def _behind(self, pages: int) -> list[int]:
        """What each CPU has not yet added to the zone's counter of free pages, which differs from what the lists have.
        No more than a CPU may keep to itself: then the files are of different moments, and the lists are right."""
        behind, most = [], self.facts.threshold
        for _ in range(self.cpus):
            behind.append(max(-most, min(pages, most)))
            pages -= behind[-1]
        return [0] * self.cpus if pages else behind

    def _pcp(self, cpu: int, behind: int) -> State:
        _, high, batch = self.facts.pcp.get(cpu, (0, 0, 1))
        pages = self.pcp.get(cpu, [])
        return {
            "cpu": cpu, "count": len(pages), "high": high, "batch": max(batch, 1), "expire": 0,
            "stat_threshold": self.facts.threshold, "vm_stat_diff": [behind] + [0] * (len(ZONE_STAT_NAMES) - 1),
            "numa_stat_diff": [0] * len(NUMA_STAT_NAMES), "lists": [[], pages, []],
            "stamps": [[], [MIGRATE_MOVABLE] * len(pages), []],
        }  # fmt: skip
