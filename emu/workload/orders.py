"""``orders``: blocks of several orders in given proportions, held and freed at random."""

from emu.workload.run import SLOT_SIZE, Run, breathe, give_back, random_below, slot_at, take
from emu.zone.gfp import __GFP_COMP, __GFP_NORETRY, __GFP_NOWARN, PAGE_ALLOC_COSTLY_ORDER
from emu.zone.mmzone import MAX_ORDER, Cpu, Machine
from shm.core import core, entry

FILLING, FREEING = 0, 1
BLOCK_GFP = __GFP_COMP | __GFP_NOWARN


@core
def pick_order(run: Run) -> int:
    """An order, as often as its weight says; the run's own order when there are no weights."""
    total = 0
    for order in range(MAX_ORDER):
        total += run.weights[order]
    if total == 0:
        return run.order
    left = random_below(run, total)
    for order in range(MAX_ORDER):
        left -= run.weights[order]
        if left < 0:
            return order
    return run.order


@core
def take_block(m: Machine, cpu: Cpu, run: Run) -> bool:
    """Allocate a block as its users do: who wants a costly order doesn't insist."""
    order = pick_order(run)
    gfp = run.gfp
    if order > 0:
        gfp |= BLOCK_GFP
    if order > PAGE_ALLOC_COSTLY_ORDER:
        gfp |= __GFP_NORETRY
    if not take(m, cpu, run, gfp, order):
        return False
    run.position += 1 << order
    return True


@core
def drop_block(m: Machine, cpu: Cpu, run: Run) -> None:
    """Free any of the blocks."""
    index = random_below(run, run.held)
    run.position -= 1 << slot_at(m, run.slots + index * SLOT_SIZE).order
    give_back(m, cpu, run, index)


@entry
def orders(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: waves between a half and all of the memory that this CPU wants (``position`` pages are held)."""
    first = run.ops
    step = 0
    while run.ops - first < budget:
        if run.position >= run.want or run.held >= run.nr_slots:
            run.phase = FREEING
        elif run.position <= run.want >> 1:
            run.phase = FILLING
        allocating = random_below(run, 8) < (3 if run.phase == FREEING else 5)
        if (allocating or run.held == 0) and run.held < run.nr_slots:
            if not take_block(m, cpu, run):
                run.phase = FREEING
        else:
            drop_block(m, cpu, run)
        step += 1
        if step & 63 == 0 and not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
