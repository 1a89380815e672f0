"""Reclaiming a list of isolated pages (``mm/vmscan.c:shrink_page_list() (5.10)``).

Differs from 5.10: pages on LRU lists are order 0, so nothing is split; pages have no buffers to be dropped; there is
no MADV_FREE, so no anonymous page is dropped without swap.
"""

from emu.cpu.workqueue import cond_resched
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.page_dirty import wait_on_page_writeback
from emu.mm.pagevec_move import page_evictable
from emu.mm.rmap import TTU_BATCH_FLUSH, try_to_unmap
from emu.mm.rmap_walk import PageAnon, page_mapped
from emu.mm.swap_state import add_to_swap, try_to_free_swap
from emu.mm.swapfile import vm_swap_full
from emu.reclaim.isolate import free_isolated_list, last_of
from emu.reclaim.pageout import (
    PAGE_ACTIVATE, PAGE_KEEP, PAGE_SUCCESS, PAGEREF_ACTIVATE, PAGEREF_KEEP, PAGEREF_RECLAIM, PAGEREF_RECLAIM_CLEAN,
    PageSwapCache, __remove_mapping, inode_write_congested, page_check_dirty_writeback,
    page_check_references, pageout,
)  # fmt: skip
from emu.reclaim.scan_control import (
    DEF_PRIORITY, L_CLEAN, L_FREE, L_RETURN, PGDAT_DIRTY, PGDAT_WRITEBACK, ReclaimStat, ScanControl,
    current_is_kswapd, reclaim_stat, scan_control, writeback_throttling_sane,
)  # fmt: skip
from emu.zone.gfp import __GFP_FS, __GFP_IO, GFP_KERNEL
from emu.zone.list import INIT_LIST_HEAD, link_of, list_add, list_add_tail, list_del, list_empty, list_move, list_splice
from emu.zone.lru import mod_node_page_state, page_is_file_lru, page_to_nid
from emu.zone.mmzone import Cpu, Machine, Node, Page, Zone, page_record
from emu.zone.page import (
    PAGE_MAPPING_FLAGS, PAGE_MAPPING_MOVABLE, PG_active, PG_dirty, PG_mlocked, PG_reclaim,
    PG_unevictable, PG_writeback, link_to_pfn, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import NR_ISOLATED_FILE, NR_VMSCAN_IMMEDIATE, PGACTIVATE
from shm.atomic import load_acquire
from shm.core import core
from shm.point import point, site

# What becomes of a page
V_KEEP = 0  # back to the list, unlocked already
V_KEEP_LOCKED = 1
V_ACTIVATE_LOCKED = 2
V_FREE = 3
V_AGAIN = 4  # the same page once more, unlocked already
V_GO_ON = 5  # nothing yet: the next step decides
S_TRYLOCK = site("shrink_page_list:trylock_page")


@core
def note_dirty_writeback(m: Machine, page: Page, stat: ReclaimStat) -> None:
    """Count dirty, unqueued and congested pages, from which ``shrink_node()`` and the caller draw conclusions."""
    found = page_check_dirty_writeback(page)
    if found != 0:
        stat.nr_dirty += 1
    if found == PG_dirty:
        stat.nr_unqueued_dirty += 1
    cycling = found & PG_writeback != 0 and test_flag(page, PG_reclaim)
    if (found != 0 and inode_write_congested(m, page)) or cycling:
        stat.nr_congested += 1


@core
def page_under_writeback(
    m: Machine, cpu: Cpu, pfn: int, node: Node, sc: ScanControl, stat: ReclaimStat, may_enter_fs: bool
) -> int:
    """The three cases of a page under writeback.

    kswapd meets it a second time on a node full of such pages: the caller stalls. Else it is marked, so that the end of
    the write puts it first in line, and gets out of the way on the active list. Reclaim for a cgroup of the first
    version, which nobody holds back from dirtying, waits.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    reclaim = test_flag(page, PG_reclaim)
    if current_is_kswapd(m, cpu) and reclaim and load_acquire(node, "pgdat_flags") & PGDAT_WRITEBACK != 0:
        stat.nr_immediate += 1
        return V_ACTIVATE_LOCKED
    if writeback_throttling_sane(m, sc) or not reclaim or not may_enter_fs:
        SetPageFlag(page, PG_reclaim)
        stat.nr_writeback += 1
        return V_ACTIVATE_LOCKED
    unlock_page(m, cpu, pfn)
    wait_on_page_writeback(m, cpu, pfn)
    return V_AGAIN if load_acquire(m, "stop") == 0 else V_KEEP


@core
def write_dirty_page(
    m: Machine, cpu: Cpu, pfn: int, node: Node, sc: ScanControl, stat: ReclaimStat, references: int, may_enter_fs: bool
) -> int:
    """The part of ``shrink_page_list()`` for dirty pages: V_GO_ON if the page is clean and locked afterwards.

    Pages of files are left to the flusher unless kswapd meets them again where all are dirty.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    if page_is_file_lru(page):
        dirty_node = load_acquire(node, "pgdat_flags") & PGDAT_DIRTY != 0
        if not current_is_kswapd(m, cpu) or not test_flag(page, PG_reclaim) or not dirty_node:
            mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_VMSCAN_IMMEDIATE, 1)
            SetPageFlag(page, PG_reclaim)
            return V_ACTIVATE_LOCKED
    if references == PAGEREF_RECLAIM_CLEAN or not may_enter_fs or sc.may_writepage == 0:
        return V_KEEP_LOCKED
    done = pageout(m, cpu, pfn)
    if done == PAGE_KEEP:
        return V_KEEP_LOCKED
    if done == PAGE_ACTIVATE:
        return V_ACTIVATE_LOCKED
    if done == PAGE_SUCCESS:
        stat.nr_pageout += 1
        if test_flag(page, PG_writeback) or test_flag(page, PG_dirty):
            return V_KEEP
        if not trylock_page(page):
            return V_KEEP
        if test_flag(page, PG_dirty) or test_flag(page, PG_writeback):
            return V_KEEP_LOCKED
    return V_GO_ON


