"""What is counted: items of zones and nodes, NUMA hits, events (``include/linux/mmzone.h``, ``vm_event_item.h``
(5.10))."""

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

NR_FREE_PAGES = ZONE_STAT_NAMES.index("nr_free_pages")
NR_ZONE_LRU_BASE = ZONE_STAT_NAMES.index("nr_zone_inactive_anon")  # + list
NR_ZONE_WRITE_PENDING = ZONE_STAT_NAMES.index("nr_zone_write_pending")
NR_MLOCK = ZONE_STAT_NAMES.index("nr_mlock")
NR_PAGETABLE = ZONE_STAT_NAMES.index("nr_page_table_pages")
NR_FREE_CMA_PAGES = ZONE_STAT_NAMES.index("nr_free_cma")

NUMA_HIT = 0
NUMA_MISS = 1
NUMA_FOREIGN = 2
NUMA_INTERLEAVE_HIT = 3
NUMA_LOCAL = 4
NUMA_OTHER = 5

NR_LRU_BASE = NODE_STAT_NAMES.index("nr_inactive_anon")  # + list
NR_INACTIVE_ANON = NODE_STAT_NAMES.index("nr_inactive_anon")
NR_ACTIVE_ANON = NODE_STAT_NAMES.index("nr_active_anon")
NR_INACTIVE_FILE = NODE_STAT_NAMES.index("nr_inactive_file")
NR_ACTIVE_FILE = NODE_STAT_NAMES.index("nr_active_file")
NR_UNEVICTABLE = NODE_STAT_NAMES.index("nr_unevictable")
NR_SLAB_RECLAIMABLE_B = NODE_STAT_NAMES.index("nr_slab_reclaimable")
NR_SLAB_UNRECLAIMABLE_B = NODE_STAT_NAMES.index("nr_slab_unreclaimable")
NR_ISOLATED_ANON = NODE_STAT_NAMES.index("nr_isolated_anon")
NR_ISOLATED_FILE = NODE_STAT_NAMES.index("nr_isolated_file")
WORKINGSET_NODES = NODE_STAT_NAMES.index("workingset_nodes")
WORKINGSET_REFAULT_BASE = NODE_STAT_NAMES.index("workingset_refault_anon")  # + 1: file
WORKINGSET_ACTIVATE_BASE = NODE_STAT_NAMES.index("workingset_activate_anon")  # + 1: file
WORKINGSET_RESTORE_BASE = NODE_STAT_NAMES.index("workingset_restore_anon")  # + 1: file
WORKINGSET_NODERECLAIM = NODE_STAT_NAMES.index("workingset_nodereclaim")
NR_ANON_MAPPED = NODE_STAT_NAMES.index("nr_anon_pages")
NR_FILE_MAPPED = NODE_STAT_NAMES.index("nr_mapped")
NR_FILE_PAGES = NODE_STAT_NAMES.index("nr_file_pages")
NR_FILE_DIRTY = NODE_STAT_NAMES.index("nr_dirty")
NR_WRITEBACK = NODE_STAT_NAMES.index("nr_writeback")
NR_SHMEM = NODE_STAT_NAMES.index("nr_shmem")
NR_ANON_THPS = NODE_STAT_NAMES.index("nr_anon_transparent_hugepages")
NR_VMSCAN_WRITE = NODE_STAT_NAMES.index("nr_vmscan_write")
NR_VMSCAN_IMMEDIATE = NODE_STAT_NAMES.index("nr_vmscan_immediate_reclaim")
NR_DIRTIED = NODE_STAT_NAMES.index("nr_dirtied")
NR_WRITTEN = NODE_STAT_NAMES.index("nr_written")
NR_KERNEL_MISC_RECLAIMABLE = NODE_STAT_NAMES.index("nr_kernel_misc_reclaimable")
NR_KERNEL_STACK_KB = NODE_STAT_NAMES.index("nr_kernel_stack")

