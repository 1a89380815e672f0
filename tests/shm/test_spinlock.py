"""The spinlock between real processes: exact, fair, counted, and not brought down by a killed one."""

import random
import signal
from collections.abc import Callable

import pytest

from shm import loader
from shm.atomic import load_acquire, store_release
from shm.lockstat import LOCK_POINTS
from shm.point import site_name
from shm.spinlock_dead import EDEADLK, EOWNERDEAD
from shm.spinlock_types import KICK, PENDING, Spinlock, holder_of
from shm.struct import offset_of, size_of
from tests.shm.helpers import Crew, raised_to, scaled, until
from tests.shm.lock_model import (
    ENTRIES,
    HERE,
    MANY,
    THERE,
    Shared,
    count,
    drop,
    hold_for_ever,
    in_line,
    init,
    is_locked,
    lock_and_unlock_until_told,
    look_about,
    position,
    queued,
    sign,
    skip,
    take,
    try_in_turns,
    try_take,
)


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load(ENTRIES)


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
