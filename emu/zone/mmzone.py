"""The machine as records: pages, zones, nodes, CPUs (``include/linux/mmzone.h``, ``mm_types.h`` (5.10)).

Links between records are offsets from the machine record, never addresses. Memory map of the segment's payload::

    | Machine | Cpu[nr_parties] + end mark | Task[nr_tasks] | Pageset[zone][cpu] | NodeStat[node][cpu] | event rings |
    | PageBlock[pfn / 512] | PageExt[pfn] (only with page_owner or poisoning) | script area | Page[pfn] ... |

Only pages and pageblocks that are used get touched, so a 1 TiB machine boots in a little over 1 GiB.
"""

from emu.zone.memcg_types import MAX_MEMCGS, Memcg
from emu.zone.types import AtomicLong, ListHead
from shm.point import Party
from shm.spinlock_types import Spinlock
from shm.struct import Array, At, Struct, array, embed, fixed, i8, i16, i32, i64, size_of, struct, u8, u16, u32
from shm.waitqueue import WaitQueue

MAX_ORDER = 11
PAGEBLOCK_ORDER = 9
PAGEBLOCK_NR_PAGES = 1 << PAGEBLOCK_ORDER
MAX_ORDER_NR_PAGES = 1 << (MAX_ORDER - 1)
PAGE_SHIFT = 12

MIGRATE_UNMOVABLE = 0
MIGRATE_MOVABLE = 1
MIGRATE_RECLAIMABLE = 2
MIGRATE_PCPTYPES = 3
MIGRATE_HIGHATOMIC = 3
MIGRATE_CMA = 4
MIGRATE_ISOLATE = 5
MIGRATE_TYPES = 6
MIGRATETYPE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")

ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE = 0, 1, 2, 3
MAX_NR_ZONES = 4
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")

MAX_NUMNODES, MAX_CPUS = 8, 256
NR_WMARK = 3
WMARK_MIN, WMARK_LOW, WMARK_HIGH = 0, 1, 2

NR_ZONE_STATS = 11
NR_NODE_STATS = 37
NR_NUMA_STATS = 6
NR_VM_EVENTS = 88

ZONE_BOOSTED_WATERMARK = 1  # bit 0 of zone_flags
ZONE_RECLAIM_ACTIVE = 2


@struct
class Page(Struct):
    """``struct page``, 32 bytes. All zero means: never touched (see ``pageblock.init_pageblock``)."""

    lru: ListHead = embed(ListHead)  # tail pages: lru.next = link of the head page | 1 (compound_head)
    page_flags: int = u32()  # zone, node and PG_* bits; the page types Buddy, Guard... are bits here too
    refcount: int = i32()
    mapcount: int = i32()  # -1: not mapped. page[1] of a compound page: compound_mapcount
    mapping: int = u32()  # owner: address space or TAIL_MAPPING; 0: none
    private: int = i32()  # free: the order; tail page 1: order of the compound page; kmem: memcg that pays
    index: int = i32()  # on a pcp list: the migratetype it goes back to; -1: pfmemalloc


@struct
class PageBlock(Struct):
    """Bits of 512 pages: migratetype (3 bits), skip, initialised, offline (see ``emu.zone.pageblock``)."""

    bits: int = u8()


@struct
class PageExt(Struct):
    """``struct page_ext``: what page_owner and poisoning remember of a page."""

    content: int = u8()  # the byte the page is filled with, as far as the model cares
    order: int = i8()
    owner_cpu: int = i16()
    gfp: int = u32()
    ts: int = i64()


@struct
class FreeArea(Struct):
    """``struct free_area``: free blocks of one order, a list per migratetype."""

    free_list: Array[ListHead] = array(ListHead, MIGRATE_TYPES)
    nr_free: int = i64()  # invariant: the number of entries on all lists


@struct
class Compact(Struct):
    """Compaction's cached positions and deferral state of a zone."""

    cached_free_pfn: int = i64()
    cached_migrate_pfn: Array[int] = array(i64, 2)
    init_migrate_pfn: int = i64()
    init_free_pfn: int = i64()
    considered: int = i32()
    defer_shift: int = i32()
    order_failed: int = i32()
    blockskip_flush: int = i32()


