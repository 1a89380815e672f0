"""Every invariant of the allocator's state, each one a function that yields what is wrong.

For a machine at rest: between operations, with its processes stopped. A message says which zone, which pfn, what is
expected and what was found. What 5.10 itself doesn't guarantee isn't asked for:

- a free page may lie on the list of another migratetype than its pageblock's, and a page on a pcp list may be stamped
  with the type its block had when it was freed; only CMA and isolated blocks are strict;
- ``nr_reserved_highatomic`` may count a block too many: a reserved block that merges with a free neighbour into one of
  the largest order is stolen with it, type and all;
- after a bad block of order > 0 was skipped, NR_FREE_PAGES still counts it, and no page of it is on any list.
"""

from collections.abc import Callable, Iterator

import numpy as np

from emu.zone.census import PCP, Census, Chunk, told
from emu.zone.init import party_of, zones_of
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_TYPES,
    MIGRATETYPE_NAMES, NODESTAT_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, WORKS, ZONE_DMA, ZONE_NAMES, Machine,
    NodeStat, Zone,
)  # fmt: skip
from emu.zone.sched import Task
from emu.zone.page import PAGE_FLAGS_CHECK_AT_FREE, PG_buddy, PG_guard, PG_head, PG_hwpoison, PG_kmemcg, PG_table
from emu.zone.setup import calculate_normal_threshold, calculate_pressure_threshold
from emu.zone.snapshot import pageset_of
from emu.zone.vmstat import NUMA_STATS_THRESHOLD
from emu.zone.vmstat_items import (
    NODE_STAT_NAMES, NR_FREE_CMA_PAGES, NR_FREE_PAGES, NUMA_FOREIGN, NUMA_HIT, NUMA_INTERLEAVE_HIT, NUMA_LOCAL,
    NUMA_MISS, NUMA_OTHER, PGALLOC, PGFREE, ZONE_STAT_NAMES,
)  # fmt: skip
from shm.ring import Ring
from shm.struct import address_of, record_at

__all__ = ["MACHINE_RULES", "PAGE_RULES", "ZONE_RULES", "validate"]
Findings = Iterator[str]
DEFAULT_BOOST_FACTOR = 15000


def validate(m: Machine, from_boot: bool = False) -> list[str]:
    """Check all invariants; an empty list: all hold.

    ``from_boot`` says that the machine was booted, not loaded from a recorded state, and has freed only pages that it
    allocated: its event counters then account for every page in use.
    """
    out: list[str] = []
    for rule in MACHINE_RULES:
        out += rule(m)
    in_use = 0
    for zone in zones_of(m):
        census = Census(m, zone)
        found = [text for zone_rule in ZONE_RULES for text in zone_rule(census)]
        for chunk in census.chunks():
            census.taken += int(np.count_nonzero(chunk.taken))
            found += [text for page_rule in PAGE_RULES for text in page_rule(chunk)]
        found += managed_is_conserved(census)
        in_use += census.taken
        out += [f"{census.name}: {text}" for text in found]
    if from_boot:
        out += [*events_account_for_pages(m, in_use), *reserves_add_up(m)]
    return out


# --- the machine ------------------------------------------------------------------------------------------------------


def irqs_are_on(m: Machine) -> Findings:
    """At rest no CPU has interrupts off or serves one."""
    for i in range(m.nr_parties):
        cpu = party_of(m, i)
        for name in ("irqs_off", "irq_nesting", "softirq"):
            if getattr(cpu, name):
                yield f"cpu {i}: {name} expected 0, found {getattr(cpu, name)}"


def locks_are_free(m: Machine) -> Findings:
    """At rest nobody holds a lock or waits for one."""
    locks = [(f"node {z.node} zone {ZONE_NAMES[z.zid]}: lock", z.lock) for z in zones_of(m)]
    locks += [(f"cpu {i}: work_lock", party_of(m, i).work_lock) for i in range(m.nr_parties)]
    for what, lock in locks:
        if lock.holder or lock.next != lock.owner or lock.parked:
            waiting = max(lock.next - lock.owner & 0xFFFFFFFF, 1) - 1
            yield f"{what}: expected free, found holder {lock.holder - 1}, {waiting} waiting, {lock.parked} parked"
    if m.drain_busy:
        yield "drain_all_pages(): expected nobody in it, found its mutex taken"


