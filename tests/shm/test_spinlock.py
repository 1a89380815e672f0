"""The spinlock between real processes: exact, fair, counted, and not brought down by a killed one."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from shm import loader
from shm.atomic import clock_ns, cpu_relax, fetch_add, load_acquire, store_release
from shm.core import entry
from shm.lockstat import LOCK_POINTS, LockHold, bucket, bucket_value
from shm.point import Party, site, site_name
from shm.ring import Ring, ring_drain, ring_init
from shm.spinlock import LOOK_NS, spin_is_locked, spin_lock, spin_lock_init, spin_skip_dead, spin_trylock, spin_unlock
from shm.spinlock_dead import EDEADLK, EOWNERDEAD
from shm.spinlock_types import KICK, PENDING, Spinlock, holder_of
from shm.struct import Array, Struct, address_of, array, embed, i64, offset_of, size_of, struct
from tests.shm.helpers import Crew, raised_to, scaled, until

HERE = site("test_spinlock:here")
THERE = site("test_spinlock:there")
MANY = 8


@struct
class Shared(Struct):
    lock: Spinlock = embed(Spinlock)
    counter: int = i64()
    queue_max: int = i64()
    gate: int = i64()
    log: Array[int] = array(i64, 16)
    ring: Ring = embed(Ring)
    holds: Array[LockHold] = array(LockHold, 4)


@entry
def init(s: Shared, lock_class: int) -> None:
    spin_lock_init(s.lock, lock_class)


@entry
def init_ring(s: Shared, record: int) -> None:
    ring_init(s.ring, 4, record)


@entry
def take(me: Party, s: Shared, where: int) -> int:
    return spin_lock(me, s.lock, where)


@entry
def try_take(me: Party, s: Shared, where: int) -> bool:
    return spin_trylock(me, s.lock, where)


@entry
def drop(me: Party, s: Shared) -> None:
    spin_unlock(me, s.lock)


@entry
def skip(me: Party, s: Shared, where: int) -> int:
    return spin_skip_dead(me, s.lock, where)


@entry
def is_locked(s: Shared) -> bool:
    return spin_is_locked(s.lock)


@entry
def count(me: Party, s: Shared, n: int, where: int) -> int:
    """n locked increments with plain loads and stores."""
    for _ in range(n):
        told = spin_lock(me, s.lock, where)
        if told != 0:
            return told
        s.counter += 1
        queued = (load_acquire(s.lock, "tail") - load_acquire(s.lock, "head")) & 0xFFFFFFFF
        s.queue_max = max(s.queue_max, queued)
        spin_unlock(me, s.lock)
    return 0


@entry
def sign(me: Party, s: Shared, where: int) -> int:
    """Take the lock once and put the own index into the log."""
    told = spin_lock(me, s.lock, where)
    if told != 0:
        return told
    s.log[s.counter & 15] = me.index
    s.counter += 1
    spin_unlock(me, s.lock)
    return 0


@entry
def hold_for_ever(me: Party, s: Shared, where: int) -> int:
    if spin_lock(me, s.lock, where) != 0:
        return 1
    store_release(s, "gate", 1)
    while load_acquire(s, "gate") == 1:
        cpu_relax()
    spin_unlock(me, s.lock)
    return 0


@entry
def try_in_turns(me: Party, s: Shared, n: int, where: int) -> int:
    got = 0
    while got < n:
        if spin_trylock(me, s.lock, where):
            s.counter += 1
            got += 1
            spin_unlock(me, s.lock)
    return 0


@entry
def lock_and_unlock_until_told(me: Party, s: Shared, where: int) -> int:
    """Until the gate opens (0) or the lock is broken."""
    while load_acquire(s, "gate") == 0:
        told = spin_lock(me, s.lock, where)
        if told != 0:
            return told
        s.counter += 1
        spin_unlock(me, s.lock)
        fetch_add(me, "heartbeat", 1)
    return 0


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([e for e in globals().values() if type(e).__name__ == "Entry"])


@pytest.fixture
def made(crew: Callable[..., Crew]) -> Crew:
    """The test holds nothing yet; it is the last party, the others are for children."""
    made = crew(Shared, MANY + 1, spin_limit=100)
    init(made.shared, 3)
    return made


def queued(crew: Crew, waiters: int) -> None:
    """Wait until the lock is held and so many wait."""
    lock = crew.shared.lock
    until(lambda: (load_acquire(lock, "tail") - load_acquire(lock, "head")) & 0xFFFFFFFF == waiters, "queue")


def position(crew: Crew) -> int:
    """The lock as a party has it in ``waits``."""
    return address_of(crew.shared.lock) - address_of(crew.parties[0])


def in_line(crew: Crew, index: int) -> None:
    """Wait until a party has said which ticket it waits for."""
    until(lambda: load_acquire(crew.parties[index].waits[0], "lock") == position(crew), "a ticket on record")


def look_about(times: int) -> None:
    """Let so much time pass that a waiter looks for the dead so often."""
    then = clock_ns() + times * LOOK_NS
    while clock_ns() < then:
        os.sched_yield()


def test_the_lock_is_whole_cache_lines() -> None:
    assert size_of(Spinlock) % 64 == 0
    assert offset_of(Spinlock, "word") == 0


def test_init_frees_and_clears() -> None:
    shared = Shared()
    for name in ("word", "tail", "head", "parked", "dead_holder", "acquisitions", "contentions", "stolen"):
        setattr(shared.lock, name, 5)
    shared.lock.stat.contention_points[LOCK_POINTS - 1].contentions = 5
    shared.lock.stat.waits.nr = 5
    init(shared, 4)
    assert not is_locked(shared)
    empty = Shared()
    empty.lock.lock_class = 4
    assert bytes(shared) == bytes(empty)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "rounds"), [(0, 1_000_000), (0xFFFFFFF0, 20_000)], ids=["a million times", "tickets wrap around"]
)
def test_eight_processes_count_exactly(made: Crew, start: int, rounds: int) -> None:
    shared, me, n = made.shared, made.parties[MANY], scaled(rounds)
    shared.lock.tail = shared.lock.head = start
    for party in made.parties:
        party.lock_stat = 1
    assert take(me, shared, HERE) == 0
    for i in range(MANY):
        made.fork(i, count, n, THERE if i & 1 else HERE)
    queued(made, MANY)
    drop(me, shared)
    assert made.reap(seconds=250) == [0] * MANY

    lock = shared.lock
    assert shared.counter == MANY * n
    assert lock.acquisitions == MANY * n + 1
    assert lock.tail == lock.head
    assert (lock.word, lock.parked, lock.dead_holder) == (0, 0, 0)
    assert MANY <= lock.contentions <= lock.acquisitions
    queued_in_all = (lock.tail - start) & 0xFFFFFFFF
    assert queued_in_all == lock.contentions - lock.stolen
    assert 2 <= shared.queue_max <= MANY  # one ticket each
    waits, holds = lock.stat.waits, lock.stat.holds
    assert (waits.nr, holds.nr) == (lock.contentions, lock.acquisitions)
    assert 0 < waits.shortest <= waits.total / waits.nr <= waits.longest
    assert 0 < holds.shortest <= holds.total / holds.nr <= holds.longest
    by_site = {site_name(point.site): point.contentions for point in lock.stat.contention_points if point.site}
    assert set(by_site) == {"test_spinlock:here", "test_spinlock:there"}
    assert sum(by_site.values()) == lock.contentions
    assert min(by_site.values()) >= MANY // 2


def test_it_is_taken_in_the_order_of_arrival(made: Crew) -> None:
    me = made.parties[MANY]
    take(me, made.shared, HERE)
    order = [3, 0, 7, 5, 1, 6, 2, 4]
    for place, i in enumerate(order):
        made.fork(i, sign, HERE)
        queued(made, place + 1)
    drop(me, made.shared)
    assert made.reap() == [0] * MANY
    assert list(made.shared.log)[:MANY] == order


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


def test_trylock_takes_a_free_lock_only(made: Crew) -> None:
    one, other, shared = made.parties[0], made.parties[1], made.shared
    assert not is_locked(shared)
    assert try_take(one, shared, HERE)
    assert is_locked(shared)
    assert holder_of(shared.lock) == 1
    assert not try_take(other, shared, HERE)
    drop(one, shared)
    assert holder_of(shared.lock) == 0
    assert try_take(other, shared, HERE)
    drop(other, shared)
    assert shared.lock.acquisitions == 2


def test_trylock_excludes_as_lock_does(made: Crew) -> None:
    n = scaled(20_000)
    made.fork(0, try_in_turns, n, HERE)
    made.fork(1, try_in_turns, n, HERE)
    made.fork(2, count, n, HERE)
    assert made.reap() == [0] * 3
    assert made.shared.counter == 3 * n


@pytest.mark.parametrize("spin_limit", [0, 1000])
def test_a_killed_holder_is_named_and_the_waiters_are_told(made: Crew, spin_limit: int) -> None:
    for party in made.parties:
        party.spin_limit = spin_limit
    made.fork(0, hold_for_ever, THERE)
    until(raised_to(made.shared, "gate", 1), "the lock is held")
    for i in (1, 2, 3):
        made.fork(i, take, HERE)
    queued(made, 3)
    made.kill(0)
    assert made.reap(0) == [-signal.SIGKILL]
    assert made.reap(1, 2, 3, seconds=1) == [EOWNERDEAD] * 3
    lock = made.shared.lock
    assert lock.dead_holder == 1
    assert site_name(lock.dead_site) == "test_spinlock:there"
    assert take(made.parties[MANY], made.shared, HERE) == -EOWNERDEAD  # and whoever comes later


def test_a_process_ends_with_the_status_it_asked_for(made: Crew) -> None:
    made.parties[1].exit_on_owner_death = 77
    made.fork(0, hold_for_ever, THERE)
    until(raised_to(made.shared, "gate", 1), "the lock is held")
    made.fork(1, take, HERE)
    queued(made, 1)
    made.kill(0)
    made.reap(0)
    assert made.reap(1, seconds=1) == [77]


def test_killed_waiters_are_skipped(made: Crew) -> None:
    me = made.parties[MANY]
    take(me, made.shared, HERE)
    for i in range(5):
        made.fork(i, sign, HERE)
        queued(made, i + 1)
        in_line(made, i)
    for i in (0, 2, 3):
        made.kill(i)
    assert made.reap(0, 2, 3) == [-signal.SIGKILL] * 3
    drop(me, made.shared)
    assert made.reap(1, 4, seconds=1) == [0, 0]
    assert list(made.shared.log)[:2] == [1, 4]
    assert (made.shared.lock.dead_holder, made.shared.lock.parked) == (0, 0)


def test_tickets_of_the_dead_are_skipped_at_once_and_the_living_keep_theirs(made: Crew) -> None:
    """Then their places in the party table may be used again."""
    me, lock = made.parties[MANY], made.shared.lock
    take(me, made.shared, HERE)
    for i in range(3):
        made.fork(i, sign, HERE)
        queued(made, i + 1)
        in_line(made, i)
    for i in (0, 2):
        made.kill(i)
    made.reap(0, 2)
    drop(me, made.shared)
    assert skip(me, made.shared, THERE) == 0
    assert made.reap(1, seconds=1) == [0]
    assert list(made.shared.log)[:1] == [1]
    assert (lock.word, lock.head - lock.tail, lock.parked) == (0, 0, 0)


def test_nothing_to_skip(made: Crew) -> None:
    assert skip(made.parties[MANY], made.shared, THERE) == 0
    assert (made.shared.lock.word, made.shared.lock.tail) == (0, 0)


def test_a_holder_that_is_only_slow_is_not_given_up(made: Crew) -> None:
    me = made.parties[MANY]
    take(me, made.shared, HERE)
    made.fork(0, sign, HERE)
    in_line(made, 0)
    look_about(3)
    drop(me, made.shared)
    assert made.reap(0) == [0]
    assert made.shared.lock.dead_holder == 0


def test_a_ticket_of_unknown_owner_is_waited_for_until_all_who_may_have_it_are_dead(made: Crew) -> None:
    # as a process leaves it that is stopped, then killed, between drawing the ticket and saying so
    stopped = made.parties[0]
    stopped.waits[0].lock = position(made) + 1
    me = made.parties[MANY]
    take(me, made.shared, HERE)
    made.shared.lock.tail = 1
    made.fork(1, sign, HERE)
    in_line(made, 1)
    drop(me, made.shared)
    look_about(3)
    assert made.shared.counter == 0
    store_release(stopped, "dead", 1)
    assert made.reap(1, seconds=1) == [0]


def test_a_pending_bit_of_a_dead_head_of_the_queue_is_no_obstacle(made: Crew) -> None:
    lock = made.shared.lock
    lock.word, lock.tail = PENDING, 1  # about to take it, and gone
    made.parties[0].dead = 1
    made.fork(1, sign, HERE)
    assert made.reap(1, seconds=1) == [0]
    assert (lock.word, lock.head, lock.tail) == (0, 2, 2)


def test_the_lock_is_stolen_while_the_head_of_the_queue_sleeps_but_not_once_it_is_starving(made: Crew) -> None:
    me, lock = made.parties[MANY], made.shared.lock
    take(me, made.shared, HERE)
    made.fork(0, sign, HERE)
    until(lambda: bool(load_acquire(lock, "word") & KICK), "parked")
    made.kill(0, signal.SIGSTOP)
    lock.word &= ~PENDING  # if it had been waiting for long
    drop(me, made.shared)
    assert take(me, made.shared, HERE) == 0
    made.kill(0, signal.SIGCONT)
    until(lambda: load_acquire(lock, "word") & (KICK | PENDING) == KICK | PENDING, "starving")
    made.fork(1, sign, HERE)  # the bit is set: it has to queue up
    queued(made, 2)
    drop(me, made.shared)
    assert made.reap(0, 1) == [0, 0]
    assert list(made.shared.log)[:2] == [0, 1]


def test_who_waits_for_itself_is_told(made: Crew) -> None:
    me = made.parties[MANY]
    assert take(me, made.shared, THERE) == 0
    me.context = 1  # an interrupt on top of it
    assert take(me, made.shared, HERE) == -EDEADLK
    assert made.shared.lock.recursion == MANY + 1
    assert site_name(made.shared.lock.site) == "test_spinlock:there"


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


@entry
def bucket_of(ns: int) -> int:
    return bucket(ns)


def test_a_bucket_is_within_a_128th_of_its_times() -> None:
    for ns in (0, 1, 127, 128, 255, 256, 257, 1000, 123_456, 10**9, (1 << 37) - 1):
        assert abs(bucket_value(int(bucket_of(ns))) - ns) * 128 <= ns
    assert bucket_of(1 << 45) == bucket_of((1 << 37) - 1)
    assert [int(bucket_of(n)) for n in range(300)] == [*range(256), *(256 + (n - 256) // 2 for n in range(256, 300))]


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "contended"])
def test_a_process_killed_at_any_instruction_stops_nobody(crew: Callable[..., Crew], others: int) -> None:
    chance = random.Random(5 + others)
    for _ in range(25):
        made = crew(Shared, 3, spin_limit=100)
        init(made.shared, 1)
        for i in range(1 + others):
            made.fork(i, lock_and_unlock_until_told, HERE)
        until(raised_to(made.parties[0], "heartbeat", chance.randrange(1, scaled(2000))), "work")
        made.kill(0)
        assert made.reap(0) == [-signal.SIGKILL]
        made.fork(2, sign, HERE)  # comes later
        told = made.reap(2)[0]
        store_release(made.shared, "gate", 1)
        assert made.reap() == [told] * others
        assert (told, made.shared.lock.dead_holder) in [(0, 0), (EOWNERDEAD, 1)]
