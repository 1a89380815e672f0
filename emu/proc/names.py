"""Names the kernel prints: zones, migratetypes and vm events.

The names of zone, node and numa counters come with the state (zone_stat_names, node_stat_names, numa_stat_names).
"""

__all__ = ("CONFIG_VM_EVENTS", "NUMASTAT_NAMES", "VM_EVENTS", "ZONE_NAMES", "migratetype_names")

ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable", "Device")
"""mm/page_alloc.c:zone_names[] (5.10) on x86-64, by zone index."""


def migratetype_names(migrate_types: int) -> tuple[str, ...]:
    """Name the `migrate_types` migratetypes, as mm/page_alloc.c:migratetype_names[] (5.10) does."""
    # CONFIG_CMA selects CONFIG_MEMORY_ISOLATION, so a fifth type alone is Isolate, never CMA.
    names = {
        4: ("Unmovable", "Movable", "Reclaimable", "HighAtomic"),
        5: ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"),
        6: ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate"),
    }
    if migrate_types not in names:
        raise ValueError(f"5.10 has 4, 5 or 6 migratetypes, not {migrate_types}")
    return names[migrate_types]


def _for_zones(event: str) -> tuple[str, ...]:
    """mm/vmstat.c:TEXTS_FOR_ZONES() (5.10): one event per zone type, without ZONE_DEVICE."""
    return tuple(f"{event}_{zone.lower()}" for zone in ZONE_NAMES if zone != "Device")


_NUMA_BALANCING = (
    "numa_pte_updates",
    "numa_huge_pte_updates",
    "numa_hint_faults",
    "numa_hint_faults_local",
    "numa_pages_migrated",
)
_BALLOON = ("balloon_inflate", "balloon_deflate", "balloon_migrate")
_DEBUG_TLBFLUSH = (
    "nr_tlb_remote_flush",
    "nr_tlb_remote_flush_received",
    "nr_tlb_local_flush_all",
    "nr_tlb_local_flush_one",
)
_VMACACHE = ("vmacache_find_calls", "vmacache_find_hits")

CONFIG_VM_EVENTS = frozenset(_NUMA_BALANCING + _BALLOON + _DEBUG_TLBFLUSH + _VMACACHE)
"""Events whose config option a machine may lack: printed only where the state counts them."""

VM_EVENTS: tuple[str, ...] = (
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    *_for_zones("pgalloc"),
    *_for_zones("allocstall"),
    *_for_zones("pgskip"),
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pgfault",
    "pgmajfault",
    "pglazyfreed",
    "pgrefill",
    "pgreuse",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "pgscan_kswapd",
    "pgscan_direct",
    "pgscan_direct_throttle",
    "pgscan_anon",
    "pgscan_file",
    "pgsteal_anon",
    "pgsteal_file",
    "zone_reclaim_failed",
    "pginodesteal",
    "slabs_scanned",
    "kswapd_inodesteal",
    "kswapd_low_wmark_hit_quickly",
    "kswapd_high_wmark_hit_quickly",
    "pageoutrun",
    "pgrotated",
    "drop_pagecache",
    "drop_slab",
    "oom_kill",
    *_NUMA_BALANCING,
    "pgmigrate_success",
    "pgmigrate_fail",
    "thp_migration_success",
    "thp_migration_fail",
    "thp_migration_split",
    "compact_migrate_scanned",
    "compact_free_scanned",
    "compact_isolated",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "compact_daemon_wake",
    "compact_daemon_migrate_scanned",
    "compact_daemon_free_scanned",
    "htlb_buddy_alloc_success",
    "htlb_buddy_alloc_fail",
    "unevictable_pgs_culled",
    "unevictable_pgs_scanned",
    "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked",
    "unevictable_pgs_munlocked",
    "unevictable_pgs_cleared",
    "unevictable_pgs_stranded",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_fault_fallback_charge",
    "thp_collapse_alloc",
    "thp_collapse_alloc_failed",
    "thp_file_alloc",
    "thp_file_fallback",
    "thp_file_fallback_charge",
    "thp_file_mapped",
    "thp_split_page",
    "thp_split_page_failed",
    "thp_deferred_split_page",
    "thp_split_pmd",
    "thp_split_pud",
    "thp_zero_page_alloc",
    "thp_zero_page_alloc_failed",
    "thp_swpout",
    "thp_swpout_fallback",
    *_BALLOON,
    *_DEBUG_TLBFLUSH,
    *_VMACACHE,
    "swap_ra",
    "swap_ra_hit",
)
"""mm/vmstat.c:vmstat_text[] (5.10), the enum vm_event_item part, in order."""

NUMASTAT_NAMES = {
    "numa_hit": "numa_hit",
    "numa_miss": "numa_miss",
    "numa_foreign": "numa_foreign",
    "interleave_hit": "numa_interleave",
    "local_node": "numa_local",
    "other_node": "numa_other",
}
"""drivers/base/node.c:node_read_numastat() (5.10): the name in the file -> the name of the numa counter."""
