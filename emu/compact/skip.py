"""Where compaction goes on next time: cached positions of its scanners, pageblocks not worth another look
(``mm/compaction.c`` (5.10))."""

from emu.compact.control import (
    CompactControl, clear_pageblock_skip, get_pageblock_skip, pageblock_end_pfn, pageblock_start_pfn,
    pfn_to_online_page, set_pageblock_skip, zone_end_pfn,
)  # fmt: skip
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import MIGRATE_ASYNC
from emu.zone.gfp import PAGE_ALLOC_COSTLY_ORDER
from emu.zone.mmzone import (
    MAX_NR_ZONES, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu, Machine, Node, Zone, page_record, zone_at,
)  # fmt: skip
from emu.zone.page import NULL, PG_buddy, PG_lru, PageTail, compound_order, link_to_pfn, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype
from shm.core import core
from shm.point import point, site

S_CACHED_MIGRATE = site("update_cached_migrate:write cached_migrate_pfn")
S_CACHED_FREE = site("update_pageblock_skip:write cached_free_pfn")


@core(inline=True)
def isolation_suitable(m: Machine, cc: CompactControl, pfn: int) -> bool:
    """``isolation_suitable()``: nothing says that the pageblock was scanned in vain."""
    return cc.ignore_skip_hint != 0 or not get_pageblock_skip(m, pfn)


@core
def reset_cached_positions(zone: Zone) -> None:
    """``reset_cached_positions()``: both ends of the zone."""
    zone.compact.cached_migrate_pfn[0] = zone.zone_start_pfn
    zone.compact.cached_migrate_pfn[1] = zone.zone_start_pfn
    zone.compact.cached_free_pfn = pageblock_start_pfn(zone_end_pfn(zone) - 1)


@core
def pageblock_skip_persistent(m: Machine, pfn: int) -> bool:
    """``pageblock_skip_persistent()``: the page belongs to a compound page of a pageblock or more."""
    page = page_record(m, pfn_to_page(m, pfn))
    head = pfn
    if PageTail(page):
        head = link_to_pfn(m, page.lru.next & ~1)
    return compound_order(m, head) >= PAGEBLOCK_ORDER


@core(cold=True)
def __reset_isolation_pfn(m: Machine, zone: Zone, pfn: int, check_source: int, check_target: int) -> bool:
    """``mm/compaction.c:__reset_isolation_pfn() (5.10)``: clear the skip bit of a pageblock that has a page to take
    (source) or a free page (target) among every eighth; true if it did or needn't."""
    if not pfn_to_online_page(m, zone, pfn) or pageblock_skip_persistent(m, pfn):
        return False
    if check_source != 0 and check_target != 0 and not get_pageblock_skip(m, pfn):
        return True
    if check_source == 0 and check_target != 0 and get_pfnblock_migratetype(m, pfn) != MIGRATE_MOVABLE:
        return False
    block_pfn = max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
    if pfn_to_online_page(m, zone, block_pfn):
        pfn = block_pfn
    end = min(pageblock_end_pfn(pfn) - 1, zone_end_pfn(zone) - 1)
    if not pfn_to_online_page(m, zone, end):
        return False
    while pfn <= end:
        flags = page_record(m, pfn_to_page(m, pfn)).page_flags
        source = check_source != 0 and flags & PG_lru != 0
        target = check_target != 0 and flags & PG_buddy != 0
        if source or target:
            clear_pageblock_skip(m, pfn)
            return True
        pfn += 1 << PAGE_ALLOC_COSTLY_ORDER
    return False


@core(cold=True)
def __reset_isolation_suitable(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """``mm/compaction.c:__reset_isolation_suitable() (5.10)``: forget which pageblocks were scanned in vain; scanners
    begin where there is something again. From both ends of the zone to its middle."""
    compact = zone.compact
    migrate_pfn = zone.zone_start_pfn
    free_pfn = zone_end_pfn(zone) - 1
    reset_migrate = free_pfn
    reset_free = migrate_pfn
    source_set = 0
    free_set = 0
    if compact.blockskip_flush == 0:
        return
    compact.blockskip_flush = 0
    while migrate_pfn < free_pfn:
        cond_resched(m, cpu)
        if __reset_isolation_pfn(m, zone, migrate_pfn, 1, source_set) and migrate_pfn < reset_migrate:
            source_set = 1
            reset_migrate = migrate_pfn
            compact.init_migrate_pfn = reset_migrate
            compact.cached_migrate_pfn[0] = reset_migrate
            compact.cached_migrate_pfn[1] = reset_migrate
        if __reset_isolation_pfn(m, zone, free_pfn, free_set, 1) and free_pfn > reset_free:
            free_set = 1
            reset_free = free_pfn
            compact.init_free_pfn = reset_free
            compact.cached_free_pfn = reset_free
        migrate_pfn += PAGEBLOCK_NR_PAGES
        free_pfn -= PAGEBLOCK_NR_PAGES
    if reset_migrate >= reset_free:
        compact.cached_migrate_pfn[0] = migrate_pfn
        compact.cached_migrate_pfn[1] = migrate_pfn
        compact.cached_free_pfn = free_pfn


@core(cold=True)
def reset_isolation_suitable(m: Machine, cpu: Cpu, node: Node) -> None:
    """``mm/compaction.c:reset_isolation_suitable() (5.10)``: of zones that were compacted from end to end."""
    for zid in range(MAX_NR_ZONES):
        zone = node.node_zones[zid]
        if zone.present_pages != 0 and zone.compact.blockskip_flush != 0:
            __reset_isolation_suitable(m, cpu, zone)


@core
def test_and_set_skip(m: Machine, cc: CompactControl, pfn: int) -> bool:
    """``mm/compaction.c:test_and_set_skip() (5.10)``: whether another compaction has this pageblock already."""
    if cc.ignore_skip_hint != 0 or pfn & (PAGEBLOCK_NR_PAGES - 1) != 0:
        return False
    skip = get_pageblock_skip(m, pfn)
    if not skip and cc.no_set_skip_hint == 0:
        set_pageblock_skip(m, pfn)
    return skip


@core
def update_cached_migrate(m: Machine, cpu: Cpu, cc: CompactControl, pfn: int) -> None:
    """``mm/compaction.c:update_cached_migrate() (5.10)``: asynchronous runs go on behind this pageblock, and others
    too unless they could move what this one couldn't."""
    if cc.no_set_skip_hint != 0:
        return
    compact = zone_at(m, cc.zone).compact
    pfn = pageblock_end_pfn(pfn)
    point(cpu.party, S_CACHED_MIGRATE)
    if pfn > compact.cached_migrate_pfn[0]:
        compact.cached_migrate_pfn[0] = pfn
    if cc.mode != MIGRATE_ASYNC and pfn > compact.cached_migrate_pfn[1]:
        compact.cached_migrate_pfn[1] = pfn


@core
def update_pageblock_skip(m: Machine, cpu: Cpu, cc: CompactControl, pfn: int, block_pfn: int) -> None:
    """``mm/compaction.c:update_pageblock_skip() (5.10)``: no more free pages in this pageblock."""
    if cc.no_set_skip_hint != 0 or pfn == NULL:
        return
    set_pageblock_skip(m, pfn)
    compact = zone_at(m, cc.zone).compact
    point(cpu.party, S_CACHED_FREE)
    if block_pfn < compact.cached_free_pfn:
        compact.cached_free_pfn = block_pfn
