"""Measuring the slow path: clocks that cost nothing while nobody asks, and counts of a drain of all pcp lists."""

from emu.zone.mm_types import vm_at
from emu.zone.mmzone import MAX_NR_ZONES, PAGESET_SIZE, Cpu, Machine, pageset_at, zone_at
from emu.zone.types import AtomicLong
from emu.zone.sched import task_at
from shm.atomic import clock_ns, fetch_add
from shm.core import core


@core(cold=True)
def slow_clock(m: Machine) -> int:
    """CLOCK_MONOTONIC ns while the slow path is measured, else 0."""
    if vm_at(m, m.vm).slow_stat.measured == 0:
        return 0
    return clock_ns()


@core(cold=True)
def add_spent(m: Machine, cpu: Cpu, which: int, since: int) -> None:
    """The current task has done SPENT_* since then; 0: nobody measures."""
    if since == 0:
        return
    cost = task_at(m, cpu.current).slow
    cost.spent[which] += clock_ns() - since
    cost.times[which] += 1


@core(cold=True)
def add_stat(m: Machine, counter: AtomicLong, number: int) -> None:
    """Add to one of the machine's counters while it is measured."""
    if vm_at(m, m.vm).slow_stat.measured != 0:
        fetch_add(counter, "counter", number)


@core(cold=True)
def pcp_pages(m: Machine, index: int, zone: int) -> int:
    """Pages on a CPU's lists, of one zone (its offset) or of all (0), as ``pcp->count`` says without a lock."""
    if zone != 0:
        return pageset_at(m, zone_at(m, zone).pageset + index * PAGESET_SIZE).count
    pages = 0
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            z = m.nodes[nid].node_zones[zid]
            if z.present_pages != 0:
                pages += pageset_at(m, z.pageset + index * PAGESET_SIZE).count
    return pages
