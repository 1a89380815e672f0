"""Which zones an allocation may use, in which order (``include/linux/mmzone.h`` (5.10))."""

from emu.zone.gfp import __GFP_THISNODE
from emu.zone.alloc_context import NODEMASK_GIVEN, NODEMASK_MEMS_ALLOWED, NODEMASK_NONE, NODEMASK_POLICY, AllocContext
from emu.zone.mmzone import Cpu, Machine, zonelist_at
from emu.zone.sched import task_at
from shm.atomic import address
from shm.core import core


@core(inline=True)
def nodemask_kind(nodemask: int) -> int:
    """What kind a nodemask is that was handed over; 0: NULL, NODES_OF_POLICY: that of the task's policy."""
    if nodemask == 0:
        return NODEMASK_NONE
    return NODEMASK_GIVEN if nodemask > 0 else NODEMASK_POLICY


@core(inline=True)
def nodemask_of(m: Machine, cpu: Cpu, ac: AllocContext) -> int:
    """The nodes an allocation may use now; -1: all. The cpuset's and the policy's may change meanwhile."""
    if ac.nodemask_kind == NODEMASK_NONE:
        return -1
    if ac.nodemask_kind == NODEMASK_MEMS_ALLOWED:
        return task_at(m, cpu.current).mems_allowed
    if ac.nodemask_kind == NODEMASK_POLICY:
        return task_at(m, cpu.current).mempolicy.nodes
    return ac.nodemask


@core(inline=True)
def next_zones_zonelist(m: Machine, cpu: Cpu, ac: AllocContext, z: int) -> int:
    """``next_zones_zonelist()``: index of the first usable zoneref from ``z`` on; at the end of the list, that."""
    zonelist = zonelist_at(m, ac.zonelist)
    while True:
        ref = zonelist.zonerefs[z]
        if ref.zone == 0:
            return z
        if ref.zone_idx <= ac.highest_zoneidx:
            if ac.nodemask_kind == NODEMASK_NONE or nodemask_of(m, cpu, ac) >> ref.node & 1 != 0:
                return z
        z += 1


@core(inline=True)
def zonelist_zone(m: Machine, ac: AllocContext, z: int) -> int:
    """``zonelist_zone()``: offset of the zone behind a zoneref, 0 at the end of the list."""
    return zonelist_at(m, ac.zonelist).zonerefs[z].zone


@core(inline=True)
def node_zonelist(m: Machine, nid: int, gfp_mask: int) -> int:
    """``node_zonelist()``: offset of the node's fallback list, or of its own zones for ``__GFP_THISNODE``."""
    which = 1 if gfp_mask & __GFP_THISNODE != 0 else 0
    return address(m.nodes[nid].node_zonelists[which]) - address(m)


@core
def cpuset_nodemask_valid_mems_allowed(m: Machine, cpu: Cpu, nodemask: int) -> bool:
    """``cpuset_nodemask_valid_mems_allowed()``: do the mask and the task's mems_allowed meet?"""
    return nodemask & task_at(m, cpu.current).mems_allowed != 0
