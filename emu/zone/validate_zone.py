"""Invariants of a zone: its free lists, pcp lists, pageblocks and counters. What is not asked for:
``emu.zone.validate``."""

from collections.abc import Callable, Iterator

import numpy as np

from emu.zone.census import Census, told
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_TYPES,
    MIGRATETYPE_NAMES, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Machine,
    Zone,
)  # fmt: skip
from emu.zone.page import PG_buddy
from emu.zone.setup import calculate_normal_threshold, calculate_pressure_threshold
from emu.zone.snapshot import pageset_of
from emu.zone.vmstat import NUMA_STATS_THRESHOLD
from emu.zone.vmstat_items import (
    NR_FREE_CMA_PAGES, NR_FREE_PAGES, NUMA_HIT, NUMA_INTERLEAVE_HIT, NUMA_LOCAL,
    NUMA_MISS, NUMA_OTHER, ZONE_STAT_NAMES,
)  # fmt: skip

__all__ = ["ZONE_RULES", "managed_is_conserved", "numa_totals"]
Findings = Iterator[str]
DEFAULT_BOOST_FACTOR = 15000
MOST_DIFFERENTIAL = 125

# --- a zone's lists ---------------------------------------------------------------------------------------------------


def geometry(z: Census) -> Findings:
    """managed <= present <= spanned, and the zone lies inside the machine."""
    zone = z.zone
    if not 0 <= zone.managed_pages <= zone.present_pages <= zone.spanned_pages:
        sizes = (zone.managed_pages, zone.present_pages, zone.spanned_pages)
        yield f"expected managed <= present <= spanned, found {sizes}"
    if zone.zone_start_pfn + zone.spanned_pages > z.m.max_pfn:
        yield f"ends at pfn:{zone.zone_start_pfn + zone.spanned_pages:05x}, expected at most {z.m.max_pfn:05x}"


def lists_are_linked(z: Census) -> Findings:
    """Free and pcp lists are circular in both directions and hold pages of this zone; guards are on none."""
    yield from z.faults


def nr_free_is_right(z: Census) -> Findings:
    """``nr_free`` is the number of entries on an order's lists."""
    for order in range(MAX_ORDER):
        entries = sum(len(z.free[order, mt]) for mt in range(MIGRATE_TYPES))
        if z.zone.free_area[order].nr_free != entries:
            yield f"order {order}: nr_free expected {entries}, found {z.zone.free_area[order].nr_free}"


def heads_are_aligned(z: Census) -> Findings:
    """A free block of an order starts at a multiple of its size and ends inside the zone."""
    for (order, mt), pfns in z.free.items():
        where = f"order {order} {MIGRATETYPE_NAMES[mt]} free list"
        yield from told(pfns[pfns & ((1 << order) - 1) != 0], f"on the {where}, expected aligned")
        yield from told(pfns[pfns + (1 << order) > z.end], f"on the {where}, expected to end inside the zone")


def heads_are_buddies(z: Census) -> Findings:
    """A page on a free list has PG_buddy, the list's order, and belongs to the zone."""
    for (order, mt), pfns in z.free.items():
        flags, found = z.pages["page_flags"][pfns], z.pages["private"][pfns]
        where = f"on the order {order} {MIGRATETYPE_NAMES[mt]} free list"
        yield from told(pfns[flags & PG_buddy == 0], f"{where}, expected PG_buddy, found it clear")
        yield from told(pfns[flags & 31 != z.zone_bits], f"{where}, expected a page of this zone")
        for pfn in pfns[(found != order) & (flags & PG_buddy != 0)]:
            yield f"pfn:{pfn:05x}: {where}, expected order {order}, found {z.pages['private'][pfn]}"


def blocks_dont_overlap(z: Census) -> Findings:
    """No page is in two free blocks."""
    pfns, orders, _ = z.heads()
    ends = np.maximum.accumulate(pfns + (1 << orders)) if len(pfns) else pfns
    yield from told(pfns[1:][pfns[1:] < ends[:-1]], "inside another free block, expected to be in one only")


def buddies_are_merged(z: Census) -> Findings:
    """No two free buddies of one order lie side by side, unless isolation keeps their pageblocks apart."""
    for order in range(MAX_ORDER - 1):
        pfns = np.sort(np.concatenate([z.free[order, mt] for mt in range(MIGRATE_TYPES)]))
        left = pfns[:-1][(np.diff(pfns) == 1 << order) & (pfns[:-1] & (1 << order) == 0)]
        if order >= PAGEBLOCK_ORDER and z.zone.nr_isolate_pageblock:
            isolated = z.blocks & 7 == MIGRATE_ISOLATE
            left = left[isolated[left >> PAGEBLOCK_ORDER] == isolated[left + (1 << order) >> PAGEBLOCK_ORDER]]
        yield from told(left, f"free with its buddy of order {order}, expected both merged")


