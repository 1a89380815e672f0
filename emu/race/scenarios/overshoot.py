"""A race of the watermark check with itself (``mm/page_alloc.c:get_page_from_freelist()`` (5.10))."""

from emu.race.invariants_pages import SOUND, overshoot_bounded, watermark_kept
from emu.race.ops_pages import GHOST_MOST, alloc
from emu.race.scenario import OPEN, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_MOVABLE, __GFP_NOWARN
from emu.zone.init import zones_of
from emu.zone.mmzone import NR_WMARK, Pageset
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.struct import address_of, record_at, size_of

__all__ = ["SCENARIOS"]

ASK = __GFP_MOVABLE | __GFP_NOWARN  # no reclaim, no reserves: yes or no
QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)


def counters_without_drift(w: World) -> None:
    """Nothing is kept in differentials, so that a check sees what is true."""
    for zone in zones_of(w.m):
        for i in range(w.m.nr_parties):
            pset = record_at(Pageset, address_of(w.m) + zone.pageset + i * size_of(Pageset))
            for item in range(len(pset.vm_stat_diff)):
                zone.vm_stat[item].counter += pset.vm_stat_diff[item]
                pset.vm_stat_diff[item] = 0
            pset.stat_threshold = 0


def room_for_one(w: World) -> None:
    """All watermarks are two pages below what is free."""
    w.run(alloc(slot=5, order=3, gfp=ASK))
    counters_without_drift(w)
    zone = w.zone()
    for i in range(NR_WMARK):
        zone.watermark[i] = zone.vm_stat[NR_FREE_PAGES].counter - 2
    w.area.ghost[GHOST_MOST] = 0


R24 = Scenario(
    id="R24",
    title="two CPUs pass the watermark with the same free pages: one of them takes from below it",
    story="""
    Two pages above the min watermark are left, and two CPUs want two pages each.
    Both look at the watermark, which needs no lock: two pages are there, so both may go on.
    One after the other they take zone->lock and their pages.
    The zone is below min, and nobody who did that had a right to the reserve.
    Nobody fixes this: N CPUs get no further than N blocks (or pcp batches) below, and min is meant to have room for it.
    """,
    shape=small(),
    tuning=QUIET,
    programs={"cpu0": (alloc(0, order=1, gfp=ASK),), "cpu1": (alloc(1, order=1, gfp=ASK),)},
    invariants=(*SOUND, watermark_kept, overshoot_bounded),
    setup=room_for_one,
    status=OPEN,
    switch="R24",
    tags=("watermark", "by design"),
)

SCENARIOS = (R24,)
