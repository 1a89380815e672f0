"""Retry storms of the slow path: rounds for nothing, and failures that a look at the right place would have avoided."""

from emu.race.invariants_tasks import failure_was_avoidable, reclaimer_gets_a_page
from emu.race.ops_pages import alloc, drain, free
from emu.race.ops_tasks import cache, holes, request, take
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import (
    __GFP_NORETRY, __GFP_NOWARN, __GFP_RETRY_MAYFAIL, GFP_ATOMIC, GFP_KERNEL, GFP_NOIO,
)  # fmt: skip
from emu.zone.mmzone import WMARK_MIN

__all__ = ["SCENARIOS"]

TUNING = Tuning(watermark_boost_factor=0)


def just_below_min(w: World) -> None:
    """A little less than the min watermark is free; the page cache could be given up for it."""
    w.run(cache(file=1, pages=40))
    w.run(take(node=0, leave=w.zone().watermark[WMARK_MIN] - 8))


S1 = Scenario(
    id="S1",
    title="two tasks and kswapd: one reclaims, another takes, and the first goes round once more",
    story="""
    cpu0 finds too little free, wakes kswapd, and reclaims 32 pages itself, of which it needs one.
    Before it looks at the free list again, cpu1 has taken them, for a request that may use the reserves.
    should_reclaim_retry() sees enough that could be reclaimed, and sends it round.
    Nothing keeps the pages for who has reclaimed them, and nothing bounds how often this happens.
    Only progress by all of them together is sure; that is how it is meant to be.
    """,
    shape=small(),
    tuning=TUNING,
    programs={
        "cpu0": (request(gfp=GFP_KERNEL | __GFP_NOWARN),),
        "cpu1": (take(node=0, leave=60),),
        "kswapd0": (),
    },
    invariants=(reclaimer_gets_a_page,),
    setup=just_below_min,
    status=OPEN,
    max_steps=4000,
    tags=("storm", "slow path", "reclaim"),
)


def pages_on_cpu1s_list(w: World, pages: int, leave: int) -> None:
    """cpu1's pcp list has so many pages, and room for the one in slot 8; the zone has so few free ones. Failures are
    judged when they happen."""
    w.pcp(batch=1, high=64)
    w.run_all([alloc(slot=8 + i) for i in range(1 + pages)], cpu=1)
    w.run(take(node=0, leave=leave))
    w.run_all([free(slot=8 + i) for i in range(1, 1 + pages)], cpu=1)
    w.vm().slow_stat.measured = 1


def pages_that_a_drain_would_bring(w: World) -> None:
    """Reclaim brings less than is missing, cpu1's list more."""
    w.run(cache(file=1, pages=4))
    pages_on_cpu1s_list(w, 54, w.zone().watermark[WMARK_MIN] - 40)


def pages_that_even_atomic_misses(w: World) -> None:
    """The zone is below what GFP_ATOMIC may have (three eighths of the min watermark), by one page."""
    pages_on_cpu1s_list(w, 0, w.zone().watermark[WMARK_MIN] * 3 // 8 + 1)


S3 = Scenario(
    id="S3",
    title="drain_all_pages() finds another drain under way and returns at once: a failure that was avoidable",
    story="""
    cpu1 has dozens of free pages on its pcp list, which count as used. It begins to drain all lists, for its own sake.
    cpu0 reclaims something, but not enough, and wants to have all lists drained before it looks again.
    A drain is under way already, so it doesn't wait: it looks again at once.
    Nothing has been drained yet; it may not retry, and fails.
    A moment later there is more than enough. By design: waiting for a drain was found to be worse.
    """,
    shape=small(),
    tuning=TUNING,
    programs={
        "cpu0": (request(gfp=GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN),),
        "cpu1": (drain(),),
    },
    invariants=(failure_was_avoidable,),
    setup=pages_that_a_drain_would_bring,
    status=OPEN,
    max_steps=4000,
    tags=("storm", "pcp", "slow path"),
)

S3A = Scenario(
    id="S3a",
    title="an atomic request fails while another CPU's pcp list has what it wants",
    story="""
    cpu1 frees a page, which stays on its pcp list and counts as used.
    On cpu0 an atomic request finds the zone just below what even it may have.
    It may not reclaim, so it never gets to where all lists are drained.
    It fails for want of a page, with that page free on the machine.
    By design: nobody may wait for another CPU in atomic context.
    """,
    shape=small(),
    tuning=TUNING,
    programs={
        "cpu0": (request(gfp=GFP_ATOMIC | __GFP_NOWARN),),
        "cpu1": (free(slot=8),),
    },
    invariants=(failure_was_avoidable,),
    setup=pages_that_even_atomic_misses,
    status=OPEN,
    preemptions=0,
    tags=("pcp", "atomic"),
)


def memory_in_pieces(w: World) -> None:
    """Half of the memory is free, in blocks of order 1."""
    w.run(holes(node=0, order=1))


R35 = Scenario(
    id="R35",
    title="a costly request without I/O waits for compaction that nobody may do",
    story="""
    A request of order 4 may retry until it must fail, but may not start I/O. Memory is there, in small pieces.
    Reclaim has nothing to do: there is enough for compaction, and it calls that progress.
    Compaction migrates pages, which may take I/O: skipped.
    should_compact_retry() sees that compaction was skipped and that there is enough for it: once more. For ever.
    The fix (gfp_compaction_allowed()) lets all of them know what compaction knew.
    """,
    shape=small(cpus=1),
    tuning=TUNING,
    programs={"cpu0": (request(order=4, gfp=GFP_NOIO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN),)},
    invariants=(),
    setup=memory_in_pieces,
    commits=(
        Commit(
            "803de9000f33",
            "mm, vmscan: prevent infinite loop for costly GFP_NOIO | __GFP_RETRY_MAYFAIL allocations",
            "V*",
        ),
    ),
    switch="R35",
    kind="livelock",
    preemptions=0,
    tags=("storm", "compaction", "slow path"),
)

SCENARIOS = (S1, S3, S3A, R35)
