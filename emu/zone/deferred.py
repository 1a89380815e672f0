"""Deferred struct pages: a zone that grows when it is needed (``mm/page_alloc.c:deferred_grow_zone() (5.10)``)."""

from emu.zone.buddy import FPI_TO_TAIL, __free_one_page
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mmzone import MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_MOVABLE, Cpu, Machine, Zone
from emu.zone.pageblock import init_head
from shm.core import core
from shm.point import site

PAGES_PER_SECTION = 1 << 15
S_GROW = site("deferred_grow_zone:lock")


@core(cold=True)
def deferred_grow_zone(m: Machine, cpu: Cpu, zone: Zone, order: int) -> bool:
    """Free the next sections of the zone's deferred pages, enough for ``order``. True if the zone grew.

    Differs from 5.10: the zone lock stands in for ``pgdat_resize_lock``, and all deferred pages are movable blocks of
    the largest order, as they are in memory that was never used.
    """
    needed = -(-(1 << order) // PAGES_PER_SECTION) * PAGES_PER_SECTION
    flags = spin_lock_irqsave(cpu, zone.lock, S_GROW)
    grown = 0
    while grown < needed and zone.first_deferred_pfn != 0:
        pfn = zone.first_deferred_pfn
        init_head(m, zone, pfn)
        __free_one_page(m, cpu, pfn, zone, MAX_ORDER - 1, MIGRATE_MOVABLE, FPI_TO_TAIL)
        grown += MAX_ORDER_NR_PAGES
        zone.managed_pages += MAX_ORDER_NR_PAGES
        pfn += MAX_ORDER_NR_PAGES
        zone.first_deferred_pfn = pfn if pfn < zone.deferred_end_pfn else 0
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    return grown > 0
