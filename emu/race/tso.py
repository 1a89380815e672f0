"""x86-TSO: each CPU's stores wait in a buffer, in order, before others see them (Sewell et al., CACM 2010).

A load looks into the CPU's own buffer first. A locked instruction and a full barrier empty it; so does what the model
does in one piece on memory (a scan). When the oldest store reaches memory is a step like any other, of the actor
``buffer0`` for cpu0: the strategy decides. Instrumented mode only.

Differs from x86-TSO: a load that overlaps a buffered store without being the same bytes waits until the store has
reached memory, where hardware may also merge them.
"""

from emu.race.arena import BUFFER, Watch, arena_at
from shm.access import peek, poke
from shm.baton import Baton, Seat, buffered_stores, commit_store
from shm.core import core, implements

__all__ = ["drain_one", "flush_buffer", "load_buffered", "store_buffered"]


@core
def drain_one(watch: Watch, index: int) -> None:
    """The oldest store of a seat's buffer reaches memory."""
    if watch.nr_stores[index] == 0:
        return
    first = watch.stores[index * BUFFER]
    poke(first.at, first.nr_bytes, first.value)
    watch.nr_stores[index] -= 1
    for i in range(watch.nr_stores[index]):
        to = watch.stores[index * BUFFER + i]
        of = watch.stores[index * BUFFER + i + 1]
        to.at = of.at
        to.nr_bytes = of.nr_bytes
        to.value = of.value


@implements(buffered_stores)
def stores_of(b: Baton, index: int) -> int:
    """How many wait."""
    return arena_at(b, 0).watch.nr_stores[index]


@implements(commit_store)
def commit(b: Baton, index: int) -> None:
    """The oldest reaches memory: a step whose footprint is the write."""
    watch = arena_at(b, 0).watch
    drain_one(watch, index)


@core
def flush_buffer(watch: Watch, seat: Seat) -> None:
    """All of them."""
    if watch.buffered == 0:
        return
    while watch.nr_stores[seat.index] != 0:
        drain_one(watch, seat.index)


@core
def load_buffered(watch: Watch, seat: Seat, at: int, nr_bytes: int) -> int:
    """The CPU's own last store to these bytes, or what is in memory."""
    i = watch.nr_stores[seat.index] - 1
    while i >= 0:
        kept = watch.stores[seat.index * BUFFER + i]
        if kept.at == at and kept.nr_bytes == nr_bytes:
            return kept.value
        if kept.at < at + nr_bytes and at < kept.at + kept.nr_bytes:
            flush_buffer(watch, seat)
            return peek(at, nr_bytes)
        i -= 1
    return peek(at, nr_bytes)


@core
def store_buffered(watch: Watch, seat: Seat, at: int, nr_bytes: int, value: int) -> None:
    """Behind those that wait already; the oldest leaves when there is no room."""
    if watch.nr_stores[seat.index] == BUFFER:
        drain_one(watch, seat.index)
    kept = watch.stores[seat.index * BUFFER + watch.nr_stores[seat.index]]
    watch.nr_stores[seat.index] += 1
    kept.at = at
    kept.nr_bytes = nr_bytes
    kept.value = value
