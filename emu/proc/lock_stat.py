"""/proc/lock_stat: who waited for which lock, how long, and where.

It is made from the locks of a machine, not from a saved state. The locks of a class are added up, as the kernel adds
up its CPUs.

A call site is a name here, ``rmqueue_bulk:lock``, where the kernel has a return address. What stands for the address
is the number of the site (:func:`shm.point.site`), padded as the kernel pads a hashed pointer. The symbol is the
site's function; the offset is the lowest 12 bits of the number in a function of the nominal size 0x1000. Both stay the
same from run to run and version to version as long as the site keeps its name.

Differs from 5.10: each lock keeps its first eight sites and the four with most contentions are shown; the kernel keeps
and shows the first four. A class that nobody measured (no ``lock_stat``) is listed with its counts and times of 0;
the kernel counts nothing then.
"""

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from emu.zone.lock_class import LOCK_CLASS_NAMES
from shm.lockstat import HISTOGRAM_SIZE, Histogram, LockPoint, LockTime
from shm.point import site_name
from shm.spinlock_types import Spinlock
from shm.struct import address_of, record_at

__all__ = (
    "HOLDS", "LOCKSTAT_POINTS", "WAITS", "LockClass", "Point", "Times", "class_name", "clear_lock_stats",
    "histogram_of", "lock_classes", "render", "symbol",
)  # fmt: skip

LOCKSTAT_POINTS = 4
WAITS, HOLDS = 0, 1
WIDTH = 40 + 1 + 12 * (14 + 1)
HEADINGS = (
    "con-bounces", "contentions", "waittime-min", "waittime-max", "waittime-total", "waittime-avg",
    "acq-bounces", "acquisitions", "holdtime-min", "holdtime-max", "holdtime-total", "holdtime-avg",
)  # fmt: skip
RULE, DOTS = "-" * WIDTH + "\n", "." * WIDTH + "\n"


@dataclass(frozen=True)
class Times:
    """``struct lock_time`` in ns. ``nr`` counts also what nobody measured."""

    nr: int = 0
    shortest: int = 0
    longest: int = 0
    total: int = 0
    measured: int = 0

    @property
    def average(self) -> int:
        return self.total // self.measured if self.measured else 0


@dataclass(frozen=True)
class Point:
    """A call site and how often somebody waited there, or for who had taken the lock there."""

    site: int
    contentions: int


@dataclass(frozen=True)
class LockClass:
    """``struct lock_class_stats`` (include/linux/lockdep_types.h, 5.10): all locks of a class."""

    name: str
    locks: int = 0
    con_bounces: int = 0
    acq_bounces: int = 0
    stolen: int = 0
    waits: Times = Times()
    holds: Times = Times()
    contention_points: tuple[Point, ...] = ()  # where those stood who waited, most contentions first
    contending_points: tuple[Point, ...] = ()  # where the lock had been taken meanwhile


def class_name(lock: Spinlock) -> str:
    """What lockdep calls the lock."""
    return LOCK_CLASS_NAMES.get(lock.lock_class, f"lock class {lock.lock_class}")


def histogram_of(lock: Spinlock, which: int) -> Histogram | None:
    """A lock's histogram of WAITS or HOLDS; None where it has none."""
    if not lock.stat.histograms:
        return None
    return record_at(Histogram, address_of(lock.stat) + lock.stat.histograms + which * HISTOGRAM_SIZE)


def lock_classes(locks: Iterable[tuple[str, Spinlock]]) -> list[LockClass]:
    """The classes whose locks were ever taken, most contentions first, as lock_stat_cmp() (5.10) sorts them."""
    found: dict[str, list[Spinlock]] = {}
    for _, lock in locks:
        if lock.acquisitions:
            found.setdefault(class_name(lock), []).append(lock)
    classes = [_class(name, group) for name, group in found.items()]
    return sorted(classes, key=lambda c: -c.waits.nr)


