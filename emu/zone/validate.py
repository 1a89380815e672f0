"""Every invariant of the allocator's state, each one a function that yields what is wrong.

For a machine at rest: between operations, with its processes stopped. A message says which zone, which pfn, what is
expected and what was found. What 5.10 itself doesn't guarantee isn't asked for:

- a free page may lie on the list of another migratetype than its pageblock's, and a page on a pcp list may be stamped
  with the type its block had when it was freed; only CMA and isolated blocks are strict;
- ``nr_reserved_highatomic`` may count a block too many: a reserved block that merges with a free neighbour into one of
  the largest order is stolen with it, type and all;
- a page in use that nobody accounts for is its caller's (``validate_mm.held_pages`` counts them);
- after a bad block of order > 0 was skipped, NR_FREE_PAGES still counts it, and no page of it is on any list.
"""

from collections.abc import Callable, Iterator

import numpy as np

from emu.zone.census import Census
from emu.zone.init import party_of, zones_of
from emu.zone.lockdep import locking_faults
from emu.zone.locks import locks_of
from emu.zone.mm_types import Vm
from emu.zone.mmzone import (
    NODESTAT_SIZE, WORKS, ZONE_DMA, ZONE_NAMES, Machine,
    NodeStat,
)  # fmt: skip
from emu.zone.sched import Task
from emu.zone.validate_io import IO_BOOT_RULES, IO_RULES
from emu.zone.validate_mm import MM_BOOT_RULES, MM_RULES, World
from emu.zone.validate_page import PAGE_RULES
from emu.zone.validate_zone import ZONE_RULES, managed_is_conserved, numa_totals
from emu.zone.vmstat_items import (
    NODE_STAT_NAMES, NUMA_FOREIGN, NUMA_MISS, PGALLOC, PGFREE,
)  # fmt: skip
from shm.ring import Ring
from shm.spinlock_types import holder_of
from shm.struct import address_of, record_at

__all__ = ["MACHINE_RULES", "PAGE_RULES", "ZONE_RULES", "memory_in_use", "validate"]
Findings = Iterator[str]


def validate(m: Machine, from_boot: bool = False) -> list[str]:
    """Check all invariants and, in checked mode, the rules of locking; an empty list: all hold.

    ``from_boot`` says that the machine was booted, not loaded from a recorded state, and has freed only pages that it
    allocated: its event counters then account for every page in use.
    """
    out: list[str] = []
    for rule in MACHINE_RULES:
        out += rule(m)
    in_use = 0
    for zone in zones_of(m):
        census = Census(m, zone)
        found = [text for zone_rule in ZONE_RULES for text in zone_rule(census)]
        for chunk in census.chunks():
            census.taken += int(np.count_nonzero(chunk.taken))
            found += [text for page_rule in PAGE_RULES for text in page_rule(chunk)]
        found += managed_is_conserved(census)
        in_use += census.taken
        out += [f"{census.name}: {text}" for text in found]
    out += memory_in_use(m)
    if from_boot:
        out += [*events_account_for_pages(m, in_use), *reserves_add_up(m)]
    return out + locking_faults(m)


def memory_in_use(m: Machine) -> list[str]:
    """The rules of what uses memory. A recorded state has pages whose owners, and counters whose pages, it doesn't
    describe: those rules are for booted machines only."""
    world = World(m)
    booted = record_at(Vm, address_of(m) + m.vm).recorded == 0
    out = [text for rule in MM_RULES + (MM_BOOT_RULES if booted else ()) for text in rule(world)]
    return out + [text for rule in IO_RULES + (IO_BOOT_RULES if booted else ()) for text in rule(m)]


# --- the machine ------------------------------------------------------------------------------------------------------


def irqs_are_on(m: Machine) -> Findings:
    """At rest no CPU has interrupts off or serves one."""
    for i in range(m.nr_parties):
        cpu = party_of(m, i)
        found = {"irqs_off": cpu.party.irqs_off, "irq_nesting": cpu.irq_nesting, "softirq": cpu.softirq}
        for name, value in found.items():
            if value:
                yield f"cpu {i}: {name} expected 0, found {value}"


def locks_are_free(m: Machine) -> Findings:
    """At rest nobody holds a lock or waits for one."""
    for what, lock in locks_of(m):
        if lock.word or lock.tail != lock.head or lock.parked:
            waiting = lock.tail - lock.head & 0xFFFFFFFF
            yield f"{what}: expected free, found holder {holder_of(lock) - 1}, {waiting} waiting, {lock.parked} parked"
    if m.drain_busy:
        yield "drain_all_pages(): expected nobody in it, found its mutex taken"


