"""What a lock's users can know of it: who waited, how long, where, for whom (``/proc/lock_stat``).

Contentions and acquisitions are always counted. Times, bounces and histograms cost two looks at the clock and are
measured by processes whose ``Party.lock_stat`` is set; one with a ``Party.lock_ring`` also keeps each hold on record.
All of it is written by the lock's holder only.
"""

from shm.atomic import address, barrier, clock_ns, fls
from shm.core import core
from shm.point import Party
from shm.ring import Ring, ring_commit, ring_reserve
from shm.struct import Array, At, Struct, array, embed, i32, i64, size_of, struct, u32

__all__ = ["HISTOGRAM_SIZE", "LOCK_POINTS", "Histogram", "LockHold", "LockPoint", "LockStat", "LockTime", "add_time",
           "bucket", "bucket_value", "histogram_at", "stat_acquired", "stat_contended", "stat_init",
           "stat_released"]  # fmt: skip

LOCK_POINTS = 8
SUB_BITS = 7  # a bucket is within 1/128 of its value
NR_BUCKETS = (36 - SUB_BITS + 2) << SUB_BITS  # up to 2^37 ns: 137 s


@struct
class LockPoint(Struct):
    """Contention at one call site."""

    site: int = u32()
    _hole: int = u32()
    contentions: int = i64()


@struct
class LockTime(Struct):
    """``struct lock_time``, ns."""

    nr: int = i64()
    shortest: int = i64()
    longest: int = i64()
    total: int = i64()


@struct
class Histogram(Struct):
    """Counts by time: exact below 256 ns, then 128 buckets for every power of two."""

    counts: Array[int] = array(i64, NR_BUCKETS)


@struct
class LockStat(Struct):
    """``struct lock_class_stats``, of one lock."""

    acquired_at: int = i64()
    waited: int = i64()  # how long its holder had to, ns + 1; 0: the lock was free
    last: int = i32()  # index + 1 of the party that had the lock before
    _hole: int = i32()
    con_bounces: int = i64()
    acq_bounces: int = i64()
    waits: LockTime = embed(LockTime)
    holds: LockTime = embed(LockTime)
    contention_points: Array[LockPoint] = array(LockPoint, LOCK_POINTS)  # where those stood who waited
    contending_points: Array[LockPoint] = array(LockPoint, LOCK_POINTS)  # where the holder had taken it meanwhile
    histograms: int = i64()  # offset from this record of two Histograms, of waits and of holds; 0: none


@struct
class LockHold(Struct):
    """A lock was taken and given back: times as CLOCK_MONOTONIC has them, ns."""

    acquired: int = i64()
    released: int = i64()
    waited: int = i64()  # before; -1: it was free
    lock: int = i64()  # where its LockStat lies, from the party table
    site: int = u32()
    lock_class: int = i32()


histogram_at = At(Histogram)
ring_at = At(Ring)
hold_at = At(LockHold)
HISTOGRAM_SIZE = size_of(Histogram)


@core
def bucket(ns: int) -> int:
    """Index of a time in a Histogram."""
    order = fls(ns) - SUB_BITS - 1  # of the shift that leaves SUB_BITS + 1 bits
    if order <= 0:
        return ns if ns >= 0 else 0
    at = (order << SUB_BITS) + (ns >> order)
    return min(at, NR_BUCKETS - 1)


def bucket_value(index: int) -> int:
    """The middle of a bucket's times in ns."""
    order = max((index >> SUB_BITS) - 1, 0)
    return ((index - (order << SUB_BITS)) << order) + ((1 << order) >> 1)


@core
def add_time(times: LockTime, ns: int) -> None:
    """One more wait or hold."""
    if times.nr == 0 or ns < times.shortest:
        times.shortest = ns
    if ns > times.longest:
        times.longest = ns
    times.nr += 1
    times.total += ns


@core
def _clear(times: LockTime) -> None:
    times.nr = 0
    times.shortest = 0
    times.longest = 0
    times.total = 0


@core
def stat_init(stat: LockStat) -> None:
    """Nothing has happened yet."""
    stat.acquired_at = 0
    stat.waited = 0
    stat.last = 0
    stat.con_bounces = 0
    stat.acq_bounces = 0
    _clear(stat.waits)
    _clear(stat.holds)
    for i in range(LOCK_POINTS):
        stat.contention_points[i].site = 0
        stat.contention_points[i].contentions = 0
        stat.contending_points[i].site = 0
        stat.contending_points[i].contentions = 0


@core
def _count(stat: LockStat, which: int, ns: int) -> None:
    if stat.histograms != 0:
        histogram = histogram_at(stat, stat.histograms + which * HISTOGRAM_SIZE)
        histogram.counts[bucket(ns)] += 1


@core
def _count_point(point: LockPoint, where: int) -> bool:
    if point.site == where or point.site == 0:
        point.site = where
        point.contentions += 1
        return True
    return False


@core(cold=True)
def stat_contended(me: Party, stat: LockStat, where: int, holder_site: int, waited: int) -> None:
    """A wait is over and the lock is ours. Sites beyond the first LOCK_POINTS aren't counted, as in the kernel."""
    for i in range(LOCK_POINTS):
        if _count_point(stat.contention_points[i], where):
            break
    if holder_site != 0:
        for i in range(LOCK_POINTS):
            if _count_point(stat.contending_points[i], holder_site):
                break
    if me.lock_stat != 0:
        stat.waited = waited + 1
        add_time(stat.waits, waited)
        _count(stat, 0, waited)
        if stat.last != me.index + 1:
            stat.con_bounces += 1


@core(cold=True)
def stat_acquired(me: Party, stat: LockStat) -> None:
    """The lock is ours: from now on it is held."""
    now = clock_ns()
    stat.acquired_at = now
    if stat.last != me.index + 1:
        stat.acq_bounces += 1
        stat.last = me.index + 1
    if me.nr_locks == 0:
        me.hold_since = now
    me.nr_locks += 1


@core(cold=True)
def stat_released(me: Party, stat: LockStat, where: int, lock_class: int) -> None:
    """It is given back. ``where`` it was taken."""
    if stat.acquired_at == 0:  # taken before anybody measured
        return
    now = clock_ns()
    held = now - stat.acquired_at
    if me.lock_ring != 0:
        _record(me, stat, where, lock_class, now)
    stat.acquired_at = 0
    stat.waited = 0
    add_time(stat.holds, held)
    _count(stat, 1, held)
    me.nr_locks -= 1
    if me.nr_locks == 0:
        me.hold_ns += now - me.hold_since


@core(cold=True)
def _record(me: Party, stat: LockStat, where: int, lock_class: int, now: int) -> None:
    """One more hold on record. An interrupt that comes meanwhile, and gives locks back too, has to wait."""
    irqs_off = me.irqs_off
    me.irqs_off = 1
    barrier()
    ring = ring_at(me, me.lock_ring)
    slot = ring_reserve(ring)
    if slot >= 0:
        hold = hold_at(ring, slot)
        hold.acquired = stat.acquired_at
        hold.released = now
        hold.waited = stat.waited - 1
        hold.lock = address(stat) - (address(me) - me.index * me.stride)
        hold.site = where
        hold.lock_class = lock_class
        ring_commit(ring)
    barrier()
    me.irqs_off = irqs_off
