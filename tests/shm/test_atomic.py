"""Atomics between real processes, and compiled against interpreted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shm import loader
from shm.atomic import (
    address,
    clock_ns,
    cmpxchg,
    cpu_relax,
    fetch_add,
    fetch_and,  # noqa: F401 - this and the two others: in OPERATIONS
    fetch_or,  # noqa: F401
    futex_wait,
    futex_wake,
    load_acquire,
    prefetch,
    process_exit,
    smp_mb,
    store_release,  # noqa: F401
    xchg,
)
from shm.core import entry
from shm.point import Party
from shm.struct import Struct, i8, i16, i32, i64, struct, u8, u16, u32
from tests.shm.helpers import Crew, raised_to, scaled, until

FIELDS = {"x_i8": i8, "x_i16": i16, "x_i32": i32, "x_i64": i64, "x_u8": u8, "x_u16": u16, "x_u32": u32}
RANGES = {
    name: (-(1 << bits - 1), (1 << bits - 1) - 1) if name[2] == "i" else (0, (1 << bits) - 1)
    for name in FIELDS
    for bits in [int(name[3:])]
}


@struct
class Words(Struct):
    """Every kind of field, each between two guards."""

    g0: int = u8()
    x_i8: int = i8()
    g1: int = u8()
    x_u8: int = u8()
    g2: int = u16()
    x_i16: int = i16()
    g3: int = u16()
    x_u16: int = u16()
    g4: int = u32()
    x_i32: int = i32()
    g5: int = u32()
    x_u32: int = u32()
    g6: int = i64()
    x_i64: int = i64()
    g7: int = i64()


GUARDS = [f"g{i}" for i in range(8)]

OPERATIONS = """
@entry
def {field}_load(w: Words, one: int, two: int) -> int:
    return load_acquire(w, "{field}")

@entry
def {field}_store(w: Words, one: int, two: int) -> int:
    store_release(w, "{field}", one)
    return 0

@entry
def {field}_add(w: Words, one: int, two: int) -> int:
    return fetch_add(w, "{field}", one)

@entry
def {field}_or(w: Words, one: int, two: int) -> int:
    return fetch_or(w, "{field}", one)

@entry
def {field}_and(w: Words, one: int, two: int) -> int:
    return fetch_and(w, "{field}", one)

@entry
def {field}_xchg(w: Words, one: int, two: int) -> int:
    return xchg(w, "{field}", one)

@entry
def {field}_cmpxchg(w: Words, one: int, two: int) -> int:
    return cmpxchg(w, "{field}", one, two)
