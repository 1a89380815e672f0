"""A page that comes back soon enough was part of the working set."""

import pytest

from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.page import PG_active, PG_workingset
from tests.mm.mmbench import MmBench, fold, mm_bench


def evict(b: MmBench, file: int, index: int, memcg: int = 0) -> None:
    """As reclaim does it: the page goes, its shadow stays."""
    pfn = b.cached(file, index)
    shadow = b.workingset_eviction(pfn, memcg)
    b.lock_page(pfn)
    b.page(pfn).refcount += 1
    b.delete_from_page_cache(pfn)
    b.unlock_page(pfn)
    b.put_page(pfn)
    b.slot(file, index).value = shadow << 2 | 2
    b.file_of(file).nrexceptional += 1


def read_back(b: MmBench, file: int, index: int) -> int:
    """A new page in the slot."""
    pfn = b.find_or_create_page(file, index, GFP_HIGHUSER_MOVABLE, 0)
    b.unlock_page(pfn)
    b.put_page(pfn)
    return pfn


@pytest.mark.parametrize(("aged", "active"), [(0, True), (9, True), (10, True), (11, False)])
def test_refault_within_the_active_list_activates(aged: int, active: bool) -> None:
    """Ten active pages are the room that the page would have needed; its own refault isn't part of the distance."""
    with mm_bench() as b:
        file = b.new_file(32)
        pfns = b.fill(file, 20)
        b.lru_add_drain()
        for pfn in pfns[:10]:
            b.activate_page(pfn)
        b.lru_add_drain()
        fold(b.m, b.cpu())
        evict(b, file, 15)
        b.lruvec().nonresident_age.counter += aged
        pfn = read_back(b, file, 15)
        assert bool(b.flags(pfn) & PG_active) == active
        assert b.node_stat("workingset_refault_file") == 1
        assert b.node_stat("workingset_activate_file") == int(active)
        assert b.file_of(file).nrexceptional == 0


def test_page_of_the_workingset_says_so_when_it_returns() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        pfn = b.fill(file, 1)[0]
        b.lru_add_drain()
        b.page(pfn).page_flags |= PG_workingset
        evict(b, file, 0)
        pfn = read_back(b, file, 0)
        assert b.flags(pfn) & (PG_active | PG_workingset) == PG_active | PG_workingset
        assert b.node_stat("workingset_restore_file") == 1
        b.lru_add_drain()
        assert b.lru(3) == [pfn]


def test_writing_a_whole_page_is_no_refault() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        b.fill(file, 1)
        b.lru_add_drain()
        evict(b, file, 0)
        assert b.vfs_write(file, 0) == 0
        assert b.node_stat("workingset_refault_file") == 0
        assert not b.flags(b.cached(file, 0)) & PG_active


def test_cgroups_eviction_ages_the_root_as_well() -> None:
    with mm_bench() as b:
        file = b.new_file(4)
        b.task().memcg = 2
        b.fill(file, 1)
        b.lru_add_drain()
        assert b.lru(2, memcg=2) == [b.cached(file, 0)]
        evict(b, file, 0, memcg=2)
        assert (b.lruvec(2).nonresident_age.counter, b.lruvec().nonresident_age.counter) == (1, 1)
        pfn = read_back(b, file, 0)
        assert b.flags(pfn) & PG_active
        assert b.lruvec(2).nonresident_age.counter == 2
