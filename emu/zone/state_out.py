"""The whole state of the allocator as plain data, out of a machine.

``light`` leaves out what grows with memory (list members, pageblock maps) and gives counts instead.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from emu.zone.init import party_of, zones_of
from emu.zone.mm_types import Vm
from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_ORDER, MIGRATE_PCPTYPES, MIGRATETYPE_NAMES, NODESTAT_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER,
    ZONE_NAMES, FreeArea, Machine, NodeStat, Zone,
)  # fmt: skip
from emu.zone.page import (
    PG_buddy, PG_lru, PG_reserved, PG_swapbacked,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE, PB_SKIP
from emu.zone.undisturbed import undisturbed
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, VM_EVENT_NAMES, ZONE_STAT_NAMES
from shm.struct import address_of, record_at, records_at
from emu.zone.snapshot import State, mem_map, pageblocks, pageset_of, walk, list_count


def state_of(m: Machine, light: bool = False) -> State:
    """The machine's state now. Stop the CPUs first for a consistent one."""
    types = 4 if not m.cma_enabled else 6
    events = np.zeros(len(VM_EVENT_NAMES), np.int64)
    for i in range(m.nr_parties):
        events += np.array(party_of(m, i).vm_events[:], np.int64)
    return {
        "kernel": "5.10", "hz": 250, "jiffies": m.jiffies, "cpus": m.nr_cpus, "cpus_possible": m.nr_cpus,
        "nodes_online": list(range(m.nr_nodes)), "cpu_node": [party_of(m, i).node for i in range(m.nr_cpus)],
        "max_order": MAX_ORDER, "pageblock_order": PAGEBLOCK_ORDER, "max_nr_zones": MAX_NR_ZONES,
        "migrate_types": types, "pcptypes": MIGRATE_PCPTYPES,
        "page_group_by_mobility_disabled": m.page_group_by_mobility_disabled, "cpusets_enabled": m.cpusets_enabled,
        "node_reclaim_mode": m.node_reclaim_mode, "totalreserve_pages": m.totalreserve_pages,
        "gfp_allowed_mask": m.gfp_allowed_mask,
        "sysctl": {
            "min_free_kbytes": m.min_free_kbytes, "watermark_boost_factor": m.watermark_boost_factor,
            "watermark_scale_factor": m.watermark_scale_factor,
            "percpu_pagelist_fraction": m.percpu_pagelist_fraction, "zone_reclaim_mode": m.node_reclaim_mode,
            "swappiness": m.swappiness, "lowmem_reserve_ratio": list(m.lowmem_reserve_ratio),
        },
        **_swap_out(m), "zone_stat_names": list(ZONE_STAT_NAMES), "node_stat_names": list(NODE_STAT_NAMES),
        "numa_stat_names": list(NUMA_STAT_NAMES),
        "vm_events": dict(zip(VM_EVENT_NAMES, (int(e) for e in events), strict=True)),
        "nodes": [_node_out(m, nid) for nid in range(m.nr_nodes)],
        "zones": [_zone_out(m, zone, types, light) for zone in zones_of(m)],
    }  # fmt: skip


def _swap_out(m: Machine) -> State:
    """Free slots of the swap device; with one, what ``si_swapinfo()`` and ``show_swap_cache_info()`` say of it."""
    swap = record_at(Vm, address_of(m) + m.vm).swap
    if not swap.pages:
        return {"nr_swap_pages": 0}
    cache = [swap.add_total, swap.del_total, swap.find_success, swap.find_total]
    about = {"totalswap": swap.pages, "swapcache": swap.nrpages, "swap_cache_info": cache}
    return {"nr_swap_pages": swap.pages - swap.inuse_pages, "sysinfo": about}


def _node_out(m: Machine, nid: int) -> State:
    node = m.nodes[nid]
    lists = []
    for zonelist in node.node_zonelists:
        refs = []
        for ref in zonelist.zonerefs:
            if ref.zone == 0:
                break
            refs.append([ref.node, ref.zone_idx])
        lists.append(refs)
    percpu = []
    for i in range(m.nr_cpus):
        stat = record_at(NodeStat, address_of(m) + node.per_cpu_nodestats + i * NODESTAT_SIZE)
        percpu.append({"threshold": stat.stat_threshold, "diff": list(stat.vm_node_stat_diff)})
    return {
        "nid": nid, "start_pfn": node.node_start_pfn, "spanned": node.node_spanned_pages,
        "present": node.node_present_pages, "nr_zones": node.nr_zones, "kswapd_order": node.kswapd_order,
        "kswapd_failures": node.kswapd_failures, "kswapd_highest_zoneidx": node.kswapd_highest_zoneidx,
        "kswapd_waiting": int(node.kswapd_wait.state & 0xFFFFFFFF != 0),
        "kcompactd_max_order": node.kcompactd_max_order,
        "pgdat_flags": node.pgdat_flags, "zonelist_fallback": lists[0], "zonelist_nofallback": lists[1],
        "vm_stat": [v.counter for v in node.vm_stat], "percpu": percpu,
    }  # fmt: skip


