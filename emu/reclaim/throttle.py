"""Holding direct reclaimers back while the reserves are nearly used up (``mm/vmscan.c`` (5.10))."""

from emu.compact.suitable import zone_reclaimable_pages
from emu.cpu.wait import schedule_timeout
from emu.reclaim.scan_control import ScanControl
from emu.zone.deviations import R1B, R8, R17, R25, deviates
from emu.zone.gfp import __GFP_FS, PF_KTHREAD, gfp_zone
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES, wake_up_kswapd
from emu.zone.mmzone import CPU_SIZE, ZONE_NORMAL, Cpu, Machine, Node, Zone, cpu_record, zone_at
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.slow_stat import add_spent, slow_clock
from emu.zone.slow_types import SPENT_THROTTLE
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import __count_vm_events, zone_page_state, zone_page_state_snapshot
from emu.zone.vmstat_items import NR_FREE_PAGES, PGSCAN_DIRECT_THROTTLE
from emu.zone.watermark import min_wmark_pages
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.atomic import clock_ns, cmpxchg, load_acquire, read_once, store_release, write_once
from shm.core import core
from shm.point import point, point_loop, site
from shm.waitqueue import finish_wait, look_again, prepare_to_wait, wake_up, waitqueue_active

SECOND_NS = 1000 * NS_PER_MS
LOOK_NS = 20 * NS_PER_MS  # how often a sleeper looks whether it was killed
S_FAILURES = site("allow_direct_reclaim:read kswapd_failures")
S_ACTIVE = site("allow_direct_reclaim:waitqueue_active")
S_ZONEIDX = site("allow_direct_reclaim:read kswapd_highest_zoneidx")
S_SET_ZONEIDX = site("allow_direct_reclaim:write kswapd_highest_zoneidx")
S_WAKE = site("allow_direct_reclaim:wake_up")
S_QUEUE = site("throttle_direct_reclaim:prepare_to_wait")


@core
def is_skipped(m: Machine, zone: Zone) -> bool:
    """Zones with nothing to reclaim don't count for the reserve. Those that have free pages do: in 5.10.262 since they
    are taken for reclaimable then, with R17's remedy since it is asked here."""
    if zone_reclaimable_pages(m, zone) != 0:
        return False
    return not deviates(m, R17) or zone_page_state_snapshot(m, zone, NR_FREE_PAGES) == 0


@core
def free_for_reserve(m: Machine, zone: Zone) -> int:
    """``zone_page_state()``: without what CPUs haven't added yet, while kswapd's own test counts that. R1b's remedy:
    ``zone_page_state_snapshot()``, so that the two are of one mind."""
    if deviates(m, R1B):
        return zone_page_state_snapshot(m, zone, NR_FREE_PAGES)
    return zone_page_state(zone, NR_FREE_PAGES)


@core(inline=True)
def lower_zoneidx(m: Machine, cpu: Cpu, node: Node) -> None:
    """kswapd is to balance the zones that the kernel can use, whatever else was asked for."""
    point(cpu.party, S_ZONEIDX)
    if read_once(node, "kswapd_highest_zoneidx") > ZONE_NORMAL:
        point(cpu.party, S_SET_ZONEIDX)
        write_once(node, "kswapd_highest_zoneidx", ZONE_NORMAL)


@core(cold=True)
def lower_zoneidx_atomic(m: Machine, cpu: Cpu, node: Node) -> None:
    """The same with R8's remedy: what somebody else writes meanwhile is looked at, too."""
    point(cpu.party, S_SET_ZONEIDX)
    curr_idx = load_acquire(node, "kswapd_highest_zoneidx")
    while curr_idx > ZONE_NORMAL and cmpxchg(node, "kswapd_highest_zoneidx", curr_idx, ZONE_NORMAL) != curr_idx:
        curr_idx = load_acquire(node, "kswapd_highest_zoneidx")


