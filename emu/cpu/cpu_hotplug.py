"""A CPU goes offline and comes back (``mm/page_alloc.c``, ``mm/vmstat.c``, ``kernel/cpu.c`` (5.10)).

A CPU that was told to stop, or whose process was killed where nothing was half done, leaves its per-cpu state behind:
pages on pcp lists and in pagevecs, counters, queued work, pending interrupts, places in the queues of locks. A living
CPU takes all of it over, as work of its own queue (``WORK_CPU_DEAD``). Whoever takes it down has cleared ``online``
before, so that nobody asks anything of it any more.
"""

from emu.cpu.free import __free_pages
from emu.cpu.irq import IRQ_NET, raise_irq, rx_order
from emu.cpu.pageset import free_pcppages_bulk
from emu.cpu.workqueue import (
    ANY, WAKE_ALL, WORK_CPU_DEAD, cpu_at, cpu_dead_work, insert_work, ring_doorbell,
)  # fmt: skip
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.mmzone import (
    MAX_NR_ZONES, NR_VM_EVENTS, PAGESET_SIZE, RX_RING, WORKS, Cpu, Machine, cpu_record, page_record, pageset_at,
)  # fmt: skip
from emu.zone.page import PAGE_FLAGS_CHECK_AT_PREP, clear_flag, pfn_to_page
from emu.zone.setup import refresh_zone_stat_thresholds
from emu.zone.vmstat import fold_node, fold_zone
from shm.atomic import fetch_add, futex_wake, load_acquire, store_release, xchg
from shm.core import as_entries, core, entry, implements, seam
from shm.point import NR_CONTEXTS, site
from shm.spinlock import spin_lock, spin_skip_dead, spin_trylock, spin_unlock
from shm.spinlock_types import Spinlock
from shm.struct import At

__all__ = [
    "CPUHP_DEAD", "CPUHP_DYING", "CPUHP_LEAVING", "CPUHP_ONLINE", "HOTPLUG_ENTRIES", "cpu_vm_stats_fold", "drain_pages",
    "lru_add_drain_cpu", "page_alloc_cpu_dead", "salvage_page", "tell_cpu_dead", "vm_events_fold_cpu",
    "vmstat_cpu_dead", "vmstat_cpu_online", "workqueue_offline_cpu",
]  # fmt: skip

# Cpu.hotplug: what has become of it
CPUHP_ONLINE = 0
CPUHP_DYING = 1  # its process has ended; a living CPU was told
CPUHP_DEAD = 2  # nothing of it is left; it may be brought online again
CPUHP_LEAVING = 3  # it was asked to stop
S_DEAD = site("takedown_cpu:hotplug callbacks")
S_DRAIN = site("drain_pages:irqsave")
S_QUEUES = site("takedown_cpu:queues of locks")
S_WORK = site("workqueue_offline_cpu:lock")
S_TELL = site("tell_cpu_dead:trylock")

spinlock_at = At(Spinlock)


@seam
def lru_add_drain_cpu(m: Machine, cpu: Cpu, dead: Cpu) -> None:
    """``mm/swap.c:lru_add_drain_cpu() (5.10)``; its body is ``emu.mm.pagevec``."""


@core(cold=True)
def drain_pages(m: Machine, cpu: Cpu, index: int) -> None:
    """``mm/page_alloc.c:drain_pages() (5.10)`` of another CPU, which doesn't run any more."""
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages == 0:
                continue
            flags = local_irq_save(cpu, S_DRAIN)
            pset = pageset_at(m, zone.pageset + index * PAGESET_SIZE)
            if pset.count != 0:
                free_pcppages_bulk(m, cpu, zone, pset.count, pset)
            local_irq_restore(m, cpu, flags)


@core(cold=True)
def vm_events_fold_cpu(cpu: Cpu, dead: Cpu) -> None:
    """``mm/vmstat.c:vm_events_fold_cpu() (5.10)``: its event counts become this CPU's."""
    for item in range(NR_VM_EVENTS):
        cpu.vm_events[item] += dead.vm_events[item]
        dead.vm_events[item] = 0


@core(cold=True)
def cpu_vm_stats_fold(m: Machine, dead: Cpu) -> None:
    """``mm/vmstat.c:cpu_vm_stats_fold() (5.10)``: its differentials into the zones' and nodes' counters.

    Its own processor is gone, so that no instruction of it can come in between.
    """
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages != 0:
                pset = pageset_at(m, zone.pageset + dead.pageset_offset)
                expire = pset.expire
                fold_zone(m, dead, zone)
                pset.expire = expire  # unlike refresh_cpu_vm_stats(), this doesn't put off its draining
        fold_node(m, dead, m.nodes[nid])


@core(cold=True)
def page_alloc_cpu_dead(m: Machine, cpu: Cpu, index: int) -> None:
    """``mm/page_alloc.c:page_alloc_cpu_dead() (5.10)``"""
    dead = cpu_record(m, cpu_at(m, index))
    lru_add_drain_cpu(m, cpu, dead)
    drain_pages(m, cpu, index)
    vm_events_fold_cpu(cpu, dead)
    cpu_vm_stats_fold(m, dead)