@core
def unmap_page(m: Machine, cpu: Cpu, pfn: int, stat: ReclaimStat) -> int:
    """Take a page from the page tables; V_GO_ON if it is in none any more."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not page_mapped(page):
        return V_GO_ON
    if try_to_unmap(m, cpu, pfn, TTU_BATCH_FLUSH):
        return V_GO_ON
    stat.nr_unmap_fail += 1
    return V_ACTIVATE_LOCKED


@core
def shrink_page(
    m: Machine, cpu: Cpu, pfn: int, node: Node, sc: ScanControl, stat: ReclaimStat, ignore_references: int
) -> int:
    """``shrink_page_list()`` for one page, which is locked: what becomes of it (V_*)."""
    page = page_record(m, pfn_to_page(m, pfn))
    sc.nr_scanned += 1
    if not page_evictable(page):
        return V_ACTIVATE_LOCKED
    if sc.may_unmap == 0 and page_mapped(page):
        return V_KEEP_LOCKED
    may_enter_fs = sc.gfp_mask & __GFP_FS != 0 or (PageSwapCache(page) and sc.gfp_mask & __GFP_IO != 0)
    note_dirty_writeback(m, page, stat)
    if test_flag(page, PG_writeback):
        return page_under_writeback(m, cpu, pfn, node, sc, stat, may_enter_fs)
    references = PAGEREF_RECLAIM
    if ignore_references == 0:
        references = page_check_references(m, cpu, pfn, sc)
    if references == PAGEREF_ACTIVATE:
        return V_ACTIVATE_LOCKED
    if references == PAGEREF_KEEP:
        stat.nr_ref_keep += 1
        return V_KEEP_LOCKED
    if PageAnon(page) and not PageSwapCache(page):
        if sc.gfp_mask & __GFP_IO == 0:
            return V_KEEP_LOCKED
        if not add_to_swap(m, cpu, pfn):
            return V_ACTIVATE_LOCKED
        may_enter_fs = True
    verdict = unmap_page(m, cpu, pfn, stat)
    if verdict == V_GO_ON and test_flag(page, PG_dirty):
        verdict = write_dirty_page(m, cpu, pfn, node, sc, stat, references, may_enter_fs)
    if verdict == V_GO_ON:
        freed = __remove_mapping(m, cpu, pfn, 1, sc.target_mem_cgroup)
        verdict = V_FREE if freed else V_KEEP_LOCKED
    return verdict


@core
def activate_locked(m: Machine, cpu: Cpu, pfn: int, stat: ReclaimStat) -> None:
    """The label of that name: a page that stays; when swap gets short its slot is given back."""
    page = page_record(m, pfn_to_page(m, pfn))
    if PageSwapCache(page) and (vm_swap_full(m) or test_flag(page, PG_mlocked)):
        try_to_free_swap(m, cpu, pfn)
    if not test_flag(page, PG_mlocked):
        SetPageFlag(page, PG_active)
        stat.nr_activate[1 if page_is_file_lru(page) else 0] += 1


@core
def shrink_page_list(
    m: Machine, cpu: Cpu, which: int, node: Node, sc: ScanControl, stat: ReclaimStat, ignore_references: int
) -> int:
    """``mm/vmscan.c:shrink_page_list() (5.10)``: reclaim what can be reclaimed of the CPU's list ``which``; how many
    pages were freed. The others are on the list afterwards, marked active or not. ``stat`` is zero before."""
    these = cpu.scratch[which]
    returned = cpu.scratch[L_RETURN]
    INIT_LIST_HEAD(m, returned)
    INIT_LIST_HEAD(m, cpu.scratch[L_FREE])
    nr_reclaimed = 0
    cond_resched(m, cpu)
    while not list_empty(m, these):
        cond_resched(m, cpu)
        pfn = last_of(m, these)
        page = page_record(m, pfn_to_page(m, pfn))
        list_del(m, page.lru)
        verdict = V_KEEP
        point(cpu.party, S_TRYLOCK)
        if trylock_page(page):
            verdict = shrink_page(m, cpu, pfn, node, sc, stat, ignore_references)
        if verdict == V_AGAIN:
            list_add_tail(m, page.lru, these)
            continue
        if verdict == V_ACTIVATE_LOCKED:
            activate_locked(m, cpu, pfn, stat)
        if verdict != V_KEEP:
            unlock_page(m, cpu, pfn)
        if verdict == V_FREE:
            nr_reclaimed += 1
            list_add(m, page.lru, cpu.scratch[L_FREE])
        else:
            list_add(m, page.lru, returned)
    free_isolated_list(m, cpu, L_FREE)
    list_splice(m, returned, these)
    __count_vm_events(cpu, PGACTIVATE, stat.nr_activate[0] + stat.nr_activate[1])
    return nr_reclaimed


@core
def reclaim_clean_pages_from_list(m: Machine, cpu: Cpu, zone: Zone, which: int) -> int:
    """``mm/vmscan.c:reclaim_clean_pages_from_list() (5.10)``: drop the clean file pages of a list that is about to be
    migrated: they needn't be moved. How many."""
    sc = scan_control()
    stat = reclaim_stat()
    sc.gfp_mask = GFP_KERNEL
    sc.priority = DEF_PRIORITY
    sc.may_unmap = 1
    these = cpu.scratch[which]
    clean = cpu.scratch[L_CLEAN]
    INIT_LIST_HEAD(m, clean)
    end = link_of(m, these)
    link = these.next
    while link != end:
        page = page_record(m, pfn_to_page(m, link_to_pfn(m, link)))
        link = page.lru.next
        movable = page.mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE
        if page_is_file_lru(page) and not test_flag(page, PG_dirty | PG_unevictable) and not movable:
            ClearPageFlag(page, PG_active)
            list_move(m, page.lru, clean)
    node = m.nodes[zone.node]
    nr_reclaimed = shrink_page_list(m, cpu, L_CLEAN, node, sc, stat, 1)
    list_splice(m, clean, these)
    mod_node_page_state(m, cpu, node, NR_ISOLATED_FILE, -nr_reclaimed)
    return nr_reclaimed
