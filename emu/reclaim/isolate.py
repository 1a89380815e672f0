"""Taking batches of pages off the LRU lists, and putting them back (``mm/vmscan.c`` (5.10)).

Differs from 5.10: pages on LRU lists are order 0.
"""

from emu.mm.isolate_lru import ISOLATE_UNMAPPED, __isolate_lru_page, putback_lru_page
from emu.mm.lruvec import lruvec_at, mem_cgroup_page_lruvec
from emu.mm.pagevec import free_page_list
from emu.mm.pagevec_move import page_evictable
from emu.mm.workingset import workingset_age_nonresident
from emu.reclaim.scan_control import (
    L_PUT, L_SKIPPED, ScanControl, current_is_kswapd, writeback_throttling_sane,
)  # fmt: skip
from emu.zone.event import EV_LRU_ISOLATE, record
from emu.zone.gfp import __GFP_FS, __GFP_IO
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD, list_add, list_del, list_empty, list_move, list_splice
from emu.zone.lru import del_page_from_lru_list, page_lru, update_lru_size
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Lruvec, Machine, Node, Page, page_record, zone_at
from emu.zone.types import ListHead
from emu.zone.page import PG_active, PG_lru, link_to_pfn, page_zone, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, put_page_testzero, test_flag
from emu.zone.vmstat import __count_vm_events, node_page_state
from emu.zone.vmstat_items import (
    NR_INACTIVE_ANON, NR_INACTIVE_FILE, NR_ISOLATED_ANON, NR_ISOLATED_FILE, PGSCAN_SKIP,
)  # fmt: skip
from shm.core import OnStack, core
from shm.point import site
from shm.struct import Array, Struct, array, i64, struct

S_PUTBACK = site("move_pages_to_lru:lock")


@struct
class Isolation(Struct):
    """What ``isolate_lru_pages()`` looked at."""

    nr_scanned: int = i64()
    nr_taken: Array[int] = array(i64, MAX_NR_ZONES)  # by zone
    nr_skipped: Array[int] = array(i64, MAX_NR_ZONES)


isolation = OnStack(Isolation)


@core(inline=True)
def last_of(m: Machine, head: ListHead) -> int:
    """``lru_to_page()``: pfn of the page at a list's tail."""
    return link_to_pfn(m, head.prev)


@core
def splice_skipped(m: Machine, cpu: Cpu, src: ListHead, found: Isolation) -> int:
    """Pages of zones that are too high go to the list's start; how many."""
    skipped = 0
    if not list_empty(m, cpu.scratch[L_SKIPPED]):
        list_splice(m, cpu.scratch[L_SKIPPED], src)
        for zid in range(MAX_NR_ZONES):
            __count_vm_events(cpu, PGSCAN_SKIP + zid, found.nr_skipped[zid])
            skipped += found.nr_skipped[zid]
    return skipped


@core
def isolate_lru_pages(
    m: Machine, cpu: Cpu, nr_to_scan: int, node: Node, lruvec: Lruvec, dst: int, found: Isolation, sc: ScanControl,
    lru: int,
) -> int:  # fmt: skip
    """``mm/vmscan.c:isolate_lru_pages() (5.10)``: look at pages from the list's tail on, move them to the CPU's list
    ``dst``; how many. Those of zones above ``reclaim_idx`` are set aside and don't count. ``lru_lock`` is held."""
    src = lruvec.lists[lru]
    mode = 0 if sc.may_unmap != 0 else ISOLATE_UNMAPPED
    nr_taken = 0
    scan = 0
    INIT_LIST_HEAD(m, cpu.scratch[L_SKIPPED])
    while scan < nr_to_scan and not list_empty(m, src):
        page = page_record(m, pfn_to_page(m, last_of(m, src)))
        found.nr_scanned += 1
        zid = zone_at(m, page_zone(m, page)).zid
        if zid > sc.reclaim_idx:
            list_move(m, page.lru, cpu.scratch[L_SKIPPED])
            found.nr_skipped[zid] += 1
            continue
        scan += 1
        ret = __isolate_lru_page(page, mode)
        if ret == 0:
            nr_taken += 1
            found.nr_taken[zid] += 1
            list_move(m, page.lru, cpu.scratch[dst])
        else:
            list_move(m, page.lru, src)  # somebody is about to free it
    skipped = splice_skipped(m, cpu, src, found)
    if cpu.trace != 0:
        a = nr_to_scan | found.nr_scanned << 20 | skipped << 40
        record(m, cpu, EV_LRU_ISOLATE, -1, sc.order, sc.reclaim_idx, mode, a, nr_taken | lru << 32)
    for zid in range(MAX_NR_ZONES):
        if found.nr_taken[zid] != 0:
            update_lru_size(m, cpu, node, lruvec, lru, node.node_zones[zid], -found.nr_taken[zid])
    return nr_taken


