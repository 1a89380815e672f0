"""Wait queues: a process sleeps until somebody wakes it.

The kernel's order is kept, since races live in it: prepare_to_wait() puts the sleeper on the queue *before* it looks at
its condition once more; a wake-up takes it off the queue at once (autoremove), so that ``waitqueue_active`` is false
from the wake-up on and not only when the sleeper runs again.
"""

from shm.atomic import clock_ns, cmpxchg, fetch_add, futex_wait, futex_wake, load_acquire, smp_mb
from shm.core import core
from shm.here import here
from shm.struct import At, Struct, i64, struct, u32

__all__ = [
    "NEVER",
    "WaitQueue",
    "finish_wait",
    "look_again",
    "prepare_to_wait",
    "schedule",
    "waitqueue_active",
    "wake_up",
]

ANY = 0xFFFFFFFF
WAKE_ALL = 0x7FFFFFFF
NEVER = 1 << 62  # a deadline


@struct
class WaitQueue(Struct):
    """``wait_queue_head_t``: all sleepers are woken together.

    One word, so that going on the queue and off it can't be torn apart by a wake-up in between.
    """

    state: int = i64()  # _Halves


@struct
class _Halves(Struct):
    queued: int = u32()  # sleepers on the queue
    sequence: int = u32()  # grows with every wake-up; sleepers wait for it to change


halves_at = At(_Halves)


@core(inline=True)
def look_again(ns: int) -> int:
    """The deadline of a sleep that ends only so that the process may look around: in ``ns``; in scheduled mode, where
    nothing needs looking after, never."""
    return clock_ns() + ns if here() == 0 else NEVER


@core
def prepare_to_wait(wq: WaitQueue) -> int:
    """``prepare_to_wait()``: queued from now on. Returns the cookie for :func:`schedule`."""
    return (fetch_add(wq, "state", 1) >> 32) & 0xFFFFFFFF


@core
def schedule(wq: WaitQueue, cookie: int, deadline_ns: int) -> bool:
    """``schedule()``: sleep until woken (true) or CLOCK_MONOTONIC passes the deadline (false; negative: never)."""
    halves = halves_at(wq, 0)
    while load_acquire(halves, "sequence") == cookie:
        if deadline_ns >= 0 and clock_ns() >= deadline_ns:
            return False
        futex_wait(halves, "sequence", cookie, ANY, deadline_ns)
    return True


@core
def finish_wait(wq: WaitQueue, cookie: int) -> None:
    """``finish_wait()``: off the queue, if no wake-up has done it."""
    while True:
        state = load_acquire(wq, "state")
        if (state >> 32) & 0xFFFFFFFF != cookie or cmpxchg(wq, "state", state, state - 1) == state:
            return


@core
def waitqueue_active(wq: WaitQueue) -> bool:
    """``waitqueue_active()``: somebody is queued (no barrier, as in the kernel)."""
    return load_acquire(wq, "state") & 0xFFFFFFFF != 0


@core
def wake_up(wq: WaitQueue) -> bool:
    """``wake_up()``: everybody off the queue and running. False if nobody was queued."""
    smp_mb()  # the sleeper's condition is set before the queue is looked at
    while True:
        state = load_acquire(wq, "state")
        if state & 0xFFFFFFFF == 0:
            return False
        if cmpxchg(wq, "state", state, ((state >> 32) + 1) << 32) == state:
            break
    futex_wake(halves_at(wq, 0), "sequence", WAKE_ALL, ANY)
    return True
