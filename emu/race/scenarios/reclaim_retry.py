"""Races of what the slow path decides after reclaim (``mm/page_alloc.c``, ``mm/vmscan.c`` (5.10))."""

from emu.race.invariants_reclaim import available_exists, hopeless_unbalanced
from emu.race.invariants_tasks import failure_was_avoidable
from emu.race.ops_pages import alloc, free
from emu.race.ops_reclaim import read_file, shrink, wakeup
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.setups_reclaim import LEAK, TAKE, leave_free
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import (
    __GFP_NORETRY,
    __GFP_NOWARN,
    __GFP_RETRY_MAYFAIL,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
)  # fmt: skip

__all__ = ["SCENARIOS"]

ACCOUNT_FREE = "mm: vmscan: account for free pages to prevent infinite Loop in throttle_direct_reclaim()"
MIN_32 = Tuning(min_free_kbytes=128)  # watermarks of 32, 40 and 48 pages


def nothing_to_reclaim(w: World) -> None:
    """24 pages are free, and nothing is on an LRU list."""
    leave_free(w, 24)


R17 = Scenario(
    id="R17",
    title="free pages are counted twice before another round of reclaim",
    story="""
    24 pages are free, the min watermark is 32; nothing can be reclaimed.
    zone_reclaimable_pages() says 24: where nothing is, free pages stand in for it, so that DMA32 isn't passed over.
    should_reclaim_retry() adds the free pages to that: 48 would be enough. Another round!
    After 16 of them, each through all priorities, the request fails as it might have at once.
    The remedy is to ask for free pages where they are meant, in allow_direct_reclaim().
    """,
    shape=small(cpus=1),
    tuning=MIN_32,
    programs={"cpu0": (alloc(slot=0, gfp=GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN),)},
    invariants=(available_exists,),
    setup=nothing_to_reclaim,
    commits=(
        Commit("6aaced5abd32", ACCOUNT_FREE, "V*"),
        Commit("", "mm: fix duplicate accounting of free pages in should_reclaim_retry()", "S"),
    ),
    status=OPEN,
    switch="R17",
    trace=True,
    preemptions=0,
    tags=("slow path", "oom"),
)  # fmt: skip


def about_to_give_up(w: World) -> None:
    """kswapd has failed 15 times, and will once more: for a boost, at a priority too low for one page of cache."""
    w.run(read_file(pages=1))
    w.zone().watermark_boost = 100
    w.node().kswapd_failures = 15


R21 = Scenario(
    id="R21",
    title="kswapd_failures++ writes over a reset: kswapd stays given up",
    story="""
    kswapd has failed to reclaim anything 15 times in a row; at 16 it gives up. It fails again and reads 15...
    ...a direct reclaimer on CPU1 finds something, and resets the count to 0, so that kswapd goes on...
    ...kswapd writes 16.
    Nobody wakes it any more, though the node is balanced and has something to reclaim, until the next reset.
    An increment that can't be torn apart is half of the remedy; the other is to reset only for a balanced node.
    """,
    shape=small(),
    programs={"cpu0": (wakeup(order=0),), "cpu1": (shrink(priority=0),), "kswapd0": ()},
    invariants=(hopeless_unbalanced,),
    setup=about_to_give_up,
    commits=(Commit("", "mm/vmscan: mitigate spurious kswapd_failures reset from direct reclaim", "S"),),
    status=OPEN,
    switch="R21",
    bound=2,
    tags=("kswapd", "lost update"),
)


def pages_on_lists(w: World) -> None:
    """31 pages are free; one more could be reclaimed, and CPU1 has four on its pcp list."""
    w.run(read_file(pages=1))
    w.run_all([alloc(slot=i, gfp=GFP_HIGHUSER_MOVABLE) for i in range(5)])
    leave_free(w, 31)
    w.pcp(batch=4, high=16)
    w.run_all([free(slot=i) for i in range(4)], cpu=1)
    w.vm().slow_stat.measured = 1


R23 = Scenario(
    id="R23",
    title="what direct reclaim brings is on pcp lists, and the request fails",
    story="""
    31 pages are free, the min watermark is 32. A task on CPU0 reclaims a page; CPU1's exiting task frees some.
    What they free goes to pcp lists, where it doesn't count as free.
    The task tries once more: 31 pages are free. Its request fails.
    Next to it lie more pages than it asked for.
    The fix has all CPUs drain their lists, and tries again.
    """,
    shape=small(),
    tuning=MIN_32,
    programs={
        "cpu0": (alloc(slot=10, gfp=GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN),),
        "cpu1": (free(slot=4),),
    },
    invariants=(failure_was_avoidable,),
    setup=pages_on_lists,
    commits=(
        Commit("9ee493ce0a60", "mm: page allocator: drain per-cpu lists after direct reclaim allocation fails"),
    ),
    switch="R23",
    bound=2,
    preemptions=0,
    tags=("direct reclaim", "pcp lists"),
)  # fmt: skip


def split_by_one(w: World) -> None:
    """No block of order 4 is free, but of two all pages except one are, and that one is on CPU2's pcp list. Enough
    smaller blocks are free for compaction, which has failed too often to be tried."""
    w.run_all([alloc(slot=i, order=4, gfp=TAKE) for i in range(10)])
    leave_free(w, 0)
    to_free = []
    for i in range(10):  # each is all that is free while it is taken apart
        w.run(free(slot=i, order=4))
        orders = (3, 2, 1, 0) if i < 2 else (3,)
        parts = [(order, 10 + i if order == 3 else 40 + 4 * i + order) for order in orders]
        w.run_all([alloc(slot=slot, order=order, gfp=TAKE) for order, slot in parts])
        w.run(alloc(slot=28 + i if i < 2 else LEAK, order=0 if i < 2 else 3, gfp=TAKE))
        to_free += parts
    w.run_all([free(slot=slot, order=order) for order, slot in to_free])
    w.pcp(batch=4, high=16)
    w.run_all([free(slot=28), free(slot=29)], cpu=2)
    compact = w.zone().compact
    compact.order_failed, compact.defer_shift = 1, 6
    w.vm().slow_stat.measured = 1


R23B = Scenario(
    id="R23b",
    title="a drain is under way, so another one doesn't wait for it, and its request fails",
    story="""
    CPU0 and CPU1 need blocks of 16 pages. Two such blocks are free but for a page each, on CPU2's pcp list.
    CPU0 has all CPUs drain their lists, and waits for CPU2...
    ...CPU1 would do so too. A drain is under way already: it goes on without waiting.
    CPU2 hasn't come to it yet, so CPU1 finds what it found before. Its request fails.
    The remedy is to wait for one's turn; kernels leave it at that, since most callers try again.
    """,
    shape=small(cpus=3),
    tuning=Tuning(min_free_kbytes=64),  # watermarks of 16, 20 and 24 pages
    programs={
        "cpu0": (alloc(slot=30, order=4, gfp=GFP_HIGHUSER_MOVABLE | __GFP_NOWARN),),
        "cpu1": (alloc(slot=31, order=4, gfp=GFP_HIGHUSER_MOVABLE | __GFP_NOWARN),),
        "cpu2": (),
    },
    invariants=(failure_was_avoidable,),
    setup=split_by_one,
    commits=(Commit("0ccce3b92421", "mm, page_alloc: drain per-cpu pages from workqueue context", "M"),),
    status=OPEN,
    switch="R23b",
    bound=2,
    preemptions=0,
    tags=("direct reclaim", "pcp lists"),
)

SCENARIOS = (R17, R21, R23, R23B)
