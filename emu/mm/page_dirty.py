"""PG_dirty and PG_writeback, and what is counted with them (``mm/page-writeback.c``, ``mm/filemap.c`` (5.10)).

Pages of files count as dirty (``nr_dirty``, ``nr_zone_write_pending``); anonymous and tmpfs pages only have the flag:
nobody writes them but reclaim. All of them count while they are written.

Differs from 5.10: a file's dirty pages are not tagged in its tree but counted (``AddressSpace.nr_dirty``); who looks
for them reads the flags of its pages. Memory cgroups have no dirty counters of their own.
"""

from emu.mm.page_lock import wait_on_page_bit, wake_up_page
from emu.mm.pagevec import put_page, rotate_reclaimable_page
from emu.mm.seams import page_mkclean
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import mod_node_page_state, mod_zone_page_state, page_to_nid
from emu.zone.mm_types import AS_FILE, file_at, file_record, vm_at
from emu.zone.mmzone import Cpu, Machine, Page, page_record, zone_at
from emu.zone.page import (
    PAGE_MAPPING_FLAGS, PG_dirty, PG_reclaim, PG_swapcache, PG_writeback, TAIL_MAPPING, page_zone, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import ClearPageFlag, TestClearPageFlag, TestSetPageFlag, get_page, test_flag
from emu.zone.sched import task_at
from emu.zone.vmstat_items import NR_DIRTIED, NR_FILE_DIRTY, NR_WRITEBACK, NR_WRITTEN, NR_ZONE_WRITE_PENDING
from shm.atomic import clock_ns, fetch_add, load_acquire
from shm.core import core
from shm.point import point, site

S_DIRTY = site("__set_page_dirty_nobuffers:i_pages_lock")
S_CLEAN = site("clear_page_dirty_for_io:test-clear PG_dirty")
S_WB_SET = site("test_set_page_writeback:test-set PG_writeback")
S_WB_CLEAR = site("test_clear_page_writeback:test-clear PG_writeback")
S_WB_WAIT = site("wait_on_page_writeback:read PG_writeback")


@core(inline=True)
def page_file(page: Page) -> int:
    """``page_mapping()`` of a page that isn't in the swap cache: the id of its file, 0: none."""
    mapping = page.mapping
    if mapping & PAGE_MAPPING_FLAGS != 0 or mapping == TAIL_MAPPING:
        return 0
    return mapping >> 2


@core
def writeback_file(m: Machine, page: Page) -> int:
    """The id of the file that a page is written back to; 0 for anonymous, tmpfs and swap cache pages, where
    ``mapping_can_writeback()`` is false."""
    if test_flag(page, PG_swapcache):
        return 0
    file = page_file(page)
    if file == 0 or file_record(m, file_at(m, vm_at(m, m.vm), file)).kind != AS_FILE:
        return 0
    return file


@core
def count_write_pending(m: Machine, cpu: Cpu, page: Page, item: int, delta: int) -> None:
    """A page begins or ceases to be dirty or written: its node's item, and its zone's ``nr_zone_write_pending``."""
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], item, delta)
    mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_ZONE_WRITE_PENDING, delta)


# --- dirty ------------------------------------------------------------------------------------------------------------


@core
def account_page_dirtied(m: Machine, cpu: Cpu, page: Page, file: int) -> None:
    """``mm/page-writeback.c:account_page_dirtied() (5.10)``, and the file's own count. Its ``i_pages_lock`` is held.

    Differs from 5.10: ``bdp_ratelimits``, the pages that all tasks together dirtied on a CPU, isn't counted.
    """
    count_write_pending(m, cpu, page, NR_FILE_DIRTY, 1)
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_DIRTIED, 1)
    task_at(m, cpu.current).nr_dirtied += 1
    mapping = file_record(m, file_at(m, vm_at(m, m.vm), file))
    fetch_add(mapping, "nr_dirty", 1)
    if mapping.dirtied_when == 0:
        mapping.dirtied_when = clock_ns()


