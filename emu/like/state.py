"""An allocator state made of what the files of another machine say.

What they say is kept: CPUs, nodes, zones with their first pfn, sizes and watermarks, free blocks by order and
migratetype, pageblocks by type, the pages and settings of pcp lists, sysctls. Where the blocks lie they don't say: the
types lie one after the other in each zone. What is in use is the kernel's own, which nobody frees and reclaim can't
take.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emu.like.files import LikeError, ZoneFacts, cpu_nodes, read_sysctls, read_zones, root_of
from emu.like.place import Space
from emu.zone.mmzone import (
    MAX_NR_ZONES,
    MAX_ORDER,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
)  # fmt: skip
from emu.zone.snapshot import State
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, ZONE_STAT_NAMES

__all__ = ["Likeness", "like"]

MOST_PAGES = 64 << 18  # 64 GiB: beyond, putting it into its state takes minutes
TYPES = 4  # unmovable, movable, reclaimable, highatomic
NO_MEMORY = -1
HOLE, RESERVED, USED, ON_PCP, FREE = "x", "R", "u", "p", "b"
DEFAULTS: dict[str, Any] = {
    "min_free_kbytes": -1, "watermark_boost_factor": 15000, "watermark_scale_factor": 10,
    "percpu_pagelist_fraction": 0, "zone_reclaim_mode": 0, "swappiness": 60, "lowmem_reserve_ratio": [256, 256, 32, 0],
}  # fmt: skip


@dataclass(frozen=True)
class Likeness:
    """A state, and what of the other machine it doesn't have, a line each."""

    state: State
    notes: tuple[str, ...]

    @property
    def managed_pages(self) -> int:
        """Of all zones."""
        return sum(zone["managed"] for zone in self.state["zones"])

    def __str__(self) -> str:
        free = sum(zone["vm_stat"][0] for zone in self.state["zones"])
        nodes, cpus = len(self.state["nodes"]), len(self.state["cpu_node"])
        return (
            f"{cpus} CPUs, {nodes} node{'s' if nodes > 1 else ''}, {self.managed_pages >> 8:,} MiB, "
            f"{free >> 8:,} MiB of it free"
        )


def like(directory: Path) -> Likeness:
    """The machine that ``zoneinfo``, ``buddyinfo`` and, if it may be read, ``pagetypeinfo`` there describe."""
    root = root_of(directory)
    facts = read_zones(root)
    pages = sum(zone.pages["present"] for zone in facts)
    if pages > MOST_PAGES:
        raise LikeError(f"{root / 'zoneinfo'}: {pages >> 18} GiB; up to {MOST_PAGES >> 18} GiB can be copied")
    nodes = sorted({zone.nid for zone in facts})
    if nodes != list(range(len(nodes))):
        raise LikeError(f"{root / 'zoneinfo'}: nodes {nodes}: they must be numbered without a gap")
    cpus = 1 + max(max(zone.pcp) for zone in facts)
    notes = []
    zones = []
    for zone in facts:
        made = _Zone(zone, cpus)
        zones.append(made.state())
        if made.moved:
            notes.append(f"{zone.name}: {made.moved} free blocks lie in pageblocks of another type")
    if not all(zone.blocks for zone in facts):
        notes.append("pagetypeinfo can't be read (it takes root): all memory is movable here")
    sysctl: dict[str, Any] = dict(DEFAULTS)
    for name, values in read_sysctls(root).items():
        sysctl[name] = (values + DEFAULTS[name])[:4] if name == "lowmem_reserve_ratio" else values[0]
    if sysctl["min_free_kbytes"] < 0:
        sysctl["min_free_kbytes"] = sum(zone.pages["min"] for zone in facts) * 4
    cpu_node = cpu_nodes(root, cpus, nodes)
    return Likeness(_machine(facts, zones, cpu_node, sysctl), tuple(notes))


def _machine(facts: list[ZoneFacts], zones: list[State], cpu_node: list[int], sysctl: dict[str, Any]) -> State:
    nodes = sorted({zone.nid for zone in facts})
    return {
        "kernel": "5.10", "hz": 250, "jiffies": 0, "cpus": len(cpu_node), "cpus_possible": len(cpu_node),
        "nodes_online": nodes, "cpu_node": cpu_node, "max_order": MAX_ORDER, "pageblock_order": PAGEBLOCK_ORDER,
        "max_nr_zones": MAX_NR_ZONES, "migrate_types": TYPES, "pcptypes": 3, "page_group_by_mobility_disabled": 0,
        "cpusets_enabled": 0, "node_reclaim_mode": sysctl["zone_reclaim_mode"],
        "totalreserve_pages": sum(
            min(max(z["lowmem_reserve"]) + z["watermark"][2], z["managed"]) for z in zones
        ),
        "gfp_allowed_mask": 0x7FFFFF, "sysctl": sysctl, "nr_swap_pages": 0, "zone_stat_names": list(ZONE_STAT_NAMES),
        "node_stat_names": list(NODE_STAT_NAMES), "numa_stat_names": list(NUMA_STAT_NAMES), "vm_events": {},
        "nodes": [_node([z for z in zones if z["nid"] == nid], nodes, zones, len(cpu_node)) for nid in nodes],
        "zones": zones,
    }  # fmt: skip


