"""The migration scanner: from the start of a zone forwards, pages to move away (``mm/compaction.c`` (5.10))."""

from emu.compact.control import (
    COMPACT_CLUSTER_MAX, MIGRATEPAGES, CompactControl, block_end_pfn, dying, get_pageblock_skip, set_pageblock_skip,
)  # fmt: skip
from emu.compact.lock import compact_lock_irqsave, compact_should_abort
from emu.compact.skip import test_and_set_skip, update_cached_migrate
from emu.cpu.free import SWAP_CLUSTER_MAX
from emu.cpu.workqueue import cond_resched
from emu.mm.disk import congestion_wait
from emu.mm.isolate_lru import __isolate_lru_page
from emu.mm.lruvec import lruvec_at, mem_cgroup_page_lruvec
from emu.mm.migrate import MIGRATE_ASYNC, mod_isolated, putback_movable_pages
from emu.mm.migrate_mapping import MAPPING_NONE, page_mapping
from emu.mm.movable import PG_isolated, __PageMovable, isolate_movable_page
from emu.zone.buddy import buddy_order
from emu.zone.event import EV_ISOLATE_MIGRATEPAGES, record
from emu.zone.gfp import __GFP_FS
from emu.zone.irq import spin_unlock_irqrestore
from emu.zone.list import list_add
from emu.zone.lru import del_page_from_lru_list, page_lru
from emu.zone.mmzone import MAX_ORDER, PAGEBLOCK_NR_PAGES, Cpu, Machine, Node, Page, page_record, zone_at
from emu.zone.page import NULL, PG_buddy, PG_lru, PageCompound, compound_order, pfn_to_page
from emu.zone.page_ref import page_count, test_flag
from emu.zone.vmstat import __count_vm_events, node_page_state
from emu.zone.vmstat_items import COMPACTISOLATED, NR_ISOLATED_ANON, NR_LRU_BASE
from shm.core import OnStack, core
from shm.point import point, site
from shm.struct import Struct, i32, i64, struct

SCAN_NEXT = 0  # free: nothing to move
SCAN_FAILED = 1
SCAN_ISOLATED = 2
SCAN_ABORT = 3
CONGESTION_MS = 100  # HZ / 10
S_LRU = site("isolate_migratepages_block:lock")
S_LOOK = site("isolate_migratepages_block:read PageLRU")


@struct
class MigrateScan(Struct):
    """The local variables of ``isolate_migratepages_block()``."""

    low_pfn: int = i64()
    end_pfn: int = i64()
    next_skip_pfn: int = i64()
    nr_scanned: int = i64()
    nr_isolated: int = i64()
    valid_page: int = i64()  # first page of the pageblock, or NULL
    flags: int = i32()  # interrupts
    locked: int = i32()
    skip_updated: int = i32()
    skip_on_failure: int = i32()


migrate_scan = OnStack(MigrateScan)


@core
def too_many_isolated(node: Node) -> bool:
    """``mm/compaction.c:too_many_isolated() (5.10)``: more than half as many as there are on the lists."""
    lists = 0
    for lru in range(4):
        lists += node_page_state(node, NR_LRU_BASE + lru)
    isolated = node_page_state(node, NR_ISOLATED_ANON) + node_page_state(node, NR_ISOLATED_ANON + 1)
    return isolated > lists >> 1


@core(cold=True)
def wait_for_isolated(m: Machine, cpu: Cpu, cc: CompactControl, node: Node) -> bool:
    """Wait until others have put back some isolated pages; false: leave it."""
    while too_many_isolated(node):
        if cc.nr_migratepages != 0 or cc.mode == MIGRATE_ASYNC:
            return False
        congestion_wait(m, cpu, CONGESTION_MS)
        if dying(m, cpu):
            return False
    return True


@core(inline=True)
def unlock_lru(m: Machine, cpu: Cpu, node: Node, s: MigrateScan) -> None:
    """Let go of the lru_lock if it is held."""
    if s.locked != 0:
        s.locked = 0
        spin_unlock_irqrestore(m, cpu, node.lru_lock, s.flags)


@core
def scan_other(m: Machine, cpu: Cpu, node: Node, page: Page, s: MigrateScan, mode: int) -> int:
    """A page that is on no LRU list: SCAN_ISOLATED if it is movable all the same."""
    if __PageMovable(page) and not test_flag(page, PG_isolated):
        unlock_lru(m, cpu, node, s)
        if isolate_movable_page(m, cpu, s.low_pfn, mode) == 0:
            return SCAN_ISOLATED
    return SCAN_FAILED


@core
def scan_lru(m: Machine, cpu: Cpu, cc: CompactControl, node: Node, page: Page, s: MigrateScan, mode: int) -> int:
    """A page on an LRU list: under the lock, off the list. Pages that migration would fail on stay, as far as that can
    be seen: anonymous ones with more references than PTEs, and those of files when the caller must not use them."""
    mapping = page_mapping(page)
    if mapping == MAPPING_NONE and page_count(page) > page.mapcount + 1:
        return SCAN_FAILED
    if cc.gfp_mask & __GFP_FS == 0 and mapping != MAPPING_NONE:
        return SCAN_FAILED
    if s.locked == 0:
        s.flags = compact_lock_irqsave(m, cpu, node.lru_lock, cc, S_LRU)
        s.locked = 1
        if s.skip_updated == 0:
            s.skip_updated = 1
            if test_and_set_skip(m, cc, s.low_pfn):
                return SCAN_ABORT
        if not test_flag(page, PG_lru):
            return SCAN_FAILED
        if PageCompound(page):
            s.low_pfn += (1 << compound_order(m, s.low_pfn)) - 1
            return SCAN_FAILED
    lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
    if __isolate_lru_page(page, mode) != 0:
        return SCAN_FAILED
    del_page_from_lru_list(m, cpu, page, node, lruvec, page_lru(page))
    mod_isolated(m, cpu, s.low_pfn, 1)
    return SCAN_ISOLATED


