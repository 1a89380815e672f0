"""Reclaim of one node (``mm/vmscan.c`` (5.10)): what its lists are like, all its memory cgroups, the conclusions.

Differs from 5.10: there is no vmpressure.
"""

from emu.compact.suitable import compact_gap, compaction_suitable
from emu.cpu.seams import COMPACT_CONTINUE, COMPACT_SUCCESS
from emu.cpu.workqueue import cond_resched
from emu.mm.disk import congestion_wait, wait_iff_congested
from emu.mm.lruvec import lruvec_at, lruvec_page_state, mem_cgroup_lruvec
from emu.mm.swapfile import get_nr_swap_pages
from emu.reclaim.scan_control import (
    DEACTIVATE_ANON, DEACTIVATE_FILE, DEF_PRIORITY, LRUVEC_CONGESTED, PGDAT_DIRTY, PGDAT_WRITEBACK, ScanControl,
    cgroup_reclaim, current_is_kswapd, take_reclaimed_slab, writeback_throttling_sane,
)  # fmt: skip
from emu.reclaim.shrink_lruvec import inactive_is_low, shrink_lruvec
from emu.reclaim.shrinker import shrink_slab
from emu.zone.deviations import R21, deviates
from emu.zone.gfp import PAGE_ALLOC_COSTLY_ORDER, gfp_compaction_allowed
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.kswapd_wake import pgdat_balanced
from emu.zone.lru import LRU_INACTIVE_ANON, LRU_INACTIVE_FILE
from emu.zone.memcg_types import MAX_MEMCGS
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Lruvec, Machine, Node
from emu.zone.vmstat import node_page_state, zone_page_state
from emu.zone.vmstat_items import (
    NR_ACTIVE_FILE, NR_FREE_PAGES, NR_INACTIVE_ANON, NR_INACTIVE_FILE, WORKINGSET_ACTIVATE_BASE,
)  # fmt: skip
from emu.zone.watermark import high_wmark_pages
from shm.atomic import fetch_or, load_acquire
from shm.core import core
from shm.point import point, site

CONGESTION_MS = 100  # HZ / 10
S_COSTS = site("shrink_node:read costs lock")
S_FLAGS = site("shrink_node:set pgdat flags")
S_HOPELESS = site("shrink_node:write kswapd_failures")


@core
def workingset_activations(m: Machine, lruvec: Lruvec, file: int) -> int:
    """``lruvec_page_state(WORKINGSET_ACTIVATE_*)``: pages that came back and were made active. The root's contain those
    of all cgroups."""
    if lruvec.memcg == 0:
        return node_page_state(m.nodes[lruvec.node], WORKINGSET_ACTIVATE_BASE + file)
    return load_acquire(lruvec.workingset_activate[file], "counter")


@core
def snapshot_refaults(m: Machine, target_memcg: int, node: Node) -> None:
    """``mm/vmscan.c:snapshot_refaults() (5.10)``: refaults from here on mean that reclaim takes what is needed."""
    lruvec = lruvec_at(m, mem_cgroup_lruvec(m, node, target_memcg))
    lruvec.refaults[0] = workingset_activations(m, lruvec, 0)
    lruvec.refaults[1] = workingset_activations(m, lruvec, 1)


@core
def should_deactivate(m: Machine, lruvec: Lruvec, file: int, inactive_lru: int) -> bool:
    """The working set changes, or the inactive list is too short."""
    return workingset_activations(m, lruvec, file) != lruvec.refaults[file] or inactive_is_low(m, lruvec, inactive_lru)


@core
def file_list_is_tiny(m: Machine, node: Node, sc: ScanControl) -> bool:
    """Free and file pages together don't make the high watermarks, but inactive anonymous ones are there: file pages
    would only be read again."""
    total_high_wmark = 0
    free = 0
    for zid in range(MAX_NR_ZONES):
        zone = node.node_zones[zid]
        free += zone_page_state(zone, NR_FREE_PAGES)
        if zone.managed_pages != 0:
            total_high_wmark += high_wmark_pages(zone)
    file = node_page_state(node, NR_ACTIVE_FILE) + node_page_state(node, NR_INACTIVE_FILE)
    anon = node_page_state(node, NR_INACTIVE_ANON)
    return file + free <= total_high_wmark and sc.may_deactivate & DEACTIVATE_ANON == 0 and anon >> sc.priority != 0


@core
def prepare_scan(m: Machine, cpu: Cpu, node: Node, target: Lruvec, sc: ScanControl) -> None:
    """The beginning of ``shrink_node()``: costs, which active lists may shrink, and whether page cache is enough."""
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_COSTS)
    sc.anon_cost = target.anon_cost
    sc.file_cost = target.file_cost
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    sc.may_deactivate = DEACTIVATE_ANON | DEACTIVATE_FILE
    if sc.force_deactivate == 0:
        if not should_deactivate(m, target, 0, LRU_INACTIVE_ANON):
            sc.may_deactivate &= ~DEACTIVATE_ANON
        if not should_deactivate(m, target, 1, LRU_INACTIVE_FILE):
            sc.may_deactivate &= ~DEACTIVATE_FILE
    file = lruvec_page_state(m, target, LRU_INACTIVE_FILE)
    trim = file >> sc.priority != 0 and sc.may_deactivate & DEACTIVATE_FILE == 0
    sc.cache_trim_mode = 1 if trim else 0
    if not cgroup_reclaim(sc):
        sc.file_is_tiny = 1 if file_list_is_tiny(m, node, sc) else 0


