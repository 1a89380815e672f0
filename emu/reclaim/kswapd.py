"""kswapd: sleeping until a node is short of memory (``mm/vmscan.c`` (5.10)).

The process returns to Python at least every 100 ms while it sleeps, and goes on where it was: what ``kswapd()`` keeps
in local variables is in ``Vm.kswapds``.

Differs from 5.10: kswapd has per-cpu pagesets, pagevecs and counters of its own, where the kernel's uses those of the
CPU that it runs on; it empties them before it sleeps.
"""

from emu.compact.skip import reset_isolation_suitable
from emu.cpu.pageset import drain_local_pages, refresh_cpu_vm_stats
from emu.cpu.wait import schedule_timeout
from emu.cpu.workqueue import poll, sleep_on_doorbell_until
from emu.mm.pagevec import lru_add_drain
from emu.reclaim.balance import balance_pgdat
from emu.reclaim.scan_control import LRUVEC_CONGESTED, PGDAT_DIRTY, PGDAT_WRITEBACK
from emu.reclaim.throttle import wake_up_throttled
from emu.zone.deviations import R8, R9, R25, deviates
from emu.zone.event import EV_KSWAPD_SLEEP, EV_KSWAPD_WAKE, record
from emu.zone.gfp import PF_KSWAPD, PF_KTHREAD, PF_MEMALLOC, PF_SWAPWRITE
from emu.zone.kswapd_wake import (
    MAX_RECLAIM_RETRIES, pgdat_balanced, pgdat_watermark_boosted, raise_order_atomic, wakeup_kcompactd,
)  # fmt: skip
from emu.zone.mm_types import Kswapd, vm_at
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Node
from emu.zone.sched import task_at
from emu.zone.setup import set_pgdat_percpu_threshold
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import KSWAPD_HIGH_WMARK_HIT_QUICKLY, KSWAPD_LOW_WMARK_HIT_QUICKLY, PGSTEAL_KSWAPD
from shm.atomic import clock_ns, cmpxchg, fetch_add, fetch_and, load_acquire, read_once, write_once, xchg
from shm.core import core, entry
from shm.point import point, point_loop, site
from shm.waitqueue import finish_wait, look_again, prepare_to_wait, waitqueue_active

# Where a node's kswapd is between two rounds: Kswapd.step
KSWAPD_NEW = 0
KSWAPD_TRY_TO_SLEEP = 1
KSWAPD_ASLEEP = 2
NAP_NS = 100 * NS_PER_MS  # HZ / 10
PACE_NS = 200 * NS_PER_MS
PACE_SLICE_NS = 20_000
ROUND_NS = 90 * NS_PER_MS  # how long a round sleeps at most
KEEP = (1 << 32) - 1
S_NAP = site("kswapd_try_to_sleep:prepare_to_wait nap")
S_PREPARE = site("kswapd_try_to_sleep:prepare_to_wait")
S_NAP_ZONEIDX = site("kswapd_try_to_sleep:read kswapd_highest_zoneidx")
S_NAP_SET_ZONEIDX = site("kswapd_try_to_sleep:write kswapd_highest_zoneidx")
S_REMAINING = site("kswapd_try_to_sleep:read kswapd_order")
S_NAP_SET_ORDER = site("kswapd_try_to_sleep:write kswapd_order")
S_THROTTLED = site("prepare_kswapd_sleep:waitqueue_active")
S_BALANCED = site("prepare_kswapd_sleep:pgdat_balanced")
S_REQUESTED = site("prepare_kswapd_sleep:read kswapd_order")
S_BOOSTED = site("prepare_kswapd_sleep:read watermark_boost")
S_TAKE = site("kswapd:read kswapd_order")
S_CLEAR = site("kswapd:write kswapd_order")
S_READ_NEXT = site("kswapd:reread kswapd_order")


@core
def kswapd_highest_zoneidx(node: Node, prev_highest_zoneidx: int) -> int:
    """``mm/vmscan.c:kswapd_highest_zoneidx() (5.10)``: what was asked for; nothing: as in the run before."""
    curr_idx = read_once(node, "kswapd_highest_zoneidx")
    return prev_highest_zoneidx if curr_idx == MAX_NR_ZONES else curr_idx


@core
def clear_pgdat_congested(node: Node) -> None:
    """``mm/vmscan.c:clear_pgdat_congested() (5.10)``"""
    fetch_and(node.lruvecs[0], "lruvec_flags", KEEP - LRUVEC_CONGESTED)
    fetch_and(node, "pgdat_flags", -1 - (PGDAT_DIRTY | PGDAT_WRITEBACK))


