"""/proc/pagetypeinfo: free pages by order and migratetype, and pageblocks by migratetype."""

from emu.proc.names import migratetype_names
from emu.proc.state import State, Zone, list_length, pageblock_counts, populated_zones

__all__ = ("FREE_LIST_CAP", "render")

FREE_LIST_CAP = 100000
"""The kernel walks a list under zone->lock, so it gives up here and prints `>100000`."""


def render(state: State) -> str:
    """Write the file as mm/vmstat.c:pagetypeinfo_show() (5.10) does, without CONFIG_PAGE_OWNER.

    Every node with memory repeats the whole header. Differs from 5.10: the kernel lets go of zone->lock after each
    number, so its numbers may be of different instants; here all are of the state's instant.
    """
    return "".join(_node(state, node["nid"]) for node in state["nodes"])


def _node(state: State, nid: int) -> str:
    zones = populated_zones(state, nid)
    if not zones:
        return ""
    names = migratetype_names(state["migrate_types"])
    order = state["pageblock_order"]
    head = f"Page block order: {order}\nPages per block:  {1 << order}\n\n"
    return head + _free(state, zones, names) + "\n" + _blocks(state, zones, names)


def _free(state: State, zones: list[Zone], names: tuple[str, ...]) -> str:
    """mm/vmstat.c:pagetypeinfo_showfree() (5.10)."""
    orders = range(state["max_order"])
    title = "Free pages count per migrate type at order"
    lines = [f"{title:<43} " + "".join(f"{order:6d} " for order in orders) + "\n"]
    for zone in zones:
        for migratetype, name in enumerate(names):
            counts = "".join(_count(list_length(zone, order, migratetype)) for order in orders)
            lines.append(f"Node {zone['nid']:4d}, zone {zone['name']:>8}, type {name:>12} {counts}\n")
    return "".join(lines)


def _count(length: int) -> str:
    return f">{FREE_LIST_CAP:6d} " if length >= FREE_LIST_CAP else f"{length:6d} "


def _blocks(state: State, zones: list[Zone], names: tuple[str, ...]) -> str:
    """mm/vmstat.c:pagetypeinfo_showblockcount() (5.10)."""
    lines = [f"{'Number of blocks type ':<23}" + "".join(f"{name:>12} " for name in names) + "\n"]
    for zone in zones:
        counts = "".join(f"{count:12d} " for count in pageblock_counts(state, zone))
        lines.append(f"Node {zone['nid']}, zone {zone['name']:>8} {counts}\n")
    return "".join(lines)
