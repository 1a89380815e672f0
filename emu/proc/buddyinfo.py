"""/proc/buddyinfo: free pages of each order in each populated zone."""

from emu.proc.state import State, populated_zones

__all__ = ("render",)


def render(state: State) -> str:
    """Write the file as mm/vmstat.c:frag_show() (5.10) does."""
    lines = []
    for node in state["nodes"]:
        for zone in populated_zones(state, node["nid"]):
            free = "".join(f"{area['nr_free']:6d} " for area in zone["free_area"])
            lines.append(f"Node {zone['nid']}, zone {zone['name']:>8} {free}\n")
    return "".join(lines)
