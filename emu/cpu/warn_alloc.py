"""The report of a failed allocation (``mm/page_alloc.c:warn_alloc() (5.10.262)``)."""

from emu.zone.console import console_unlock
from emu.zone.event import EV_ALLOC_FAILURE, record
from emu.zone.gfp import __GFP_DMA, __GFP_NOWARN
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import NODEMASK_NONE, AllocContext
from emu.zone.mmzone import ZONE_DMA, Cpu, Machine
from emu.zone.ratelimit import ratelimit
from emu.zone.zonelist import nodemask_of
from shm.core import core


@core(cold=True)
def has_managed_dma(m: Machine) -> bool:
    """``mm/page_alloc.c:has_managed_dma() (5.10)``"""
    for nid in range(m.nr_nodes):
        if m.nodes[nid].node_zones[ZONE_DMA].managed_pages != 0:
            return True
    return False


@core(cold=True)
def warn_alloc(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> None:
    """``mm/page_alloc.c:warn_alloc() (5.10.262)``: one report in 10 s. Its text is made by whoever reads the ring.

    A request for DMA memory on a machine that has none is not worth a word.
    """
    if gfp_mask & __GFP_NOWARN != 0 or not ratelimit(cpu, vm_at(m, m.vm).nopage_rs):
        return
    if gfp_mask & __GFP_DMA != 0 and not has_managed_dma(m):
        return
    nodemask = nodemask_of(m, cpu, ac) if ac.nodemask_kind != NODEMASK_NONE else 0
    record(m, cpu, EV_ALLOC_FAILURE, -1, order, ac.migratetype, gfp_mask, nodemask, ac.highest_zoneidx)
    console_unlock(m, cpu)
