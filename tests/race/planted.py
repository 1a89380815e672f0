"""Scenarios with a planted race, so that tests of the tools around them don't depend on the catalogue."""

from emu.race.invariants_pages import SOUND, highatomic_counted, mlock_counted
from emu.race.ops_pages import alloc, count, free, pagelist_fraction, reserve, unreserve
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE

MOVABLE = GFP_HIGHUSER_MOVABLE
QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)


def one_page(w: World) -> None:
    """Slot 0 has a page."""
    w.run(alloc(slot=0, gfp=MOVABLE))


LOOP = Scenario(
    id="LOOP",
    title="a free that never ends",
    story="""
    CPU0 frees a page by the old sizes.
    CPU1 changes the sizes <meanwhile> & CPU0 goes on by the new ones.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0),), "cpu1": (pagelist_fraction(8),)},
    invariants=SOUND,
    setup=one_page,
    commits=(Commit("88e8ac11d2ea", "mm, page_alloc: fix core hung in free_pcppages_bulk()"),),
    switch="R13",
    kind="livelock",
)
"""One preemption."""


def two_reserved_blocks(w: World) -> None:
    """Two pageblocks are HIGHATOMIC: one with pages in slots 0 and 1 and the rest free, one that is all in use."""
    for slot, order in ((0, 1), (1, 1), (2, 9)):
        w.run(alloc(slot=slot, order=order, gfp=MOVABLE))
    w.run(reserve(0))
    w.run(reserve(2))


TWICE = Scenario(
    id="TWICE",
    title="a reserve is given back twice",
    story="""
    CPU2 and the second operation of CPU0 have nothing to do with it.
    """,
    shape=small(cpus=3),
    tuning=QUIET,
    programs={"cpu0": (free(0, order=1), free(5)), "cpu1": (unreserve(), unreserve()), "cpu2": (free(6),)},
    invariants=(*SOUND, highatomic_counted),
    setup=two_reserved_blocks,
    switch="R12",
    preemptions=2,
)
"""Two preemptions, and something to be taken away."""


COUNTED = Scenario(
    id="COUNTED",
    title="an interrupt's count is lost",
    story="""
    CPU0 reads its counter, an interrupt adds one, CPU0 writes what it has read and one more.
    """,
    shape=small(cpus=1),
    tuning=QUIET,
    programs={"cpu0": (count(1),)},
    irqs={"cpu0": ((count(1),),)},
    invariants=(*SOUND, mlock_counted),
    switch="R33",
)
"""An interrupt."""

LARGE = Scenario(
    id="LARGE",
    title="nothing goes wrong, in more schedules than anybody can play",
    story="""
    Four CPUs allocate and free.
    """,
    shape=small(cpus=4),
    tuning=QUIET,
    programs={f"cpu{i}": (alloc(i, order=1), free(i, order=1)) for i in range(4)},
    invariants=SOUND,
)
"""No switch."""

SCENARIOS = (LOOP, TWICE, COUNTED, LARGE)
