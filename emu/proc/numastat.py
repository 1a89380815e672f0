"""/sys/devices/system/node/node*/numastat, and the table the numastat tool prints from them."""

from emu.proc.names import NUMASTAT_NAMES
from emu.proc.state import State, sum_zone_numa_state

__all__ = ("render", "render_node", "values")

_COLUMN = 16


def render(state: State) -> str:
    """Write the table `numastat` (numactl 2.0) prints without options to a pipe: all nodes side by side."""
    nids = [node["nid"] for node in state["nodes"]]
    columns = [values(state, nid) for nid in nids]
    lines = [" " * _COLUMN + "".join(f"{f'node{nid}':>{_COLUMN}}" for nid in nids)]
    for name in NUMASTAT_NAMES:
        lines.append(f"{name:<{_COLUMN}}" + "".join(f"{column[name]:>{_COLUMN}}" for column in columns))
    return "".join(f"{line}\n" for line in lines)


def render_node(state: State, nid: int) -> str:
    """Write one node's sysfs file as drivers/base/node.c:node_read_numastat() (5.10) does."""
    return "".join(f"{name} {value}\n" for name, value in values(state, nid).items())


def values(state: State, nid: int) -> dict[str, int]:
    """Return one node's counters by their name in the file, with the per-cpu differentials."""
    if nid not in (node["nid"] for node in state["nodes"]):
        raise ValueError(f"no node {nid}")
    counters: list[str] = state["numa_stat_names"]
    return {name: sum_zone_numa_state(state, nid, counters.index(counter)) for name, counter in NUMASTAT_NAMES.items()}