@core(cold=True)
def vmstat_cpu_dead(m: Machine) -> None:
    """``mm/vmstat.c:vmstat_cpu_dead() (5.10)``: fewer CPUs, other thresholds.

    Differs from 5.10: whether a node has a CPU (``N_CPU``) is looked up where it is asked.
    """
    refresh_zone_stat_thresholds(m)


@entry
def vmstat_cpu_online(m: Machine, cpu: Cpu) -> None:
    """``mm/vmstat.c:vmstat_cpu_online() (5.10)``, from here on the CPU is online."""
    fetch_add(m, "nr_online_cpus", 1)
    store_release(cpu, "hotplug", CPUHP_ONLINE)
    store_release(cpu, "online", 1)
    refresh_zone_stat_thresholds(m)


@core(cold=True)
def free_rx_ring(m: Machine, cpu: Cpu, dead: Cpu) -> None:
    """Its network card goes with it, and interrupts that were on their way come in here (``fixup_irqs()``).

    Differs from 5.10: a card's receive ring belongs to the card, and moves to another CPU with its interrupt.
    """
    for slot in range(RX_RING):
        held = dead.rx_ring[slot]
        if held != 0:
            dead.rx_ring[slot] = 0
            __free_pages(m, cpu, held - 1, rx_order(slot))
    pending = xchg(dead, "irq_pending", 0)
    if pending & IRQ_NET != 0:
        raise_irq(cpu, IRQ_NET)


@core(cold=True)
def workqueue_offline_cpu(m: Machine, cpu: Cpu, dead: Cpu) -> None:
    """``kernel/workqueue.c:workqueue_offline_cpu() (5.10)``: what is queued there is done here, and whoever waits for
    it is told.

    Draining and folding have been done by now; left is what it was to do for yet another dead CPU.
    """
    flags = local_irq_save(cpu, S_WORK)
    spin_lock(cpu.party, dead.work_lock, S_WORK)
    head = dead.work_head
    spin_unlock(cpu.party, dead.work_lock)
    local_irq_restore(m, cpu, flags)
    at = dead.work_tail
    while at != head:
        work = dead.works[at % WORKS]
        if work.kind == WORK_CPU_DEAD:
            cpu_dead_work(m, cpu, work.arg)
        at = (at + 1) & 0xFFFFFFFF
    store_release(dead, "work_tail", head)
    futex_wake(dead, "work_tail", WAKE_ALL, ANY)


@core(cold=True)
def leave_lock_queues(m: Machine, cpu: Cpu, dead: Cpu) -> None:
    """Its tickets are skipped, then forgotten: its place in the party table may be used again."""
    for context in range(NR_CONTEXTS):
        wait = dead.party.waits[context]
        if wait.lock != 0:
            lock = spinlock_at(m, m.cpus + (wait.lock & -2))
            flags = local_irq_save(cpu, S_QUEUES)
            spin_skip_dead(cpu.party, lock, S_QUEUES)
            local_irq_restore(m, cpu, flags)
            wait.parked = 0
            store_release(wait, "lock", 0)


@implements(cpu_dead_work)
def takedown_cpu(m: Machine, cpu: Cpu, dead: int) -> None:
    """``kernel/cpu.c:takedown_cpu() (5.10)`` and the callbacks behind it, for a CPU that doesn't run any more."""
    other = cpu_record(m, cpu_at(m, dead))
    if load_acquire(other, "hotplug") != CPUHP_DYING:
        return
    critical_enter(cpu, S_DEAD)
    leave_lock_queues(m, cpu, other)
    page_alloc_cpu_dead(m, cpu, dead)
    free_rx_ring(m, cpu, other)
    workqueue_offline_cpu(m, cpu, other)
    vmstat_cpu_dead(m)
    critical_exit(cpu)
    store_release(other, "hotplug", CPUHP_DEAD)
    fetch_add(m, "parent_bell", 1)
    futex_wake(m, "parent_bell", WAKE_ALL, ANY)


@entry
def tell_cpu_dead(m: Machine, dead: Cpu, target: int) -> bool:
    """Queue a dead CPU's takedown on a living one: called by the parent, in the dead one's name; false: try again.

    The dead one holds no lock, and a trylock needs no place in a queue: its record is good for that. Waiters that look
    for dead processes meanwhile are not to take it for one, since now it does hold a lock.
    """
    other = cpu_record(m, cpu_at(m, target))
    store_release(dead.party, "dead", 0)
    told = spin_trylock(dead.party, other.work_lock, S_TELL)
    if told:
        told = insert_work(other, WORK_CPU_DEAD, dead.party.index)
        spin_unlock(dead.party, other.work_lock)
    store_release(dead.party, "dead", 1)
    if told:
        ring_doorbell(other)
    return told


@entry
def salvage_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """Free a page that nobody has: a killed process had it in hand, between the lists and its own books.

    Differs from 5.10: a CPU isn't lost there in the middle of a call; a page that is lost otherwise stays lost.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    clear_flag(page, PAGE_FLAGS_CHECK_AT_PREP)
    page.mapping = 0
    page.mapcount = -1
    page.lru.next = 0
    page.private = 0
    page.refcount = 1
    __free_pages(m, cpu, pfn, 0)


HOTPLUG_ENTRIES = as_entries(salvage_page, tell_cpu_dead, vmstat_cpu_online)
