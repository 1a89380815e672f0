"""The page cache: adding, finding, reading ahead, writing, and what is left when it fails."""

import pytest

from emu.mm.memcontrol import MEMCG_MAX
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.mm_types import AS_FILE, AS_SHMEM
from emu.zone.page import PG_active, PG_dirty, PG_locked, PG_lru, PG_readahead, PG_uptodate
from tests.mm.mmbench import MmBench, mm_bench, set_memcg_limit

ENOMEM, EEXIST, EINTR = 12, 17, 4


def cached(b: MmBench, file: int) -> list[int]:
    """Slots of a file that have a page."""
    return [i for i in range(b.file_of(file).nr_slots) if b.cached(file, i) >= 0]


def marked(b: MmBench, file: int) -> list[int]:
    """Slots whose page has PG_readahead."""
    return [i for i in cached(b, file) if b.flags(b.cached(file, i)) & PG_readahead]


def test_files_run_out() -> None:
    with mm_bench(files=2) as b:
        from emu.mm.filemap import create_file

        assert [create_file(b.m, AS_FILE, 4), create_file(b.m, AS_SHMEM, 4), create_file(b.m, AS_FILE, 4)] == [1, 2, 0]
        assert create_file(b.m, AS_FILE, b.vm.file_slots + 1) == 0
        assert b.remove_file(1) == 0
        assert create_file(b.m, AS_FILE, 4) == 1
        assert b.remove_file(3) == -22


def test_page_cache_holds_a_reference() -> None:
    with mm_bench() as b:
        file, pfn = b.new_file(4), b.alloc(0, GFP_HIGHUSER_MOVABLE)
        assert b.add_to_page_cache_lru(pfn, file, 2, GFP_HIGHUSER_MOVABLE) == 0
        assert b.page(pfn).refcount == 3  # ours, the page cache's, the pagevec's
        assert b.flags(pfn) & PG_locked
        assert b.find_get_page(file, 2) == pfn
        assert b.find_get_page(file, 1) == -1
        assert b.node_stat("nr_file_pages") == b.file_of(file).nrpages == 1
        b.unlock_page(pfn)
        b.put_page(pfn)
        b.put_page(pfn)


def test_slot_that_is_taken_changes_nothing() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        old = b.fill(file, 1)[0]
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        assert b.add_to_page_cache_lru(pfn, file, 0, GFP_HIGHUSER_MOVABLE) == -EEXIST
        page = b.page(pfn)
        assert (page.refcount, page.mapping, page.page_flags & PG_locked) == (1, 0, 0)
        assert b.cached(file, 0) == old
        b.free(pfn)


def test_page_beyond_the_cgroups_limit_is_not_added() -> None:
    with mm_bench() as b:
        assert set_memcg_limit(b.m, b.cpu(), 1, MEMCG_MAX, 1) == 0
        b.task().memcg = 1
        file = b.new_file(4)
        assert b.vfs_write(file, 0) == 0
        assert b.vfs_write(file, 1) == -ENOMEM
        assert (b.m.memcgs[0].memory, b.file_of(file).nrpages) == (1, 1)
        assert b.remove_file(file) == 0
        assert b.m.memcgs[0].memory == 0


def test_sequential_reader_gets_a_growing_window() -> None:
    """4 pages, then 8, 16 and at last 32 ahead; the first page of a window's lookahead has the mark."""
    with mm_bench() as b, b.disk():
        file = b.new_file(200)
        assert b.vfs_read(file, 0) == 0
        assert (cached(b, file)[-1], marked(b, file)) == (3, [1])
        for index, last in ((1, 11), (4, 27), (12, 59), (28, 91)):
            while b.file_of(file).prev_pos >> 12 < index:
                assert b.vfs_read(file, (b.file_of(file).prev_pos >> 12) + 1) == 0
            assert cached(b, file)[-1] == last
        assert b.event("pgpgin") > 0
        assert all(b.flags(b.cached(file, i)) & PG_uptodate for i in range(29))
        while any(b.flags(b.cached(file, i)) & PG_locked for i in cached(b, file)):
            pass


def test_random_reader_gets_what_it_asks_for() -> None:
    with mm_bench() as b, b.disk():
        file = b.new_file(200)
        for index in (100, 7, 150, 60):
            assert b.vfs_read(file, index) == 0
        assert cached(b, file) == [7, 60, 100, 150]


def test_reader_of_what_others_cached_goes_on_where_they_ended() -> None:
    """Context readahead: three pages before the missing one are there, so it looks like a stream."""
    with mm_bench() as b, b.disk():
        file = b.new_file(200)
        b.fill(file, 3, 20)
        assert b.vfs_read(file, 23) == 0
        assert cached(b, file) == [20, 21, 22, 23, 24, 25, 26]
        assert marked(b, file) == [26]  # async_size 1


def test_the_end_of_the_file_ends_readahead() -> None:
    with mm_bench() as b, b.disk():
        file = b.new_file(2)
        for index in (0, 1, 2):
            assert b.vfs_read(file, index) == 0
        assert cached(b, file) == [0, 1]


def test_reading_one_page_twice_in_a_row_is_one_access() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        pfns = b.fill(file, 2)
        b.lru_add_drain()
        for index in (0, 0, 0):
            assert b.vfs_read(file, index) == 0
        b.lru_add_drain()
        assert not b.flags(pfns[0]) & PG_active
        for index in (1, 0):
            assert b.vfs_read(file, index) == 0
        b.lru_add_drain()
        assert b.flags(pfns[0]) & PG_active


def test_killed_task_reads_nothing() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        b.space()
        b.user(0).fatal_signal = 1
        assert (b.vfs_read(file, 0), b.vfs_write(file, 0)) == (-EINTR, -EINTR)
        assert b.file_of(file).nrpages == 0
        b.end()


def test_write_makes_a_dirty_page_and_a_longer_file() -> None:
    with mm_bench() as b:
        file = b.new_file(1)
        assert b.vfs_write(file, 5) == 0
        pfn = b.cached(file, 5)
        assert b.flags(pfn) & (PG_dirty | PG_uptodate) == PG_dirty | PG_uptodate
        assert (b.file_of(file).nr_slots, b.file_of(file).nr_dirty, b.node_stat("nr_dirty")) == (6, 1, 1)
        assert b.vfs_write(file, b.vm.file_slots) == -22


def test_no_memory_leaves_no_page_behind() -> None:
    with mm_bench() as b:
        file, taken = b.new_file(4), b.take_all()
        assert b.vfs_write(file, 0) == -ENOMEM
        assert b.vfs_read(file, 0) == -ENOMEM
        assert (b.file_of(file).nrpages, b.task().process_flags) == (0, b.task().process_flags)
        for pfn in taken:
            b.free(pfn)


@pytest.mark.parametrize(("size", "most", "expected"), [(1, 32, 4), (2, 32, 4), (8, 32, 16), (9, 32, 32), (40, 32, 32)])
def test_initial_window(size: int, most: int, expected: int) -> None:
    with mm_bench():
        from tests.mm.mmbench import mm

        assert mm.get_init_ra_size(size, most) == expected


def test_new_pages_wait_for_the_lru() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        pfn = b.find_or_create_page(file, 0, GFP_HIGHUSER_MOVABLE, 0)
        assert b.flags(pfn) & (PG_locked | PG_lru | PG_uptodate) == PG_locked
        b.unlock_page(pfn)
        b.put_page(pfn)
        b.lru_add_drain()
        assert b.lru(2) == [pfn]
