"""The buddy system against a set of free pages: split, merge, order of the lists, guards, isolation, reporting."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.zone.buddy import FPI_NONE, FPI_SKIP_REPORT_NOTIFY, FPI_TO_TAIL
from emu.zone.mmzone import MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from emu.zone.page import NULL, PG_buddy, PG_guard, PG_reported, set_flag
from emu.zone.pageblock import PB_INITIALISED
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests.bench import Bench, bench, core, one_zone
from tests.naive import blocks_of, pages_of

SMALL = one_zone(4096)  # no pcp lists worth the name: every page goes through the buddy lists


def take(b: Bench, order: int, migratetype: int = MIGRATE_MOVABLE) -> int:
    """A block off the free lists, counted as the callers of ``__rmqueue_smallest()`` do."""
    pfn = int(core.__rmqueue_smallest(b.m, b.cpu(), b.zone(), order, migratetype))
    if pfn != NULL:
        core.__mod_zone_page_state(b.m, b.cpu(), b.zone(), NR_FREE_PAGES, -(1 << order))
        b.page(pfn).refcount = 1
    return pfn


def give(b: Bench, pfn: int, order: int, migratetype: int = MIGRATE_MOVABLE, fpi: int = FPI_NONE) -> int:
    b.page(pfn).refcount = 0
    return int(core.__free_one_page(b.m, b.cpu(), pfn, b.zone(), order, migratetype, fpi))


def test_booted_zone_is_whole_blocks_lowest_first() -> None:
    with bench(SMALL) as b:
        assert b.free_list(10, MIGRATE_MOVABLE) == [1024, 2048, 3072, 4096]


def test_zone_that_starts_and_ends_odd_is_the_largest_aligned_blocks() -> None:
    from emu.zone.boot import Shape, ZoneShape

    odd = Shape((0,), (ZoneShape(0, 2, 1027, 3000, 3000, 3000),), 1)
    with bench(odd) as b:
        assert b.free_blocks() == blocks_of(set(range(1027, 4027)))


def test_split_leaves_the_upper_halves() -> None:
    with bench(SMALL) as b:
        pfn = take(b, 7)
        assert pfn == 1024
        assert [b.free_list(o, MIGRATE_MOVABLE) for o in (7, 8, 9)] == [[1024 + 128], [1024 + 256], [1024 + 512]]
        assert all(b.page(p).page_flags & PG_buddy for p in (1152, 1280, 1536))
        assert not b.page(pfn).page_flags & PG_buddy


def test_smallest_order_that_has_a_block_is_taken() -> None:
    with bench(SMALL) as b:
        take(b, 3)
        assert take(b, 3) == 1024 + 8
        assert take(b, 4) == 1024 + 16


def test_empty_type_gives_nothing() -> None:
    with bench(SMALL) as b:
        assert take(b, 0, MIGRATE_UNMOVABLE) == NULL


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1 << 20)), max_size=60))
def test_free_lists_are_those_of_the_set_of_free_pages(ops: list[tuple[int, int]]) -> None:
    with bench(SMALL) as b:
        held: list[tuple[int, int]] = []
        free = set(range(1024, 1024 + 4096))
        for order, pick in ops:
            if pick & 1 and held:
                pfn, had = held.pop(pick % len(held))
                give(b, pfn, had)
                free |= pages_of([(pfn, had)])
            else:
                pfn = take(b, order)
                room = any(o >= order for _, o in blocks_of(free))
                assert (pfn != NULL) == room
                if pfn != NULL:
                    assert pages_of([(pfn, order)]) <= free
                    free -= pages_of([(pfn, order)])
                    held.append((pfn, order))
            assert b.free_blocks() == blocks_of(free)
            assert b.nr_free_now() == len(free)


def test_freeing_everything_in_any_order_makes_it_whole_again() -> None:
    with bench(SMALL) as b:
        held = []
        while (pfn := take(b, 5)) != NULL:
            held.append(pfn)
        random.Random(3).shuffle(held)
        for pfn in held:
            give(b, pfn, 5)
        assert b.free_blocks() == {(1024 + i * 1024, 10) for i in range(4)}


def test_merge_returns_the_order_reached() -> None:
    with bench(SMALL) as b:
        one, two = take(b, 4), take(b, 4)
        assert give(b, one, 4) == 4
        assert give(b, two, 4) == 10


def test_block_goes_first_unless_its_pair_will_merge_soon() -> None:
    with bench(SMALL) as b:
        held = [take(b, 2) for _ in range(8)]
        give(b, held[0], 2)
        give(b, held[6], 2)
        assert b.free_list(2, MIGRATE_MOVABLE)[:2] == [held[6], held[0]]
        give(b, held[3], 2)
        give(b, held[4], 2, fpi=FPI_TO_TAIL)
        assert b.free_list(2, MIGRATE_MOVABLE) == [held[3], held[6], held[0], held[4]]
        for i in (2, 1, 7, 5):
            give(b, held[i], 2)


def test_block_whose_higher_buddy_is_free_goes_last() -> None:
    with bench(SMALL) as b:
        held = [take(b, 2) for _ in range(8)]
        give(b, held[6], 2)
        give(b, held[2], 2)
        give(b, held[3], 2)  # [2, 3] are an order-3 block now: [0] would merge with [1], and they with that
        give(b, held[0], 2)
        assert b.free_list(2, MIGRATE_MOVABLE) == [held[6], held[0]]
        for i in (1, 4, 5, 7):
            give(b, held[i], 2)


def test_page_of_another_zone_is_no_buddy() -> None:
    from tests.bench import shape

    with bench(shape([(0, 1, 1024, 4096 + 512), (0, 2, 5632, 4096 - 512)])) as b:
        assert (1024 + 4096, 9) in b.free_blocks(b.zone(0))
        assert (5632, 9) in b.free_blocks(b.zone(1))


@pytest.mark.parametrize("minorder", [1, 4, 10])
def test_halves_below_the_guard_order_are_guards(minorder: int) -> None:
    with bench(SMALL, debug_guardpage_minorder=minorder) as b:
        before = b.nr_free()
        pfn = b.alloc()
        assert b.zone().vm_stat[NR_FREE_PAGES].counter + b.pcp().vm_stat_diff[NR_FREE_PAGES] == before - (1 << minorder)
        guards = {p for p in range(1024, 5120) if b.page(p).page_flags & PG_guard}
        assert guards == {pfn + (1 << order) for order in range(minorder)}
        assert not {p for p, order in b.free_blocks() if order < minorder}
        b.free(pfn)
        b.drain()
        assert b.nr_free() == before
        assert not any(b.page(p).page_flags & PG_guard for p in range(1024, 5120))


def test_isolated_block_does_not_merge_across_its_border() -> None:
    with bench(SMALL) as b:
        left, right = take(b, 9), take(b, 9)
        b.zone().nr_isolate_pageblock = 1
        b.block(left).bits = MIGRATE_ISOLATE | PB_INITIALISED
        before = b.zone().vm_stat[NR_FREE_PAGES].counter + b.pcp().vm_stat_diff[NR_FREE_PAGES]
        assert give(b, left, 9, MIGRATE_ISOLATE) == 9
        assert give(b, right, 9) == 9
        assert b.free_list(9, MIGRATE_ISOLATE) == [left]
        after = b.zone().vm_stat[NR_FREE_PAGES].counter + b.pcp().vm_stat_diff[NR_FREE_PAGES]
        assert after - before == 512  # isolated pages are not free


def test_isolation_elsewhere_in_the_zone_does_not_stop_a_merge() -> None:
    with bench(SMALL) as b:
        left, right = take(b, 9), take(b, 9)
        b.zone().nr_isolate_pageblock = 1
        b.block(4096).bits = MIGRATE_ISOLATE
        give(b, left, 9)
        assert give(b, right, 9) == 10
        b.strict = False  # the isolated block is still on the movable list


def test_small_pieces_of_an_isolated_block_merge_inside_it() -> None:
    with bench(SMALL) as b:
        left, right = take(b, 8), take(b, 8)
        b.zone().nr_isolate_pageblock = 1
        b.block(left).bits = MIGRATE_ISOLATE | PB_INITIALISED
        give(b, left, 8, MIGRATE_ISOLATE)
        assert give(b, right, 8, MIGRATE_ISOLATE) == 9


def test_taken_page_is_no_longer_reported() -> None:
    with bench(SMALL) as b:
        set_flag(b.page(1024), PG_reported)
        assert take(b, 10) == 1024
        assert not b.page(1024).page_flags & PG_reported


@pytest.mark.parametrize(("order", "fpi", "told"), [
    (9, FPI_NONE, 1), (8, FPI_NONE, 0), (9, FPI_SKIP_REPORT_NOTIFY, 0),
])  # fmt: skip
def test_large_free_blocks_are_told_to_the_hypervisor(order: int, fpi: int, told: int) -> None:
    with bench(SMALL, page_reporting=True) as b:
        pfn = take(b, order)
        take(b, order)
        before = b.m.page_reporting
        give(b, pfn, order, fpi=fpi)
        assert b.m.page_reporting - before == told


def test_page_is_stamped_with_the_list_it_came_from() -> None:
    with bench(SMALL) as b:
        assert b.page(take(b, 0)).index == MIGRATE_MOVABLE