@struct
class Zone(Struct):
    """``struct zone``"""

    _align_ = 64

    # read mostly
    watermark: Array[int] = array(i64, NR_WMARK)  # without boost
    watermark_boost: int = i64()
    nr_reserved_highatomic: int = i64()
    lowmem_reserve: Array[int] = array(i64, MAX_NR_ZONES)
    node: int = fixed(i32)
    zid: int = fixed(i32)
    zone_id: int = fixed(i32)  # node * MAX_NR_ZONES + zid
    initialized: int = i32()
    pageset: int = fixed(i64)  # offset of CPU 0's pageset
    zone_start_pfn: int = i64()
    managed_pages: int = i64()
    spanned_pages: int = i64()
    present_pages: int = i64()
    cma_pages: int = i64()
    nr_isolate_pageblock: int = i64()
    percpu_drift_mark: int = i64()
    contiguous: int = i32()
    zone_flags: int = u32()
    first_deferred_pfn: int = i64()  # struct pages from here on are not yet in the free lists; 0: none deferred
    deferred_end_pfn: int = i64()
    # written under lock
    lock: Spinlock = embed(Spinlock)
    free_area: Array[FreeArea] = array(FreeArea, MAX_ORDER)
    compact: Compact = embed(Compact)
    vm_stat: Array[AtomicLong] = array(AtomicLong, NR_ZONE_STATS)
    numa_stat: Array[AtomicLong] = array(AtomicLong, NR_NUMA_STATS)


@struct
class Pageset(Struct):
    """``struct per_cpu_pageset`` with its ``per_cpu_pages``: one CPU's pages and counters of one zone."""

    _align_ = 64

    count: int = i32()  # invariant: entries on the three lists
    high: int = i32()
    batch: int = i32()
    expire: int = i8()
    stat_threshold: int = i8()
    _hole: int = u16()
    lists: Array[ListHead] = array(ListHead, MIGRATE_PCPTYPES)
    vm_stat_diff: Array[int] = array(i8, NR_ZONE_STATS)
    numa_stat_diff: Array[int] = array(u16, NR_NUMA_STATS)


@struct
class NodeStat(Struct):
    """``struct per_cpu_nodestat``"""

    _align_ = 64

    stat_threshold: int = i8()
    vm_node_stat_diff: Array[int] = array(i8, NR_NODE_STATS)


@struct
class Zoneref(Struct):
    """``struct zoneref``"""

    zone: int = i64()  # offset of the zone; 0 ends the list
    zone_idx: int = i32()
    node: int = i32()


@struct
class Zonelist(Struct):
    """``struct zonelist``"""

    zonerefs: Array[Zoneref] = array(Zoneref, MAX_NUMNODES * MAX_NR_ZONES + 1)


NR_LRU_LISTS = 5  # inactive anon, active anon, inactive file, active file, unevictable


@struct
class Lruvec(Struct):
    """``struct lruvec``: the LRU lists of one memory cgroup on one node; written under the node's ``lru_lock``."""

    lists: Array[ListHead] = array(ListHead, NR_LRU_LISTS)
    anon_cost: int = i64()
    file_cost: int = i64()
    nonresident_age: AtomicLong = embed(AtomicLong)
    refaults: Array[int] = array(i64, 2)  # workingset_activate when it was last reclaimed from
    workingset_activate: Array[AtomicLong] = array(AtomicLong, 2)  # anonymous, file; of the root: the node's
    lruvec_flags: int = u32()
    memcg: int = fixed(i32)  # 0: the root's; else index + 1
    node: int = fixed(i32)
    _hole: int = i32()
    lru_zone_size: Array[int] = array(i64, MAX_NR_ZONES * NR_LRU_LISTS)  # pages by zone and list


