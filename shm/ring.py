"""Per-CPU event ring: one writer, one reader, fixed records, losses counted exactly.

A full ring keeps what it has and counts what it had to drop, so that ``written + lost`` is always the number of events
that happened. The writer never waits for the reader.
"""

from typing import Any

import numpy as np

from shm.atomic import load_acquire, store_release
from shm.core import core
from shm.struct import Struct, address_of, i64, records_at, size_of, struct

__all__ = ["Ring", "ring_bytes", "ring_commit", "ring_drain", "ring_init", "ring_reserve"]


@struct
class Ring(Struct):
    """Header; the records follow it directly. ``head`` is the writer's, ``tail`` the reader's."""

    _align_ = 64

    head: int = i64()  # invariant: 0 <= head - tail <= capacity
    lost: int = i64()
    capacity: int = i64()  # a power of two
    record: int = i64()  # bytes of one record
    tail: int = i64()


RING_HEADER = 64


def ring_bytes(capacity: int, kind: type[Struct]) -> int:
    """Bytes of a ring of so many records, a multiple of 64."""
    return -(-(RING_HEADER + capacity * size_of(kind)) // 64) * 64


@core
def ring_init(ring: Ring, capacity: int, record: int) -> None:
    """An empty ring of ``capacity`` records (a power of two) of ``record`` bytes."""
    ring.head = 0
    ring.tail = 0
    ring.lost = 0
    ring.capacity = capacity
    ring.record = record


@core(inline=True)
def ring_reserve(ring: Ring) -> int:
    """Offset from the ring of the record to fill, or -1 when full (counted)."""
    head = ring.head
    if head - load_acquire(ring, "tail") >= ring.capacity:
        ring.lost += 1
        return -1
    return RING_HEADER + (head & (ring.capacity - 1)) * ring.record


@core(inline=True)
def ring_commit(ring: Ring) -> None:
    """The reserved record is complete: the reader may have it."""
    store_release(ring, "head", ring.head + 1)


def ring_drain(ring: Ring, kind: type[Struct]) -> np.ndarray[Any, Any]:
    """Take all complete records out, oldest first (the reader's side, in Python)."""
    head, tail = load_acquire(ring, "head"), ring.tail
    slots = records_at(kind, address_of(ring) + RING_HEADER, ring.capacity)
    first, count = tail & (ring.capacity - 1), head - tail
    taken: np.ndarray[Any, Any] = np.concatenate(
        (slots[first : first + count], slots[: max(first + count - len(slots), 0)])
    )
    store_release(ring, "tail", head)
    return taken
