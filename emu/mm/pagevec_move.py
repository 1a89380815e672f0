"""What a drained pagevec does with each of its pages (the ``move_fn`` of ``mm/swap.c:pagevec_lru_move_fn()`` (5.10)).

The node's ``lru_lock`` is held with interrupts off. Each function returns how many pages it moved.
"""

from emu.zone.lru import (
    LRU_ACTIVE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, LRU_UNEVICTABLE, add_page_to_lru_list, add_page_to_lru_list_tail,
    del_page_from_lru_list, page_is_file_lru, page_lru,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Lruvec, Machine, Node, Page
from emu.zone.page import (
    PG_active, PG_dirty, PG_lru, PG_mlocked, PG_reclaim, PG_referenced, PG_unevictable,
    PG_writeback,
)  # fmt: skip
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, TestClearPageFlag, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGACTIVATE, PGDEACTIVATE, PGROTATED, UNEVICTABLE_PGCULLED, UNEVICTABLE_PGRESCUED
from shm.atomic import load_acquire
from shm.core import core

MOVE_ADD = 0
MOVE_TAIL = 1
MOVE_DEACTIVATE_FILE = 2
MOVE_ACTIVATE = 3


@core(inline=True)
def page_lru_base_type(page: Page) -> int:
    """``page_lru_base_type()``: the inactive list of its kind."""
    return LRU_INACTIVE_FILE if page_is_file_lru(page) else LRU_INACTIVE_ANON


@core
def page_evictable(page: Page) -> bool:
    """``page_evictable()``: not mlocked.

    Differs from 5.10: no file is unevictable as a whole (``shmctl(SHM_LOCK)``, ramfs).
    """
    return not test_flag(page, PG_mlocked)


@core
def __pagevec_lru_add_fn(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec) -> int:
    """``mm/swap.c:__pagevec_lru_add_fn() (5.10)``: PG_lru is set before the look at PG_mlocked, so that a munlock at
    the same moment finds the page on a list."""
    was_unevictable = TestClearPageFlag(page, PG_unevictable)
    SetPageFlag(page, PG_lru)
    if page_evictable(page):
        lru = page_lru(page)
        if was_unevictable:
            __count_vm_events(cpu, UNEVICTABLE_PGRESCUED, 1)
    else:
        lru = LRU_UNEVICTABLE
        ClearPageFlag(page, PG_active)
        SetPageFlag(page, PG_unevictable)
        if not was_unevictable:
            __count_vm_events(cpu, UNEVICTABLE_PGCULLED, 1)
    add_page_to_lru_list(m, cpu, page, node, lruvec, lru)
    return 1


@core
def pagevec_move_tail_fn(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec) -> int:
    """``mm/swap.c:pagevec_move_tail_fn() (5.10)``"""
    if load_acquire(page, "page_flags") & (PG_lru | PG_unevictable) != PG_lru:
        return 0
    del_page_from_lru_list(m, cpu, page, node, lruvec, page_lru(page))
    ClearPageFlag(page, PG_active)
    add_page_to_lru_list_tail(m, cpu, page, node, lruvec, page_lru(page))
    return 1


@core
def __activate_page(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec) -> int:
    """``mm/swap.c:__activate_page() (5.10)``"""
    if load_acquire(page, "page_flags") & (PG_lru | PG_active | PG_unevictable) != PG_lru:
        return 0
    lru = page_lru_base_type(page)
    del_page_from_lru_list(m, cpu, page, node, lruvec, lru)
    SetPageFlag(page, PG_active)
    add_page_to_lru_list(m, cpu, page, node, lruvec, lru + LRU_ACTIVE)
    __count_vm_events(cpu, PGACTIVATE, 1)
    return 1


@core
def lru_deactivate_file_fn(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec) -> int:
    """``mm/swap.c:lru_deactivate_file_fn() (5.10)``: a dirty page to the head of the inactive list and marked for
    reclaim once it is written, a clean one to the tail. Mapped pages stay."""
    flags = load_acquire(page, "page_flags")
    if flags & (PG_lru | PG_unevictable) != PG_lru or load_acquire(page, "mapcount") >= 0:
        return 0
    lru = page_lru_base_type(page)
    active = flags & PG_active != 0
    del_page_from_lru_list(m, cpu, page, node, lruvec, lru + LRU_ACTIVE if active else lru)
    ClearPageFlag(page, PG_active)
    ClearPageFlag(page, PG_referenced)
    if load_acquire(page, "page_flags") & (PG_writeback | PG_dirty) != 0:
        add_page_to_lru_list(m, cpu, page, node, lruvec, lru)
        SetPageFlag(page, PG_reclaim)
    else:
        add_page_to_lru_list_tail(m, cpu, page, node, lruvec, lru)
        __count_vm_events(cpu, PGROTATED, 1)
    if active:
        __count_vm_events(cpu, PGDEACTIVATE, 1)
    return 1


@core
def move_page(m: Machine, cpu: Cpu, which: int, page: Page, node: Node, lruvec: Lruvec) -> int:
    """What a pagevec (``MOVE_*``) is for, done with one of its pages."""
    if which == MOVE_ADD:
        return __pagevec_lru_add_fn(m, cpu, page, node, lruvec)
    if which == MOVE_TAIL:
        return pagevec_move_tail_fn(m, cpu, page, node, lruvec)
    if which == MOVE_DEACTIVATE_FILE:
        return lru_deactivate_file_fn(m, cpu, page, node, lruvec)
    return __activate_page(m, cpu, page, node, lruvec)
