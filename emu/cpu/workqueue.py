"""Work for one CPU, done by that CPU: draining its pcp lists, folding its counters (``mm_percpu_wq`` (5.10)).

A CPU looks at its queue at every poll point: between operations, while it waits its turn, and when its doorbell rings.
"""

from emu.cpu.pageset import drain_local_pages, refresh_cpu_vm_stats
from emu.zone.deviations import R15, R23B, deviates
from emu.zone.irq import do_IRQ
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    CPU_SIZE, MAX_CPUS, MAX_NR_ZONES, PAGESET_SIZE, WORKS, Cpu, Machine, cpu_record, pageset_at, zone_at,
)  # fmt: skip
from emu.zone.slow_stat import add_spent, add_stat, pcp_pages, slow_clock
from emu.zone.slow_types import SPENT_DRAIN
from shm.atomic import clock_ns, cmpxchg, fetch_add, futex_wait, futex_wake, load_acquire, store_release
from shm.core import OnStack, core, seam
from shm.point import point, site
from shm.spinlock import spin_lock, spin_unlock
from shm.struct import Array, Struct, array, i64, struct
from shm.waitqueue import look_again

WORK_DRAIN = 1
WORK_VMSTAT = 2
WORK_LRU_ADD_DRAIN = 3
WORK_CPU_DEAD = 4
ANY = 0xFFFFFFFF
WAKE_ALL = 0x7FFFFFFF
TICK_NS = 100_000_000
S_QUEUE = site("queue_work_on:lock")
S_MUTEX = site("drain_all_pages:mutex_trylock")
S_SEE_PCP = site("drain_all_pages:read pcp.count")


