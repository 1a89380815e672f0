"""A race of your own: a machine, a program for each CPU, what must hold. Data only, so nothing is compiled for it.

``emu race run examples/lost_page.py`` looks for a schedule that fails; docs/race.md goes through it.
"""

from emu.race.invariants_pages import SOUND
from emu.race.ops_pages import alloc, free, put, try_get
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import GFP_KERNEL


def four_pages(w: World) -> None:
    """Slot 0 has a block of four pages; slot 1 points to the first of them, as a page cache would."""
    w.run(alloc(slot=0, order=2, gfp=GFP_KERNEL))
    w.area.slots[1] = w.area.slots[0]


LOST_PAGE = Scenario(
    id="LOST_PAGE",
    title="who frees a block of four pages while others look at the first?",
    story="""
    CPU0 allocates a page, and frees a block of four that it has the only reference to.
    CPU1 and CPU2 look the block's first page up without a lock, as get_user_pages_fast() does: they take a reference
    if there is one left, see that it is the wrong page, and drop it again.
    Whoever drops the last reference frees the page. How many pages does it free?
    """,
    shape=small(cpus=3),
    tuning=Tuning(min_free_kbytes=0, watermark_boost_factor=0),
    programs={
        "cpu0": (alloc(2), free(0, order=2)),
        "cpu1": (try_get(pointer=1, slot=3), put(3)),
        "cpu2": (try_get(pointer=1, slot=4), put(4)),
    },
    invariants=SOUND,  # each page in one place, counters and lists agree
    setup=four_pages,
    commits=(Commit("e320d3012d25", "mm/page_alloc.c: fix freeing non-compound pages", "V*"),),
    switch="R16",  # the variant of the model without that fix
    bound=2,  # where schedules are played one by one (--jobs), those of three CPUs are too many
)

SCENARIOS = (LOST_PAGE,)
