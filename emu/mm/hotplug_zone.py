"""Zones and nodes that grow and shrink (``mm/memory_hotplug.c``, ``mm/page_alloc.c`` (5.10)).

Differs from 5.10: the zone lock stands in for ``pgdat_resize_lock`` and the zone's span seqlock.
"""

from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD
from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_ORDER, MIGRATE_ISOLATE, MIGRATE_TYPES, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PAGESET_SIZE,
    ZONE_MOVABLE, ZONE_NORMAL, Cpu, Machine, Node, Zone, pageblock_record, pageset_at, zone_at,
)  # fmt: skip
from emu.zone.online import forget_struct_pages, mark_plugged, pfn_to_online_zone, set_zone_contiguous
from emu.zone.vmstat import NR_NUMA_STAT_ITEMS, NR_ZONE_STAT_ITEMS
from shm.atomic import address, fetch_add
from shm.core import core
from shm.point import site

MMOP_OFFLINE = 0
MMOP_ONLINE = 1
MMOP_ONLINE_KERNEL = 2
MMOP_ONLINE_MOVABLE = 3
S_GROW = site("move_pfn_range_to_zone:lock")
S_SHRINK = site("shrink_zone_span:lock")


@core
def zone_intersects(zone: Zone, start_pfn: int, nr_pages: int) -> bool:
    """``zone_intersects()``"""
    if zone.spanned_pages == 0:
        return False
    return start_pfn < zone.zone_start_pfn + zone.spanned_pages and start_pfn + nr_pages > zone.zone_start_pfn


@core
def zone_offset_of(m: Machine, nid: int, zid: int) -> int:
    """Offset of a node's zone."""
    return address(m.nodes[nid].node_zones[zid]) - address(m)


