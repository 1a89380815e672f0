"""Sets of nodes as bit masks (``include/linux/nodemask.h``, ``lib/bitmap.c`` (5.10))."""

from emu.zone.mmzone import MAX_NUMNODES, ZONE_NORMAL, Machine
from shm.core import core


@core
def online_mask(m: Machine) -> int:
    """Nodes with memory: ``node_states[N_MEMORY]``."""
    mask = 0
    for nid in range(m.nr_nodes):
        if m.nodes[nid].node_present_pages != 0:
            mask |= 1 << nid
    return mask


@core(cold=True)
def movable_only_nodes(m: Machine, nodes: int) -> bool:
    """``movable_only_nodes()``: nothing for the kernel's own allocations is on any of these nodes."""
    if nodes == 0:
        return False
    for nid in range(m.nr_nodes):
        if nodes >> nid & 1 != 0:
            for zid in range(ZONE_NORMAL + 1):
                if m.nodes[nid].node_zones[zid].managed_pages != 0:
                    return False
    return True


@core
def nodes_weight(mask: int) -> int:
    """``nodes_weight()``"""
    count = 0
    for nid in range(MAX_NUMNODES):
        count += mask >> nid & 1
    return count


@core
def first_node(mask: int) -> int:
    """``first_node()``: MAX_NUMNODES for the empty set."""
    nid = 0
    while nid < MAX_NUMNODES and mask >> nid & 1 == 0:
        nid += 1
    return nid


@core
def ord_to_node(mask: int, n: int) -> int:
    """``bitmap_ord_to_pos()``: the n-th node of the set, from 0."""
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1 != 0:
            if n == 0:
                return nid
            n -= 1
    return MAX_NUMNODES


@core
def node_remap(nid: int, old: int, new: int) -> int:
    """``node_remap()``: the node that has in ``new`` the place that ``nid`` has in ``old``; itself if it has none."""
    if old >> nid & 1 == 0 or new == 0:
        return nid
    return ord_to_node(new, nodes_weight(old & ((1 << nid) - 1)) % nodes_weight(new))


@core
def nodes_remap(mask: int, old: int, new: int) -> int:
    """``nodes_remap()``: every node of the set remapped."""
    result = 0
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1 != 0:
            result |= 1 << node_remap(nid, old, new)
    return result


@core
def nodes_fold(mask: int, size: int) -> int:
    """``nodes_fold()``: every node modulo ``size``."""
    result = 0
    for nid in range(MAX_NUMNODES):
        if mask >> nid & 1 != 0 and size != 0:
            result |= 1 << nid % size
    return result


@core
def nodes_onto(mask: int, rel: int) -> int:
    """``nodes_onto()``: bit n of the set stands for the n-th node of ``rel``."""
    result = 0
    n = 0
    for nid in range(MAX_NUMNODES):
        if rel >> nid & 1 != 0:
            if mask >> n & 1 != 0:
                result |= 1 << nid
            n += 1
    return result
