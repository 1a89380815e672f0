"""Races of waking kswapd, and of there being one (``mm/page_alloc.c``, ``mm/vmscan.c``, ``mm/compaction.c`` (5.10))."""

from emu.race.invariants_reclaim import no_null_deref
from emu.race.ops_pages import alloc
from emu.race.ops_reclaim import kcompactd_looks, pi_alloc, stop_kswapd
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.setups_reclaim import break_blocks, kswapd_sleeps
from emu.race.world import World
from emu.zone.deviations import R11 as R11_REMEDY
from emu.zone.gfp import __GFP_HIGH, __GFP_HIGHMEM, __GFP_MOVABLE, __GFP_NOWARN, GFP_KERNEL
from emu.zone.mmzone import ZONE_DMA32

__all__ = ["SCENARIOS"]

POOL = __GFP_HIGH | __GFP_NOWARN | __GFP_HIGHMEM | __GFP_MOVABLE  # debug objects': nothing that sleeps or wakes


def movable_only(w: World) -> None:
    """All pageblocks are movable and partly used, so that the first request of another type steals one."""
    break_blocks(w, 7)
    kswapd_sleeps(w)


def movable_only_and_r11(w: World) -> None:
    """The same, and who mustn't wake kswapd doesn't do it for others: that is a race of its own."""
    movable_only(w)
    w.m.deviations |= R11_REMEDY


R10 = Scenario(
    id="R10",
    title="kswapd is woken under zone->lock: lock inversion",
    story="""
    CPU1 is in the scheduler, with kswapd's pi_lock held...
    ...CPU0 steals a pageblock, under zone->lock, and wakes kswapd for the boost: it waits for pi_lock...
    ...CPU1 needs memory for a debug object: it waits for zone->lock.
    Neither lets go.
    The fix remembers the wake-up in ZONE_BOOSTED_WATERMARK until zone->lock is given back.
    """,
    shape=small(zid=ZONE_DMA32),
    programs={"cpu0": (alloc(slot=20, gfp=GFP_KERNEL),), "cpu1": (pi_alloc(slot=21, order=1, gfp=POOL),)},
    invariants=(),
    setup=movable_only_and_r11,
    commits=(
        Commit("1c30844d2dfe", "mm: reclaim small amounts of memory when an external fragmentation event occurs"),
        Commit("73444bc4d8f9", "mm, page_alloc: do not wake kswapd with zone lock held"),
    ),
    switch="R10",
    kind="deadlock",
    tags=("locks", "kswapd", "watermark boost"),
)

R11 = Scenario(
    id="R11",
    title="rmqueue wakes kswapd for another CPU's boost, from a caller that mustn't",
    story="""
    CPU0 steals a pageblock and sets ZONE_BOOSTED_WATERMARK; it gives zone->lock back, to wake kswapd next...
    ...CPU1 is in the scheduler, with kswapd's pi_lock held, and allocates without __GFP_KSWAPD_RECLAIM.
    rmqueue() finds the zone's flag set. That it is CPU0's it can't know; it wakes kswapd.
    try_to_wake_up() takes kswapd's pi_lock, which CPU1 has: it waits for itself.
    The fix asks whether the caller may wake kswapd before it looks at the flag.
    """,
    shape=small(zid=ZONE_DMA32),
    programs=R10.programs,
    invariants=(),
    setup=movable_only,
    commits=(
        Commit("3b11edf1f239",
               "mm/page_alloc: don't wake kswapd from rmqueue() unless __GFP_KSWAPD_RECLAIM is specified"),
        Commit("eb799279fb1f", "debugobjects: Don't wake up kswapd from fill_pool()", "S"),
    ),
    status=OPEN,
    switch="R11",
    kind="deadlock",
    tags=("locks", "kswapd", "watermark boost"),
)  # fmt: skip

R20 = Scenario(
    id="R20",
    title="kswapd is stopped while kcompactd asks whether it runs",
    story="""
    A node's last memory goes offline, on CPU0. kcompactd hasn't been stopped yet.
    It asks whether kswapd runs: pgdat->kswapd isn't NULL...
    ...kswapd_stop() has kswapd exit, and clears pgdat->kswapd...
    ...kcompactd follows the pointer to see its task's state.
    The fix puts both under a lock of their own.
    """,
    shape=small(),
    programs={"cpu0": (stop_kswapd(),), "cpu1": (kcompactd_looks(),)},
    invariants=(no_null_deref,),
    commits=(Commit("b4a0215e11dc", "mm: fix null-ptr-deref in kswapd_is_running()"),),
    status=OPEN,
    switch="R20",
    tags=("hotplug", "kcompactd", "kswapd"),
)

SCENARIOS = (R10, R11, R20)