@struct
class Node(Struct):
    """``pg_data_t``"""

    _align_ = 64

    node_zones: Array[Zone] = array(Zone, MAX_NR_ZONES)
    node_zonelists: Array[Zonelist] = array(Zonelist, 2)  # fallback; nofallback for __GFP_THISNODE
    node_id: int = fixed(i32)
    online: int = i32()
    nr_zones: int = i32()
    kswapd_order: int = i32()
    kswapd_highest_zoneidx: int = i32()
    kswapd_failures: int = i32()
    kcompactd_max_order: int = i32()
    kcompactd_highest_zoneidx: int = i32()
    kswapd_wait: WaitQueue = embed(WaitQueue)
    kcompactd_wait: WaitQueue = embed(WaitQueue)
    pfmemalloc_wait: WaitQueue = embed(WaitQueue)  # direct reclaimers throttled until kswapd has refilled the reserve
    lru_lock: Spinlock = embed(Spinlock)
    lruvecs: Array[Lruvec] = array(Lruvec, 1 + MAX_MEMCGS)  # the root's first
    min_unmapped_pages: int = i64()
    min_slab_pages: int = i64()
    node_start_pfn: int = i64()
    node_spanned_pages: int = i64()
    node_present_pages: int = i64()
    totalreserve_pages: int = i64()
    pgdat_flags: int = i64()
    per_cpu_nodestats: int = fixed(i64)  # offset of CPU 0's
    vm_stat: Array[AtomicLong] = array(AtomicLong, NR_NODE_STATS)
    distance: Array[int] = array(i32, MAX_NUMNODES)


@struct
class Work(Struct):
    """One slot of a CPU's work queue."""

    kind: int = i32()
    _hole: int = i32()
    arg: int = i64()


PAGEVEC_SIZE = 15


@struct
class Pagevec(Struct):
    """``struct pagevec``: pages (pfns) on their way to the LRU lists, a reference held on each."""

    nr: int = i64()
    pages: Array[int] = array(i64, PAGEVEC_SIZE)


WORKS = 16
RX_RING = 64


@struct
class Cpu(Struct):
    """One simulated CPU: the per-cpu variables of the allocator."""

    _align_ = 64

    party: Party = embed(Party)
    pageset_offset: int = fixed(i64)  # index * sizeof(Pageset)
    nodestat_offset: int = fixed(i64)
    current: int = i64()  # offset of the running task
    node: int = fixed(i32)
    irq_pending: int = u32()  # bits of IRQ_*, set by others
    irq_nesting: int = i32()  # interrupt contexts entered: in_interrupt()
    softirq: int = i32()  # serving a softirq
    trace: int = i32()  # record events
    online: int = i32()
    irq_entries: int = i32()
    ticks: int = i32()  # timer interrupts
    capture: int = i64()  # current->capture_control: zone offset of a running direct compaction; 0: none
    bulk: ListHead = embed(ListHead)  # free_pcppages_bulk()'s pages on their way out
    batch: ListHead = embed(ListHead)  # free_unref_page_list()'s argument
    work_head: int = u32()
    work_tail: int = u32()  # who flushes sleeps on it
    doorbell: int = u32()  # grows when there is something new: a command, work, an interrupt, one's turn
    asleep: int = u32()  # sleeping on the doorbell
    irq_stat: int = fixed(i64)  # offset from this record of its IrqStat; 0: none
    event_ring: int = fixed(i64)  # offset
    command: int = u32()  # grows when the parent posts a command
    answered: int = u32()  # the command that was done last
    command_code: int = i32()
    command_args: Array[int] = array(i64, 6)
    works: Array[Work] = array(Work, WORKS)
    rx_ring: Array[int] = array(i64, RX_RING)  # the network card's receive ring: pfn + 1
    rx_next: int = i64()
    rx_dropped: int = i64()
    work_lock: Spinlock = embed(Spinlock)
    vm_events: Array[int] = array(i64, NR_VM_EVENTS)
    warned: int = i64()  # WARN_ON_ONCE bits already used by this CPU's reports
    result: int = i64()  # of the last command; from here on nothing that the hot path looks at
    pagevecs: Array[Pagevec] = array(Pagevec, 4)  # PAGEVEC_* of emu.mm.pagevec
    scratch: Array[ListHead] = array(ListHead, 16)  # heads of the lists that reclaim and compaction keep while they run
    capture_order: int = i32()
    capture_page: int = i64()  # the captured pfn + 1
    critical: int = i32()  # sections entered whose half-done work no spinlock tells of (emu.zone.critical)
    critical_site: int = u32()  # the outermost of them
    hotplug: int = u32()  # CPUHP_* of emu.cpu.cpu_hotplug