@core
def default_kernel_zone_for_pfn(m: Machine, nid: int, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:default_kernel_zone_for_pfn() (5.10)``: the zone that spans some of it, else Normal."""
    for zid in range(ZONE_NORMAL + 1):
        if zone_intersects(m.nodes[nid].node_zones[zid], start_pfn, nr_pages):
            return zone_offset_of(m, nid, zid)
    return zone_offset_of(m, nid, ZONE_NORMAL)


@core(cold=True)
def zone_for_pfn_range(m: Machine, online_type: int, nid: int, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:zone_for_pfn_range() (5.10)``: offset of the zone that memory goes to.

    As asked for; else movable if only the movable zone spans it (the ``movable_node`` parameter is off).
    """
    if online_type == MMOP_ONLINE_MOVABLE:
        return zone_offset_of(m, nid, ZONE_MOVABLE)
    kernel = default_kernel_zone_for_pfn(m, nid, start_pfn, nr_pages)
    if online_type == MMOP_ONLINE and not zone_intersects(zone_at(m, kernel), start_pfn, nr_pages):
        if zone_intersects(m.nodes[nid].node_zones[ZONE_MOVABLE], start_pfn, nr_pages):
            return zone_offset_of(m, nid, ZONE_MOVABLE)
    return kernel


@core
def init_currently_empty_zone(m: Machine, zone: Zone, start_pfn: int) -> None:
    """``mm/page_alloc.c:init_currently_empty_zone() (5.10)``"""
    node = m.nodes[zone.node]
    node.nr_zones = max(node.nr_zones, zone.zid + 1)
    zone.zone_start_pfn = start_pfn
    for order in range(MAX_ORDER):
        zone.free_area[order].nr_free = 0
        for mt in range(MIGRATE_TYPES):
            INIT_LIST_HEAD(m, zone.free_area[order].free_list[mt])
    zone.initialized = 1


@core(cold=True)
def move_pfn_range_to_zone(m: Machine, cpu: Cpu, zone_offset: int, start_pfn: int, nr_pages: int) -> None:
    """``mm/memory_hotplug.c:move_pfn_range_to_zone() (5.10)``: zone and node span the range; its blocks are isolated.

    Struct pages are made when they are first used, as after booting. The zone isn't ``contiguous`` from now on:
    ``set_zone_contiguous()`` comes before the sections are online, and finds a hole in their place.
    """
    zone = zone_at(m, zone_offset)
    node = m.nodes[zone.node]
    end_pfn = start_pfn + nr_pages
    zone.contiguous = 0
    flags = spin_lock_irqsave(cpu, zone.lock, S_GROW)
    if zone.spanned_pages == 0:
        init_currently_empty_zone(m, zone, start_pfn)
    old_end = zone.zone_start_pfn + zone.spanned_pages
    zone.zone_start_pfn = min(zone.zone_start_pfn, start_pfn)
    zone.spanned_pages = max(end_pfn, old_end) - zone.zone_start_pfn
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits = MIGRATE_ISOLATE
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    old_end = node.node_start_pfn + node.node_spanned_pages
    if node.node_spanned_pages == 0 or start_pfn < node.node_start_pfn:
        node.node_start_pfn = start_pfn
    node.node_spanned_pages = max(end_pfn, old_end) - node.node_start_pfn


@core
def find_smallest_section_pfn(m: Machine, zone_offset: int, start_pfn: int, end_pfn: int) -> int:
    """``mm/memory_hotplug.c:find_smallest_section_pfn() (5.10)``: the zone's first online block of a range, or 0."""
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        if pfn_to_online_zone(m, pfn) == zone_offset:
            return pfn
    return 0


@core
def find_biggest_section_pfn(m: Machine, zone_offset: int, start_pfn: int, end_pfn: int) -> int:
    """``mm/memory_hotplug.c:find_biggest_section_pfn() (5.10)``: the zone's last online page, or 0."""
    pfn = end_pfn - 1
    while pfn >= start_pfn:
        if pfn_to_online_zone(m, pfn) == zone_offset:
            return pfn
        pfn -= PAGEBLOCK_NR_PAGES
    return 0


@core(cold=True)
def shrink_zone_span(m: Machine, cpu: Cpu, zone_offset: int, start_pfn: int, end_pfn: int) -> None:
    """``mm/memory_hotplug.c:shrink_zone_span() (5.10)``: after the range went away, if it was at an end of the zone."""
    zone = zone_at(m, zone_offset)
    flags = spin_lock_irqsave(cpu, zone.lock, S_SHRINK)
    end = zone.zone_start_pfn + zone.spanned_pages
    first = zone.zone_start_pfn
    if first == start_pfn:
        first = find_smallest_section_pfn(m, zone_offset, end_pfn, end)
        zone.spanned_pages = end - first if first != 0 else 0
        zone.zone_start_pfn = first
    elif end == end_pfn:
        last = find_biggest_section_pfn(m, zone_offset, first, start_pfn)
        zone.spanned_pages = last - first + 1 if last != 0 else 0
        zone.zone_start_pfn = first if last != 0 else 0
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core(cold=True)
def update_pgdat_span(node: Node) -> None:
    """``mm/memory_hotplug.c:update_pgdat_span() (5.10)``: from the first to the last page that a zone spans."""
    start = 0
    end = 0
    for zid in range(MAX_NR_ZONES):
        zone = node.node_zones[zid]
        if zone.spanned_pages == 0:
            continue
        zone_end = zone.zone_start_pfn + zone.spanned_pages
        start = zone.zone_start_pfn if end == 0 else min(start, zone.zone_start_pfn)
        end = max(end, zone_end)
    node.node_start_pfn = start
    node.node_spanned_pages = end - start


@core(cold=True)
def remove_pfn_range_from_zone(m: Machine, cpu: Cpu, zone_offset: int, start_pfn: int, nr_pages: int) -> None:
    """``mm/memory_hotplug.c:remove_pfn_range_from_zone() (5.10)``: struct pages are as if never made, the blocks
    offline, the spans shrunk."""
    zone = zone_at(m, zone_offset)
    end_pfn = start_pfn + nr_pages
    zone.contiguous = 0
    forget_struct_pages(m, start_pfn, end_pfn)
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        mark_plugged(m, pfn, zone.node)
    shrink_zone_span(m, cpu, zone_offset, start_pfn, end_pfn)
    update_pgdat_span(m.nodes[zone.node])
    set_zone_contiguous(m, zone, zone_offset)


@core(cold=True)
def zone_pcp_reset(m: Machine, zone: Zone) -> None:
    """``mm/page_alloc.c:zone_pcp_reset() (5.10)``: an emptied zone's counter differentials are folded, its pagesets
    are those of booting again, which keep no page."""
    for c in range(m.nr_parties):
        pset = pageset_at(m, zone.pageset + c * PAGESET_SIZE)
        for i in range(NR_ZONE_STAT_ITEMS):
            v = pset.vm_stat_diff[i]
            if v != 0:
                pset.vm_stat_diff[i] = 0
                fetch_add(zone.vm_stat[i], "counter", v)
        for i in range(NR_NUMA_STAT_ITEMS):
            v = pset.numa_stat_diff[i]
            if v != 0:
                pset.numa_stat_diff[i] = 0
                fetch_add(zone.numa_stat[i], "counter", v)
        pset.high = 0
        pset.batch = 1
        pset.expire = 0
        pset.stat_threshold = 0
