"""Memory that goes offline and online while the machine runs (``mm/memory_hotplug.c`` (5.10.262)).

Memory is handled in blocks of ``Vm.memory_block`` pages. A block is a hole, or plugged in and offline, or online:
:func:`add_memory` and :func:`remove_memory` plug it in and out, :func:`online_pages` and :func:`offline_pages` give it
to a zone and take it away. All return 0 or -errno and report what they did (EV_HOTPLUG).
"""

from emu.mm.hotplug_lock import (
    HOTPLUG_DONE, HOTPLUG_NOTIFIER, EVENT_ONLINE, MEM_ONLINE, MEM_GOING_ONLINE, MEM_CANCEL_ONLINE, S_ISOLATED, EINTR,
    EBUSY, EEXIST, EINVAL, memory_notify, mem_hotplug_begin, mem_hotplug_done, report, aligned,
)  # fmt: skip
from emu.mm.hotplug_zone import MMOP_ONLINE, MMOP_ONLINE_MOVABLE, move_pfn_range_to_zone, zone_for_pfn_range
from emu.mm.kswapd_run import kswapd_run
from emu.mm.offline_pages import offline_pages
from emu.mm.page_isolation import undo_isolate_page_range
from emu.zone.buddy import FPI_TO_TAIL, __free_one_page
from emu.zone.event import trace_mm_page_free
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_ISOLATE, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu,
    Machine, Zone, pageblock_record, zone_at,
)  # fmt: skip
from emu.zone.online import block_bits, mark_plugged, pfn_to_online_zone, plugged_node
from emu.zone.pageblock import init_head
from emu.zone.setup import zone_pcp_update
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGFREE
from emu.zone.wmark_init import init_per_zone_wmark_min
from emu.zone.zonelist_build import build_all_zonelists
from shm.atomic import fetch_add
from shm.core import as_entries, core, entry
from shm.point import site

S_ONLINE = site("online_pages_range:lock")


# --- plugging in and out ----------------------------------------------------------------------------------------------


@entry
def add_memory(m: Machine, cpu: Cpu, nid: int, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:add_memory() (5.10)``: 0; -EINVAL (no whole blocks, no such node) or -EEXIST (not a hole).

    The memory is offline. Differs from 5.10: the memory map has had room for it since boot, so nothing is allocated.
    """
    if not aligned(m, start_pfn, nr_pages) or nid < 0 or nid >= m.nr_nodes:
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    ret = 0
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if block_bits(m, pfn) != 0 or pfn_to_online_zone(m, pfn) != 0:
            ret = -EEXIST
    if ret == 0:
        for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
            mark_plugged(m, pfn, nid)
    mem_hotplug_done(m)
    return ret


@entry
def remove_memory(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:remove_memory() (5.10)``: 0; -EINVAL, or -EBUSY if a part is online or not there."""
    if not aligned(m, start_pfn, nr_pages):
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    ret = 0
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if plugged_node(m, pfn) < 0:
            ret = -EBUSY
    if ret == 0:
        for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
            pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits = 0
    mem_hotplug_done(m)
    return ret


# --- online -----------------------------------------------------------------------------------------------------------


@core(cold=True)
def online_pages_range(m: Machine, cpu: Cpu, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """``mm/memory_hotplug.c:online_pages_range() (5.10)`` with ``generic_online_page()``: free blocks of the largest
    order, to the tails of the isolated list."""
    for pfn in range(start_pfn, start_pfn + nr_pages, MAX_ORDER_NR_PAGES):
        fetch_add(zone, "managed_pages", MAX_ORDER_NR_PAGES)
        init_head(m, zone, pfn)
        trace_mm_page_free(m, cpu, pfn, MAX_ORDER - 1)
        flags = spin_lock_irqsave(cpu, zone.lock, S_ONLINE)
        __count_vm_events(cpu, PGFREE, MAX_ORDER_NR_PAGES)
        __free_one_page(m, cpu, pfn, zone, MAX_ORDER - 1, MIGRATE_ISOLATE, FPI_TO_TAIL)
        spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    vm_at(m, m.vm).pgfree_surplus += nr_pages


@core(cold=True)
def kcompactd_run(m: Machine, nid: int) -> None:
    """``mm/compaction.c:kcompactd_run() (5.10)``: what it begins with."""
    node = m.nodes[nid]
    node.kcompactd_max_order = 0
    node.kcompactd_highest_zoneidx = node.nr_zones - 1


@core(cold=True)
def online_range(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online_type: int, nid: int) -> int:
    """:func:`online_pages` under ``mem_hotplug_lock``."""
    node = m.nodes[nid]
    zone_offset = zone_for_pfn_range(m, online_type, nid, start_pfn, nr_pages)
    zone = zone_at(m, zone_offset)
    first = nid if node.node_present_pages == 0 else -1
    ret = memory_notify(m, cpu, MEM_GOING_ONLINE, start_pfn, nr_pages, first)
    if ret < 0:
        memory_notify(m, cpu, MEM_CANCEL_ONLINE, start_pfn, nr_pages, first)
        report(m, cpu, start_pfn, nr_pages, EVENT_ONLINE, HOTPLUG_NOTIFIER, -1)
        return ret
    move_pfn_range_to_zone(m, cpu, zone_offset, start_pfn, nr_pages)
    flags = spin_lock_irqsave(cpu, zone.lock, S_ISOLATED)
    zone.nr_isolate_pageblock += nr_pages // PAGEBLOCK_NR_PAGES
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    was_empty = zone.present_pages == 0
    online_pages_range(m, cpu, zone, start_pfn, nr_pages)
    zone.present_pages += nr_pages
    node.node_present_pages += nr_pages
    if was_empty:
        build_all_zonelists(m, cpu)
    zone_pcp_update(m, cpu, zone)
    undo_isolate_page_range(m, cpu, start_pfn, start_pfn + nr_pages, MIGRATE_MOVABLE)
    init_per_zone_wmark_min(m, cpu)
    if first >= 0:
        kswapd_run(m, cpu, nid)
        kcompactd_run(m, nid)
    memory_notify(m, cpu, MEM_ONLINE, start_pfn, nr_pages, first)
    report(m, cpu, start_pfn, nr_pages, EVENT_ONLINE, HOTPLUG_DONE, -1)
    return 0


@entry
def online_pages(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online_type: int) -> int:
    """``mm/memory_hotplug.c:online_pages() (5.10.262)``: memory that is plugged in goes to a zone of its node, as
    MMOP_ONLINE, MMOP_ONLINE_KERNEL or MMOP_ONLINE_MOVABLE says. 0, or -EINVAL if it isn't there or not offline.

    Its blocks stay isolated until the zone is in the zonelists. Differs from 5.10: the notifiers are asked before the
    zone spans the range.
    """
    if not aligned(m, start_pfn, nr_pages) or online_type < MMOP_ONLINE or online_type > MMOP_ONLINE_MOVABLE:
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    nid = plugged_node(m, start_pfn)
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if plugged_node(m, pfn) != nid:
            nid = -1
    ret = -EINVAL
    if nid >= 0:
        ret = online_range(m, cpu, start_pfn, nr_pages, online_type, nid)
    mem_hotplug_done(m)
    return ret


HOTPLUG_ENTRIES = as_entries(add_memory, remove_memory, offline_pages, online_pages)
__all__ = ["HOTPLUG_ENTRIES", "add_memory", "online_pages", "remove_memory"]