def _zone_out(m: Machine, zone: Zone, types: int, light: bool) -> State:
    out: State = {
        "nid": zone.node, "zid": zone.zid, "name": ZONE_NAMES[zone.zid], "start_pfn": zone.zone_start_pfn,
        "spanned": zone.spanned_pages, "present": zone.present_pages, "managed": zone.managed_pages,
        "watermark": list(zone.watermark), "watermark_boost": zone.watermark_boost,
        "lowmem_reserve": list(zone.lowmem_reserve), "flags": zone.zone_flags,
        "nr_reserved_highatomic": zone.nr_reserved_highatomic, "percpu_drift_mark": zone.percpu_drift_mark,
        "contiguous": zone.contiguous, "initialized": zone.initialized, "all_unreclaimable": 0,
        "compact": _compact_out(zone), "vm_stat": [v.counter for v in zone.vm_stat],
        "numa_stat": [v.counter for v in zone.numa_stat],
        "free_area": _area_counts(m, zone, types) if light else _areas_out(m, zone, types),
        "pcp": [_pcp_out(m, zone, i, light) for i in range(m.nr_cpus)],
    }  # fmt: skip
    if light:
        first = zone.zone_start_pfn >> PAGEBLOCK_ORDER
        last = -(-(zone.zone_start_pfn + zone.spanned_pages) // PAGEBLOCK_NR_PAGES)
        bits = pageblocks(m)[first:last]
        bits = bits[bits & PB_OFFLINE == 0]
        if zone.spanned_pages - zone.present_pages >= PAGEBLOCK_NR_PAGES:  # only recorded machines have such holes
            bits = bits[bits != 0]
        counts = np.bincount(bits & PB_MIGRATE, minlength=len(MIGRATETYPE_NAMES))
        out["pageblock_counts"] = [int(c) for c in counts[:types]]
    else:
        out["pageblocks"] = list(_blocks_out(m, zone))
    return out


def _compact_out(zone: Zone) -> State:
    c = zone.compact
    return {
        "cached_free_pfn": c.cached_free_pfn, "cached_migrate_pfn": list(c.cached_migrate_pfn),
        "init_migrate_pfn": c.init_migrate_pfn, "init_free_pfn": c.init_free_pfn, "considered": c.considered,
        "defer_shift": c.defer_shift, "order_failed": c.order_failed, "blockskip_flush": c.blockskip_flush,
    }  # fmt: skip


def _areas_out(m: Machine, zone: Zone, types: int) -> list[State]:
    return [
        {
            "nr_free": area.nr_free,
            "lists": [list(walk(m, area.free_list[mt], zone.spanned_pages + 1)) for mt in range(types)],
        }
        for area in zone.free_area
    ]


def _area_counts(m: Machine, zone: Zone, types: int) -> list[State]:
    """All ``nr_free`` under one lock and the lists of each order under its own, as far as that can be had by looking:
    what buddyinfo and pagetypeinfo print."""
    limit = zone.spanned_pages + 1

    def counts(area: FreeArea) -> list[int]:
        return [list_count(m, area.free_list[mt], limit) for mt in range(types)]

    areas = records_at(FreeArea, address_of(zone.free_area[0]), MAX_ORDER)["nr_free"]
    nr_free = undisturbed(zone, areas.tolist, 1000)
    return [
        {"nr_free": free, "counts": undisturbed(zone, partial(counts, area), 3)}
        for free, area in zip(nr_free, zone.free_area, strict=True)
    ]


def _pcp_out(m: Machine, zone: Zone, index: int, light: bool) -> State:
    p = pageset_of(m, zone, index)
    out: State = {
        "cpu": index, "count": p.count, "high": p.high, "batch": p.batch, "expire": p.expire,
        "stat_threshold": p.stat_threshold, "vm_stat_diff": list(p.vm_stat_diff),
        "numa_stat_diff": list(p.numa_stat_diff),
    }  # fmt: skip
    if not light:
        pages = mem_map(m)
        out["lists"] = [list(walk(m, head, zone.spanned_pages + 1)) for head in p.lists]
        out["stamps"] = [[int(pages["index"][pfn]) for pfn in pfns] for pfns in out["lists"]]
    return out


def _blocks_out(m: Machine, zone: Zone) -> Iterator[list[Any]]:
    """Pageblocks with the map of their free blocks; other pages are "u" (in use) or "p" (refcount 0)."""
    pages, blocks = mem_map(m), pageblocks(m)
    end = zone.zone_start_pfn + zone.spanned_pages
    covered = 0
    for pfn in range(zone.zone_start_pfn & -PAGEBLOCK_NR_PAGES, end, PAGEBLOCK_NR_PAGES):
        bits = int(blocks[pfn >> PAGEBLOCK_ORDER])
        head = [pfn, bits & PB_MIGRATE, int(bits & PB_SKIP != 0)]
        if pfn < covered:
            yield [*head, "+"]
            continue
        if bits & PB_INITIALISED == 0 and not pages["page_flags"][pfn] & PG_buddy:
            yield [pfn, -1, -1, ""]  # a hole, or struct pages that are still deferred
            continue
        text, at = [], pfn
        while at < pfn + PAGEBLOCK_NR_PAGES:
            if pages["page_flags"][at] & PG_buddy:
                order = int(pages["private"][at])
                text.append(f"b{order}")
                at += 1 << order
                continue
            kind, run = _class_of(pages[at]), 0
            while at < pfn + PAGEBLOCK_NR_PAGES and _class_of(pages[at]) == kind:
                at, run = at + 1, run + 1
            text.append(f"{kind}{run}")
        covered = at
        yield [*head, "".join(text)]


def _class_of(page: Any) -> str:
    flags = int(page["page_flags"])
    if flags & PG_buddy:
        return "b"
    if flags & PG_reserved:
        return "R"
    if flags & PG_lru:
        return "A" if flags & PG_swapbacked else "F"
    return "u" if page["refcount"] or page["lru"]["next"] & 1 else "p"
