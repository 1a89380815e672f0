"""Files and reading and writing them through the page cache (``mm/filemap.c`` (5.10)).

Differs from 5.10: whoever reads or writes, does it a whole page at a time; all readers of a file share one readahead
state; a file has no metadata, and its blocks are where its pages are.
"""

from emu.cpu.workqueue import cond_resched
from emu.mm.alloc import alloc_page
from emu.mm.disk import submit_read
from emu.mm.page_cache import (
    __delete_from_page_cache, add_to_page_cache_lru, delete_from_page_cache, find_get_page, find_lock_page,
    find_or_create_page,
)  # fmt: skip
from emu.mm.page_dirty import set_page_dirty
from emu.mm.page_lock import lock_page_killable, unlock_page, wait_on_page_locked_killable
from emu.mm.page_writeback import balance_dirty_pages_ratelimited
from emu.mm.pagevec import mark_page_accessed, put_page
from emu.mm.readahead import VM_READAHEAD_PAGES, page_cache_async_ra, page_cache_sync_ra
from emu.mm.vma import file_offset
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mm_types import AS_NONE, file_record, vm_at
from emu.zone.mmzone import PAGE_SHIFT, Cpu, Machine, page_record
from emu.zone.page import NULL, PG_error, PG_readahead, PG_uptodate, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, test_flag
from emu.zone.sched import fatal_signal_pending, task_at
from shm.atomic import cmpxchg
from shm.core import core, entry

__all__ = [
    "__delete_from_page_cache", "add_to_page_cache_lru", "create_file", "delete_from_page_cache", "find_get_page",
    "find_lock_page", "find_or_create_page", "generic_file_read", "generic_file_write", "read_page",
]  # fmt: skip

EINTR = 4
EIO = 5
ENOMEM = 12
EEXIST = 17
EINVAL = 22
AGAIN = 1  # the page went away; look again


@entry
def create_file(m: Machine, kind: int, nr_pages: int) -> int:
    """A new file of ``nr_pages`` pages on the disk (``AS_FILE``) or in tmpfs (``AS_SHMEM``): its id, or 0 when there
    are no more, or when it would be too large."""
    vm = vm_at(m, m.vm)
    if nr_pages < 0 or nr_pages > vm.file_slots or kind == AS_NONE:
        return 0
    for file in range(1, vm.nr_files + 1):
        mapping = file_record(m, file_offset(m, file))
        if cmpxchg(mapping, "kind", AS_NONE, kind) == AS_NONE:
            mapping.nr_slots = nr_pages
            mapping.nr_mmaps = 0
            mapping.writeback_index = 0
            mapping.dirtied_when = 0
            mapping.ra_start = 0
            mapping.ra_size = 0
            mapping.ra_async_size = 0
            mapping.ra_pages = VM_READAHEAD_PAGES
            mapping.prev_pos = -1
            mapping.mmap_miss = 0
            return file
    return 0


@core
def read_page(m: Machine, cpu: Cpu, file: int, pfn: int) -> int:
    """``->readpage()`` of a locked page and the wait for it: 0, -EINTR, -EIO, or AGAIN if it left the file
    meanwhile."""
    page = page_record(m, pfn_to_page(m, pfn))
    ClearPageFlag(page, PG_error)
    submit_read(m, cpu, pfn, file)
    if not test_flag(page, PG_uptodate):
        if lock_page_killable(m, cpu, pfn) != 0:
            return -EINTR
        uptodate = test_flag(page, PG_uptodate)
        gone = page.mapping != file << 2
        unlock_page(m, cpu, pfn)
        if not uptodate:
            return AGAIN if gone else -EIO
    return 0


