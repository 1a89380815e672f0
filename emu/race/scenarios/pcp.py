"""Races of the per-cpu page lists: their sizes change, and others look at their counts, without a lock
(``mm/page_alloc.c`` (5.10))."""

from emu.race.invariants_pages import SOUND, batch_within_high, none_isolated_on_pcp
from emu.race.ops_pages import alloc, free, isolate, pagelist_fraction
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mmzone import ZONE_MOVABLE

__all__ = ["SCENARIOS"]

MOVABLE = GFP_HIGHUSER_MOVABLE
QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)


def boot_pagesets(w: World) -> None:
    """As memory that was just added has them: nothing is kept. Slot 0 has a page."""
    w.run(alloc(slot=0, gfp=MOVABLE))


R13 = Scenario(
    id="R13",
    title="the pcp batch grows between two reads: free_pcppages_bulk() looks for pages that aren't there",
    story="""
    CPU0 frees a page. Its list is that of a pageset from boot (high 0, batch 1), so one page is too many.
    CPU1 gives the pagesets their real sizes: high 256, batch 64.
    CPU0 reads the batch, 64, and calls free_pcppages_bulk() for as many pages. There is one.
    With that gone it goes from one empty list to the next for ever, with interrupts off.
    The fix never frees more than the list has.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0),), "cpu1": (pagelist_fraction(8),)},
    invariants=SOUND,
    setup=boot_pagesets,
    commits=(Commit("88e8ac11d2ea", "mm, page_alloc: fix core hung in free_pcppages_bulk()"),),
    switch="R13",
    kind="livelock",
    tags=("pcp", "irqs off"),
)


def large_pagesets(w: World) -> None:
    """high 256, batch 64. Slot 0 has a page."""
    w.run(alloc(slot=0, gfp=MOVABLE))
    w.run(pagelist_fraction(8))


R14 = Scenario(
    id="R14",
    title="the pcp sizes shrink one after the other: the old batch meets the new high",
    story="""
    CPU1 makes the pcp lists small again: high from 256 to 0, batch from 64 to 1.
    Written as they come, there is a moment with high 0 and batch 64.
    CPU0 frees a page in it: one page is too many for its list, and 64 are to go.
    Before R13's fix that hung the CPU; the rule since 3.11 is that batch is never above high.
    Hence three writes with barriers between: batch 1, high, batch.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0),), "cpu1": (pagelist_fraction(0),)},
    invariants=(*SOUND, batch_within_high),
    setup=large_pagesets,
    commits=(
        Commit("998d39cb236f", "mm/page_alloc: protect pcp->batch accesses with ACCESS_ONCE"),
        Commit(
            "8d7a8fa97abe",
            "mm/page_alloc: insert memory barriers to allow async update of pcp batch and high",
            "M",
        ),
    ),
    switch="R14",
    preemptions=0,
    tags=("pcp", "memory order"),
)


def empty_lists_that_hold_pages(w: World) -> None:
    """Lists of up to three pages, refilled by two; all are empty. Free memory is in pieces from pageblock 0 on."""
    w.run(alloc(slot=5, order=3, gfp=MOVABLE))
    w.pcp(batch=2, high=4)


R15 = Scenario(
    id="R15",
    title="drain_all_pages() sees count 0 while a refill is in flight, and asks nobody",
    story="""
    CPU0's list is empty. It takes two pages out of pageblock 0 and lists them, but hasn't counted them yet.
    CPU1 isolates the pageblock and drains all lists, which is to bring back what the CPUs have of it.
    It reads CPU0's count without a lock: 0. So CPU0 isn't asked.
    CPU0 counts, takes one page, and keeps the other: a page of an isolated block that may be handed out any time.
    Remote draining met the same in 6.0 (66eca1021a42); to ask every CPU, whatever its count, misses nobody.
    """,
    shape=small(zid=ZONE_MOVABLE),
    tuning=QUIET,
    programs={"cpu0": (alloc(0, gfp=MOVABLE),), "cpu1": (isolate(block=0, slot=1),)},
    invariants=(*SOUND, none_isolated_on_pcp),
    setup=empty_lists_that_hold_pages,
    commits=(
        Commit("66eca1021a42", "mm/page_alloc: fix pcp->count race between drain_pages_zone() vs __rmqueue_pcplist()"),
        Commit("ec6e8c7e0314", "mm, page_alloc: disable pcplists during memory offline"),
    ),
    status=OPEN,
    switch="R15",
    tags=("pcp", "drain", "isolation"),
)

SCENARIOS = (R13, R14, R15)
