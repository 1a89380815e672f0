"""The whole state of the allocator as plain data, into a machine."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from emu.zone.boot import Shape, ZoneShape
from emu.zone.init import party_of
from emu.zone.mm_types import MAX_FILES, MAX_MMS, Vm
from emu.zone.mmzone import NODESTAT_SIZE, PAGEBLOCK_ORDER, Machine, NodeStat, Zone
from emu.zone.types import ListHead
from emu.zone.page import (
    PAGE_MAPPING_MOVABLE, PG_buddy, PG_head, PG_lru, PG_reserved, PG_slab, PG_swapbacked, PG_table, TAIL_MAPPING,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED, PB_SKIP
from emu.zone.vmstat_items import VM_EVENT_NAMES
from shm.struct import address_of, record_at
from emu.zone.snapshot import State, StateError, INDEX_BEFORE, mem_map, pageblocks, pageset_of


def shape_of_state(state: State) -> Shape:
    """The geometry that a state describes."""
    try:
        zones = tuple(
            ZoneShape(z["nid"], z["zid"], z["start_pfn"], z["spanned"], z["present"], z["managed"])
            for z in state["zones"]
        )
        cpus, nodes = tuple(state["cpu_node"]), max(state["nodes_online"]) + 1
        files, mms = min(MAX_FILES, max(64, 2 * len(cpus) + 17)), min(MAX_MMS, max(64, 8 * len(cpus)))
        return Shape(cpus, zones, nodes, files=files, mms=mms)
    except (KeyError, TypeError, ValueError) as err:
        raise StateError(f"not an allocator state: {type(err).__name__} {err}") from err


def load_state(m: Machine, state: State) -> None:
    """Make the machine's state the given one. Its records are initialised (``init_records``), its memory empty."""
    for name in ("page_group_by_mobility_disabled", "cpusets_enabled", "node_reclaim_mode", "gfp_allowed_mask"):
        setattr(m, name, state[name])
    record_at(Vm, address_of(m) + m.vm).recorded = 1
    m.totalreserve_pages = state["totalreserve_pages"]
    m.jiffies = state["jiffies"]
    sysctl = state["sysctl"]
    for name in ("min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor", "percpu_pagelist_fraction"):
        setattr(m, name, sysctl[name])
    m.swappiness = sysctl["swappiness"]
    for i, ratio in enumerate(sysctl["lowmem_reserve_ratio"]):
        m.lowmem_reserve_ratio[i] = ratio
    for name, count in state["vm_events"].items():
        if name in VM_EVENT_NAMES:
            party_of(m, 0).vm_events[VM_EVENT_NAMES.index(name)] = count
    pages, blocks = mem_map(m), pageblocks(m)
    for z in state["zones"]:
        _zone_in(m, z, pages, blocks)
    for n in state["nodes"]:
        _node_in(m, n)


def _node_in(m: Machine, n: State) -> None:
    node, base = m.nodes[n["nid"]], address_of(m)
    for name in ("kswapd_order", "kswapd_failures", "kswapd_highest_zoneidx", "kcompactd_max_order", "pgdat_flags"):
        setattr(node, name, n[name])
    # a state has only the machine's sum of this; it was computed without boost
    node.totalreserve_pages = sum(
        min(max(z.lowmem_reserve) + z.watermark[2], z.managed_pages) for z in node.node_zones if z.present_pages
    )
    node.nr_zones, node.node_start_pfn = n["nr_zones"], n["start_pfn"]
    node.node_spanned_pages, node.node_present_pages = n["spanned"], n["present"]
    node.kswapd_wait.state = n["kswapd_waiting"]
    for which, refs in enumerate((n["zonelist_fallback"], n["zonelist_nofallback"])):
        zonerefs = node.node_zonelists[which].zonerefs
        for i, (nid, zid) in enumerate(refs):
            zone = m.nodes[nid].node_zones[zid]
            zonerefs[i].zone, zonerefs[i].zone_idx, zonerefs[i].node = address_of(zone) - base, zid, nid
        zonerefs[len(refs)].zone = 0
    for i, value in enumerate(n["vm_stat"]):
        node.vm_stat[i].counter = value
    for i, percpu in enumerate(n["percpu"]):
        stat = record_at(NodeStat, base + node.per_cpu_nodestats + i * NODESTAT_SIZE)
        stat.stat_threshold = percpu["threshold"]
        for k, diff in enumerate(percpu["diff"]):
            stat.vm_node_stat_diff[k] = diff


