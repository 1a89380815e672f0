"""What the slow path costs, for those who want to know: by task, and of draining the pcp lists, by machine.

Nothing of it is written before ``SlowStat.measured`` is set.
"""

from emu.zone.types import AtomicLong
from shm.struct import Array, Struct, array, embed, i32, i64, struct

__all__ = [
    "FAILED_AVOIDABLE", "FAILED_DAEMON", "FAILED_LATE", "FAILED_NAMES", "FAILED_OWN", "FAILED_RESERVE",
    "SPENT_COMPACT", "SPENT_CONGESTION", "SPENT_DRAIN", "SPENT_ISOLATED", "SPENT_NAMES", "SPENT_OOM", "SPENT_RECLAIM",
    "SPENT_SLOWPATH", "SPENT_THROTTLE", "SPENT_WAIT_IFF", "THROTTLES", "SlowCost", "SlowStat",
]  # fmt: skip

# Where a task's time went: SlowCost.spent and .times. The later ones lie within the earlier ones
SPENT_SLOWPATH = 0
SPENT_RECLAIM = 1
SPENT_COMPACT = 2
SPENT_DRAIN = 3
SPENT_THROTTLE = 4  # from here on the task sleeps
SPENT_WAIT_IFF = 5
SPENT_CONGESTION = 6
SPENT_ISOLATED = 7
SPENT_OOM = 8
SPENT_NAMES = (
    "slow path", "direct reclaim", "direct compaction", "drain_all_pages", "throttle_direct_reclaim",
    "wait_iff_congested", "congestion_wait", "too_many_isolated", "oom_lock",
)  # fmt: skip
THROTTLES = range(SPENT_THROTTLE, SPENT_OOM + 1)

# What would have helped an allocation that failed: SlowCost.failed_for
FAILED_LATE = 0  # nothing: the memory was there by then
FAILED_AVOIDABLE = 1  # the pages on the CPUs' pcp lists, others' among them
FAILED_OWN = 2  # those on its own CPU's lists alone
FAILED_DAEMON = 3  # those on the lists of kswapd and its like too, which drain_all_pages() doesn't ask
FAILED_RESERVE = 4  # the free pages of the highatomic reserve, or its size, which counts as used
FAILED_NAMES = ("late", "avoidable", "own", "daemon", "reserve")


@struct
class SlowCost(Struct):
    """One task's. Times in ns; written by the CPU that runs it."""

    spent: Array[int] = array(i64, 9)  # SPENT_*
    times: Array[int] = array(i64, 9)
    failures: int = i64()  # allocations that failed
    failed_for: Array[int] = array(i64, 5)  # FAILED_*: of them
    pcp_pages: int = i64()  # on other CPUs' lists of the allowed zones at each failure, summed
    reserve_pages: int = i64()  # free in the highatomic reserves of those zones at each failure, summed
    oom_zone: int = i64()  # when it went to the OOM killer last, this zone (number + 1) had what it asked for; 0: none


@struct
class SlowStat(Struct):
    """The machine's: atomic, since a drain is done by all CPUs."""

    measured: int = i32()
    _hole: int = i32()
    drains: AtomicLong = embed(AtomicLong)  # that were done
    drains_busy: AtomicLong = embed(AtomicLong)  # that found another one and left it at that
    drain_works: AtomicLong = embed(AtomicLong)  # queued for other CPUs
    drained_local: AtomicLong = embed(AtomicLong)  # pages of the CPU that drains
    drained_remote: AtomicLong = embed(AtomicLong)  # pages of the CPUs asked
    drains_empty: AtomicLong = embed(AtomicLong)  # works that found nothing left to drain
    # at the end of a drain: CPUs that have pages, and how many
    missed_cpus: AtomicLong = embed(AtomicLong)  # not asked: their lists were empty when they were looked at
    missed_pages: AtomicLong = embed(AtomicLong)
    refilled_cpus: AtomicLong = embed(AtomicLong)  # asked, drained and filled again
    refilled_pages: AtomicLong = embed(AtomicLong)
    kswapd_wakes: AtomicLong = embed(AtomicLong)  # by wakeup_kswapd(): requests that found it asleep and needed
