"""Invariants of reclaim: what kswapd owes those who called it, and what counters may hide."""

from emu.race.area import RaceArea
from emu.race.ops_reclaim import G_ORDER, G_ZONEIDX
from emu.race.scenario import Invariant
from emu.reclaim.kswapd import KSWAPD_TRY_TO_SLEEP
from emu.zone.event import EV_KSWAPD_WAKE, EV_RECLAIM_RETRY, event_at, ring_at
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES, pgdat_balanced
from emu.zone.lru import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    CPU_SIZE,
    MAX_NR_ZONES,
    MAX_ORDER,
    PAGESET_SIZE,
    WMARK_MIN,
    ZONE_BOOSTED_WATERMARK,
    Cpu,
    Machine,
    Zone,
    cpu_record,
    pageset_at,
)  # fmt: skip
from emu.zone.setup import calculate_pressure_threshold
from emu.zone.vmstat import zone_page_state_snapshot
from emu.zone.vmstat_items import NR_ZONE_LRU_BASE
from emu.zone.watermark import high_wmark_pages
from shm.atomic import load_acquire
from shm.core import core
from shm.ring import RING_HEADER
from shm.waitqueue import waitqueue_active

BASE = 32
(INV_SERVED, INV_KEPT, INV_NO_BOOST, INV_ANNOUNCED, INV_WOKEN, INV_MIN, INV_PRESSURE, INV_AVAILABLE, INV_HOPELESS,
 INV_NULL) = range(BASE, BASE + 10)  # fmt: skip

request_served = Invariant(
    "request_served", INV_SERVED,
    "kswapd sleeps, but never balanced the node for the order that was asked of it, and the node isn't balanced for it",
)  # fmt: skip
request_kept = Invariant(
    "request_kept", INV_KEPT, "what kswapd will be asked to do is less than what was asked of it: a request was undone"
)
no_boost_asleep = Invariant(
    "no_boost_asleep", INV_NO_BOOST, "kswapd sleeps while watermark_boost is set: nobody takes the boost back"
)
boost_announced = Invariant(
    "boost_announced", INV_ANNOUNCED, "a watermark was boosted and nobody called wakeup_kswapd() for it"
)
kswapd_woken = Invariant(
    "kswapd_woken", INV_WOKEN, "kswapd was called and let sleep on, with fewer pages free than the high watermark"
)
min_watermark = Invariant(
    "min_watermark", INV_MIN, "fewer pages are free than the min watermark, and nobody who took them was entitled"
)
pressure_thresholds = Invariant(
    "pressure_thresholds", INV_PRESSURE,
    "kswapd is awake, and counters may drift as far as if it slept", always=True,
)  # fmt: skip
available_exists = Invariant(
    "available_exists", INV_AVAILABLE, "should_reclaim_retry() counted on more pages than are free or reclaimable"
)
hopeless_unbalanced = Invariant(
    "hopeless_unbalanced", INV_HOPELESS, "kswapd has given up on a node that is balanced: a reset was lost"
)
no_null_deref = Invariant("no_null_deref", INV_NULL, "pgdat->kswapd was followed after it had been cleared")
RECLAIM_INVARIANTS: tuple[Invariant, ...] = (
    request_served, request_kept, no_boost_asleep, boost_announced, kswapd_woken, min_watermark, pressure_thresholds,
    available_exists, hopeless_unbalanced, no_null_deref,
)  # fmt: skip


@core(cold=True)
def free_on_lists(zone: Zone) -> int:
    """The truth that NR_FREE_PAGES is after."""
    pages = 0
    for order in range(MAX_ORDER):
        pages += zone.free_area[order].nr_free << order
    return pages


@core(cold=True)
def most_events(m: Machine, cpu: Cpu, kind: int) -> int:
    """Of the events of a kind in a CPU's ring, the largest order; -1: there are none."""
    ring = ring_at(m, cpu.event_ring)
    most = -1
    for i in range(ring.tail, ring.head):
        e = event_at(ring, RING_HEADER + (i & (ring.capacity - 1)) * ring.record)
        if e.kind == kind:
            most = max(most, e.order)
    return most


