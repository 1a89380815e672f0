"""What a running workload keeps in shared memory, and how it is called.

A workload is one entry, ``def name(m: Machine, cpu: Cpu, run: Run, budget: int) -> int``. It does about ``budget``
operations (an allocation or a free is one) on its CPU, keeps all it must remember in ``run`` and in the page table
behind it, and returns the operations done; 0 says that it has nothing left to do. Each CPU has a ``Run`` of its own,
seeded from the machine's seed and the CPU number, so a run is reproducible per CPU.
"""

from shm.core import core
from shm.struct import Array, At, Struct, array, i32, i64, struct

__all__ = ["PageSlot", "Run", "random_below", "run_at", "slot_at"]


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
    measure: int = i32()  # time phases (bench)
    fill: int = i32()  # share of the machine's memory to use, in per mille, divided among the CPUs
    # state
    random: int = i64()  # xorshift state, never 0
    phase: int = i64()
    position: int = i64()
    held: int = i64()  # slots in use
    # results
    ops: int = i64()
    allocs: int = i64()
    frees: int = i64()
    failed: int = i64()
    alloc_ns: int = i64()
    free_ns: int = i64()
    rounds: int = i64()
    by_order: Array[int] = array(i64, 11)
    done: int = i32()


@struct
class PageSlot(Struct):
    """A page that a workload holds."""

    pfn: int = i64()  # -1: empty
    order: int = i64()


run_at = At(Run)
slot_at = At(PageSlot)
SLOT_SIZE = 16


@core(inline=True)
def random_below(run: Run, limit: int) -> int:
    """A reproducible number in [0, limit): xorshift64*'s shifts, kept in 63 bits."""
    x = run.random
    x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
    x ^= x >> 7
    x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
    run.random = x
    return (x >> 11) % limit
