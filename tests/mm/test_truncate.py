"""Pages leave the page cache: truncation, invalidation, drop_caches."""

from emu.mm.truncate import drop_pagecache
from emu.zone.mm_types import AS_SHMEM, VM_SHARED
from emu.zone.page import PG_locked, PG_lru
from tests.mm.mmbench import mm_bench

EBUSY = 16


def test_truncation_frees_dirty_and_mapped_pages() -> None:
    with mm_bench() as b:
        file = b.new_file(40)
        for i in range(40):
            b.vfs_write(file, i)
        mm_id = b.space(40, vm_flags=2 | VM_SHARED, file=file)
        assert b.touch_all(mm_id, 0, 40) == 0
        assert b.remove_file(file) == -EBUSY
        assert b.truncate_setsize(file, 10) == 0
        assert (b.file_of(file).nrpages, b.file_of(file).nr_dirty, b.node_stat("nr_dirty")) == (10, 10, 10)
        assert b.mm_of(mm_id).rss_stat[0].counter == 10
        assert b.pte(mm_id, 10).value == 0
        assert b.touch(mm_id, 10, 0) & 2  # SIGBUS beyond the end
        b.end()
        assert b.remove_file(file) == 0
        assert b.node_stat("nr_file_pages") == b.node_stat("nr_mapped") == 0


def test_truncation_keeps_private_copies() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        b.fill(file, 2)
        mm_id = b.space(2, file=file)
        b.touch_all(mm_id, 0, 1, write=1)
        b.touch_all(mm_id, 1, 1, write=0)
        own = b.mapped(mm_id, 0)
        b.truncate_inode_pages(file, 0)
        assert b.mapped(mm_id, 0) == own
        assert b.pte(mm_id, 1).value == 0
        assert b.file_of(file).nrpages == 0
        b.end()


def test_invalidation_drops_what_is_clean_and_unused() -> None:
    with mm_bench() as b:
        file = b.new_file(6)
        pfns = b.fill(file, 6)
        b.lru_add_drain()
        mm_id = b.space(6, file=file)
        b.touch_all(mm_id, 1, 1, write=0)
        b.set_page_dirty(pfns[2])
        b.lock_page(pfns[3])
        b.page(pfns[4]).refcount += 1
        assert b.invalidate_mapping_pages(file, 0, 6) == 2
        assert [b.cached(file, i) >= 0 for i in range(6)] == [False, True, True, True, True, False]
        b.page(pfns[4]).refcount -= 1
        b.unlock_page(pfns[3])
        b.lru_add_drain()
        # nobody could look at the locked one; those that stayed are where reclaim looks next
        assert b.lru(2)[-1] == pfns[4]
        assert b.lru(2)[0] == pfns[2]
        b.end()


def test_pages_in_pagevecs_are_dropped_as_well() -> None:
    """The first look drains the pagevec, the second finds no other reference."""
    with mm_bench() as b:
        file = b.new_file(3)
        pfns = b.fill(file, 3)
        assert not b.flags(pfns[0]) & PG_lru
        assert drop_pagecache(b.m, b.cpu()) == 0
        assert drop_pagecache(b.m, b.cpu()) == 3
        assert b.event("drop_pagecache") == 2


def test_dropping_the_page_cache_leaves_tmpfs() -> None:
    with mm_bench() as b:
        file, tmpfs = b.new_file(2), b.new_file(2, AS_SHMEM)
        b.fill(file, 2)
        for i in range(2):
            b.vfs_write(tmpfs, i)
        b.lru_add_drain()
        assert drop_pagecache(b.m, b.cpu()) == 2
        assert (b.file_of(file).nrpages, b.file_of(tmpfs).nrpages) == (0, 2)
        assert b.event("drop_pagecache") == 1


def test_shadows_go_with_the_file() -> None:
    with mm_bench() as b:
        file = b.new_file(3)
        b.slot(file, 1).value = 12345 << 2 | 2
        b.file_of(file).nrexceptional = 1
        b.fill(file, 1)
        assert b.remove_file(file) == 0
        assert (b.slot(file, 1).value, b.file_of(file).nrexceptional) == (0, 0)


def test_locked_pages_are_waited_for() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        pfn = b.fill(file, 1)[0]
        assert not b.flags(pfn) & PG_locked
        b.truncate_inode_pages(file, 0)
        assert b.file_of(file).nrpages == 0