@core
def allow_direct_reclaim(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/vmscan.c:allow_direct_reclaim() (5.10)``: more than half of the min watermarks is free, in zones that have
    something to reclaim; or kswapd has given up. Wakes kswapd if it is not so."""
    point(cpu.party, S_FAILURES)
    if node.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return True
    pfmemalloc_reserve = 0
    free_pages = 0
    for zid in range(ZONE_NORMAL + 1):
        zone = node.node_zones[zid]
        if zone.managed_pages == 0 or is_skipped(m, zone):
            continue
        pfmemalloc_reserve += min_wmark_pages(zone)
        free_pages += free_for_reserve(m, zone)
    if pfmemalloc_reserve == 0:
        return True
    if free_pages > pfmemalloc_reserve // 2:
        return True
    point(cpu.party, S_ACTIVE)
    if waitqueue_active(node.kswapd_wait):
        if deviates(m, R8):
            lower_zoneidx_atomic(m, cpu, node)
        else:
            lower_zoneidx(m, cpu, node)
        wake_up_kswapd(m, cpu, node, S_WAKE)
    return False


@core(cold=True)
def killed_on_queue(m: Machine, node: Node) -> int:
    """How many of those that are throttled on this node have been killed."""
    killed = 0
    for i in range(m.nr_cpus):
        task = task_at(m, cpu_record(m, m.cpus + i * CPU_SIZE).current)
        if load_acquire(task, "throttled") == node.node_id + 1 and fatal_signal_pending(task):
            killed += 1
    return killed


@core(cold=True)
def wake_up_throttled(m: Machine, node: Node) -> None:
    """``wake_up_all(&pgdat->pfmemalloc_wait)``.

    Differs from 5.10 except for R25: everybody is off the queue then. There, a killed task is awake already and
    nobody takes it off; it leaves by itself as soon as it gets a processor. (Woken with others it is off the queue here
    as well.)
    """
    killed = killed_on_queue(m, node) if deviates(m, R25) else 0
    if load_acquire(node.pfmemalloc_wait, "state") & 0xFFFFFFFF > killed:
        wake_up(node.pfmemalloc_wait)


@core
def sleep_throttled(m: Machine, cpu: Cpu, node: Node, cookie: int, deadline: int) -> bool:
    """Sleep until woken (true), killed, past the deadline (0: none), or the machine stops (false).

    Who kills it wakes it (:func:`emu.zone.signal.send_sigkill`); it looks around all the same where processes run free.
    """
    while not fatal_signal_pending(task_at(m, cpu.current)) and load_acquire(m, "stop") == 0:
        now = clock_ns()
        if deadline != 0 and now >= deadline:
            return False
        until = look_again(LOOK_NS)
        if schedule_timeout(m, cpu, node.pfmemalloc_wait, cookie, min(until, deadline) if deadline != 0 else until):
            return True
    return False


@core
def wait_for_reserves(m: Machine, cpu: Cpu, node: Node, deadline: int) -> None:
    """``wait_event_killable(pfmemalloc_wait, allow_direct_reclaim())``, or its form with a timeout."""
    task = task_at(m, cpu.current)
    going = True
    while going:
        point_loop(cpu.party, S_QUEUE, clock_ns() if deadline != 0 else 0)
        store_release(task, "throttled", node.node_id + 1)
        cookie = prepare_to_wait(node.pfmemalloc_wait)
        going = not allow_direct_reclaim(m, cpu, node) and sleep_throttled(m, cpu, node, cookie, deadline)
        finish_wait(node.pfmemalloc_wait, cookie)
        store_release(task, "throttled", 0)


@core
def first_usable_node(m: Machine, cpu: Cpu, sc: ScanControl) -> int:
    """The node of the first zone that has memory for the kernel; -1: none."""
    highest = sc.zones.highest_zoneidx
    sc.zones.highest_zoneidx = gfp_zone(sc.gfp_mask)
    z = next_zones_zonelist(m, cpu, sc.zones, 0)
    nid = -1
    while zonelist_zone(m, sc.zones, z) != 0 and nid < 0:
        zone = zone_at(m, zonelist_zone(m, sc.zones, z))
        if zone.zid <= ZONE_NORMAL:
            nid = zone.node
        z = next_zones_zonelist(m, cpu, sc.zones, z + 1)
    sc.zones.highest_zoneidx = highest
    return nid


@core
def throttle_direct_reclaim(m: Machine, cpu: Cpu, sc: ScanControl) -> bool:
    """``mm/vmscan.c:throttle_direct_reclaim() (5.10)``: wait until kswapd has refilled the reserves; true if the task
    was killed meanwhile. Who may not enter the file system waits no longer than a second."""
    task = task_at(m, cpu.current)
    if task.process_flags & PF_KTHREAD != 0 or fatal_signal_pending(task):
        return False
    nid = first_usable_node(m, cpu, sc)
    if nid < 0 or allow_direct_reclaim(m, cpu, m.nodes[nid]):
        return False
    __count_vm_events(cpu, PGSCAN_DIRECT_THROTTLE, 1)
    deadline = clock_ns() + SECOND_NS if sc.gfp_mask & __GFP_FS == 0 else 0
    since = slow_clock(m)
    wait_for_reserves(m, cpu, m.nodes[nid], deadline)
    add_spent(m, cpu, SPENT_THROTTLE, since)
    return fatal_signal_pending(task)
