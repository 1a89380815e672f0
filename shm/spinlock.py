"""A spinlock for processes that parks on a futex.

5.10's ``spinlock_t`` is a qspinlock: waiters queue up in the order of arrival and each spins on a word of its own. On
a virtual machine the paravirt form runs instead (``kernel/locking/qspinlock_paravirt.h``), because a queue of vCPUs
that are not running makes everybody wait for the hypervisor's scheduler. Many more CPU processes than cores are normal
here, so this is the paravirt lock:

- a waiter spins a little, then parks, and is kicked when it is its turn;
- the lock may be *stolen* while the first of the queue is parked: who runs and finds it free takes it, so a woken
  process on its way to a core holds nobody up;
- as long as the first of the queue runs, it has the *pending* bit set and nobody steals.

One thing differs from 5.10. There a parked head of the queue may be passed for ever; here it keeps the pending bit once
it has waited for ``STARVING_NS``, which bounds every wait.

The queue is a pair of tickets: ``tail`` is the next to draw, ``head`` the one whose turn it is. Linked queue nodes
(MCS) would spare the waiters a shared cache line, but are broken when a process is killed in them; tickets are numbers,
and a dead one can be skipped.

A process may be killed at any instruction of these files, and nothing must be guessed afterwards. The holder is part of
the lock word, so that taking and giving back are one instruction each: at every instant it is known whether the dead
one had the lock. A ticket's owner is on record in its party (``waits``) from before it is drawn until after it has been
used. Whoever is parked looks at these records now and then (:mod:`shm.spinlock_dead`): the ticket of a dead waiter is
skipped; a dead holder is named in the lock (``dead_holder``) and the waiters are told: the call returns
``-EOWNERDEAD``, or the process ends with the status it asked for in ``exit_on_owner_death``.
"""

from shm.atomic import (
    address, clock_ns, cmpxchg, cpu_relax, fetch_add, fetch_or, futex_wait, load_acquire, process_exit,
    store_release,
)  # fmt: skip
from shm.core import CHECKED, core
from shm.lockdep import lock_acquire, lock_release
from shm.lockstat import stat_acquired, stat_contended, stat_init, stat_released
from shm.point import Party, Wait, point, schedule_lock
from shm.spinlock_dead import look_for_dead
from shm.spinlock_types import HOLDER, KICK, PASSING, PENDING, Spinlock, holder_of, kick, position

__all__ = ["spin_is_locked", "spin_lock", "spin_lock_init", "spin_skip_dead", "spin_trylock", "spin_unlock"]

LOOK_NS = 100_000_000  # how long a parked waiter sleeps before it looks for dead processes
LOOK_SPINS = 1 << 20  # and how long one that never parks spins
STARVING_NS = 5_000_000
SKIP_NS = 200_000
ANY = 0xFFFFFFFF


@core
def spin_lock_init(lock: Spinlock, lock_class: int) -> None:
    """``spin_lock_init()``: free, with empty statistics."""
    lock.word = 0
    lock.tail = 0
    lock.head = 0
    lock.parked = 0
    lock.site = 0
    lock.dead_holder = 0
    lock.recursion = 0
    lock.lock_class = lock_class
    lock.acquisitions = 0
    lock.contentions = 0
    lock.stolen = 0
    stat_init(lock.stat)


@core(inline=True)
def spin_is_locked(lock: Spinlock) -> bool:
    """``spin_is_locked()``"""
    return holder_of(lock) != 0


@core(inline=True)
def _acquired(me: Party, lock: Spinlock, where: int) -> None:
    lock.site = where
    lock.acquisitions += 1
    if me.lock_stat != 0:
        stat_acquired(me, lock.stat)


