"""One run of kswapd: a node back to its high watermarks (``mm/vmscan.c:balance_pgdat() (5.10)``)."""

from emu.compact.suitable import compact_gap
from emu.mm.swapfile import total_swap_pages
from emu.reclaim.scan_control import (
    DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl, scan_control, set_task_reclaim_state,
)  # fmt: skip
from emu.reclaim.shrink_list import shrink_active_list
from emu.reclaim.shrink_lruvec import inactive_is_low
from emu.reclaim.shrink_node import shrink_node, snapshot_refaults
from emu.reclaim.throttle import allow_direct_reclaim, wake_up_throttled
from emu.zone.deviations import R21, deviates
from emu.zone.event import EV_BALANCE_PGDAT, record, trace_boost
from emu.zone.gfp import GFP_KERNEL
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.kswapd_wake import pgdat_balanced, wakeup_kcompactd
from emu.zone.lru import LRU_ACTIVE_ANON, LRU_INACTIVE_ANON
from emu.zone.memcg_types import MAX_MEMCGS
from emu.zone.mmzone import MAX_NR_ZONES, PAGEBLOCK_ORDER, Cpu, Machine, Node
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PAGEOUTRUN
from emu.zone.watermark import high_wmark_pages
from shm.atomic import fetch_add, load_acquire
from shm.core import OnStack, core
from shm.point import point, site
from shm.struct import Array, Struct, array, i64, struct
from shm.waitqueue import waitqueue_active

S_READ_BOOST = site("balance_pgdat:read watermark_boost")
S_BOOST = site("balance_pgdat:boost lock")
S_BALANCED = site("balance_pgdat:pgdat_balanced")
S_THROTTLED = site("balance_pgdat:waitqueue_active")
S_FAILURES = site("balance_pgdat:read kswapd_failures")
S_FAILED = site("balance_pgdat:write kswapd_failures")


@struct
class Boost(Struct):
    """The boosts that a run found: reclaim for them comes first, and they are taken back at its end."""

    nr_boost_reclaim: int = i64()
    boosted: int = i64()
    zone_boosts: Array[int] = array(i64, MAX_NR_ZONES)


boosts = OnStack(Boost)


@core
def account_boosts(m: Machine, cpu: Cpu, node: Node, highest_zoneidx: int, boost: Boost) -> None:
    """Remember what is boosted. The boosts stay in place, so that allocations near the mark stall."""
    for zid in range(highest_zoneidx + 1):
        zone = node.node_zones[zid]
        if zone.managed_pages == 0:
            continue
        point(cpu.party, S_READ_BOOST)
        boost.zone_boosts[zid] = zone.watermark_boost
        boost.nr_boost_reclaim += boost.zone_boosts[zid]
    boost.boosted = boost.nr_boost_reclaim


@core
def take_boosts_back(m: Machine, cpu: Cpu, node: Node, highest_zoneidx: int, boost: Boost) -> None:
    """The part of the boosts that this run has seen; others may have been added since."""
    for zid in range(highest_zoneidx + 1):
        if boost.zone_boosts[zid] == 0:
            continue
        zone = node.node_zones[zid]
        flags = spin_lock_irqsave(cpu, zone.lock, S_BOOST)
        old = zone.watermark_boost
        zone.watermark_boost = old - min(old, boost.zone_boosts[zid])
        trace_boost(m, cpu, zone, old)
        spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core
