"""One isolated, locked page: is it used, is it dirty, write it out, take it from its owner (``mm/vmscan.c`` (5.10))."""

from emu.mm.page_cache import __delete_from_page_cache
from emu.mm.page_dirty import clear_page_dirty_for_io
from emu.mm.page_io import AOP_WRITEPAGE_ACTIVATE, writepage
from emu.mm.rmap_walk import PageAnon, page_referenced
from emu.mm.swap_state import __delete_from_swap_cache
from emu.mm.swapfile import put_swap_page
from emu.mm.workingset import workingset_eviction
from emu.reclaim.scan_control import ScanControl
from emu.zone.event import EV_WRITEPAGE, record
from emu.zone.gfp import PF_SWAPWRITE
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import mod_node_page_state, page_is_file_lru, page_to_nid
from emu.zone.mm_types import (
    AS_FILE, PRIVATE_SWAP_MASK, VM_EXEC, VM_LOCKED, file_at, file_record, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import (
    PG_dirty, PG_reclaim, PG_referenced, PG_swapbacked, PG_swapcache, PG_writeback, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import (
    ClearPageFlag, SetPageFlag, TestClearPageFlag, page_count, page_ref_freeze, page_ref_unfreeze, test_flag,
)  # fmt: skip
from emu.zone.sched import task_at
from emu.zone.vmstat_items import NR_VMSCAN_WRITE
from shm.atomic import load_acquire
from shm.core import core
from shm.point import point, site

PAGEREF_RECLAIM = 0
PAGEREF_RECLAIM_CLEAN = 1
PAGEREF_KEEP = 2
PAGEREF_ACTIVATE = 3

PAGE_KEEP = 0
PAGE_ACTIVATE = 1
PAGE_SUCCESS = 2
PAGE_CLEAN = 3

MAPPING_NONE = 0
MAPPING_FILE = 1
MAPPING_SWAP = 2

RECLAIM_WB_ANON = 1  # flags of mm_vmscan_writepage
RECLAIM_WB_FILE = 2
RECLAIM_WB_ASYNC = 8
S_REMOVE = site("__remove_mapping:i_pages_lock")
S_FREEZE = site("__remove_mapping:page_ref_freeze")


@core(inline=True)
def PageSwapCache(page: Page) -> bool:
    """``PageSwapCache()``: its bit is another's for pages that aren't swap-backed."""
    return load_acquire(page, "page_flags") & (PG_swapcache | PG_swapbacked) == PG_swapcache | PG_swapbacked


@core
def page_mapping(page: Page) -> int:
    """``mm/util.c:page_mapping() (5.10)``: which kind of address space has the page: MAPPING_*."""
    if PageSwapCache(page):
        return MAPPING_SWAP
    if page.mapping == 0 or PageAnon(page):
        return MAPPING_NONE
    return MAPPING_FILE


@core
def inode_write_congested(m: Machine, page: Page) -> bool:
    """``inode_write_congested()`` of a page's mapping. Swap and tmpfs have no device in the kernel's eyes."""
    if page_mapping(page) != MAPPING_FILE:
        return False
    vm = vm_at(m, m.vm)
    if file_record(m, file_at(m, vm, page.mapping >> 2)).kind != AS_FILE:
        return False
    return load_acquire(vm.nr_wb_congested, "counter") != 0


@core
def page_check_references(m: Machine, cpu: Cpu, pfn: int, sc: ScanControl) -> int:
    """``mm/vmscan.c:page_check_references() (5.10)``: PAGEREF_*. Clears the young bits and PG_referenced.

    A mapped page gets one more round for the reference that its first fault left, and is activated by the next; pages
    of executables at once.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    found = page_referenced(m, cpu, pfn)
    referenced_ptes = found & 0xFFFFFFFF
    vm_flags = found >> 32
    referenced_page = TestClearPageFlag(page, PG_referenced)
    if vm_flags & VM_LOCKED != 0:
        return PAGEREF_RECLAIM  # mlock came after isolation: try_to_unmap() sees to it
    if referenced_ptes != 0:
        SetPageFlag(page, PG_referenced)
        if referenced_page or referenced_ptes > 1:
            return PAGEREF_ACTIVATE
        if vm_flags & VM_EXEC != 0 and not test_flag(page, PG_swapbacked):
            return PAGEREF_ACTIVATE
        return PAGEREF_KEEP
    if referenced_page and not test_flag(page, PG_swapbacked):
        return PAGEREF_RECLAIM_CLEAN
    return PAGEREF_RECLAIM


@core
def page_check_dirty_writeback(page: Page) -> int:
    """``mm/vmscan.c:page_check_dirty_writeback() (5.10)``: PG_dirty and PG_writeback, as far as flushers would see to
    it; they don't know anonymous pages and tmpfs."""
    if not page_is_file_lru(page):
        return 0
    return load_acquire(page, "page_flags") & (PG_dirty | PG_writeback)


@core
def may_write_to_inode(m: Machine, cpu: Cpu, page: Page) -> bool:
    """``mm/vmscan.c:may_write_to_inode() (5.10)``: kswapd and node reclaim always; others unless they would wait.

    Differs from 5.10: a task has no ``backing_dev_info`` of its own that it may write to all the same.
    """
    if task_at(m, cpu.current).process_flags & PF_SWAPWRITE != 0:
        return True
    return not inode_write_congested(m, page)


@core
def pageout(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/vmscan.c:pageout() (5.10)``: write a dirty page: PAGE_SUCCESS and unlocked, or PAGE_KEEP, PAGE_ACTIVATE,
    PAGE_CLEAN and still locked.

    Differs from 5.10: pages have no buffers, and writing doesn't fail.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    if page_count(page) != 2:  # !is_page_cache_freeable(): the cache's reference and isolation's
        return PAGE_KEEP
    if page_mapping(page) == MAPPING_NONE:
        return PAGE_KEEP
    if not may_write_to_inode(m, cpu, page):
        return PAGE_KEEP
    if not clear_page_dirty_for_io(m, cpu, pfn):
        return PAGE_CLEAN
    SetPageFlag(page, PG_reclaim)
    if writepage(m, cpu, pfn) == AOP_WRITEPAGE_ACTIVATE:
        ClearPageFlag(page, PG_reclaim)
        return PAGE_ACTIVATE
    if not test_flag(page, PG_writeback):
        ClearPageFlag(page, PG_reclaim)
    if cpu.trace != 0:
        which = RECLAIM_WB_FILE if page_is_file_lru(page) else RECLAIM_WB_ANON
        record(m, cpu, EV_WRITEPAGE, pfn, 0, 0, 0, which | RECLAIM_WB_ASYNC, 0)
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_VMSCAN_WRITE, 1)
    return PAGE_SUCCESS


@core
def freeze_clean_page(m: Machine, cpu: Cpu, page: Page) -> bool:
    """The common part of ``__remove_mapping()``: without references but the cache's and ours, the page is frozen at 0;
    not if it has become dirty. The count is looked at first, so that a writer's last reference comes with its dirt."""
    point(cpu.party, S_FREEZE)
    if not page_ref_freeze(page, 2):
        return False
    if test_flag(page, PG_dirty):
        page_ref_unfreeze(page, 2)
        return False
    return True


@core
def remove_from_swap_cache(m: Machine, cpu: Cpu, pfn: int, reclaimed: int, target_memcg: int) -> bool:
    """``__remove_mapping()`` of a page in the swap cache: its slot gets a shadow and loses the cache's reference."""
    page = page_record(m, pfn_to_page(m, pfn))
    swap = vm_at(m, m.vm).swap
    flags = spin_lock_irqsave(cpu, swap.swap_lock, S_REMOVE)
    frozen = freeze_clean_page(m, cpu, page)
    entry = page.private & PRIVATE_SWAP_MASK
    if frozen:
        shadow = workingset_eviction(m, cpu, pfn, target_memcg) if reclaimed != 0 else 0
        __delete_from_swap_cache(m, cpu, pfn, shadow)
    spin_unlock_irqrestore(m, cpu, swap.swap_lock, flags)
    if frozen:
        put_swap_page(m, cpu, entry)
    return frozen


@core
def remove_from_page_cache(m: Machine, cpu: Cpu, pfn: int, reclaimed: int, target_memcg: int) -> bool:
    """``__remove_mapping()`` of a page in the page cache; only pages on the file lists leave a shadow."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = file_record(m, file_at(m, vm_at(m, m.vm), page.mapping >> 2))
    flags = spin_lock_irqsave(cpu, file.i_pages_lock, S_REMOVE)
    frozen = freeze_clean_page(m, cpu, page)
    if frozen:
        shadow = 0
        if reclaimed != 0 and page_is_file_lru(page):
            shadow = workingset_eviction(m, cpu, pfn, target_memcg)
        __delete_from_page_cache(m, cpu, pfn, shadow)
    spin_unlock_irqrestore(m, cpu, file.i_pages_lock, flags)
    return frozen


@core
def __remove_mapping(m: Machine, cpu: Cpu, pfn: int, reclaimed: int, target_memcg: int) -> bool:
    """``mm/vmscan.c:__remove_mapping() (5.10)``: take a locked page from its address space, with no reference left.

    ``reclaimed``: leave a shadow for the refault. False if the page is busy or dirty, or has no mapping.
    """
    kind = page_mapping(page_record(m, pfn_to_page(m, pfn)))
    if kind == MAPPING_SWAP:
        return remove_from_swap_cache(m, cpu, pfn, reclaimed, target_memcg)
    if kind == MAPPING_FILE:
        return remove_from_page_cache(m, cpu, pfn, reclaimed, target_memcg)
    return False
