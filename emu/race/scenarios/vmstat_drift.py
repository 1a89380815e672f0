"""Races of counters that lag behind, per-cpu differentials, with watermarks (``mm/vmstat.c`` (5.10))."""

from emu.race.invariants_reclaim import kswapd_woken, min_watermark, pressure_thresholds
from emu.race.ops_pages import alloc, free
from emu.race.ops_reclaim import pressure, thresholds, wakeup
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.setups_reclaim import kswapd_sleeps, leave_free, set_threshold
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE, GFP_KERNEL

__all__ = ["SCENARIOS"]

MIN_32 = Tuning(min_free_kbytes=128)  # watermarks of 32, 40 and 48 pages
DRIFT = (
    Commit("aa45484031dd", "mm: page allocator: calculate a better estimate of NR_FREE_PAGES when memory is low and "
                           "kswapd is awake"),
    Commit("72853e2991a2",
           "mm: page allocator: update free page counters after pages have been placed on the free list"),
    Commit("88f5acf88ae6", "mm: page allocator: adjust the per-cpu counter threshold when memory is low"),
)  # fmt: skip


def above_high(w: World) -> None:
    """70 pages are free; kswapd sleeps."""
    leave_free(w, 70)
    set_threshold(w, 32)
    kswapd_sleeps(w)


def taken_under_pressure(w: World) -> None:
    """kswapd is up when CPU0 takes 32 of 69 free pages, the last of them to the min watermark and a bit."""
    leave_free(w, 69)
    set_threshold(w, 32)
    w.run(pressure(on=1))
    w.run_all([alloc(slot=40 + i, order=4, gfp=GFP_HIGHUSER_MOVABLE) for i in range(2)])


R1 = Scenario(
    id="R1",
    title="NR_FREE_PAGES lags behind: a node that needs kswapd passes for balanced",
    story="""
    Each CPU counts what it takes in a differential of its own, and tells the zone now and then.
    CPU0 and CPU1 take 16 pages each: 38 are left, less than the low watermark. The zone's counter still says 70.
    They call kswapd. It is let sleep on: 70 is more than the high watermark.
    So it goes on, until nothing is free and the counter is still above min.
    Near the watermarks the differentials have to be added up (zone_watermark_ok_safe()).
    """,
    shape=small(),
    tuning=MIN_32,
    programs={
        f"cpu{i}": (alloc(slot=i, order=4, gfp=GFP_HIGHUSER_MOVABLE), wakeup(order=0)) for i in range(2)
    },
    invariants=(kswapd_woken,),
    setup=above_high,
    commits=DRIFT,
    switch="R1",
    bound=2,
    preemptions=0,
    tags=("vmstat", "kswapd", "watermarks"),
)  # fmt: skip

R1C = Scenario(
    id="R1c",
    title="counters drift past the min watermark while kswapd is awake",
    story="""
    Memory is short, and kswapd awake. 37 pages are free; the min watermark is 32.
    CPU0 has taken 32 pages and hasn't told: its threshold is that of quiet times. The zone's counter says 69.
    CPU0 and CPU1 want 8 pages each. Nobody let them below min, but the counter does.
    What is kept for those who free memory is gone.
    While kswapd is awake thresholds are so low that drift is no more than low - min (set_pgdat_percpu_threshold()).
    """,
    shape=small(),
    tuning=MIN_32,
    programs={f"cpu{i}": (alloc(slot=i, order=3, gfp=__GFP_NOWARN),) for i in range(2)},
    invariants=(min_watermark,),
    setup=taken_under_pressure,
    commits=DRIFT,
    switch="R1",
    bound=2,
    preemptions=0,
    tags=("vmstat", "kswapd", "watermarks"),
)


def drift_and_boost(w: World) -> None:
    """Counters may drift beyond low - min; kswapd sleeps, and is needed for a boost, quickly done."""
    w.zone().watermark_boost = 100


R22 = Scenario(
    id="R22",
    title="thresholds are made anew while kswapd has lowered them",
    story="""
    kswapd wakes up and lowers the thresholds of all per-cpu counters, so that drift can't hide a breach of min.
    CPU1 goes offline (or memory does): refresh_zone_stat_thresholds() works them out anew...
    ...the normal ones, whoever has lowered them.
    kswapd goes on reclaiming, by counters that drift as if nothing were the matter.
    It lasts until its next sleep, which under steady pressure doesn't come.
    """,
    shape=small(),
    tuning=Tuning(min_free_kbytes=32),
    programs={"cpu0": (wakeup(order=0),), "cpu1": (thresholds(),), "kswapd0": ()},
    invariants=(pressure_thresholds,),
    setup=drift_and_boost,
    commits=(DRIFT[2],),
    status=OPEN,
    switch="R22",
    preemptions=0,
    tags=("vmstat", "kswapd", "hotplug"),
)


def freed_and_not_told(w: World) -> None:
    """45 pages are free as far as the zone's counter knows; CPU1 has freed 112 more and sleeps."""
    w.run_all([alloc(slot=50 + i, order=order, gfp=GFP_HIGHUSER_MOVABLE) for i, order in enumerate((6, 5, 4))])
    leave_free(w, 45)
    set_threshold(w, 125)
    w.run_all([free(slot=50 + i, order=order) for i, order in enumerate((6, 5, 4))], cpu=1)


R1B = Scenario(
    id="R1b",
    title="a throttled task and kswapd wake each other for ever",
    story="""
    CPU1 has freed 112 pages, hasn't told the zone, and sleeps. The zone's counter says 45; half of min is 48.
    A task on CPU0 would reclaim, but is throttled by that counter: it wakes kswapd and sleeps.
    kswapd adds up the differentials as well: 157 pages are free, the node is balanced.
    It wakes whoever is throttled and goes to sleep. The task looks at the counter again: 45. It wakes kswapd...
    Both must ask the same: with the differentials (zone_page_state_snapshot()).
    """,
    shape=small(),
    tuning=Tuning(min_free_kbytes=384),  # watermarks of 96, 120 and 144 pages
    programs={"cpu0": (alloc(slot=0, gfp=GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN),), "kswapd0": ()},
    invariants=(),
    setup=freed_and_not_told,
    commits=(Commit("501b26510ae3", "vmstat: allow_direct_reclaim should use zone_page_state_snapshot"),),
    status=OPEN,
    switch="R1b",
    kind="livelock",
    bound=2,
    preemptions=0,
    tags=("vmstat", "kswapd", "throttling"),
)

SCENARIOS = (R1, R1B, R1C, R22)
