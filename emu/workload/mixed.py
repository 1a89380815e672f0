"""``mixed``: what a busy machine's kernel asks for, all at once."""

from emu.workload.network import PACKET_GFP
from emu.workload.pagefault import TABLE_GFP, USER_GFP
from emu.workload.run import Run, breathe, give_back, random_below, take
from emu.workload.thp import HUGE_GFP
from emu.zone.gfp import __GFP_COMP, __GFP_RECLAIMABLE, GFP_KERNEL
from emu.zone.mmzone import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu, Machine
from shm.core import core, entry

SLAB_GFP = GFP_KERNEL | __GFP_COMP


@core
def mixed_alloc(m: Machine, cpu: Cpu, run: Run) -> None:
    """70 % page faults, 15 % slabs (orders 0 to 3, a third reclaimable), 10 % packets, 4 % page tables, 1 % huge where
    there is room for several."""
    kind = random_below(run, 100)
    if kind < 70:
        take(m, cpu, run, USER_GFP, 0)
    elif kind < 85:
        gfp = SLAB_GFP | __GFP_RECLAIMABLE if random_below(run, 3) == 0 else SLAB_GFP
        take(m, cpu, run, gfp, random_below(run, 4))
    elif kind < 95:
        take(m, cpu, run, PACKET_GFP, random_below(run, 4))
    elif kind < 99:
        take(m, cpu, run, TABLE_GFP, 0)
    elif PAGEBLOCK_NR_PAGES <= run.want >> 3:
        take(m, cpu, run, HUGE_GFP, PAGEBLOCK_ORDER)


@entry
def mixed(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: allocations and frees in waves, so that memory use swings as a busy machine's does."""
    first = run.ops
    step = 0
    while run.ops - first < budget:
        full = run.held >= run.want >> 3 or run.held >= run.nr_slots
        if full:
            run.phase = 1
        elif run.held < run.want >> 5:
            run.phase = 0
        allocating = random_below(run, 8) < (3 if run.phase != 0 else 5)
        if allocating and run.held < run.nr_slots:
            failed = run.failed
            mixed_alloc(m, cpu, run)
            if run.failed != failed:
                run.phase = 1
        elif run.held > 0:
            give_back(m, cpu, run, random_below(run, run.held))
        step += 1
        if step & 63 == 0 and not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
