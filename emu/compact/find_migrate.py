"""Which pageblock the migration scanner takes next (``mm/compaction.c`` (5.10))."""

from emu.compact.control import (
    NEVER, CompactControl, get_pageblock_skip, pageblock_end_pfn, pageblock_pfn_to_page,
    pageblock_start_pfn, set_pageblock_skip,
)  # fmt: skip
from emu.compact.fast_free import freelist_scan_limit
from emu.compact.isolate_free import is_migrate_movable
from emu.compact.isolate_migrate import isolate_migratepages_block
from emu.compact.skip import isolation_suitable, pageblock_skip_persistent, update_cached_migrate
from emu.cpu.free import SWAP_CLUSTER_MAX
from emu.cpu.workqueue import cond_resched
from emu.mm.isolate_lru import ISOLATE_ASYNC_MIGRATE, ISOLATE_UNEVICTABLE
from emu.mm.migrate import MIGRATE_ASYNC, MIGRATE_SYNC
from emu.zone.gfp import PAGE_ALLOC_COSTLY_ORDER
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.isolation import move_freelist_tail
from emu.zone.list import link_of
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, Cpu, Machine, Zone, page_record, zone_at
from emu.zone.page import NULL, link_to_pfn, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype
from shm.core import OnStack, core
from shm.point import site
from shm.struct import Struct, i64, struct

ISOLATE_ABORT = 0
ISOLATE_NONE = 1
ISOLATE_SUCCESS = 2
S_FIND = site("fast_find_migrateblock:lock")


@struct
class FindBlock(Struct):
    """The local variables of ``fast_find_migrateblock()``."""

    limit: int = i64()
    high_pfn: int = i64()
    nr_scanned: int = i64()


find_block = OnStack(FindBlock)


@core
def suitable_migration_source(m: Machine, cc: CompactControl, pfn: int) -> bool:
    """``mm/compaction.c:suitable_migration_source() (5.10)``: asynchronous direct compaction keeps to pageblocks of
    the type it is for."""
    if pageblock_skip_persistent(m, pfn):
        return False
    if cc.mode != MIGRATE_ASYNC or cc.direct_compaction == 0:
        return True
    block_mt = get_pfnblock_migratetype(m, pfn)
    if cc.migratetype == MIGRATE_MOVABLE:
        return is_migrate_movable(block_mt)
    return block_mt == cc.migratetype


@core
def reinit_migrate_pfn(cc: CompactControl) -> int:
    """``reinit_migrate_pfn()``: once, back to the lowest pageblock that the fast search has found."""
    if cc.fast_start_pfn != 0 and cc.fast_start_pfn != NEVER:
        cc.migrate_pfn = cc.fast_start_pfn
        cc.fast_start_pfn = NEVER
    return cc.migrate_pfn


@core
def update_fast_start_pfn(cc: CompactControl, pfn: int) -> None:
    """``update_fast_start_pfn()``: the lowest of the pages found."""
    if cc.fast_start_pfn == NEVER:
        return
    if cc.fast_start_pfn == 0 or pfn < cc.fast_start_pfn:
        cc.fast_start_pfn = pfn


@core
def find_on_list(m: Machine, cc: CompactControl, zone: Zone, s: FindBlock, order: int) -> int:
    """A free page low enough in a pageblock that isn't marked: the pageblock's start, or NULL. The zone lock is
    held."""
    freelist = zone.free_area[order].free_list[MIGRATE_MOVABLE]
    end = link_of(m, freelist)
    link = freelist.next
    while link != end:
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        s.nr_scanned += 1
        if s.nr_scanned > s.limit:
            move_freelist_tail(m, freelist, page)
            return NULL
        if pfn < s.high_pfn and not get_pageblock_skip(m, pfn):
            move_freelist_tail(m, freelist, page)
            update_fast_start_pfn(cc, pfn)
            cc.fast_search_fail = 0
            set_pageblock_skip(m, pfn)
            return max(pageblock_start_pfn(pfn), zone.zone_start_pfn)
        link = page.lru.next
    return NULL