@core
def shrink_node_memcgs(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> None:
    """``mm/vmscan.c:shrink_node_memcgs() (5.10)``: the root and every cgroup that has pages, or the one that is over
    its limit.

    Differs from 5.10: cgroups are children of the root, without memory.min and memory.low; all are looked at, in
    order, where the kernel's global reclaim does so too, but limit reclaim in a tree goes round by turns.
    """
    target = sc.target_mem_cgroup
    for memcg in range(MAX_MEMCGS + 1):
        if target != 0 and memcg != target:
            continue
        if memcg != 0 and target == 0 and load_acquire(m.memcgs[memcg - 1], "memory") == 0:
            continue
        if not cond_resched(m, cpu):
            return
        shrink_lruvec(m, cpu, node.lruvecs[memcg], sc)
        shrink_slab(m, cpu, sc.gfp_mask, node.node_id, memcg, sc.priority)


@core
def note_kswapd_findings(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> None:
    """What kswapd learns of the node: all pages under writeback, all dirty and not queued; or that pages come round
    again before they are written, so it waits."""
    point(cpu.party, S_FLAGS)
    if sc.nr.writeback != 0 and sc.nr.writeback == sc.nr.taken:
        fetch_or(node, "pgdat_flags", PGDAT_WRITEBACK)
    if sc.nr.unqueued_dirty == sc.nr.file_taken:
        fetch_or(node, "pgdat_flags", PGDAT_DIRTY)
    if sc.nr.immediate != 0:
        congestion_wait(m, cpu, CONGESTION_MS)


@core
def throttle_congested(m: Machine, cpu: Cpu, target: Lruvec, sc: ScanControl) -> None:
    """The lists are congested when each dirty page looked at was of a congested device; direct reclaim waits then.

    Differs from 5.10: no task is PF_LOCAL_THROTTLE.
    """
    kswapd = current_is_kswapd(m, cpu)
    if kswapd or (cgroup_reclaim(sc) and writeback_throttling_sane(m, sc)):
        if sc.nr.dirty != 0 and sc.nr.dirty == sc.nr.congested:
            fetch_or(target, "lruvec_flags", LRUVEC_CONGESTED)
    if not kswapd and load_acquire(target, "lruvec_flags") & LRUVEC_CONGESTED != 0:
        wait_iff_congested(m, cpu, CONGESTION_MS)


@core
def in_reclaim_compaction(m: Machine, sc: ScanControl) -> bool:
    """``mm/vmscan.c:in_reclaim_compaction() (5.10.262)``: reclaim only makes room for compaction."""
    if not gfp_compaction_allowed(m, sc.gfp_mask) or sc.order == 0:
        return False
    return sc.order > PAGE_ALLOC_COSTLY_ORDER or sc.priority < DEF_PRIORITY - 2


@core
def should_continue_reclaim(m: Machine, cpu: Cpu, node: Node, nr_reclaimed: int, sc: ScanControl) -> bool:
    """``mm/vmscan.c:should_continue_reclaim() (5.10)``: another round at the same priority until compaction can work,
    as long as there is progress and enough left to look at."""
    if not in_reclaim_compaction(m, sc) or nr_reclaimed == 0:
        return False
    for zid in range(sc.reclaim_idx + 1):
        zone = node.node_zones[zid]
        if zone.managed_pages == 0:
            continue
        suitable = compaction_suitable(m, cpu, zone, sc.order, 0, sc.reclaim_idx)
        if suitable == COMPACT_SUCCESS or suitable == COMPACT_CONTINUE:
            return False
    inactive_lru_pages = node_page_state(node, NR_INACTIVE_FILE)
    if get_nr_swap_pages(m) > 0:
        inactive_lru_pages += node_page_state(node, NR_INACTIVE_ANON)
    return inactive_lru_pages > compact_gap(sc.order)


@core
def reset_scanned(sc: ScanControl) -> None:
    """``memset(&sc->nr, 0, ...)``"""
    sc.nr.dirty = 0
    sc.nr.unqueued_dirty = 0
    sc.nr.congested = 0
    sc.nr.writeback = 0
    sc.nr.immediate = 0
    sc.nr.file_taken = 0
    sc.nr.taken = 0


@core(cold=True)
def reset_failures(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> None:
    """Success, direct reclaim's too, revives a kswapd that has given up. R21's remedy
    (``kswapd_try_clear_hopeless()``): on a balanced node only, so that one it can't balance stays given up."""
    point(cpu.party, S_HOPELESS)
    if deviates(m, R21) and not pgdat_balanced(m, node, sc.order, sc.reclaim_idx):
        return
    node.kswapd_failures = 0


@core
def shrink_node(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> None:
    """``mm/vmscan.c:shrink_node() (5.10)``: ends early when the machine is stopped."""
    target = node.lruvecs[sc.target_mem_cgroup]
    reclaimable = False
    again = True
    while again:
        reset_scanned(sc)
        before = sc.nr_reclaimed
        prepare_scan(m, cpu, node, target, sc)
        shrink_node_memcgs(m, cpu, node, sc)
        take_reclaimed_slab(m, cpu, sc)
        nr_reclaimed = sc.nr_reclaimed - before
        if nr_reclaimed != 0:
            reclaimable = True
        if current_is_kswapd(m, cpu):
            note_kswapd_findings(m, cpu, node, sc)
        throttle_congested(m, cpu, target, sc)
        again = should_continue_reclaim(m, cpu, node, nr_reclaimed, sc) and load_acquire(m, "stop") == 0
    if reclaimable:
        reset_failures(m, cpu, node, sc)
