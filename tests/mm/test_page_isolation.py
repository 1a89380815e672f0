"""Isolated pageblocks: what is free there can't be had, and counts again when they are given back."""

from collections.abc import Iterator

import pytest

from emu.mm.page_isolation import MEMORY_OFFLINE
from emu.zone.event import KINDS
from emu.zone.gfp import __GFP_MOVABLE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import (
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    PAGEBLOCK_NR_PAGES,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)  # fmt: skip
from emu.zone.page import PG_lru, PG_reserved
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from tests.bench import RESERVES, Bench, one_zone, shape
from tests.mm.hot import all_free, hot, undo, unmovable
from tests.mm.hot import isolate as start

BUSY = -16
BLOCK = PAGEBLOCK_NR_PAGES


@pytest.fixture
def b() -> Iterator[Bench]:
    with hot(one_zone(8192, cpus=2)) as made:
        yield made


def free_pages(b: Bench) -> int:
    """NR_FREE_PAGES with all differentials."""
    return b.zone().vm_stat[NR_FREE_PAGES].counter + sum(
        b.pcp(cpu=i).vm_stat_diff[NR_FREE_PAGES] for i in range(b.m.nr_parties)
    )


def isolate(b: Bench, first: int, last: int, flags: int = 0, mt: int = MIGRATE_MOVABLE) -> int:
    return int(start(b.m, b.cpu(), first, last, mt, flags))


def test_free_pages_of_an_isolated_block_neither_count_nor_can_be_had(b: Bench) -> None:
    before = free_pages(b)
    assert isolate(b, 2048, 3072) == 0
    assert b.zone().nr_isolate_pageblock == 2
    assert b.free_list(10, MIGRATE_ISOLATE) == [2048]
    assert free_pages(b) == before - 1024
    assert all_free(b.m, b.cpu(), 2048, 3072, 0) == 0
    taken = b.take_all(0, GFP_HIGHUSER_MOVABLE, leave=1024)
    assert len(taken) == 8192 - 1024
    assert not set(range(2048, 3072)) & set(taken)
    for pfn in taken:
        b.free(pfn)
    undo(b.m, b.cpu(), 2048, 3072, MIGRATE_MOVABLE)
    assert b.zone().nr_isolate_pageblock == 0
    b.drain()
    assert free_pages(b) == before


def test_blocks_go_to_the_tail_of_the_list_when_they_are_given_back(b: Bench) -> None:
    assert isolate(b, 1024, 2048) == 0
    undo(b.m, b.cpu(), 1024, 2048, MIGRATE_MOVABLE)
    assert b.free_list(10, MIGRATE_MOVABLE)[-1] == 1024


def test_a_block_is_merged_with_its_neighbour_when_it_is_given_back(b: Bench) -> None:
    pfn = b.alloc(9, GFP_KERNEL | __GFP_MOVABLE)
    other = pfn ^ BLOCK
    assert isolate(b, pfn & ~BLOCK, (pfn & ~BLOCK) + BLOCK) in (0, pfn + 1)
    undo(b.m, b.cpu(), pfn & ~BLOCK, (pfn & ~BLOCK) + BLOCK, MIGRATE_MOVABLE)
    assert isolate(b, other, other + BLOCK) == 0
    assert (other, 9) in b.free_blocks()
    b.free(pfn, 9)
    assert {(pfn, 9), (other, 9)} <= b.free_blocks()  # kept apart: one isolated, one not
    undo(b.m, b.cpu(), other, other + BLOCK, MIGRATE_MOVABLE)
    assert (min(pfn, other), 10) in b.free_blocks()


def test_an_unmovable_page_keeps_its_block_and_the_range_is_as_before(b: Bench) -> None:
    pfn = b.alloc(0, GFP_KERNEL)
    block = pfn & -1024
    before = b.free_blocks()
    assert isolate(b, block - 1024 if block > 1024 else block, block + 1024) == pfn + 1
    assert b.zone().nr_isolate_pageblock == 0
    assert b.block(pfn).bits & 7 != MIGRATE_ISOLATE
    b.drain()
    b.free(pfn)
    assert before  # and validate() says the rest


def test_pages_on_lru_lists_and_movable_pages_of_drivers_are_movable(b: Bench) -> None:
    lru, driver, plain = (b.alloc(0, GFP_KERNEL) for _ in range(3))
    b.page(lru).page_flags |= PG_lru
    b.page(driver).mapping = 5 << 2 | 2
    assert int(unmovable(b.m, b.zone(), plain & -BLOCK, MIGRATE_MOVABLE, 0)) == plain
    b.free(plain)
    b.drain()
    assert int(unmovable(b.m, b.zone(), plain & -BLOCK, MIGRATE_MOVABLE, 0)) == -1
    b.page(lru).page_flags &= ~PG_lru
    assert int(unmovable(b.m, b.zone(), plain & -BLOCK, MIGRATE_MOVABLE, MEMORY_OFFLINE)) == lru


def test_a_compound_page_off_the_lru_is_unmovable() -> None:
    with hot(one_zone()) as b:
        pfn = b.alloc(3, GFP_KERNEL | 0x40000)  # __GFP_COMP
        assert int(unmovable(b.m, b.zone(), pfn & -BLOCK, MIGRATE_MOVABLE, 0)) == pfn
        b.page(pfn).page_flags |= PG_lru
        assert int(unmovable(b.m, b.zone(), pfn & -BLOCK, MIGRATE_MOVABLE, 0)) == -1
        b.page(pfn).page_flags &= ~PG_lru
        b.free(pfn, 3)