def rings_are_sane(m: Machine) -> Findings:
    """Rings and work queues: the reader is behind the writer, by no more than there is room."""
    for i in range(m.nr_parties):
        cpu = party_of(m, i)
        ring = record_at(Ring, address_of(m) + cpu.event_ring)
        if not 0 <= ring.head - ring.tail <= ring.capacity or ring.lost < 0:
            yield f"cpu {i}: event ring of {ring.capacity}: head {ring.head}, tail {ring.tail}, lost {ring.lost}"
        if cpu.work_head - cpu.work_tail & 0xFFFFFFFF > WORKS:
            yield f"cpu {i}: work queue of {WORKS}: head {cpu.work_head}, tail {cpu.work_tail}"


def seqcounts_are_even(m: Machine) -> Findings:
    """No task's mems_allowed is being written."""
    for i in range(m.nr_parties):
        task = record_at(Task, address_of(m) + party_of(m, i).current)
        if task.mems_allowed_seq.sequence & 1:
            yield f"cpu {i}: mems_allowed_seq expected even, found {task.mems_allowed_seq.sequence}"


def present_pages_add_up(m: Machine) -> Findings:
    """A node's present pages are its zones'."""
    for nid in range(m.nr_nodes):
        present = sum(zone.present_pages for zone in m.nodes[nid].node_zones)
        if present != m.nodes[nid].node_present_pages:
            yield f"node {nid}: node_present_pages expected {present}, found {m.nodes[nid].node_present_pages}"


def reserves_add_up(m: Machine) -> Findings:
    """totalreserve_pages is the nodes' (``from_boot`` only: a recorded state doesn't say the parts)."""
    reserve = sum(m.nodes[nid].totalreserve_pages for nid in range(m.nr_nodes))
    if reserve != m.totalreserve_pages:
        yield f"totalreserve_pages expected {reserve}, the nodes' sum, found {m.totalreserve_pages}"


def node_diffs_are_small(m: Machine) -> Findings:
    """A CPU's node counter differentials stay within its threshold."""
    for nid in range(m.nr_nodes):
        for i in range(m.nr_parties):
            at = address_of(m) + m.nodes[nid].per_cpu_nodestats + i * NODESTAT_SIZE
            stat = record_at(NodeStat, at)
            for name, diff in zip(NODE_STAT_NAMES, stat.vm_node_stat_diff, strict=True):
                if abs(diff) > max(stat.stat_threshold, 125):
                    yield f"node {nid}: cpu {i}: {name} differential at most {stat.stat_threshold}, found {diff}"


def misses_are_foreign(m: Machine) -> Findings:
    """Each page that missed its preferred node is foreign to that node: the machine's sums are equal."""
    miss = foreign = 0
    for zone in zones_of(m):
        stats = numa_totals(m, zone)
        miss, foreign = miss + stats[NUMA_MISS], foreign + stats[NUMA_FOREIGN]
    if miss != foreign:
        yield f"numa_foreign expected {miss}, as many as numa_miss, found {foreign}"


def charges_are_sane(m: Machine) -> Findings:
    """A memory cgroup is charged no less than nothing and no more than its limit."""
    for i, group in enumerate(m.memcgs):
        if group.kmem < 0 or 0 < group.limit < group.kmem:
            yield f"memcg {i}: kmem expected in [0, {group.limit or 'any'}], found {group.kmem}"


def events_account_for_pages(m: Machine, in_use: int) -> Findings:
    """pgalloc - pgfree is what is in use (``from_boot`` only)."""
    events = [party_of(m, i).vm_events for i in range(m.nr_parties)]
    allocated = sum(e[PGALLOC + zid] for e in events for zid in range(ZONE_DMA, len(ZONE_NAMES)))
    freed = sum(e[PGFREE] for e in events)
    if allocated - freed != in_use:
        yield f"pages in use expected {allocated - freed} (pgalloc {allocated} - pgfree {freed}), found {in_use}"


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


# --- a zone's counters ------------------------------------------------------------------------------------------------


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


# --- pages ------------------------------------------------------------------------------------------------------------


def listed_pages_are_unreferenced(c: Chunk) -> Findings:
    """Nobody holds a reference on a page that is in a free block or on a pcp list."""
    for i in np.flatnonzero(c.idle & (c.refcount != 0)):
        where = "on a pcp list" if c.kind[i] == PCP else "in a free block"
        yield f"pfn:{c.pfn[i]:05x}: {where}, refcount expected 0, found {c.refcount[i]}"