@core
def __set_page_dirty_nobuffers(m: Machine, cpu: Cpu, page: Page, file: int) -> bool:
    """``mm/page-writeback.c:__set_page_dirty_nobuffers() (5.10)`` with ``__mark_inode_dirty()``: a file's page."""
    if TestSetPageFlag(page, PG_dirty):
        return False
    mapping = file_record(m, file_at(m, vm_at(m, m.vm), file))
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_DIRTY)
    account_page_dirtied(m, cpu, page, file)
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    return True


@core
def set_page_dirty(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/page-writeback.c:set_page_dirty() (5.10)``: true if the page was clean."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_reclaim) and (test_flag(page, PG_swapcache) or page_file(page) != 0):
        ClearPageFlag(page, PG_reclaim)
    file = writeback_file(m, page)
    if file != 0:
        return __set_page_dirty_nobuffers(m, cpu, page, file)
    return not TestSetPageFlag(page, PG_dirty)


@core
def account_page_cleaned(m: Machine, cpu: Cpu, page: Page, file: int) -> None:
    """``mm/page-writeback.c:account_page_cleaned() (5.10)``"""
    count_write_pending(m, cpu, page, NR_FILE_DIRTY, -1)
    fetch_add(file_record(m, file_at(m, vm_at(m, m.vm), file)), "nr_dirty", -1)


@core
def cancel_dirty_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``cancel_dirty_page()``: the page's contents are not wanted any more (truncation). The page is locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = writeback_file(m, page)
    if TestClearPageFlag(page, PG_dirty) and file != 0:
        account_page_cleaned(m, cpu, page, file)


@core
def clear_page_dirty_for_io(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/page-writeback.c:clear_page_dirty_for_io() (5.10)``: true if the locked page has to be written. A file's
    page is write-protected in all page tables first, whose dirty bits count as the page's."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = writeback_file(m, page)
    if file == 0:
        return TestClearPageFlag(page, PG_dirty)
    if page_mkclean(m, cpu, pfn) != 0:
        set_page_dirty(m, cpu, pfn)
    point(cpu.party, S_CLEAN)
    if not TestClearPageFlag(page, PG_dirty):
        return False
    account_page_cleaned(m, cpu, page, file)
    return True


# --- writeback --------------------------------------------------------------------------------------------------------


@core
def set_page_writeback(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/page-writeback.c:__test_set_page_writeback() (5.10)``: whether it was set before. The page is locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_WB_SET)
    if TestSetPageFlag(page, PG_writeback):
        return True
    if writeback_file(m, page) != 0:
        fetch_add(vm_at(m, m.vm).wb.nr_writeback, "counter", 1)
    count_write_pending(m, cpu, page, NR_WRITEBACK, 1)
    return False


@core
def test_clear_page_writeback(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/page-writeback.c:test_clear_page_writeback() (5.10)``: whether it was set."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = writeback_file(m, page)
    point(cpu.party, S_WB_CLEAR)
    if not TestClearPageFlag(page, PG_writeback):
        return False
    if file != 0:
        wb = vm_at(m, m.vm).wb
        fetch_add(wb.nr_writeback, "counter", -1)
        fetch_add(wb.nr_written, "counter", 1)
    count_write_pending(m, cpu, page, NR_WRITEBACK, -1)
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_WRITTEN, 1)
    return True


@core
def end_page_writeback(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/filemap.c:end_page_writeback() (5.10)``: the page is on the disk. One that reclaim waits for goes to the
    tail of its LRU list; whoever waits for the page is woken."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_reclaim):
        ClearPageFlag(page, PG_reclaim)
        rotate_reclaimable_page(m, cpu, pfn)
    get_page(page)
    test_clear_page_writeback(m, cpu, pfn)
    wake_up_page(m, pfn)
    put_page(m, cpu, pfn)


@core
def wait_on_page_writeback(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/page-writeback.c:wait_on_page_writeback() (5.10)``: ends early when the machine is being stopped."""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_WB_WAIT)
    while test_flag(page, PG_writeback) and load_acquire(m, "stop") == 0:
        wait_on_page_bit(m, cpu, pfn, PG_writeback)
