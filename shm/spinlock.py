"""A fair spinlock for processes that parks on a futex.

5.10's qspinlock is fair, and on a virtual machine its paravirt form sends a waiter to sleep and lets the unlocker kick
it. Here many more CPU processes than cores are normal, so parking is not optional: with pure spinning 64 processes on
two cores spend their time slices watching a holder that isn't running.

The lock is a ticket lock: ``next`` is the ticket to draw, ``owner`` the one being served. A queue node per CPU (MCS)
would spare the waiters one shared cache line, but leaves the queue broken when a process is killed in it; tickets
are numbers, and a dead ticket can be skipped. A parked waiter sleeps on ``owner`` with the futex bit of its ticket, so
that the unlocker wakes just the next one.

A process may be killed at any instruction of this file. Therefore whoever has a ticket is on record at every moment:
in its party (``wait_lock``) while it draws the ticket, waits, takes the lock, and hands it on; in the lock (``holder``)
from before its first step inside to after the last. Those who wait look at these records (:func:`_look_for_dead`). A
dead waiter is skipped. A dead holder is named in the lock (``dead_holder``) and the waiters are told: the call returns
``-EOWNERDEAD``, or the process ends with the status it asked for in ``exit_on_owner_death``.
"""

from shm.atomic import (
    address, clock_ns, cmpxchg, cpu_relax, fetch_add, futex_wait, futex_wake, load_acquire, process_exit, store_release,
)  # fmt: skip
from shm.core import core
from shm.point import Party, point
from shm.struct import Array, At, Struct, array, i32, i64, struct, u32

__all__ = ["EOWNERDEAD", "LOCK_SITES", "LockSite", "Spinlock", "spin_is_locked", "spin_lock", "spin_lock_init",
           "spin_trylock", "spin_unlock"]  # fmt: skip

EOWNERDEAD = 130
LOCK_SITES = 8
LOOK_NS = 50_000_000  # how long a parked waiter sleeps before it looks for dead processes
WAKE_ALL = 0x7FFFFFFF
PASSING = 1  # in Party.wait_lock: its ticket isn't known there


@struct
class LockSite(Struct):
    """Contention at one call site."""

    site: int = u32()
    _hole: int = u32()
    contentions: int = i64()


@struct
class Spinlock(Struct):
    """``spinlock_t`` with what /proc/lock_stat wants to know. Times in ns."""

    _align_ = 64

    next: int = u32()  # invariant: next - owner = 1 holder + waiters (mod 2^32)
    owner: int = u32()
    parked: int = u32()
    holder: int = i32()  # index of the holding party + 1; 0: free, or being handed over
    site: int = u32()  # where the holder took it
    lock_class: int = i32()
    dead_holder: int = i32()  # index + 1 of a party that died holding it
    dead_site: int = u32()
    acquired_at: int = i64()
    # written by the holder only
    acquisitions: int = i64()
    contentions: int = i64()
    wait_min: int = i64()
    wait_max: int = i64()
    wait_total: int = i64()
    hold_min: int = i64()
    hold_max: int = i64()
    hold_total: int = i64()
    sites: Array[LockSite] = array(LockSite, LOCK_SITES)


party_at = At(Party)


@core
def spin_lock_init(lock: Spinlock, lock_class: int) -> None:
    """``spin_lock_init()``: free, with empty statistics."""
    lock.next = 0
    lock.owner = 0
    lock.parked = 0
    lock.holder = 0
    lock.dead_holder = 0
    lock.lock_class = lock_class
    lock.acquisitions = 0
    lock.contentions = 0
    lock.wait_min = 0
    lock.wait_max = 0
    lock.wait_total = 0
    lock.hold_min = 0
    lock.hold_max = 0
    lock.hold_total = 0
    for i in range(LOCK_SITES):
        lock.sites[i].site = 0
        lock.sites[i].contentions = 0


@core(inline=True)
def _position(me: Party, lock: Spinlock) -> int:
    """The lock as an offset from the party table."""
    return address(lock) - (address(me) - me.index * me.stride)


@core(inline=True)
def _acquired(me: Party, lock: Spinlock, where: int) -> None:
    lock.site = where
    store_release(lock, "holder", me.index + 1)
    store_release(me, "wait_lock", 0)
    lock.acquisitions += 1
    if me.lock_stat != 0:
        lock.acquired_at = clock_ns()


@core(inline=True)
def spin_lock(me: Party, lock: Spinlock, where: int) -> int:
    """``spin_lock()``: 0, or ``-EOWNERDEAD`` when its holder is dead."""
    point(me, where)
    store_release(me, "wait_lock", _position(me, lock) | PASSING)
    ticket = fetch_add(lock, "next", 1)
    if load_acquire(lock, "owner") != ticket:
        told = _wait_turn(me, lock, ticket, where)
        if told != 0:
            return told
    _acquired(me, lock, where)
    return 0


@core(inline=True)
def spin_trylock(me: Party, lock: Spinlock, where: int) -> bool:
    """``spin_trylock()``"""
    point(me, where)
    store_release(me, "wait_lock", _position(me, lock) | PASSING)
    ticket = load_acquire(lock, "owner")
    if cmpxchg(lock, "next", ticket, (ticket + 1) & 0xFFFFFFFF) != ticket:
        store_release(me, "wait_lock", 0)
        return False
    _acquired(me, lock, where)
    return True


