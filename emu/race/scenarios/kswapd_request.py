"""Races for what kswapd is asked to do (``mm/vmscan.c`` (5.10))."""

from emu.race.invariants_reclaim import request_kept, request_served
from emu.race.ops_reclaim import wakeup
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.setups_reclaim import break_blocks
from emu.race.world import World

__all__ = ["SCENARIOS"]


def no_huge_block(w: World) -> None:
    """Half of the memory is free, no block of order 9 is; and kswapd is needed for a boost, quickly done."""
    break_blocks(w, 8)
    w.zone().watermark_boost = 100


R8 = Scenario(
    id="R8",
    title="kswapd's request is read, then reset: what is asked for in between is lost",
    story="""
    kswapd is woken for an order-0 request. It reads kswapd_order (0)...
    ...CPU1 asks for order 9: writes kswapd_order = 9, and needn't wake kswapd, which is up...
    ...kswapd writes kswapd_order = 0, for the next request to start from nothing.
    It balances the node for order 0 and goes to sleep; for order 9 it never worked.
    A caller that tries again asks again. One that asks once (GFP_ATOMIC, a huge page) waits for somebody else's luck.
    """,
    shape=small(),
    programs={"cpu0": (wakeup(order=0),), "cpu1": (wakeup(order=9),), "kswapd0": ()},
    invariants=(request_served,),
    setup=no_huge_block,
    commits=(
        Commit("5644e1fbbfe1", "mm/vmscan.c: fix data races using kswapd_classzone_idx"),
        Commit("e716f2eb24de", "mm, vmscan: prevent kswapd sleeping prematurely due to mismatched classzone_idx"),
        Commit("dffcac2cb88e", "mm/vmscan.c: prevent useless kswapd loops"),
    ),
    status=OPEN,
    switch="R8",
    bound=2,
    trace=True,
    tags=("kswapd", "lost update"),
)

R8B = Scenario(
    id="R8b",
    title="two CPUs raise kswapd_order: the smaller order is written last",
    story="""
    kswapd is up; its next request is still empty.
    CPU0 asks for order 3: it reads kswapd_order (0), which is less...
    ...CPU1 asks for order 9: it reads 0 too, and writes 9...
    ...CPU0 writes 3.
    kswapd will work for order 3. To compare and write in one step is what either lacks.
    """,
    shape=small(),
    programs={"cpu0": (wakeup(order=3),), "cpu1": (wakeup(order=9),)},
    invariants=(request_kept,),
    commits=R8.commits,
    status=OPEN,
    switch="R8",
    tags=("kswapd", "lost update"),
)

SCENARIOS = (R8, R8B)
