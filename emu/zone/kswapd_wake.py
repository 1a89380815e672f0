"""Waking a node's kswapd (``mm/vmscan.c:wakeup_kswapd() (5.10)``); in this room because rmqueue does it."""

from emu.zone.deviations import R8, deviates
from emu.zone.event import EV_WAKEUP_KSWAPD, record
from emu.zone.gfp import __GFP_DIRECT_RECLAIM
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Node, Zone, zone_at
from emu.zone.slow_stat import add_stat
from emu.zone.watermark import high_wmark_pages, zone_watermark_ok_safe
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.atomic import cmpxchg, load_acquire, read_once, write_once
from shm.core import core, seam
from shm.point import SCHEDULED, point, site
from shm.waitqueue import wake_up, waitqueue_active

MAX_RECLAIM_RETRIES = 16
S_ZONEIDX = site("wakeup_kswapd:read kswapd_highest_zoneidx")
S_SET_ZONEIDX = site("wakeup_kswapd:write kswapd_highest_zoneidx")
S_ORDER = site("wakeup_kswapd:read kswapd_order")
S_SET_ORDER = site("wakeup_kswapd:write kswapd_order")
S_ACTIVE = site("wakeup_kswapd:waitqueue_active")
S_WAKE = site("wakeup_kswapd:wake_up")


@seam
def cpuset_zone_allowed(m: Machine, cpu: Cpu, zone: Zone, gfp: int) -> bool:
    """``cpuset_zone_allowed()``; decided in ``emu.cpu.task``."""
    return True


@seam
def wakeup_kcompactd(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> None:
    """``mm/compaction.c:wakeup_kcompactd() (5.10)``: note what is wanted. Nobody compacts yet, so nobody is woken."""
    if order == 0:
        return
    if node.kcompactd_max_order < order:
        node.kcompactd_max_order = order
    if node.kcompactd_highest_zoneidx > highest_zoneidx:
        node.kcompactd_highest_zoneidx = highest_zoneidx


@core(cold=True)
def pgdat_balanced(m: Machine, node: Node, order: int, highest_zoneidx: int) -> bool:
    """``mm/vmscan.c:pgdat_balanced() (5.10)``: one zone at its high watermark is enough; so is having none."""
    managed = 0
    for i in range(min(highest_zoneidx + 1, MAX_NR_ZONES)):
        zone = node.node_zones[i]
        if zone.managed_pages == 0:
            continue
        managed = 1
        if zone_watermark_ok_safe(m, zone, order, high_wmark_pages(zone), highest_zoneidx):
            return True
    return managed == 0


@core(cold=True)
def pgdat_watermark_boosted(node: Node, highest_zoneidx: int) -> bool:
    """``mm/vmscan.c:pgdat_watermark_boosted() (5.10)``"""
    for i in range(min(highest_zoneidx + 1, MAX_NR_ZONES)):
        zone = node.node_zones[i]
        if zone.managed_pages != 0 and zone.watermark_boost != 0:
            return True
    return False


@core(inline=True)
def leave_request(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> None:
    """What kswapd is to do when it looks next: each field is read, compared and written, with no lock."""
    point(cpu.party, S_ZONEIDX)
    curr_idx = read_once(node, "kswapd_highest_zoneidx")
    if curr_idx == MAX_NR_ZONES or curr_idx < highest_zoneidx:
        point(cpu.party, S_SET_ZONEIDX)
        write_once(node, "kswapd_highest_zoneidx", highest_zoneidx)
    point(cpu.party, S_ORDER)
    if read_once(node, "kswapd_order") < order:
        point(cpu.party, S_SET_ORDER)
        write_once(node, "kswapd_order", order)


@core(cold=True)
def raise_order_atomic(node: Node, order: int) -> None:
    """``kswapd_order`` is at least this from now on."""
    curr_order = load_acquire(node, "kswapd_order")
    while curr_order < order and cmpxchg(node, "kswapd_order", curr_order, order) != curr_order:
        curr_order = load_acquire(node, "kswapd_order")


@core(cold=True)
def leave_request_atomic(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> None:
    """R8's remedy: a request may be added to meanwhile, but not written over."""
    point(cpu.party, S_SET_ZONEIDX)
    curr_idx = load_acquire(node, "kswapd_highest_zoneidx")
    while curr_idx == MAX_NR_ZONES or curr_idx < highest_zoneidx:
        if cmpxchg(node, "kswapd_highest_zoneidx", curr_idx, highest_zoneidx) == curr_idx:
            break
        curr_idx = load_acquire(node, "kswapd_highest_zoneidx")
    point(cpu.party, S_SET_ORDER)
    raise_order_atomic(node, order)


@core(cold=True)
def wake_up_kswapd(m: Machine, cpu: Cpu, node: Node, where: int) -> None:
    """``wake_up_interruptible(&pgdat->kswapd_wait)``: ``try_to_wake_up()`` takes the woken task's ``pi_lock``.

    Differs from 5.10: processes that run free do without that lock, which nobody else takes.
    """
    if cpu.party.scheduled & SCHEDULED == 0:
        wake_up(node.kswapd_wait)
        return
    pi_lock = vm_at(m, m.vm).kswapds[node.node_id].pi_lock
    flags = spin_lock_irqsave(cpu, pi_lock, where)
    wake_up(node.kswapd_wait)
    spin_unlock_irqrestore(m, cpu, pi_lock, flags)


@core(cold=True)
def wakeup_kswapd(m: Machine, cpu: Cpu, zone: Zone, gfp_flags: int, order: int, highest_zoneidx: int) -> None:
    """``mm/vmscan.c:wakeup_kswapd() (5.10)``: leave a request, and wake kswapd unless it is up or the node balanced."""
    if zone.managed_pages == 0 or not cpuset_zone_allowed(m, cpu, zone, gfp_flags):
        return
    node = m.nodes[zone.node]
    if deviates(m, R8):
        leave_request_atomic(m, cpu, node, order, highest_zoneidx)
    else:
        leave_request(m, cpu, node, order, highest_zoneidx)
    point(cpu.party, S_ACTIVE)
    if not waitqueue_active(node.kswapd_wait):
        return
    hopeless = node.kswapd_failures >= MAX_RECLAIM_RETRIES
    if hopeless or (
        pgdat_balanced(m, node, order, highest_zoneidx) and not pgdat_watermark_boosted(node, highest_zoneidx)
    ):
        if gfp_flags & __GFP_DIRECT_RECLAIM == 0:
            wakeup_kcompactd(m, cpu, node, order, highest_zoneidx)
        return
    if cpu.trace != 0:
        record(m, cpu, EV_WAKEUP_KSWAPD, -1, order, 0, gfp_flags, zone.node, highest_zoneidx)
    add_stat(m, vm_at(m, m.vm).slow_stat.kswapd_wakes, 1)
    wake_up_kswapd(m, cpu, node, S_WAKE)


@core(cold=True)
def wake_all_kswapds(m: Machine, cpu: Cpu, order: int, gfp_mask: int, ac: AllocContext) -> None:
    """``mm/page_alloc.c:wake_all_kswapds() (5.10)``: once for each run of zones of one node."""
    last_node = -1
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        if zone.node != last_node:
            wakeup_kswapd(m, cpu, zone, gfp_mask, order, ac.highest_zoneidx)
        last_node = zone.node
        z = next_zones_zonelist(m, cpu, ac, z + 1)