@core
def search_migrateblock(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """The search of ``fast_find_migrateblock()``: free lists of large orders, which have a pageblock half empty
    already, in the first half (at the zone's start) or eighth between the scanners."""
    zone = zone_at(m, cc.zone)
    s = find_block()
    s.limit = freelist_scan_limit(cc)
    s.nr_scanned = 0
    distance = (cc.free_pfn - cc.migrate_pfn) >> 1
    if cc.migrate_pfn != zone.zone_start_pfn:
        distance >>= 2
    s.high_pfn = pageblock_start_pfn(cc.migrate_pfn + distance)
    found = NULL
    order = cc.order - 1
    while order >= PAGE_ALLOC_COSTLY_ORDER and found == NULL and s.nr_scanned < s.limit:
        if zone.free_area[order].nr_free != 0:
            flags = spin_lock_irqsave(cpu, zone.lock, S_FIND)
            found = find_on_list(m, cc, zone, s, order)
            spin_unlock_irqrestore(m, cpu, zone.lock, flags)
        order -= 1
    cc.total_migrate_scanned += s.nr_scanned
    return found


@core
def fast_find_migrateblock(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """``mm/compaction.c:fast_find_migrateblock() (5.10)``: where to scan; for costly orders of movable pages a
    pageblock that has large free parts already."""
    pfn = cc.migrate_pfn
    if cc.ignore_skip_hint != 0:
        return pfn
    if pfn != zone_at(m, cc.zone).zone_start_pfn and pfn != pageblock_start_pfn(pfn):
        return pfn
    if cc.order <= PAGE_ALLOC_COSTLY_ORDER:
        return pfn
    if cc.direct_compaction != 0 and cc.migratetype != MIGRATE_MOVABLE:
        return pfn
    found = search_migrateblock(m, cpu, cc)
    if found == NULL:
        cc.fast_search_fail += 1
        return reinit_migrate_pfn(cc)
    return found


@core
def isolate_mode_of(m: Machine, cc: CompactControl) -> int:
    """What this run may isolate: unevictable pages by sysctl, pages under writeback only if it waits for them."""
    mode = ISOLATE_UNEVICTABLE if vm_at(m, m.vm).compact_unevictable_allowed != 0 else 0
    return mode | ISOLATE_ASYNC_MIGRATE if cc.mode != MIGRATE_SYNC else mode


@core
def isolate_migratepages(m: Machine, cpu: Cpu, cc: CompactControl) -> int:
    """``mm/compaction.c:isolate_migratepages() (5.10)``: from the next suitable pageblock before the free scanner:
    ISOLATE_*."""
    zone = zone_at(m, cc.zone)
    low_pfn = fast_find_migrateblock(m, cpu, cc)
    block_start = max(pageblock_start_pfn(low_pfn), zone.zone_start_pfn)
    fast_find_block = low_pfn != cc.migrate_pfn and cc.fast_search_fail == 0
    block_end = pageblock_end_pfn(low_pfn)
    while block_end <= cc.free_pfn:
        if low_pfn % (SWAP_CLUSTER_MAX * PAGEBLOCK_NR_PAGES) == 0:
            cond_resched(m, cpu)
        pfn = pageblock_pfn_to_page(m, zone, block_start, block_end)
        skipped = low_pfn & (PAGEBLOCK_NR_PAGES - 1) == 0 and not fast_find_block
        if pfn != NULL and not (skipped and not isolation_suitable(m, cc, pfn)):
            if suitable_migration_source(m, cc, pfn):
                low_pfn = isolate_migratepages_block(m, cpu, cc, low_pfn, block_end, isolate_mode_of(m, cc))
                if low_pfn == 0:
                    return ISOLATE_ABORT
                break
            update_cached_migrate(m, cpu, cc, block_end)
        fast_find_block = False
        low_pfn = block_end
        block_start = block_end
        block_end += PAGEBLOCK_NR_PAGES
    cc.migrate_pfn = low_pfn
    return ISOLATE_SUCCESS if cc.nr_migratepages != 0 else ISOLATE_NONE