@core(inline=True)
def spin_lock(me: Party, lock: Spinlock, where: int) -> int:
    """``spin_lock()``: 0, or ``-EOWNERDEAD`` when its holder is dead, ``-EDEADLK`` when the holder is the caller."""
    if me.scheduled != 0:
        schedule_lock(me, where, address(lock), HOLDER)
    me.lock_site = where
    if CHECKED:
        lock_acquire(me, position(me, lock), lock.lock_class, where, 0)
    if cmpxchg(lock, "word", 0, me.index + 1) != 0:
        told = spin_lock_slowpath(me, lock, where)
        if told != 0:
            return told
    _acquired(me, lock, where)
    return 0


@core(inline=True)
def spin_trylock(me: Party, lock: Spinlock, where: int) -> bool:
    """``spin_trylock()``"""
    point(me, where)
    me.lock_site = where
    if cmpxchg(lock, "word", 0, me.index + 1) != 0:
        return False
    if CHECKED:
        lock_acquire(me, position(me, lock), lock.lock_class, where, 1)
    _acquired(me, lock, where)
    return True


@core(inline=True)
def spin_unlock(me: Party, lock: Spinlock) -> None:
    """``spin_unlock()``: free for whoever comes first; the head of the queue is kicked if it sleeps."""
    if CHECKED:
        lock_release(me, position(me, lock), lock.lock_class)
    if me.lock_stat != 0:
        stat_released(me, lock.stat, lock.site, lock.lock_class)
    me.lock_site = lock.site  # if we die now, this is what we have
    store_release(lock, "site", 0)
    mine = me.index + 1
    if cmpxchg(lock, "word", mine, 0) != mine:
        _unlock_slowpath(lock)


@core(cold=True)
def _unlock_slowpath(lock: Spinlock) -> None:
    """Somebody waits."""
    while True:
        word = load_acquire(lock, "word")
        if cmpxchg(lock, "word", word, word & PENDING) == word:
            break
    if word & KICK != 0:
        kick(lock, load_acquire(lock, "head"))


@core(cold=True)
def spin_lock_slowpath(me: Party, lock: Spinlock, where: int) -> int:
    """``queued_spin_lock_slowpath()`` and its paravirt half: the lock was not free. 0: it is ours now."""
    began = clock_ns() if me.lock_stat != 0 else 0
    parked_before = me.park_ns
    holder_site = lock.site
    if not _steal(me, lock):
        told = _queue(me, lock, where)
        if told != 0:
            if me.exit_on_owner_death != 0:
                process_exit(me.exit_on_owner_death)
            return told
    lock.contentions += 1
    waited = 0
    if me.lock_stat != 0:
        waited = clock_ns() - began
        me.spin_ns += waited - (me.park_ns - parked_before)
    stat_contended(me, lock.stat, where, holder_site, waited)
    return 0


@core(cold=True)
def _steal(me: Party, lock: Spinlock) -> bool:
    """``pv_hybrid_queued_unfair_trylock()``: take it while there is a queue whose head sleeps."""
    spins = 0
    while load_acquire(lock, "head") != load_acquire(lock, "tail") and (spins < me.spin_limit or me.spin_limit < 0):
        word = load_acquire(lock, "word")
        if word & PENDING != 0:
            return False
        if word & HOLDER == 0 and cmpxchg(lock, "word", word, word | (me.index + 1)) == word:
            lock.stolen += 1
            return True
        cpu_relax()
        spins += 1
        if me.spin_limit < 0 and spins == LOOK_SPINS:
            return False
    return False


@core(cold=True)
def _queue(me: Party, lock: Spinlock, where: int) -> int:
    """Wait in the queue, then for the lock."""
    wait = me.waits[me.context]
    wait.site = where
    store_release(wait, "lock", position(me, lock) | PASSING)
    ticket = fetch_add(lock, "tail", 1)
    wait.ticket = ticket
    store_release(wait, "lock", position(me, lock))
    told = _wait_turn(me, lock, wait, ticket)
    if told == 0:
        told = _wait_as_head(me, lock, ticket)
    if told == 0:
        fetch_add(lock, "head", 1)
        if load_acquire(lock, "parked") != 0:  # then the next one sleeps: it is kicked when the lock is given back
            fetch_or(lock, "word", KICK)
    store_release(wait, "lock", 0)
    return told


