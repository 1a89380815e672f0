"""Direct reclaim: an allocation reclaims for itself (``mm/vmscan.c``, ``mm/page_alloc.c`` (5.10.262))."""

from emu.compact.suitable import compact_gap, compaction_suitable, zone_reclaimable_pages
from emu.cpu.seams import COMPACT_SKIPPED, COMPACT_SUCCESS, __perform_reclaim, should_reclaim_retry
from emu.cpu.task import current_gfp_context
from emu.cpu.wait import schedule_timeout_uninterruptible
from emu.cpu.workqueue import cond_resched
from emu.mm.disk import congestion_wait
from emu.mm.seams import try_to_free_mem_cgroup_pages
from emu.reclaim.scan_control import (
    DEF_PRIORITY, LRUVEC_CONGESTED, SWAP_CLUSTER_MAX, ScanControl, cgroup_reclaim, scan_control,
    set_task_reclaim_state,
)  # fmt: skip
from emu.reclaim.shrink_node import CONGESTION_MS, shrink_node, snapshot_refaults
from emu.reclaim.throttle import throttle_direct_reclaim
from emu.zone.event import (
    EV_DIRECT_RECLAIM_BEGIN, EV_DIRECT_RECLAIM_END, EV_MEMCG_RECLAIM_BEGIN, EV_MEMCG_RECLAIM_END, EV_RECLAIM_RETRY,
    record,
)  # fmt: skip
from emu.zone.gfp import (
    __GFP_HARDWALL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RECLAIM_MASK, PAGE_ALLOC_COSTLY_ORDER, PF_MEMALLOC,
    PF_WQ_WORKER, gfp_compaction_allowed, gfp_zone,
)  # fmt: skip
from emu.zone.highatomic import unreserve_highatomic_pageblock
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES, cpuset_zone_allowed
from emu.zone.alloc_context import NODEMASK_NONE, AllocContext
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Zone, zone_at
from emu.zone.sched import task_at
from emu.zone.time import NS_PER_JIFFY
from emu.zone.vmstat import __count_vm_events, zone_page_state_snapshot
from emu.zone.vmstat_items import ALLOCSTALL, NR_FREE_PAGES, NR_ZONE_WRITE_PENDING
from emu.zone.watermark import __zone_watermark_ok, high_wmark_pages, min_wmark_pages, zone_watermark_ok_safe
from emu.zone.zonelist import next_zones_zonelist, node_zonelist, zonelist_zone
from shm.atomic import fetch_and, load_acquire
from shm.core import core, implements
from shm.point import point, site

KEEP = (1 << 32) - 1
S_RESCHED = site("should_reclaim_retry:cond_resched")


@core
def memalloc_noreclaim_save(m: Machine, cpu: Cpu) -> int:
    """``memalloc_noreclaim_save()``: what the task allocates now doesn't reclaim, and may use the reserves."""
    task = task_at(m, cpu.current)
    flags = task.process_flags & PF_MEMALLOC
    task.process_flags = task.process_flags | PF_MEMALLOC
    return flags


@core
def memalloc_noreclaim_restore(m: Machine, cpu: Cpu, flags: int) -> None:
    """``memalloc_noreclaim_restore()``"""
    task = task_at(m, cpu.current)
    task.process_flags = task.process_flags & (KEEP - PF_MEMALLOC) | flags


@core
def compaction_ready(m: Machine, cpu: Cpu, zone: Zone, sc: ScanControl) -> bool:
    """``mm/vmscan.c:compaction_ready() (5.10.262)``: the zone has what compaction needs, and some to spare for others;
    or the allocation needs no compaction."""
    if not gfp_compaction_allowed(m, sc.gfp_mask):
        return False
    suitable = compaction_suitable(m, cpu, zone, sc.order, 0, sc.reclaim_idx)
    if suitable == COMPACT_SUCCESS:
        return True
    if suitable == COMPACT_SKIPPED:
        return False
    return zone_watermark_ok_safe(m, zone, 0, high_wmark_pages(zone) + compact_gap(sc.order), sc.reclaim_idx)


@core
def wants_reclaim(m: Machine, cpu: Cpu, zone: Zone, sc: ScanControl) -> bool:
    """The tests of ``shrink_zones()`` before a zone's node is reclaimed from for the whole machine's sake."""
    if not cpuset_zone_allowed(m, cpu, zone, GFP_KERNEL | __GFP_HARDWALL):
        return False
    if sc.order > PAGE_ALLOC_COSTLY_ORDER and compaction_ready(m, cpu, zone, sc):
        sc.compaction_ready = 1
        return False
    return True


