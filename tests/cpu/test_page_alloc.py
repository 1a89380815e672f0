"""The fast path: orders, masks, dirty spreading, NOFRAGMENT, warnings once."""

import pytest

from emu.zone.event import EV_WARN, KINDS, WARNINGS
from emu.zone.gfp import (
    __GFP_KSWAPD_RECLAIM,
    __GFP_NOFAIL,
    __GFP_NOWARN,
    __GFP_THISNODE,
    __GFP_WRITE,
    ALLOC_KSWAPD,
    ALLOC_NOFRAGMENT,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_USER,
)  # fmt: skip
from emu.zone.vmstat_items import NR_ACTIVE_FILE, NR_FILE_DIRTY, NR_FREE_PAGES, NR_INACTIVE_FILE, NR_WRITEBACK
from shm.struct import address_of
from tests import naive
from tests.bench import RESERVES, Bench, bench, core, one_zone, scaled, two_nodes, two_zones


def warnings(b: Bench) -> list[str]:
    return [WARNINGS[e["a"]] for e in b.events() if e["kind"] == EV_WARN]


@pytest.mark.parametrize("order", range(11))
def test_block_is_aligned_and_referenced_once(order: int) -> None:
    with bench() as b:
        pfn = b.alloc(order)
        assert pfn % (1 << order) == 0
        assert b.page(pfn).refcount == 1
        b.free(pfn, order)
        b.drain()
        assert b.nr_free() == 8192


@pytest.mark.parametrize("order", [11, 12, 30, 64])
def test_order_that_cannot_be_is_warned_of_exactly_once(order: int) -> None:
    with bench() as b:
        assert b.alloc(order, GFP_KERNEL | __GFP_NOWARN) == -1
        assert warnings(b) == []
        assert [b.alloc(order) for _ in range(3)] == [-1, -1, -1]
        assert warnings(b) == ["__alloc_pages_nodemask: order >= MAX_ORDER"]


def test_nofail_beyond_order_1_is_warned_of_once() -> None:
    with bench() as b:
        b.alloc(1, GFP_KERNEL | __GFP_NOFAIL)
        assert warnings(b) == []
        b.alloc(2, GFP_KERNEL | __GFP_NOFAIL)
        b.alloc(3, GFP_KERNEL | __GFP_NOFAIL)
        assert warnings(b) == ["rmqueue: __GFP_NOFAIL with order > 1"]


def test_allowed_mask_takes_bits_away() -> None:
    with bench() as b:
        b.cpu().trace = 1
        b.m.gfp_allowed_mask = ~0xC0
        b.alloc()
        (event,) = (e for e in b.events() if KINDS[e["kind"]] == "mm_page_alloc")
        assert event["gfp"] == GFP_KERNEL & ~0xC0


def test_trace_event_says_what_was_asked_and_got() -> None:
    with bench() as b:
        b.cpu().trace = 1
        pfn = b.alloc(2, GFP_HIGHUSER_MOVABLE)
        event = b.events()[-1]
        assert (KINDS[event["kind"]], event["pfn"], event["order"], event["migratetype"], event["gfp"]) == (
            "mm_page_alloc", pfn, 2, 1, GFP_HIGHUSER_MOVABLE,
        )  # fmt: skip


@pytest.mark.parametrize(("machine", "at", "gfp", "flags"), [
    (two_zones(), 1, GFP_KERNEL, ALLOC_KSWAPD | ALLOC_NOFRAGMENT),
    (two_zones(), 1, GFP_KERNEL & ~__GFP_KSWAPD_RECLAIM, ALLOC_NOFRAGMENT),
    (two_zones(), 0, GFP_KERNEL, ALLOC_KSWAPD),
    (one_zone(), 0, GFP_KERNEL, ALLOC_KSWAPD | ALLOC_NOFRAGMENT),
    (two_nodes(), 1, GFP_KERNEL, ALLOC_KSWAPD | ALLOC_NOFRAGMENT),
    (two_nodes(), 2, GFP_KERNEL, ALLOC_KSWAPD),
])  # fmt: skip
def test_nofragment_is_for_normal_zones_with_dma32_at_home(machine: object, at: int, gfp: int, flags: int) -> None:
    with bench(machine) as b:
        zone = b.zone(at)
        assert core.alloc_flags_nofragment(b.m, address_of(zone) - b.base, gfp) == flags
        assert core.alloc_flags_nofragment(b.m, 0, gfp) == gfp & ALLOC_KSWAPD


