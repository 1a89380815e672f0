"""``bulk``, ``rand`` and ``repeat``: the three patterns that allocator papers measure (linux-alloc-bench, LLFree).

bulk     allocate half the memory, free it in the order of allocation, again and again
rand     the same, but freed in a random order
repeat   hold half the memory, then allocate and free one block over and over
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.workload.run import SLOT_SIZE, Run, breathe, random_below, slot_at
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import barrier, clock_ns
from shm.core import core, entry

FILLING, FREEING = 0, 1
CHUNK = 64


@core
def fill(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """Allocate until the CPU holds what it wants, or a slice's worth. Returns the operations."""
    began = clock_ns()
    gfp = run.gfp
    order = run.order
    before = run.held
    held = before
    end = min((run.want + (1 << order) - 1) >> order, held + budget)
    while held < end:
        chunk = min(held + CHUNK, end)
        while held < chunk:
            pfn = alloc_pages(m, cpu, gfp, order)
            if pfn < 0:
                break
            slot = slot_at(m, run.slots + held * SLOT_SIZE)
            slot.pfn = pfn
            slot.order = order
            held += 1
            barrier()
            run.held = held
        if held < chunk:
            run.want = held << order  # that is all there is
            run.failed += 1
            run.allocs += 1
            run.ops += 1
            break
        if not breathe(m, cpu):
            break
    done = held - before
    run.by_order[order] += done
    run.allocs += done
    run.ops += done
    run.alloc_ns += clock_ns() - began
    return done


@core
def empty(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """Free from slot ``position`` on, at most a slice's worth. Returns the operations."""
    began = clock_ns()
    order = run.order
    at = run.position
    end = min(run.held, at + budget)
    while at < end:
        for i in range(at, min(at + CHUNK, end)):
            slot = slot_at(m, run.slots + i * SLOT_SIZE)
            pfn = slot.pfn
            slot.pfn = -1
            barrier()
            __free_pages(m, cpu, pfn, order)
        at = min(at + CHUNK, end)
        if not breathe(m, cpu):
            break
    done = at - run.position
    run.position = at
    run.ops += done
    run.frees += done
    run.free_ns += clock_ns() - began
    if run.position == run.held:
        run.position = 0
        run.held = 0
        run.rounds += 1
        run.phase = FILLING
    return done


@core
def shuffle(m: Machine, run: Run) -> None:
    """Fisher-Yates over the slots."""
    for i in range(run.held - 1, 0, -1):
        a = slot_at(m, run.slots + i * SLOT_SIZE)
        b = slot_at(m, run.slots + random_below(run, i + 1) * SLOT_SIZE)
        pfn = a.pfn
        a.pfn = b.pfn
        b.pfn = pfn


@core
def fill_and_empty(m: Machine, cpu: Cpu, run: Run, budget: int, in_order: int) -> int:
    """A slice of bulk or rand."""
    if run.want == 0:
        return 0
    if run.phase == FILLING:
        done = fill(m, cpu, run, budget)
        if run.held << run.order >= run.want:
            run.phase = FREEING
            if in_order == 0:
                shuffle(m, run)
        return max(done, 1)
    return max(empty(m, cpu, run, budget), 1)


@entry
def bulk(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of bulk."""
    return fill_and_empty(m, cpu, run, budget, 1)


@entry
def rand(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of rand."""
    return fill_and_empty(m, cpu, run, budget, 0)


@entry
def repeat(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of repeat: once filled, pairs."""
    if run.phase == FILLING:
        done = fill(m, cpu, run, budget)
        if run.held << run.order >= run.want:
            run.phase = FREEING
        return max(done, 1)
    began = clock_ns()
    pairs = max(budget >> 1, 1)
    gfp = run.gfp
    order = run.order
    failed = 0
    at = 0
    while at < pairs:
        for _ in range(min(CHUNK * 64, pairs - at)):
            pfn = alloc_pages(m, cpu, gfp, order)
            if pfn < 0:
                failed += 1
            else:
                __free_pages(m, cpu, pfn, order)
            at += 1
        if not breathe(m, cpu):
            break
    run.alloc_ns += clock_ns() - began  # of pairs: alloc and free can't be timed apart
    run.allocs += at
    run.frees += at - failed
    run.failed += failed
    run.by_order[order] += at - failed
    run.ops += 2 * at - failed
    run.rounds += at
    return 2 * at
