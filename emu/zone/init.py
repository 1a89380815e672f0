"""A machine from nothing: records, zonelists, memory, watermarks (``start_kernel()``'s part in it (5.10))."""

import math

from emu.zone.boot import Layout, Shape, Tuning, init_zones, memblock_free_all
from emu.zone.deferred import PAGES_PER_SECTION
from emu.zone.event import Event
from emu.zone.gfp import GFP_BITS_MASK
from emu.zone.irq_stat import IRQ_STAT_SIZE
from emu.zone.lock_class import LOCK_CLASS_TASK, LOCK_CLASS_WORK
from emu.zone.mmzone import (
    CPU_SIZE, MAX_NR_ZONES, MAX_NUMNODES, MIGRATE_PCPTYPES, NODESTAT_SIZE, PAGEBLOCK_NR_PAGES, PAGESET_SIZE,
    ZONE_MOVABLE, ZONE_NORMAL, Cpu, Machine, Zone,
)  # fmt: skip
from emu.zone.init_vm import init_vm_records
from emu.zone.mm_types import Vm
from emu.zone.sched import TASK_SIZE, Task
from emu.zone.zonelist_build import __build_all_zonelists
from emu.zone.setup import (
    refresh_zone_stat_thresholds, setup_pagesets, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks,
)  # fmt: skip
from shm.core import CHECKED
from shm.lockstat import HISTOGRAM_SIZE, LockHold
from shm.ring import Ring, ring_bytes, ring_init
from shm.struct import address_of, record_at, size_of

LEAST_FOR_THP = 512 << 8  # pages: 512 MiB
EXIT_OWNER_DEAD = 75  # exit status of a CPU that waited for a lock whose holder was killed


def init_records(m: Machine, shape: Shape, layout: Layout, tuning: Tuning) -> None:
    """Fill the machine record, its CPUs, tasks, nodes and zones. No memory is in the zones yet."""
    for name in (
        "tasks",
        "pagesets",
        "nodestats",
        "rings",
        "pageblocks",
        "script",
        "script_size",
        "mem_map",
        "nr_tasks",
    ):
        setattr(m, name, getattr(layout, name))
    m.cpus, m.segment_size, m.ring_capacity = layout.parties, layout.size, layout.ring_capacity
    m.page_ext = layout.page_ext if layout.script > layout.page_ext else 0
    m.mem_map_link = layout.mem_map >> 2
    m.max_pfn = shape.max_pfn
    m.nr_cpus, m.nr_nodes, m.nr_online_nodes = len(shape.cpu_node), shape.nodes, shape.nodes
    m.nr_online_cpus = m.nr_cpus
    m.nr_daemons = shape.daemons
    m.nr_parties = m.nr_cpus + m.nr_daemons + shape.extra_parties
    m.gfp_allowed_mask = GFP_BITS_MASK
    m.numa_stat_enabled = 1
    m.node_reclaim_distance = 30
    m.node_reclaim_mode = tuning.zone_reclaim_mode
    m.watermark_boost_factor = tuning.watermark_boost_factor
    m.watermark_scale_factor = tuning.watermark_scale_factor
    m.percpu_pagelist_fraction = tuning.percpu_pagelist_fraction
    m.swappiness, m.vm_dirty_ratio = tuning.swappiness, tuning.dirty_ratio
    m.page_debug, m.debug_guardpage_minorder = tuning.page_debug, tuning.debug_guardpage_minorder
    m.page_reporting = int(tuning.page_reporting)
    m.deviations = tuning.deviations
    m.cma_enabled = int(tuning.cma > 0)
    m.deferred_pages = int(tuning.deferred)
    m.memcg_kmem_enabled = 1
    for i, ratio in enumerate(tuning.lowmem_reserve_ratio):
        m.lowmem_reserve_ratio[i] = ratio
    _init_nodes(m, shape)
    if tuning.lock_stat:
        _init_lock_stats(m, layout.lock_stats)
    init_vm_records(m, shape, layout, tuning)
    huge = tuning.transparent_hugepage and sum(z.managed for z in shape.zones) >= LEAST_FOR_THP
    record_at(Vm, address_of(m) + m.vm).khugepaged = int(huge)
    _init_parties(m, layout, shape, tuning)
    populated = [z.zid for z in shape.zones if z.zid != ZONE_MOVABLE]
    m.policy_zone = max(populated, default=0)


def _init_nodes(m: Machine, shape: Shape) -> None:
    for nid in range(shape.nodes):
        node = m.nodes[nid]
        zones = [z for z in shape.zones if z.nid == nid]
        node.node_id, node.online = nid, 1
        node.kswapd_highest_zoneidx = MAX_NR_ZONES
        for i, lruvec in enumerate(node.lruvecs):
            lruvec.memcg, lruvec.node = i, nid
        node.per_cpu_nodestats = m.nodestats + nid * m.nr_parties * NODESTAT_SIZE
        for other in range(shape.nodes):
            node.distance[other] = shape.far(nid, other)
        for zid in range(MAX_NR_ZONES):
            zone = node.node_zones[zid]
            zone.node, zone.zid, zone.zone_id = nid, zid, nid * MAX_NR_ZONES + zid
            zone.pageset = m.pagesets + zone.zone_id * m.nr_parties * PAGESET_SIZE
        for z in zones:
            zone = node.node_zones[z.zid]
            zone.zone_start_pfn, zone.spanned_pages, zone.present_pages = z.start_pfn, z.spanned, z.present
            zone.contiguous = int(z.spanned == z.present)
        if zones:
            node.node_start_pfn = zones[0].start_pfn
            node.node_spanned_pages = zones[-1].start_pfn + zones[-1].spanned - zones[0].start_pfn
            node.node_present_pages = sum(z.present for z in zones)
            node.nr_zones = max(z.zid for z in zones) + 1
            node.kcompactd_highest_zoneidx = node.nr_zones - 1


