"""What a scheduled run keeps beside the machine: the baton, the strategy's plan, the memory that schedules begin with.

It lies in a segment of its own, which is not put back between schedules::

    | Baton | Plan | Memory: tables of chunks | Watch, Dpor, Kcsan (instrumented mode) | image of the machine |
"""

from emu.race.plan import MAX_ACTORS, Plan
from emu.zone.mmzone import Machine
from shm.baton import MAX_STEPS, Baton
from shm.struct import Array, At, Struct, array, embed, fixed, i32, i64, struct

__all__ = ["CHUNK", "MAX_CHUNKS", "Arena", "Memory", "arena_at", "machine_at"]

CHUNK = 512  # bytes
MAX_CHUNKS = 1 << 15
MAX_CHECKS = 16
BUCKETS = 1 << 14
MAX_ACCESSES = 1 << 16
MAX_KEPT = 1 << 18
MAX_RACES = 256
MAX_SYNC = 256
BUFFER = 8  # stores that a CPU's buffer holds; longer ones on hardware show nothing more in programs this short


@struct
class Memory(Struct):
    """The machine's memory in chunks: which of them schedules have ever changed, and what a digest leaves out."""

    _raw_ = True

    machine: int = fixed(i64)  # offset of the Machine from the Baton
    image: int = fixed(i64)  # offset of its first state from the Baton
    nr_chunks: int = fixed(i64)
    nr_dirty: int = i64()
    learn_until: int = i64()  # all chunks are compared after each of the first so many schedules
    dirty: Array[int] = array(i32, MAX_CHUNKS)  # chunks that are put back between schedules
    known: Array[int] = array(i32, MAX_CHUNKS)  # 1: it is among them
    noise: Array[int] = array(i64, MAX_CHUNKS)  # a bit for each 64-bit word of the chunk that a digest leaves out
    checker: Array[int] = array(i64, MAX_CHUNKS)  # and for each that checked and interpreted mode alone write


@struct
class Access(Struct):
    """One access to the machine's memory."""

    _raw_ = True

    at: int = i64()  # offset from the Machine
    nr_bytes: int = i32()
    flags: int = i32()  # ACCESS_*
    where: int = i32()  # the function (shm.seen.function_number)
    step: int = i32()
    actor: int = i32()
    before: int = i32()  # the access before in the same chain: its number + 1


@struct
class Store(Struct):
    """A store that waits in a buffer."""

    _raw_ = True

    at: int = i64()  # address
    value: int = i64()
    nr_bytes: int = i64()


@struct
class Watch(Struct):
    """What instrumented mode has seen of a schedule; see :mod:`emu.race.watch`."""

    _raw_ = True

    nr: int = i64()
    capacity: int = i64()  # of accesses: 0 where nothing is to be seen
    steps: int = i64()  # those whose first access is known
    overflow: int = i32()  # some were not kept
    buffered: int = i32()  # stores wait in buffers
    base: int = i64()  # address of the Machine
    wide: int = i64()  # the latest access of more than 8 bytes, its number + 1
    last_sync: int = i64()  # the latest access that orders, its number + 1
    stamp: int = i64()
    buckets: Array[int] = array(i32, BUCKETS)
    stamps: Array[int] = array(i64, BUCKETS)  # the schedule that a bucket is of
    first: Array[int] = array(i32, MAX_STEPS + 2)  # by step: its first access
    nr_stores: Array[int] = array(i64, 16)
    stores: Array[Store] = array(Store, 16 * BUFFER)
    accesses: Array[Access] = array(Access, MAX_ACCESSES)


@struct
class Footprint(Struct):
    """An access of a step that was explored."""

    _raw_ = True

    at: int = i64()
    nr_bytes: int = i32()
    flags: int = i32()


@struct
class Dpor(Struct):
    """Partial-order reduction: who is asleep, and what has been seen by whom; :mod:`emu.race.strategies.dpor`."""

    _raw_ = True

    asleep: int = i64()  # actors whose next step needn't be tried
    filtered: int = i64()  # steps of this schedule that have woken whom they conflict with
    sleep_first: Array[int] = array(i64, MAX_ACTORS)  # their next steps' footprints, in ``kept``
    sleep_count: Array[int] = array(i64, MAX_ACTORS)
    nr_kept: int = i64()
    capacity: int = i64()
    kept: Array[Footprint] = array(Footprint, MAX_KEPT)
    kept_from: Array[int] = array(i64, MAX_STEPS)  # by node: nr_kept when it was made
    done: Array[int] = array(i64, MAX_STEPS * MAX_ACTORS)  # by node and actor: first << 16 | count in ``kept``
    racing: Array[int] = array(i64, MAX_STEPS)
    clocks: Array[int] = array(i64, MAX_ACTORS * MAX_ACTORS)  # by actor: the last step of each that it has seen, + 1
    of_step: Array[int] = array(i32, MAX_STEPS * MAX_ACTORS)  # the same, after each step


@struct
class DataRace(Struct):
    """Two accesses that nothing orders: the later one, and the one before it."""

    _raw_ = True

    at: int = i64()
    nr_bytes: int = i32()
    where: int = i32()
    flags: int = i32()
    actor: int = i32()
    other_where: int = i32()
    other_flags: int = i32()
    other_actor: int = i32()
    count: int = i32()


@struct
class Kcsan(Struct):
    """The happens-before checker: :mod:`emu.race.kcsan`."""

    _raw_ = True

    on: int = i32()
    cut: int = i32()  # there were more
    nr: int = i64()
    capacity: int = i64()
    nr_sync: int = i64()
    races: Array[DataRace] = array(DataRace, MAX_RACES)
    clocks: Array[int] = array(i64, 256)
    sync_at: Array[int] = array(i64, MAX_SYNC)
    sync: Array[int] = array(i64, MAX_SYNC * 16)
    epochs: Array[int] = array(i64, MAX_ACCESSES)


@struct
class Arena(Struct):
    """Everything but the image."""

    _raw_ = True

    baton: Baton = embed(Baton)
    plan: Plan = embed(Plan)
    memory: Memory = embed(Memory)
    watch: Watch = embed(Watch)
    dpor: Dpor = embed(Dpor)
    kcsan: Kcsan = embed(Kcsan)
    nr_checks: int = i64()
    checks: Array[int] = array(i32, MAX_CHECKS)  # codes of invariants, asked at rest
    nr_always: int = i64()
    always: Array[int] = array(i32, MAX_CHECKS)  # and after every step


arena_at = At(Arena)  # of a Baton: at 0
machine_at = At(Machine)  # of a Baton: at Memory.machine
