"""In-core histograms as HdrHistogram ones, and the few numbers that one looks at."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram

from shm.lockstat import NR_BUCKETS, Histogram, bucket_value
from shm.struct import address_of, records_at

__all__ = ["LatencySummary", "hdr_of", "summary_of"]

LONGEST = 1 << 37


@dataclass(frozen=True)
class LatencySummary:
    """Times in ns. ``encoded`` is the whole histogram as HdrHistogram's V2 text."""

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    p999: int
    longest: int
    encoded: str


def hdr_of(histograms: Iterable[Histogram]) -> HdrHistogram:
    """The sum of some histograms."""
    found = HdrHistogram(1, LONGEST, 2)
    for histogram in histograms:
        counts = records_at(Histogram, address_of(histogram), 1)["counts"][0]
        for index in np.flatnonzero(counts):
            found.record_value(max(bucket_value(int(index)), 1), int(counts[index]))
    return found


def summary_of(histograms: Iterable[Histogram]) -> LatencySummary:
    """Percentiles."""
    hdr = hdr_of(histograms)
    count = int(hdr.get_total_count())
    if not count:
        return LatencySummary(0, 0.0, 0, 0, 0, 0, 0, "")
    p50, p90, p99, p999 = (int(hdr.get_value_at_percentile(p)) for p in (50, 90, 99, 99.9))
    encoded = hdr.encode().decode()
    return LatencySummary(count, float(hdr.get_mean_value()), p50, p90, p99, p999, int(hdr.get_max_value()), encoded)


assert LONGEST >= bucket_value(NR_BUCKETS - 1)