def _zone_in(m: Machine, z: State, pages: np.ndarray[Any, Any], blocks: np.ndarray[Any, Any]) -> None:
    zone = m.nodes[z["nid"]].node_zones[z["zid"]]
    zone.managed_pages, zone.watermark_boost, zone.zone_flags = z["managed"], z["watermark_boost"], z["flags"]
    zone.nr_reserved_highatomic, zone.percpu_drift_mark = z["nr_reserved_highatomic"], z["percpu_drift_mark"]
    zone.contiguous, zone.initialized = z["contiguous"], z["initialized"]
    for i in range(3):
        zone.watermark[i] = z["watermark"][i]
    for i, value in enumerate(z["lowmem_reserve"]):
        zone.lowmem_reserve[i] = value
    for i, value in enumerate(z["vm_stat"]):
        zone.vm_stat[i].counter = value
    for i, value in enumerate(z["numa_stat"]):
        zone.numa_stat[i].counter = value
    for name, value in z["compact"].items():
        if name == "cached_migrate_pfn":
            zone.compact.cached_migrate_pfn[0], zone.compact.cached_migrate_pfn[1] = value
        else:
            setattr(zone.compact, name, value)
    _blocks_in(zone, z, pages, blocks)
    for order, area in enumerate(z["free_area"]):
        zone.free_area[order].nr_free = area["nr_free"]
        for mt, pfns in enumerate(area["lists"]):
            _list_in(m, zone.free_area[order].free_list[mt], pfns, pages)
    for p in z["pcp"]:
        pset = pageset_of(m, zone, p["cpu"])
        for name in ("count", "high", "batch", "expire", "stat_threshold"):
            setattr(pset, name, p[name])
        for i, value in enumerate(p["vm_stat_diff"]):
            pset.vm_stat_diff[i] = value
        for i, value in enumerate(p["numa_stat_diff"]):
            pset.numa_stat_diff[i] = value
        for mt, pfns in enumerate(p["lists"]):
            _list_in(m, pset.lists[mt], pfns, pages)
            pages["index"][pfns] = p["stamps"][mt]


def _list_in(m: Machine, head: ListHead, pfns: list[int], pages: np.ndarray[Any, Any]) -> None:
    here = (address_of(head) - address_of(m)) >> 2
    links = np.array([here, *(m.mem_map_link + (pfn << 3) for pfn in pfns), here], np.int64)
    head.next, head.prev = int(links[1]), int(links[-2])
    if pfns:
        pages["lru"]["next"][pfns] = links[2:]
        pages["lru"]["prev"][pfns] = links[:-2]


_RUN_FLAGS = {"R": PG_reserved, "S": PG_slab, "A": PG_lru | PG_swapbacked, "F": PG_lru, "T": PG_table}


def _blocks_in(zone: Zone, z: State, pages: np.ndarray[Any, Any], blocks: np.ndarray[Any, Any]) -> None:
    bits = zone.zid | zone.node << 2
    for start, migratetype, skip, text in z["pageblocks"]:
        if migratetype < 0:
            continue
        blocks[start >> PAGEBLOCK_ORDER] = migratetype | PB_SKIP * skip | PB_INITIALISED
        at = start
        for kind, count in _runs(text):
            size = 1 << count if kind == "b" else count
            if kind in "zx":
                at += size
                continue
            part = pages[at : at + size]
            part["page_flags"] = bits
            part["mapcount"] = -1
            if kind == "b":
                pages["page_flags"][at] |= PG_buddy
                pages["private"][at] = count
            else:
                _run_in(part, kind, at, pages)
            at += size


def _run_in(part: np.ndarray[Any, Any], kind: str, at: int, pages: np.ndarray[Any, Any]) -> None:
    part["page_flags"] |= np.uint32(_RUN_FLAGS.get(kind, 0))
    part["refcount"] = 0 if kind in "psc" else 1
    part["index"] = INDEX_BEFORE if kind not in "psc" else 0
    if kind == "M":
        part["mapping"] = PAGE_MAPPING_MOVABLE
    elif kind in "sc":  # tails of the head right before them
        part["mapping"] = TAIL_MAPPING
        pages["page_flags"][at - 1] |= PG_head
        pages["private"][at] = len(part).bit_length()


def _runs(text: str) -> Iterator[tuple[str, int]]:
    """``b3R16`` -> (b, 3), (R, 16); ``+``: nothing of its own."""
    at = 0
    while at < len(text) and text != "+":
        end = at + 1
        while end < len(text) and text[end].isdigit():
            end += 1
        yield text[at], int(text[at + 1 : end])
        at = end