@struct
class DrainAsked(Struct):
    """``cpus_with_pcps``: a bit for each CPU that a drain asks."""

    cpus: Array[int] = array(i64, MAX_CPUS // 32)


cpus_with_pcps = OnStack(DrainAsked)


@core
def ring_doorbell(cpu: Cpu) -> None:
    """Make a CPU look around: it may sleep."""
    fetch_add(cpu, "doorbell", 1)
    if load_acquire(cpu, "asleep") != 0:
        futex_wake(cpu, "doorbell", WAKE_ALL, ANY)


@core
def sleep_on_doorbell_until(cpu: Cpu, seen: int, deadline_ns: int) -> None:
    """Sleep until the doorbell rings, or until CLOCK_MONOTONIC passes the deadline."""
    fetch_add(cpu, "asleep", 1)
    if load_acquire(cpu, "doorbell") == seen:
        futex_wait(cpu, "doorbell", seen, ANY, deadline_ns)
    fetch_add(cpu, "asleep", -1)


@core
def sleep_on_doorbell(cpu: Cpu, seen: int) -> None:
    """Sleep until the doorbell rings, or a tick (100 ms) passes."""
    sleep_on_doorbell_until(cpu, seen, clock_ns() + TICK_NS)


@core
def cpu_at(m: Machine, index: int) -> int:
    """Offset of a CPU's record."""
    return m.cpus + index * CPU_SIZE


@core
def insert_work(other: Cpu, kind: int, arg: int) -> bool:
    """``insert_work()``, holding the queue's lock; false when it is full."""
    if other.work_head - other.work_tail >= WORKS:
        return False
    work = other.works[other.work_head % WORKS]
    work.kind = kind
    work.arg = arg
    store_release(other, "work_head", other.work_head + 1)
    return True


@core
def queue_work_on(m: Machine, cpu: Cpu, target: int, kind: int, arg: int) -> None:
    """``queue_work_on()``: waits for a slot when the target's queue is full.

    Differs from 5.10: what is asked of a CPU that has gone offline is dropped, where a worker without a CPU would do
    it; everything in this queue is about the pages and counters that a CPU has, and that one has none any more.
    """
    other = cpu_record(m, cpu_at(m, target))
    queued = False
    while not queued:
        spin_lock(cpu.party, other.work_lock, S_QUEUE)
        online = load_acquire(other, "online") != 0
        queued = not online or insert_work(other, kind, arg)
        spin_unlock(cpu.party, other.work_lock)
        if not online:
            return
        if not queued:
            flush_work(m, cpu, target)
    ring_doorbell(other)


@seam
def cpu_dead_work(m: Machine, cpu: Cpu, dead: int) -> None:
    """What a living CPU does for one that is dead (its index); its body is ``emu.cpu.cpu_hotplug``."""


@seam
def lru_add_drain_work(m: Machine, cpu: Cpu) -> None:
    """``mm/swap.c:lru_add_drain_per_cpu() (5.10)``; its body is ``emu.mm.pagevec``."""


@core(cold=True)
def drain_counted(m: Machine, cpu: Cpu, zone: int, remote: int) -> None:
    """Drain this CPU's lists, for somebody else or for itself, and count the pages while it is measured."""
    stat = vm_at(m, m.vm).slow_stat
    if stat.measured != 0:
        pages = pcp_pages(m, cpu.party.index, zone)
        if remote == 0:
            fetch_add(stat.drained_local, "counter", pages)
        else:
            fetch_add(stat.drained_remote, "counter", pages)
            if pages == 0:
                fetch_add(stat.drains_empty, "counter", 1)
    drain_local_pages(m, cpu, zone)


@core
def run_work(m: Machine, cpu: Cpu) -> None:
    """Do all queued work of this CPU."""
    while cpu.work_tail != load_acquire(cpu, "work_head"):
        work = cpu.works[cpu.work_tail % WORKS]
        if work.kind == WORK_DRAIN:
            drain_counted(m, cpu, work.arg, 1)
        elif work.kind == WORK_LRU_ADD_DRAIN:
            lru_add_drain_work(m, cpu)
        elif work.kind == WORK_CPU_DEAD:
            cpu_dead_work(m, cpu, work.arg)
        else:
            refresh_cpu_vm_stats(m, cpu, 1)
        store_release(cpu, "work_tail", cpu.work_tail + 1)
        futex_wake(cpu, "work_tail", WAKE_ALL, ANY)


@core(inline=True)
def poll(m: Machine, cpu: Cpu) -> None:
    """A poll point: interrupts and work that have come in."""
    if cpu.irq_pending != 0 and cpu.party.irqs_off == 0:
        do_IRQ(m, cpu)
    if cpu.work_tail != load_acquire(cpu, "work_head"):
        run_work(m, cpu)


@core
def flush_work(m: Machine, cpu: Cpu, target: int) -> None:
    """``flush_work()``: wait until a CPU has done all that is queued now, doing one's own work meanwhile."""
    other = cpu_record(m, cpu_at(m, target))
    head = load_acquire(other, "work_head")
    while True:
        tail = load_acquire(other, "work_tail")
        if (tail - head) & 0x80000000 == 0 or load_acquire(m, "stop") != 0:
            return
        if cpu.work_tail != load_acquire(cpu, "work_head"):
            run_work(m, cpu)
        else:
            futex_wait(other, "work_tail", tail, ANY, look_again(1_000_000))


@core
def cpu_online(m: Machine, index: int) -> bool:
    """``cpu_online()``"""
    return load_acquire(cpu_record(m, cpu_at(m, index)), "online") != 0


@core
def has_pcps(m: Machine, index: int, zone: int) -> bool:
    """Whether a CPU has pages on its lists, of one zone (its offset) or of any (0)."""
    if zone != 0:
        return pageset_at(m, zone_at(m, zone).pageset + index * PAGESET_SIZE).count != 0
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            z = m.nodes[nid].node_zones[zid]
            if z.present_pages != 0 and pageset_at(m, z.pageset + index * PAGESET_SIZE).count != 0:
                return True
    return False


@core(cold=True)
def count_drain(m: Machine, cpu: Cpu, zone: int, asked: DrainAsked) -> None:
    """A drain is over: whose lists have pages all the same, for want of having had some when they were looked at, or
    since they were filled again."""
    stat = vm_at(m, m.vm).slow_stat
    fetch_add(stat.drains, "counter", 1)
    for index in range(m.nr_cpus):
        if index == cpu.party.index:
            continue
        pages = pcp_pages(m, index, zone)
        if asked.cpus[index >> 5] >> (index & 31) & 1 != 0:
            fetch_add(stat.drain_works, "counter", 1)
            if pages != 0:
                fetch_add(stat.refilled_cpus, "counter", 1)
                fetch_add(stat.refilled_pages, "counter", pages)
        elif pages != 0:
            fetch_add(stat.missed_cpus, "counter", 1)
            fetch_add(stat.missed_pages, "counter", pages)


@core(cold=True)
def drain_all_pages(m: Machine, cpu: Cpu, zone: int) -> None:
    """``mm/page_alloc.c:drain_all_pages() (5.10)``: every CPU that has pages drains them itself, and we wait for it.

    One drain at a time: a second caller that wants all zones leaves it at that, one that wants a certain zone waits.
    ``pcp->count`` of other CPUs is read without a lock; who has none then isn't asked. Who leaves it at that (R23b)
    goes on before the other drain has brought anything; the remedy is to wait for one's turn.

    Race R15: a CPU that refills its list has pages there which it hasn't counted yet. Kernels that drain from outside
    met that again (66eca1021a42); to ask everybody, as offlining does since 5.11 (ec6e8c7e0314), misses nobody.
    """
    since = slow_clock(m)
    point(cpu.party, S_MUTEX)
    while True:
        owner = cmpxchg(m, "drain_busy", 0, cpu.party.index + 1)
        if owner == 0:
            break
        if (zone == 0 and not deviates(m, R23B)) or load_acquire(m, "stop") != 0:
            add_stat(m, vm_at(m, m.vm).slow_stat.drains_busy, 1)
            return
        poll(m, cpu)
        futex_wait(m, "drain_busy", owner, ANY, look_again(1_000_000))
    point(cpu.party, S_SEE_PCP)
    asked = cpus_with_pcps()
    for index in range(m.nr_cpus):
        if index == cpu.party.index or not cpu_online(m, index):
            continue
        if has_pcps(m, index, zone) or deviates(m, R15):
            asked.cpus[index >> 5] |= 1 << (index & 31)
            queue_work_on(m, cpu, index, WORK_DRAIN, zone)
    drain_counted(m, cpu, zone, 0)
    for index in range(m.nr_cpus):
        if asked.cpus[index >> 5] >> (index & 31) & 1 != 0:
            flush_work(m, cpu, index)
    if since != 0:
        count_drain(m, cpu, zone, asked)
        add_spent(m, cpu, SPENT_DRAIN, since)
    store_release(m, "drain_busy", 0)
    futex_wake(m, "drain_busy", 1, ANY)


@core(cold=True)
def cond_resched(m: Machine, cpu: Cpu) -> bool:
    """``cond_resched()``: let others have the processor; false when the machine is being stopped."""
    cpu.party.heartbeat += 1
    poll(m, cpu)
    return load_acquire(m, "stop") == 0