def rings_are_sane(m: Machine) -> Findings:
    """Rings and work queues: the reader is behind the writer, by no more than there is room."""
    for i in range(m.nr_parties):
        cpu = party_of(m, i)
        ring = record_at(Ring, address_of(m) + cpu.event_ring)
        if not 0 <= ring.head - ring.tail <= ring.capacity or ring.lost < 0:
            yield f"cpu {i}: event ring of {ring.capacity}: head {ring.head}, tail {ring.tail}, lost {ring.lost}"
        if cpu.work_head - cpu.work_tail & 0xFFFFFFFF > WORKS:
            yield f"cpu {i}: work queue of {WORKS}: head {cpu.work_head}, tail {cpu.work_tail}"


def seqcounts_are_even(m: Machine) -> Findings:
    """No task's mems_allowed is being written."""
    for i in range(m.nr_parties):
        task = record_at(Task, address_of(m) + party_of(m, i).current)
        if task.mems_allowed_seq.sequence & 1:
            yield f"cpu {i}: mems_allowed_seq expected even, found {task.mems_allowed_seq.sequence}"


def present_pages_add_up(m: Machine) -> Findings:
    """A node's present pages are its zones'."""
    for nid in range(m.nr_nodes):
        present = sum(zone.present_pages for zone in m.nodes[nid].node_zones)
        if present != m.nodes[nid].node_present_pages:
            yield f"node {nid}: node_present_pages expected {present}, found {m.nodes[nid].node_present_pages}"


def reserves_add_up(m: Machine) -> Findings:
    """totalreserve_pages is the nodes' (``from_boot`` only: a recorded state doesn't say the parts)."""
    reserve = sum(m.nodes[nid].totalreserve_pages for nid in range(m.nr_nodes))
    if reserve != m.totalreserve_pages:
        yield f"totalreserve_pages expected {reserve}, the nodes' sum, found {m.totalreserve_pages}"


def node_diffs_are_small(m: Machine) -> Findings:
    """A CPU's node counter differentials stay within its threshold."""
    for nid in range(m.nr_nodes):
        for i in range(m.nr_parties):
            at = address_of(m) + m.nodes[nid].per_cpu_nodestats + i * NODESTAT_SIZE
            stat = record_at(NodeStat, at)
            for name, diff in zip(NODE_STAT_NAMES, stat.vm_node_stat_diff, strict=True):
                if abs(diff) > max(stat.stat_threshold, 125):
                    yield f"node {nid}: cpu {i}: {name} differential at most {stat.stat_threshold}, found {diff}"


def misses_are_foreign(m: Machine) -> Findings:
    """Each page that missed its preferred node is foreign to that node: the machine's sums are equal."""
    miss = foreign = 0
    # zones that were emptied have counted, too
    for zone in (zone for nid in range(m.nr_nodes) for zone in m.nodes[nid].node_zones):
        stats = numa_totals(m, zone)
        miss, foreign = miss + stats[NUMA_MISS], foreign + stats[NUMA_FOREIGN]
    if miss != foreign:
        yield f"numa_foreign expected {miss}, as many as numa_miss, found {foreign}"


def charges_are_sane(m: Machine) -> Findings:
    """A memory cgroup is charged no less than nothing and no more than its limit."""
    for i, group in enumerate(m.memcgs):
        if group.kmem < 0 or 0 < group.limit < group.kmem:
            yield f"memcg {i}: kmem expected in [0, {group.limit or 'any'}], found {group.kmem}"


def events_account_for_pages(m: Machine, in_use: int) -> Findings:
    """pgalloc - pgfree is what is in use (``from_boot`` only)."""
    events = [party_of(m, i).vm_events for i in range(m.nr_parties)]
    allocated = sum(e[PGALLOC + zid] for e in events for zid in range(ZONE_DMA, len(ZONE_NAMES)))
    freed = sum(e[PGFREE] for e in events) - record_at(Vm, address_of(m) + m.vm).pgfree_surplus
    if allocated - freed != in_use:
        yield f"pages in use expected {allocated - freed} (pgalloc {allocated} - pgfree {freed}), found {in_use}"


MACHINE_RULES: tuple[Callable[[Machine], Findings], ...] = (
    irqs_are_on, locks_are_free, rings_are_sane, seqcounts_are_even, present_pages_add_up,
    node_diffs_are_small, misses_are_foreign, charges_are_sane,
)  # fmt: skip