def test_fragmenting_at_home_comes_before_a_remote_node() -> None:
    with bench(two_nodes(), min_free_kbytes=256, lowmem_reserve_ratio=(0, 0, 0, 0)) as b:
        held = []
        while (pfn := b.alloc(8, GFP_HIGHUSER_MOVABLE | RESERVES | __GFP_THISNODE, nid=0)) >= 0:
            held.append(pfn)
        for pfn in held:
            if pfn & 256:
                b.free(pfn, 8)
        low, home, remote = b.zone(0), b.zone(1), b.zone(2)
        assert low.free_area[8].nr_free == home.free_area[8].nr_free == 16
        b.cpu().trace = 1
        assert home.zone_start_pfn <= b.alloc(1, GFP_KERNEL) < remote.zone_start_pfn
        assert "mm_page_alloc_extfrag" in b.kinds()


def dirty(b: Bench, nid: int, pages: int, item: int = NR_FILE_DIRTY) -> None:
    b.m.nodes[nid].vm_stat[item].counter = pages


def limit(b: Bench, nid: int, rt: bool = False) -> int:
    node = b.m.nodes[nid]
    free = sum(z.vm_stat[NR_FREE_PAGES].counter for z in node.node_zones if z.present_pages)
    file = node.vm_stat[NR_INACTIVE_FILE].counter + node.vm_stat[NR_ACTIVE_FILE].counter
    return naive.dirty_limit(free, node.totalreserve_pages, file, b.m.vm_dirty_ratio, rt)


@pytest.mark.parametrize("rt", [False, True])
@pytest.mark.parametrize("cache", [0, 3000])
@pytest.mark.parametrize("item", [NR_FILE_DIRTY, NR_WRITEBACK])
def test_writes_are_spread_beyond_a_nodes_dirty_limit(rt: bool, cache: int, item: int) -> None:
    with bench(two_nodes()) as b:
        b.strict = False  # counters of nothing
        b.task().rt = int(rt)
        dirty(b, 0, cache, NR_INACTIVE_FILE)
        remote = b.zone(2).zone_start_pfn
        for over, far in ((0, False), (1, True)):
            dirty(b, 0, limit(b, 0, rt) + over, item)
            pfn = b.alloc(1, GFP_USER | __GFP_WRITE)
            assert (pfn >= remote) == far
            b.free(pfn, 1)
        assert b.alloc(1, GFP_USER) < remote


def test_all_nodes_dirty_is_no_reason_to_fail() -> None:
    with bench(two_nodes()) as b:
        b.strict = False  # counters of nothing
        for nid in (0, 1):
            dirty(b, nid, 1 << 20)
        assert b.alloc(1, GFP_USER | __GFP_WRITE) >= 0


def test_request_below_the_low_mark_wakes_kswapd_through_the_slow_path_only() -> None:
    with bench() as b:
        b.m.nodes[0].kswapd_wait.state = 1
        b.cpu().trace = 1
        for _ in range(scaled(500)):
            b.alloc()
        assert "mm_vmscan_wakeup_kswapd" not in b.kinds()


def test_allocations_of_random_orders_never_overlap() -> None:
    with bench(two_nodes()) as b:
        b.churn(99, scaled(4000), 200, (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC))
        held = b.churned()
        assert len(naive.pages_of(held)) == sum(1 << order for _, order in held)
        free = {p for z in range(3) for block in [b.free_blocks(b.zone(z))] for p in naive.pages_of(block)}
        assert not free & naive.pages_of(held)
