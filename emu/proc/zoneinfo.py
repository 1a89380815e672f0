"""/proc/zoneinfo: watermarks, sizes, counters and pagesets of every zone, populated or not."""

from typing import Any

from emu.proc.state import State, Zone, node_zones, page_state, populated_zone, wmark_pages, zone_numa_state_snapshot

__all__ = ("MAX_RECLAIM_RETRIES", "render")

MAX_RECLAIM_RETRIES = 16
"""mm/internal.h (5.10): a node whose kswapd failed so often is unreclaimable."""


def render(state: State) -> str:
    """Write the file as mm/vmstat.c:zoneinfo_show() (5.10) does."""
    lines: list[str] = []
    for node in state["nodes"]:
        zones = node_zones(state, node["nid"])
        first_populated = next((zone for zone in zones if populated_zone(zone)), None)
        for zone in zones:
            lines.append(f"Node {zone['nid']}, zone {zone['name']:>8}")
            if zone is first_populated:
                lines += _node_stats(state, node)
            lines += _pages(zone)
            if populated_zone(zone):
                lines += _zone_stats(state, zone)
                lines += _pagesets(zone)
                lines.append(f"  node_unreclaimable:  {int(node['kswapd_failures'] >= MAX_RECLAIM_RETRIES)}")
                lines.append(f"  start_pfn:           {zone['start_pfn']}")
    return "".join(f"{line}\n" for line in lines)


def _stat(name: str, value: int) -> str:
    return f"      {name:<12} {value}"


def _node_stats(state: State, node: dict[str, Any]) -> list[str]:
    names = state["node_stat_names"]
    stats = [_stat(name, page_state(value)) for name, value in zip(names, node["vm_stat"], strict=True)]
    return ["  per-node stats", *stats]


def _pages(zone: Zone) -> list[str]:
    """Return the lines every zone has. min, low and high include watermark_boost: 5.10 has no boost line."""
    return [
        f"  pages free     {page_state(zone['vm_stat'][0])}",
        f"        min      {wmark_pages(zone, 0)}",
        f"        low      {wmark_pages(zone, 1)}",
        f"        high     {wmark_pages(zone, 2)}",
        f"        spanned  {zone['spanned']}",
        f"        present  {zone['present']}",
        f"        managed  {zone['managed']}",
        f"        protection: ({', '.join(str(reserve) for reserve in zone['lowmem_reserve'])})",
    ]


def _zone_stats(state: State, zone: Zone) -> list[str]:
    """Return the counters. Only the numa ones include the per-cpu differentials."""
    stats = zip(state["zone_stat_names"], zone["vm_stat"], strict=True)
    numa = enumerate(state["numa_stat_names"])
    return [_stat(name, page_state(value)) for name, value in stats] + [
        _stat(name, zone_numa_state_snapshot(zone, item)) for item, name in numa
    ]


def _pagesets(zone: Zone) -> list[str]:
    lines = ["  pagesets"]
    for pcp in zone["pcp"]:
        lines += [
            f"    cpu: {pcp['cpu']}",
            f"              count: {pcp['count']}",
            f"              high:  {pcp['high']}",
            f"              batch: {pcp['batch']}",
            f"  vm stats threshold: {pcp['stat_threshold']}",
        ]
    return lines
