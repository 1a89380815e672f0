"""Counters and their per-cpu differentials (``mm/vmstat.c`` (5.10)).

A CPU collects changes in its own differential and adds them to the zone only beyond a threshold. Watermark checks read
the zone's value without the differentials, so the drift is part of the behaviour.
"""

from emu.zone.mmzone import MIGRATE_CMA, PAGESET_SIZE, Cpu, Machine, Node, Zone, nodestat_at, pageset_at
from emu.zone.vmstat_items import (
    NODE_STAT_NAMES, NR_FREE_CMA_PAGES, NR_FREE_PAGES, NUMA_FOREIGN, NUMA_HIT, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER,
    NUMA_STAT_NAMES, ZONE_STAT_NAMES,
)  # fmt: skip
from shm.atomic import fetch_add
from shm.core import core
from shm.point import point, site

NUMA_STATS_THRESHOLD = 65535 - 2
NR_ZONE_STAT_ITEMS = len(ZONE_STAT_NAMES)
NR_NODE_STAT_ITEMS = len(NODE_STAT_NAMES)
NR_NUMA_STAT_ITEMS = len(NUMA_STAT_NAMES)
S_DIFF = site("__mod_zone_page_state:write vm_stat_diff")


@core(inline=True)
def zone_page_state(zone: Zone, item: int) -> int:
    """``zone_page_state()``: the zone's value without differentials, never negative."""
    x = zone.vm_stat[item].counter
    return x if x > 0 else 0


@core
def zone_page_state_snapshot(m: Machine, zone: Zone, item: int) -> int:
    """``zone_page_state_snapshot()``: with all CPUs' differentials."""
    x = zone.vm_stat[item].counter
    for c in range(m.nr_parties):
        x += pageset_at(m, zone.pageset + c * PAGESET_SIZE).vm_stat_diff[item]
    return x if x > 0 else 0


@core
def node_page_state(node: Node, item: int) -> int:
    """``node_page_state()``"""
    x = node.vm_stat[item].counter
    return x if x > 0 else 0


@core(inline=True)
def __mod_zone_page_state(m: Machine, cpu: Cpu, zone: Zone, item: int, delta: int) -> None:
    """``mm/vmstat.c:__mod_zone_page_state() (5.10)``: interrupts are off."""
    pset = pageset_at(m, zone.pageset + cpu.pageset_offset)
    x = pset.vm_stat_diff[item] + delta
    t = pset.stat_threshold
    if abs(x) > t:
        fetch_add(zone.vm_stat[item], "counter", x)
        x = 0
    pset.vm_stat_diff[item] = x


@core(cold=True)
def mod_zone_page_state_torn(m: Machine, cpu: Cpu, zone: Zone, item: int, delta: int) -> None:
    """:func:`__mod_zone_page_state` where nothing keeps others of this CPU out, as c68ed7945701 found for PREEMPT_RT.

    Race R33: what an interrupt adds to the differential between reading and writing it is lost.
    """
    pset = pageset_at(m, zone.pageset + cpu.pageset_offset)
    x = pset.vm_stat_diff[item] + delta
    point(cpu.party, S_DIFF)
    if abs(x) > pset.stat_threshold:
        fetch_add(zone.vm_stat[item], "counter", x)
        x = 0
    pset.vm_stat_diff[item] = x


@core(inline=True)
def __mod_zone_freepage_state(m: Machine, cpu: Cpu, zone: Zone, nr_pages: int, migratetype: int) -> None:
    """``include/linux/vmstat.h:__mod_zone_freepage_state() (5.10)``"""
    __mod_zone_page_state(m, cpu, zone, NR_FREE_PAGES, nr_pages)
    if migratetype == MIGRATE_CMA:
        __mod_zone_page_state(m, cpu, zone, NR_FREE_CMA_PAGES, nr_pages)


@core
def __mod_node_page_state(m: Machine, cpu: Cpu, node: Node, item: int, delta: int) -> None:
    """``mm/vmstat.c:__mod_node_page_state() (5.10)``"""
    p = nodestat_at(m, node.per_cpu_nodestats + cpu.nodestat_offset)
    x = p.vm_node_stat_diff[item] + delta
    t = p.stat_threshold
    if abs(x) > t:
        fetch_add(node.vm_stat[item], "counter", x)
        x = 0
    p.vm_node_stat_diff[item] = x


@core(inline=True)
def __inc_numa_state(m: Machine, cpu: Cpu, zone: Zone, item: int) -> None:
    """``mm/vmstat.c:__inc_numa_state() (5.10)``: a u16 differential of its own, folded when nearly full."""
    pset = pageset_at(m, zone.pageset + cpu.pageset_offset)
    v = pset.numa_stat_diff[item] + 1
    if v > NUMA_STATS_THRESHOLD:
        fetch_add(zone.numa_stat[item], "counter", v)
        v = 0
    pset.numa_stat_diff[item] = v


@core(inline=True)
def zone_statistics(m: Machine, cpu: Cpu, preferred_zone: Zone, z: Zone) -> None:
    """``mm/page_alloc.c:zone_statistics() (5.10)``: NUMA hit, miss and foreign; local and other."""
    if m.numa_stat_enabled == 0:
        return
    if z.node == preferred_zone.node:
        __inc_numa_state(m, cpu, z, NUMA_HIT)
    else:
        __inc_numa_state(m, cpu, z, NUMA_MISS)
        __inc_numa_state(m, cpu, preferred_zone, NUMA_FOREIGN)
    __inc_numa_state(m, cpu, z, NUMA_LOCAL if z.node == cpu.node else NUMA_OTHER)


@core(inline=True)
def __count_vm_events(cpu: Cpu, item: int, delta: int) -> None:
    """``__count_vm_events()``: this CPU's own counter."""
    cpu.vm_events[item] += delta


@core(inline=True)
def this_cpu_pageset(m: Machine, cpu: Cpu, zone: Zone) -> int:
    """Offset of ``this_cpu_ptr(zone->pageset)``."""
    return zone.pageset + cpu.pageset_offset


@core
def fold_zone(m: Machine, cpu: Cpu, zone: Zone) -> int:
    """The zone's part of ``mm/vmstat.c:refresh_cpu_vm_stats() (5.10)``: this CPU's differentials into the zone."""
    pset = pageset_at(m, zone.pageset + cpu.pageset_offset)
    changes = 0
    for i in range(NR_ZONE_STAT_ITEMS):
        v = pset.vm_stat_diff[i]
        if v != 0:
            pset.vm_stat_diff[i] = 0
            fetch_add(zone.vm_stat[i], "counter", v)
            pset.expire = 3
            changes += 1
    for i in range(NR_NUMA_STAT_ITEMS):
        v = pset.numa_stat_diff[i]
        if v != 0:
            pset.numa_stat_diff[i] = 0
            fetch_add(zone.numa_stat[i], "counter", v)
            pset.expire = 3
            changes += 1
    return changes


@core
def fold_node(m: Machine, cpu: Cpu, node: Node) -> int:
    """The node's part of ``refresh_cpu_vm_stats()``."""
    p = nodestat_at(m, node.per_cpu_nodestats + cpu.nodestat_offset)
    changes = 0
    for i in range(NR_NODE_STAT_ITEMS):
        v = p.vm_node_stat_diff[i]
        if v != 0:
            p.vm_node_stat_diff[i] = 0
            fetch_add(node.vm_stat[i], "counter", v)
            changes += 1
    return changes
