"""Watermarks, reserves, counter thresholds and pcp sizes (``mm/page_alloc.c``, ``mm/vmstat.c`` (5.10))."""

from emu.zone.deviations import R1, R14, R22, deviates
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_NR_ZONES, PAGE_SHIFT, WMARK_HIGH, WMARK_LOW, WMARK_MIN, Cpu, Machine, Node, Pageset, Zone, nodestat_at,
    pageset_at,
)  # fmt: skip
from emu.zone.mmzone import CPU_SIZE, NODESTAT_SIZE, PAGESET_SIZE, cpu_record
from emu.zone.watermark import high_wmark_pages, low_wmark_pages, min_wmark_pages
from shm.atomic import load_acquire, smp_mb, store_release
from shm.core import core, entry
from shm.point import point, site

S_WMARKS = site("setup_per_zone_wmarks:lock")
S_HIGH = site("pageset_update:write pcp.high")
S_BATCH = site("pageset_update:write pcp.batch")


@core
def fls(x: int) -> int:
    """``fls()``: position of the highest bit set, from 1; 0 for 0."""
    n = 0
    while x > 0:
        x >>= 1
        n += 1
    return n


@core
def calculate_totalreserve_pages(m: Machine) -> None:
    """``mm/page_alloc.c:calculate_totalreserve_pages() (5.10)``"""
    reserve_pages = 0
    for nid in range(m.nr_nodes):
        node = m.nodes[nid]
        node.totalreserve_pages = 0
        for i in range(MAX_NR_ZONES):
            zone = node.node_zones[i]
            most = 0
            for j in range(i, MAX_NR_ZONES):
                most = max(most, zone.lowmem_reserve[j])
            most = min(most + high_wmark_pages(zone), zone.managed_pages)
            node.totalreserve_pages += most
            reserve_pages += most
    m.totalreserve_pages = reserve_pages


@entry
def setup_per_zone_wmarks(m: Machine, cpu: Cpu) -> None:
    """``mm/page_alloc.c:__setup_per_zone_wmarks() (5.10)``: min shared by size, low and high above it; boost gone."""
    pages_min = m.min_free_kbytes >> (PAGE_SHIFT - 10)
    lowmem_pages = 0
    for nid in range(m.nr_nodes):
        for i in range(MAX_NR_ZONES):
            lowmem_pages += m.nodes[nid].node_zones[i].managed_pages
    if lowmem_pages == 0:
        return
    for nid in range(m.nr_nodes):
        for i in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[i]
            flags = spin_lock_irqsave(cpu, zone.lock, S_WMARKS)
            managed = zone.managed_pages
            tmp = pages_min * managed // lowmem_pages
            zone.watermark[WMARK_MIN] = tmp
            scale = m.watermark_scale_factor
            scaled = managed // 10000 * scale + managed % 10000 * scale // 10000  # mult_frac()
            tmp = max(tmp >> 2, scaled)
            zone.watermark_boost = 0
            zone.watermark[WMARK_LOW] = min_wmark_pages(zone) + tmp
            zone.watermark[WMARK_HIGH] = min_wmark_pages(zone) + tmp * 2
            spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    calculate_totalreserve_pages(m)


@entry
def setup_per_zone_lowmem_reserve(m: Machine) -> None:
    """``mm/page_alloc.c:setup_per_zone_lowmem_reserve() (5.10)``: pages kept from requests that could go higher."""
    for nid in range(m.nr_nodes):
        node = m.nodes[nid]
        for i in range(MAX_NR_ZONES - 1):
            zone = node.node_zones[i]
            ratio = m.lowmem_reserve_ratio[i]
            managed_pages = 0
            for j in range(i + 1, MAX_NR_ZONES):
                managed_pages += node.node_zones[j].managed_pages
                if ratio == 0 or zone.managed_pages == 0:
                    zone.lowmem_reserve[j] = 0
                else:
                    zone.lowmem_reserve[j] = managed_pages // ratio
    calculate_totalreserve_pages(m)


@core
def calculate_normal_threshold(m: Machine, zone: Zone) -> int:
    """``mm/vmstat.c:calculate_normal_threshold() (5.10)``: grows with CPUs and memory, at most 125."""
    mem = zone.managed_pages >> (27 - PAGE_SHIFT)
    return min(125, 2 * fls(m.nr_online_cpus) * (1 + fls(mem)))


