"""Races of page isolation (``mm/page_isolation.c``, ``mm/memory_hotplug.c`` (5.10))."""

from dataclasses import replace

from emu.race.invariants_pages import SOUND, isolated_apart
from emu.race.ops_pages import alloc, free, isolate, offline, undo_isolate
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mmzone import ZONE_MOVABLE

__all__ = ["SCENARIOS"]

MOVABLE = GFP_HIGHUSER_MOVABLE
QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)
RECHECK = (
    Commit("ad53f92eb416", "mm/page_alloc: fix incorrect isolation behavior by rechecking migratetype"),
    Commit("51bb1a4093cc", "mm/page_alloc: add freepage on isolate pageblock to correct buddy list", "S"),
    Commit("3c605096d315", "mm/page_alloc: restrict max order of merging on isolated pageblock"),
)


def pages_of_isolated_block(w: World) -> None:
    """Pageblock 0 is isolated, by slot 1; slot 0 has two of its pages."""
    w.run(alloc(slot=0, order=1, gfp=MOVABLE))
    w.run(isolate(block=0, slot=1))


R4A = Scenario(
    id="R4a",
    title="a page is freed while its pageblock's isolation ends: it is lost on the ISOLATE list",
    story="""
    CPU0 frees two pages and reads the type of their pageblock: ISOLATE. It doesn't hold zone->lock yet.
    CPU1 ends the isolation: the block's free pages go back to the movable list and count again.
    CPU0 puts its pages on the ISOLATE list, where nobody looks, and doesn't count them.
    They are free and can't be allocated; when a buddy merges with them NR_FREE_PAGES is wrong for good.
    The fix reads the type again under the lock while any block is isolated, or if it was ISOLATE.
    """,
    shape=small(zid=ZONE_MOVABLE),
    tuning=QUIET,
    programs={"cpu0": (free(0, order=1),), "cpu1": (undo_isolate(block=0, slot=1),)},
    invariants=(isolated_apart, *SOUND),
    setup=pages_of_isolated_block,
    commits=RECHECK,
    switch="R4",
    tags=("isolation", "migratetype", "zone lock"),
)


def page_of_movable_block(w: World) -> None:
    """Slot 0 has a page of pageblock 0."""
    w.run(alloc(slot=0, gfp=MOVABLE))


R4B = Scenario(
    id="R4b",
    title="a page is freed while its pageblock is isolated: it can be allocated out of the isolated block",
    story="""
    CPU0 frees a page. It is stamped with the type of its pageblock, movable, and goes by way of the pcp list.
    CPU1 isolates the block: its free pages go to the ISOLATE list and don't count any more.
    CPU0's list is full, so the page goes on to the buddy lists, by its stamp to the movable one, and is counted.
    The next request gets it, out of memory that is about to be unplugged.
    The fix looks at the pageblock instead of the stamp while any block of the zone is isolated.
    """,
    shape=small(zid=ZONE_MOVABLE),
    tuning=QUIET,
    programs={"cpu0": (free(0),), "cpu1": (isolate(block=0, slot=1),)},
    invariants=(isolated_apart, *SOUND),
    setup=page_of_movable_block,
    commits=RECHECK,
    switch="R4",
    tags=("isolation", "migratetype", "pcp", "zone lock"),
)


def page_of_block_that_goes(w: World) -> None:
    """Slot 0 has a page of the first memory block; what is freed stays on the pcp lists. Offlining never gives up."""
    w.run(alloc(slot=0, gfp=MOVABLE))
    w.pcp(batch=2, high=4)
    w.vm().offline_passes = 0


R5 = Scenario(
    id="R5",
    title="offlining drains the pcp lists before a page gets there: it waits for ever",
    story="""
    CPU0 frees a page and stamps it with the type of its pageblock, movable.
    CPU1 takes the memory offline: it isolates the blocks and drains all pcp lists. CPU0's is empty.
    CPU0 puts the page on its pcp list, by the stamp.
    CPU1 finds one page that isn't free, and tries again, and again: nobody will ever drain that list.
    5.9 drains once more in each round; 5.11 switches the pcp lists off while memory goes offline.
    """,
    shape=replace(small(zid=ZONE_MOVABLE), memory_block=1024),
    tuning=QUIET,
    programs={"cpu0": (free(0),), "cpu1": (offline(0, 1024),)},
    invariants=SOUND,
    setup=page_of_block_that_goes,
    commits=(
        Commit("968318261221", "mm/memory_hotplug: drain per-cpu pages again during memory offline", "V*"),
        Commit("ec6e8c7e0314", "mm, page_alloc: disable pcplists during memory offline"),
    ),
    switch="R5",
    kind="livelock",
    tags=("isolation", "hotplug", "pcp", "drain"),
)


def free_pageblock(w: World) -> None:
    """Pageblock 1 is free, and no part of a larger free block."""
    w.run(alloc(slot=0, order=9, gfp=MOVABLE))


R30 = Scenario(
    id="R30",
    title="two callers isolate the same pageblock: both believe it is theirs",
    story="""
    CPU0 isolates a pageblock: its 512 free pages leave NR_FREE_PAGES.
    CPU1 wants a range that overlaps and isolates the same block. They leave NR_FREE_PAGES a second time.
    Each works on the range as if it were alone. CPU0 is done and gives the block back: 512 pages count again.
    CPU1's range isn't isolated any more, though it never gave it back; when it does, there is nothing to do.
    The fix refuses a block that is isolated already; the caller undoes what it has and gets -EBUSY.
    """,
    shape=small(),
    tuning=QUIET,
    programs={
        "cpu0": (isolate(block=1, slot=1), undo_isolate(block=1, slot=1)),
        "cpu1": (isolate(block=1, slot=2), undo_isolate(block=1, slot=2)),
    },
    invariants=SOUND,
    setup=free_pageblock,
    commits=(Commit("2c7452a075d4", "mm/page_isolation.c: make start_isolate_page_range() fail if already isolated"),),
    switch="R30",
    tags=("isolation",),
)

SCENARIOS = (R4A, R4B, R5, R30)
