"""From a page to those who map it."""

import pytest

from emu.mm.rmap import TTU_IGNORE_MLOCK, TTU_MIGRATION
from emu.zone.mm_types import (
    PTE_DIRTY,
    PTE_MIGRATION,
    PTE_PRESENT,
    PTE_SHIFT,
    PTE_SWAP,
    PTE_WRITE,
    PTE_YOUNG,
    VM_EXEC,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
)  # fmt: skip
from emu.zone.page import PG_dirty, PG_mlocked, PG_swapbacked, PG_swapcache
from tests.mm.mmbench import MmBench, io_write, mkclean, mm_bench

MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS = 0, 1, 2


def rss(b: MmBench, mm_id: int) -> tuple[int, ...]:
    """File, anonymous, swapped out."""
    return tuple(int(b.mm_of(mm_id).rss_stat[i].counter) for i in range(3))


def shared(b: MmBench, tasks: int, vm_flags: int = VM_WRITE | VM_SHARED) -> tuple[int, int]:
    """A page of a file that several tasks map in different places: its file and pfn."""
    file = b.new_file(8)
    pfn = b.fill(file, 8)[3]
    for k in range(tasks):
        mm_id = b.space(k=k)
        assert b.map(mm_id, 100 * k, 8 - k, file, vm_flags, k) == 0
        assert b.touch(mm_id, 100 * k + 3 - k, 0) == 0
    b.lru_add_drain()
    return file, pfn


def leave(b: MmBench, tasks: int) -> None:
    for k in range(tasks):
        b.end(k)


def test_every_mapping_that_was_used_counts_once() -> None:
    with mm_bench() as b:
        _, pfn = shared(b, 3, VM_EXEC)
        assert b.page(pfn).mapcount == 2
        b.lock_page(pfn)
        assert b.page_referenced(pfn) == 3 | VM_EXEC << 32
        assert b.page_referenced(pfn) == 0
        assert b.touch(2, 102, 0) == 0
        assert b.page_referenced(pfn) == 1 | VM_EXEC << 32
        b.unlock_page(pfn)
        leave(b, 3)


def test_locked_page_of_a_file_counts_as_referenced_to_those_without_the_lock() -> None:
    with mm_bench() as b:
        _, pfn = shared(b, 1)
        b.lock_page(pfn)
        assert b.page_referenced_unlocked(pfn) == 1
        assert b.pte(1, 3).value & PTE_YOUNG
        b.unlock_page(pfn)
        assert b.page_referenced_unlocked(pfn) & 0xFFFF == 1
        assert not b.pte(1, 3).value & PTE_YOUNG
        leave(b, 1)


def test_locked_area_is_told_and_keeps_its_bits() -> None:
    with mm_bench() as b:
        mm_id = b.space(2, VM_WRITE | VM_LOCKED)
        b.touch_all(mm_id, 0, 1)
        pfn = b.mapped(mm_id, 0)
        b.lock_page(pfn)
        assert b.page_referenced(pfn) == VM_LOCKED << 32
        assert b.pte(mm_id, 0).value & PTE_YOUNG
        b.unlock_page(pfn)
        b.end()


def test_cleaning_write_protects_shared_mappings() -> None:
    with mm_bench() as b:
        _, pfn = shared(b, 2)
        assert b.touch(1, 3, 1) & 8  # a write fault on a clean page
        assert b.flags(pfn) & PG_dirty
        b.lock_page(pfn)
        assert mkclean(b.m, b.cpu(), pfn) == 1
        assert not b.pte(1, 3).value & (PTE_WRITE | PTE_DIRTY)
        assert b.clear_page_dirty_for_io(pfn)
        b.unlock_page(pfn)
        assert not b.flags(pfn) & PG_dirty
        assert b.touch(1, 3, 1) & 8
        assert b.flags(pfn) & PG_dirty
        leave(b, 2)