@core(inline=True)
def spin_unlock(me: Party, lock: Spinlock) -> None:
    """``spin_unlock()``: the next ticket is served, and kicked if it sleeps."""
    if me.lock_stat != 0:
        _held(lock)
    store_release(me, "wait_lock", _position(me, lock) | PASSING)
    store_release(lock, "holder", 0)
    served = fetch_add(lock, "owner", 1) + 1
    store_release(me, "wait_lock", 0)
    if load_acquire(lock, "parked") != 0:
        _kick(lock, served)


@core(cold=True)
def _kick(lock: Spinlock, ticket: int) -> None:
    futex_wake(lock, "owner", WAKE_ALL, 1 << (ticket & 31))


@core(cold=True)
def _held(lock: Spinlock) -> None:
    spent = clock_ns() - lock.acquired_at
    if lock.hold_min == 0 or spent < lock.hold_min:
        lock.hold_min = spent
    if spent > lock.hold_max:
        lock.hold_max = spent
    lock.hold_total += spent


@core(inline=True)
def spin_is_locked(lock: Spinlock) -> bool:
    """``spin_is_locked()``"""
    return load_acquire(lock, "owner") != load_acquire(lock, "next")


@core(cold=True)
def _wait_turn(me: Party, lock: Spinlock, ticket: int, where: int) -> int:
    """Contended: spin a little, then park until the ticket is served."""
    began = clock_ns() if me.lock_stat != 0 else 0
    me.wait_site = where
    me.wait_ticket = ticket
    store_release(me, "wait_lock", _position(me, lock))
    told = 0
    # those further back than the next in line would only burn the holder's core
    ahead = (ticket - load_acquire(lock, "owner")) & 0xFFFFFFFF
    limit = me.spin_limit if ahead == 1 else me.spin_limit >> 3
    spins = 0
    while load_acquire(lock, "owner") != ticket and spins < limit:
        cpu_relax()
        spins += 1
    if load_acquire(lock, "owner") != ticket:
        fetch_add(lock, "parked", 1)
        while True:
            serving = load_acquire(lock, "owner")
            if serving == ticket:
                break
            if futex_wait(lock, "owner", serving, 1 << (ticket & 31), clock_ns() + LOOK_NS) < 0:
                told = _look_for_dead(me, lock)
                if told != 0:
                    break
        fetch_add(lock, "parked", -1)
    if told != 0:
        store_release(me, "wait_lock", 0)
        if me.exit_on_owner_death != 0:
            process_exit(me.exit_on_owner_death)
        return told
    lock.contentions += 1
    _count_site(lock, where)
    if me.lock_stat != 0:
        waited = clock_ns() - began
        if lock.wait_min == 0 or waited < lock.wait_min:
            lock.wait_min = waited
        if waited > lock.wait_max:
            lock.wait_max = waited
        lock.wait_total += waited
    return 0


@core(cold=True)
def _count_site(lock: Spinlock, where: int) -> None:
    for i in range(LOCK_SITES):
        entry = lock.sites[i]
        if entry.site == where or entry.site == 0:
            entry.site = where
            entry.contentions += 1
            return


@core(cold=True)
def _look_for_dead(me: Party, lock: Spinlock) -> int:
    """A waiter found nothing moving: is the holder dead, or the one whose turn it is?

    A dead waiter is skipped. ``-EOWNERDEAD`` when the dead one held the lock: what it protects may be half done.
    """
    if load_acquire(lock, "dead_holder") != 0:
        return -EOWNERDEAD
    serving = load_acquire(lock, "owner")
    holder = load_acquire(lock, "holder")
    if holder != 0:
        party = party_at(me, (holder - 1 - me.index) * me.stride)
        # read holder again: it may have let go of the lock and died elsewhere
        if load_acquire(party, "dead") != 0 and load_acquire(lock, "holder") == holder:
            lock.dead_site = lock.site
            store_release(lock, "dead_holder", holder)
            return -EOWNERDEAD
        return 0
    # A ticket's owner moves from waiting through holding to handing on, perhaps behind our back, but only forwards:
    # not seen waiting, then not holding, then not handing on means that no living process has this ticket.
    if _is_claimed(me, lock, serving) or load_acquire(lock, "holder") != 0 or _is_claimed(me, lock, serving):
        return 0
    if cmpxchg(lock, "owner", serving, (serving + 1) & 0xFFFFFFFF) == serving:
        _kick(lock, serving + 1)
    return 0


@core(cold=True)
def _is_claimed(me: Party, lock: Spinlock, ticket: int) -> bool:
    """Whether a living process waits with this ticket, or may have it in passing."""
    this = _position(me, lock)
    i = 0
    while True:
        party = party_at(me, (i - me.index) * me.stride)
        if party.stride == 0:  # the table ends with an empty party
            return False
        if load_acquire(party, "dead") == 0:
            waits_for = load_acquire(party, "wait_lock")
            if waits_for == this | PASSING or (waits_for == this and party.wait_ticket == ticket):
                return True
        i += 1