@core
def scan_page(m: Machine, cpu: Cpu, cc: CompactControl, node: Node, s: MigrateScan, mode: int) -> int:
    """One page of the scan: SCAN_*. Free blocks and compound pages are passed over as a whole."""
    page = page_record(m, pfn_to_page(m, s.low_pfn))
    if s.valid_page == NULL and s.low_pfn & (PAGEBLOCK_NR_PAGES - 1) == 0:
        if cc.ignore_skip_hint == 0 and get_pageblock_skip(m, s.low_pfn):
            s.low_pfn = s.end_pfn
            return SCAN_ABORT
        s.valid_page = s.low_pfn
    if test_flag(page, PG_buddy):
        order = buddy_order(page)
        if order > 0 and order < MAX_ORDER:
            s.low_pfn += (1 << order) - 1
        return SCAN_NEXT
    if PageCompound(page) and (cc.alloc_contig == 0 or test_flag(page, PG_lru)):
        order = compound_order(m, s.low_pfn)
        if order < MAX_ORDER:
            s.low_pfn += (1 << order) - 1
        return SCAN_FAILED
    point(cpu.party, S_LOOK)
    if not test_flag(page, PG_lru):
        return scan_other(m, cpu, node, page, s, mode)
    return scan_lru(m, cpu, cc, node, page, s, mode)


@core
def give_up_block(m: Machine, cpu: Cpu, cc: CompactControl, node: Node, s: MigrateScan) -> None:
    """A block of the wanted order can't become free: put back what was isolated of it, go on behind it."""
    if s.nr_isolated != 0:
        unlock_lru(m, cpu, node, s)
        putback_movable_pages(m, cpu, cpu.scratch[MIGRATEPAGES])
        cc.nr_migratepages = 0
        s.nr_isolated = 0
    if s.low_pfn < s.next_skip_pfn:
        s.low_pfn = s.next_skip_pfn - 1
        s.next_skip_pfn += 1 << cc.order


@core
def scan_block(m: Machine, cpu: Cpu, cc: CompactControl, node: Node, s: MigrateScan, mode: int) -> bool:
    """The loop of ``isolate_migratepages_block()``; false when a fatal signal has ended it."""
    while s.low_pfn < s.end_pfn:
        if s.skip_on_failure != 0 and s.low_pfn >= s.next_skip_pfn:
            if s.nr_isolated != 0:
                break
            s.next_skip_pfn = block_end_pfn(s.low_pfn, cc.order)
        if s.low_pfn & (SWAP_CLUSTER_MAX - 1) == 0:
            unlock_lru(m, cpu, node, s)
            if compact_should_abort(m, cpu, cc):
                return False
        s.nr_scanned += 1
        found = scan_page(m, cpu, cc, node, s, mode)
        if found == SCAN_ABORT:
            break
        if found == SCAN_ISOLATED:
            list_add(m, page_record(m, pfn_to_page(m, s.low_pfn)).lru, cpu.scratch[MIGRATEPAGES])
            cc.nr_migratepages += 1
            s.nr_isolated += 1
            if cc.nr_migratepages >= COMPACT_CLUSTER_MAX and cc.rescan == 0 and cc.contended == 0:
                s.low_pfn += 1
                break
        elif found == SCAN_FAILED and s.skip_on_failure != 0:
            give_up_block(m, cpu, cc, node, s)
        s.low_pfn += 1
    unlock_lru(m, cpu, node, s)
    return True


@core
def isolate_migratepages_block(
    m: Machine, cpu: Cpu, cc: CompactControl, low_pfn: int, end_pfn: int, mode: int
) -> int:  # fmt: skip
    """``mm/compaction.c:isolate_migratepages_block() (5.10)``: pages of one pageblock onto the list of those to be
    migrated; the first pfn that was not scanned, 0 to give up. A direct compactor in a hurry only takes blocks of the
    wanted order that it can empty.

    Differs from 5.10: compound pages on the LRU stay there for ``alloc_contig`` too, since none is migrated.
    """
    node = m.nodes[zone_at(m, cc.zone).node]
    if not wait_for_isolated(m, cpu, cc, node):
        return 0
    cond_resched(m, cpu)
    s = migrate_scan()
    s.low_pfn = low_pfn
    s.end_pfn = end_pfn
    s.valid_page = NULL
    s.locked = 0
    s.skip_updated = 0
    s.skip_on_failure = 1 if cc.direct_compaction != 0 and cc.mode == MIGRATE_ASYNC else 0
    if s.skip_on_failure != 0:
        s.next_skip_pfn = block_end_pfn(low_pfn, cc.order)
    whole = scan_block(m, cpu, cc, node, s, mode)
    stopped = 0
    if whole:
        stopped = min(s.low_pfn, end_pfn)
        if stopped == end_pfn and (s.nr_isolated == 0 or cc.rescan != 0):
            if s.valid_page != NULL and s.skip_updated == 0:
                set_pageblock_skip(m, s.valid_page)
            update_cached_migrate(m, cpu, cc, stopped)
        if cpu.trace != 0:
            taken = s.nr_scanned | s.nr_isolated << 32
            record(m, cpu, EV_ISOLATE_MIGRATEPAGES, low_pfn, 0, 0, 0, stopped, taken)
    cc.total_migrate_scanned += s.nr_scanned
    if s.nr_isolated != 0:
        __count_vm_events(cpu, COMPACTISOLATED, s.nr_isolated)
    return stopped