def test_unmapping_moves_the_dirty_bit_to_the_page() -> None:
    with mm_bench() as b:
        _, pfn = shared(b, 2)
        b.pte(2, 102).value |= PTE_DIRTY
        b.lock_page(pfn)
        assert b.try_to_unmap(pfn, 0)
        b.unlock_page(pfn)
        assert b.flags(pfn) & PG_dirty
        assert (b.page(pfn).mapcount, b.page(pfn).refcount, b.node_stat("nr_mapped")) == (-1, 1, 0)
        assert rss(b, 1) == rss(b, 2) == (0, 0, 0)
        assert b.pte(1, 3).value == b.pte(2, 102).value == 0
        leave(b, 2)


def test_anonymous_page_leaves_its_swap_entry() -> None:
    with mm_bench(swap=64) as b:
        mm_id = b.space(2)
        b.touch_all(mm_id, 0, 1)
        b.lru_add_drain()
        pfn = b.mapped(mm_id, 0)
        b.lock_page(pfn)
        assert not b.try_to_unmap(pfn, 0)  # not in the swap cache: it would be lost
        assert b.mapped(mm_id, 0) == pfn
        assert b.add_to_swap(pfn)
        assert b.flags(pfn) & PG_swapcache
        assert b.try_to_unmap(pfn, 0)
        b.unlock_page(pfn)
        entry = b.pte(mm_id, 0).value
        assert (entry & PTE_SWAP, rss(b, mm_id)) == (PTE_SWAP, (0, 0, 1))
        assert b.hiwater(mm_id) == 1
        b.end()
        assert b.vm.swap.inuse_pages == 0


def test_locked_area_keeps_its_page() -> None:
    with mm_bench(swap=64) as b:
        mm_id = b.space(2)
        b.touch_all(mm_id, 0, 1)
        b.lru_add_drain()
        pfn = b.mapped(mm_id, 0)
        b.mm_of(mm_id).vmas[0].vm_flags |= VM_LOCKED
        b.lock_page(pfn)
        b.add_to_swap(pfn)
        assert not b.try_to_unmap(pfn, 0)
        assert b.flags(pfn) & PG_mlocked
        assert b.try_to_unmap(pfn, TTU_IGNORE_MLOCK)
        assert not b.flags(pfn) & PG_mlocked  # the last mapping went
        b.unlock_page(pfn)
        assert b.event("unevictable_pgs_cleared") == 1
        b.end()
        b.lru_add_drain()


@pytest.mark.parametrize("moved", [False, True])
def test_migration_entries_become_mappings_again(moved: bool) -> None:
    with mm_bench() as b:
        mm_id = b.space(2)
        b.touch_all(mm_id, 0, 2)
        b.lru_add_drain()
        pfn = b.mapped(mm_id, 0)
        b.lock_page(pfn)
        b.page(pfn).refcount += 1
        assert b.try_to_unmap(pfn, TTU_MIGRATION | TTU_IGNORE_MLOCK)
        assert b.pte(mm_id, 0).value == pfn << PTE_SHIFT | PTE_MIGRATION | PTE_WRITE
        assert (rss(b, mm_id), b.node_stat("nr_anon_pages")) == ((0, 2, 0), 1)
        assert b.flags(pfn) & PG_dirty
        new = pfn
        if moved:
            new = b.alloc(0, 0x100CCA)
            b.page(new).mapping, b.page(new).index = b.page(pfn).mapping, b.page(pfn).index
            b.page(new).page_flags |= PG_swapbacked
            b.lru_cache_add(new)
        b.remove_migration_ptes(pfn, new)
        assert b.pte(mm_id, 0).value == new << PTE_SHIFT | PTE_PRESENT | PTE_WRITE
        assert b.page(new).mapcount == 0
        b.unlock_page(pfn)
        b.put_page(pfn)
        if moved:
            b.put_page(new)
        assert b.node_stat("nr_anon_pages") == 2
        b.end()


def test_page_that_is_written_out_twice_is_written_once() -> None:
    with mm_bench() as b, b.disk():
        _, pfn = shared(b, 1)
        b.touch(1, 3, 1)
        b.lock_page(pfn)
        assert b.clear_page_dirty_for_io(pfn)
        assert io_write(b.m, b.cpu(), pfn) == 0
        b.written(pfn)
        b.lock_page(pfn)
        assert not b.clear_page_dirty_for_io(pfn)
        b.unlock_page(pfn)
        leave(b, 1)