@core
def page_not_up_to_date(m: Machine, cpu: Cpu, file: int, pfn: int) -> int:
    """Wait for a page that somebody reads, or read it: as :func:`read_page`."""
    page = page_record(m, pfn_to_page(m, pfn))
    if wait_on_page_locked_killable(m, cpu, pfn) != 0:
        return -EINTR
    if test_flag(page, PG_uptodate):
        return 0
    if lock_page_killable(m, cpu, pfn) != 0:
        return -EINTR
    if page.mapping != file << 2:
        unlock_page(m, cpu, pfn)
        return AGAIN
    if test_flag(page, PG_uptodate):
        unlock_page(m, cpu, pfn)
        return 0
    return read_page(m, cpu, file, pfn)


@core
def no_cached_page(m: Machine, cpu: Cpu, file: int, index: int, gfp: int) -> int:
    """A page of one's own for a slot that readahead left empty: its pfn, locked, or -errno."""
    pfn = alloc_page(m, cpu, gfp)
    if pfn == NULL:
        return -ENOMEM
    error = add_to_page_cache_lru(m, cpu, pfn, file, index, gfp & GFP_KERNEL)
    if error != 0:
        put_page(m, cpu, pfn)
        return error
    return pfn


@core
def read_once(m: Machine, cpu: Cpu, file: int, index: int, gfp: int) -> int:
    """One try of ``generic_file_buffered_read()`` for one page: its pfn, referenced and uptodate, AGAIN shifted to
    -EEXIST for another try, or -errno."""
    pfn = find_get_page(m, cpu, file, index)
    if pfn == NULL:
        page_cache_sync_ra(m, cpu, file, index, 1, gfp)
        pfn = find_get_page(m, cpu, file, index)
    result = 0
    if pfn == NULL:
        pfn = no_cached_page(m, cpu, file, index, gfp)
        if pfn < 0:
            return pfn
        result = read_page(m, cpu, file, pfn)
    else:
        page = page_record(m, pfn_to_page(m, pfn))
        if test_flag(page, PG_readahead):
            page_cache_async_ra(m, cpu, file, index, pfn, 1, gfp)
        if not test_flag(page, PG_uptodate):
            result = page_not_up_to_date(m, cpu, file, pfn)
    if result == 0:
        return pfn
    put_page(m, cpu, pfn)
    return -EEXIST if result == AGAIN else result


@core
def generic_file_read(m: Machine, cpu: Cpu, file: int, index: int, gfp: int) -> int:
    """``mm/filemap.c:generic_file_buffered_read() (5.10)`` of one page: 0 or -errno (-EINTR also when the machine is
    being stopped). ``gfp``: the file's mask, ``GFP_HIGHUSER_MOVABLE`` for nearly all.

    Reading the page that was read last again doesn't count as an access.
    """
    mapping = file_record(m, file_offset(m, file))
    if index < 0 or index >= mapping.nr_slots:
        return 0
    pfn = -EEXIST
    while pfn == -EEXIST:
        if not cond_resched(m, cpu) or fatal_signal_pending(task_at(m, cpu.current)):
            return -EINTR
        pfn = read_once(m, cpu, file, index, gfp)
    if pfn < 0:
        return pfn
    if mapping.prev_pos != index << PAGE_SHIFT:
        mark_page_accessed(m, cpu, pfn)
    put_page(m, cpu, pfn)
    mapping.prev_pos = index << PAGE_SHIFT
    return 0


@core
def generic_file_write(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``mm/filemap.c:generic_perform_write() (5.10)`` of one whole page: 0 or -errno. A file grows by being written."""
    mapping = file_record(m, file_offset(m, file))
    if index < 0 or index >= vm_at(m, m.vm).file_slots:
        return -EINVAL
    if fatal_signal_pending(task_at(m, cpu.current)):
        return -EINTR
    pfn = find_or_create_page(m, cpu, file, index, GFP_HIGHUSER_MOVABLE, 1)
    if pfn == NULL:
        return -ENOMEM
    if index >= mapping.nr_slots:
        mapping.nr_slots = index + 1
    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    set_page_dirty(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)
    if not cond_resched(m, cpu):
        return -EINTR
    balance_dirty_pages_ratelimited(m, cpu, file)
    return 0
