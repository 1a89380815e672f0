"""Taking single pages off the LRU lists and putting them back (``mm/vmscan.c`` (5.10)); for reclaim and migration."""

from emu.mm.lruvec import lruvec_at, mem_cgroup_page_lruvec
from emu.mm.pagevec import lru_cache_add, put_page
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import del_page_from_lru_list, page_lru, page_to_nid
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PG_dirty, PG_locked, PG_lru, PG_unevictable, PG_writeback, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, get_page, get_page_unless_zero, test_flag
from shm.atomic import load_acquire
from shm.core import core
from shm.point import site

EBUSY = 16
EINVAL = 22
ISOLATE_UNMAPPED = 2
ISOLATE_ASYNC_MIGRATE = 4
ISOLATE_UNEVICTABLE = 8
S_ISOLATE = site("isolate_lru_page:lock")


@core
def __isolate_lru_page(page: Page, mode: int) -> int:
    """``mm/vmscan.c:__isolate_lru_page() (5.10)``: 0 with a reference and without PG_lru, -EINVAL or -EBUSY.

    The lru_lock is held; the caller takes the page off its list. Differs from 5.10: every owner here can migrate dirty
    pages, so the page lock is only looked at and not taken to find out.
    """
    flags = load_acquire(page, "page_flags")
    if flags & PG_lru == 0:
        return -EINVAL
    if flags & PG_unevictable != 0 and mode & ISOLATE_UNEVICTABLE == 0:
        return -EINVAL
    if mode & ISOLATE_ASYNC_MIGRATE != 0:
        if flags & PG_writeback != 0:
            return -EBUSY
        if flags & PG_dirty != 0 and flags & PG_locked != 0:
            return -EBUSY
    if mode & ISOLATE_UNMAPPED != 0 and page.mapcount >= 0:
        return -EBUSY
    if not get_page_unless_zero(page):
        return -EBUSY
    ClearPageFlag(page, PG_lru)
    return 0


@core
def isolate_lru_page(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/vmscan.c:isolate_lru_page() (5.10)``: 0, the page off its list with a reference more, or -EBUSY."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not test_flag(page, PG_lru):
        return -EBUSY
    ret = -EBUSY
    node = m.nodes[page_to_nid(page)]
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_ISOLATE)
    if test_flag(page, PG_lru):
        lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
        get_page(page)
        ClearPageFlag(page, PG_lru)
        del_page_from_lru_list(m, cpu, page, node, lruvec, page_lru(page))
        ret = 0
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    return ret


@core
def putback_lru_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/vmscan.c:putback_lru_page() (5.10)``: onto the list that its flags name; drops isolation's reference."""
    lru_cache_add(m, cpu, pfn)
    put_page(m, cpu, pfn)
