"""Trace points and reports, into the CPU's event ring (``include/trace/events/kmem.h`` and others (5.10)).

With tracing off a trace point is one predictable branch. Reports (warnings, bad pages) are always recorded. Every
record carries a machine-wide sequence number, as the kernel's ``trace_clock=counter`` does.
"""

from emu.zone.mmzone import Cpu, Machine, Zone
from shm.atomic import barrier, clock_ns, fetch_add
from shm.core import core
from shm.ring import Ring, ring_commit, ring_reserve
from shm.struct import At, Struct, i16, i32, i64, struct, u8, u32

KINDS = (
    "none", "mm_page_alloc", "mm_page_free", "mm_page_free_batched", "mm_page_alloc_zone_locked", "mm_page_pcpu_drain",
    "mm_page_alloc_extfrag", "mm_vmscan_wakeup_kswapd", "mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep", "warn",
    "bad_page", "page_alloc_failure", "poison", "mm_vmscan_memcg_reclaim_begin", "mm_vmscan_memcg_reclaim_end",
    "reclaim_retry", "slowpath", "buddy_free",
    "mm_vmscan_direct_reclaim_begin", "mm_vmscan_direct_reclaim_end", "mm_vmscan_lru_isolate",
    "mm_vmscan_lru_shrink_inactive", "mm_vmscan_lru_shrink_active", "mm_shrink_slab_start", "mm_shrink_slab_end",
    "mm_vmscan_writepage", "mm_vmscan_node_reclaim_begin", "mm_vmscan_node_reclaim_end", "balance_pgdat",
    "mm_compaction_begin", "mm_compaction_end", "mm_compaction_finished", "mm_compaction_suitable",
    "mm_compaction_deferred", "mm_compaction_defer_compaction", "mm_compaction_defer_reset",
    "mm_compaction_isolate_migratepages", "mm_compaction_isolate_freepages", "mm_compaction_migratepages",
    "mm_compaction_try_to_compact_pages", "mm_compaction_kcompactd_sleep", "mm_compaction_kcompactd_wake",
    "mm_compaction_wakeup_kcompactd", "compact_retry", "mark_victim", "wake_reaper", "start_task_reaping",
    "finish_task_reaping", "skip_task_reaping", "oom_score_adj_update", "oom_kill", "isolate_free", "boost",
    "mm_migrate_pages", "oom_panic", "memory_hotplug", "set_migratetype_isolate",
    "oom_task", "oom_summary", "oom_killed", "oom_reaped", "oom_message",
)  # fmt: skip
EV_ALLOC = 1
EV_FREE = 2
EV_FREE_BATCHED = 3
EV_ZONE_LOCKED = 4
EV_PCPU_DRAIN = 5
EV_EXTFRAG = 6
EV_WAKEUP_KSWAPD = 7
EV_KSWAPD_WAKE = 8
EV_KSWAPD_SLEEP = 9
EV_WARN = 10
EV_BAD_PAGE = 11
EV_ALLOC_FAILURE = 12
EV_POISON = 13
EV_MEMCG_RECLAIM_BEGIN = 14  # gfp, order 0
EV_MEMCG_RECLAIM_END = 15  # gfp, a = nr_reclaimed
EV_RECLAIM_RETRY = 16  # a = reclaimable | available << 32, b = zone_id | loops << 8 | would do << 16 | min wmark << 20
EV_SLOWPATH = 17
EV_BUDDY_FREE = 18  # a block as listed after merging: a = pfn freed, b = its order | to the tail << 8
EV_DIRECT_RECLAIM_BEGIN = 19  # gfp, order
EV_DIRECT_RECLAIM_END = 20  # a = nr_reclaimed
# order, migratetype = reclaim_idx, gfp = isolate mode; a = nr_requested | nr_scanned << 20 | nr_skipped << 40,
# b = nr_taken | lru << 32
EV_LRU_ISOLATE = 21
# migratetype = nr_unmap_fail; a = nr_scanned | nr_reclaimed << 32, b = nid | priority << 8 | file << 16 and, six bits
# each from bit 20 on, nr_dirty nr_writeback nr_congested nr_immediate nr_activate_anon nr_activate_file nr_ref_keep
EV_LRU_SHRINK_INACTIVE = 22
# a = nr_taken | nr_deactivated << 32, b = nid | priority << 8 | file << 16 | nr_active << 20 | nr_referenced << 26
EV_LRU_SHRINK_ACTIVE = 23
# pfn = nr deferred, order = priority, migratetype = nid, gfp; a = freeable | delta << 32, b = total_scan | cache << 48
EV_SHRINK_SLAB_START = 24
# pfn = nr deferred before, migratetype = nid; a = freed | total_scan << 32, b = deferred after | cache << 48
EV_SHRINK_SLAB_END = 25
EV_WRITEPAGE = 26  # pfn; a = RECLAIM_WB_* of emu.reclaim.pageout
EV_NODE_RECLAIM_BEGIN = 27  # order, gfp; a = nid
EV_NODE_RECLAIM_END = 28  # a = nr_reclaimed
EV_BALANCE_PGDAT = 29  # the end of one: order, a = nr_reclaimed, b = nid | priority << 8
EV_COMPACTION_BEGIN = 30  # pfn = migrate_pfn, a = free_pfn, b = sync | zone_id << 8
EV_COMPACTION_END = 31  # pfn = migrate_pfn, a = free_pfn, b = sync | zone_id << 8 | COMPACT_* << 16
EV_COMPACTION_FINISHED = 32  # order, a = COMPACT_*, b = zone_id
EV_COMPACTION_SUITABLE = 33  # order, a = COMPACT_*, b = zone_id
EV_COMPACTION_DEFERRED = 34  # order, a = considered | defer_shift << 32, b = zone_id | order_failed << 16
EV_DEFER_COMPACTION = 35  # as EV_COMPACTION_DEFERRED
EV_DEFER_RESET = 36  # as EV_COMPACTION_DEFERRED
EV_ISOLATE_MIGRATEPAGES = 37  # pfn = start, a = end, b = nr_scanned | nr_taken << 32
EV_ISOLATE_FREEPAGES = 38  # as EV_ISOLATE_MIGRATEPAGES
EV_MIGRATEPAGES = 39  # a = nr_migrated, b = nr_failed
EV_TRY_TO_COMPACT_PAGES = 40  # order, gfp, a = priority
EV_KCOMPACTD_SLEEP = 41  # a = nid
EV_KCOMPACTD_WAKE = 42  # order, a = nid, b = highest_zoneidx
EV_WAKEUP_KCOMPACTD = 43  # order, a = nid, b = highest_zoneidx
EV_COMPACT_RETRY = 44  # order, a = priority | COMPACT_* << 8 | retry << 16, b = retries | max_retries << 32
EV_MARK_VICTIM = 45
EV_WAKE_REAPER = 46
EV_START_REAPING = 47
EV_FINISH_REAPING = 48
EV_SKIP_REAPING = 49
EV_OOM_SCORE_ADJ = 50
EV_OOM_KILL = 51  # a report: gfp, order; pfn = nodemask, b = memcg, migratetype 1: the tasks follow
EV_ISOLATE_FREE = 52  # pfn, order, migratetype of the pageblock
EV_BOOST = 53  # watermark_boost changed: a = zone_id, b = old | new << 32
EV_MIGRATE_PAGES = 54  # a = nr_succeeded | nr_failed << 32, b = mode | reason << 8
EV_OOM_PANIC = 55  # a report: order = which (OOM_PANIC_*)
EV_HOTPLUG = 56  # a report: a = first pfn, b = pages | online << 62, order = why it failed (HOTPLUG_*), pfn in the way
EV_SET_ISOLATE = 57  # pfn; migratetype it had or gets; a = 1 isolated, 0 given back; b = unmovable pfn or -1
# Reports of a task's memory, as EV_MARK_VICTIM: gfp = number of the task | (oom_score_adj + 1000) << 16; in pages:
# pfn = total_vm | page tables << 32, a = anon | file << 32, b = shmem | swapents << 32
EV_OOM_TASK = 58
EV_OOM_SUMMARY = 59  # a report: a = victim's number, b = constraint | memcg << 8 | its memcg << 16, pfn = nodemask
EV_OOM_KILLED = 60  # order = why (OOM_BY_*)
EV_OOM_REAPED = 61
EV_OOM_MESSAGE = 62  # a report: order = which (OOM_SAYS_*), a, b = numbers of tasks
REPORTS = (EV_WARN, EV_BAD_PAGE, EV_ALLOC_FAILURE, EV_POISON, EV_OOM_KILL, EV_OOM_PANIC, EV_HOTPLUG,
           EV_OOM_TASK, EV_OOM_SUMMARY, EV_OOM_KILLED, EV_OOM_REAPED, EV_OOM_MESSAGE)  # fmt: skip

