"""What one run of compaction knows (``struct compact_control`` in ``mm/internal.h`` (5.10)).

It lies on the stack of whoever compacts; its two lists of pages hang on heads in the CPU's record. A CPU never runs two
compactions at once: whoever compacts has PF_MEMALLOC, and so never compacts for its own allocations.
"""

from emu.mm.migrate import MigrateTarget
from emu.zone.mmzone import (
    MAX_ORDER_NR_PAGES, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu, Machine, Zone, page_record, pageblock_record,
)  # fmt: skip
from emu.zone.page import NULL, PG_buddy, pfn_to_page
from emu.zone.pageblock import PB_INITIALISED, PB_OFFLINE, PB_SKIP, change_bits
from emu.zone.sched import fatal_signal_pending, task_at
from shm.atomic import load_acquire
from shm.core import OnStack, core
from shm.struct import At, Struct, embed, i32, i64, struct

MIGRATEPAGES = 8  # heads in Cpu.scratch: pages that are being migrated
FREEPAGES = 9  # isolated free pages, of order 0 and referenced, to migrate to
SPLIT = 10  # pages of split_map_pages() on their way
COMPACT_CLUSTER_MAX = 32
NEVER = -1  # fast_start_pfn: used up (ULONG_MAX)
MIN_COMPACT_PRIORITY = 0


@struct
class CompactControl(Struct):
    """``struct compact_control``"""

    target: MigrateTarget = embed(MigrateTarget)  # first, so that migrate_pages()'s callbacks find the rest
    zone: int = i64()  # offset
    nr_freepages: int = i64()
    nr_migratepages: int = i64()
    free_pfn: int = i64()  # isolate_freepages() starts here
    migrate_pfn: int = i64()  # isolate_migratepages() starts here
    fast_start_pfn: int = i64()
    total_migrate_scanned: int = i64()
    total_free_scanned: int = i64()
    fast_search_fail: int = i32()
    search_order: int = i32()
    gfp_mask: int = i64()
    order: int = i32()  # -1: all there is to compact (compact_memory)
    migratetype: int = i32()
    alloc_flags: int = i64()
    highest_zoneidx: int = i32()
    mode: int = i32()  # MIGRATE_*
    ignore_skip_hint: int = i32()
    no_set_skip_hint: int = i32()
    ignore_block_suitable: int = i32()
    direct_compaction: int = i32()
    proactive_compaction: int = i32()
    whole_zone: int = i32()
    alloc_contig: int = i32()  # alloc_contig_range(): a range is to be emptied
    contended: int = i32()
    rescan: int = i32()
    scanned_to: int = i64()  # isolate_freepages_block(): where it stopped


compact_control = OnStack(CompactControl)
compact_control_of = At(CompactControl)


@core(inline=True)
def block_start_pfn(pfn: int, order: int) -> int:
    """``block_start_pfn()``"""
    return pfn & -(1 << order)


@core(inline=True)
def block_end_pfn(pfn: int, order: int) -> int:
    """``block_end_pfn()``: one past the last pfn of the block that ``pfn`` is in."""
    return (pfn & -(1 << order)) + (1 << order)


@core(inline=True)
def pageblock_start_pfn(pfn: int) -> int:
    """``pageblock_start_pfn()``"""
    return pfn & -PAGEBLOCK_NR_PAGES


@core(inline=True)
def pageblock_end_pfn(pfn: int) -> int:
    """``pageblock_end_pfn()``"""
    return (pfn & -PAGEBLOCK_NR_PAGES) + PAGEBLOCK_NR_PAGES


@core(inline=True)
def zone_end_pfn(zone: Zone) -> int:
    """``zone_end_pfn()``"""
    return zone.zone_start_pfn + zone.spanned_pages


@core(inline=True)
def get_pageblock_skip(m: Machine, pfn: int) -> bool:
    """``get_pageblock_skip()``"""
    return pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits & PB_SKIP != 0


@core
def set_pageblock_skip(m: Machine, pfn: int) -> None:
    """``set_pageblock_skip()``"""
    change_bits(m, pfn, 0, PB_SKIP)


@core
def clear_pageblock_skip(m: Machine, pfn: int) -> None:
    """``clear_pageblock_skip()``"""
    change_bits(m, pfn, PB_SKIP, 0)


@core
def pfn_to_online_page(m: Machine, zone: Zone, pfn: int) -> bool:
    """``pfn_to_online_page()`` of this zone: memory of it, and no hole.

    A pageblock with no struct pages of its own yet is memory if it is free, alone or as the upper half of a block.
    """
    if pfn < zone.zone_start_pfn or pfn >= zone_end_pfn(zone):
        return False
    bits = pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits
    if bits & PB_OFFLINE != 0:
        return False
    if bits & PB_INITIALISED != 0:
        return True
    if page_record(m, pfn_to_page(m, pageblock_start_pfn(pfn))).page_flags & PG_buddy != 0:
        return True
    head = page_record(m, pfn_to_page(m, pfn & -MAX_ORDER_NR_PAGES))
    return head.page_flags & PG_buddy != 0 and head.private > PAGEBLOCK_ORDER


@core
def pageblock_pfn_to_page(m: Machine, zone: Zone, start_pfn: int, end_pfn: int) -> int:
    """``pageblock_pfn_to_page()``: ``start_pfn`` if the whole pageblock is the zone's, or NULL."""
    if zone.contiguous == 0 and not pfn_to_online_page(m, zone, end_pfn - 1):
        return NULL
    if zone.contiguous == 0 and not pfn_to_online_page(m, zone, start_pfn):
        return NULL
    return start_pfn


@core(inline=True)
def dying(m: Machine, cpu: Cpu) -> bool:
    """``fatal_signal_pending()``; a machine that is being stopped kills everybody."""
    return fatal_signal_pending(task_at(m, cpu.current)) or load_acquire(m, "stop") != 0