PGPGIN = VM_EVENT_NAMES.index("pgpgin")
PGPGOUT = VM_EVENT_NAMES.index("pgpgout")
PSWPIN = VM_EVENT_NAMES.index("pswpin")
PSWPOUT = VM_EVENT_NAMES.index("pswpout")
PGALLOC = VM_EVENT_NAMES.index("pgalloc_dma")  # + zone index
ALLOCSTALL = VM_EVENT_NAMES.index("allocstall_dma")  # + zone index
PGSCAN_SKIP = VM_EVENT_NAMES.index("pgskip_dma")  # + zone index
PGFREE = VM_EVENT_NAMES.index("pgfree")
PGACTIVATE = VM_EVENT_NAMES.index("pgactivate")
PGDEACTIVATE = VM_EVENT_NAMES.index("pgdeactivate")
PGFAULT = VM_EVENT_NAMES.index("pgfault")
PGMAJFAULT = VM_EVENT_NAMES.index("pgmajfault")
PGREFILL = VM_EVENT_NAMES.index("pgrefill")
PGREUSE = VM_EVENT_NAMES.index("pgreuse")
PGSTEAL_KSWAPD = VM_EVENT_NAMES.index("pgsteal_kswapd")
PGSTEAL_DIRECT = VM_EVENT_NAMES.index("pgsteal_direct")
PGSCAN_KSWAPD = VM_EVENT_NAMES.index("pgscan_kswapd")
PGSCAN_DIRECT = VM_EVENT_NAMES.index("pgscan_direct")
PGSCAN_DIRECT_THROTTLE = VM_EVENT_NAMES.index("pgscan_direct_throttle")
PGSCAN_ANON = VM_EVENT_NAMES.index("pgscan_anon")
PGSCAN_FILE = VM_EVENT_NAMES.index("pgscan_file")
PGSTEAL_ANON = VM_EVENT_NAMES.index("pgsteal_anon")
PGSTEAL_FILE = VM_EVENT_NAMES.index("pgsteal_file")
PGSCAN_ZONE_RECLAIM_FAILED = VM_EVENT_NAMES.index("zone_reclaim_failed")
SLABS_SCANNED = VM_EVENT_NAMES.index("slabs_scanned")
KSWAPD_LOW_WMARK_HIT_QUICKLY = VM_EVENT_NAMES.index("kswapd_low_wmark_hit_quickly")
KSWAPD_HIGH_WMARK_HIT_QUICKLY = VM_EVENT_NAMES.index("kswapd_high_wmark_hit_quickly")
PAGEOUTRUN = VM_EVENT_NAMES.index("pageoutrun")
PGROTATED = VM_EVENT_NAMES.index("pgrotated")
DROP_PAGECACHE = VM_EVENT_NAMES.index("drop_pagecache")
DROP_SLAB = VM_EVENT_NAMES.index("drop_slab")
OOM_KILL = VM_EVENT_NAMES.index("oom_kill")
PGMIGRATE_SUCCESS = VM_EVENT_NAMES.index("pgmigrate_success")
PGMIGRATE_FAIL = VM_EVENT_NAMES.index("pgmigrate_fail")
COMPACTMIGRATE_SCANNED = VM_EVENT_NAMES.index("compact_migrate_scanned")
COMPACTFREE_SCANNED = VM_EVENT_NAMES.index("compact_free_scanned")
COMPACTISOLATED = VM_EVENT_NAMES.index("compact_isolated")
COMPACTSTALL = VM_EVENT_NAMES.index("compact_stall")
COMPACTFAIL = VM_EVENT_NAMES.index("compact_fail")
COMPACTSUCCESS = VM_EVENT_NAMES.index("compact_success")
KCOMPACTD_WAKE = VM_EVENT_NAMES.index("compact_daemon_wake")
KCOMPACTD_MIGRATE_SCANNED = VM_EVENT_NAMES.index("compact_daemon_migrate_scanned")
KCOMPACTD_FREE_SCANNED = VM_EVENT_NAMES.index("compact_daemon_free_scanned")
UNEVICTABLE_PGCULLED = VM_EVENT_NAMES.index("unevictable_pgs_culled")
UNEVICTABLE_PGSCANNED = VM_EVENT_NAMES.index("unevictable_pgs_scanned")
UNEVICTABLE_PGRESCUED = VM_EVENT_NAMES.index("unevictable_pgs_rescued")
UNEVICTABLE_PGMLOCKED = VM_EVENT_NAMES.index("unevictable_pgs_mlocked")
UNEVICTABLE_PGMUNLOCKED = VM_EVENT_NAMES.index("unevictable_pgs_munlocked")
UNEVICTABLE_PGCLEARED = VM_EVENT_NAMES.index("unevictable_pgs_cleared")
UNEVICTABLE_PGSTRANDED = VM_EVENT_NAMES.index("unevictable_pgs_stranded")
THP_FAULT_ALLOC = VM_EVENT_NAMES.index("thp_fault_alloc")
THP_FAULT_FALLBACK = VM_EVENT_NAMES.index("thp_fault_fallback")
SWAP_RA = VM_EVENT_NAMES.index("swap_ra")
SWAP_RA_HIT = VM_EVENT_NAMES.index("swap_ra_hit")