@core(cold=True)
def work_left(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> bool:
    """What 5.10's kswapd goes to sleep without looking at: a request that came since it took the last one (R8's
    remedy), a boost set since it looked at the last ones (R9's). On the wait queue already, it misses neither."""
    if deviates(m, R8):
        point(cpu.party, S_REQUESTED)
        if read_once(node, "kswapd_order") > order:
            return True
        curr_idx = read_once(node, "kswapd_highest_zoneidx")
        if curr_idx != MAX_NR_ZONES and curr_idx > highest_zoneidx:
            return True
    if deviates(m, R9):
        point(cpu.party, S_BOOSTED)
        return pgdat_watermark_boosted(node, highest_zoneidx)
    return False


@core
def prepare_kswapd_sleep(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> bool:
    """``mm/vmscan.c:prepare_kswapd_sleep() (5.10)``: is there nothing to do? Nobody may stay throttled meanwhile.

    They are woken, and that is that. To wait until they have left the queue, as before 9e5e3661727e (R25), may take for
    ever: one of them may have to wait for kswapd's processor.
    """
    point(cpu.party, S_THROTTLED)
    if waitqueue_active(node.pfmemalloc_wait):
        wake_up_throttled(m, node)
        if deviates(m, R25):
            return False
    if node.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return True
    point(cpu.party, S_BALANCED)
    if pgdat_balanced(m, node, order, highest_zoneidx) and not work_left(m, cpu, node, order, highest_zoneidx):
        clear_pgdat_congested(node)
        return True
    return False


@core
def empty_own_areas(m: Machine, cpu: Cpu) -> None:
    """Its pagevecs, pcp lists and counters: nobody drains a sleeping daemon's."""
    lru_add_drain(m, cpu)
    drain_local_pages(m, cpu, 0)
    refresh_cpu_vm_stats(m, cpu, 0)


@core
def request_again(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """What kswapd was about to forget is asked for along with what has come meanwhile; with no lock."""
    point(cpu.party, S_NAP_ZONEIDX)
    highest_zoneidx = kswapd_highest_zoneidx(node, k.highest_zoneidx)
    point(cpu.party, S_NAP_SET_ZONEIDX)
    write_once(node, "kswapd_highest_zoneidx", highest_zoneidx)
    point(cpu.party, S_REMAINING)
    if read_once(node, "kswapd_order") < k.reclaim_order:
        point(cpu.party, S_NAP_SET_ORDER)
        write_once(node, "kswapd_order", k.reclaim_order)


@core(cold=True)
def request_again_atomic(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """The same with R8's remedy: nothing that comes meanwhile is written over."""
    point(cpu.party, S_NAP_SET_ZONEIDX)
    cmpxchg(node, "kswapd_highest_zoneidx", MAX_NR_ZONES, k.highest_zoneidx)
    point(cpu.party, S_NAP_SET_ORDER)
    raise_order_atomic(node, k.reclaim_order)


@core
def kswapd_nap(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> bool:
    """The short sleep, in which kcompactd works; true if it was cut short by a request."""
    reset_isolation_suitable(m, cpu, node)
    wakeup_kcompactd(m, cpu, node, k.alloc_order, k.highest_zoneidx)
    if not schedule_timeout(m, cpu, node.kswapd_wait, k.cookie, clock_ns() + NAP_NS):
        return False
    if deviates(m, R8):
        request_again_atomic(m, cpu, node, k)
    else:
        request_again(m, cpu, node, k)
    return True


@core
def kswapd_try_to_sleep(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> bool:
    """``mm/vmscan.c:kswapd_try_to_sleep() (5.10)`` up to the long sleep: true if kswapd is to go to sleep, on its wait
    queue already; false if it has to work on."""
    point_loop(cpu.party, S_NAP, 0)
    k.cookie = prepare_to_wait(node.kswapd_wait)
    remaining = False
    empty_own_areas(m, cpu)
    if prepare_kswapd_sleep(m, cpu, node, k.reclaim_order, k.highest_zoneidx):
        remaining = kswapd_nap(m, cpu, node, k)
        finish_wait(node.kswapd_wait, k.cookie)
        point(cpu.party, S_PREPARE)
        k.cookie = prepare_to_wait(node.kswapd_wait)
    if not remaining and prepare_kswapd_sleep(m, cpu, node, k.reclaim_order, k.highest_zoneidx):
        if cpu.trace != 0:
            record(m, cpu, EV_KSWAPD_SLEEP, -1, 0, 0, 0, node.node_id, 0)
        set_pgdat_percpu_threshold(m, node, 0)
        return True
    __count_vm_events(cpu, KSWAPD_LOW_WMARK_HIT_QUICKLY if remaining else KSWAPD_HIGH_WMARK_HIT_QUICKLY, 1)
    finish_wait(node.kswapd_wait, k.cookie)
    return False


@core
def kswapd_asleep(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> bool:
    """A piece of the long sleep; true when it is over: while kswapd is up, counters drift less."""
    if not schedule_timeout(m, cpu, node.kswapd_wait, k.cookie, look_again(ROUND_NS)):
        return False
    set_pgdat_percpu_threshold(m, node, 1)
    finish_wait(node.kswapd_wait, k.cookie)
    return True


@core
def kswapd_begin(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """``mm/vmscan.c:kswapd() (5.10)`` before its loop."""
    task = task_at(m, cpu.current)
    task.process_flags = task.process_flags | PF_MEMALLOC | PF_SWAPWRITE | PF_KSWAPD | PF_KTHREAD
    write_once(node, "kswapd_order", 0)
    write_once(node, "kswapd_highest_zoneidx", MAX_NR_ZONES)
    k.alloc_order = 0
    k.reclaim_order = 0
    k.highest_zoneidx = MAX_NR_ZONES - 1


@core(cold=True)
def take_request_atomic(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """R8's remedy: read and reset are one step, so what comes in between isn't lost."""
    point(cpu.party, S_TAKE)
    k.alloc_order = xchg(node, "kswapd_order", 0)
    k.reclaim_order = k.alloc_order
    point(cpu.party, S_CLEAR)
    curr_idx = xchg(node, "kswapd_highest_zoneidx", MAX_NR_ZONES)
    if curr_idx != MAX_NR_ZONES:
        k.highest_zoneidx = curr_idx


@core
def kswapd_take_request(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """What is wanted: order and highest zone. The next request starts from nothing; what is asked for between the
    reading and the writing here is lost."""
    if deviates(m, R8):
        take_request_atomic(m, cpu, node, k)
        return
    point(cpu.party, S_TAKE)
    k.alloc_order = read_once(node, "kswapd_order")
    k.reclaim_order = k.alloc_order
    k.highest_zoneidx = kswapd_highest_zoneidx(node, k.highest_zoneidx)
    point(cpu.party, S_CLEAR)
    write_once(node, "kswapd_order", 0)
    write_once(node, "kswapd_highest_zoneidx", MAX_NR_ZONES)


@core(cold=True)
def kswapd_gets_cpu(m: Machine, cpu: Cpu, k: Kswapd) -> None:
    """A recorded run says when the kernel's scheduler let kswapd run: not before ``may_run``; but not for ever."""
    deadline = clock_ns() + PACE_NS
    while load_acquire(k, "may_run") <= k.runs and clock_ns() < deadline and load_acquire(m, "stop") == 0:
        sleep_on_doorbell_until(cpu, load_acquire(cpu, "doorbell"), clock_ns() + PACE_SLICE_NS)
        poll(m, cpu)


@core
def kswapd_work(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> None:
    """Awake: one run of ``balance_pgdat()``. When it had to be content with a lower order kswapd thinks of sleep at
    that, but has kcompactd work for the order that was asked for."""
    if k.runs < k.paced:
        kswapd_gets_cpu(m, cpu, k)
        k.stolen_before = cpu.vm_events[PGSTEAL_KSWAPD]
    kswapd_take_request(m, cpu, node, k)
    if load_acquire(m, "stop") != 0:
        return
    if cpu.trace != 0:
        record(m, cpu, EV_KSWAPD_WAKE, -1, k.alloc_order, 0, 0, node.node_id, k.highest_zoneidx)
    k.reclaim_order = balance_pgdat(m, cpu, node, k.alloc_order, k.highest_zoneidx)
    if k.reclaim_order >= k.alloc_order:
        point(cpu.party, S_READ_NEXT)
        k.alloc_order = read_once(node, "kswapd_order")
        k.reclaim_order = k.alloc_order
        k.highest_zoneidx = kswapd_highest_zoneidx(node, k.highest_zoneidx)
    fetch_add(k, "runs", 1)


@entry
def kswapd_round(m: Machine, cpu: Cpu, node: Node) -> bool:
    """A piece of ``mm/vmscan.c:kswapd() (5.10)``: some sleep, or one run of ``balance_pgdat()`` (true)."""
    k = vm_at(m, m.vm).kswapds[node.node_id]
    cpu.party.heartbeat += 1
    if k.step == KSWAPD_NEW:
        kswapd_begin(m, cpu, node, k)
        k.step = KSWAPD_TRY_TO_SLEEP
    if k.step == KSWAPD_ASLEEP:
        if not kswapd_asleep(m, cpu, node, k):
            return False
        k.step = KSWAPD_TRY_TO_SLEEP
    elif kswapd_try_to_sleep(m, cpu, node, k):
        k.step = KSWAPD_ASLEEP
        return False
    kswapd_work(m, cpu, node, k)
    return True
