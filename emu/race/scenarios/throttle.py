"""Races of throttled direct reclaimers with kswapd (``mm/vmscan.c`` (5.10))."""

from emu.race.ops_reclaim import killed_throttled, wakeup
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World

__all__ = ["SCENARIOS"]


def boosted(w: World) -> None:
    """kswapd is needed for a boost, quickly done."""
    w.zone().watermark_boost = 100


R25 = Scenario(
    id="R25",
    title="kswapd can't sleep before a throttled task has left the queue, nor can the task before kswapd sleeps",
    story="""
    A task is throttled, and killed while it waits (CPU1). It would leave the queue if it got a processor...
    ...the only one that it may run on is kswapd's, and the kernel isn't preemptible.
    kswapd has nothing to do. Before it sleeps it wakes who is throttled, and stays up as long as somebody is.
    The task can't be woken: it is awake. kswapd looks again, and again.
    The fix wakes them all and doesn't wait for them to go.
    """,
    shape=small(),
    programs={"cpu0": (wakeup(order=0),), "cpu1": (killed_throttled(),), "kswapd0": ()},
    invariants=(),
    setup=boosted,
    commits=(
        Commit("5515061d22f0", "mm: throttle direct reclaimers if PF_MEMALLOC reserves are low and swap is backed by "
                               "network storage"),
        Commit("9e5e3661727e", "mm, vmscan: prevent kswapd livelock due to pfmemalloc-throttled process being killed",
               "S"),
    ),
    switch="R25",
    kind="livelock",
    preemptions=0,
    tags=("kswapd", "throttling"),
)  # fmt: skip

SCENARIOS = (R25,)
