"""Readahead: pages are read before they are asked for (``mm/readahead.c`` (5.10)).

A file has one reader's state: the window ``[ra_start, ra_start + ra_size)`` that was last submitted, and how many of
its pages were ahead of the reader. The first of those has PG_readahead; meeting it starts the next window.

Differs from 5.10: the device has no limit of its own (``io_pages``), and a congested one doesn't hold readahead back.
"""

from emu.mm.alloc import alloc_page
from emu.mm.disk import submit_read
from emu.mm.page_cache import XA_KIND, add_to_page_cache_lru
from emu.mm.pagevec import put_page
from emu.mm.vma import file_offset, file_slot
from emu.zone.gfp import __GFP_NORETRY, __GFP_NOWARN, PF_MEMALLOC_NOFS
from emu.zone.mm_types import XA_PAGE, AddressSpace, file_record, slot_at
from emu.zone.mmzone import PAGE_SHIFT, Cpu, Machine, page_record
from emu.zone.page import NULL, PG_readahead, PG_writeback, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, test_flag
from emu.zone.sched import task_at
from shm.atomic import load_acquire
from shm.core import core

VM_READAHEAD_PAGES = 32


@core(inline=True)
def is_cached(m: Machine, file: int, index: int) -> bool:
    """Whether a slot has a page."""
    return load_acquire(slot_at(m, file_slot(m, file, index)), "value") & XA_KIND == XA_PAGE


@core
def read_pages(m: Machine, cpu: Cpu, file: int, index: int, nr_pages: int) -> None:
    """``mm/readahead.c:read_pages() (5.10)``: to the disk, in order. The pages are locked, so they are still there."""
    for i in range(index, index + nr_pages):
        pfn = load_acquire(slot_at(m, file_slot(m, file, i)), "value") >> 2
        submit_read(m, cpu, pfn, file)
        put_page(m, cpu, pfn)


@core
def page_cache_ra_unbounded(
    m: Machine, cpu: Cpu, file: int, index: int, nr_to_read: int, lookahead: int, gfp: int
) -> None:
    """``mm/readahead.c:page_cache_ra_unbounded() (5.10)``: new pages for the slots that have none; a page that is there
    already ends a batch."""
    gfp |= __GFP_NORETRY | __GFP_NOWARN
    task = task_at(m, cpu.current)
    nofs = task.process_flags & PF_MEMALLOC_NOFS
    task.process_flags |= PF_MEMALLOC_NOFS
    start = index
    nr_pages = 0
    for i in range(nr_to_read):
        pfn = NULL
        if not is_cached(m, file, index + i):
            pfn = alloc_page(m, cpu, gfp)
            if pfn == NULL:
                break
            if add_to_page_cache_lru(m, cpu, pfn, file, index + i, gfp) < 0:
                put_page(m, cpu, pfn)
                pfn = NULL
        if pfn == NULL:
            read_pages(m, cpu, file, start, nr_pages)
            start = index + i + 1
            nr_pages = 0
            continue
        if i == nr_to_read - lookahead:
            SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_readahead)
        nr_pages += 1
    read_pages(m, cpu, file, start, nr_pages)
    if nofs == 0:
        task.process_flags ^= PF_MEMALLOC_NOFS


@core
def do_page_cache_ra(m: Machine, cpu: Cpu, file: int, index: int, nr_to_read: int, lookahead: int, gfp: int) -> None:
    """``mm/readahead.c:do_page_cache_ra() (5.10)``: not beyond the end of the file."""
    end = file_record(m, file_offset(m, file)).nr_slots
    if index < end:
        page_cache_ra_unbounded(m, cpu, file, index, min(nr_to_read, end - index), lookahead, gfp)


@core
def get_init_ra_size(size: int, most: int) -> int:
    """``mm/readahead.c:get_init_ra_size() (5.10)``"""
    newsize = 1
    while newsize < size:
        newsize <<= 1
    if newsize <= most // 32:
        return newsize * 4
    if newsize <= most // 4:
        return newsize * 2
    return most


@core
def get_next_ra_size(cur: int, most: int) -> int:
    """``mm/readahead.c:get_next_ra_size() (5.10)``"""
    if cur < most // 16:
        return 4 * cur
    if cur <= most // 2:
        return 2 * cur
    return most


