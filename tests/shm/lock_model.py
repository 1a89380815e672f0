"""A lock in a segment, and what processes do with it."""

import os

from shm.atomic import clock_ns, cpu_relax, fetch_add, load_acquire, store_release
from shm.core import entry
from shm.lockstat import LockHold
from shm.point import Party, site
from shm.ring import Ring, ring_init
from shm.spinlock import LOOK_NS, spin_is_locked, spin_lock, spin_lock_init, spin_skip_dead, spin_trylock, spin_unlock
from shm.spinlock_types import Spinlock
from shm.struct import Array, Struct, address_of, array, embed, i64, struct
from tests.shm.helpers import Crew, until

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


ENTRIES = [e for e in globals().values() if type(e).__name__ == "Entry"]


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
