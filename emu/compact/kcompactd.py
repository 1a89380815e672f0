"""Each node's compaction daemon, and compacting by hand (``mm/compaction.c`` (5.10))."""

from emu.compact.compact_zone import compact_zone
from emu.compact.control import compact_control
from emu.compact.defer import (
    COMPACT_MAX_DEFER_SHIFT, compaction_defer_reset, compaction_deferred, defer_compaction,
)  # fmt: skip
from emu.compact.frag import fragmentation_score_node, should_proactive_compact_node
from emu.compact.suitable import compaction_suitable
from emu.cpu.pageset import drain_local_pages, refresh_cpu_vm_stats
from emu.cpu.seams import COMPACT_COMPLETE, COMPACT_CONTINUE, COMPACT_PARTIAL_SKIPPED, COMPACT_SUCCESS
from emu.cpu.wait import schedule_timeout
from emu.cpu.workqueue import drain_all_pages
from emu.mm.migrate import MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from emu.mm.pagevec import lru_add_drain, lru_add_drain_all
from emu.zone.event import EV_KCOMPACTD_SLEEP, EV_KCOMPACTD_WAKE, EV_WAKEUP_KCOMPACTD, record
from emu.zone.gfp import GFP_KERNEL
from emu.zone.kswapd_wake import wakeup_kcompactd
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Node
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import KCOMPACTD_FREE_SCANNED, KCOMPACTD_MIGRATE_SCANNED, KCOMPACTD_WAKE
from shm.atomic import address, clock_ns, load_acquire
from shm.core import core, entry, implements
from shm.point import point, site
from shm.waitqueue import NEVER, finish_wait, look_again, prepare_to_wait, waitqueue_active, wake_up

HPAGE_FRAG_CHECK_INTERVAL_MSEC = 500
ROUND_MS = 100
S_MAX_ORDER = site("wakeup_kcompactd:write kcompactd_max_order")
S_SLEEPER = site("wakeup_kcompactd:wq_has_sleeper")
S_WAKE = site("wakeup_kcompactd:wake_up")
S_WORK = site("kcompactd:read kcompactd_max_order")
S_DONE = site("kcompactd_do_work:write kcompactd_max_order")


