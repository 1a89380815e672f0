"""Races with the zonelists being rebuilt (``mm/page_alloc.c:__build_all_zonelists() (5.10)``)."""

from emu.race.invariants_tasks import failed_needlessly
from emu.race.ops_pages import alloc
from emu.race.ops_tasks import offline, request, take
from emu.race.scenario import Commit, Scenario
from emu.race.world import World
from emu.zone.boot import Shape, Tuning, ZoneShape
from emu.zone.gfp import __GFP_NOWARN, GFP_ATOMIC, GFP_NOWAIT
from emu.zone.mmzone import WMARK_LOW, WMARK_MIN, ZONE_MOVABLE, ZONE_NORMAL

__all__ = ["SCENARIOS"]

NORMAL = ZoneShape(0, ZONE_NORMAL, 0, 2048, 2048, 2048)
MOVABLE = ZoneShape(0, ZONE_MOVABLE, 2048, 1024, 1024, 1024)

TUNING = Tuning(watermark_boost_factor=0, watermark_scale_factor=500)  # min and low are far apart


def movable_zone(cpus: int) -> Shape:
    """A node whose zonelist is Movable, Normal; the Movable zone can go offline as a whole."""
    return Shape((0,) * cpus, (NORMAL, MOVABLE), 1, files=2, mms=2, memory_block=1024)


def below_low(w: World) -> None:
    """Normal has too little for the fast path, and enough for the slow path."""
    zone = w.zone()
    w.run(take(node=0, leave=(zone.watermark[WMARK_MIN] + zone.watermark[WMARK_LOW]) // 2))


R6 = Scenario(
    id="R6",
    title="build_all_zonelists against an allocation: it fails although its zone has memory",
    story="""
    The node's zonelist is Movable, Normal, end. A kernel allocation begins at its second entry: Normal.
    The last memory of the Movable zone goes offline; the list is written anew, in place: Normal, end.
    The allocation looks at the second entry, where the end is now, and takes it that there is no memory anywhere.
    It fails, or kills somebody.
    With zonelist_update_seq it sees that the lists have changed since it began, and begins again.
    """,
    shape=movable_zone(2),
    tuning=TUNING,
    programs={"cpu0": (request(gfp=GFP_NOWAIT | __GFP_NOWARN),), "cpu1": (offline(start=2048, pages=1024),)},
    invariants=(failed_needlessly,),
    setup=below_low,
    commits=(
        Commit(
            "3d36424b3b58", "mm/page_alloc: fix race condition between build_all_zonelists and page allocation", "V*"
        ),
        Commit("11cd8638c37f", "mm, page_alloc: remove stop_machine from build_all_zonelists"),
    ),
    switch="R6",
    bound=2,
    tags=("hotplug", "zonelist", "slow path"),
)

R7 = Scenario(
    id="R7",
    title="an interrupt waits for the zonelists that the task under it is rebuilding",
    story="""
    A task takes zonelist_update_seq for writing (it is odd now) and begins to rewrite the zonelists.
    An interrupt comes in on the same CPU and allocates; memory is low, so that it takes the slow path.
    That waits until the sequence is even.
    The task can't go on before the interrupt is over: the CPU is dead.
    With interrupts off before the sequence becomes odd there is no such interrupt.
    """,
    shape=movable_zone(1),
    tuning=TUNING,
    programs={"cpu0": (offline(start=2048, pages=1024),)},
    irqs={"cpu0": ((alloc(slot=1, gfp=GFP_ATOMIC | __GFP_NOWARN),),)},
    invariants=(),
    setup=below_low,
    commits=(
        Commit("1007843a9190", "mm/page_alloc: fix potential deadlock on zonelist_update_seq seqlock", "V*"),
        Commit(
            "3d36424b3b58", "mm/page_alloc: fix race condition between build_all_zonelists and page allocation", "V*"
        ),
    ),
    switch="R7",
    kind="deadlock",
    tags=("hotplug", "zonelist", "interrupt"),
)

SCENARIOS = (R6, R7)
