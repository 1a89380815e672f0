"""The event ring: a writer process, and a reader that drains it meanwhile."""

from collections.abc import Callable

import numpy as np
import pytest

from shm import loader
from shm.atomic import load_acquire, store_release
from shm.core import entry
from shm.point import Party
from shm.ring import RING_HEADER, Ring, ring_commit, ring_drain, ring_init, ring_reserve
from shm.struct import Array, At, Struct, array, embed, i64, size_of, struct, u16
from tests.shm.helpers import Crew, raised_to, scaled, until

CAPACITY = 64


@struct
class Event(Struct):
    serial: int = i64()
    kind: int = u16()
    check: int = i64()


@struct
class Shared(Struct):
    ring: Ring = embed(Ring)
    records: Array[Event] = array(Event, CAPACITY)
    stop: int = i64()
    happened: int = i64()


event_at = At(Event)


@entry
def init(s: Shared, capacity: int, record: int) -> None:
    ring_init(s.ring, capacity, record)


@entry
def write(s: Shared, n: int) -> int:
    """n events, numbered on; how many found room."""
    written = 0
    for _ in range(n):
        at = ring_reserve(s.ring)
        if at >= 0:
            event = event_at(s.ring, at)
            event.serial = s.happened
            event.kind = s.happened & 0xFFFF
            event.check = ~s.happened
            ring_commit(s.ring)
            written += 1
        store_release(s, "happened", s.happened + 1)
    return written


@entry
def write_until_told(me: Party, s: Shared) -> int:
    while load_acquire(s, "stop") == 0:
        write(s, 10)
    return 0


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([e for e in globals().values() if type(e).__name__ == "Entry"])


@pytest.fixture
def shared() -> Shared:
    made = Shared()
    init(made, CAPACITY, size_of(Event))
    return made


def test_records_follow_the_header_directly() -> None:
    assert size_of(Ring) == RING_HEADER == Shared.records.offset


def test_a_full_ring_keeps_what_it_has_and_counts_the_rest(shared: Shared) -> None:
    assert write(shared, CAPACITY + 10) == CAPACITY
    assert shared.ring.lost == 10
    assert list(ring_drain(shared.ring, Event)["serial"]) == list(range(CAPACITY))
    assert len(ring_drain(shared.ring, Event)) == 0
    assert write(shared, 3) == 3
    assert list(ring_drain(shared.ring, Event)["serial"]) == [CAPACITY + 10, CAPACITY + 11, CAPACITY + 12]


def test_drained_records_are_the_readers_own(shared: Shared) -> None:
    write(shared, 1)
    taken = ring_drain(shared.ring, Event)
    shared.records[0].serial = 99
    assert taken["serial"][0] == 0


def test_order_is_kept_around_the_end_of_the_buffer(shared: Shared) -> None:
    expected = 0
    for step in (50, 3, 64, 1, 33):
        assert write(shared, step) == step
        taken = ring_drain(shared.ring, Event)
        assert list(taken["serial"]) == list(range(expected, expected + step))
        expected += step


@pytest.mark.slow
def test_every_event_is_drained_once_or_counted_as_lost(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    shared = made.shared
    init(shared, CAPACITY, size_of(Event))
    made.fork(0, write_until_told)
    until(raised_to(shared.ring, "lost", 1), "the ring is full")
    drained = []
    while load_acquire(shared, "happened") < scaled(1_000_000) or sum(map(len, drained)) < 10 * CAPACITY:
        drained.append(ring_drain(shared.ring, Event))
    store_release(shared, "stop", 1)
    assert made.reap() == [0]
    drained.append(ring_drain(shared.ring, Event))

    events = np.concatenate(drained)
    assert len(events) == shared.ring.head == shared.ring.tail
    assert len(events) + shared.ring.lost == shared.happened
    assert (np.diff(events["serial"]) > 0).all()
    assert (events["check"] == ~events["serial"]).all()
    assert (events["kind"] == events["serial"] & 0xFFFF).all()