def age_active_anon(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> None:
    """``mm/vmscan.c:age_active_anon() (5.10)``: some anonymous pages become inactive, so that their use is seen."""
    if total_swap_pages(m) == 0 or not inactive_is_low(m, node.lruvecs[0], LRU_INACTIVE_ANON):
        return
    for memcg in range(MAX_MEMCGS + 1):
        if memcg == 0 or load_acquire(m.memcgs[memcg - 1], "memory") != 0:
            shrink_active_list(m, cpu, SWAP_CLUSTER_MAX, node.lruvecs[memcg], sc, LRU_ACTIVE_ANON)


@core
def kswapd_shrink_node(m: Machine, cpu: Cpu, node: Node, sc: ScanControl) -> bool:
    """``mm/vmscan.c:kswapd_shrink_node() (5.10)``: true if as many pages were looked at as the high watermarks have.

    Twice a block's pages reclaimed are enough for a high order: what it needs then is compaction.
    """
    sc.nr_to_reclaim = 0
    for zid in range(sc.reclaim_idx + 1):
        zone = node.node_zones[zid]
        if zone.managed_pages != 0:
            sc.nr_to_reclaim += max(high_wmark_pages(zone), SWAP_CLUSTER_MAX)
    shrink_node(m, cpu, node, sc)
    if sc.order != 0 and sc.nr_reclaimed >= compact_gap(sc.order):
        sc.order = 0
    return sc.nr_scanned >= sc.nr_to_reclaim


@core
def balance_once(m: Machine, cpu: Cpu, node: Node, sc: ScanControl, boost: Boost) -> bool:
    """One priority of ``balance_pgdat()``: whether the next should be higher even if there was progress.

    For a boost nothing is written or swapped, and the priority stays low. Throttled tasks are let go when the reserves
    allow it.
    """
    raise_priority = boost.nr_boost_reclaim == 0 or sc.priority != DEF_PRIORITY - 2
    sc.may_writepage = 1 if boost.nr_boost_reclaim == 0 else 0
    sc.may_swap = sc.may_writepage
    age_active_anon(m, cpu, node, sc)
    if sc.priority < DEF_PRIORITY - 2:
        sc.may_writepage = 1
    sc.nr_scanned = 0
    if kswapd_shrink_node(m, cpu, node, sc):
        raise_priority = False
    point(cpu.party, S_THROTTLED)
    if waitqueue_active(node.pfmemalloc_wait) and allow_direct_reclaim(m, cpu, node):
        wake_up_throttled(m, node)
    return raise_priority


@core
def reclaim_until_balanced(m: Machine, cpu: Cpu, node: Node, sc: ScanControl, boost: Boost) -> bool:
    """The loop of ``balance_pgdat()``: true when the node is balanced, false when it gives up.

    A node below its marks is no matter of boosts: they are forgotten and it starts anew. Reclaim for a boost that finds
    nothing ends at once. Ends when the machine is stopped.
    """
    highest_zoneidx = sc.reclaim_idx
    sc.priority = DEF_PRIORITY
    while sc.priority >= 1:
        before = sc.nr_reclaimed
        sc.reclaim_idx = highest_zoneidx
        point(cpu.party, S_BALANCED)
        balanced = pgdat_balanced(m, node, sc.order, highest_zoneidx)
        if not balanced and boost.nr_boost_reclaim != 0:
            boost.nr_boost_reclaim = 0
            sc.priority = DEF_PRIORITY
            continue
        if balanced and boost.nr_boost_reclaim == 0:
            return True
        raise_priority = balance_once(m, cpu, node, sc, boost)
        if load_acquire(m, "stop") != 0:
            return False
        nr_reclaimed = sc.nr_reclaimed - before
        boost.nr_boost_reclaim -= min(boost.nr_boost_reclaim, nr_reclaimed)
        if boost.nr_boost_reclaim != 0 and nr_reclaimed == 0:
            return False
        if raise_priority or nr_reclaimed == 0:
            sc.priority -= 1
    return False


@core(cold=True)
def count_failure(m: Machine, cpu: Cpu, node: Node) -> None:
    """``pgdat->kswapd_failures++``: a direct reclaimer's reset in the middle of it is lost. R21's remedy: an atomic
    counter."""
    point(cpu.party, S_FAILURES)
    if deviates(m, R21):
        fetch_add(node, "kswapd_failures", 1)
        return
    failures = node.kswapd_failures
    point(cpu.party, S_FAILED)
    node.kswapd_failures = failures + 1


@core
def balance_pgdat(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> int:
    """``mm/vmscan.c:balance_pgdat() (5.10)``: the order that it ended with.

    Differs from 5.10: there are no soft limits of cgroups and no buffer heads.
    """
    sc = scan_control()
    boost = boosts()
    sc.gfp_mask = GFP_KERNEL
    sc.order = order
    sc.may_unmap = 1
    sc.reclaim_idx = highest_zoneidx
    set_task_reclaim_state(m, cpu, sc)
    __count_vm_events(cpu, PAGEOUTRUN, 1)
    account_boosts(m, cpu, node, highest_zoneidx, boost)
    if not reclaim_until_balanced(m, cpu, node, sc, boost) and sc.nr_reclaimed == 0:
        count_failure(m, cpu, node)
    if boost.boosted != 0:
        take_boosts_back(m, cpu, node, highest_zoneidx, boost)
        wakeup_kcompactd(m, cpu, node, PAGEBLOCK_ORDER, highest_zoneidx)
    snapshot_refaults(m, 0, node)
    if cpu.trace != 0:
        b = node.node_id | max(sc.priority, 0) << 8
        record(m, cpu, EV_BALANCE_PGDAT, -1, sc.order, 0, 0, sc.nr_reclaimed, b)
    return sc.order
