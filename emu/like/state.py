"""An allocator state made of what the files of another machine say.

What they say is kept: CPUs, nodes, zones with their first pfn, sizes and watermarks, free blocks by order and
migratetype, pageblocks by type, the pages and settings of pcp lists, sysctls. Where the blocks lie they don't say: the
types lie one after the other in each zone. What is in use is the kernel's own, which nobody frees and reclaim can't
take.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu.like.files import LikeError, cpu_nodes, read_sysctls, root_of
from emu.like.free import read_free
from emu.like.zone import FILE_LISTS, TYPES, LikeZone
from emu.like.zoneinfo import ZoneFacts, read_zoneinfo
from emu.zone.mmzone import MAX_NR_ZONES, MAX_ORDER, PAGE_SHIFT, PAGEBLOCK_ORDER
from emu.zone.snapshot import State
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, ZONE_STAT_NAMES

__all__ = ["Likeness", "like"]

MOST_PAGES = 128 << 18  # 128 GiB take a minute or two
DEFAULTS: dict[str, Any] = {
    "watermark_boost_factor": 15000, "watermark_scale_factor": 10,
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

    @property
    def file_pages(self) -> int:
        """In the page cache."""
        return sum(len(pfns) for lruvec in self.state["lruvecs"] for pfns, _ in lruvec["lists"].values())

    def __str__(self) -> str:
        free = sum(zone["vm_stat"][0] for zone in self.state["zones"])
        nodes, cpus = len(self.state["nodes"]), len(self.state["cpu_node"])
        return (
            f"{cpus} CPUs, {nodes} node{'s' if nodes > 1 else ''}, {self.managed_pages >> 8:,} MiB, "
            f"{free >> 8:,} MiB of it free, {self.file_pages >> 8:,} MiB page cache"
        )


def like(directory: Path) -> Likeness:
    """The machine that ``zoneinfo``, ``buddyinfo`` and, if it may be read, ``pagetypeinfo`` there describe."""
    root = root_of(directory)
    facts = read_zoneinfo(root / "zoneinfo")
    pages = sum(zone.pages["present"] for zone in facts)
    if pages > MOST_PAGES:
        raise LikeError(f"{root / 'zoneinfo'}: {pages >> 18} GiB; up to {MOST_PAGES >> 18} GiB can be copied")
    nodes = sorted({zone.nid for zone in facts})
    if nodes != list(range(len(nodes))):
        raise LikeError(f"{root / 'zoneinfo'}: nodes {nodes}: they must be numbered without a gap")
    typed = read_free(root, facts)
    cpus = 1 + max(max(zone.pcp) for zone in facts)
    zones = [LikeZone(zone, cpus) for zone in facts]
    notes = [
        f"{zone.facts.name}: {zone.moved} free blocks lie in pageblocks of another type" for zone in zones if zone.moved
    ]
    if not typed:
        notes.append("pagetypeinfo can't be read (it takes root): all memory is movable here")
    return Likeness(_machine(zones, cpu_nodes(root, cpus, nodes), _sysctl(root, facts)), tuple(notes))


def _sysctl(root: Path, facts: list[ZoneFacts]) -> dict[str, Any]:
    """Those that are there, and for the others what a kernel begins with."""
    low = sum(zone.pages["min"] - zone.pages.get("boost", 0) for zone in facts)
    sysctl: dict[str, Any] = {**DEFAULTS, "min_free_kbytes": low << (PAGE_SHIFT - 10)}
    for name, values in read_sysctls(root).items():
        sysctl[name] = (values + DEFAULTS[name])[:4] if name == "lowmem_reserve_ratio" else values[0]
    return sysctl


def _machine(made: list[LikeZone], cpu_node: list[int], sysctl: dict[str, Any]) -> State:
    nodes, zones = sorted({zone.facts.nid for zone in made}), [zone.state() for zone in made]
    lists = {nid: _file_lists([zone for zone in made if zone.facts.nid == nid]) for nid in nodes}
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
        "nodes": [_node(zones, nid, nodes, len(cpu_node), lists[nid]) for nid in nodes], "zones": zones,
        "lruvecs": [
            {"nid": nid, "lists": {name: [pfns, "0" * len(pfns)] for name, pfns in lists[nid].items()}} for nid in nodes
        ],
    }  # fmt: skip


def _file_lists(zones: list[LikeZone]) -> dict[str, list[int]]:
    return {name: [pfn for zone in zones for pfn in zone.file[name]] for name in FILE_LISTS}


def _node(zones: list[State], nid: int, nodes: list[int], cpus: int, lists: dict[str, list[int]]) -> State:
    own = [zone for zone in zones if zone["nid"] == nid]
    start = min(zone["start_pfn"] for zone in own)
    others = sorted(nodes, key=lambda other: (other != nid, other))
    by_node = {other: sorted((z["zid"] for z in zones if z["nid"] == other and z["managed"]), reverse=True)
               for other in nodes}  # fmt: skip
    threshold = max(pcp["stat_threshold"] for zone in own for pcp in zone["pcp"])
    counters = {f"nr_{name}": len(pfns) for name, pfns in lists.items()}
    counters["nr_file_pages"] = sum(counters.values())
    return {
        "nid": nid, "start_pfn": start, "spanned": max(z["start_pfn"] + z["spanned"] for z in own) - start,
        "present": sum(z["present"] for z in own), "nr_zones": 1 + max(z["zid"] for z in own), "kswapd_order": 0,
        "kswapd_failures": 0, "kswapd_highest_zoneidx": MAX_NR_ZONES, "kswapd_waiting": 1, "kcompactd_max_order": 0,
        "pgdat_flags": 0, "zonelist_fallback": [[other, zid] for other in others for zid in by_node[other]],
        "zonelist_nofallback": [[nid, zid] for zid in by_node[nid]],
        "vm_stat": [counters.get(name, 0) for name in NODE_STAT_NAMES],
        "percpu": [{"threshold": threshold, "diff": [0] * len(NODE_STAT_NAMES)} for _ in range(cpus)],
    }  # fmt: skip