def test_in_the_movable_zone_only_reserved_pages_are_unmovable() -> None:
    with hot(shape([(0, ZONE_NORMAL, 1024, 4096), (0, ZONE_MOVABLE, 5120, 4096)])) as b:
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        assert pfn >= 5120
        assert int(unmovable(b.m, b.zone(), pfn & -BLOCK, MIGRATE_MOVABLE, 0)) == -1
        b.page(pfn).page_flags |= PG_reserved
        assert int(unmovable(b.m, b.zone(), pfn & -BLOCK, MIGRATE_MOVABLE, 0)) == pfn
        b.page(pfn).page_flags &= ~PG_reserved


def test_cma_blocks_are_movable_for_cma_only() -> None:
    with hot(one_zone(16384), cma=2048) as b:
        first = 1024 + 16384 - 2048
        assert isolate(b, first, first + 1024) == first + 1
        before = free_pages(b)
        assert isolate(b, first, first + 1024, mt=MIGRATE_CMA) == 0
        assert b.zone().vm_stat[NR_FREE_CMA_PAGES].counter == 1024
        undo(b.m, b.cpu(), first, first + 1024, MIGRATE_CMA)
        assert b.block(first).bits & 7 == MIGRATE_CMA
        assert free_pages(b) == before


def test_two_callers_cannot_isolate_the_same_block(b: Bench) -> None:
    assert isolate(b, 3072, 4096) == 0
    assert isolate(b, 2048, 4096) == BUSY
    assert b.zone().nr_isolate_pageblock == 2  # the second gave back its own part only
    assert b.block(2048).bits & 7 == MIGRATE_MOVABLE
    undo(b.m, b.cpu(), 3072, 4096, MIGRATE_MOVABLE)


def test_other_cpus_pages_are_drained_and_latecomers_are_not(b: Bench) -> None:
    held = [b.alloc(0, GFP_HIGHUSER_MOVABLE) for _ in range(3)]
    block = held[0] & -1024
    for pfn in held[:2]:
        b.free(pfn)
        b.page(held[2]).page_flags |= PG_lru
    assert b.pcp_list(MIGRATE_MOVABLE)
    assert isolate(b, block, block + 1024) == 0
    assert b.pcp_list(MIGRATE_MOVABLE) == []
    b.page(held[2]).page_flags &= ~PG_lru
    assert all_free(b.m, b.cpu(), block, block + 1024, 0) == BUSY
    b.free(held[2])  # of an isolated block: not to the pcp list
    assert b.pcp_list(MIGRATE_MOVABLE) == []
    assert all_free(b.m, b.cpu(), block, block + 1024, 0) == 0
    undo(b.m, b.cpu(), block, block + 1024, MIGRATE_MOVABLE)


def test_a_page_stamped_before_and_listed_after_the_drain_keeps_the_range_busy(b: Bench) -> None:
    """The race that 5.10 leaves to its callers, who drain again."""
    pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
    block = pfn & -1024
    b.page(pfn).page_flags |= PG_lru
    assert isolate(b, block, block + 1024) == 0
    b.page(pfn).page_flags &= ~PG_lru
    b.block(pfn).bits = b.block(pfn).bits & ~7 | MIGRATE_MOVABLE  # what the freeing CPU had read before
    b.free(pfn)
    b.block(pfn).bits = b.block(pfn).bits & ~7 | MIGRATE_ISOLATE
    assert b.pcp_list(MIGRATE_MOVABLE) == [pfn] or pfn in b.pcp_list(MIGRATE_MOVABLE)
    assert all_free(b.m, b.cpu(), block, block + 1024, 0) == BUSY
    b.drain()
    assert all_free(b.m, b.cpu(), block, block + 1024, 0) == 0
    undo(b.m, b.cpu(), block, block + 1024, MIGRATE_MOVABLE)


def test_isolation_is_traced(b: Bench) -> None:
    b.cpu().trace = 1
    assert isolate(b, 2048, 3072) == 0
    undo(b.m, b.cpu(), 2048, 3072, MIGRATE_MOVABLE)
    b.cpu().trace = 0
    events = [e for e in b.events() if KINDS[e["kind"]] == "set_migratetype_isolate"]
    assert [(int(e["pfn"]), int(e["a"])) for e in events] == [(2048, 1), (2560, 1), (2048, 0), (2560, 0)]


def test_5_10_counts_free_pages_twice() -> None:
    """Between the two pageblocks of a block of the largest order, somebody allocates from it."""
    with hot(one_zone(4096)) as b:
        b.strict = False
        while b.alloc(10, GFP_HIGHUSER_MOVABLE | RESERVES) >= 0:
            pass
        block = 2048
        b.free(block, 10)
        assert isolate(b, block, block + 1024) == 0
        assert free_pages(b) == 0
        undo(b.m, b.cpu(), block, block + BLOCK, MIGRATE_MOVABLE)
        assert free_pages(b) == 1024
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE | RESERVES)
        assert block <= pfn < block + BLOCK
        undo(b.m, b.cpu(), block + BLOCK, block + 1024, MIGRATE_MOVABLE)
        assert free_pages(b) == b.nr_free() + BLOCK
