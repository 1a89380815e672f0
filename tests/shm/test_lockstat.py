"""What a lock knows of its past: times, sites, single holds."""

import pytest

from shm import loader
from shm.core import entry
from shm.lockstat import LOCK_POINTS, LockHold, bucket, bucket_value
from shm.point import Party, site_name
from shm.ring import ring_drain
from shm.spinlock import LOOK_NS
from shm.struct import address_of, size_of
from tests.shm.helpers import Crew
from tests.shm.lock_model import (
    ENTRIES,
    HERE,
    MANY,
    THERE,
    count,
    drop,
    in_line,
    init_ring,
    look_about,
    queued,
    sign,
    take,
    try_take,
)


@entry
def bucket_of(ns: int) -> int:
    return bucket(ns)


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([*ENTRIES, bucket_of])


def test_statistics_of_time_are_left_alone_unless_asked_for(made: Crew) -> None:
    made.fork(0, count, 100, HERE)
    made.fork(1, count, 100, HERE)
    assert made.reap() == [0, 0]
    lock = made.shared.lock
    assert lock.acquisitions == 200
    assert lock.stat.waits.nr == lock.stat.holds.nr == lock.stat.acq_bounces == 0


def test_more_sites_than_places_are_not_counted_by_site(made: Crew) -> None:
    for i in range(LOCK_POINTS + 1):
        take(made.parties[MANY], made.shared, HERE)
        made.fork(0, sign, 100 + i)
        queued(made, 1)
        drop(made.parties[MANY], made.shared)
        assert made.reap() == [0]
    lock = made.shared.lock
    points = lock.stat.contention_points
    assert [point.site for point in points] == [100 + i for i in range(LOCK_POINTS)]
    assert sum(point.contentions for point in points) == LOCK_POINTS == lock.contentions - 1
    assert [(p.site, p.contentions) for p in lock.stat.contending_points if p.site] == [(HERE, lock.contentions)]


def test_time_is_spent_spinning_parked_or_holding(made: Crew) -> None:
    for party in made.parties:
        party.lock_stat = 1
    me = made.parties[MANY]
    take(me, made.shared, HERE)
    made.fork(0, sign, THERE)
    in_line(made, 0)
    look_about(1)
    drop(me, made.shared)
    assert made.reap(0) == [0]
    waiter, stat = made.parties[0], made.shared.lock.stat
    assert LOOK_NS // 2 < waiter.park_ns <= stat.waits.longest
    assert waiter.park_ns + waiter.spin_ns == stat.waits.total
    assert me.hold_ns > LOOK_NS // 2
    assert me.hold_ns + waiter.hold_ns == stat.holds.total
    assert (stat.con_bounces, stat.acq_bounces) == (1, 2)


def keep_holds(made: Crew, party: Party) -> None:
    """Have a party's holds on record, the last four at most."""
    init_ring(made.shared, size_of(LockHold))
    party.lock_stat, party.lock_ring = 1, address_of(made.shared.ring) - address_of(party)


def test_each_hold_is_on_record(made: Crew) -> None:
    me, lock = made.parties[MANY], made.shared.lock
    keep_holds(made, me)
    for _ in range(2):
        take(me, made.shared, HERE)
        drop(me, made.shared)
    assert try_take(me, made.shared, THERE)
    drop(me, made.shared)
    holds = ring_drain(made.shared.ring, LockHold)
    assert [site_name(number) for number in holds["site"].tolist()] == ["test_spinlock:here"] * 2 + [
        "test_spinlock:there"
    ]
    assert holds["waited"].tolist() == [-1] * 3
    table = address_of(me) - MANY * me.stride
    assert holds["lock"].tolist() == [address_of(lock.stat) - table] * 3
    assert int((holds["released"] - holds["acquired"]).sum()) == lock.stat.holds.total
    assert me.irqs_off == 0


def test_a_wait_is_on_record_with_the_hold(made: Crew) -> None:
    keep_holds(made, made.parties[0])
    take(made.parties[MANY], made.shared, HERE)
    made.fork(0, sign, THERE)
    queued(made, 1)
    drop(made.parties[MANY], made.shared)
    assert made.reap() == [0]
    (hold,) = ring_drain(made.shared.ring, LockHold)
    assert int(hold["waited"]) == made.shared.lock.stat.waits.total > 0
    take(made.parties[MANY], made.shared, HERE)  # and the next one, who didn't wait, has none of it
    drop(made.parties[MANY], made.shared)
    assert made.shared.lock.stat.waited == 0


def test_holds_that_find_no_room_are_counted(made: Crew) -> None:
    me = made.parties[MANY]
    keep_holds(made, me)
    for _ in range(7):
        take(me, made.shared, HERE)
        drop(me, made.shared)
    assert (len(ring_drain(made.shared.ring, LockHold)), made.shared.ring.lost) == (4, 3)


def test_a_bucket_is_within_a_128th_of_its_times() -> None:
    for ns in (0, 1, 127, 128, 255, 256, 257, 1000, 123_456, 10**9, (1 << 37) - 1):
        assert abs(bucket_value(int(bucket_of(ns))) - ns) * 128 <= ns
    assert bucket_of(1 << 45) == bucket_of((1 << 37) - 1)
    assert [int(bucket_of(n)) for n in range(300)] == [*range(256), *(256 + (n - 256) // 2 for n in range(256, 300))]
