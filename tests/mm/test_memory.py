"""Faults: what is allocated and mapped for an access, and nothing when it fails."""

import pytest

from emu.mm.memcontrol import MEMCG_MAX
from emu.zone.mm_types import (
    AS_SHMEM,
    MMF_UNSTABLE,
    PTE_DIRTY,
    PTE_FILE,
    PTE_MIGRATION,
    PTE_PRESENT,
    PTE_SHIFT,
    PTE_SPECIAL,
    PTE_SWAP,
    PTE_WRITE,
    PTE_YOUNG,
    VM_SHARED,
    VM_WRITE,
)  # fmt: skip
from emu.zone.page import PG_active, PG_dirty, PG_swapcache, PG_table, PG_uptodate
from emu.zone.validate_mm import World
from tests.bench import two_zones
from tests.mm.mmbench import MmBench, Thread, io_write, mm_bench, set_memcg_limit

OOM, SIGBUS, MAJOR, WRITE, SIGSEGV, KILLED = 1, 2, 4, 8, 0x40, 0x10000
BITS = PTE_PRESENT | PTE_YOUNG | PTE_DIRTY | PTE_WRITE | PTE_FILE | PTE_SPECIAL


def bits(b: MmBench, mm_id: int, slot: int) -> int:
    return int(b.pte(mm_id, slot).value) & BITS


def in_use(b: MmBench) -> int:
    """Pages that somebody has."""
    return len(World(b.m).used.pfn)


def rss(b: MmBench, mm_id: int) -> list[int]:
    """File, anonymous, swapped out, tmpfs."""
    return [int(counter.counter) for counter in b.mm_of(mm_id).rss_stat]


def swap_out(b: MmBench, mm_id: int, slot: int) -> int:
    """Write a page to swap as reclaim does; it stays in the swap cache: its entry."""
    pfn = b.mapped(mm_id, slot)
    b.lru_add_drain()
    b.lock_page(pfn)
    assert b.add_to_swap(pfn)
    assert b.try_to_unmap(pfn, 0)
    assert b.clear_page_dirty_for_io(pfn)
    assert io_write(b.m, b.cpu(), pfn) == 0
    b.written(pfn)
    return int(b.pte(mm_id, slot).value) >> PTE_SHIFT


def evict(b: MmBench, pfn: int) -> None:
    """Out of the swap cache, and free."""
    b.lock_page(pfn)
    b.page(pfn).refcount += 1
    b.vm.swap.swap_lock.word = 0
    b.delete_from_swap_cache(pfn)
    b.unlock_page(pfn)
    b.put_page(pfn)


def test_read_of_untouched_memory_maps_the_zero_page() -> None:
    with mm_bench() as b:
        mm_id = b.space(600)
        assert b.touch(mm_id, 3, 0) == 0
        assert b.pte(mm_id, 3).value == PTE_PRESENT | PTE_YOUNG | PTE_SPECIAL
        assert (rss(b, mm_id), in_use(b)) == ([0, 0, 0, 0], 1)  # its page table
        assert b.touch(mm_id, 3, 1) & WRITE
        assert bits(b, mm_id, 3) == PTE_PRESENT | PTE_YOUNG | PTE_DIRTY | PTE_WRITE
        assert rss(b, mm_id) == [0, 1, 0, 0]
        assert b.event("pgfault") == 2
        b.end()


def test_write_gets_a_zeroed_page_of_its_own() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        assert b.touch(mm_id, 0, 1) == 0
        page = b.page(b.mapped(mm_id, 0))
        assert (page.mapping, page.index, page.mapcount) == (mm_id << 2 | 1, 0, 0)
        assert page.page_flags & PG_uptodate
        assert b.node_stat("nr_anon_pages") == 1
        assert b.touch(mm_id, 0, 0) == 0
        assert b.event("pgfault") == 1
        b.end()


def test_each_512_slots_need_a_page_table() -> None:
    with mm_bench() as b:
        mm_id = b.space(2000)
        for slot in (0, 511, 512, 1999):
            assert b.touch(mm_id, slot, 1) == 0
        assert (b.mm_of(mm_id).nr_page_tables, b.zone_stat("nr_page_table_pages")) == (3, 3)
        assert int((World(b.m).used.flags & PG_table != 0).sum()) == 3
        b.end()
        assert (b.zone_stat("nr_page_table_pages"), in_use(b)) == (0, 0)


def test_access_where_nothing_is() -> None:
    with mm_bench() as b:
        mm_id = b.space(8, vm_flags=0)
        assert b.touch(mm_id, 8, 0) == SIGSEGV
        assert b.touch(mm_id, 0, 1) == SIGSEGV
        assert b.event("pgfault") == 0
        b.end()


