"""Scheduling points and call sites: names for places in the model.

``site("rmqueue_bulk:lock")`` gives a number that stays the same when other sites come and go, so schedules and
statistics recorded yesterday still mean the same place. A point is one predictable branch while free-running; in
scheduled mode it asks the strategy who goes next.
"""

import zlib

from shm.core import core, seam
from shm.struct import Struct, fixed, i32, i64, struct, u32

__all__ = ["Party", "point", "schedule_point", "site", "site_name"]

_names: dict[int, str] = {0: "-"}


def site(name: str) -> int:
    """Register a place, ``function:what``. Two names with one number are refused at import."""
    number = zlib.crc32(name.encode()) & 0x7FFFFFFF
    if _names.setdefault(number, name) != name:
        raise ValueError(f"site {name!r} has the number of {_names[number]!r}: rename it")
    return number


def site_name(number: int) -> str:
    """The name behind a number."""
    return _names.get(number, f"site {number:#x}")


@struct
class Party(Struct):
    """One process that takes part: who it is, what it waits for, whether it lives. Parties lie in one table.

    ``index`` is its place in the table, ``stride`` the distance of two parties in bytes.
    """

    index: int = fixed(i32)
    stride: int = fixed(i32)
    pid: int = i32()
    dead: int = i32()  # set by the supervisor when the process has ended without saying so
    scheduled: int = fixed(i32)  # scheduled mode: every point is a decision
    spin_limit: int = i32()  # how often to look at a lock before parking
    exit_on_owner_death: int = i32()  # status to exit with when a lock's holder is dead; 0: the lock call returns
    lock_stat: int = i32()  # measure waiting and holding
    wait_lock: int = i64()  # offset from the table of the lock waited for (+ 1: taken or handed on), 0 when none
    wait_ticket: int = u32()
    wait_site: int = u32()
    heartbeat: int = i64()  # grows while the process makes progress
    last_site: int = u32()
    state: int = i32()


@seam
def schedule_point(me: Party, where: int) -> None:
    """Scheduled mode's decision; free-running processes never get here."""
    me.last_site = where


@core(inline=True)
def point(me: Party, where: int) -> None:
    """A place where another process may go first."""
    if me.scheduled != 0:
        schedule_point(me, where)
