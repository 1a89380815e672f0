"""One run of compaction over a zone (``mm/compaction.c`` (5.10)): two scanners that approach each other."""

from emu.compact.control import (
    FREEPAGES, MIGRATEPAGES, CompactControl, block_end_pfn, block_start_pfn, dying, pageblock_start_pfn, zone_end_pfn,
)  # fmt: skip
from emu.compact.defer import compaction_restarting
from emu.compact.find_migrate import ISOLATE_ABORT, ISOLATE_NONE, isolate_migratepages
from emu.compact.frag import fragmentation_score_wmark, fragmentation_score_zone, kswapd_is_running
from emu.compact.isolate_free import release_freepages
from emu.compact.skip import __reset_isolation_suitable, reset_cached_positions
from emu.compact.suitable import compaction_suitable, is_via_compact_memory
from emu.cpu.pageset import drain_local_pages
from emu.cpu.seams import (
    COMPACT_COMPLETE, COMPACT_CONTENDED, COMPACT_CONTINUE, COMPACT_NO_SUITABLE_PAGE, COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED, COMPACT_SUCCESS,
)  # fmt: skip
from emu.mm.migrate import (
    ENOMEM, MIGRATE_ASYNC, MR_COMPACTION, TARGET_COMPACTION, migrate_pages, migrate_prep_local, putback_movable_pages,
)  # fmt: skip
from emu.mm.pagevec import lru_add_drain
from emu.zone.event import EV_COMPACTION_BEGIN, EV_COMPACTION_END, EV_COMPACTION_FINISHED, EV_MIGRATEPAGES, record
from emu.zone.fallback import find_suitable_fallback
from emu.zone.gfp import gfp_migratetype
from emu.zone.list import INIT_LIST_HEAD, link_of, list_empty
from emu.zone.mmzone import MAX_ORDER, MIGRATE_CMA, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, Cpu, Machine, Zone, zone_at
from emu.zone.types import ListHead, list_head_at
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import COMPACTFREE_SCANNED, COMPACTMIGRATE_SCANNED
from shm.atomic import load_acquire
from shm.core import core
from shm.point import point, site

S_FINISHED = site("__compact_finished:read free lists")
S_CACHED = site("compact_zone:read cached pfns")


@core
def compact_scanners_met(cc: CompactControl) -> bool:
    """``compact_scanners_met()``: the free scanner is in the migration scanner's pageblock, or past it."""
    return cc.free_pfn // PAGEBLOCK_NR_PAGES <= cc.migrate_pfn // PAGEBLOCK_NR_PAGES


@core
def block_is_free(m: Machine, cpu: Cpu, cc: CompactControl, zone: Zone) -> int:
    """The end of ``__compact_finished()``: would an allocation of this order and type find a block?

    Free lists are read without a lock. A run for another type than movable finishes its pageblock first, which the
    caller has seen to.
    """
    point(cpu.party, S_FINISHED)
    migratetype = cc.migratetype
    for order in range(cc.order, MAX_ORDER):
        area = zone.free_area[order]
        if not list_empty(m, area.free_list[migratetype]):
            return COMPACT_SUCCESS
        if m.cma_enabled != 0 and migratetype == MIGRATE_MOVABLE and not list_empty(m, area.free_list[MIGRATE_CMA]):
            return COMPACT_SUCCESS
        if find_suitable_fallback(m, zone, order, migratetype, 1) != -1:
            return COMPACT_SUCCESS
    return COMPACT_NO_SUITABLE_PAGE


