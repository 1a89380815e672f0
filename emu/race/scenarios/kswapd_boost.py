"""Races of watermark boosts: who sets them, who takes them back (``mm/page_alloc.c``, ``mm/vmscan.c`` (5.10))."""

from emu.race.invariants_reclaim import boost_announced, no_boost_asleep
from emu.race.ops_pages import alloc
from emu.race.scenario import OPEN, PLANTED, Commit, Scenario, small
from emu.race.setups_reclaim import break_blocks
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_RECLAIMABLE, GFP_KERNEL
from emu.zone.mmzone import ZONE_DMA32

__all__ = ["SCENARIOS"]

# a boost may be more than one pageblock. (In ZONE_DMA32 the first try doesn't keep away from other types' pageblocks.)
ROOM_FOR_BOOSTS = Tuning(min_free_kbytes=64, watermark_boost_factor=600000)


def movable_only(w: World) -> None:
    """All pageblocks are movable and partly used."""
    break_blocks(w, 7)


R9 = Scenario(
    id="R9",
    title="a boost set after kswapd has looked at the boosts stays for good",
    story="""
    CPU0 steals a pageblock: the watermark is boosted, and kswapd woken to reclaim for it.
    kswapd notes the boosts that it finds, to take them back when it is done...
    ...CPU1 steals another block and adds to the boost; it needn't wake kswapd, which is up.
    kswapd takes back what it noted. The node is balanced, even with the rest of the boost: it sleeps.
    The watermarks stay raised until something else wakes it.
    """,
    shape=small(zid=ZONE_DMA32),
    tuning=ROOM_FOR_BOOSTS,
    programs={
        "cpu0": (alloc(slot=20, gfp=GFP_KERNEL),),
        "cpu1": (alloc(slot=21, gfp=GFP_KERNEL | __GFP_RECLAIMABLE),),
        "kswapd0": (),
    },
    invariants=(no_boost_asleep,),
    setup=movable_only,
    commits=(
        Commit("1c30844d2dfe", "mm: reclaim small amounts of memory when an external fragmentation event occurs"),
    ),
    status=OPEN,
    switch="R9",
    bound=2,
    tags=("kswapd", "watermark boost"),
)

R9B = Scenario(
    id="R9b",
    title="if ZONE_BOOSTED_WATERMARK were cleared after kswapd is woken, not before",
    story="""
    CPU0 steals a pageblock, sets ZONE_BOOSTED_WATERMARK and, the zone lock given back, wakes kswapd...
    ...kswapd notes the boost and takes it back...
    ...CPU1 steals another block and sets the flag, which is still set...
    ...CPU0 clears the flag, which was CPU1's. CPU1 finds it clear: somebody else wakes kswapd, it seems. Nobody does.
    Cleared first, a flag that is set from then on is seen by whoever set it. Test and clear needn't be one step.
    """,
    shape=small(zid=ZONE_DMA32),
    tuning=ROOM_FOR_BOOSTS,
    programs=R9.programs,
    invariants=(boost_announced,),
    setup=movable_only,
    commits=(Commit("73444bc4d8f9", "mm, page_alloc: do not wake kswapd with zone lock held"),),
    status=PLANTED,
    switch="R9b",
    bound=2,
    preemptions=2,
    tags=("kswapd", "watermark boost", "lost wake-up"),
)

SCENARIOS = (R9, R9B)