def _init_lock_stats(m: Machine, at: int) -> None:
    """Give every zone->lock and lru_lock its two histograms."""
    for nid in range(m.nr_nodes):
        node = m.nodes[nid]
        for lock in (*(zone.lock for zone in node.node_zones), node.lru_lock):
            lock.stat.histograms = at - (address_of(lock.stat) - address_of(m))
            at += 2 * HISTOGRAM_SIZE


def _init_parties(m: Machine, layout: Layout, shape: Shape, tuning: Tuning) -> None:
    base = address_of(m)
    ring_size, lock_ring_size = ring_bytes(m.ring_capacity, Event), ring_bytes(m.ring_capacity, LockHold)
    for i in range(m.nr_parties):
        cpu = record_at(Cpu, base + m.cpus + i * CPU_SIZE)
        cpu.party.index, cpu.party.stride = i, CPU_SIZE
        cpu.party.spin_limit, cpu.party.lock_stat = tuning.spin_limit, int(tuning.lock_stat)
        cpu.party.exit_on_owner_death = EXIT_OWNER_DEAD
        cpu.pageset_offset, cpu.nodestat_offset = i * PAGESET_SIZE, i * NODESTAT_SIZE
        cpu.node = shape.cpu_node[i] if i < m.nr_cpus else (i - m.nr_cpus) % m.nr_nodes
        cpu.online = int(i < m.nr_cpus)
        cpu.work_lock.lock_class = LOCK_CLASS_WORK
        cpu.party.lockdep = layout.lockdep - m.cpus if CHECKED else 0
        if tuning.lock_events:
            at = layout.lock_rings + i * lock_ring_size
            cpu.party.lock_ring = at - (m.cpus + i * CPU_SIZE)
            ring_init(record_at(Ring, base + at), m.ring_capacity, size_of(LockHold))
        if tuning.irq_stat:
            cpu.irq_stat = layout.irq_stats + i * IRQ_STAT_SIZE - (m.cpus + i * CPU_SIZE)
        cpu.event_ring = m.rings + i * ring_size
        ring_init(record_at(Ring, base + cpu.event_ring), m.ring_capacity, size_of(Event))
        task = record_at(Task, base + m.tasks + i * TASK_SIZE)
        task.pid = 1000 + i
        task.mems_allowed = (1 << m.nr_nodes) - 1
        task.il_prev = MAX_NUMNODES - 1
        cpu.current = m.tasks + i * TASK_SIZE
    for i in range(m.nr_tasks):
        record_at(Task, base + m.tasks + i * TASK_SIZE).alloc_lock.lock_class = LOCK_CLASS_TASK


def party_of(m: Machine, index: int) -> Cpu:
    """The record of a CPU or, from ``nr_cpus`` on, of a node's kswapd."""
    return record_at(Cpu, address_of(m) + m.cpus + index * CPU_SIZE)


def zones_of(m: Machine) -> list[Zone]:
    """All populated zones, by node and zone index."""
    return [
        zone
        for nid in range(m.nr_nodes)
        for zone in m.nodes[nid].node_zones
        if zone.present_pages
    ]  # fmt: skip


def default_min_free_kbytes(m: Machine, thp: bool) -> int:
    """``init_per_zone_wmark_min()`` and ``khugepaged``'s raise of it: sqrt(lowmem * 16), 128 KiB to 256 MiB."""
    zones = zones_of(m)
    lowmem = sum(z.managed_pages for z in zones if z.zid <= ZONE_NORMAL)
    least = min(max(math.isqrt(lowmem * 4 * 16), 128), 262144)
    if thp and sum(z.managed_pages for z in zones) >= LEAST_FOR_THP:
        count = sum(1 for z in zones if z.zid <= ZONE_NORMAL)
        wanted = PAGEBLOCK_NR_PAGES * count * 2 + PAGEBLOCK_NR_PAGES * count * MIGRATE_PCPTYPES * MIGRATE_PCPTYPES
        least = max(least, min(wanted, lowmem // 20) * 4)
    return least


def boot(m: Machine, shape: Shape, tuning: Tuning) -> None:
    """Hand all memory to the buddy system and compute everything that depends on its size."""
    boot_cpu = party_of(m, 0)
    init_zones(m)
    __build_all_zonelists(m, boot_cpu)
    last = shape.zones[-1]
    for z in shape.zones:
        zone = m.nodes[z.nid].node_zones[z.zid]
        end = z.start_pfn + z.spanned
        if z is last and tuning.cma:
            zone.cma_pages = tuning.cma
            area = record_at(Vm, address_of(m) + m.vm).cma
            area.base_pfn, area.count = end - tuning.cma, tuning.cma
        first_section = (z.start_pfn // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION
        memblock_free_all(m, boot_cpu, zone, z.start_pfn, end, first_section if tuning.deferred else end)
    setup_pagesets(m, boot_cpu)
    m.min_free_kbytes = tuning.min_free_kbytes
    if tuning.min_free_kbytes < 0:
        m.min_free_kbytes = default_min_free_kbytes(m, tuning.transparent_hugepage)
    m.user_min_free_kbytes = tuning.min_free_kbytes
    setup_per_zone_wmarks(m, boot_cpu)
    refresh_zone_stat_thresholds(m)
    setup_per_zone_lowmem_reserve(m)