@pytest.mark.parametrize("leave", [0, 1])
def test_fault_without_memory_leaves_nothing(leave: int) -> None:
    """With one page left there is a page table, but no page for it."""
    with mm_bench() as b:
        mm_id = b.space(8)
        taken = b.take_all(leave=leave)
        b.m.nodes[0].node_zones[2].watermark[0] = 0
        before = in_use(b)
        assert b.touch(mm_id, 0, 1) == OOM
        assert in_use(b) - before == b.mm_of(mm_id).nr_page_tables
        assert (rss(b, mm_id), b.pte(mm_id, 0).value) == ([0, 0, 0, 0], 0)
        for pfn in taken:
            b.free(pfn)
        b.end()


def test_fault_beyond_the_cgroups_limit_leaves_nothing() -> None:
    with mm_bench() as b:
        set_memcg_limit(b.m, b.cpu(), 1, MEMCG_MAX, 2)
        mm_id = b.space(8, memcg=1)
        assert b.touch_all(mm_id, 0, 2) == 0
        before = in_use(b)
        assert b.touch(mm_id, 2, 1) == OOM
        assert (b.m.memcgs[0].memory, in_use(b)) == (2, before)
        b.end()
        assert b.m.memcgs[0].memory == 0


def test_reaped_address_space_gets_nothing_more() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        b.mm_of(mm_id).mm_flags |= MMF_UNSTABLE
        assert b.touch(mm_id, 0, 1) == SIGBUS
        assert b.touch(mm_id, 0, 0) == SIGBUS
        assert rss(b, mm_id) == [0, 0, 0, 0]
        b.end()


def test_killed_task_touches_nothing() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        b.user(0).fatal_signal = 1
        assert b.touch(mm_id, 0, 1) == KILLED
        b.end()


# --- files ------------------------------------------------------------------------------------------------------------


def test_reading_a_mapped_file() -> None:
    with mm_bench() as b:
        file = b.new_file(8)
        pfns = b.fill(file, 8)
        mm_id = b.space(8, VM_WRITE, file)
        assert b.touch(mm_id, 2, 0) == 0
        assert b.pte(mm_id, 2).value == pfns[2] << PTE_SHIFT | PTE_PRESENT | PTE_YOUNG | PTE_FILE
        assert (b.page(pfns[2]).mapcount, b.node_stat("nr_mapped"), rss(b, mm_id)) == (0, 1, [1, 0, 0, 0])
        b.end()
        assert b.node_stat("nr_mapped") == 0


def test_missing_page_is_read_with_those_around_it() -> None:
    with mm_bench() as b, b.disk():
        file = b.new_file(100)
        mm_id = b.space(100, VM_WRITE, file)
        assert b.touch(mm_id, 40, 0) == MAJOR
        assert [i for i in range(100) if b.cached(file, i) >= 0] == list(range(24, 56))
        assert b.event("pgmajfault") == 1
        assert b.touch(mm_id, 41, 0) == 0
        b.end()


def test_writing_a_private_mapping_copies() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        pfns = b.fill(file, 4)
        mm_id = b.space(4, VM_WRITE, file)
        assert b.touch(mm_id, 0, 1) == 0  # at once
        b.touch(mm_id, 1, 0)
        assert b.touch(mm_id, 1, 1) & WRITE  # after it was read
        for slot in range(2):
            assert b.mapped(mm_id, slot) != pfns[slot]
            assert bits(b, mm_id, slot) == PTE_PRESENT | PTE_YOUNG | PTE_DIRTY | PTE_WRITE
            assert b.page(pfns[slot]).mapcount == -1
            assert not b.flags(pfns[slot]) & PG_dirty
        assert rss(b, mm_id) == [0, 2, 0, 0]
        b.end()


def test_writing_a_shared_mapping_dirties_the_file() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        pfns = b.fill(file, 4)
        mm_id = b.space(4, VM_WRITE | VM_SHARED, file)
        assert b.touch(mm_id, 0, 1) == 0
        b.touch(mm_id, 1, 0)
        assert bits(b, mm_id, 1) == PTE_PRESENT | PTE_YOUNG | PTE_FILE
        assert b.touch(mm_id, 1, 1) & WRITE
        assert [bool(b.flags(pfn) & PG_dirty) for pfn in pfns] == [True, True, False, False]
        assert b.event("pgreuse") == 1
        assert (b.file_of(file).nr_dirty, rss(b, mm_id)) == (2, [2, 0, 0, 0])
        b.end()
        assert all(b.flags(pfn) & PG_dirty for pfn in pfns[:2])


def test_unmapping_a_young_page_marks_it_accessed() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        pfns = b.fill(file, 2)
        b.lru_add_drain()
        for _ in range(2):
            b.space(2, 0, file)
            b.touch(1, 0, 0)
            b.touch(1, 1, 0)
            b.pte(1, 1).value &= ~PTE_YOUNG
            b.end()
        b.lru_add_drain()
        assert [bool(b.flags(pfn) & PG_active) for pfn in pfns] == [True, False]


