"""The zones of a report in an emulated machine, to ask its ``__zone_watermark_ok()``.

The check reads counters, marks and whether lists are empty. So each zone becomes a small one with the report's numbers:
counters, watermarks, reserves and ``nr_free`` are the kernel's own, and every order has one free block on the list of
each letter. A report never says how many blocks of an order are on which list, and the check never asks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emu.explain.dump import Dump, DumpZone
from emu.explain.rules import Access, Version, reserve_kb
from emu.zone.board import Board
from emu.zone.gfp import ALLOC_CMA, ALLOC_HARDER, ALLOC_HIGH
from emu.zone.mmzone import MAX_NR_ZONES, MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_TYPES, NR_ZONE_STATS, Machine, Zone
from emu.zone.snapshot import State
from emu.zone.vmstat_items import NODE_STAT_NAMES, NR_FREE_CMA_PAGES, NR_FREE_PAGES
from emu.zone.watermark import zone_watermark_ok
from shm.core import as_entries, entry

__all__ = ["Model", "fits", "modelled"]

LETTERS = "UMEHCI"
ZONE_PAGES = 16 * MAX_ORDER_NR_PAGES  # room for one block of each order on each list
OLDEST, NEWEST = (4, 15), (6, 2)  # where __zone_watermark_ok() gives what 5.10's gives


@entry
def ask_watermark(m: Machine, zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    """``zone_watermark_ok()`` for Python."""
    return zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags)


def fits(dump: Dump, version: Version, columns: tuple[str, ...]) -> bool:
    """Whether 5.10's check decides as this kernel's, and its records can hold the zones."""
    orders = max(len(zone.counts) for zone in dump.zones)
    allocatable = [name for name in columns if name != "Device"]
    return OLDEST <= version <= NEWEST and orders <= MAX_ORDER and len(allocatable) <= MAX_NR_ZONES and _lettered(dump)


def _lettered(dump: Dump) -> bool:
    """Whether each order that has blocks says on which lists."""
    areas = ((n, letters) for zone in dump.zones for n, letters in zip(zone.counts, zone.letters, strict=True))
    return all(n == 0 or set(letters) & set(LETTERS) for n, letters in areas)


class Model:
    """One node of a report."""

    def __init__(self, board: Board, columns: tuple[str, ...], page_kb: int) -> None:
        self.m, self.columns, self.page_kb = board.m, columns, page_kb

    def watermark_ok(self, zone: DumpZone, order: int, mark_kb: int, highest: int, access: Access) -> bool:
        """What 5.10 says of the request."""
        flags = (ALLOC_HIGH if access.half else 0) | (ALLOC_CMA if access.cma else 0)
        flags |= ALLOC_HARDER if access.quarter else 0
        record = self.m.nodes[0].node_zones[self.columns.index(zone.name)]
        return bool(ask_watermark(self.m, record, order, mark_kb // self.page_kb, highest, flags))


@contextmanager
def modelled(dump: Dump, nid: int, version: Version, columns: tuple[str, ...]) -> Iterator[Model]:
    """A machine with one node's zones."""
    zones = [_zone(dump, zone, version, columns) for zone in dump.zones if zone.nid == nid]
    asked = as_entries(ask_watermark)
    with Board.from_state(_state(zones), entries=asked, ring_capacity=1 << 8, script_size=1 << 12) as board:
        board.m.cma_enabled = 1
        yield Model(board, columns, dump.page_kb)


def _zone(dump: Dump, zone: DumpZone, version: Version, columns: tuple[str, ...]) -> State:
    zid, page = columns.index(zone.name), dump.page_kb
    start = (zid + 1) * ZONE_PAGES
    counters = [0] * NR_ZONE_STATS
    counters[NR_FREE_PAGES] = zone.kb["free"] // page
    counters[NR_FREE_CMA_PAGES] = zone.kb.get("free_cma", 0) // page
    reserve = (zone.lowmem_reserve + [0] * MAX_NR_ZONES)[:MAX_NR_ZONES]
    return {
        "nid": 0, "zid": zid, "name": zone.name, "start_pfn": start, "spanned": ZONE_PAGES, "present": ZONE_PAGES,
        "managed": ZONE_PAGES, "watermark": [zone.kb[name] // page for name in ("min", "low", "high")],
        "watermark_boost": 0, "lowmem_reserve": reserve, "flags": 0,
        "nr_reserved_highatomic": reserve_kb(dump, zone, version, dump.order) // page, "percpu_drift_mark": 0,
        "contiguous": 1, "initialized": 1, "compact": {}, "vm_stat": counters, "numa_stat": [], "pcp": [],
        "pageblocks": [], "free_area": _free_area(zone, start),
    }  # fmt: skip


def _free_area(zone: DumpZone, at: int) -> list[State]:
    areas: list[State] = [{"nr_free": 0, "lists": [[] for _ in range(MIGRATE_TYPES)]} for _ in range(MAX_ORDER)]
    for order in reversed(range(len(zone.counts))):  # the largest first: each block is aligned to its size
        areas[order]["nr_free"] = zone.counts[order]
        for letter in set(zone.letters[order]) & set(LETTERS) if zone.counts[order] else ():
            areas[order]["lists"][LETTERS.index(letter)].append(at)
            at += 1 << order
    return areas


def _state(zones: list[State]) -> dict[str, Any]:
    node = {
        "nid": 0, "start_pfn": ZONE_PAGES, "spanned": MAX_NR_ZONES * ZONE_PAGES, "present": len(zones) * ZONE_PAGES,
        "nr_zones": MAX_NR_ZONES, "kswapd_order": 0, "kswapd_failures": 0, "kswapd_highest_zoneidx": 0,
        "kswapd_waiting": 1, "kcompactd_max_order": 0, "pgdat_flags": 0, "zonelist_fallback": [],
        "zonelist_nofallback": [], "vm_stat": [0] * len(NODE_STAT_NAMES), "percpu": [],
    }  # fmt: skip
    sysctl = {
        "min_free_kbytes": 0, "watermark_boost_factor": 0, "watermark_scale_factor": 10, "percpu_pagelist_fraction": 0,
        "swappiness": 60, "lowmem_reserve_ratio": [256, 256, 32, 0],
    }  # fmt: skip
    return {
        "cpu_node": [0], "nodes_online": [0], "page_group_by_mobility_disabled": 0, "cpusets_enabled": 0,
        "node_reclaim_mode": 0, "gfp_allowed_mask": 0, "totalreserve_pages": 0, "jiffies": 0, "sysctl": sysctl,
        "vm_events": {}, "nodes": [node], "zones": zones,
    }  # fmt: skip
