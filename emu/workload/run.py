"""What a running workload keeps in shared memory, and how it is called.

A workload is one entry, ``def name(m: Machine, cpu: Cpu, run: Run, budget: int) -> int``. It does about ``budget``
operations (an allocation or a free is one) on its CPU, keeps all it must remember in ``run`` and in the page table
behind it, and returns the operations done; 0 says that it has nothing left to do. Each CPU has a ``Run`` of its own,
seeded from the machine's seed and the CPU number, so a run is reproducible per CPU.
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.workqueue import poll
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import barrier, load_acquire
from shm.core import core
from shm.struct import Array, At, Struct, array, i32, i64, struct

__all__ = ["ORPHAN", "PageSlot", "Run", "breathe", "give_back", "random_below", "slot_at", "take"]


@struct
class Run(Struct):
    """Parameters, results and state of one CPU's workload. Times in ns."""

    _align_ = 64

    # parameters
    workload: int = i32()
    order: int = i32()
    gfp: int = i64()
    seed: int = i64()
    slots: int = i64()  # offset of this CPU's page table from the machine record
    nr_slots: int = i64()
    target: int = i64()  # operations after which the workload ends; 0: when told to stop
    deadline: int = i64()  # CLOCK_MONOTONIC ns; 0: none
    want: int = i64()  # pages this CPU wants to hold at most
    first_task: int = i32()  # its user tasks begin here
    nr_tasks: int = i32()
    file: int = i32()  # a file of its own
    shared_file: int = i32()  # one that all CPUs map
    tmpfs: int = i32()  # a tmpfs file of its own
    memcg: int = i32()  # memory cgroup of its processes: index + 1; 0: none
    weights: Array[int] = array(i64, 11)  # of the orders that it asks for
    # state
    random: int = i64()  # xorshift state, never 0
    phase: int = i64()
    position: int = i64()
    held: int = i64()  # slots in use
    room: int = i64()  # pages that frag may still take in large blocks
    mm: int = i32()  # of its present process; 0: none
    turn: int = i32()
    # results
    ops: int = i64()
    allocs: int = i64()
    frees: int = i64()
    failed: int = i64()
    alloc_ns: int = i64()
    free_ns: int = i64()
    rounds: int = i64()
    killed: int = i64()  # processes that the OOM killer took
    by_order: Array[int] = array(i64, 11)
    # what became of a CPU that is offline
    orphan: int = i32()  # ORPHAN: its slots are to be released by whoever comes; from 2 on: CPU + 2 is at it
    orphans: int = i32()  # of the first record: how many there are


@struct
class PageSlot(Struct):
    """A page that a workload holds."""

    pfn: int = i64()  # -1: empty
    order: int = i64()


slot_at = At(PageSlot)
SLOT_SIZE = 16
ORPHAN = 1


@core(inline=True)
def random_below(run: Run, limit: int) -> int:
    """A reproducible number in [0, limit): xorshift64*'s shifts, kept in 63 bits."""
    x = run.random
    x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
    x ^= x >> 7
    x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
    run.random = x
    return (x >> 11) % limit


@core(inline=True)
def take(m: Machine, cpu: Cpu, run: Run, gfp: int, order: int) -> bool:
    """Allocate a block into the next free slot; false when there was none (counted)."""
    pfn = alloc_pages(m, cpu, gfp, order)
    run.ops += 1
    run.allocs += 1
    if pfn < 0:
        run.failed += 1
        return False
    slot = slot_at(m, run.slots + run.held * SLOT_SIZE)
    slot.pfn = pfn
    slot.order = order
    barrier()
    run.held += 1
    run.by_order[order] += 1
    return True


@core(inline=True)
def give_back(m: Machine, cpu: Cpu, run: Run, index: int) -> None:
    """Free the block of a slot; the last slot's block moves into the gap.

    Whoever is killed on the way leaves no slot with a block that is free, or that isn't the slot's.
    """
    slot = slot_at(m, run.slots + index * SLOT_SIZE)
    pfn = slot.pfn
    order = slot.order
    last = slot_at(m, run.slots + (run.held - 1) * SLOT_SIZE)
    moved = last.pfn
    slot.pfn = -1
    barrier()
    slot.order = last.order
    barrier()
    slot.pfn = moved
    barrier()
    run.held -= 1
    barrier()
    run.ops += 1
    run.frees += 1
    __free_pages(m, cpu, pfn, order)


@core
def breathe(m: Machine, cpu: Cpu) -> bool:
    """A poll point between operations; false when the machine is being stopped."""
    cpu.party.heartbeat += 1
    poll(m, cpu)
    return load_acquire(m, "stop") == 0