def strict_types_are_kept(z: Census) -> Findings:
    """Blocks below pageblock order are on the CMA list, or isolated, exactly when their pageblock is."""
    for mt in (MIGRATE_CMA, MIGRATE_ISOLATE):
        for (order, listed), pfns in z.free.items():
            if order >= PAGEBLOCK_ORDER or (mt == MIGRATE_CMA and listed == MIGRATE_ISOLATE):
                continue
            wrong = (z.blocks[pfns >> PAGEBLOCK_ORDER] & 7 == mt) != (listed == mt)
            name = MIGRATETYPE_NAMES[listed]
            yield from told(pfns[wrong], f"on the order {order} {name} free list, expected as its {name_of(mt)} block")


def name_of(mt: int) -> str:
    """A migratetype's name; in messages a corrupt one may come."""
    return MIGRATETYPE_NAMES[mt] if mt < MIGRATE_TYPES else f"type {mt}"


def pcp_counts_are_right(z: Census) -> Findings:
    """``count`` is the number of pages on a pageset's lists, and less than ``high`` plus a batch."""
    for party in range(z.m.nr_parties):
        p = pageset_of(z.m, z.zone, party)
        entries = sum(len(pfns) for (who, _), pfns in z.pcp.items() if who == party)
        if p.count != entries:
            yield f"cpu {party}: pcp count expected {entries}, found {p.count}"
        if p.batch < 1 or (p.count and p.count >= p.high + p.batch):
            yield f"cpu {party}: pcp count expected below high {p.high} + batch {p.batch}, found {p.count}"


def stamps_are_valid(z: Census) -> Findings:
    """A page on a pcp list carries the list's type; HIGHATOMIC and CMA pages travel on the movable list."""
    for (party, mt), pfns in z.pcp.items():
        stamps = z.pages["index"][pfns]
        right = stamps == mt
        if mt == MIGRATE_MOVABLE:
            right |= (stamps == MIGRATE_HIGHATOMIC) | (stamps == MIGRATE_CMA)
        for pfn in pfns[~right]:
            name = MIGRATETYPE_NAMES[mt]
            yield f"pfn:{pfn:05x}: on cpu {party}'s {name} pcp list, stamp expected {mt}, found {z.pages['index'][pfn]}"


def pcp_pages_are_listed_once(z: Census) -> Findings:
    """A page is on one pcp list, and in no free block."""
    pfns, times = np.unique(np.concatenate(list(z.pcp.values())), return_counts=True)
    yield from told(pfns[times > 1], "on two pcp lists, expected on one")
    heads, orders, _ = z.heads()
    if len(heads) and len(pfns):
        before = np.searchsorted(heads, pfns, side="right") - 1
        inside = (before >= 0) & (pfns < heads[before] + (1 << orders[before]))
        yield from told(pfns[inside], "on a pcp list and in a free block, expected in one of them")


# --- counters ---------------------------------------------------------------------------------------------------------


def vm_stat_total(z: Census, item: int) -> int:
    """A zone counter with all parties' differentials."""
    parties = range(z.m.nr_parties)
    return z.zone.vm_stat[item].counter + sum(pageset_of(z.m, z.zone, i).vm_stat_diff[item] for i in parties)


def listed_pages(z: Census, types: tuple[int, ...]) -> int:
    """Pages on the free lists of some types."""
    return sum(len(pfns) << order for (order, mt), pfns in z.free.items() if mt in types)


def free_pages_are_counted(z: Census) -> Findings:
    """NR_FREE_PAGES and all differentials sum up to what the free lists hold; isolated pages don't count."""
    expected = listed_pages(z, tuple(mt for mt in range(MIGRATE_TYPES) if mt != MIGRATE_ISOLATE))
    if vm_stat_total(z, NR_FREE_PAGES) != expected:
        yield f"nr_free_pages with differentials expected {expected}, found {vm_stat_total(z, NR_FREE_PAGES)}"


def free_cma_is_counted(z: Census) -> Findings:
    """NR_FREE_CMA_PAGES likewise."""
    expected = listed_pages(z, (MIGRATE_CMA,))
    if vm_stat_total(z, NR_FREE_CMA_PAGES) != expected:
        yield f"nr_free_cma with differentials expected {expected}, found {vm_stat_total(z, NR_FREE_CMA_PAGES)}"


def diffs_are_small(z: Census) -> Findings:
    """A CPU's differentials stay within its threshold, or what it was while kswapd slept or worked."""
    normal = max(calculate_normal_threshold(z.m, z.zone), calculate_pressure_threshold(z.m, z.zone))
    if z.m.cpu_offlines:  # with another number of CPUs they were others
        normal = MOST_DIFFERENTIAL
    for party in range(z.m.nr_parties):
        p = pageset_of(z.m, z.zone, party)
        limit = max(p.stat_threshold, normal)
        for name, diff in zip(ZONE_STAT_NAMES, p.vm_stat_diff, strict=True):
            if abs(diff) > limit:
                yield f"cpu {party}: {name} differential at most {limit}, found {diff}"
        worst = max(p.numa_stat_diff)
        if worst > NUMA_STATS_THRESHOLD:
            yield f"cpu {party}: numa differential at most {NUMA_STATS_THRESHOLD}, found {worst}"


