"""Freeing: references, order, batches, and pages that come back wrong."""

import pytest

from emu.cpu.irq import IRQ_NET, IRQ_TIMER
from emu.zone.bad_page import BAD_REASONS
from emu.zone.event import EV_BAD_PAGE
from emu.zone.gfp import __GFP_ACCOUNT, __GFP_COMP, GFP_KERNEL
from emu.zone.page import PG_kmemcg
from emu.zone.vmstat_items import PGFREE
from shm.core import CHECKED
from tests.bench import Bench, bench, core, one_zone

BIG = one_zone(65536)


def reasons(b: Bench) -> list[str]:
    return [BAD_REASONS[e["a"]] for e in b.events() if e["kind"] == EV_BAD_PAGE]


@pytest.mark.parametrize("order", range(1, 11))
def test_high_orders_go_straight_to_the_buddy_lists(order: int) -> None:
    with bench(BIG) as b:
        pfn = b.alloc(order)
        b.free(pfn, order)
        assert b.nr_free() == 65536
        assert b.pcp().count == 0


def test_page_with_another_reference_is_not_freed() -> None:
    with bench(BIG) as b:
        pfn = b.alloc()
        b.page(pfn).refcount = 2
        b.free(pfn)
        assert b.page(pfn).refcount == 1
        assert pfn not in b.pcp_list(0)
        b.free(pfn)
        assert b.pcp_list(0)[0] == pfn


def test_rest_of_a_block_is_freed_in_pieces_while_its_first_page_is_held() -> None:
    with bench(BIG) as b:
        pfn = b.alloc(3)
        b.page(pfn).refcount = 2
        b.free(pfn, 3)
        assert b.page(pfn).refcount == 1
        assert {p for p, _ in b.free_blocks()} >= {pfn + 4, pfn + 2}
        assert pfn + 1 in b.pcp_list(0)
        b.free(pfn)
        b.drain()
        assert b.nr_free() == 65536


def test_compound_page_stays_whole_while_it_is_held() -> None:
    with bench(BIG) as b:
        pfn = b.alloc(3, GFP_KERNEL | __GFP_COMP)
        b.page(pfn).refcount = 2
        b.free(pfn, 3)
        assert b.nr_free() == 65536 - 8
        b.free(pfn, 3)


def test_double_free_is_found_on_the_way_to_the_buddy_lists() -> None:
    with bench(BIG) as b:
        pfn = b.alloc()
        b.free(pfn)
        b.free(pfn)
        assert b.page(pfn).refcount == -1
        at_once = ["VM_BUG_ON_PAGE(page_ref_count(page) == 0)"] if CHECKED else []
        assert reasons(b) == at_once
        b.drain()
        assert reasons(b) == ["nonzero _refcount"]
        b.strict = False  # the page is lost


def test_double_free_of_a_page_that_is_free_already_is_found_when_it_is_taken() -> None:
    with bench(BIG) as b:
        pfn = b.alloc()
        b.free(pfn)
        b.drain()
        b.free(pfn)
        b.events()
        assert pfn not in [b.alloc() for _ in range(100)]
        assert reasons(b) == ["nonzero _refcount"]
        b.strict = False


def test_block_with_a_bad_page_is_not_freed_at_all() -> None:
    with bench(BIG) as b:
        pfn = b.alloc(2)
        b.page(pfn + 2).refcount = 1
        before = b.nr_free()
        b.free(pfn, 2)
        assert b.nr_free() == before
        assert reasons(b) == ["nonzero _refcount"]
        assert b.cpu().vm_events[PGFREE] == 0
        b.strict = False


def test_list_of_pages_is_freed_in_one_go_last_page_on_top() -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(20)]
        b.cpu().trace = 1
        b.free_list_of(pages)
        assert b.pcp_list(0)[:20] == pages[::-1]
        assert b.kinds() == ["mm_page_free"] * 20 + ["mm_page_free_batched"] * 20


def test_bad_page_of_a_list_is_dropped_at_the_drain() -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(5)]
        b.page(pages[2]).mapcount = 0
        b.free_list_of(pages)
        b.drain()
        assert reasons(b) == ["nonzero mapcount"]
        b.strict = False


@pytest.mark.parametrize(("count", "inside"), [(31, False), (32, True), (33, True), (80, True)])
def test_long_list_lets_pending_interrupts_in_after_32_pages(count: int, inside: bool) -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(count)]
        b.drain()
        b.cpu().irq_pending = IRQ_NET  # its pages come from the very list that is being filled
        b.free_list_of(pages)
        assert b.cpu().irq_entries == 1
        ring = [slot - 1 for slot in b.cpu().rx_ring if slot]
        assert len(ring) == 8
        last = 32 if inside else count
        assert ring == pages[last - 8 : last][::-1]


def test_interrupts_that_are_off_stay_off() -> None:
    with bench(BIG) as b:
        pages = [b.alloc() for _ in range(40)]
        b.cpu().party.irqs_off, b.cpu().irq_pending = 1, IRQ_TIMER
        b.free_list_of(pages)
        assert b.cpu().irq_entries == 0
        b.cpu().party.irqs_off = b.cpu().irq_pending = 0


@pytest.mark.parametrize("order", [0, 3])
def test_charge_is_given_back(order: int) -> None:
    with bench(BIG) as b:
        b.task().memcg = 1
        pfn = b.alloc(order, GFP_KERNEL | __GFP_ACCOUNT)
        assert b.m.memcgs[0].kmem == 1 << order
        assert b.page(pfn).page_flags & PG_kmemcg
        b.free(pfn, order)
        assert b.m.memcgs[0].kmem == 0


def test_page_of_another_cpu_comes_to_this_cpus_list() -> None:
    with bench(one_zone(65536, 2)) as b:
        pfn = b.alloc(cpu=0)
        b.free(pfn, cpu=1)
        assert b.pcp_list(0, cpu=1) == [pfn]
        core.drain_local_pages(b.m, b.cpu(1), 0)
        assert b.pcp(cpu=1).count == 0
