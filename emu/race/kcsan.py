"""Data races by happens-before: plain accesses that nothing orders.

KCSAN finds a data race by stopping a task at an access and watching; here every access is known, and so is what orders
them: a lock taken after it was given back, an atomic, a release that was acquired. Two accesses of two CPUs to the same
bytes race when one writes, one is plain, and neither happens before the other. READ_ONCE() and WRITE_ONCE() are marks
that order nothing. An interrupt and the task below it are one CPU.
"""

from emu.race.arena import Kcsan, Watch
from emu.race.watch import conflict
from shm.access import ACCESS_ACQUIRE, ACCESS_ATOMIC, ACCESS_ONCE, ACCESS_RELEASE
from shm.baton import Baton
from shm.core import core

__all__ = ["find_data_races"]

SEATS = 16
MARKS = ACCESS_ONCE | ACCESS_ACQUIRE | ACCESS_RELEASE | ACCESS_ATOMIC


@core
def sync_slot(kcsan: Kcsan, at: int) -> int:
    """The clock of a word that orders; its number, or -1 when the table is full."""
    slot = (at >> 2 ^ at >> 11) % kcsan.nr_sync
    for _ in range(kcsan.nr_sync):
        if kcsan.sync_at[slot] == at + 1 or kcsan.sync_at[slot] == 0:
            kcsan.sync_at[slot] = at + 1
            return slot
        slot = (slot + 1) % kcsan.nr_sync
    return -1


@core
def acquire(kcsan: Kcsan, seat: int, slot: int) -> None:
    """What was released there is known to the CPU now."""
    for k in range(SEATS):
        kcsan.clocks[seat * SEATS + k] = max(kcsan.clocks[seat * SEATS + k], kcsan.sync[slot * SEATS + k])


@core
def release(kcsan: Kcsan, seat: int, slot: int) -> None:
    """What the CPU has done is known to who acquires it there."""
    for k in range(SEATS):
        kcsan.sync[slot * SEATS + k] = max(kcsan.sync[slot * SEATS + k], kcsan.clocks[seat * SEATS + k])
    kcsan.clocks[seat * SEATS + seat] += 1


@core
def report(watch: Watch, kcsan: Kcsan, one: int, two: int) -> None:
    """Keep a race once for each pair of functions and each place."""
    a = watch.accesses[one]
    e = watch.accesses[two]
    for i in range(kcsan.nr):
        known = kcsan.races[i]
        if known.at == a.at and known.where == a.where and known.other_where == e.where:
            known.count += 1
            return
    if kcsan.nr == kcsan.capacity:
        kcsan.cut = 1
        return
    found = kcsan.races[kcsan.nr]
    kcsan.nr += 1
    found.at = a.at
    found.nr_bytes = a.nr_bytes
    found.where = a.where
    found.flags = a.flags
    found.actor = a.actor
    found.other_where = e.where
    found.other_flags = e.flags
    found.other_actor = e.actor
    found.count = 1


@core
def look_back(watch: Watch, kcsan: Kcsan, index: int) -> None:
    """Earlier accesses that race with one."""
    a = watch.accesses[index]
    seat = a.actor & 15
    e = a.before
    while e != 0:
        earlier = watch.accesses[e - 1]
        other = earlier.actor & 15
        if other != seat and (a.flags & MARKS == 0 or earlier.flags & MARKS == 0) and conflict(watch, index, e - 1):
            if kcsan.epochs[e - 1] > kcsan.clocks[seat * SEATS + other]:
                report(watch, kcsan, index, e - 1)
        e = earlier.before


@core(cold=True)
def find_data_races(b: Baton, watch: Watch, kcsan: Kcsan) -> None:
    """All of a schedule's, into ``kcsan.races``."""
    for k in range(SEATS * SEATS):
        kcsan.clocks[k] = 0
    for seat in range(SEATS):
        kcsan.clocks[seat * SEATS + seat] = 1
    for slot in range(kcsan.nr_sync):
        kcsan.sync_at[slot] = 0
        for k in range(SEATS):
            kcsan.sync[slot * SEATS + k] = 0
    if watch.overflow != 0:
        kcsan.cut = 1
    for i in range(watch.nr):
        a = watch.accesses[i]
        seat = a.actor & 15
        orders = a.flags & (ACCESS_ACQUIRE | ACCESS_RELEASE | ACCESS_ATOMIC) != 0
        slot = sync_slot(kcsan, a.at) if orders else -1
        if slot >= 0 and a.flags & (ACCESS_ACQUIRE | ACCESS_ATOMIC) != 0:
            acquire(kcsan, seat, slot)
        if a.nr_bytes <= 8:
            look_back(watch, kcsan, i)
        kcsan.epochs[i] = kcsan.clocks[seat * SEATS + seat]
        if slot >= 0 and a.flags & (ACCESS_RELEASE | ACCESS_ATOMIC) != 0:
            release(kcsan, seat, slot)
