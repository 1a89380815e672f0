"""Seqcount readers against a writer in another process."""

from collections.abc import Callable

import pytest

from shm import loader
from shm.atomic import cpu_relax, fetch_add, load_acquire, store_release
from shm.core import entry
from shm.point import Party
from shm.seqcount import Seqcount, read_seqcount_begin, read_seqcount_retry, write_seqcount_begin, write_seqcount_end
from shm.struct import Struct, embed, i64, struct
from tests.shm.helpers import Crew, raised_to, scaled, until


@struct
class Shared(Struct):
    seq: Seqcount = embed(Seqcount)
    stop: int = i64()
    written: int = i64()
    torn: int = i64()
    done: int = i64()
    left: int = i64()  # always equal to right, but for the time of a write
    right: int = i64()


@entry
def write_until_told(me: Party, s: Shared) -> int:
    value = 0
    while load_acquire(s, "stop") == 0:
        value += 1
        write_seqcount_begin(s.seq)
        s.left = value
        s.right = value
        write_seqcount_end(s.seq)
        fetch_add(s, "written", 1)
        for _ in range(5):
            cpu_relax()
    return 0


@entry
def begin_write(s: Shared, value: int) -> None:
    write_seqcount_begin(s.seq)
    s.left = value


@entry
def end_write(s: Shared, value: int) -> None:
    s.right = value
    write_seqcount_end(s.seq)


@entry
def read_pairs(me: Party, s: Shared, n: int, writes: int, honest: int) -> int:
    """Count torn pairs in n reads, or more, until there were so many writes.

    A dishonest reader never asks whether to read again, and is content with one torn pair.
    """
    torn = 0
    i = 0
    while i < n or load_acquire(s, "written") < writes:
        while True:
            cookie = read_seqcount_begin(s.seq)
            left = s.left
            right = s.right
            if honest == 0 or not read_seqcount_retry(s.seq, cookie):
                break
        if left != right:
            torn += 1
            if honest == 0:
                break
        i += 1
    fetch_add(s, "torn", torn)
    fetch_add(s, "done", 1)
    return 0


@entry
def read_once(me: Party, s: Shared, honest: int) -> int:
    """Stop between the halves of a pair until told; returns left - right."""
    while True:
        cookie = read_seqcount_begin(s.seq)
        left = s.left
        fetch_add(s, "done", 1)
        while load_acquire(s, "stop") == 0:
            cpu_relax()
        right = s.right
        if honest == 0 or not read_seqcount_retry(s.seq, cookie):
            return left - right


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([e for e in globals().values() if type(e).__name__ == "Entry"])


@pytest.mark.slow
def test_readers_never_see_a_torn_pair(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    made.fork(0, write_until_told)
    made.fork(1, read_pairs, scaled(10_000_000), scaled(1_000_000), 1)
    assert made.reap(1) == [0]
    store_release(made.shared, "stop", 1)
    assert made.reap() == [0]
    assert made.shared.torn == 0


@pytest.mark.compiled
def test_readers_that_ignore_retry_do_see_a_torn_pair(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    made.fork(0, write_until_told)
    made.fork(1, read_pairs, 1 << 40, 0, 0)
    assert made.reap(1) == [0]
    assert made.shared.torn == 1


@pytest.mark.parametrize(("honest", "difference"), [(1, 0), (0, 2)], ids=["honest", "ignores retry"])
def test_a_read_with_a_write_in_the_middle(crew: Callable[..., Crew], honest: int, difference: int) -> None:
    made = crew(Shared)
    made.fork(0, read_once, honest)
    until(raised_to(made.shared, "done", 1), "half a pair is read")
    begin_write(made.shared, 2)
    end_write(made.shared, 2)
    store_release(made.shared, "stop", 1)
    assert made.reap() == [difference]


def test_a_reader_waits_for_the_end_of_a_write(crew: Callable[..., Crew]) -> None:
    made = crew(Shared)
    begin_write(made.shared, 1)
    made.fork(0, read_pairs, 1, 0, 1)
    made.fork(1, write_nothing)
    made.reap(1)
    assert load_acquire(made.shared, "done") == 0
    end_write(made.shared, 1)
    assert made.reap() == [0]
    assert made.shared.torn == 0


def write_nothing(me: Party, s: Shared) -> None:
    """A process that only takes its time."""
