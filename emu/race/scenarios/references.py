"""Races of a page's reference count: who drops the last one frees (``mm/page_alloc.c:__free_pages()`` (5.10))."""

from emu.race.invariants_pages import SOUND
from emu.race.ops_pages import alloc, free, put, try_get
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_COMP, GFP_KERNEL

__all__ = ["SCENARIOS"]

QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)


def two_pages(w: World) -> None:
    """Slot 0 has two pages, slot 2 points to the first of them. What is freed stays on the pcp lists."""
    w.run(alloc(slot=0, order=1, gfp=GFP_KERNEL))
    w.area.slots[2] = w.area.slots[0]
    w.pcp(batch=2, high=4)


def compound_page(w: World) -> None:
    """The same with a compound page."""
    w.run(alloc(slot=0, order=1, gfp=GFP_KERNEL | __GFP_COMP))
    w.area.slots[2] = w.area.slots[0]
    w.pcp(batch=2, high=4)


R16 = Scenario(
    id="R16",
    title="a speculative reference while a block of two pages is freed: the second page is lost",
    story="""
    CPU0 frees a block of two pages that is no compound page; it has the only reference, on the first page.
    CPU1 looks the page up without a lock (page cache, get_user_pages_fast) and takes a reference just before.
    CPU0 drops its reference. It isn't the last one, so CPU0 frees nothing.
    CPU1 sees that it is the wrong page and drops its own: the last, so it frees the page. One page: it knows no order.
    The fix has CPU0 free the rest of the block when the first page turns out to be somebody else's to free.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0, order=1),), "cpu1": (try_get(pointer=2, slot=1), put(1))},
    invariants=SOUND,
    setup=two_pages,
    commits=(Commit("e320d3012d25", "mm/page_alloc.c: fix freeing non-compound pages", "V*"),),
    switch="R16",
    tags=("refcount", "leak"),
)

R16B = Scenario(
    id="R16b",
    title="PageHead read after the reference is dropped: a compound page is freed twice",
    story="""
    CPU1 has taken a speculative reference on a compound page that CPU0 frees.
    CPU0 drops its reference: not the last. A compound page is freed as a whole by who drops the last one, so it asks
    whether this is one; but before that, CPU1 drops the last reference and frees all of it.
    CPU0 finds a free page, which is no head, and frees "the rest of the block": pages that are free already.
    This was R16's own fix, and was met in production; the fix of the fix reads PageHead first.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (free(0, order=1),), "cpu1": (try_get(pointer=2, slot=1), put(1))},
    invariants=SOUND,
    setup=compound_page,
    commits=(Commit("462a8e08e0e6", "Fix page corruption caused by racy check in __free_pages", "V*"),),
    switch="R16b",
    preemptions=2,
    tags=("refcount", "double free", "compound page"),
)

SCENARIOS = (R16, R16B)