WARNINGS = (
    "__alloc_pages_nodemask: order >= MAX_ORDER",
    "rmqueue: __GFP_NOFAIL with order > 1",
    "__alloc_pages_slowpath: __GFP_ATOMIC with __GFP_DIRECT_RECLAIM",
    "__alloc_pages_slowpath: __GFP_NOFAIL without __GFP_DIRECT_RECLAIM",
    "__alloc_pages_slowpath: __GFP_NOFAIL from PF_MEMALLOC context",
    "__alloc_pages_slowpath: __GFP_NOFAIL with order > PAGE_ALLOC_COSTLY_ORDER",
    "policy_node: MPOL_BIND with __GFP_THISNODE",
    "__alloc_pages_may_oom: __GFP_NOFAIL with nobody to kill",
)
WARN_ORDER = 0
WARN_NOFAIL_ORDER = 1
WARN_ATOMIC_RECLAIM = 2
WARN_NOFAIL_ATOMIC = 3
WARN_NOFAIL_MEMALLOC = 4
WARN_NOFAIL_COSTLY = 5
WARN_BIND_THISNODE = 6
WARN_NOFAIL_OOM = 7


@struct
class Event(Struct):
    """One record, 64 bytes."""

    seq: int = i64()
    ts: int = i64()  # CLOCK_MONOTONIC ns
    pfn: int = i64()
    a: int = i64()
    b: int = i64()
    gfp: int = u32()
    task: int = i32()
    kind: int = u8()
    order: int = u8()
    migratetype: int = u8()
    irq: int = u8()
    cpu: int = i16()
    fallback_order: int = i16()