@core
def calculate_pressure_threshold(m: Machine, zone: Zone) -> int:
    """``mm/vmstat.c:calculate_pressure_threshold() (5.10)``: so low that drift can't hide a breach of min."""
    distance = low_wmark_pages(zone) - min_wmark_pages(zone)
    return min(125, max(1, distance // m.nr_online_cpus))


@core
def has_thresholds(m: Machine, party: int) -> bool:
    """``for_each_online_cpu()``: CPUs that are online; and daemons, which have per-cpu counters here."""
    return party >= m.nr_cpus or cpu_record(m, m.cpus + party * CPU_SIZE).online != 0


@core
def set_threshold(m: Machine, zone: Zone, threshold: int) -> None:
    """The zone's ``stat_threshold`` on every CPU."""
    for c in range(m.nr_parties):
        if has_thresholds(m, c):
            pageset_at(m, zone.pageset + c * PAGESET_SIZE).stat_threshold = threshold


@core
def set_node_thresholds(m: Machine, node: Node, pressure: int) -> None:
    """Of all zones whose counters may drift too far."""
    for i in range(node.nr_zones):
        zone = node.node_zones[i]
        if zone.percpu_drift_mark == 0:
            continue
        if pressure != 0:
            set_threshold(m, zone, calculate_pressure_threshold(m, zone))
        else:
            set_threshold(m, zone, calculate_normal_threshold(m, zone))


@core
def set_pgdat_percpu_threshold(m: Machine, node: Node, pressure: int) -> None:
    """``mm/vmstat.c:set_pgdat_percpu_threshold() (5.10)``: under pressure (kswapd awake) or normal. Without it (R1)
    counters drift as far under pressure as ever, beyond the min watermark."""
    store_release(vm_at(m, m.vm).kswapds[node.node_id], "pressure", pressure)
    smp_mb()  # said before it is done: pressure_kept()
    if not deviates(m, R1):
        set_node_thresholds(m, node, pressure)


@core(cold=True)
def pressure_kept(m: Machine, node: Node) -> None:
    """R22's remedy: lower thresholds again where kswapd is awake. Asked after the normal ones are written: a kswapd
    that wakes up meanwhile writes last. Asked again then: one that went to sleep meanwhile wants the normal ones."""
    k = vm_at(m, m.vm).kswapds[node.node_id]
    seen = 0
    smp_mb()
    while load_acquire(k, "pressure") != seen:
        seen = load_acquire(k, "pressure")
        set_node_thresholds(m, node, seen)
        smp_mb()


@entry
def refresh_zone_stat_thresholds(m: Machine) -> None:
    """``mm/vmstat.c:refresh_zone_stat_thresholds() (5.10)``: the normal ones; even while kswapd is awake, and has
    lowered them (R22)."""
    for nid in range(m.nr_nodes):
        node = m.nodes[nid]
        largest = 0
        for i in range(MAX_NR_ZONES):
            zone = node.node_zones[i]
            if zone.present_pages == 0:
                continue
            threshold = calculate_normal_threshold(m, zone)
            set_threshold(m, zone, threshold)
            largest = max(largest, threshold)
            tolerate_drift = low_wmark_pages(zone) - min_wmark_pages(zone)
            max_drift = m.nr_online_cpus * threshold
            if max_drift > tolerate_drift:
                zone.percpu_drift_mark = high_wmark_pages(zone) + max_drift
        for c in range(m.nr_parties):
            if has_thresholds(m, c):
                nodestat_at(m, node.per_cpu_nodestats + c * NODESTAT_SIZE).stat_threshold = largest
        if deviates(m, R22):
            pressure_kept(m, node)


@core
def zone_batchsize(zone: Zone) -> int:
    """``mm/page_alloc.c:zone_batchsize() (5.10)``: 1/4096 of the zone, at most 64, to a power of two minus one."""
    batch = min(zone.managed_pages // 1024, (1024 * 1024) >> PAGE_SHIFT) // 4
    batch = max(batch, 1)
    batch += batch // 2
    return (1 << (fls(batch) - 1)) - 1


@core(cold=True)
def pageset_update(m: Machine, cpu: Cpu, pset: Pageset, high: int, batch: int) -> None:
    """``mm/page_alloc.c:pageset_update() (5.10)``: who frees reads both without a lock, and ``batch`` must never be
    above ``high`` for him.

    Race R14: written one after the other, as before 8d7a8fa97abe, the old batch meets the new high. (There only the
    sysctl did; hotplug stopped all CPUs to write them.)
    """
    if deviates(m, R14):
        point(cpu.party, S_HIGH)
        store_release(pset, "high", high)
        point(cpu.party, S_BATCH)
        store_release(pset, "batch", batch)
        return
    point(cpu.party, S_BATCH)
    store_release(pset, "batch", 1)
    point(cpu.party, S_HIGH)
    store_release(pset, "high", high)
    point(cpu.party, S_BATCH)
    store_release(pset, "batch", batch)


@core
def zone_pcp_update(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """``mm/page_alloc.c:zone_pcp_update() (5.10)``: the zone's ``high`` and ``batch``, by its managed pages."""
    batch = zone_batchsize(zone)
    high = 6 * batch
    batch = max(1, batch)
    if m.percpu_pagelist_fraction != 0:
        high = zone.managed_pages // m.percpu_pagelist_fraction
        batch = max(1, high // 4)
        if high // 4 > PAGE_SHIFT * 8:
            batch = PAGE_SHIFT * 8
    for c in range(m.nr_cpus):
        pageset_update(m, cpu, pageset_at(m, zone.pageset + c * PAGESET_SIZE), high, batch)
    for c in range(m.nr_cpus, m.nr_parties):  # the kernel's daemons use those of the CPUs
        pset = pageset_at(m, zone.pageset + c * PAGESET_SIZE)
        store_release(pset, "batch", 1)
        store_release(pset, "high", high)
        store_release(pset, "batch", batch)


@entry
def setup_pagesets(m: Machine, cpu: Cpu) -> None:
    """``zone_set_pageset_high_and_batch()`` for all populated zones: ``high`` is six batches or the sysctl's part."""
    for nid in range(m.nr_nodes):
        for i in range(MAX_NR_ZONES):
            if m.nodes[nid].node_zones[i].present_pages != 0:
                zone_pcp_update(m, cpu, m.nodes[nid].node_zones[i])
