"""What the model meets in scheduled mode: a point, a lock, a sleep, a spin, the head of a loop (see ``shm.baton``)."""

from shm.access import access_range
from shm.atomic import address, load_acquire
from shm.baton import (
    CONTEXT_TASK, LOOP_MEMORY, SEAT_ABSENT, SEAT_READY, SEAT_SPINS, SEAT_WAITS_CHANGE, SEAT_WAITS_CLEAR, S_SLEEP,
    S_SPIN, VERDICT_LIVELOCK, WORD, Baton, Seat, baton_at, memory_digest, mix, pending_contexts, seat_here, word_at,
)  # fmt: skip
from shm.core import INSTRUMENTED, core, implements
from shm.here import here
from shm.point import Party, schedule_lock, schedule_loop, schedule_point, schedule_relax, schedule_wait
from shm.turns import can_run, yield_baton
from shm.waitqueue import NEVER

__all__ = ["at_lock", "at_loop", "at_point", "at_relax", "at_wait"]


@implements(schedule_point)
def at_point(me: Party, where: int) -> None:
    """Anybody may go first."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    seat.state = SEAT_READY
    seat.site = where
    yield_baton(baton_at(seat, seat.baton), seat)


@implements(schedule_lock)
def at_lock(me: Party, where: int, word: int, mask: int) -> None:
    """Anybody may go first; this process can't while the lock is held."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    seat.state = SEAT_WAITS_CLEAR
    seat.site = where
    seat.word = word
    seat.mask = mask
    yield_baton(baton_at(seat, seat.baton), seat)


@implements(schedule_wait)
def at_wait(word: int, expected: int, deadline_ns: int) -> int:
    """Asleep until the word changes or the deadline is reached."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    futex = word_at(b, word - address(b))
    if load_acquire(futex, "value") != expected:
        return -1
    seat.state = SEAT_WAITS_CHANGE
    seat.site = S_SLEEP
    seat.word = word
    seat.mask = WORD
    seat.value = expected
    seat.deadline = deadline_ns
    seat.straight = 0
    yield_baton(b, seat)
    if INSTRUMENTED:
        access_range(word, 4, 0)  # its waking depends on who wrote that word
    return 0 if load_acquire(futex, "value") != expected else -1


@implements(schedule_relax)
def at_relax() -> None:
    """Somebody else has to make a step first."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    seat.state = SEAT_SPINS
    seat.site = S_SPIN
    seat.loop = 0
    seat.straight = 0
    seat.others = b.steps - seat.steps
    yield_baton(b, seat)


@core
def stands_digest(b: Baton) -> int:
    """Where everybody stands, and what is in memory.

    What a process keeps in local variables isn't seen. One that goes straight on may come to the same point twice and
    have done something in between, so its steps count; one that loops is at the head of its loop again.
    """
    digest = memory_digest(b)
    for i in range(b.nr_seats):
        seat = b.seats[i]
        digest = mix(digest, seat.state << 8 | seat.context)
        digest = mix(digest, seat.site)
        digest = mix(digest, seat.straight)
    return digest


@core
def all_have_run(b: Baton, seat: Seat, since: int, advances: int) -> bool:
    """Whether everybody else who could run has done so since a step, and time has nothing to bring that it hasn't
    brought since."""
    for i in range(b.nr_seats):
        other = b.seats[i]
        if other.state == SEAT_ABSENT:
            continue
        if other.state == SEAT_WAITS_CHANGE and 0 <= other.deadline < NEVER and b.advances == advances:
            return False
        if other.context == CONTEXT_TASK and pending_contexts(b, other) != 0:
            return False
        if i != seat.index and other.last_step <= since and can_run(b, other):
            return False
    return True


@implements(schedule_loop)
def at_loop(me: Party, where: int, state: int) -> None:
    """The head of a loop: if everything is as it was here before, others must go first; if they have, it is a
    livelock."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    b.watching = 0
    seat.state = SEAT_READY
    seat.site = where
    seat.straight = 0
    digest = mix(stands_digest(b), state)
    since = -1
    advances = 0
    for i in range(min(seat.nr_loops, LOOP_MEMORY)):
        if seat.loops[i].digest == digest:
            since = seat.loops[i].step
            advances = seat.loops[i].advances
    if since >= 0:
        if all_have_run(b, seat, since, advances):
            b.verdict = VERDICT_LIVELOCK
            b.culprit = seat.index + 16 * seat.context
        seat.state = SEAT_SPINS
        seat.loop = 1
        seat.others = b.steps - seat.steps
    else:
        kept = seat.loops[seat.nr_loops % LOOP_MEMORY]
        kept.digest = digest
        kept.step = b.steps
        kept.advances = b.advances
        seat.nr_loops += 1
    yield_baton(b, seat)