@core
def count_history_pages(m: Machine, file: int, index: int, most: int) -> int:
    """``mm/readahead.c:count_history_pages() (5.10)``: cached pages right before a slot."""
    size = 0
    while size < most and index - 1 - size >= 0 and is_cached(m, file, index - 1 - size):
        size += 1
    return size


@core
def try_context_readahead(m: Machine, file: int, ra: AddressSpace, index: int, req_size: int, most: int) -> bool:
    """``mm/readahead.c:try_context_readahead() (5.10)``: the cache tells of a sequential stream that came this far."""
    size = count_history_pages(m, file, index, most)
    if size <= req_size:
        return False
    if size >= index:
        size *= 2
    ra.ra_start = index
    ra.ra_size = min(size + req_size, most)
    ra.ra_async_size = 1
    return True


@core
def hit_marker(m: Machine, file: int, ra: AddressSpace, index: int, req_size: int, most: int) -> bool:
    """A marked page without valid state, as several readers leave it: the window goes on where the cached pages end."""
    start = index + 1
    while start - index <= most and start < ra.nr_slots and is_cached(m, file, start):
        start += 1
    if start - index > most:
        return False
    ra.ra_start = start
    ra.ra_size = get_next_ra_size(start - index + req_size, most)
    ra.ra_async_size = ra.ra_size
    return True


@core
def next_window(m: Machine, file: int, ra: AddressSpace, index: int, hit: int, req_size: int) -> bool:
    """The decision of ``ondemand_readahead()``: true with a window in the state, false for nothing but this read."""
    most = ra.ra_pages
    if index != 0:
        if index == ra.ra_start + ra.ra_size - ra.ra_async_size or index == ra.ra_start + ra.ra_size:
            ra.ra_start += ra.ra_size
            ra.ra_size = get_next_ra_size(ra.ra_size, most)
            ra.ra_async_size = ra.ra_size
            return True
        if hit != 0:
            return hit_marker(m, file, ra, index, req_size, most)
        near = ra.prev_pos >= 0 and 0 <= index - (ra.prev_pos >> PAGE_SHIFT) <= 1
        if req_size <= most and not near:
            return try_context_readahead(m, file, ra, index, req_size, most)
    ra.ra_start = index
    ra.ra_size = get_init_ra_size(req_size, most)
    ra.ra_async_size = ra.ra_size - req_size if ra.ra_size > req_size else ra.ra_size
    return True


@core
def ondemand_readahead(m: Machine, cpu: Cpu, file: int, index: int, hit: int, req_size: int, gfp: int) -> None:
    """``mm/readahead.c:ondemand_readahead() (5.10)``"""
    ra = file_record(m, file_offset(m, file))
    if not next_window(m, file, ra, index, hit, req_size):
        if hit == 0:
            do_page_cache_ra(m, cpu, file, index, req_size, 0, gfp)
        return
    if index == ra.ra_start and ra.ra_size == ra.ra_async_size:
        add_pages = get_next_ra_size(ra.ra_size, ra.ra_pages)
        if ra.ra_size + add_pages <= ra.ra_pages:
            ra.ra_async_size = add_pages
            ra.ra_size += add_pages
        else:
            ra.ra_size = ra.ra_pages
            ra.ra_async_size = ra.ra_pages >> 1
    do_page_cache_ra(m, cpu, file, ra.ra_start, ra.ra_size, ra.ra_async_size, gfp)


@core
def page_cache_sync_ra(m: Machine, cpu: Cpu, file: int, index: int, req_count: int, gfp: int) -> None:
    """``mm/readahead.c:page_cache_sync_ra() (5.10)``: a page is missing. Without readahead just that one is read."""
    if file_record(m, file_offset(m, file)).ra_pages == 0:
        do_page_cache_ra(m, cpu, file, index, 1, 0, gfp)
    else:
        ondemand_readahead(m, cpu, file, index, 0, req_count, gfp)


@core
def page_cache_async_ra(m: Machine, cpu: Cpu, file: int, index: int, pfn: int, req_count: int, gfp: int) -> None:
    """``mm/readahead.c:page_cache_async_ra() (5.10)``: the reader met the marked page."""
    page = page_record(m, pfn_to_page(m, pfn))
    if file_record(m, file_offset(m, file)).ra_pages == 0 or test_flag(page, PG_writeback):
        return
    ClearPageFlag(page, PG_readahead)
    ondemand_readahead(m, cpu, file, index, 1, req_count, gfp)