def _class(name: str, locks: list[Spinlock]) -> LockClass:
    waits = _add_times((lock.stat.waits for lock in locks), sum(lock.contentions for lock in locks))
    holds = _add_times((lock.stat.holds for lock in locks), sum(lock.acquisitions for lock in locks))
    return LockClass(
        name, len(locks), sum(lock.stat.con_bounces for lock in locks), sum(lock.stat.acq_bounces for lock in locks),
        sum(lock.stolen for lock in locks), waits, holds,
        _add_points(point for lock in locks for point in lock.stat.contention_points),
        _add_points(point for lock in locks for point in lock.stat.contending_points),
    )  # fmt: skip


def _add_times(parts: Iterable[LockTime], counted: int) -> Times:
    """As lock_time_add() (5.10). Who is measured at all is measured each time, but who holds a lock isn't done yet."""
    some = [(t.nr, t.shortest, t.longest, t.total) for t in parts if t.nr]
    measured = sum(t[0] for t in some)
    if not measured:
        return Times(counted)
    shortest, longest = min(t[1] for t in some), max(t[2] for t in some)
    return Times(measured, shortest, longest, sum(t[3] for t in some), measured)


def _add_points(points: Iterable[LockPoint]) -> tuple[Point, ...]:
    total: dict[int, int] = {}
    for point in points:
        if point.site:
            total[point.site] = total.get(point.site, 0) + point.contentions
    return tuple(Point(site, n) for site, n in sorted(total.items(), key=lambda item: -item[1]))


def clear_lock_stats(locks: Iterable[tuple[str, Spinlock]]) -> None:
    """``echo 0 > /proc/lock_stat``: as clear_lock_stats() (5.10), the histograms too."""
    for _, lock in locks:
        if not lock.acquisitions:
            continue
        lock.acquisitions = lock.contentions = lock.stolen = 0
        stat = lock.stat
        stat.con_bounces = stat.acq_bounces = 0
        for times in (stat.waits, stat.holds):
            times.nr = times.shortest = times.longest = times.total = 0
        for points in (stat.contention_points, stat.contending_points):
            for point in points:
                point.site = point.contentions = 0
        for which in (WAITS, HOLDS):
            histogram = histogram_of(lock, which)
            if histogram is not None:
                ctypes.memset(address_of(histogram), 0, HISTOGRAM_SIZE)


def symbol(site: int) -> str:
    """``%pS`` of a call site; the number alone where this process doesn't know the name."""
    name, colon, _ = site_name(site).partition(":")
    return f"{name}+{site & 0xFFF:#x}/0x1000" if colon else f"{site:#x}"


def _time(ns: int) -> str:
    """As seq_time() (5.10): microseconds, rounded to hundredths."""
    whole, rest = divmod(ns + 5, 1000)
    return f"{f'{whole}.{rest // 10:02d}':>14}"


def _lock_time(times: Times) -> str:
    shown = (times.shortest, times.longest, times.total, times.average)
    return f"{times.nr:14d} " + " ".join(_time(ns) for ns in shown)


def _points(name: str, points: tuple[Point, ...]) -> Iterator[str]:
    if points:
        yield f"{'-' * len(name):>40}\n"
    for point in points[:LOCKSTAT_POINTS]:
        address = f"[<{point.site:016x}>]"
        yield f"{name:>40} {point.contentions:14d} {address:>29} {symbol(point.site)}\n"


def _stats(what: LockClass) -> Iterator[str]:
    """As seq_stats() (5.10) writes a class that has no readers."""
    name = what.name[:37]  # snprintf() into 38 bytes
    if what.holds.nr:
        yield f"{name:>40}:{what.con_bounces:14d} {_lock_time(what.waits)}"
        yield f" {what.acq_bounces:14d} {_lock_time(what.holds)}\n"
    if not what.waits.nr:
        return
    yield from _points(name, what.contention_points)
    yield from _points(name, what.contending_points)
    if what.contending_points:
        yield f"\n{DOTS}\n"


def render(locks: Iterable[tuple[str, Spinlock]]) -> str:
    """Write the file as kernel/locking/lockdep_proc.c:ls_show() (5.10) does."""
    titles = " ".join(f"{heading:>14}" for heading in HEADINGS)
    head = f"lock_stat version 0.4\n{RULE}{'class name':>40} {titles}\n{RULE}\n"
    return head + "".join(line for what in lock_classes(locks) for line in _stats(what))