@core
def shrink_zones(m: Machine, cpu: Cpu, sc: ScanControl) -> None:
    """``mm/vmscan.c:shrink_zones() (5.10)``: every node of the zonelist once.

    Differs from 5.10: there are no soft limits of cgroups and no buffer heads.
    """
    last = -1
    z = next_zones_zonelist(m, cpu, sc.zones, 0)
    while zonelist_zone(m, sc.zones, z) != 0:
        zone = zone_at(m, zonelist_zone(m, sc.zones, z))
        if (cgroup_reclaim(sc) or wants_reclaim(m, cpu, zone, sc)) and zone.node != last:
            last = zone.node
            shrink_node(m, cpu, m.nodes[last], sc)
        z = next_zones_zonelist(m, cpu, sc.zones, z + 1)


@core
def after_reclaim(m: Machine, cpu: Cpu, sc: ScanControl) -> None:
    """Snapshots of the refaults on every node that was reclaimed from."""
    last = -1
    z = next_zones_zonelist(m, cpu, sc.zones, 0)
    while zonelist_zone(m, sc.zones, z) != 0:
        zone = zone_at(m, zonelist_zone(m, sc.zones, z))
        if zone.node != last:
            last = zone.node
            snapshot_refaults(m, sc.target_mem_cgroup, m.nodes[last])
            if cgroup_reclaim(sc):
                lruvec = m.nodes[last].lruvecs[sc.target_mem_cgroup]
                fetch_and(lruvec, "lruvec_flags", KEEP - LRUVEC_CONGESTED)
        z = next_zones_zonelist(m, cpu, sc.zones, z + 1)


@core
def reclaim_with_rising_priority(m: Machine, cpu: Cpu, sc: ScanControl) -> None:
    """The loop of ``do_try_to_free_pages()``: a twice as large part of the lists each time, until it is enough."""
    while sc.priority >= 0 and load_acquire(m, "stop") == 0:
        sc.nr_scanned = 0
        shrink_zones(m, cpu, sc)
        if sc.nr_reclaimed >= sc.nr_to_reclaim or sc.compaction_ready != 0:
            return
        if sc.priority < DEF_PRIORITY - 2:
            sc.may_writepage = 1
        sc.priority -= 1


@core
def do_try_to_free_pages(m: Machine, cpu: Cpu, sc: ScanControl) -> int:
    """``mm/vmscan.c:do_try_to_free_pages() (5.10)``: pages reclaimed; 1 when compaction had better try; 0 means out of
    memory. Active pages that were spared are fair game in a second attempt."""
    initial_priority = sc.priority
    while True:
        if not cgroup_reclaim(sc):
            __count_vm_events(cpu, ALLOCSTALL + sc.reclaim_idx, 1)
        reclaim_with_rising_priority(m, cpu, sc)
        after_reclaim(m, cpu, sc)
        if sc.nr_reclaimed != 0:
            return sc.nr_reclaimed
        if sc.compaction_ready != 0:
            return 1
        if sc.skipped_deactivate == 0 or load_acquire(m, "stop") != 0:
            return 0
        sc.priority = initial_priority
        sc.force_deactivate = 1
        sc.skipped_deactivate = 0


@core
def set_zones(m: Machine, cpu: Cpu, sc: ScanControl, zonelist: int, nodemask: int, nodemask_kind: int) -> None:
    """Which zones the reclaim goes through: those up to ``reclaim_idx`` of a zonelist."""
    sc.zones.zonelist = zonelist
    sc.zones.nodemask = nodemask
    sc.zones.nodemask_kind = nodemask_kind
    sc.zones.highest_zoneidx = sc.reclaim_idx


@core(cold=True)
def try_to_free_pages(m: Machine, cpu: Cpu, order: int, gfp_mask: int, ac: AllocContext) -> int:
    """``mm/vmscan.c:try_to_free_pages() (5.10)``: pages reclaimed from the zones of ``ac``; 1 if the task was killed
    while it was throttled, so that nobody else is killed for it."""
    sc = scan_control()
    sc.nr_to_reclaim = SWAP_CLUSTER_MAX
    sc.gfp_mask = current_gfp_context(task_at(m, cpu.current), gfp_mask)
    sc.reclaim_idx = gfp_zone(gfp_mask)
    sc.order = order
    sc.priority = DEF_PRIORITY
    sc.may_writepage = 1
    sc.may_unmap = 1
    sc.may_swap = 1
    set_zones(m, cpu, sc, ac.zonelist, ac.nodemask, ac.nodemask_kind)
    if throttle_direct_reclaim(m, cpu, sc):
        return 1
    set_task_reclaim_state(m, cpu, sc)
    if cpu.trace != 0:
        record(m, cpu, EV_DIRECT_RECLAIM_BEGIN, -1, order, 0, sc.gfp_mask, 0, 0)
    nr_reclaimed = do_try_to_free_pages(m, cpu, sc)
    if cpu.trace != 0:
        record(m, cpu, EV_DIRECT_RECLAIM_END, -1, order, 0, sc.gfp_mask, nr_reclaimed, 0)
    return nr_reclaimed