"""
KINDS = ("load", "store", "add", "or", "and", "xchg", "cmpxchg")
for _field in FIELDS:
    exec(OPERATIONS.format(field=_field))
TABLE = {(field, kind): globals()[f"{field}_{kind}"] for field in FIELDS for kind in KINDS}


@entry
def add_many(me: Party, w: Words, n: int) -> int:
    for _ in range(n):
        fetch_add(w, "x_i64", 1)
        fetch_add(w, "x_u16", 1)
    return 0


@entry
def add_by_cmpxchg(me: Party, w: Words, n: int) -> int:
    for _ in range(n):
        old = load_acquire(w, "x_i64")
        while True:
            seen = cmpxchg(w, "x_i64", old, old + 1)
            if seen == old:
                break
            old = seen
    return 0


@entry
def pass_tokens(me: Party, w: Words, n: int) -> int:
    mine = me.index + 1
    total = 0
    for _ in range(n):
        mine = xchg(w, "x_i32", mine)
        total += 1
    fetch_add(w, "x_i64", mine)
    return total - n


@entry
def sleep_on(me: Party, w: Words, bits: int, deadline_ns: int) -> int:
    fetch_add(w, "x_i64", 1)
    return futex_wait(w, "x_i32", 7, bits, deadline_ns)


@entry
def wake(w: Words, count: int, bits: int) -> int:
    return futex_wake(w, "x_i32", count, bits)


@entry
def many_clocks(me: Party, w: Words, n: int) -> int:
    before = clock_ns()
    for _ in range(n):
        now = clock_ns()
        if now < before:
            return 1
        before = now
        prefetch(w)
        smp_mb()
        cpu_relax()
    return 0


@entry
def many_waits(me: Party, w: Words, n: int) -> int:
    for _ in range(n):
        if futex_wait(w, "x_i32", 1, 1, 0) >= 0:
            return 1
    return 0


@entry
def exit_with(me: Party, w: Words, status: int) -> None:
    process_exit(status)


@entry
def distance(w: Words, other: Words) -> int:
    return address(other) - address(w)


@entry
def now() -> int:
    return clock_ns()


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([e for e in globals().values() if type(e).__name__ == "Entry"])


def fresh(field: str, value: int) -> Words:
    words = Words()
    for guard in GUARDS:
        setattr(words, guard, 0x5A)
    setattr(words, field, value)
    return words


numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-300, 300) | st.sampled_from([127, 128, 0xFFFF, 1 << 31])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=25)
@given(start=numbers, one=numbers, two=numbers)
@example(start=-1, one=-1, two=0)
def test_compiled_and_interpreted_agree(field: str, kind: str, start: int, one: int, two: int) -> None:
    operation = TABLE[field, kind]
    left, right = fresh(field, start), fresh(field, start)
    assert operation(left, one, two) == operation.fn(right, one, two)
    assert bytes(left) == bytes(right)
    assert all(getattr(left, guard) == 0x5A for guard in GUARDS)


@pytest.mark.parametrize("field", FIELDS)
def test_values_have_the_fields_width_and_sign(field: str) -> None:
    low, high = RANGES[field]
    words = fresh(field, high)
    assert TABLE[field, "load"](words, 0, 0) == high
    assert TABLE[field, "add"](words, 1, 0) == high
    assert TABLE[field, "load"](words, 0, 0) == low
    assert TABLE[field, "cmpxchg"](words, low, 5) == low
    assert TABLE[field, "cmpxchg"](words, 6, 7) == 5
    assert TABLE[field, "xchg"](words, high, 0) == 5
    assert getattr(words, field) == high


def test_fetch_add_from_eight_processes_loses_nothing(crew: Callable[..., Crew]) -> None:
    made, n = crew(Words, 8), scaled(100_000)
    for i in range(8):
        made.fork(i, add_many, n)
    assert made.reap() == [0] * 8
    assert made.shared.x_i64 == 8 * n
    assert made.shared.x_u16 == 8 * n % 65536
    assert made.shared.g3 == made.shared.g4 == 0


def test_cmpxchg_from_four_processes_loses_nothing(crew: Callable[..., Crew]) -> None:
    made, n = crew(Words, 4), scaled(50_000)
    for i in range(4):
        made.fork(i, add_by_cmpxchg, n)
    assert made.reap() == [0] * 4
    assert made.shared.x_i64 == 4 * n


def test_xchg_neither_copies_nor_drops_a_value(crew: Callable[..., Crew]) -> None:
    made = crew(Words, 4)
    for i in range(4):
        made.fork(i, pass_tokens, scaled(50_000))
    assert made.reap() == [0] * 4
    assert made.shared.x_i64 + made.shared.x_i32 == 1 + 2 + 3 + 4


def test_a_compiled_and_an_interpreted_process_share_a_counter(crew: Callable[..., Crew]) -> None:
    made = crew(Words)
    made.fork(1, add_many, scaled(50_000))
    made.fork(2, add_many.fn, 2_000)
    assert made.reap() == [0, 0]
    assert made.shared.x_i64 == scaled(50_000) + 2_000


def test_futex_wait_returns_at_once_when_the_value_differs_or_the_deadline_is_past() -> None:
    words, me = Words(x_i32=8), Party()
    assert sleep_on(me, words, 1, -1) < 0
    words.x_i32 = 7
    assert sleep_on(me, words, 1, 0) < 0
    deadline = clock_ns() + 2_000_000
    assert sleep_on(me, words, 1, deadline) < 0
    assert clock_ns() >= deadline


def asleep(crew: Crew, index: int) -> bool:
    return Path(f"/proc/{crew.pids[index]}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_futex_wake_wakes_those_whose_bits_it_names(crew: Callable[..., Crew]) -> None:
    made = crew(Words)
    made.shared.x_i32 = 7
    for i in (1, 2):
        made.fork(i, sleep_on, 1 << i, -1)
    until(raised_to(made.shared, "x_i64", 2), "both are about to sleep")
    until(lambda: asleep(made, 1) and asleep(made, 2), "both sleep")
    assert wake(made.shared, 10, 1 << 5) == 0
    assert wake(made.shared, 10, 1 << 2) == 1
    assert made.reap(2) == [0]
    assert wake(made.shared, 10, 0xFFFFFFFF) == 1
    assert made.reap(1) == [0]


@pytest.mark.slow
@pytest.mark.parametrize("loop", [many_clocks, many_waits], ids=["clock_ns", "futex_wait"])
def test_a_long_loop_takes_no_more_stack_than_a_short_one(crew: Callable[..., Crew], loop: Any) -> None:
    made = crew(Words)
    made.fork(1, loop, scaled(700_000))
    assert made.reap() == [0]


def test_clock_is_the_monotonic_clock_of_all_processes() -> None:
    before = time.monotonic_ns()
    assert before <= now() <= now.fn() <= time.monotonic_ns()


def test_process_exit_ends_the_process_with_that_status(crew: Callable[..., Crew]) -> None:
    made = crew(Words)
    made.fork(1, exit_with, 17)
    assert made.reap() == [17]


def test_addresses_differ_by_the_distance_of_the_records(crew: Callable[..., Crew]) -> None:
    pair = (Words * 2)()
    assert distance(pair[0], pair[1]) == distance.fn(pair[0], pair[1]) == -distance(pair[1], pair[0]) > 0
