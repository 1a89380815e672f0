"""CMA pages serve movable requests, first of all while they are most of what is free."""

import pytest

from emu.zone.gfp import ALLOC_CMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PF_MEMALLOC_NOCMA
from emu.zone.mmzone import MIGRATE_CMA, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from tests.bench import Bench, bench, core, one_zone

CMA_START = 1024 + 8192 - 2048


def is_cma(pfn: int) -> bool:
    return pfn >= CMA_START


def with_cma(pages: int = 2048) -> object:
    return bench(one_zone(8192), cma=pages)


def free_cma(b: Bench) -> int:
    return int(b.zone().vm_stat[NR_FREE_CMA_PAGES].counter + b.pcp().vm_stat_diff[NR_FREE_CMA_PAGES])


def test_end_of_the_highest_zone_is_cma() -> None:
    with with_cma() as b:
        assert b.free_list(10, MIGRATE_CMA) == [CMA_START, CMA_START + 1024]
        assert free_cma(b) == 2048


@pytest.mark.parametrize("order", [0, 3])
def test_movable_requests_leave_cma_alone_while_it_is_the_smaller_half(order: int) -> None:
    with with_cma() as b:
        assert not is_cma(b.alloc(order, GFP_HIGHUSER_MOVABLE))


@pytest.mark.parametrize("order", [0, 3])
def test_movable_requests_use_cma_first_while_it_is_the_larger_half(order: int) -> None:
    with with_cma(6144) as b:
        assert b.alloc(order, GFP_HIGHUSER_MOVABLE) >= 1024 + 2048
        assert not b.alloc(order, GFP_KERNEL) >= 1024 + 2048


def test_balance_is_kept_as_memory_goes() -> None:
    with with_cma(4096) as b:
        zone = b.zone()
        for _ in range(300):
            half = zone.vm_stat[NR_FREE_PAGES].counter // 2
            cma_first = zone.vm_stat[NR_FREE_CMA_PAGES].counter > half
            assert (b.alloc(4, GFP_HIGHUSER_MOVABLE) >= 1024 + 4096) == cma_first


def test_movable_request_takes_cma_when_its_own_list_is_empty() -> None:
    with with_cma() as b:
        for pfn in b.take_all(order=10):
            b.free(pfn, 10)  # the blocks are unmovable now
        assert not b.free_list(10, MIGRATE_MOVABLE)
        assert is_cma(b.alloc(3, GFP_HIGHUSER_MOVABLE))


def test_unmovable_request_never_gets_a_cma_page() -> None:
    with with_cma() as b:
        taken = b.take_all(order=9)
        assert not any(is_cma(pfn) for pfn in taken)
        assert b.free_list(10, MIGRATE_CMA) == [CMA_START, CMA_START + 1024]
        assert b.nr_free() == 2048 == free_cma(b)


def test_task_that_must_not_use_cma_bypasses_the_pcp_list() -> None:
    with with_cma(6144) as b:
        b.alloc(0, GFP_HIGHUSER_MOVABLE)
        listed = b.pcp().count
        b.task().process_flags = PF_MEMALLOC_NOCMA
        assert b.alloc(0, GFP_HIGHUSER_MOVABLE) < 1024 + 2048
        assert b.pcp().count == listed


def test_cma_pages_travel_on_the_movable_pcp_list_and_go_home() -> None:
    with with_cma(6144) as b:
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        b.free(pfn)
        assert b.pcp_list(MIGRATE_MOVABLE)[0] == pfn
        assert b.page(pfn).index == MIGRATE_CMA
        b.drain()
        assert free_cma(b) == 6144
        assert not any(b.free_list(order, MIGRATE_UNMOVABLE) for order in range(11))


def test_pages_of_cma_count_only_for_those_who_may_have_them() -> None:
    with with_cma() as b:
        free = b.nr_free()
        assert core.zone_watermark_ok(b.m, b.zone(), 0, free - 2048, 3, ALLOC_CMA)
        assert not core.zone_watermark_ok(b.m, b.zone(), 0, free - 2048, 3, 0)