@implements(__perform_reclaim)
def perform_reclaim(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__perform_reclaim() (5.10)``"""
    cond_resched(m, cpu)
    flags = memalloc_noreclaim_save(m, cpu)
    progress = try_to_free_pages(m, cpu, order, gfp_mask, ac)
    memalloc_noreclaim_restore(m, cpu, flags)
    cond_resched(m, cpu)
    return progress


@implements(try_to_free_mem_cgroup_pages)
def reclaim_mem_cgroup(m: Machine, cpu: Cpu, memcg: int, nr_pages: int, gfp_mask: int, may_swap: int) -> int:
    """``mm/vmscan.c:try_to_free_mem_cgroup_pages() (5.10)``: pages reclaimed from one cgroup (index + 1), on all nodes
    in the order of this CPU's."""
    sc = scan_control()
    sc.nr_to_reclaim = max(nr_pages, SWAP_CLUSTER_MAX)
    sc.gfp_mask = current_gfp_context(task_at(m, cpu.current), gfp_mask) & GFP_RECLAIM_MASK
    sc.gfp_mask |= GFP_HIGHUSER_MOVABLE & ~GFP_RECLAIM_MASK
    sc.reclaim_idx = MAX_NR_ZONES - 1
    sc.target_mem_cgroup = memcg
    sc.priority = DEF_PRIORITY
    sc.may_writepage = 1
    sc.may_unmap = 1
    sc.may_swap = may_swap
    set_zones(m, cpu, sc, node_zonelist(m, cpu.node, sc.gfp_mask), 0, NODEMASK_NONE)
    set_task_reclaim_state(m, cpu, sc)
    if cpu.trace != 0:
        record(m, cpu, EV_MEMCG_RECLAIM_BEGIN, -1, 0, 0, sc.gfp_mask, 0, 0)
    flags = memalloc_noreclaim_save(m, cpu)
    nr_reclaimed = do_try_to_free_pages(m, cpu, sc)
    memalloc_noreclaim_restore(m, cpu, flags)
    if cpu.trace != 0:
        record(m, cpu, EV_MEMCG_RECLAIM_END, -1, 0, 0, sc.gfp_mask, nr_reclaimed, 0)
    return nr_reclaimed


@core
def zone_could_do(
    m: Machine, cpu: Cpu, zone: Zone, order: int, alloc_flags: int, highest_zoneidx: int, loops: int
) -> int:
    """One zone of ``should_reclaim_retry()``: reclaimable pages if they and the free ones would be enough, else -1."""
    min_wmark = min_wmark_pages(zone)
    reclaimable = zone_reclaimable_pages(m, zone)
    available = reclaimable + zone_page_state_snapshot(m, zone, NR_FREE_PAGES)
    wmark = __zone_watermark_ok(m, zone, order, min_wmark, highest_zoneidx, alloc_flags, available)
    if cpu.trace != 0:
        verdict = 1 if wmark else 0
        b = zone.zone_id | loops << 8 | verdict << 16 | min_wmark << 20
        record(m, cpu, EV_RECLAIM_RETRY, -1, order, 0, 0, reclaimable | available << 32, b)
    return reclaimable if wmark else -1


@implements(should_reclaim_retry)
def reclaim_may_help(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, alloc_flags: int, progress: int, loops: int
) -> bool:
    """``mm/page_alloc.c:should_reclaim_retry() (5.10)``: some zone would do if all that can be reclaimed were free.

    After 16 rounds without progress only a highatomic reserve may still help. When most of what can be reclaimed waits
    for the disk, so does the task.
    """
    if loops > MAX_RECLAIM_RETRIES:
        return unreserve_highatomic_pageblock(m, cpu, ac, 1)
    z = next_zones_zonelist(m, cpu, ac, 0)
    found = False
    while zonelist_zone(m, ac, z) != 0 and not found:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        reclaimable = zone_could_do(m, cpu, zone, order, alloc_flags, ac.highest_zoneidx, loops)
        if reclaimable >= 0:
            found = True
            if progress == 0 and 2 * zone_page_state_snapshot(m, zone, NR_ZONE_WRITE_PENDING) > reclaimable:
                congestion_wait(m, cpu, CONGESTION_MS)
                return True
        z = next_zones_zonelist(m, cpu, ac, z + 1)
    point(cpu.party, S_RESCHED)
    if task_at(m, cpu.current).process_flags & PF_WQ_WORKER != 0:
        schedule_timeout_uninterruptible(m, cpu, NS_PER_JIFFY)
    else:
        cond_resched(m, cpu)
    return found
