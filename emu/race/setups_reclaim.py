"""Memory in the state that races of reclaim begin with."""

from typing import TYPE_CHECKING

from emu.race.ops_pages import alloc, free
from emu.race.ops_reclaim import vmstat
from emu.zone.gfp import __GFP_HIGHMEM, __GFP_MEMALLOC, __GFP_MOVABLE, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE
from emu.zone.mmzone import PAGEBLOCK_ORDER

if TYPE_CHECKING:
    from emu.race.world import World

__all__ = ["LEAK", "TAKE", "break_blocks", "free_pages", "kswapd_sleeps", "leave_free", "set_threshold"]

LEAK = 63  # the slot of what nobody gives back
TAKE = __GFP_HIGHMEM | __GFP_MOVABLE | __GFP_MEMALLOC | __GFP_NOWARN  # whatever the watermarks say


def free_pages(w: "World", nid: int = 0) -> int:
    """Pages on a zone's free lists."""
    return sum(area.nr_free << order for order, area in enumerate(w.zone(nid).free_area))


def break_blocks(w: "World", order: int) -> None:
    """Of each pageblock one block of an order stays in use: no pageblock is free as a whole."""
    count = w.zone().managed_pages >> order
    each = 1 << (PAGEBLOCK_ORDER - order)
    for i in range(count - 1):
        w.run(alloc(slot=i, order=order, gfp=GFP_HIGHUSER_MOVABLE))
    for i in range(count - 1):
        if i % each:
            w.run(free(slot=i, order=order))


def leave_free(w: "World", pages: int) -> None:
    """Take what there is beyond that many pages, in the largest blocks that will do; all counters are exact then."""
    while (more := free_pages(w) - pages) > 0:
        order = min(more.bit_length() - 1, 10)
        while w.run(alloc(slot=LEAK, order=order, gfp=TAKE)) < 0:
            order -= 1
    for cpu in range(w.m.nr_cpus):
        w.run(vmstat(), cpu)


def set_threshold(w: "World", threshold: int) -> None:
    """How far each CPU's counters may drift, as on a machine with more CPUs and memory."""
    zone = w.zone()
    zone.percpu_drift_mark = zone.watermark[2] + w.m.nr_cpus * threshold
    for cpu in range(w.m.nr_parties):
        w.pageset(cpu).stat_threshold = threshold


def kswapd_sleeps(w: "World", nid: int = 0) -> None:
    """It stands in its wait queue and never runs: for races that end with its being woken."""
    w.node(nid).kswapd_wait.state += 1
