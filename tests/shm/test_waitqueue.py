"""Wait queues between real processes."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from shm import loader, waitqueue
from shm.atomic import clock_ns, fetch_add, load_acquire, store_release
from shm.core import entry
from shm.point import Party
from shm.struct import At, Struct, embed, i64, size_of, struct
from shm.waitqueue import WaitQueue, finish_wait, prepare_to_wait, schedule, waitqueue_active, wake_up
from tests.shm.helpers import Crew, raised_to, scaled, stop_and_wait, until

SECOND = 1_000_000_000


@struct
class Shared(Struct):
    ping: WaitQueue = embed(WaitQueue)  # party 0 sleeps here
    pong: WaitQueue = embed(WaitQueue)  # party 1 sleeps here
    turn: int = i64()
    rounds: int = i64()
    about_to_sleep: int = i64()
    woken: int = i64()


queue_at = At(WaitQueue)


@entry
def play(me: Party, s: Shared, rounds: int) -> int:
    """Wait for the turn, pass it on, wake the other. 1: nobody woke us for ten seconds."""
    mine = queue_at(s, 8 * me.index)
    other = queue_at(s, 8 - 8 * me.index)
    for _ in range(rounds):
        while True:
            cookie = prepare_to_wait(mine)
            if load_acquire(s, "turn") == me.index:
                finish_wait(mine, cookie)
                break
            woken = schedule(mine, cookie, clock_ns() + 10 * SECOND)
            finish_wait(mine, cookie)
            if not woken:
                return 1
        fetch_add(s, "rounds", 1)
        store_release(s, "turn", 1 - me.index)
        wake_up(other)
    return 0


@entry
def sleep(me: Party, s: Shared, deadline_ns: int) -> int:
    """1 when woken, 0 when not."""
    cookie = prepare_to_wait(s.ping)
    fetch_add(s, "about_to_sleep", 1)
    woken = schedule(s.ping, cookie, deadline_ns)
    finish_wait(s.ping, cookie)
    fetch_add(s, "woken", 1)
    return woken


@entry
def wake(s: Shared) -> bool:
    return wake_up(s.ping)


@entry
def active(s: Shared) -> bool:
    return waitqueue_active(s.ping) or waitqueue_active(s.pong)


@entry
def prepare(s: Shared) -> int:
    return prepare_to_wait(s.ping)


@entry
def finish(s: Shared, cookie: int) -> None:
    finish_wait(s.ping, cookie)


@entry
def sleep_with(s: Shared, cookie: int, deadline_ns: int) -> bool:
    return schedule(s.ping, cookie, deadline_ns)


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    assert size_of(WaitQueue) == 8
    loader.load([e for e in globals().values() if type(e).__name__ == "Entry"])


@pytest.mark.slow
def test_no_wake_up_is_lost_between_two_processes(crew: Callable[..., Crew]) -> None:
    made, rounds = crew(Shared), scaled(50_000)
    for i in (0, 1):
        made.fork(i, play, rounds)
    assert made.reap(seconds=30) == [0, 0]
    assert made.shared.rounds == 2 * rounds
    assert not active(made.shared)


def test_the_queue_is_empty_from_the_wake_up_on(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    shared = made.shared
    assert not active(shared)
    assert not wake(shared)
    for i in range(3):
        made.fork(i, sleep, -1)
    until(raised_to(shared, "about_to_sleep", 3), "all are queued")
    for i in range(3):
        stop_and_wait(made, i)
    assert active(shared)
    assert wake(shared)
    assert not active(shared)  # though none of them has run since
    assert not wake(shared)
    assert shared.woken == 0
    for i in range(3):
        made.kill(i, signal.SIGCONT)
    assert made.reap() == [1, 1, 1]
    assert not active(shared)


def test_a_wake_up_between_prepare_and_schedule_is_kept() -> None:
    shared = Shared()
    cookie = prepare(shared)
    assert wake(shared)
    assert sleep_with(shared, cookie, -1)
    finish(shared, cookie)
    assert not active(shared)


def test_finishing_without_a_wake_up_takes_the_sleeper_off() -> None:
    shared = Shared()
    one, two = prepare(shared), prepare(shared)
    finish(shared, one)
    assert active(shared)
    finish(shared, two)
    assert not active(shared)


def test_a_wake_up_in_the_middle_of_finish_wait_leaves_the_queue_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared()
    cookie = prepare_to_wait(shared.ping)

    def load_and_be_woken(record: Any, field: str) -> int:
        value = load_acquire(record, field)
        monkeypatch.undo()
        wake_up(shared.ping)
        return value

    monkeypatch.setattr(waitqueue, "load_acquire", load_and_be_woken)
    finish_wait(shared.ping, cookie)
    assert not waitqueue_active(shared.ping)


def test_the_sequence_may_wrap_around() -> None:
    shared = Shared()
    shared.ping.state = -1 << 32  # 2^32 - 1 wake-ups
    for _ in range(3):
        cookie = prepare(shared)
        assert active(shared)
        assert not sleep_with(shared, cookie, 0)
        assert wake(shared)
        assert sleep_with(shared, cookie, -1)
        finish(shared, cookie)
        assert not active(shared)


def test_a_deadline_ends_the_sleep_with_false(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    deadline = clock_ns() + 5_000_000
    made.fork(0, sleep, deadline)
    assert made.reap() == [0]
    assert clock_ns() >= deadline
    assert not active(made.shared)


def sleep_through_signals(me: Party, s: Any, deadline_ns: int) -> int:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    return int(sleep(me, s, deadline_ns))


def test_a_signal_is_no_deadline(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    deadline = clock_ns() + 100_000_000
    made.fork(0, sleep_through_signals, deadline)
    until(raised_to(made.shared, "about_to_sleep", 1), "it sleeps")
    while clock_ns() < deadline - 50_000_000:
        made.kill(0, signal.SIGUSR1)
        os.sched_yield()
    assert load_acquire(made.shared, "woken") == 0
    assert made.reap() == [0]
    assert clock_ns() >= deadline