def listed_pages_are_clean(c: Chunk) -> Findings:
    """A page in a free block or on a pcp list is unmapped, unowned, and has no flag that a user of it sets."""
    flags = PAGE_FLAGS_CHECK_AT_FREE | PG_head | PG_table | PG_kmemcg
    yield from told(c.pfn[c.idle & (c.mapcount != -1)], "free, expected mapcount -1")
    yield from told(c.pfn[c.idle & (c.mapping != 0)], "free, expected no mapping")
    yield from told(c.pfn[c.idle & (c.flags & flags != 0)], "free, expected without flags of a page in use")


def buddies_are_listed(c: Chunk) -> Findings:
    """A page with PG_buddy is the head of a free block on a list."""
    flagged = c.mine & (c.flags & PG_buddy != 0)
    pfns = np.concatenate([p for p in c.census.free.values() if len(p)] or [np.empty(0, np.int64)])
    near = pfns[(pfns >= c.pfn[0]) & (pfns <= c.pfn[-1])]
    yield from told(np.setdiff1d(c.pfn[flagged], near), "PG_buddy, expected on a free list")


def no_page_is_lost(c: Chunk) -> Findings:
    """An unreferenced page that is on no list is a tail: right behind a page in use that starts an aligned block."""
    idle = c.taken & (c.refcount == 0) & (c.flags & (PG_hwpoison | PG_guard) == 0)
    if not idle.any():
        return
    at = np.arange(len(idle))
    head = np.maximum.accumulate(np.where(idle, -1, at))
    lost = idle & ~((head >= 0) & c.taken[head])
    pfn = c.pfn[head]
    lost |= idle & (c.pfn >= pfn + np.minimum(pfn & -pfn, MAX_ORDER_NR_PAGES))
    yield from told(c.pfn[lost], "refcount 0 and on no list, expected free or part of a block in use")


def tails_name_their_head(c: Chunk) -> Findings:
    """A tail page of a compound page points at a head before it, whose order reaches it."""
    tails = np.flatnonzero(c.taken & (c.next & 1 != 0) & (c.refcount == 0))
    heads = (c.next[tails].astype(np.int64) - 1 - c.census.m.mem_map_link) >> 3
    known = (heads >= 0) & (heads < c.census.m.max_pfn)
    heads = np.where(known, heads, 0)
    right = known & (c.census.pages["page_flags"][heads] & PG_head != 0) & (heads < c.pfn[tails])
    right &= c.pfn[tails] < heads + (1 << np.clip(c.census.pages["private"][heads + 1], 0, MAX_ORDER))
    yield from told(c.pfn[tails][~right], "tail, expected to point at the head of its compound page")


def managed_is_conserved(z: Census) -> Findings:
    """managed = in free blocks + on pcp lists + guards + in use. After the chunks have been counted."""
    free, pcp = listed_pages(z, tuple(range(MIGRATE_TYPES))), sum(len(p) for p in z.pcp.values())
    found = free + pcp + z.guards + z.taken
    if found != z.zone.managed_pages:
        parts = f"{free} free + {pcp} on pcp lists + {z.guards} guards + {z.taken} in use"
        yield f"managed_pages expected {found} ({parts}), found {z.zone.managed_pages}"


MACHINE_RULES: tuple[Callable[[Machine], Findings], ...] = (
    irqs_are_on, locks_are_free, rings_are_sane, seqcounts_are_even, present_pages_add_up,
    node_diffs_are_small, misses_are_foreign, charges_are_sane,
)  # fmt: skip
ZONE_RULES: tuple[Callable[[Census], Findings], ...] = (
    geometry, lists_are_linked, nr_free_is_right, heads_are_aligned, heads_are_buddies, blocks_dont_overlap,
    buddies_are_merged, strict_types_are_kept, pcp_counts_are_right, stamps_are_valid, pcp_pages_are_listed_once,
    free_pages_are_counted, free_cma_is_counted, diffs_are_small, watermarks_are_ordered, boost_is_bounded,
    numa_adds_up, block_types_are_valid, highatomic_is_counted, isolation_is_counted, untouched_blocks_are_free,
)  # fmt: skip
PAGE_RULES: tuple[Callable[[Chunk], Findings], ...] = (
    listed_pages_are_unreferenced, listed_pages_are_clean, buddies_are_listed, no_page_is_lost, tails_name_their_head,
)  # fmt: skip