def watermarks_are_ordered(z: Census) -> Findings:
    """min <= low <= high."""
    marks = list(z.zone.watermark)
    if not 0 <= marks[0] <= marks[1] <= marks[2]:
        yield f"watermarks expected min <= low <= high, found {marks}"


def boost_is_bounded(z: Census) -> Findings:
    """``watermark_boost`` is at most the factor's share of the high watermark, or a pageblock.

    A factor that was lowered doesn't take back what is boosted: the default one counts as well.
    """
    factor = max(z.m.watermark_boost_factor, DEFAULT_BOOST_FACTOR)
    most = max(PAGEBLOCK_NR_PAGES, z.zone.watermark[2] * factor // 10000)
    if not 0 <= z.zone.watermark_boost <= most:
        yield f"watermark_boost expected in [0, {most}], found {z.zone.watermark_boost}"


def numa_totals(m: Machine, zone: Zone) -> list[int]:
    """A zone's numa counters with all parties' differentials."""
    parties = [pageset_of(m, zone, i).numa_stat_diff for i in range(m.nr_parties)]
    return [stat.counter + sum(diff[item] for diff in parties) for item, stat in enumerate(zone.numa_stat)]


def numa_adds_up(z: Census) -> Findings:
    """Each page of the zone was a hit or a miss, and local or other; an interleave hit is one of them."""
    stats = numa_totals(z.m, z.zone)
    placed, seen = stats[NUMA_HIT] + stats[NUMA_MISS], stats[NUMA_LOCAL] + stats[NUMA_OTHER]
    if placed != seen:
        yield f"numa local + other expected {placed}, as hit + miss, found {seen}"
    if not 0 <= stats[NUMA_INTERLEAVE_HIT] <= placed:
        yield f"numa_interleave expected at most {placed}, found {stats[NUMA_INTERLEAVE_HIT]}"


def block_types_are_valid(z: Census) -> Findings:
    """Every pageblock has one of the migratetypes; CMA only where there is CMA."""
    pfns, types = z.block_types()
    known = (types < MIGRATE_TYPES) & ((types != MIGRATE_CMA) | bool(z.m.cma_enabled))
    for pfn, mt in zip(pfns[~known], types[~known], strict=True):
        yield f"pfn:{pfn:05x}: pageblock expected of a known migratetype, found {name_of(int(mt))}"


def highatomic_is_counted(z: Census) -> Findings:
    """``nr_reserved_highatomic`` is in whole blocks, covers all HIGHATOMIC blocks, and keeps its limit."""
    blocks = PAGEBLOCK_NR_PAGES * int(np.count_nonzero(z.block_types()[1] == MIGRATE_HIGHATOMIC))
    found = z.zone.nr_reserved_highatomic
    most = z.zone.managed_pages // 100 + 2 * PAGEBLOCK_NR_PAGES
    if found % PAGEBLOCK_NR_PAGES or found < blocks or found >= most:
        yield f"nr_reserved_highatomic expected {blocks} (below {most}), found {found}"


def isolation_is_counted(z: Census) -> Findings:
    """``nr_isolate_pageblock`` is the number of ISOLATE blocks."""
    blocks = int(np.count_nonzero(z.block_types()[1] == MIGRATE_ISOLATE))
    if z.zone.nr_isolate_pageblock != blocks:
        yield f"nr_isolate_pageblock expected {blocks}, found {z.zone.nr_isolate_pageblock}"


def untouched_blocks_are_free(z: Census) -> Findings:
    """In a zone without holes, a block that nobody ever took apart is on a free list."""
    if z.zone.spanned_pages == z.zone.present_pages:
        yield from told(z.untouched(), "block never used, expected on a free list")


def managed_is_conserved(z: Census) -> Findings:
    """managed = in free blocks + on pcp lists + guards + in use. After the chunks have been counted."""
    free, pcp = listed_pages(z, tuple(range(MIGRATE_TYPES))), sum(len(p) for p in z.pcp.values())
    found = free + pcp + z.guards + z.taken
    if found != z.zone.managed_pages:
        parts = f"{free} free + {pcp} on pcp lists + {z.guards} guards + {z.taken} in use"
        yield f"managed_pages expected {found} ({parts}), found {z.zone.managed_pages}"


ZONE_RULES: tuple[Callable[[Census], Findings], ...] = (
    geometry, lists_are_linked, nr_free_is_right, heads_are_aligned, heads_are_buddies, blocks_dont_overlap,
    buddies_are_merged, strict_types_are_kept, pcp_counts_are_right, stamps_are_valid, pcp_pages_are_listed_once,
    free_pages_are_counted, free_cma_is_counted, diffs_are_small, watermarks_are_ordered, boost_is_bounded,
    numa_adds_up, block_types_are_valid, highatomic_is_counted, isolation_is_counted, untouched_blocks_are_free,
)  # fmt: skip
