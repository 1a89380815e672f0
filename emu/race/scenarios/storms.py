"""Retry storms of the slow path: rounds for nothing, and failures that a look at the right place would have avoided."""

from emu.race.invariants_tasks import failure_was_avoidable, next_round_gets_it, rounds_are_bounded
from emu.race.ops_pages import alloc, drain, free
from emu.race.ops_tasks import cache, holes, request, take
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import (
    __GFP_NORETRY, __GFP_NOWARN, __GFP_RETRY_MAYFAIL, GFP_KERNEL, GFP_NOIO,
)  # fmt: skip
from emu.zone.mmzone import WMARK_MIN

__all__ = ["SCENARIOS"]

TUNING = Tuning(watermark_boost_factor=0)


def below_min(w: World) -> None:
    """A page less is free than the min watermark says; the one page of cache that there is is being read. A block of
    two pages is in slot 0."""
    w.run(alloc(slot=0, order=1))
    w.run(cache(file=1, pages=1, locked=1))
    w.run(take(node=0, leave=w.zone().watermark[WMARK_MIN] - 1))


S1 = Scenario(
    id="S1",
    title="one counter says that another round is worth it, and the other that it wasn't: sixteen rounds for nothing",
    story="""
    cpu0 wants a page; two more than are free would have to be free. It wakes kswapd, and reclaims, in vain.
    cpu1 frees two pages. They are on the free list; that the zone has two more is in cpu1's own counter, for a while.
    get_page_from_freelist() goes by the zone's counter, and refuses.
    should_reclaim_retry() adds all CPUs' own counters, and sends cpu0 round. Sixteen times, through all priorities.
    Then it fails, or kills a process, though the page was there all the time. The remedy is to count alike.
    """,
    shape=small(),
    tuning=TUNING,
    programs={
        "cpu0": (request(slot=8, gfp=GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN),),
        "cpu1": (free(slot=0, order=1),),
        "kswapd0": (),
    },
    invariants=(next_round_gets_it, rounds_are_bounded),
    setup=below_min,
    status=OPEN,
    switch="S1",
    bound=2,
    max_steps=4000,
    preemptions=0,
    tags=("storm", "slow path", "counters"),
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


S3 = Scenario(
    id="S3",
    title="drain_all_pages() finds another drain under way and returns at once: a failure that was avoidable",
    story="""
    cpu1 has dozens of free pages on its pcp list, which count as used. It begins to drain all lists, for its own sake.
    cpu0 reclaims something, but not enough, and wants to have all lists drained before it looks again.
    A drain is under way already, so it doesn't wait: it looks again at once.
    Nothing has been drained yet; it may not retry, and fails.
    A moment later there is more than enough. The remedy is to wait for one's turn.
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
    switch="R23b",
    bound=2,
    max_steps=4000,
    tags=("storm", "pcp", "slow path"),
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

SCENARIOS = (S1, S3, R35)
