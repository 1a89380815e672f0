"""What each step of a schedule accesses, as instrumented mode sees it.

A *footprint* is the list of a step's accesses to the machine's memory. Two steps conflict when one writes what the
other accesses; steps that don't commute in any other way don't exist, since all that processes share is this memory.
Accesses to the same 8 bytes are chained, the latest first; those of more than 8 bytes (a scan over pages) have a chain
of their own.

With ``Watch.buffered`` stores go into the seat's store buffer instead (:mod:`emu.race.tso`).
"""

from emu.race.arena import Arena, Watch, arena_at
from emu.race.tso import flush_buffer, load_buffered, store_buffered
from shm.access import (
    ACCESS_ACQUIRE, ACCESS_ATOMIC, ACCESS_RELEASE, ACCESS_WRITE, access_atomic, access_fence, access_load, access_range,
    access_store, peek, poke,
)  # fmt: skip
from shm.atomic import address
from shm.baton import Baton, Seat, baton_at, seat_here
from shm.core import core, implements

__all__ = ["begin_watch", "chain_of", "conflict", "end_step"]

GRANULE = 8


@core
def begin_watch(b: Baton, watch: Watch) -> None:
    """A schedule begins: nothing has been accessed."""
    watch.nr = 0
    watch.steps = 0
    watch.overflow = 0
    watch.wide = 0
    watch.last_sync = 0
    watch.stamp += 1
    for i in range(len_seats()):
        watch.nr_stores[i] = 0


@core(inline=True)
def len_seats() -> int:
    """Of the tables by seat."""
    return 16


@core
def bucket_of(at: int) -> int:
    """Where the chain of an 8-byte granule begins."""
    granule = at >> 3
    return (granule ^ granule >> 13) & 16383


@core
def chain_of(watch: Watch, at: int) -> int:
    """The latest access to the granule's bucket, its number + 1; 0: none in this schedule."""
    bucket = bucket_of(at)
    return watch.buckets[bucket] if watch.stamps[bucket] == watch.stamp else 0


@core(inline=True)
def overlap(at: int, nr_bytes: int, other_at: int, other_bytes: int) -> bool:
    """Whether two ranges have a byte in common."""
    return at < other_at + other_bytes and other_at < at + nr_bytes


@core
def conflict(watch: Watch, one: int, two: int) -> bool:
    """Whether two accesses touch the same memory and one of them writes."""
    a = watch.accesses[one]
    e = watch.accesses[two]
    return (a.flags | e.flags) & ACCESS_WRITE != 0 and overlap(a.at, a.nr_bytes, e.at, e.nr_bytes)


@core
def end_step(watch: Watch, step: int) -> None:
    """Accesses from here on belong to a step."""
    while watch.steps <= step:
        watch.first[watch.steps] = watch.nr
        watch.steps += 1


@core(cold=True)
def note_access(b: Baton, arena: Arena, seat: Seat, at: int, nr_bytes: int, flags: int, where: int) -> None:
    """One access of the step that runs, unless the same one was its last to this granule."""
    watch = arena.watch
    offset = at - (address(b) + arena.memory.machine)
    if offset < 0 or offset >= arena.memory.nr_chunks * 512:
        return
    step = b.steps - 1
    end_step(watch, step)
    before = watch.wide
    bucket = 0
    if nr_bytes <= GRANULE:
        bucket = bucket_of(offset)
        before = chain_of(watch, offset)
    orders = flags & (ACCESS_ACQUIRE | ACCESS_RELEASE | ACCESS_ATOMIC) != 0
    if before > watch.last_sync and not orders:  # nothing was ordered since
        last = watch.accesses[before - 1]
        if last.step == step and last.at == offset and last.nr_bytes == nr_bytes and last.flags == flags:
            return
    if watch.nr == watch.capacity:
        watch.overflow = 1
        return
    a = watch.accesses[watch.nr]
    watch.nr += 1
    if orders:
        watch.last_sync = watch.nr
    a.at = offset
    a.nr_bytes = nr_bytes
    a.flags = flags
    a.where = where
    a.step = step
    a.actor = seat.index + 16 * seat.context
    a.before = before
    if nr_bytes <= GRANULE:
        watch.buckets[bucket] = watch.nr
        watch.stamps[bucket] = watch.stamp
    else:
        watch.wide = watch.nr


@implements(access_load)
def on_load(at: int, nr_bytes: int, flags: int, where: int) -> int:
    """A load of the model's."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    if b.watching == 0 or b.prologue != 0:
        return peek(at, nr_bytes)
    arena = arena_at(b, 0)
    note_access(b, arena, seat, at, nr_bytes, flags, where)
    if arena.watch.buffered != 0:
        return load_buffered(arena.watch, seat, at, nr_bytes)
    return peek(at, nr_bytes)


@implements(access_store)
def on_store(at: int, nr_bytes: int, value: int, flags: int, where: int) -> None:
    """A store of the model's."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    if b.watching == 0 or b.prologue != 0:
        poke(at, nr_bytes, value)
        return
    arena = arena_at(b, 0)
    note_access(b, arena, seat, at, nr_bytes, flags, where)
    offset = at - (address(b) + arena.memory.machine)
    if arena.watch.buffered != 0 and 0 <= offset < arena.memory.nr_chunks * 512:
        store_buffered(arena.watch, seat, at, nr_bytes, value)
    else:
        poke(at, nr_bytes, value)


@implements(access_atomic)
def on_atomic(at: int, nr_bytes: int, flags: int, where: int) -> None:
    """A read-modify-write: on x86 a full barrier as well."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    if b.watching == 0 or b.prologue != 0:
        return
    arena = arena_at(b, 0)
    flush_buffer(arena.watch, seat)
    note_access(b, arena, seat, at, nr_bytes, flags, where)


@implements(access_range)
def on_range(at: int, nr_bytes: int, where: int) -> None:
    """Many bytes read at once, or a word that a process waited for."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    if b.watching != 0 and b.prologue == 0:
        arena = arena_at(b, 0)
        flush_buffer(arena.watch, seat)
        note_access(b, arena, seat, at, nr_bytes, ACCESS_ACQUIRE if where == 0 else 0, where)


@implements(access_fence)
def on_fence() -> None:
    """A full barrier: the store buffer is empty after it."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    flush_buffer(arena_at(b, 0).watch, seat)