ring_at = At(Ring)
event_at = At(Event)


@core(cold=True)
def record(m: Machine, cpu: Cpu, kind: int, pfn: int, order: int, migratetype: int, gfp: int, a: int, b: int) -> None:
    """Write one record. An interrupt that comes meanwhile, and writes one too, has to wait."""
    irqs_off = cpu.party.irqs_off
    cpu.party.irqs_off = 1
    barrier()
    ring = ring_at(m, cpu.event_ring)
    slot = ring_reserve(ring)
    seq = fetch_add(m.trace_clock, "counter", 1)
    if slot < 0:
        cpu.party.irqs_off = irqs_off
        return
    e = event_at(ring, slot)
    e.seq = seq
    e.ts = clock_ns()
    e.pfn = pfn
    e.a = a
    e.b = b
    e.gfp = gfp
    e.task = cpu.current - m.tasks
    e.kind = kind
    e.order = order
    e.migratetype = migratetype
    e.irq = irqs_off | cpu.irq_nesting << 1
    e.cpu = cpu.party.index
    e.fallback_order = 0
    ring_commit(ring)
    barrier()
    cpu.party.irqs_off = irqs_off


@core(inline=True)
def trace_mm_page_alloc(m: Machine, cpu: Cpu, pfn: int, order: int, gfp: int, migratetype: int) -> None:
    """``mm_page_alloc``; pfn -1: failed."""
    if cpu.trace != 0:
        record(m, cpu, EV_ALLOC, pfn, order, migratetype, gfp, 0, 0)


@core(inline=True)
def trace_mm_page_free(m: Machine, cpu: Cpu, pfn: int, order: int) -> None:
    """``mm_page_free``"""
    if cpu.trace != 0:
        record(m, cpu, EV_FREE, pfn, order, 0, 0, 0, 0)


@core(inline=True)
def trace_mm_page_free_batched(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm_page_free_batched``"""
    if cpu.trace != 0:
        record(m, cpu, EV_FREE_BATCHED, pfn, 0, 0, 0, 0, 0)


@core(inline=True)
def trace_mm_page_alloc_zone_locked(m: Machine, cpu: Cpu, pfn: int, order: int, migratetype: int) -> None:
    """``mm_page_alloc_zone_locked``"""
    if cpu.trace != 0:
        record(m, cpu, EV_ZONE_LOCKED, pfn, order, migratetype, 0, 0, 0)


@core(inline=True)
def trace_mm_page_pcpu_drain(m: Machine, cpu: Cpu, pfn: int, order: int, migratetype: int) -> None:
    """``mm_page_pcpu_drain``"""
    if cpu.trace != 0:
        record(m, cpu, EV_PCPU_DRAIN, pfn, order, migratetype, 0, 0, 0)


@core(inline=True)
def trace_mm_page_alloc_extfrag(
    m: Machine, cpu: Cpu, pfn: int, alloc_order: int, fallback_order: int, migratetype: int, fallback: int, owned: int
) -> None:
    """``mm_page_alloc_extfrag``: ``a`` = fallback order | change_ownership << 8, ``b`` = fallback migratetype."""
    if cpu.trace != 0:
        record(m, cpu, EV_EXTFRAG, pfn, alloc_order, migratetype, 0, fallback_order | owned << 8, fallback)


@core(inline=True)
def trace_buddy_free(
    m: Machine, cpu: Cpu, pfn: int, order: int, freed_pfn: int, freed_order: int, migratetype: int, tail: int
) -> None:
    """The end of ``__free_one_page()``, which has no trace point of its own: the block as listed, the block freed."""
    if cpu.trace != 0:
        record(m, cpu, EV_BUDDY_FREE, pfn, order, migratetype, 0, freed_pfn, freed_order | tail << 8)


@core(cold=True)
def trace_boost(m: Machine, cpu: Cpu, zone: Zone, old: int) -> None:
    """``watermark_boost`` has changed, which has no trace point of its own."""
    if cpu.trace != 0:
        record(m, cpu, EV_BOOST, -1, 0, 0, 0, zone.zone_id, old | zone.watermark_boost << 32)


@core(cold=True)
def warn_on_once(m: Machine, cpu: Cpu, which: int, gfp: int, order: int) -> None:
    """``WARN_ON_ONCE``: the first CPU to get here reports, once for the machine's life."""
    if fetch_warned(m, which) == 0:
        record(m, cpu, EV_WARN, -1, order, 0, gfp, which, 0)


@core(cold=True)
def fetch_warned(m: Machine, which: int) -> int:
    """Test and set the once-bit of a warning."""
    old = m.warned
    m.warned = old | 1 << which
    return old >> which & 1