@core
def __compact_finished(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """``mm/compaction.c:__compact_finished() (5.10)``: COMPACT_*; the scanners met, the score is low enough, or a
    suitable block is free."""
    zone = zone_at(m, cc.zone)
    if compact_scanners_met(cc):
        reset_cached_positions(zone)
        if cc.direct_compaction != 0:
            zone.compact.blockskip_flush = 1
        return COMPACT_COMPLETE if cc.whole_zone != 0 else COMPACT_PARTIAL_SKIPPED
    if cc.proactive_compaction != 0:
        if kswapd_is_running(m, cpu, m.nodes[zone.node]):
            return COMPACT_PARTIAL_SKIPPED
        ret = COMPACT_SUCCESS
        if fragmentation_score_zone(m, zone) > fragmentation_score_wmark(m, 1):
            ret = COMPACT_CONTINUE
    else:
        if is_via_compact_memory(cc.order) or cc.migrate_pfn & (PAGEBLOCK_NR_PAGES - 1) != 0:
            return COMPACT_CONTINUE
        ret = block_is_free(m, cpu, cc, zone)
        if ret == COMPACT_SUCCESS:
            return ret
    if cc.contended != 0 or dying(m, cpu):
        return COMPACT_CONTENDED
    return ret


@core
def compact_finished(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """``mm/compaction.c:compact_finished() (5.10)``. A machine that is being stopped ends every run here."""
    ret = __compact_finished(m, cpu, cc)
    if cpu.trace != 0:
        zone_id = zone_at(m, cc.zone).zone_id
        record(m, cpu, EV_COMPACTION_FINISHED, -1, max(cc.order, 0), 0, 0, ret, zone_id)
    if ret == COMPACT_NO_SUITABLE_PAGE:
        ret = COMPACT_CONTINUE
    if ret == COMPACT_CONTINUE and load_acquire(m, "stop") != 0:
        ret = COMPACT_CONTENDED
    return ret


@core
def begin_positions(m: Machine, cpu: Cpu, cc: CompactControl, zone: Zone) -> None:
    """Where the scanners of a run begin: the ends of the zone, or where the last run left off."""
    compact = zone.compact
    start_pfn = zone.zone_start_pfn
    end_pfn = zone_end_pfn(zone)
    cc.fast_start_pfn = 0
    if cc.whole_zone != 0:
        cc.migrate_pfn = start_pfn
        cc.free_pfn = pageblock_start_pfn(end_pfn - 1)
        return
    point(cpu.party, S_CACHED)
    cc.migrate_pfn = compact.cached_migrate_pfn[0 if cc.mode == MIGRATE_ASYNC else 1]
    cc.free_pfn = compact.cached_free_pfn
    if cc.free_pfn < start_pfn or cc.free_pfn >= end_pfn:
        cc.free_pfn = pageblock_start_pfn(end_pfn - 1)
        compact.cached_free_pfn = cc.free_pfn
    if cc.migrate_pfn < start_pfn or cc.migrate_pfn >= end_pfn:
        cc.migrate_pfn = start_pfn
        compact.cached_migrate_pfn[0] = start_pfn
        compact.cached_migrate_pfn[1] = start_pfn
    if cc.migrate_pfn <= compact.init_migrate_pfn:
        cc.whole_zone = 1


@core
def nr_listed(m: Machine, head: ListHead) -> int:
    """Pages on a list."""
    end = link_of(m, head)
    link = head.next
    count = 0
    while link != end:
        link = list_head_at(m, link << 2).next
        count += 1
    return count


@core
def migrate_isolated(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """Migrate what the migration scanner has isolated and put back the rest: what migrate_pages() returned."""
    pages = cpu.scratch[MIGRATEPAGES]
    err = migrate_pages(m, cpu, pages, cc.target, cc.mode, MR_COMPACTION)
    if cpu.trace != 0:
        failed = err if err >= 0 else nr_listed(m, pages)
        record(m, cpu, EV_MIGRATEPAGES, -1, 0, 0, 0, cc.nr_migratepages - failed, failed)
    cc.nr_migratepages = 0
    if err != 0:
        putback_movable_pages(m, cpu, pages)
    return err


@core
def lru_add_drain_cpu_zone(m: Machine, cpu: Cpu, zone: int) -> None:
    """``mm/swap.c:lru_add_drain_cpu_zone() (5.10)``: this CPU's pagevecs, and its pcp lists of one zone (its
    offset)."""
    lru_add_drain(m, cpu)
    drain_local_pages(m, cpu, zone)


@core
def drain_left_block(m: Machine, cpu: Cpu, cc: CompactControl, last_migrated_pfn: int) -> int:
    """Once the scanner has left the block of the wanted order that pages were migrated from, what was freed there has
    to reach the buddy lists, so that it can merge; the new ``last_migrated_pfn``."""
    if cc.order > 0 and last_migrated_pfn != 0:
        if last_migrated_pfn < block_start_pfn(cc.migrate_pfn, cc.order):
            lru_add_drain_cpu_zone(m, cpu, cc.zone)
            return 0
    return last_migrated_pfn


@core
def compact_pageblocks(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """The loop of ``compact_zone()``: why it ended."""
    compact = zone_at(m, cc.zone).compact
    last_migrated_pfn = 0
    update_cached = cc.mode == MIGRATE_ASYNC and compact.cached_migrate_pfn[0] == compact.cached_migrate_pfn[1]
    while True:
        ret = compact_finished(m, cpu, cc)
        if ret != COMPACT_CONTINUE:
            return ret
        start_pfn = cc.migrate_pfn
        cc.rescan = 1 if pageblock_start_pfn(last_migrated_pfn) == pageblock_start_pfn(start_pfn) else 0
        found = isolate_migratepages(m, cpu, cc)
        if found == ISOLATE_ABORT:
            putback_movable_pages(m, cpu, cpu.scratch[MIGRATEPAGES])
            cc.nr_migratepages = 0
            return COMPACT_CONTENDED
        if found == ISOLATE_NONE:
            if update_cached:
                compact.cached_migrate_pfn[1] = compact.cached_migrate_pfn[0]
        else:
            update_cached = False
            last_migrated_pfn = start_pfn
            err = migrate_isolated(m, cpu, cc)
            if err == -ENOMEM and not compact_scanners_met(cc):
                return COMPACT_CONTENDED
            if err != 0 and cc.direct_compaction != 0 and cc.mode == MIGRATE_ASYNC:
                cc.migrate_pfn = block_end_pfn(cc.migrate_pfn - 1, cc.order)
                last_migrated_pfn = 0  # draining would be of no use
        last_migrated_pfn = drain_left_block(m, cpu, cc, last_migrated_pfn)
        if cc.direct_compaction != 0 and cpu.capture_page != 0:
            return COMPACT_SUCCESS


@core
def give_back_freepages(m: Machine, cpu: Cpu, cc: CompactControl, zone: Zone) -> None:
    """Free what is left of the isolated pages; the free scanner of the next run begins there if that is further up."""
    if cc.nr_freepages > 0:
        free_pfn = pageblock_start_pfn(release_freepages(m, cpu, cpu.scratch[FREEPAGES]))
        cc.nr_freepages = 0
        if free_pfn > zone.compact.cached_free_pfn:
            zone.compact.cached_free_pfn = free_pfn


@core(cold=True)
def compact_zone(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """``mm/compaction.c:compact_zone() (5.10)``: COMPACT_*."""
    zone = zone_at(m, cc.zone)
    cc.target.kind = TARGET_COMPACTION
    cc.total_migrate_scanned = 0
    cc.total_free_scanned = 0
    cc.nr_migratepages = 0
    cc.nr_freepages = 0
    INIT_LIST_HEAD(m, cpu.scratch[FREEPAGES])
    INIT_LIST_HEAD(m, cpu.scratch[MIGRATEPAGES])
    cc.migratetype = gfp_migratetype(m.page_group_by_mobility_disabled, cc.gfp_mask)
    ret = compaction_suitable(m, cpu, zone, cc.order, cc.alloc_flags, cc.highest_zoneidx)
    if ret == COMPACT_SUCCESS or ret == COMPACT_SKIPPED:
        return ret
    if compaction_restarting(zone, cc.order):
        __reset_isolation_suitable(m, cpu, zone)
    begin_positions(m, cpu, cc, zone)
    sync = 1 if cc.mode != MIGRATE_ASYNC else 0
    if cpu.trace != 0:
        record(m, cpu, EV_COMPACTION_BEGIN, cc.migrate_pfn, 0, 0, 0, cc.free_pfn, sync | zone.zone_id << 8)
    migrate_prep_local(m, cpu)
    ret = compact_pageblocks(m, cpu, cc)
    give_back_freepages(m, cpu, cc, zone)
    __count_vm_events(cpu, COMPACTMIGRATE_SCANNED, cc.total_migrate_scanned)
    __count_vm_events(cpu, COMPACTFREE_SCANNED, cc.total_free_scanned)
    if cpu.trace != 0:
        how = sync | zone.zone_id << 8 | ret << 16
        record(m, cpu, EV_COMPACTION_END, cc.migrate_pfn, 0, 0, 0, cc.free_pfn, how)
    return ret
