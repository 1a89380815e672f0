"""The dead in a lock's queue: their tickets are skipped, and a dead holder is named, by whoever waits behind them."""

from shm.atomic import cmpxchg, fetch_add, load_acquire, store_release
from shm.core import core
from shm.point import NR_CONTEXTS, Party
from shm.spinlock_types import PASSING, Spinlock, holder_of, kick, position
from shm.struct import At

__all__ = ["EDEADLK", "EOWNERDEAD", "look_for_dead"]

EDEADLK, EOWNERDEAD = 35, 130

party_at = At(Party)


@core(cold=True)
def look_for_dead(me: Party, lock: Spinlock) -> int:
    """A waiter found nothing moving: is the holder dead, or the head of the queue?

    A dead head is skipped. ``-EOWNERDEAD`` when the dead one held the lock: what it protects may be half done.
    """
    if load_acquire(lock, "dead_holder") != 0:
        return -EOWNERDEAD
    serving = load_acquire(lock, "head")
    holder = holder_of(lock)
    if holder == me.index + 1:  # an interrupt waits for the task below it
        lock.recursion = holder
        return -EDEADLK
    if holder != 0:
        party = party_at(me, (holder - 1 - me.index) * me.stride)
        # look again: it may have given the lock back and died elsewhere
        if load_acquire(party, "dead") != 0 and holder_of(lock) == holder:
            lock.dead_site = lock.site if lock.site != 0 else party.lock_site
            store_release(lock, "dead_holder", holder)
            return -EOWNERDEAD
    # A ticket's owner is on record until the head of the queue has moved on, so that nobody on record means that no
    # living process has this ticket, or that it isn't the head any more.
    if not _is_claimed(me, lock, serving) and cmpxchg(lock, "head", serving, (serving + 1) & 0xFFFFFFFF) == serving:
        _forget_parked(me, lock, serving)
        kick(lock, serving + 1)
    return 0


@core(cold=True)
def _is_claimed(me: Party, lock: Spinlock, ticket: int) -> bool:
    """Whether a living process waits with this ticket, or may have it in passing."""
    this = position(me, lock)
    i = 0
    while True:
        party = party_at(me, (i - me.index) * me.stride)
        if party.stride == 0:  # the table ends with an empty party
            return False
        if load_acquire(party, "dead") == 0:
            for context in range(NR_CONTEXTS):
                wait = party.waits[context]
                waits_for = load_acquire(wait, "lock")
                if waits_for == this | PASSING or (waits_for == this and wait.ticket == ticket):
                    return True
        i += 1


@core(cold=True)
def _forget_parked(me: Party, lock: Spinlock, ticket: int) -> None:
    """The dead owner of a ticket may have been counted as parked."""
    this = position(me, lock)
    i = 0
    while True:
        party = party_at(me, (i - me.index) * me.stride)
        if party.stride == 0:
            return
        if load_acquire(party, "dead") != 0:
            for context in range(NR_CONTEXTS):
                wait = party.waits[context]
                if wait.lock == this and wait.ticket == ticket and wait.parked != 0:
                    wait.parked = 0
                    fetch_add(lock, "parked", -1)
        i += 1
