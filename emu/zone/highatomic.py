"""Pageblocks kept for high-order atomic requests (``mm/page_alloc.c`` (5.10))."""

from emu.zone.buddy import get_page_from_free_area
from emu.zone.deviations import R12, deviates
from emu.zone.fallback import move_freepages_block
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, PAGEBLOCK_NR_PAGES, Cpu, Machine, Zone, zone_at,
)  # fmt: skip
from emu.zone.page import NULL
from emu.zone.pageblock import get_pfnblock_migratetype, set_pageblock_migratetype
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.core import core
from shm.point import point, site

S_RESERVE = site("reserve_highatomic_pageblock:lock")
S_RESERVE_READ = site("reserve_highatomic_pageblock:read nr_reserved_highatomic")
S_UNRESERVE = site("unreserve_highatomic_pageblock:lock")


@core(cold=True)
def reserve_highatomic_pageblock(m: Machine, cpu: Cpu, pfn: int, zone: Zone) -> None:
    """``mm/page_alloc.c:reserve_highatomic_pageblock() (5.10)``: up to 1 % of the zone and one block more.

    The first look at the limit is without the lock; it is taken again under it.
    """
    max_managed = zone.managed_pages // 100 + PAGEBLOCK_NR_PAGES
    point(cpu.party, S_RESERVE_READ)
    if zone.nr_reserved_highatomic >= max_managed:
        return
    flags = spin_lock_irqsave(cpu, zone.lock, S_RESERVE)
    if zone.nr_reserved_highatomic < max_managed:
        mt = get_pfnblock_migratetype(m, pfn)
        if mt != MIGRATE_HIGHATOMIC and mt != MIGRATE_ISOLATE and mt != MIGRATE_CMA:
            zone.nr_reserved_highatomic += PAGEBLOCK_NR_PAGES
            set_pageblock_migratetype(m, pfn, MIGRATE_HIGHATOMIC)
            move_freepages_block(m, zone, pfn, MIGRATE_HIGHATOMIC)
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core(cold=True)
def unreserve_in_zone(m: Machine, cpu: Cpu, zone: Zone, migratetype: int) -> bool:
    """One zone of :func:`unreserve_highatomic_pageblock`, under its lock."""
    for order in range(MAX_ORDER):
        pfn = get_page_from_free_area(m, zone, order, MIGRATE_HIGHATOMIC)
        if pfn == NULL:
            continue
        # several free pages of a block may be met after its type has changed: account once, and never below zero.
        # Race R12: without the test (4855e4a7f29d) a page that came late to this list has its block counted twice
        if get_pfnblock_migratetype(m, pfn) == MIGRATE_HIGHATOMIC or deviates(m, R12):
            zone.nr_reserved_highatomic -= min(PAGEBLOCK_NR_PAGES, zone.nr_reserved_highatomic)
        set_pageblock_migratetype(m, pfn, migratetype)
        if move_freepages_block(m, zone, pfn, migratetype) & 0xFFFFFFFF != 0:
            return True
    return False


@core(cold=True)
def unreserve_highatomic_pageblock(m: Machine, cpu: Cpu, ac: AllocContext, force: int) -> bool:
    """``mm/page_alloc.c:unreserve_highatomic_pageblock() (5.10)``: give one block back before reclaim gives up.

    Keeps at least one block per zone unless ``force``.
    """
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        if force != 0 or zone.nr_reserved_highatomic > PAGEBLOCK_NR_PAGES:
            flags = spin_lock_irqsave(cpu, zone.lock, S_UNRESERVE)
            done = unreserve_in_zone(m, cpu, zone, ac.migratetype)
            spin_unlock_irqrestore(m, cpu, zone.lock, flags)
            if done:
                return True
        z = next_zones_zonelist(m, cpu, ac, z + 1)
    return False