@core(cold=True)
def kcompactd_node_suitable(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/compaction.c:kcompactd_node_suitable() (5.10)``: some zone is worth compacting for what is wanted."""
    highest_zoneidx = node.kcompactd_highest_zoneidx
    for zid in range(min(highest_zoneidx + 1, MAX_NR_ZONES)):
        zone = node.node_zones[zid]
        if zone.present_pages == 0:
            continue
        ret = compaction_suitable(m, cpu, zone, node.kcompactd_max_order, 0, highest_zoneidx)
        if ret == COMPACT_CONTINUE:
            return True
    return False


@implements(wakeup_kcompactd)
def __wakeup_kcompactd(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> None:
    """``mm/compaction.c:wakeup_kcompactd() (5.10)``: leave a request; wake it if it sleeps and could do something."""
    if order == 0:
        return
    point(cpu.party, S_MAX_ORDER)
    if node.kcompactd_max_order < order:
        node.kcompactd_max_order = order
    if node.kcompactd_highest_zoneidx > highest_zoneidx:
        node.kcompactd_highest_zoneidx = highest_zoneidx
    point(cpu.party, S_SLEEPER)
    if not waitqueue_active(node.kcompactd_wait) or not kcompactd_node_suitable(m, cpu, node):
        return
    if cpu.trace != 0:
        record(m, cpu, EV_WAKEUP_KCOMPACTD, -1, order, 0, 0, node.node_id, highest_zoneidx)
    point(cpu.party, S_WAKE)
    wake_up(node.kcompactd_wait)


@core(cold=True)
def kcompactd_do_work(m: Machine, cpu: Cpu, node: Node) -> None:
    """``mm/compaction.c:kcompactd_do_work() (5.10)``: all zones that the request may use, until a block of its order
    is free in each."""
    cc = compact_control()
    cc.order = node.kcompactd_max_order
    cc.search_order = cc.order
    cc.highest_zoneidx = node.kcompactd_highest_zoneidx
    cc.mode = MIGRATE_SYNC_LIGHT
    cc.gfp_mask = GFP_KERNEL
    if cpu.trace != 0:
        record(m, cpu, EV_KCOMPACTD_WAKE, -1, cc.order, 0, 0, node.node_id, cc.highest_zoneidx)
    __count_vm_events(cpu, KCOMPACTD_WAKE, 1)
    for zid in range(min(cc.highest_zoneidx + 1, MAX_NR_ZONES)):
        zone = node.node_zones[zid]
        if zone.present_pages == 0 or compaction_deferred(m, cpu, zone, cc.order):
            continue
        if compaction_suitable(m, cpu, zone, cc.order, 0, zid) != COMPACT_CONTINUE:
            continue
        if load_acquire(m, "stop") != 0:
            return
        cc.zone = address(zone) - address(m)
        status = compact_zone(m, cpu, cc)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(m, cpu, zone, cc.order, 0)
        elif status == COMPACT_PARTIAL_SKIPPED or status == COMPACT_COMPLETE:
            # free pages on pcp lists could merge; not often, since what follows is a pause
            drain_all_pages(m, cpu, cc.zone)
            defer_compaction(m, cpu, zone, cc.order)
        __count_vm_events(cpu, KCOMPACTD_MIGRATE_SCANNED, cc.total_migrate_scanned)
        __count_vm_events(cpu, KCOMPACTD_FREE_SCANNED, cc.total_free_scanned)
    point(cpu.party, S_DONE)
    if node.kcompactd_max_order <= cc.order:
        node.kcompactd_max_order = 0
    if node.kcompactd_highest_zoneidx >= cc.highest_zoneidx:
        node.kcompactd_highest_zoneidx = node.nr_zones - 1


@core(cold=True)
def compact_all_zones(m: Machine, cpu: Cpu, node: Node, mode: int, proactive: int) -> None:
    """``mm/compaction.c:compact_node()`` and ``proactive_compact_node() (5.10)``: every zone from end to end, skip
    bits ignored; ``proactive``: until its score is low enough."""
    cc = compact_control()
    cc.order = -1
    cc.mode = mode
    cc.ignore_skip_hint = 1
    cc.whole_zone = 1
    cc.gfp_mask = GFP_KERNEL
    cc.proactive_compaction = proactive
    for zid in range(MAX_NR_ZONES):
        zone = node.node_zones[zid]
        if zone.present_pages != 0:
            cc.zone = address(zone) - address(m)
            compact_zone(m, cpu, cc)


@core(cold=True)
def proactive_round(m: Machine, cpu: Cpu, node: Node) -> bool:
    """What kcompactd does when nobody has woken it for half a second; true if it compacted. After a run that didn't
    lower the score it waits for 64 rounds."""
    vm = vm_at(m, m.vm)
    if not should_proactive_compact_node(m, cpu, node):
        return False
    if vm.kcompactd_defer[node.node_id] != 0:
        vm.kcompactd_defer[node.node_id] -= 1
        return False
    before = fragmentation_score_node(m, node)
    compact_all_zones(m, cpu, node, MIGRATE_SYNC_LIGHT, 1)
    if fragmentation_score_node(m, node) >= before:
        vm.kcompactd_defer[node.node_id] = 1 << COMPACT_MAX_DEFER_SHIFT
    return True


@core(cold=True)
def kcompactd_begin_sleep(m: Machine, cpu: Cpu, node: Node) -> None:
    """Before it waits it gives back what its CPU record holds: the kernel's kcompactd uses those of the CPU that it
    runs on, which others use too. The first time, it forgets requests older than itself."""
    vm = vm_at(m, m.vm)
    if vm.kcompactd_until[node.node_id] == 0:
        node.kcompactd_max_order = 0
        node.kcompactd_highest_zoneidx = node.nr_zones - 1
    if cpu.trace != 0:
        record(m, cpu, EV_KCOMPACTD_SLEEP, -1, 0, 0, 0, node.node_id, 0)
    lru_add_drain(m, cpu)
    drain_local_pages(m, cpu, 0)
    refresh_cpu_vm_stats(m, cpu, 0)
    vm.kcompactd_until[node.node_id] = clock_ns() + HPAGE_FRAG_CHECK_INTERVAL_MSEC * NS_PER_MS


@core(cold=True)
def kcompactd_wait(m: Machine, cpu: Cpu, node: Node, until: int) -> bool:
    """``wait_event_freezable_timeout()`` for work, until a moment: whether there is some."""
    cookie = prepare_to_wait(node.kcompactd_wait)
    point(cpu.party, S_WORK)
    if load_acquire(node, "kcompactd_max_order") == 0:
        schedule_timeout(m, cpu, node.kcompactd_wait, cookie, until)
    finish_wait(node.kcompactd_wait, cookie)
    return load_acquire(node, "kcompactd_max_order") > 0


@entry
def kcompactd_round(m: Machine, cpu: Cpu, node: Node) -> bool:
    """A piece of ``mm/compaction.c:kcompactd() (5.10)``: sleep for at most 100 ms of its half second, or work; true if
    it compacted. Positive ``Vm.kcompactd_until``: the sleep that it is in ends then; negative: it isn't in one.

    Differs from 5.10: in scheduled mode its half second never ends, so no proactive round comes. Where processes run
    free, between two pieces of a sleep it is off the wait queue for a moment, and then not woken; it sees
    the request when it goes on.
    """
    vm = vm_at(m, m.vm)
    nid = node.node_id
    if vm.kcompactd_until[nid] <= 0:
        kcompactd_begin_sleep(m, cpu, node)
    until = look_again(ROUND_MS * NS_PER_MS)
    if until != NEVER:
        until = min(until, vm.kcompactd_until[nid])
    if kcompactd_wait(m, cpu, node, until):
        vm.kcompactd_until[nid] = -1
        if load_acquire(m, "stop") != 0:
            return False
        kcompactd_do_work(m, cpu, node)
        return True
    if clock_ns() < vm.kcompactd_until[nid]:
        return False
    vm.kcompactd_until[nid] = -1
    return proactive_round(m, cpu, node)


@entry
def compact_node(m: Machine, cpu: Cpu, node: Node) -> None:
    """``mm/compaction.c:sysfs_compact_node() (5.10)``: ``echo 1 > /sys/devices/system/node/nodeN/compact``"""
    lru_add_drain_all(m, cpu)
    compact_all_zones(m, cpu, node, MIGRATE_SYNC, 0)


@entry
def compact_nodes(m: Machine, cpu: Cpu) -> None:
    """``mm/compaction.c:compact_nodes() (5.10)``: ``vm.compact_memory``, all nodes."""
    lru_add_drain_all(m, cpu)
    for nid in range(m.nr_nodes):
        if m.nodes[nid].node_present_pages != 0:
            compact_all_zones(m, cpu, m.nodes[nid], MIGRATE_SYNC, 0)
