"""Scheduling points and call sites: names for places in the model.

``site("rmqueue_bulk:lock")`` gives a number that stays the same when other sites come and go, so schedules and
statistics recorded yesterday still mean the same place. A point is one predictable branch while free-running; in
scheduled mode it asks the strategy who goes next.
"""

import zlib

from shm.core import core, seam
from shm.struct import Array, Struct, array, fixed, i32, i64, struct, u32

__all__ = [
    "MAX_HELD", "MEASURED", "NO_IRQSAVE", "NR_CONTEXTS", "SCHEDULED", "Held", "Party", "Wait", "point", "point_loop",
    "schedule_lock", "schedule_loop", "schedule_point", "schedule_relax", "schedule_wait", "site", "site_name",
    "site_names",
]  # fmt: skip

_names: dict[int, str] = {0: "-"}
# bits of Party.scheduled: points are decisions; irqs-off times are measured; interrupts can't be switched off
SCHEDULED, MEASURED, NO_IRQSAVE = 1, 2, 4


def site(name: str) -> int:
    """Register a place, ``function:what``. Two names with one number are refused at import."""
    number = zlib.crc32(name.encode()) & 0x7FFFFFFF
    if _names.setdefault(number, name) != name:
        raise ValueError(f"site {name!r} has the number of {_names[number]!r}: rename it")
    return number


def site_names() -> list[tuple[int, str]]:
    """All registered places."""
    return [item for item in _names.items() if item[0]]


def site_name(number: int) -> str:
    """The name behind a number."""
    return _names.get(number, f"site {number:#x}")


@struct
class Wait(Struct):
    """What a process waits for: a place in a lock's queue."""

    lock: int = i64()  # offset of the lock from the party table, + 1 while the ticket isn't known; 0: nothing
    ticket: int = u32()
    site: int = u32()
    parked: int = i32()  # counted in Spinlock.parked
    _hole: int = i32()


@struct
class Held(Struct):
    """A lock that a process holds, for the checker of checked mode."""

    lock: int = i64()  # offset from the party table
    lock_class: int = i32()
    site: int = u32()


NR_CONTEXTS = 2  # a task, and the interrupt on top of it
MAX_HELD = 8


@struct
class Party(Struct):
    """One process that takes part: who it is, what it waits for, whether it lives. Parties lie in one table.

    ``index`` is its place in the table, ``stride`` the distance of two parties in bytes. Times in ns. What every lock
    and interrupt switch looks at is in the first cache line.
    """

    _align_ = 64

    index: int = fixed(i32)
    stride: int = fixed(i32)
    pid: int = i32()
    dead: int = i32()  # set by the supervisor when the process has ended without saying so
    scheduled: int = i32()  # bits of SCHEDULED, MEASURED, NO_IRQSAVE: points do something
    spin_limit: int = i32()  # how often to look at a lock before parking; -1: never park
    exit_on_owner_death: int = i32()  # status to exit with when a lock's holder is dead; 0: the lock call returns
    lock_stat: int = i32()  # measure waiting and holding
    irqs_off: int = i32()
    context: int = i32()  # 0: a task runs; 1: an interrupt on top of it
    state: int = i32()
    nr_locks: int = i32()  # held, counted with lock_stat
    last_site: int = u32()
    lock_site: int = u32()  # of the lock that it last asked for or gave back
    waits: Array[Wait] = array(Wait, NR_CONTEXTS)
    heartbeat: int = i64()  # grows while the process makes progress
    # with lock_stat: what its time went into
    spin_ns: int = i64()
    park_ns: int = i64()
    hold_ns: int = i64()  # holding at least one lock
    hold_since: int = i64()
    nr_held: Array[int] = array(i32, NR_CONTEXTS)  # entries of held, in checked mode
    held: Array[Held] = array(Held, NR_CONTEXTS * MAX_HELD)  # those of interrupts behind those of tasks
    lockdep: int = fixed(i64)  # offset of the checker's graph from the party table; 0: none
    lock_ring: int = fixed(i64)  # offset of its ring of LockHolds from here, with lock_stat; 0: none


@seam
def schedule_point(me: Party, where: int) -> None:
    """Scheduled mode's decision; free-running processes never get here."""
    me.last_site = where


@core(inline=True)
def point(me: Party, where: int) -> None:
    """A place where another process may go first."""
    if me.scheduled != 0:
        schedule_point(me, where)


@seam
def schedule_loop(me: Party, where: int, state: int) -> None:
    """Scheduled mode's decision at the head of a loop that retries; free-running processes never get here."""
    me.last_site = where


@core(inline=True)
def point_loop(me: Party, where: int, state: int) -> None:
    """A :func:`point` at the head of a loop that may go on for ever. ``state`` sums up what the loop keeps in local
    variables: the same state over the same memory is the same again."""
    if me.scheduled != 0:
        schedule_loop(me, where, state)


@seam
def schedule_lock(me: Party, where: int, word: int, mask: int) -> None:
    """Scheduled mode's decision before a lock is taken that is free when no bit of ``mask`` is set in the 32-bit word
    at address ``word``."""
    me.last_site = where


@seam
def schedule_wait(word: int, expected: int, deadline_ns: int) -> int:
    """Scheduled mode's ``futex_wait``: until the 32-bit word at an address isn't ``expected`` any more (0), or virtual
    time has passed the deadline (-1)."""
    return 0


@seam
def schedule_relax() -> None:
    """Scheduled mode's ``cpu_relax()``: nothing can change until another process makes a step."""
