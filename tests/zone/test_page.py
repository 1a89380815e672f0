"""pfn, struct page, compound pages; a page's way out and in, with the debugging that can be switched on."""

import pytest

from emu.zone.bad_page import BAD_REASONS
from emu.zone.event import EV_BAD_PAGE, EV_POISON
from emu.zone.gfp import __GFP_COMP, __GFP_ZERO, GFP_ATOMIC, GFP_KERNEL, PF_MEMALLOC
from emu.zone.mmzone import PD_CHECK, PD_INIT_ON_ALLOC, PD_INIT_ON_FREE, PD_OWNER, PD_POISON
from emu.zone.page import (
    PAGE_FLAG_NAMES,
    PAGE_FLAGS_CHECK_AT_FREE,
    PAGE_FLAGS_CHECK_AT_PREP,
    PAGE_TYPES,
    TAIL_MAPPING,
    PageTail,
    PG_buddy,
    PG_dirty,
    PG_head,
    PG_hwpoison,
    PG_lru,
    clear_flag,
    link_to_pfn,
    page_to_pfn,
    set_flag,
)  # fmt: skip
from shm.struct import address_of
from tests.bench import Bench, bench, core, two_nodes

DIRT = 0x5A


def reasons(b: Bench) -> list[str]:
    """Why pages were reported."""
    return [BAD_REASONS[e["a"]] for e in b.events() if e["kind"] == EV_BAD_PAGE]


def test_flags_are_distinct_and_checked_ones_are_as_in_the_kernel() -> None:
    assert len(set(PAGE_FLAG_NAMES.values())) == len(PAGE_FLAG_NAMES)
    named = {name for name, bit in PAGE_FLAG_NAMES.items() if bit & PAGE_FLAGS_CHECK_AT_FREE}
    assert named == {"lru", "locked", "private", "writeback", "reserved", "slab", "active", "unevictable", "mlocked"}
    assert PAGE_FLAGS_CHECK_AT_PREP & (PG_hwpoison | PAGE_TYPES) == 0


def test_page_and_pfn_and_zone_name_each_other() -> None:
    with bench(two_nodes()) as b:
        for zone in (b.zone(0), b.zone(1), b.zone(2)):
            pfn = zone.zone_start_pfn
            page = b.page(pfn)
            assert page_to_pfn(b.m, page) == pfn
            assert link_to_pfn(b.m, b.m.mem_map_link + (pfn << 3)) == pfn
            assert b.base + core.page_zone(b.m, page) == address_of(zone)


@pytest.mark.parametrize("order", [1, 2, 5, 9, 10])
def test_compound_page_has_a_head_and_tails(order: int) -> None:
    with bench() as b:
        pfn = b.alloc(order, GFP_KERNEL | __GFP_COMP)
        assert b.page(pfn).page_flags & PG_head
        assert b.page(pfn).refcount == 1
        assert core.compound_order(b.m, pfn) == order
        for at in range(pfn + 1, pfn + (1 << order)):
            tail = b.page(at)
            assert PageTail(tail)
            assert (tail.refcount, tail.mapping, link_to_pfn(b.m, tail.lru.next - 1)) == (0, TAIL_MAPPING, pfn)
        b.free(pfn, order)
        assert not b.page(pfn).page_flags & PG_head
        assert all(b.page(at).mapping == 0 for at in range(pfn, pfn + (1 << order)))
        assert core.compound_order(b.m, pfn) == 0


def test_block_without_comp_is_no_compound_page() -> None:
    with bench() as b:
        pfn = b.alloc(3)
        assert [b.page(pfn + i).refcount for i in range(8)] == [1] + [0] * 7
        assert not any(PageTail(b.page(pfn + i)) for i in range(8))
        assert core.compound_order(b.m, pfn) == 0
        b.free(pfn, 3)