# --- swap -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize("cached", [True, False])
def test_swapped_page_comes_back(write: int, cached: bool) -> None:
    with mm_bench(swap=256) as b, b.disk():
        mm_id = b.space(4)
        b.touch_all(mm_id, 0, 1)
        pfn = b.mapped(mm_id, 0)
        entry = swap_out(b, mm_id, 0)
        assert rss(b, mm_id) == [0, 0, 1, 0]
        if not cached:
            evict(b, pfn)
        met = b.touch(mm_id, 0, write)
        assert bool(met & MAJOR) == (not cached)
        assert (rss(b, mm_id), b.event("pgmajfault")) == ([0, 1, 0, 0], int(not cached))
        assert bool(bits(b, mm_id, 0) & PTE_WRITE) == bool(write)
        now = b.mapped(mm_id, 0)
        assert bool(b.flags(now) & PG_swapcache) == (not write)  # a read keeps the copy on the disk
        assert b.vm.swap.inuse_pages == (0 if write else 1)
        if not write:
            assert b.touch(mm_id, 0, 1) & WRITE  # the swap cache has it, too: copied
            assert b.mapped(mm_id, 0) != now
        assert entry
        b.end()
        # what was copied is nobody's, and stays in the swap cache until reclaim comes
        assert b.vm.swap.inuse_pages == (0 if write else 1)


def test_fault_waits_for_a_migration() -> None:
    with mm_bench(two_zones(cpus=2)) as b:
        mm_id = b.space(4)
        b.touch_all(mm_id, 0, 1)
        b.lru_add_drain()
        pfn = b.mapped(mm_id, 0)
        b.lock_page(pfn, cpu=1)
        b.page(pfn).refcount += 1
        assert b.try_to_unmap(pfn, 1 | 8, cpu=1)
        assert b.pte(mm_id, 0).value & PTE_MIGRATION
        thread = Thread(target=lambda: b.touch(mm_id, 0, 1))
        thread.start()
        while not b.flags(pfn) & (1 << 13):
            pass
        while b.page(pfn).refcount != 1:  # it holds no reference while it waits
            pass
        b.remove_migration_ptes(pfn, pfn, cpu=1)
        b.unlock_page(pfn, cpu=1)
        thread.join()
        b.put_page(pfn, cpu=1)
        assert b.mapped(mm_id, 0) == pfn
        b.end()


# --- tmpfs ------------------------------------------------------------------------------------------------------------


def test_tmpfs_goes_to_swap_and_comes_back() -> None:
    with mm_bench(swap=256) as b, b.disk():
        file = b.new_file(4, AS_SHMEM)
        assert [b.vfs_write(file, 0), b.vfs_read(file, 1)] == [0, 0]
        assert b.cached(file, 1) == -1  # a hole stays one
        pfn = b.cached(file, 0)
        b.lru_add_drain()
        assert (b.lru(0), b.node_stat("nr_shmem"), b.node_stat("nr_dirty")) == ([pfn], 1, 0)
        b.lock_page(pfn)
        assert b.clear_page_dirty_for_io(pfn)
        assert io_write(b.m, b.cpu(), pfn) == 0
        b.written(pfn)
        assert b.slot(file, 0).value & 3 == 3
        assert (b.node_stat("nr_shmem"), b.file_of(file).nrpages) == (0, 0)
        mm_id = b.space(4, VM_WRITE | VM_SHARED, file)
        assert b.touch(mm_id, 0, 0) == 0  # from the swap cache: minor
        assert bits(b, mm_id, 0) == PTE_PRESENT | PTE_YOUNG | PTE_WRITE | PTE_FILE
        assert (rss(b, mm_id), b.vm.swap.inuse_pages) == ([0, 0, 0, 1], 0)
        assert b.touch(mm_id, 3, 1) == 0
        assert b.touch(mm_id, 3, 0) == 0
        b.end()
        assert b.remove_file(file) == 0
        assert (b.node_stat("nr_shmem"), in_use(b)) == (0, 0)


def test_truncated_tmpfs_gives_its_swap_back() -> None:
    with mm_bench(swap=256) as b, b.disk():
        file = b.new_file(4, AS_SHMEM)
        b.vfs_write(file, 2)
        pfn = b.cached(file, 2)
        b.lru_add_drain()
        b.lock_page(pfn)
        b.clear_page_dirty_for_io(pfn)
        io_write(b.m, b.cpu(), pfn)
        b.written(pfn)
        assert b.vm.swap.inuse_pages == 1
        assert b.remove_file(file) == 0
        assert (b.vm.swap.inuse_pages, in_use(b)) == (0, 0)


def test_swap_entries_go_with_the_area() -> None:
    with mm_bench(swap=256) as b, b.disk():
        mm_id = b.space(4)
        b.touch_all(mm_id, 0, 2)
        swap_out(b, mm_id, 0)
        assert b.pte(mm_id, 0).value & PTE_SWAP
        assert b.munmap(mm_id, 0, 1) == 0
        assert (b.vm.swap.inuse_pages, rss(b, mm_id)) == (0, [0, 1, 0, 0])
        b.end()
