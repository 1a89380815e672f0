"""Races of the free lists: a pageblock's type is read without zone->lock and used under it (``mm/page_alloc.c``
(5.10))."""

from emu.race.invariants_pages import SOUND, highatomic_counted, lists_match
from emu.race.ops_pages import alloc, free, reserve, unreserve
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL

__all__ = ["SCENARIOS"]

MOVABLE = GFP_HIGHUSER_MOVABLE
QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)
"""No watermark in the way, and stealing wakes nobody."""


def last_movable_block(w: World) -> None:
    """Free memory is 256 pages of one movable pageblock; slot 1 has two pages of its other half."""
    w.run(alloc(slot=2, order=10, gfp=MOVABLE))
    w.run(alloc(slot=3, order=9, gfp=MOVABLE))
    w.run(alloc(slot=1, order=1, gfp=MOVABLE))
    for slot, order in ((4, 1), (5, 2), (6, 3), (7, 4), (8, 5), (9, 6), (10, 7)):
        w.run(alloc(slot=slot, order=order, gfp=MOVABLE))


R3 = Scenario(
    id="R3",
    title="a page is freed while its pageblock is stolen: it ends on the list of the old type",
    story="""
    CPU0 frees two pages and reads the type of their pageblock: movable. It doesn't hold zone->lock yet.
    CPU1 wants an unmovable page, finds none, and steals the whole pageblock, which is unmovable from now on.
    CPU0 gets the lock and puts its pages on the movable list.
    The next movable request is served out of an unmovable block: fragmentation that no counter shows.
    5.10 lives with it; since 6.10 the type is read under the lock.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(1, order=1),), "cpu1": (alloc(0, order=1, gfp=GFP_KERNEL),)},
    invariants=(*SOUND, lists_match),
    setup=last_movable_block,
    commits=(Commit("55612e80e722", "mm: page_alloc: close migratetype race between freeing and stealing"),),
    status=OPEN,
    switch="R3",
    tags=("free lists", "migratetype", "zone lock"),
)


def two_reserved_blocks(w: World) -> None:
    """Two pageblocks are HIGHATOMIC: one with pages in slots 0 and 1 and the rest free, one that is all in use."""
    w.run(alloc(slot=0, order=1, gfp=MOVABLE))
    w.run(alloc(slot=1, order=1, gfp=MOVABLE))
    w.run(alloc(slot=2, order=9, gfp=MOVABLE))
    w.run(reserve(0))
    w.run(reserve(2))


R12 = Scenario(
    id="R12",
    title="the high-order atomic reserve is given back twice for one pageblock",
    story="""
    CPU0 frees pages of a reserved pageblock and reads its type: HIGHATOMIC. It doesn't hold zone->lock yet.
    CPU1 is about to fail and unreserves the block: 512 pages off nr_reserved_highatomic, and the block is movable.
    CPU0 puts its pages on the HIGHATOMIC list all the same.
    CPU1, still short, unreserves again, meets those pages, and takes another 512 off for the same block.
    The watermark check believes that nothing is reserved while a block still is (4855e4a7f29d looks at the type again).
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0, order=1),), "cpu1": (unreserve(), unreserve())},
    invariants=(*SOUND, highatomic_counted),
    setup=two_reserved_blocks,
    commits=(
        Commit("4855e4a7f29d", "mm: prevent double decrease of nr_reserved_highatomic"),
        Commit("29fac03bef72", "mm: make unreserve highatomic functions reliable"),
    ),
    switch="R12",
    preemptions=2,
    tags=("free lists", "migratetype", "highatomic", "zone lock"),
)

SCENARIOS = (R3, R12)
