"""What a machine's locks and CPUs have counted, as plain data: times, percentiles, shares, fairness."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from emu.proc.lock_stat import HOLDS, WAITS, LockClass, Point, Times, class_name, histogram_of, lock_classes
from emu.stress.histogram import hdr_of
from emu.zone.init import party_of
from emu.zone.locks import locks_of
from emu.zone.mmzone import Machine
from shm.point import site_name
from shm.spinlock_types import Spinlock

__all__ = ["ClassMeasure", "CpuTimes", "PointMeasure", "Spread", "cpu_times", "decode", "measure_locks"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Spread:
    """Times in ns: exact sums and extremes, percentiles within 1 %.

    ``histogram`` is an HdrHistogram in its own base64 form (V2, compressed), which every HdrHistogram library reads;
    empty, and the percentiles None, where the lock has none.
    """

    nr: int
    shortest: int
    longest: int
    total: int
    average: int
    p50: int | None
    p90: int | None
    p99: int | None
    p999: int | None
    histogram: str

    def decoded(self) -> HdrHistogram:
        """The histogram; an empty one where there is none."""
        return decode(self.histogram)


@dataclass(frozen=True)
class PointMeasure:
    """A call site where somebody waited, or from which the lock was held meanwhile."""

    name: str
    site: int
    contentions: int


@dataclass(frozen=True)
class ClassMeasure:
    """All locks of a class."""

    name: str
    locks: int
    acquisitions: int
    contentions: int
    stolen: int
    con_bounces: int
    acq_bounces: int
    waits: Spread
    holds: Spread
    waited_at: tuple[PointMeasure, ...]
    held_from: tuple[PointMeasure, ...]

    @property
    def contended(self) -> float:
        """The part of the acquisitions that had to wait."""
        return self.contentions / self.acquisitions if self.acquisitions else 0.0


@dataclass(frozen=True)
class CpuTimes:
    """What a CPU's time went into so far, ns. Counted with ``lock_stat`` only."""

    spinning: int
    parked: int
    holding: int

    def __sub__(self, other: "CpuTimes") -> "CpuTimes":
        return CpuTimes(
            self.spinning - other.spinning, self.parked - other.parked, self.holding - other.holding
        )  # fmt: skip


def decode(encoded: str) -> HdrHistogram:
    """The reverse of ``HdrHistogram.encode()``; an empty one of nothing."""
    return HdrHistogram.decode(encoded.encode()) if encoded else hdr_of(())


def _spread(times: Times, histogram: HdrHistogram | None) -> Spread:
    base = (times.nr, times.shortest, times.longest, times.total, times.average)
    if histogram is None:
        return Spread(*base, None, None, None, None, "")
    # a bucket's upper end may lie beyond the longest
    p50, p90, p99, p999 = (min(int(histogram.get_value_at_percentile(p)), times.longest) for p in PERCENTILES)
    return Spread(*base, p50, p90, p99, p999, histogram.encode().decode())


def _points(points: Iterable[Point]) -> tuple[PointMeasure, ...]:
    return tuple(PointMeasure(site_name(p.site), p.site, p.contentions) for p in points)


def _histogram(locks: Sequence[Spinlock], which: int) -> HdrHistogram | None:
    parts = [histogram for lock in locks if (histogram := histogram_of(lock, which)) is not None]
    return hdr_of(parts) if parts else None


def _class(what: LockClass, locks: Sequence[Spinlock]) -> ClassMeasure:
    return ClassMeasure(
        what.name, what.locks, what.holds.nr, what.waits.nr, what.stolen, what.con_bounces, what.acq_bounces,
        _spread(what.waits, _histogram(locks, WAITS)), _spread(what.holds, _histogram(locks, HOLDS)),
        _points(what.contention_points), _points(what.contending_points),
    )  # fmt: skip


def measure_locks(m: Machine) -> tuple[ClassMeasure, ...]:
    """Every class of locks that was used, most contentions first. Exact when all CPUs are idle."""
    locks = list(locks_of(m))
    return tuple(
        _class(what, [lock for _, lock in locks if class_name(lock) == what.name]) for what in lock_classes(locks)
    )


def cpu_times(m: Machine) -> list[CpuTimes]:
    """Each CPU's."""
    parties = [party_of(m, i).party for i in range(m.nr_cpus)]
    return [CpuTimes(p.spin_ns, p.park_ns, p.hold_ns) for p in parties]
