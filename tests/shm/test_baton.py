"""The baton's rules, on a scheduler that no process plays for: who can go on, what time does, how a schedule ends.

What real processes make of them is seen through scenarios in ``tests/race``.
"""

import ctypes
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import loader, turns
from shm.baton import (
    CONTEXT_IRQ,
    CONTEXT_TASK,
    CONTEXT_WORK,
    S_END,
    S_SLEEP,
    S_START,
    SEAT_ABSENT,
    SEAT_DONE,
    SEAT_READY,
    SEAT_SPINS,
    SEAT_WAITS_CHANGE,
    SEAT_WAITS_CLEAR,
    VERDICT_DEADLOCK,
    VERDICT_LIVELOCK,
    VERDICT_OK,
    VERDICT_STEPS,
    Baton,
    Seat,
    Word,
    fallback,
    lowest,
    mix,
    stand_of,
)
from shm.core import core, entry
from shm.struct import address_of

TOP = (1 << 62) - 1
KEPT: list[Word] = []  # seats have addresses only


@core
def draw(state: int, seed: int, n: int) -> int:
    """0 to n - 1."""
    return (mix(mix(state, seed), 0x2545F4914F6CDD1D) >> 8) % n


@entry
def drawn(seed: int, count: int, n: int) -> int:
    """So many draws as strategies make them, as one number."""
    state = 0
    out = 0
    for _ in range(count):
        state = (state + 0x1E3779B97F4A7C15) & TOP
        out = (out * 7 + draw(state, seed, n)) % 1_000_003
    return out


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    loader.load([drawn])  # type: ignore[list-item]


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What is pending on which seat."""
    pending: dict[int, int] = {}
    monkeypatch.setattr(turns, "pending_contexts", lambda _, seat: pending.get(seat.index, 0))
    return pending


@pytest.fixture
def b(contexts: dict[int, int]) -> Baton:
    """Three seats at the start of a schedule."""
    made = Baton()
    made.nr_seats, made.max_steps, made.start_ns = 3, 100, 1000
    for i in range(3):
        made.seats[i].index, made.seats[i].state = i, SEAT_READY
    turns.begin_schedule(made)
    return made


def wait_for(seat: Seat, word: Word, state: int, *, mask: int = 0xFFFFFFFF, value: int = 0, deadline: int = -1) -> None:
    KEPT.append(word)
    seat.state, seat.word, seat.mask, seat.value, seat.deadline = state, address_of(word), mask, value, deadline


# --- who can go on ----------------------------------------------------------------------------------------------------


def test_a_schedule_begins_with_all_at_the_start(b: Baton) -> None:
    b.seats[1].state = SEAT_ABSENT
    b.seats[0].steps = b.steps = b.preemptions = 7
    before = b.generation
    turns.begin_schedule(b)
    assert (b.generation, b.clock_ns, b.steps, b.preemptions, b.current) == (before + 1, 1000, 0, 0, -1)
    assert turns.look(b) == 0b101
    assert [b.seats[i].site for i in (0, 2)] == [S_START, S_START]


def test_a_daemon_that_sleeps_begins_asleep(b: Baton) -> None:
    word = Word(value=5)
    b.seats[2].daemon, b.seats[2].asleep_at, b.seats[2].asleep_value = 1, address_of(word), 5
    turns.begin_schedule(b)
    assert (b.seats[2].state, b.seats[2].site, b.prologue) == (SEAT_WAITS_CHANGE, S_SLEEP, 0)
    assert turns.look(b) == 0b011
    word.value = 6
    assert turns.look(b) == 0b111


def test_a_daemon_that_is_awake_goes_to_sleep_before_anybody_chooses(b: Baton) -> None:
    b.seats[1].daemon = 1
    turns.begin_schedule(b)
    assert b.prologue == 1
    assert turns.prologue_actor(b) == 1
    wait_for(b.seats[1], Word(), SEAT_WAITS_CHANGE)
    assert turns.prologue_actor(b) == -1
    assert b.prologue == 0


def test_who_waits_for_a_lock_can_go_on_when_no_bit_of_the_mask_is_set(b: Baton) -> None:
    word = Word(value=0x30001)
    wait_for(b.seats[0], word, SEAT_WAITS_CLEAR, mask=0xFFFF)
    assert not turns.can_run(b, b.seats[0])
    word.value = 0x30000
    assert turns.can_run(b, b.seats[0])


def test_who_sleeps_can_go_on_when_the_word_changes_or_time_is_up(b: Baton) -> None:
    word = Word(value=3)
    wait_for(b.seats[0], word, SEAT_WAITS_CHANGE, value=3, deadline=1500)
    assert not turns.can_run(b, b.seats[0])
    word.value = 4
    assert turns.can_run(b, b.seats[0])
    word.value, b.clock_ns = 3, 1500
    assert turns.can_run(b, b.seats[0])
    wait_for(b.seats[0], word, SEAT_WAITS_CHANGE, value=3)
    assert not turns.can_run(b, b.seats[0])


def test_who_spins_can_go_on_when_another_has_made_a_step(b: Baton) -> None:
    b.seats[0].state, b.seats[0].others = SEAT_SPINS, b.steps - b.seats[0].steps
    assert not turns.can_run(b, b.seats[0])
    b.enabled = 0b110
    turns.note(b, 1)
    assert turns.can_run(b, b.seats[0])


def test_interrupts_and_work_are_actors_of_their_own(b: Baton, contexts: dict[int, int]) -> None:
    contexts[0], contexts[1] = 1 << CONTEXT_IRQ, 1 << CONTEXT_WORK | 1 << CONTEXT_IRQ
    assert turns.look(b) == 0b111 | 0b11 << 16 | 0b10 << 32
    b.seats[0].context = CONTEXT_IRQ  # it runs: neither the task below it nor a second one can
    assert turns.look(b) == 0b110 | 0b11 << 16 | 0b10 << 32
    b.seats[1].state = SEAT_DONE
    assert turns.look(b) == 0b100 | 0b11 << 16 | 0b10 << 32


# --- who goes on by itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "enabled", "wanted"),
    [
        (-1, 0b110, 1),
        (2, 0b111, 2),
        (1, 0b101, 0),
        (17, 1 << 17 | 0b1, 17),
        (17, 0b111, 1),
        (17, 0b101, 0),
        (17, 1 << 33 | 1 << 16, 16),
    ],
    ids=["first", "same", "next", "interrupt", "task below", "none below", "contexts"],
)
def test_the_fallback(b: Baton, current: int, enabled: int, wanted: int) -> None:
    b.current, b.enabled = current, enabled
    assert fallback(b) == wanted


@given(st.integers(1, TOP))
def test_the_lowest_bit(mask: int) -> None:
    assert mask >> lowest(mask) & 1
    assert mask & ((1 << lowest(mask)) - 1) == 0


def test_a_step_is_written_down_and_preemptions_are_counted(b: Baton) -> None:
    b.enabled = 0b111
    turns.note(b, 0)  # the first is nobody's preemption
    b.seats[0].site = 77
    turns.note(b, 1)  # 0 could have gone on
    b.enabled = 0b101
    turns.note(b, 2)  # 1 couldn't
    steps = [(s.actor, s.before, s.stand) for s in b.log[:3]]
    assert steps == [(0, -1, S_START), (1, 0, 77), (2, 1, S_START)]
    assert (b.preemptions, b.steps, b.current) == (1, 3, 2)
    assert [b.seats[i].last_step for i in range(3)] == [0, 1, 2]


def test_a_context_that_has_ended_stands_at_its_end(b: Baton) -> None:
    b.seats[0].site = 5
    assert stand_of(b, 0) == 5
    assert stand_of(b, 16) == S_END
    b.seats[0].context = CONTEXT_IRQ
    assert (stand_of(b, 16), stand_of(b, 0)) == (5, S_END)
    b.seats[0].context = CONTEXT_TASK


# --- time, and the end ------------------------------------------------------------------------------------------------


def test_time_jumps_to_the_first_deadline_when_nobody_can_go_on(b: Baton) -> None:
    word = Word()
    for i, deadline in enumerate((3000, 2000, -1)):
        wait_for(b.seats[i], word, SEAT_WAITS_CHANGE, deadline=deadline)
    assert turns.look(b) == 0b010
    assert (b.clock_ns, b.advances) == (2000, 1)
    b.seats[1].state = SEAT_DONE
    assert turns.look(b) == 0b001
    assert b.clock_ns == 3000


def test_time_stands_still_while_somebody_can(b: Baton) -> None:
    wait_for(b.seats[0], Word(), SEAT_WAITS_CHANGE, deadline=2000)
    assert turns.look(b) == 0b110
    assert b.clock_ns == 1000


def test_all_done_and_daemons_asleep_is_the_end(b: Baton) -> None:
    b.seats[0].state = b.seats[1].state = SEAT_DONE
    b.seats[2].daemon = 1
    wait_for(b.seats[2], Word(), SEAT_WAITS_CHANGE)
    assert turns.look(b) == 0
    assert b.verdict == VERDICT_OK


@pytest.mark.parametrize(
    ("state", "loop", "wanted"),
    [(SEAT_WAITS_CLEAR, 0, VERDICT_DEADLOCK), (SEAT_SPINS, 0, VERDICT_DEADLOCK), (SEAT_SPINS, 1, VERDICT_LIVELOCK)],
)
def test_nobody_can_go_on_and_not_all_are_done(b: Baton, state: int, loop: int, wanted: int) -> None:
    for i in (0, 2):
        b.seats[i].state = SEAT_DONE
    word = Word(value=1)
    wait_for(b.seats[1], word, state)
    b.seats[1].loop, b.seats[1].others = loop, b.steps - b.seats[1].steps
    assert turns.look(b) == 0
    assert (b.verdict, b.culprit) == (wanted, 1)


def test_a_daemon_in_an_interrupt_may_not_sleep(b: Baton) -> None:
    b.seats[0].state = b.seats[1].state = SEAT_DONE
    b.seats[2].daemon, b.seats[2].context = 1, CONTEXT_IRQ
    word = Word(value=1)
    wait_for(b.seats[2], word, SEAT_WAITS_CLEAR)
    assert turns.look(b) == 0
    assert (b.verdict, b.culprit) == (VERDICT_DEADLOCK, 2 + 16)


def test_steps_have_a_limit(b: Baton) -> None:
    b.steps, b.current = 100, 1
    assert turns.look(b) == 0
    assert (b.verdict, b.culprit) == (VERDICT_STEPS, 1)


# --- the hash ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, TOP), st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_hash_is_62_bits_of_both(digest: int, value: int) -> None:
    assert 0 <= mix(digest, value) <= TOP
    assert mix(digest, value) != mix(digest, value ^ 1)
    assert mix(digest, value) != mix(digest, ctypes.c_int64(value ^ 1 << 63).value)
    assert mix(digest, value) != mix(digest ^ 1, value)


def test_every_bit_matters_to_the_order() -> None:
    """Priorities are compared as whole numbers: neighbouring seeds must put three of them in all orders."""
    orders = Counter(
        tuple(sorted(range(3), key=[mix(mix(draw, seed), 1) for draw in (11, 12, 13)].__getitem__))
        for seed in range(1200)
    )
    assert len(orders) == 6
    assert min(orders.values()) > 130


def test_python_and_native_code_draw_the_same_numbers() -> None:
    """Where signed numbers overflowed, native code would differ from Python: it takes for granted that they don't."""
    for seed in (0, 1, 7, 12345, TOP):
        for n in (2, 3, 5, 7):
            assert drawn(seed, 200, n) == drawn.fn(seed, 200, n)  # type: ignore[attr-defined]
