"""After the first failure: how far below the watermarks a request may go, and what it does on its way."""

import pytest

from emu.zone.event import EV_ALLOC_FAILURE, EV_WARN, WARNINGS
from emu.zone.gfp import (
    __GFP_ATOMIC,
    __GFP_HIGH,
    __GFP_MEMALLOC,
    __GFP_NOFAIL,
    __GFP_NOMEMALLOC,
    __GFP_NOWARN,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    ALLOC_HIGH,
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    ALLOC_OOM,
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOWAIT,
    PF_KTHREAD,
    PF_MEMALLOC,
)  # fmt: skip
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests.bench import Bench, bench, core, one_zone, two_nodes

QUIET = __GFP_NOWARN
PFMEMALLOC_FLAGS = getattr(core, "__gfp_pfmemalloc_flags")


def warnings(b: Bench) -> list[str]:
    return [WARNINGS[e["a"]] for e in b.events() if e["kind"] == EV_WARN]


def depth(b: Bench, gfp: int) -> int:
    """How many pages are free when order-1 requests of a kind begin to fail."""
    with b.kernel_thread():
        while b.alloc(1, gfp | QUIET) >= 0:
            pass
    return int(b.zone().vm_stat[NR_FREE_PAGES].counter)


def expected(mark: int, reserve: int = 0) -> range:
    """Order-1 requests stop at the mark; the counter may lag by the threshold."""
    return range(mark + reserve - 1, mark + reserve + 5)


@pytest.mark.parametrize(("gfp", "task", "share"), [
    (GFP_KERNEL, {}, (1, 1)),
    (GFP_NOWAIT, {}, (1, 1)),
    (GFP_KERNEL, {"rt": 1}, (3, 4)),
    (GFP_KERNEL | __GFP_HIGH, {}, (1, 2)),
    (GFP_ATOMIC, {}, (3, 8)),
    (GFP_ATOMIC | __GFP_NOMEMALLOC, {}, (1, 2)),
    (GFP_KERNEL, {"oom_victim": 1}, (1, 2)),
    (GFP_KERNEL | __GFP_NOMEMALLOC, {"oom_victim": 1}, (1, 1)),
    (GFP_KERNEL | __GFP_MEMALLOC, {}, (0, 1)),
    (GFP_KERNEL, {"process_flags": PF_MEMALLOC}, (0, 1)),
    (GFP_KERNEL | __GFP_NOMEMALLOC, {"process_flags": PF_MEMALLOC}, (1, 1)),
], ids=str)  # fmt: skip
def test_share_of_the_min_mark_that_may_be_used(gfp: int, task: dict[str, int], share: tuple[int, int]) -> None:
    with bench(one_zone(8192), min_free_kbytes=2048, watermark_boost_factor=0) as b:
        for name, value in task.items():
            setattr(b.task(), name, value)
        least = b.zone().watermark[0] * share[0] // share[1]
        found = depth(b, gfp)
        assert found in expected(least) or (least == 0 and found < 2)


def test_fast_path_stops_at_low_and_the_slow_path_at_min() -> None:
    with bench(one_zone(8192), min_free_kbytes=2048) as b:
        node, zone = b.m.nodes[0], b.zone()
        node.kswapd_order = 0
        while node.kswapd_highest_zoneidx == 4:
            free = zone.vm_stat[NR_FREE_PAGES].counter
            assert b.alloc(1) >= 0
        assert free in range(zone.watermark[1], zone.watermark[1] + 6)


@pytest.mark.parametrize(("gfp", "rt", "irq", "flags"), [
    (GFP_KERNEL, 0, 0, ALLOC_CPUSET | ALLOC_KSWAPD),
    (GFP_KERNEL, 1, 0, ALLOC_CPUSET | ALLOC_KSWAPD | ALLOC_HARDER),
    (GFP_KERNEL, 1, 1, ALLOC_CPUSET | ALLOC_KSWAPD),
    (GFP_ATOMIC, 0, 0, ALLOC_HIGH | ALLOC_HARDER | ALLOC_KSWAPD),
    (GFP_ATOMIC | __GFP_NOMEMALLOC, 0, 0, ALLOC_HIGH | ALLOC_KSWAPD),
    (__GFP_ATOMIC, 1, 0, ALLOC_HARDER),
    (0, 0, 0, ALLOC_CPUSET),
])  # fmt: skip
def test_alloc_flags_of_a_request(gfp: int, rt: int, irq: int, flags: int) -> None:
    with bench() as b:
        b.task().rt, b.cpu().irq_nesting = rt, irq
        assert core.gfp_to_alloc_flags(b.m, b.cpu(), gfp) == flags
        b.cpu().irq_nesting = 0