@core
def too_many_isolated(m: Machine, cpu: Cpu, node: Node, file: int, sc: ScanControl) -> bool:
    """``mm/vmscan.c:too_many_isolated() (5.10)``: direct reclaimers hold so much that others had better wait.

    Who may do IO and enter the file system waits already at an eighth of the list.
    """
    if current_is_kswapd(m, cpu) or not writeback_throttling_sane(m, sc):
        return False
    if file != 0:
        inactive = node_page_state(node, NR_INACTIVE_FILE)
        isolated = node_page_state(node, NR_ISOLATED_FILE)
    else:
        inactive = node_page_state(node, NR_INACTIVE_ANON)
        isolated = node_page_state(node, NR_ISOLATED_ANON)
    if sc.gfp_mask & (__GFP_IO | __GFP_FS) == __GFP_IO | __GFP_FS:
        inactive >>= 3
    return isolated > inactive


@core
def move_page_to_lru(m: Machine, cpu: Cpu, node: Node, page: Page) -> int:
    """One page of :func:`move_pages_to_lru`, back on its list; 0 if isolation's reference was the last."""
    lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
    SetPageFlag(page, PG_lru)
    lru = page_lru(page)
    update_lru_size(m, cpu, node, lruvec, lru, zone_at(m, page_zone(m, page)), 1)
    list_move(m, page.lru, lruvec.lists[lru])
    if put_page_testzero(page):
        ClearPageFlag(page, PG_lru | PG_active)
        del_page_from_lru_list(m, cpu, page, node, lruvec, lru)
        list_add(m, page.lru, cpu.scratch[L_PUT])
        return 0
    if test_flag(page, PG_active):
        workingset_age_nonresident(m, lruvec, 1)
    return 1


@core
def move_pages_to_lru(m: Machine, cpu: Cpu, node: Node, which: int, flags: int) -> int:
    """``mm/vmscan.c:move_pages_to_lru() (5.10)``: a list of isolated pages back to the lists that their flags name; how
    many. What stays on the list ``which`` is to be freed. ``lru_lock`` is held, taken with ``flags``.

    The lock is dropped for pages that have become unevictable.
    """
    these = cpu.scratch[which]
    nr_moved = 0
    INIT_LIST_HEAD(m, cpu.scratch[L_PUT])
    while not list_empty(m, these):
        pfn = last_of(m, these)
        page = page_record(m, pfn_to_page(m, pfn))
        if not page_evictable(page):
            list_del(m, page.lru)
            spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
            putback_lru_page(m, cpu, pfn)
            spin_lock_irqsave(cpu, node.lru_lock, S_PUTBACK)
            continue
        nr_moved += move_page_to_lru(m, cpu, node, page)
    list_splice(m, cpu.scratch[L_PUT], these)
    return nr_moved


@core
def free_isolated_list(m: Machine, cpu: Cpu, which: int) -> None:
    """``mem_cgroup_uncharge_list()`` and ``free_unref_page_list()`` of one of the CPU's lists. Nobody else has a
    reference to these pages."""
    INIT_LIST_HEAD(m, cpu.batch)
    list_splice(m, cpu.scratch[which], cpu.batch)
    INIT_LIST_HEAD(m, cpu.scratch[which])
    if not list_empty(m, cpu.batch):
        free_page_list(m, cpu)
