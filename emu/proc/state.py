"""The plain data the formatters read, and the counters the kernel derives from it.

A state is a dict in the shape of a recorded case's before.json. Two large lists may be replaced by counts:

- `zone["free_area"][order]["counts"][migratetype]` instead of `["lists"][migratetype]`;
- `zone["pageblock_counts"][migratetype]` instead of `zone["pageblocks"]`.

Zones without memory may be left out. `zone["pcp"]` has the online CPUs.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from emu.proc.names import ZONE_NAMES

__all__ = (
    "PAGE_SHIFT",
    "State",
    "Zone",
    "global_node_page_state",
    "global_numa_state",
    "global_zone_page_state",
    "list_length",
    "node_zones",
    "page_state",
    "pageblock_counts",
    "populated_zone",
    "populated_zones",
    "sum_zone_numa_state",
    "wmark_pages",
    "zone_numa_state_snapshot",
)

State = Mapping[str, Any]
Zone = Mapping[str, Any]

PAGE_SHIFT = 12

_RUN = re.compile(r"(\D)(\d+)")


def populated_zone(zone: Zone) -> bool:
    """Tell if the zone has pages, as include/linux/mmzone.h:populated_zone() (5.10)."""
    return bool(zone["present"] > 0)


def node_zones(state: State, nid: int) -> list[Zone]:
    """Return all zones of a node by zone index, with an empty one for each zone the state leaves out."""
    known = {zone["zid"]: zone for zone in state["zones"] if zone["nid"] == nid}
    nr_zones: int = state["max_nr_zones"]
    return [known[zid] if zid in known else _empty_zone(nid, zid, nr_zones) for zid in range(nr_zones)]


def _empty_zone(nid: int, zid: int, nr_zones: int) -> Zone:
    # lowmem_reserve is all 0 too: setup_per_zone_lowmem_reserve() clears it where managed is 0.
    return {
        "nid": nid,
        "zid": zid,
        "name": ZONE_NAMES[zid],
        "start_pfn": 0,
        "spanned": 0,
        "present": 0,
        "managed": 0,
        "watermark": [0, 0, 0],
        "watermark_boost": 0,
        "lowmem_reserve": [0] * nr_zones,
        "vm_stat": [0],
    }


def populated_zones(state: State, nid: int) -> list[Zone]:
    """Return the zones of a node that have pages, by zone index."""
    return [zone for zone in node_zones(state, nid) if populated_zone(zone)]


def list_length(zone: Zone, order: int, migratetype: int) -> int:
    """Return how many pages are on one free list."""
    area = zone["free_area"][order]
    return int(area["counts"][migratetype]) if "counts" in area else len(area["lists"][migratetype])


def pageblock_counts(state: State, zone: Zone) -> list[int]:
    """Count the pageblocks of each migratetype, as mm/vmstat.c:pagetypeinfo_showblockcount_print() (5.10).

    The kernel looks at one page in each block, at the zone's first pfn and every pageblock_nr_pages after it. The block
    counts if that page exists and is linked to this zone, which the pages of a hole need not be.
    """
    migrate_types = state["migrate_types"]
    if "pageblock_counts" in zone:
        return [int(count) for count in zone["pageblock_counts"][:migrate_types]]
    counts = [0] * migrate_types
    pageblock_nr_pages = 1 << state["pageblock_order"]
    offset = zone["start_pfn"] % pageblock_nr_pages
    # A zone that starts inside a block and ends before that offset in its last block never has the last one looked at.
    seen = -(-zone["spanned"] // pageblock_nr_pages)
    for _, migratetype, _, page_map in zone["pageblocks"][:seen]:
        if 0 <= migratetype < migrate_types and _page_class(page_map, offset) not in "zx":
            counts[migratetype] += 1
    return counts


def _page_class(page_map: str, offset: int) -> str:
    """Return the letter of the page at `offset` in a pageblock's run-length map; `+` if the map does not say."""
    for run in _RUN.finditer(page_map):
        letter, length = run[1], int(run[2])
        offset -= 1 << length if letter == "b" else length
        if offset < 0:
            return letter
    return "+"


def wmark_pages(zone: Zone, index: int) -> int:
    """Return a watermark with the boost, as include/linux/mmzone.h:wmark_pages() (5.10)."""
    return int(zone["watermark"][index] + zone["watermark_boost"])


def page_state(value: int) -> int:
    """Return a counter as zone_page_state() and its kin (include/linux/vmstat.h, 5.10) read it.

    The per-cpu differentials are left out, so a counter may be below 0 for a while: it then reads as 0.
    """
    return max(int(value), 0)


def zone_numa_state_snapshot(zone: Zone, item: int) -> int:
    """Return a numa counter with its per-cpu differentials (include/linux/vmstat.h, 5.10)."""
    return int(zone["numa_stat"][item]) + sum(int(pcp["numa_stat_diff"][item]) for pcp in zone["pcp"])


def sum_zone_numa_state(state: State, nid: int, item: int) -> int:
    """Return a numa counter of a node with the per-cpu differentials, as mm/vmstat.c:sum_zone_numa_state() (5.10)."""
    return sum(zone_numa_state_snapshot(zone, item) for zone in state["zones"] if zone["nid"] == nid)


def global_zone_page_state(state: State) -> dict[str, int]:
    """Return the machine's zone counters by name, without per-cpu differentials (include/linux/vmstat.h, 5.10)."""
    totals = _totals(state["zone_stat_names"], (zone["vm_stat"] for zone in state["zones"]))
    return {name: page_state(total) for name, total in totals.items()}


def global_numa_state(state: State) -> dict[str, int]:
    """Return the machine's numa counters by name, without per-cpu differentials (include/linux/vmstat.h, 5.10)."""
    return _totals(state["numa_stat_names"], (zone["numa_stat"] for zone in state["zones"]))


def global_node_page_state(state: State) -> dict[str, int]:
    """Return the machine's node counters by name, without per-cpu differentials (include/linux/vmstat.h, 5.10).

    5.10 keeps slab counters in pages here, though callers give them in bytes; nr_kernel_stack is in KiB, and the
    huge page counters are in huge pages.
    """
    totals = _totals(state["node_stat_names"], (node["vm_stat"] for node in state["nodes"]))
    return {name: page_state(total) for name, total in totals.items()}


def _totals(names: list[str], rows: Iterable[list[int]]) -> dict[str, int]:
    totals = dict.fromkeys(names, 0)
    for row in rows:
        for name, value in zip(names, row, strict=True):
            totals[name] += int(value)
    return totals