def test_page_from_the_reserves_is_marked_pfmemalloc() -> None:
    with bench() as b:
        assert b.page(b.alloc()).index == 0
        b.take_all(order=3, leave=b.zone().watermark[0] // 2)
        b.task().process_flags = PF_MEMALLOC
        assert b.page(b.alloc()).index == -1


def test_owner_is_remembered_and_forgotten() -> None:
    with bench(two_nodes(), page_debug=PD_OWNER) as b:
        pfn = b.alloc(2, GFP_ATOMIC, cpu=1)
        for at in range(pfn, pfn + 4):
            ext = b.ext(at)
            assert (ext.order, ext.gfp, ext.owner_cpu) == (2, GFP_ATOMIC, 2)
            assert ext.ts > 0
        b.free(pfn, 2, cpu=1)
        assert b.ext(pfn).order == -1


@pytest.mark.parametrize(("debug", "gfp", "content"), [
    (PD_OWNER, GFP_KERNEL, DIRT),
    (PD_OWNER, GFP_KERNEL | __GFP_ZERO, 0),
    (PD_INIT_ON_ALLOC, GFP_KERNEL, 0),
    (PD_INIT_ON_FREE, GFP_KERNEL, 0),
    (PD_INIT_ON_FREE, GFP_KERNEL | __GFP_ZERO, 0),
    (PD_POISON, GFP_KERNEL, 0xAA),
    (PD_POISON, GFP_KERNEL | __GFP_ZERO, 0),
    (PD_POISON | PD_INIT_ON_ALLOC, GFP_KERNEL, 0xAA),  # poisoning switches the other two off
    (PD_POISON | PD_INIT_ON_FREE, GFP_KERNEL | __GFP_ZERO, 0),
])  # fmt: skip
def test_content_of_a_page_that_was_used_before(debug: int, gfp: int, content: int) -> None:
    with bench(page_debug=debug) as b:
        pfn = b.alloc()
        b.ext(pfn).content = DIRT
        b.free(pfn)
        assert b.alloc(gfp=gfp) == pfn
        assert b.ext(pfn).content == content


def test_poison_that_was_written_over_is_reported() -> None:
    with bench(page_debug=PD_POISON) as b:
        pfn = b.alloc(1)
        b.free(pfn, 1)
        b.ext(pfn + 1).content = DIRT
        assert b.alloc(1) == pfn
        (found,) = (e for e in b.events() if e["kind"] == EV_POISON)
        assert (found["pfn"], found["a"]) == (pfn + 1, DIRT)


def test_page_that_was_never_used_has_no_poison_to_check() -> None:
    with bench(page_debug=PD_POISON) as b:
        b.alloc(3)
        assert len(b.events()) == 0


def test_flags_of_the_last_user_are_cleared_on_free() -> None:
    with bench() as b:
        pfn = b.alloc()
        set_flag(b.page(pfn), PG_dirty)
        b.free(pfn)
        assert not b.page(pfn).page_flags & PG_dirty


@pytest.mark.parametrize(("field", "value", "reason"), [
    ("mapcount", 3, "nonzero mapcount"),
    ("mapping", 0x100, "non-NULL mapping"),
    ("refcount", 1, "nonzero _refcount"),
    ("page_flags", 2 | PG_lru, "PAGE_FLAGS_CHECK_AT_PREP flag(s) set"),
])  # fmt: skip
def test_bad_page_is_skipped_when_the_pcp_list_is_filled(field: str, value: int, reason: str) -> None:
    with bench() as b:
        pfn = b.alloc()
        b.free(pfn)
        b.drain()
        bad = next(p for order in range(11) for p in b.free_list(order, 0))
        before = b.nr_free()
        setattr(b.page(bad), field, value | (PG_buddy if field == "page_flags" else 0))
        got = [b.alloc() for _ in range(8)]
        assert bad not in got
        assert reasons(b) == [reason]
        assert b.page(bad).mapcount == -1
        assert before - b.nr_free() == len(got) + b.pcp().count + 1
        b.strict = False  # the page is lost, as in the kernel


def test_bad_block_of_high_order_is_skipped_as_a_whole() -> None:
    with bench() as b:
        first = b.alloc(4)
        b.free(first, 4)
        b.page(first + 5).refcount = 2
        assert b.alloc(4) != first
        assert reasons(b) == ["nonzero _refcount"]
        b.strict = False  # 5.10 loses the block and keeps counting it as free


def test_last_reason_wins() -> None:
    with bench() as b:
        pfn = b.alloc(1)
        b.page(pfn).mapcount, b.page(pfn).mapping = 4, 0x200
        set_flag(b.page(pfn), PG_lru)
        b.free(pfn, 1)
        assert reasons(b) == ["PAGE_FLAGS_CHECK_AT_FREE flag(s) set"]
        b.strict = False


def test_hwpoisoned_page_is_dropped_without_a_word() -> None:
    with bench() as b:
        pfn, freed = b.alloc(), b.nr_free() + b.pcp().count
        set_flag(b.page(pfn), PG_hwpoison)
        b.free(pfn)
        assert b.nr_free() + b.pcp().count == freed
        free = b.free_list(10, 1)[0]
        set_flag(b.page(free), PG_hwpoison)
        b.take_all(order=10)
        assert len(b.events()) == 0
        b.strict = False


def test_order_0_is_checked_on_its_way_to_the_buddy_lists_only() -> None:
    for debug, now in ((0, []), (PD_CHECK, ["nonzero mapcount"])):
        with bench(page_debug=debug) as b:
            pfn = b.alloc()
            b.page(pfn).mapcount = 0
            b.free(pfn)
            assert reasons(b) == now
            b.drain()
            assert reasons(b) == ([] if now else ["nonzero mapcount"])
            b.strict = False


def test_flag_helpers_touch_their_flag_only() -> None:
    with bench() as b:
        page = b.page(b.alloc())
        before = page.page_flags
        set_flag(page, PG_dirty)
        assert page.page_flags == before | PG_dirty
        clear_flag(page, PG_dirty)
        assert page.page_flags == before