def _node(own: list[State], nodes: list[int], zones: list[State], cpus: int) -> State:
    nid, start = own[0]["nid"], min(zone["start_pfn"] for zone in own)
    others = sorted(nodes, key=lambda other: (other != nid, other))
    by_node = {other: sorted((z["zid"] for z in zones if z["nid"] == other and z["managed"]), reverse=True)
               for other in nodes}  # fmt: skip
    threshold = max(pcp["stat_threshold"] for zone in own for pcp in zone["pcp"])
    return {
        "nid": nid, "start_pfn": start, "spanned": max(z["start_pfn"] + z["spanned"] for z in own) - start,
        "present": sum(z["present"] for z in own), "nr_zones": 1 + max(z["zid"] for z in own), "kswapd_order": 0,
        "kswapd_failures": 0, "kswapd_highest_zoneidx": MAX_NR_ZONES, "kswapd_waiting": 1, "kcompactd_max_order": 0,
        "pgdat_flags": 0, "zonelist_fallback": [[other, zid] for other in others for zid in by_node[other]],
        "zonelist_nofallback": [[nid, zid] for zid in by_node[nid]], "vm_stat": [0] * len(NODE_STAT_NAMES),
        "percpu": [{"threshold": threshold, "diff": [0] * len(NODE_STAT_NAMES)} for _ in range(cpus)],
    }  # fmt: skip


class _Zone:
    """One zone while its pages are given out. Whole pageblocks of holes come first, then one run for each type; of what
    the free blocks leave, reserved pages come first and what is left of the holes last."""

    def __init__(self, facts: ZoneFacts, cpus: int) -> None:
        self.facts, self.cpus, self.moved = facts, cpus, 0
        p = facts.pages
        self.first, self.end = facts.start_pfn, facts.start_pfn + p["spanned"]
        self.block = self.first & -PAGEBLOCK_NR_PAGES
        blocks = -(-(self.end - self.block) // PAGEBLOCK_NR_PAGES)
        self.kinds = np.full(blocks * PAGEBLOCK_NR_PAGES, HOLE, "<U1")
        self.orders = np.zeros(len(self.kinds), np.int8)  # of free blocks, at their first page
        self.types = self._types(blocks, (p["spanned"] - p["present"]) // PAGEBLOCK_NR_PAGES)
        self.lists = self._place()
        self._give_rest()
        self.pcp = self._pcp_pages()

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
            raise LikeError(f"{self.facts.name}: more pages are free than it has")
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
        raise LikeError(f"{self.facts.name}: its free blocks don't fit into its {self.facts.pages['managed']} pages")

    def _pcp_pages(self) -> dict[int, list[int]]:
        """Pages of the pcp lists: taken from those in use, movable ones."""
        used = np.flatnonzero(self.kinds == USED)
        movable = used[np.array(self.types, np.int8)[used >> PAGEBLOCK_ORDER] == MIGRATE_MOVABLE]
        pages = iter((movable + self.block).tolist())
        lists = {}
        for cpu, (count, _, _) in self.facts.pcp.items():
            lists[cpu] = [pfn for _, pfn in zip(range(count), pages, strict=False)]
            for pfn in lists[cpu]:
                self.kinds[pfn - self.block] = ON_PCP
        return lists

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
            "vm_stat": [free] + [0] * (len(ZONE_STAT_NAMES) - 1), "numa_stat": [0] * len(NUMA_STAT_NAMES),
            "free_area": [
                {"nr_free": sum(map(len, by_type)), "lists": by_type} for by_type in self.lists
            ],
            "pcp": [self._pcp(cpu) for cpu in range(self.cpus)],
            "pageblocks": [
                [self.block + at * PAGEBLOCK_NR_PAGES, mt, 0 if mt >= 0 else -1, self._map(at) if mt >= 0 else ""]
                for at, mt in enumerate(self.types)
            ],
        }  # fmt: skip

    def _pcp(self, cpu: int) -> State:
        _, high, batch = self.facts.pcp.get(cpu, (0, 0, 1))
        pages = self.pcp.get(cpu, [])
        return {
            "cpu": cpu, "count": len(pages), "high": high, "batch": batch, "expire": 0,
            "stat_threshold": self.facts.threshold, "vm_stat_diff": [0] * len(ZONE_STAT_NAMES),
            "numa_stat_diff": [0] * len(NUMA_STAT_NAMES), "lists": [[], pages, []],
            "stamps": [[], [MIGRATE_MOVABLE] * len(pages), []],
        }  # fmt: skip
