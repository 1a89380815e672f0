"""The highatomic reserve and single pages (``mm/page_alloc.c`` (5.10)): no races, but found by the same invariants."""

from emu.race.invariants_tasks import nobody_goes_below_min, reserve_is_there_to_be_used
from emu.race.ops_pages import alloc
from emu.race.ops_tasks import request, take
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_NOWARN, GFP_ATOMIC, GFP_NOWAIT
from emu.zone.mmzone import WMARK_LOW

__all__ = ["SCENARIOS"]

TUNING = Tuning(watermark_boost_factor=0)
RESERVED = 512 - 2 - 128  # what is left of the reserve


def little_left_but_the_reserve(w: World, others: int) -> None:
    """A pageblock is reserved, a part of it in use; of all other memory so many pages are free."""
    zone = w.zone()
    low, zone.watermark[WMARK_LOW] = zone.watermark[WMARK_LOW], zone.managed_pages  # the fast path reserves nothing
    w.run_all([alloc(slot=0, order=1, gfp=GFP_ATOMIC), alloc(slot=1, order=7, gfp=GFP_ATOMIC)])
    zone.watermark[WMARK_LOW] = low
    w.run(take(node=0, leave=RESERVED + others))
    w.vm().slow_stat.measured = 1


def twenty_pages_left(w: World) -> None:
    """Of the memory that is not reserved."""
    little_left_but_the_reserve(w, 20)


R37 = Scenario(
    id="R37",
    title="less is free than is reserved for atomic requests: the watermark lets everybody pass",
    story="""
    A pageblock is reserved for atomic requests, and partly used by them. Beside it 20 pages are free; min is 90.
    What anybody else may count on is what is free less the size of the reserve: a negative number.
    zone_watermark_fast() compares it with the watermark as an unsigned number, so that it is larger.
    A request that may not touch the last 90 pages takes one of the 20.
    The fix counts no more pages as reserved than are free.
    """,
    shape=small(cpus=1),
    tuning=TUNING,
    programs={"cpu0": (request(slot=2, gfp=GFP_NOWAIT | __GFP_NOWARN),)},
    invariants=(nobody_goes_below_min,),
    setup=twenty_pages_left,
    commits=(
        Commit("9282012fc0aa", "page_alloc: fix invalid watermark check on a negative value", "V*"),
        Commit("f27ce0e14088", "page_alloc: consider highatomic reserve in watermark fast", "M"),
    ),
    switch="R37",
    preemptions=0,
    tags=("watermark", "highatomic"),
)


def only_the_reserve_left(w: World) -> None:
    """Everything else is taken."""
    little_left_but_the_reserve(w, 0)


R38 = Scenario(
    id="R38",
    title="an atomic request for one page fails, since the reserve for atomic requests has larger blocks to give only",
    story="""
    A pageblock is reserved for atomic requests; all that is free is in it.
    An atomic request for a single page passes the watermark: it may count on the reserve.
    Single pages come from the pcp lists, and those are filled from the lists of all types but this one.
    It fails, with hundreds of pages free that are kept for requests like it.
    Later kernels give it one: a failure now is worse than one of a larger request some other time.
    """,
    shape=small(cpus=1),
    tuning=TUNING,
    programs={"cpu0": (request(slot=2, gfp=GFP_ATOMIC | __GFP_NOWARN),)},
    invariants=(reserve_is_there_to_be_used,),
    setup=only_the_reserve_left,
    commits=(Commit("281dd25c1a01", "mm/page_alloc: let GFP_ATOMIC order-0 allocs access highatomic reserves"),),
    status=OPEN,
    switch="R38",
    preemptions=0,
    tags=("atomic", "highatomic"),
)

SCENARIOS = (R37, R38)
