"""``pagefault``: processes that fault in memory and exit."""

from emu.cpu.free import free_unref_page_list
from emu.workload.run import SLOT_SIZE, Run, breathe, random_below, slot_at, take
from emu.zone.gfp import __GFP_ACCOUNT, __GFP_ZERO, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.list import INIT_LIST_HEAD, list_add_tail
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import pfn_to_page
from shm.atomic import barrier, fetch_add
from shm.core import core, entry

FAULTING, EXITING = 0, 1
PAGES_PER_TABLE = 512
TABLE_GFP = GFP_KERNEL | __GFP_ACCOUNT | __GFP_ZERO
USER_GFP = GFP_HIGHUSER_MOVABLE | __GFP_ZERO
TLB_BATCH = 32


@core
def free_batch(m: Machine, cpu: Cpu, run: Run) -> None:
    """What ``release_pages()`` does on exit: up to 32 single pages as one ``free_unref_page_list()``."""
    INIT_LIST_HEAD(m, cpu.batch)
    for _ in range(min(TLB_BATCH, run.held)):
        page = page_record(m, pfn_to_page(m, slot_at(m, run.slots + (run.held - 1) * SLOT_SIZE).pfn))
        run.held -= 1
        barrier()
        if fetch_add(page, "refcount", -1) == 1:
            list_add_tail(m, page.lru, cpu.batch)
        run.ops += 1
        run.frees += 1
    free_unref_page_list(m, cpu)


@core
def fault_step(m: Machine, cpu: Cpu, run: Run) -> None:
    """One page fault of the current process, or a part of its exit."""
    if run.phase == EXITING:
        if run.held == 0:
            run.phase = FAULTING
            run.position = 0
            run.rounds += 1
        else:
            free_batch(m, cpu, run)
        return
    if run.position == 0:
        run.position = 1 + random_below(run, max(run.want, 2))
    if run.held % PAGES_PER_TABLE == 0 and run.held < run.nr_slots and not take(m, cpu, run, TABLE_GFP, 0):
        run.phase = EXITING
        return
    if run.held >= run.position or run.held >= run.nr_slots or not take(m, cpu, run, USER_GFP, 0):
        run.phase = EXITING


@entry
def pagefault(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: a process of random size faults its pages in (a page table for every 512), then exits; the next one."""
    first = run.ops
    step = 0
    while run.ops - first < budget:
        fault_step(m, cpu, run)
        step += 1
        if step & 63 == 0 and not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
