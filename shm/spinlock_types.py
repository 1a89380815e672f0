"""The lock as a record, and its word (``include/linux/spinlock_types.h`` (5.10)); :mod:`shm.spinlock` has the rules."""

from shm.atomic import address, fetch_add, futex_wake, load_acquire
from shm.core import core
from shm.lockstat import LockStat
from shm.point import Party, Wait
from shm.struct import Struct, embed, i32, i64, struct, u32

__all__ = [
    "HOLDER", "KICK", "PASSING", "PENDING", "Spinlock", "holder_of", "kick", "position", "wait_position",
]  # fmt: skip

HOLDER = 0xFFFF  # of the lock word: index of the holding party + 1; 0: free
PENDING = 1 << 16  # the head of the queue is about to take it: no stealing
KICK = 1 << 17  # the head of the queue sleeps: wake it when giving the lock back

PASSING = 1  # in Wait.lock: its ticket isn't known there
WAKE_ALL = 0x7FFFFFFF


@struct
class Spinlock(Struct):
    """``spinlock_t`` with what /proc/lock_stat wants to know."""

    _align_ = 64

    word: int = u32()  # first: a scheduled process that waits for the lock looks at the lock's address
    tail: int = u32()  # invariant: tail - head processes queue (mod 2^32)
    head: int = u32()
    parked: int = u32()  # how many of them sleep, the head not counted
    wakeups: int = u32()  # grows with every kick; who parks waits for it to change
    site: int = u32()  # where the holder took it; 0: Party.lock_site has it
    lock_class: int = i32()
    dead_holder: int = i32()  # index + 1 of a party that died holding it
    dead_site: int = u32()
    recursion: int = i32()  # index + 1 of a party that waits for itself
    acquisitions: int = i64()
    contentions: int = i64()
    stolen: int = i64()
    stat: LockStat = embed(LockStat)


@core(inline=True)
def position(me: Party, lock: Spinlock) -> int:
    """A lock as an offset from the party table."""
    return address(lock) - (address(me) - me.index * me.stride)


def wait_position(wait: Wait) -> int:
    """Where the lock lies that is waited for, from the party table; 0: none."""
    return wait.lock & ~PASSING


@core(inline=True)
def holder_of(lock: Spinlock) -> int:
    """Index + 1 of the party that holds the lock; 0: nobody."""
    return load_acquire(lock, "word") & HOLDER


@core(cold=True)
def kick(lock: Spinlock, ticket: int) -> None:
    """Wake who sleeps with this ticket; others with the same number modulo 32 look and sleep again."""
    fetch_add(lock, "wakeups", 1)
    futex_wake(lock, "wakeups", WAKE_ALL, 1 << (ticket & 31))
