"""What the allocator has written down about a zone's pages, against the pages: by how much it is wrong."""

from emu.race.area import RaceArea
from emu.race.lists import length_of
from emu.race.ops_pages import GHOST_COUNTED, GHOST_MOST, NR_MLOCK, zone_of_node
from emu.zone.mmzone import (
    MAX_ORDER,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_PCPTYPES,
    MIGRATE_TYPES,
    PAGEBLOCK_NR_PAGES,
    PAGEBLOCK_ORDER,
    PAGESET_SIZE,
    WMARK_MIN,
    Machine,
    Zone,
    pageblock_record,
    pageset_at,
    zone_at,
)  # fmt: skip
from emu.zone.pageblock import PB_MIGRATE, PB_OFFLINE
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.core import core


@core
def listed_pages(m: Machine, zone: Zone) -> int:
    """Pages in free blocks that requests may get."""
    pages = 0
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            if mt != MIGRATE_ISOLATE:
                pages += length_of(m, zone.free_area[order].free_list[mt]) << order
    return pages


@core
def counter_total(m: Machine, zone: Zone, item: int) -> int:
    """A zone's counter with the differentials of all CPUs."""
    x = zone.vm_stat[item].counter
    for party in range(m.nr_parties):
        x += pageset_at(m, zone.pageset + party * PAGESET_SIZE).vm_stat_diff[item]
    return x


@core
def blocks_of_type(m: Machine, zone: Zone, migratetype: int) -> int:
    """Pageblocks of a zone that have a type."""
    blocks = 0
    for pfn in range(zone.zone_start_pfn, zone.zone_start_pfn + zone.spanned_pages, PAGEBLOCK_NR_PAGES):
        bits = pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits
        if bits & PB_OFFLINE == 0 and bits & PB_MIGRATE == migratetype:
            blocks += 1
    return blocks


@core(cold=True)
def pcp_count_is_length(m: Machine, zone: Zone) -> int:
    """``pcp->count`` is the number of entries of the three lists.

    Alone notices a count that was read, and written back after an interrupt had changed it: the lists are whole, and
    drains take too many or too few.
    """
    for party in range(m.nr_parties):
        pset = pageset_at(m, zone.pageset + party * PAGESET_SIZE)
        entries = 0
        for mt in range(MIGRATE_PCPTYPES):
            entries += length_of(m, pset.lists[mt])
        if pset.count != entries:
            return pset.count - entries
    return 0


@core(cold=True)
def free_pages_are_counted(m: Machine, zone: Zone) -> int:
    """NR_FREE_PAGES with all differentials is what is on the free lists, those of isolated blocks left out.

    Alone notices pages that went to or from a list without being counted, or were counted twice (R30): watermarks are
    then wrong for ever.
    """
    return counter_total(m, zone, NR_FREE_PAGES) - listed_pages(m, zone)


@core(cold=True)
def isolation_is_counted(m: Machine, zone: Zone) -> int:
    """``nr_isolate_pageblock`` is the number of ISOLATE blocks.

    Alone notices a block that was isolated twice and given back once while it had no free page: freeing takes the slow
    way for ever, or, the other way round, isolated pages get onto lists that requests look at.
    """
    return zone.nr_isolate_pageblock - blocks_of_type(m, zone, MIGRATE_ISOLATE)


@core(cold=True)
def highatomic_is_counted(m: Machine, zone: Zone) -> int:
    """``nr_reserved_highatomic`` is 512 for every HIGHATOMIC block.

    Alone notices R12: pages and lists are right, but the watermark check takes too little off for the reserve. Not for
    scenarios in which a reserved block is stolen as a part of a larger one: 5.10 leaves it counted.
    """
    return zone.nr_reserved_highatomic - blocks_of_type(m, zone, MIGRATE_HIGHATOMIC) * PAGEBLOCK_NR_PAGES


@core(cold=True)
def batch_is_within_high(m: Machine, zone: Zone) -> int:
    """At every point ``batch`` is at most ``high``; 1 is safe whatever ``high`` is.

    Alone notices R14: who frees just then asks for more pages than a list can have, and only the limit that R13 brought
    keeps him from looking for them for ever.
    """
    for party in range(m.nr_cpus):
        pset = pageset_at(m, zone.pageset + party * PAGESET_SIZE)
        if pset.batch > max(1, pset.high):
            return pset.batch - pset.high
    return 0


@core
def overshoot(m: Machine, a: RaceArea) -> int:
    """How far below the watermark R24 can get: each CPU is past the check at most once, and then takes one block or
    one batch."""
    return m.nr_cpus * a.ghost[GHOST_MOST]


@core(cold=True)
def watermark_is_kept(m: Machine, a: RaceArea, zone: Zone) -> int:
    """Who had no right to the reserve left it alone: for scenarios without GFP_ATOMIC and PF_MEMALLOC.

    Alone notices R24, in which every single check was right. What the checks don't explain is the next one's.
    """
    missing = zone.watermark[WMARK_MIN] - listed_pages(m, zone)
    return missing if 0 < missing <= overshoot(m, a) else 0


@core(cold=True)
def overshoot_is_bounded(m: Machine, a: RaceArea, zone: Zone) -> int:
    """No more is missing than checks that come between each other can lose. Returns how much more it is.

    Alone notices that somebody took from the reserve without a check.
    """
    return max(zone.watermark[WMARK_MIN] - listed_pages(m, zone) - overshoot(m, a), 0)


@core(cold=True)
def mlock_is_counted(m: Machine, a: RaceArea) -> int:
    """NR_MLOCK with all differentials is what ``count`` operations added, on the first zone of node 0.

    Alone notices R33: an update that was lost leaves no other trace.
    """
    return counter_total(m, zone_at(m, zone_of_node(m, 0)), NR_MLOCK) - a.ghost[GHOST_COUNTED]