PD_INIT_ON_ALLOC = 1
PD_INIT_ON_FREE = 2
PD_POISON = 4
PD_OWNER = 8
PD_CHECK = 16  # debug_pagealloc: check pages on every way in and out of the pcp lists


@struct
class Machine(Struct):
    """The machine: where everything lies, the switches and the sysctls."""

    _align_ = 64

    # places, offsets from this record
    mem_map: int = fixed(i64)
    mem_map_link: int = fixed(i64)  # mem_map as a list link
    pageblocks: int = fixed(i64)
    page_ext: int = fixed(i64)  # 0: none
    cpus: int = fixed(i64)
    tasks: int = fixed(i64)
    pagesets: int = fixed(i64)
    nodestats: int = fixed(i64)
    rings: int = fixed(i64)
    script: int = fixed(i64)  # operations, parameters and results of what the CPUs run
    script_size: int = fixed(i64)
    vm: int = fixed(i64)  # emu.zone.mm_types.Vm: address spaces, swap, the disk
    segment_size: int = fixed(i64)
    max_pfn: int = fixed(i64)
    nr_cpus: int = fixed(i32)
    nr_parties: int = fixed(i32)  # CPUs, daemons and extra processes: all have per-cpu areas of their own
    nr_daemons: int = fixed(i32)  # kswapd and kcompactd of each node, disk, flusher, oom_reaper
    nr_nodes: int = fixed(i32)
    nr_tasks: int = fixed(i32)
    nr_online_nodes: int = i32()
    ring_capacity: int = fixed(i32)
    policy_zone: int = i32()
    nr_online_cpus: int = i32()
    cpu_offlines: int = i32()  # how often a CPU went offline
    # switches (static branches and boot parameters)
    gfp_allowed_mask: int = i64()
    cpusets_enabled: int = i32()
    node_reclaim_mode: int = i32()
    deferred_pages: int = i32()
    memcg_kmem_enabled: int = i32()
    cma_enabled: int = fixed(i32)
    numa_stat_enabled: int = i32()
    page_debug: int = fixed(i32)  # PD_*: what is done to every page beyond the necessary
    debug_guardpage_minorder: int = fixed(i32)
    page_reporting: int = i32()
    page_group_by_mobility_disabled: int = i32()
    deviations: int = i64()  # from 5.10.262, bits of emu.zone.deviations
    node_reclaim_distance: int = i32()
    swappiness: int = i32()
    # sysctls
    min_free_kbytes: int = i32()
    user_min_free_kbytes: int = i32()
    watermark_boost_factor: int = i32()
    watermark_scale_factor: int = i32()
    percpu_pagelist_fraction: int = i32()
    vm_dirty_ratio: int = i32()
    lowmem_reserve_ratio: Array[int] = array(i32, MAX_NR_ZONES)
    totalreserve_pages: int = i64()
    warned: int = i64()  # WARN_ON_ONCE bits
    trace_clock: AtomicLong = embed(AtomicLong)
    # the machine room
    turn: int = i64()  # strictly ordered scripts: which operation is next
    stop: int = u32()  # asks all loops to end at their next step
    parent_bell: int = u32()  # grows when a CPU has an answer for the parent
    _hole: int = i32()
    drain_busy: int = u32()  # pcpu_drain_mutex: its owner's index + 1
    nodes: Array[Node] = array(Node, MAX_NUMNODES)
    jiffies: int = i64()  # of the recorded state; emu.zone.time has those since
    memcgs: Array[Memcg] = array(Memcg, MAX_MEMCGS)


PAGE_SIZE_OF = size_of(Page)
PAGESET_SIZE = size_of(Pageset)
NODESTAT_SIZE = size_of(NodeStat)
CPU_SIZE = size_of(Cpu)
PAGE_EXT_SIZE = size_of(PageExt)
assert PAGE_SIZE_OF == 32

page_record = At(Page)
zone_at = At(Zone)
zonelist_at = At(Zonelist)
pageset_at = At(Pageset)
nodestat_at = At(NodeStat)
cpu_record = At(Cpu)
pageblock_record = At(PageBlock)
page_ext_record = At(PageExt)