@pytest.mark.parametrize(("gfp", "task", "softirq", "irq", "flags"), [
    (GFP_KERNEL, {}, 0, 0, 0),
    (GFP_KERNEL | __GFP_MEMALLOC, {}, 0, 1, ALLOC_NO_WATERMARKS),
    (GFP_KERNEL | __GFP_MEMALLOC | __GFP_NOMEMALLOC, {}, 0, 0, 0),
    (GFP_KERNEL, {"process_flags": PF_MEMALLOC}, 0, 0, ALLOC_NO_WATERMARKS),
    (GFP_ATOMIC, {"process_flags": PF_MEMALLOC}, 0, 1, 0),
    (GFP_ATOMIC, {"process_flags": PF_MEMALLOC}, 1, 0, ALLOC_NO_WATERMARKS),
    (GFP_KERNEL, {"oom_victim": 1}, 0, 0, ALLOC_OOM),
    (GFP_KERNEL, {"oom_victim": 1, "process_flags": PF_MEMALLOC}, 0, 0, ALLOC_NO_WATERMARKS),
    (GFP_ATOMIC, {"oom_victim": 1}, 0, 1, 0),
], ids=str)  # fmt: skip
def test_who_may_use_the_reserves(gfp: int, task: dict[str, int], softirq: int, irq: int, flags: int) -> None:
    with bench() as b:
        for name, value in task.items():
            setattr(b.task(), name, value)
        b.cpu().softirq, b.cpu().irq_nesting = softirq, irq
        assert PFMEMALLOC_FLAGS(b.m, b.cpu(), gfp) == flags
        b.cpu().softirq = b.cpu().irq_nesting = 0


def exhausted(b: Bench) -> None:
    """Nothing is left, and the task isn't one that waits for kswapd."""
    b.task().process_flags |= PF_KTHREAD
    b.take_all(order=4)
    b.take_all()
    b.events()


def test_failure_is_reported_unless_nowarn() -> None:
    with bench() as b:
        exhausted(b)
        assert b.alloc(gfp=GFP_KERNEL) == -1
        assert [e["kind"] for e in b.events()] == [EV_ALLOC_FAILURE]
        assert b.alloc(gfp=GFP_KERNEL | QUIET) == -1
        assert len(b.events()) == 0


def test_atomic_with_direct_reclaim_is_warned_of_and_not_atomic() -> None:
    with bench(one_zone(8192), min_free_kbytes=2048, watermark_boost_factor=0) as b:
        found = depth(b, GFP_KERNEL | __GFP_ATOMIC)
        assert found in expected(b.zone().watermark[0])
        assert warnings(b) == ["__alloc_pages_slowpath: __GFP_ATOMIC with __GFP_DIRECT_RECLAIM"]


def test_nofail_that_may_not_wait_is_warned_of_and_fails() -> None:
    with bench() as b:
        exhausted(b)
        for _ in range(2):
            assert b.alloc(gfp=GFP_NOWAIT | __GFP_NOFAIL | QUIET) == -1
        assert warnings(b) == ["__alloc_pages_slowpath: __GFP_NOFAIL without __GFP_DIRECT_RECLAIM"]


def test_nofail_reaches_below_min_and_then_goes_on_until_the_machine_stops() -> None:
    with bench(one_zone(8192), min_free_kbytes=2048, watermark_boost_factor=0) as b:
        depth(b, GFP_KERNEL)
        assert b.alloc(1, GFP_KERNEL | __GFP_NOFAIL) >= 0
        exhausted(b)
        b.m.stop = 1
        while b.alloc(4, GFP_KERNEL | __GFP_NOFAIL | QUIET) >= 0:
            pass  # from the block that the first one reserved
        assert "__alloc_pages_slowpath: __GFP_NOFAIL with order > PAGE_ALLOC_COSTLY_ORDER" in warnings(b)
        b.m.stop = 0


def sleeping(b: Bench) -> None:
    for nid in range(b.m.nr_nodes):
        b.m.nodes[nid].kswapd_wait.state = 1


def test_wake_leaves_the_largest_order_and_zone_and_wakes_once() -> None:
    with bench(two_nodes()) as b:
        while b.alloc(3, GFP_KERNEL & ~0xC00 | QUIET) >= 0:
            pass
        sleeping(b)
        b.cpu().trace = 1
        for order in (1, 3, 2):
            b.alloc(order, GFP_NOWAIT | QUIET)
        for nid in (0, 1):
            node = b.m.nodes[nid]
            assert (node.kswapd_order, node.kswapd_highest_zoneidx) == (3, 2)
            assert node.kswapd_wait.state & 0xFFFFFFFF == 0
        assert b.kinds().count("mm_vmscan_wakeup_kswapd") == 2


def wake(b: Bench, order: int = 0, gfp: int = GFP_KERNEL) -> bool:
    sleeping(b)
    core.wakeup_kswapd(b.m, b.cpu(), b.zone(), gfp, order, 2)
    return bool(b.m.nodes[0].kswapd_wait.state & 0xFFFFFFFF == 0)


def test_balanced_node_is_not_woken_unless_boosted() -> None:
    with bench() as b:
        assert not wake(b)
        b.zone().watermark_boost = 100
        assert wake(b)
        b.zone().watermark_boost = 0


def test_hopeless_node_is_left_to_direct_reclaim() -> None:
    with bench() as b:
        exhausted(b)
        assert wake(b)
        b.m.nodes[0].kswapd_failures = 16
        assert not wake(b)


@pytest.mark.parametrize(("gfp", "order", "noted"), [(GFP_ATOMIC, 5, 5), (GFP_ATOMIC, 0, 0), (GFP_KERNEL, 5, 0)])
def test_kcompactd_is_told_by_those_who_cannot_compact(gfp: int, order: int, noted: int) -> None:
    with bench() as b:
        wake(b, order, gfp)
        assert b.m.nodes[0].kcompactd_max_order == noted
