"""Moving what is in use out of a range that goes offline (``mm/memory_hotplug.c`` (5.10))."""

from emu.mm.isolate_lru import ISOLATE_UNEVICTABLE, isolate_lru_page
from emu.mm.migrate import (
    MIGRATE_SYNC, MR_MEMORY_HOTPLUG, TARGET_ALLOC, MigrateTarget, migrate_pages, mod_isolated, putback_movable_pages,
)  # fmt: skip
from emu.mm.movable import __PageMovable, isolate_movable_page
from emu.mm.page_isolation import compound_head
from emu.mm.pagevec import put_page
from emu.mm.rmap import TTU_IGNORE_MLOCK, page_mapped, try_to_unmap
from emu.zone.gfp import __GFP_MOVABLE, __GFP_RETRY_MAYFAIL, GFP_USER
from emu.zone.list import INIT_LIST_HEAD, list_add_tail, list_empty
from emu.zone.lru import on_lru, page_to_nid
from emu.zone.mmzone import MAX_ORDER, Cpu, Machine, page_record
from emu.zone.nodemask import online_mask
from emu.zone.page import PG_head, PG_hwpoison, PG_offline, PageTail, compound_order, pfn_to_page
from emu.zone.page_ref import get_page_unless_zero, page_count, test_flag
from shm.core import OnStack, core

ENOENT = 2
EBUSY = 16
SOURCE = 14  # which of Cpu.scratch
GFP_TARGET = GFP_USER | __GFP_MOVABLE | __GFP_RETRY_MAYFAIL
migrate_target = OnStack(MigrateTarget)


@core(cold=True)
def scan_movable_pages(m: Machine, start: int, end: int) -> int:
    """``mm/memory_hotplug.c:scan_movable_pages() (5.10)``: the first page that can be migrated, -ENOENT without one, or
    -EBUSY for one of which it is certain that it can't."""
    for pfn in range(start, end):
        page = page_record(m, pfn_to_page(m, pfn))
        if on_lru(page) or __PageMovable(page):
            return pfn
        if test_flag(page, PG_offline) and page_count(page) != 0:
            return -EBUSY
    return -ENOENT


@core(cold=True)
def isolate_for_offline(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """Take a page off its LRU list, or from its driver, and put it on the list of pages to migrate."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not get_page_unless_zero(page):
        return False
    if on_lru(page):
        ret = isolate_lru_page(m, cpu, pfn)
    else:
        ret = isolate_movable_page(m, cpu, pfn, ISOLATE_UNEVICTABLE)
    if ret == 0:
        list_add_tail(m, page.lru, cpu.scratch[SOURCE])
        if not __PageMovable(page):
            mod_isolated(m, cpu, pfn, 1)
    put_page(m, cpu, pfn)
    return ret == 0


@core(cold=True)
def migrate_away(m: Machine, cpu: Cpu, nid: int) -> int:
    """Migrate the listed pages to other nodes; within the node if there is no other with memory. What can't be moved
    goes back to its list."""
    target = migrate_target()
    target.kind = TARGET_ALLOC
    target.nid = nid
    target.gfp_mask = GFP_TARGET
    others = online_mask(m) & ~(1 << nid)
    target.nmask = others if others != 0 else 1 << nid
    ret = migrate_pages(m, cpu, cpu.scratch[SOURCE], target, MIGRATE_SYNC, MR_MEMORY_HOTPLUG)
    if ret != 0:
        putback_movable_pages(m, cpu, cpu.scratch[SOURCE])
    return ret


@core(cold=True)
def do_migrate_range(m: Machine, cpu: Cpu, start_pfn: int, end_pfn: int) -> int:
    """``mm/memory_hotplug.c:do_migrate_range() (5.10)``: one attempt to move all pages of the range that can be moved.

    Poisoned pages are only taken off the LRU and unmapped: their contents must not be read.
    """
    head = cpu.scratch[SOURCE]
    INIT_LIST_HEAD(m, head)
    nid = -1
    pfn = start_pfn
    while pfn < end_pfn:
        page = page_record(m, pfn_to_page(m, pfn))
        at = pfn
        pfn += 1
        if PageTail(page) or page.page_flags & PG_head != 0:
            first = compound_head(m, at)
            pfn = max(first + (1 << min(compound_order(m, first), MAX_ORDER - 1)), pfn)
        if test_flag(page, PG_hwpoison):
            if on_lru(page):
                isolate_lru_page(m, cpu, at)
            if page_mapped(page):
                try_to_unmap(m, cpu, at, TTU_IGNORE_MLOCK)
            continue
        if isolate_for_offline(m, cpu, at):
            nid = page_to_nid(page)
    if list_empty(m, head):
        return 0
    return migrate_away(m, cpu, nid)