@core(cold=True)
def _park(me: Party, lock: Spinlock, seen: int, ticket: int) -> int:
    """Sleep until kicked. Now and then, look for the dead: what they tell, or 0."""
    began = clock_ns()
    told = 0
    if futex_wait(lock, "wakeups", seen, 1 << (ticket & 31), began + LOOK_NS) < 0:
        if clock_ns() - began >= LOOK_NS:
            told = look_for_dead(me, lock)
    if me.lock_stat != 0:
        me.park_ns += clock_ns() - began
    return told


@core(cold=True)
def _wait_turn(me: Party, lock: Spinlock, wait: Wait, ticket: int) -> int:
    """``pv_wait_node()``: until one is the head of the queue."""
    # those further back than the next in line would only burn the holder's core
    ahead = (ticket - load_acquire(lock, "head")) & 0xFFFFFFFF
    limit = me.spin_limit if ahead <= 1 else me.spin_limit >> 3
    spins = 0
    while load_acquire(lock, "head") != ticket and (spins < limit or limit < 0):
        cpu_relax()
        spins += 1
        if limit < 0 and spins == LOOK_SPINS:
            spins = 0
            told = look_for_dead(me, lock)
            if told != 0:
                return told
    if load_acquire(lock, "head") == ticket:
        return 0
    told = 0
    wait.parked = 1
    fetch_add(lock, "parked", 1)
    while told == 0:
        seen = load_acquire(lock, "wakeups")
        if load_acquire(lock, "head") == ticket:
            break
        told = _park(me, lock, seen, ticket)
    fetch_add(lock, "parked", -1)
    wait.parked = 0
    return told


@core(cold=True)
def _wait_as_head(me: Party, lock: Spinlock, ticket: int) -> int:
    """``pv_wait_head_or_lock()``: the lock is ours next, unless it is stolen while we sleep."""
    mine = me.index + 1
    since = 0
    while True:
        fetch_or(lock, "word", PENDING)
        spins = 0
        while spins < me.spin_limit or me.spin_limit < 0:
            word = load_acquire(lock, "word")
            if word & HOLDER == 0 and cmpxchg(lock, "word", word, mine) == word:
                return 0
            cpu_relax()
            spins += 1
            if me.spin_limit < 0 and spins == LOOK_SPINS:
                spins = 0
                told = look_for_dead(me, lock)
                if told != 0:
                    return told
        now = clock_ns()
        if since == 0:
            since = now
        seen = load_acquire(lock, "wakeups")
        word = load_acquire(lock, "word")
        if word & HOLDER == 0:
            if cmpxchg(lock, "word", word, mine) == word:
                return 0
            continue
        keep = PENDING if now - since > STARVING_NS else 0
        if cmpxchg(lock, "word", word, (word & HOLDER) | keep | KICK) == word:
            told = _park(me, lock, seen, ticket)
            if told != 0:
                return told


@core(cold=True)
def spin_skip_dead(me: Party, lock: Spinlock, where: int) -> int:
    """Have the tickets of dead processes that are in the queue now skipped, so that their parties may be used again.

    0: none of them is left; ``-EOWNERDEAD`` and ``-EDEADLK`` as from :func:`spin_lock`. The last step is to take the
    lock and give it back, which removes what the head of the queue had noted in its word.
    """
    end = load_acquire(lock, "tail")
    while (load_acquire(lock, "head") - end) & 0x80000000 != 0:
        serving = load_acquire(lock, "head")
        told = look_for_dead(me, lock)
        if told != 0:
            return told
        if load_acquire(lock, "head") == serving:  # a living process's turn
            futex_wait(lock, "wakeups", load_acquire(lock, "wakeups"), ANY, clock_ns() + SKIP_NS)
    told = spin_lock(me, lock, where)
    if told == 0:
        spin_unlock(me, lock)
    return told
