"""The whole state of the allocator as plain data, out and in.

The shape is that of the recorded kernel cases (``before.json``): a machine's state can be compared with a real
kernel's, printed as /proc files, stored, and loaded into a machine of the same geometry. ``light`` leaves out what
grows with memory (list members, pageblock maps) and gives counts instead.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from emu.zone.boot import Shape, ZoneShape
from emu.zone.init import party_of, zones_of
from emu.zone.mm_types import MAX_FILES, MAX_MMS, Vm
from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_ORDER, MIGRATE_PCPTYPES, MIGRATETYPE_NAMES, NODESTAT_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER,
    PAGESET_SIZE, ZONE_NAMES, FreeArea, ListHead, Machine, NodeStat, Page, PageBlock, Pageset, Zone,
)  # fmt: skip
from emu.zone.page import (
    PAGE_MAPPING_MOVABLE, PG_buddy, PG_head, PG_lru, PG_reserved, PG_slab, PG_swapbacked, PG_table, TAIL_MAPPING,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_OFFLINE, PB_SKIP
from emu.zone.undisturbed import undisturbed
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, VM_EVENT_NAMES, ZONE_STAT_NAMES
from shm.struct import Struct, address_of, record_at, records_at

State = dict[str, Any]


INDEX_BEFORE = 0xB4  # ``page.index`` of a page in use that nobody here allocated: it was so in the loaded state


class StateError(ValueError):
    """A state that can't be loaded: what is wrong with it, in one line."""


def view(m: Machine, kind: type[Struct], offset: int, count: int) -> np.ndarray[Any, Any]:
    """A numpy view of ``count`` records at an offset of the segment."""
    return records_at(kind, address_of(m) + offset, count)


def mem_map(m: Machine) -> np.ndarray[Any, Any]:
    """All struct pages, by pfn."""
    return view(m, Page, m.mem_map, m.max_pfn)


def pageblocks(m: Machine) -> np.ndarray[Any, Any]:
    """All pageblocks' bits, by pfn >> 9."""
    return view(m, PageBlock, m.pageblocks, m.max_pfn >> PAGEBLOCK_ORDER)["bits"]


def pageset_of(m: Machine, zone: Zone, index: int) -> Pageset:
    """A party's pageset of a zone."""
    return record_at(Pageset, address_of(m) + zone.pageset + index * PAGESET_SIZE)


def walk(m: Machine, head: ListHead, limit: int) -> Iterator[int]:
    """pfns on a list, head first. Stops with an error where a list is longer than the zone has pages."""
    base = address_of(m)
    here = (address_of(head) - base) >> 2
    link = head.next
    seen = 0
    while link != here:
        if seen > limit or not 0 <= (link - m.mem_map_link) >> 3 < m.max_pfn:
            raise StateError(f"list at offset {here << 2:#x} is corrupt after {seen} entries (link {link:#x})")
        yield (link - m.mem_map_link) >> 3
        link = ListHead.from_address(base + (link << 2)).next
        seen += 1


def walk_running(m: Machine, head: ListHead, limit: int) -> list[int]:
    """``walk()`` in a running machine, whose lists change under it: it begins again when it loses its way."""
    for _ in range(100):
        try:
            return list(walk(m, head, limit))
        except StateError:
            continue
    raise StateError("the lists change too fast to be walked: try again when the machine is idle")


def list_count(m: Machine, head: ListHead, limit: int) -> int:
    """Entries on a list of a running machine."""
    return len(walk_running(m, head, limit))


# --- out ---


def nr_free_pages(m: Machine) -> int:
    """Pages on free lists and pcp lists, by the lists' own counts."""
    found = 0
    for zone in (m.nodes[nid].node_zones[zid] for nid in range(m.nr_nodes) for zid in range(MAX_NR_ZONES)):
        found += sum(zone.free_area[order].nr_free << order for order in range(MAX_ORDER))
        found += sum(pageset_of(m, zone, index).count for index in range(m.nr_parties))
    return int(found)


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


# --- in ---


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