@core(cold=True)
def check_served(m: Machine, a: RaceArea) -> int:
    """The order that was forgotten, of node 0's kswapd."""
    order = a.ghost[G_ORDER]
    if pgdat_balanced(m, m.nodes[0], order, a.ghost[G_ZONEIDX]):
        return 0
    kswapd = cpu_record(m, m.cpus + m.nr_cpus * CPU_SIZE)
    return 0 if most_events(m, kswapd, EV_KSWAPD_WAKE) >= order else order


@core(cold=True)
def check_kept(m: Machine, a: RaceArea) -> int:
    """The order that is wanted too little."""
    return max(a.ghost[G_ORDER] - m.nodes[0].kswapd_order, 0)


@core(cold=True)
def check_boost(m: Machine, zone: Zone, code: int) -> int:
    """The boost that stays."""
    if zone.watermark_boost == 0:
        return 0
    if code == INV_NO_BOOST:
        return zone.watermark_boost if waitqueue_active(m.nodes[zone.node].kswapd_wait) else 0
    announced = m.nodes[zone.node].kswapd_highest_zoneidx != MAX_NR_ZONES
    return 0 if announced or zone.zone_flags & ZONE_BOOSTED_WATERMARK != 0 else zone.watermark_boost


@core(cold=True)
def check_pressure(m: Machine, zone: Zone) -> int:
    """The threshold that is too large."""
    if vm_at(m, m.vm).kswapds[zone.node].step != KSWAPD_TRY_TO_SLEEP or zone.percpu_drift_mark == 0:
        return 0
    limit = calculate_pressure_threshold(m, zone)
    for c in range(m.nr_cpus):
        threshold = pageset_at(m, zone.pageset + c * PAGESET_SIZE).stat_threshold
        if threshold > limit:
            return threshold
    return 0


@core(cold=True)
def check_available(m: Machine, zone: Zone) -> int:
    """The surplus that was counted on, by any CPU."""
    exists = free_on_lists(zone)
    exists += zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_INACTIVE_FILE)
    exists += zone_page_state_snapshot(m, zone, NR_ZONE_LRU_BASE + LRU_ACTIVE_FILE)
    worst = 0
    for c in range(m.nr_cpus):
        ring = ring_at(m, cpu_record(m, m.cpus + c * CPU_SIZE).event_ring)
        for i in range(ring.tail, ring.head):
            e = event_at(ring, RING_HEADER + (i & (ring.capacity - 1)) * ring.record)
            if e.kind == EV_RECLAIM_RETRY and e.b & 0xFF == zone.zone_id:
                worst = max(worst, (e.a >> 32) - exists)
    return worst


@core(cold=True)
def check_zone(m: Machine, zone: Zone, code: int) -> int:
    """Those that ask about each zone."""
    if code in (INV_NO_BOOST, INV_ANNOUNCED):
        return check_boost(m, zone, code)
    if code == INV_WOKEN:
        lacks = high_wmark_pages(zone) + 1 - free_on_lists(zone)
        return max(lacks, 0) if waitqueue_active(m.nodes[zone.node].kswapd_wait) else 0
    if code == INV_MIN:
        return max(zone.watermark[WMARK_MIN] - free_on_lists(zone), 0)
    if code == INV_PRESSURE:
        return check_pressure(m, zone)
    return check_available(m, zone)


@core(cold=True)
def check_node(m: Machine, nid: int, code: int) -> int:
    """Those that ask about each node, and all its zones."""
    node = m.nodes[nid]
    if code == INV_HOPELESS:
        failures = node.kswapd_failures
        return failures if failures >= MAX_RECLAIM_RETRIES and pgdat_balanced(m, node, 0, MAX_NR_ZONES - 1) else 0
    if code == INV_NULL:
        return load_acquire(vm_at(m, m.vm).kswapds[nid], "null_derefs")
    for zid in range(MAX_NR_ZONES):
        zone = node.node_zones[zid]
        if zone.managed_pages != 0:
            found = check_zone(m, zone, code)
            if found != 0:
                return found
    return 0


@core(cold=True)
def check_reclaim(m: Machine, a: RaceArea, code: int) -> int:
    """One of this family: 0 if it holds."""
    if code == INV_SERVED:
        return check_served(m, a)
    if code == INV_KEPT:
        return check_kept(m, a)
    for nid in range(m.nr_nodes):
        found = check_node(m, nid, code)
        if found != 0:
            return found
    return 0
