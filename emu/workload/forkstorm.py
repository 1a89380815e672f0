"""``forkstorm``: short-lived processes: kernel stack, page tables, memory of their own, a shared library mapped."""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.mm.mmap import mmap
from emu.workload.process import alive, end_process, fork, leave, step, switch_to
from emu.workload.run import SLOT_SIZE, Run, breathe, random_below, slot_at
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.gfp import __GFP_ACCOUNT, __GFP_ZERO, GFP_KERNEL
from emu.zone.mm_types import COMMS, VM_EXEC, VM_WRITE
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import task_at, user_task
from shm.core import core, entry
from shm.point import site

COMM_SH = COMMS.index("sh")
STACK_ORDER = 2
STACK_GFP = GFP_KERNEL | __GFP_ACCOUNT | __GFP_ZERO
PAGES = 96  # of its own, at most
LIBRARY = 512  # where the library is mapped: behind another page table
LIBRARY_PAGES = 256
S_FORKSTORM = site("forkstorm:mmap_lock")
TOUCHES = 24  # between two looks at whether the process ends


@core
def drop_stack(m: Machine, cpu: Cpu, run: Run, i: int) -> None:
    """The kernel stack of process ``i``, if it has one."""
    slot = slot_at(m, run.slots + i * SLOT_SIZE)
    if slot.pfn >= 0:
        __free_pages(m, cpu, slot.pfn, STACK_ORDER)
        slot.pfn = -1
        run.frees += 1


@core
def spawn(m: Machine, cpu: Cpu, run: Run, i: int) -> None:
    """fork() and exec() of process ``i``."""
    pfn = alloc_pages(m, cpu, STACK_GFP, STACK_ORDER)
    run.allocs += 1
    if pfn < 0:
        run.failed += 1
        return
    slot = slot_at(m, run.slots + i * SLOT_SIZE)
    slot.pfn = pfn
    slot.order = STACK_ORDER
    mm = fork(m, cpu, run, run.first_task + i, COMM_SH)
    if mm == 0:
        drop_stack(m, cpu, run, i)
        return
    mmap(m, mm, 0, PAGES, 0, VM_WRITE, 0)
    mmap(m, mm, LIBRARY, LIBRARY_PAGES, run.shared_file, VM_EXEC, 0)
    run.rounds += 1


@core
def live(m: Machine, cpu: Cpu, run: Run, i: int) -> bool:
    """Process ``i`` uses some memory; false when it ends."""
    k = run.first_task + i
    switch_to(m, cpu, k)
    mm = task_at(m, user_task(m, k)).mm
    for _ in range(TOUCHES):
        if not alive(m, cpu, run, k):
            return False
        done = False
        if random_below(run, 4) == 0:
            done = step(m, cpu, run, mm, LIBRARY + random_below(run, LIBRARY_PAGES), 0)
        else:
            done = step(m, cpu, run, mm, random_below(run, PAGES), 1)
        if not done:
            run.failed += 1
            leave(m, cpu)
            return False
    leave(m, cpu)
    return random_below(run, 8) != 0


@entry
def forkstorm(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: processes live by turns, and are born and end."""
    first = run.ops
    if run.held == 0:
        for i in range(run.nr_tasks):
            slot_at(m, run.slots + i * SLOT_SIZE).pfn = -1
        run.held = run.nr_tasks
    critical_enter(cpu, S_FORKSTORM)
    while run.ops - first < budget:
        i = run.turn
        run.turn = (i + 1) % run.nr_tasks
        run.ops += 1
        if slot_at(m, run.slots + i * SLOT_SIZE).pfn < 0:
            spawn(m, cpu, run, i)
        elif not live(m, cpu, run, i):
            end_process(m, cpu, run, run.first_task + i)
            drop_stack(m, cpu, run, i)
        if not breathe(m, cpu):
            break
    critical_exit(cpu)
    return max(run.ops - first, 1)
