"""Counters and their per-cpu differentials (``mm/vmstat.c`` (5.10)).

A CPU collects changes in its own differential and adds them to the zone only beyond a threshold. Watermark checks read
the zone's value without the differentials, so the drift is part of the behaviour.
"""

from emu.zone.mmzone import MIGRATE_CMA, PAGESET_SIZE, Cpu, Machine, Node, Zone, nodestat_at, pageset_at
from shm.atomic import fetch_add
from shm.core import core

ZONE_STAT_NAMES = (
    "nr_free_pages", "nr_zone_inactive_anon", "nr_zone_active_anon", "nr_zone_inactive_file", "nr_zone_active_file",
    "nr_zone_unevictable", "nr_zone_write_pending", "nr_mlock", "nr_page_table_pages", "nr_bounce", "nr_free_cma",
)  # fmt: skip
NODE_STAT_NAMES = (
    "nr_inactive_anon", "nr_active_anon", "nr_inactive_file", "nr_active_file", "nr_unevictable", "nr_slab_reclaimable",
    "nr_slab_unreclaimable", "nr_isolated_anon", "nr_isolated_file", "workingset_nodes", "workingset_refault_anon",
    "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file", "workingset_restore_anon",
    "workingset_restore_file", "workingset_nodereclaim", "nr_anon_pages", "nr_mapped", "nr_file_pages", "nr_dirty",
    "nr_writeback", "nr_writeback_temp", "nr_shmem", "nr_shmem_hugepages", "nr_shmem_pmdmapped", "nr_file_hugepages",
    "nr_file_pmdmapped", "nr_anon_transparent_hugepages", "nr_vmscan_write", "nr_vmscan_immediate_reclaim",
    "nr_dirtied", "nr_written", "nr_kernel_misc_reclaimable", "nr_foll_pin_acquired", "nr_foll_pin_released",
    "nr_kernel_stack",
)  # fmt: skip
NUMA_STAT_NAMES = ("numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other")
VM_EVENT_NAMES = (
    "pgpgin", "pgpgout", "pswpin", "pswpout", "pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgalloc_movable",
    "allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable", "pgskip_dma", "pgskip_dma32",
    "pgskip_normal", "pgskip_movable", "pgfree", "pgactivate", "pgdeactivate", "pglazyfree", "pgfault", "pgmajfault",
    "pglazyfreed", "pgrefill", "pgreuse", "pgsteal_kswapd", "pgsteal_direct", "pgscan_kswapd", "pgscan_direct",
    "pgscan_direct_throttle", "pgscan_anon", "pgscan_file", "pgsteal_anon", "pgsteal_file", "zone_reclaim_failed",
    "pginodesteal", "slabs_scanned", "kswapd_inodesteal", "kswapd_low_wmark_hit_quickly",
    "kswapd_high_wmark_hit_quickly", "pageoutrun", "pgrotated", "drop_pagecache", "drop_slab", "oom_kill",
    "pgmigrate_success", "pgmigrate_fail", "thp_migration_success", "thp_migration_fail", "thp_migration_split",
    "compact_migrate_scanned", "compact_free_scanned", "compact_isolated", "compact_stall", "compact_fail",
    "compact_success", "compact_daemon_wake", "compact_daemon_migrate_scanned", "compact_daemon_free_scanned",
    "htlb_buddy_alloc_success", "htlb_buddy_alloc_fail", "unevictable_pgs_culled", "unevictable_pgs_scanned",
    "unevictable_pgs_rescued", "unevictable_pgs_mlocked", "unevictable_pgs_munlocked", "unevictable_pgs_cleared",
    "unevictable_pgs_stranded", "thp_fault_alloc", "thp_fault_fallback", "thp_fault_fallback_charge",
    "thp_collapse_alloc", "thp_collapse_alloc_failed", "thp_file_alloc", "thp_file_fallback",
    "thp_file_fallback_charge", "thp_file_mapped", "thp_split_page", "thp_split_page_failed",
    "thp_deferred_split_page", "thp_split_pmd", "thp_split_pud", "thp_zero_page_alloc", "thp_zero_page_alloc_failed",
    "thp_swpout", "thp_swpout_fallback", "swap_ra", "swap_ra_hit",
)  # fmt: skip

NR_FREE_PAGES = 0
NR_FREE_CMA_PAGES = ZONE_STAT_NAMES.index("nr_free_cma")
NUMA_HIT = 0
NUMA_MISS = 1
NUMA_FOREIGN = 2
NUMA_INTERLEAVE_HIT = 3
NUMA_LOCAL = 4
NUMA_OTHER = 5
NUMA_STATS_THRESHOLD = 65535 - 2
PGALLOC = VM_EVENT_NAMES.index("pgalloc_dma")  # + zone index
ALLOCSTALL = VM_EVENT_NAMES.index("allocstall_dma")  # + zone index
PGFREE = VM_EVENT_NAMES.index("pgfree")
NR_DIRTY = NODE_STAT_NAMES.index("nr_dirty")
NR_WRITEBACK = NODE_STAT_NAMES.index("nr_writeback")
NR_INACTIVE_FILE = NODE_STAT_NAMES.index("nr_inactive_file")
NR_ACTIVE_FILE = NODE_STAT_NAMES.index("nr_active_file")
NR_ZONE_STAT_ITEMS = len(ZONE_STAT_NAMES)
NR_NODE_STAT_ITEMS = len(NODE_STAT_NAMES)
NR_NUMA_STAT_ITEMS = len(NUMA_STAT_NAMES)


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
