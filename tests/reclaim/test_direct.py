"""Allocations that reclaim for themselves."""

import pytest

from emu.zone.event import EV_DIRECT_RECLAIM_BEGIN, EV_DIRECT_RECLAIM_END, EV_LRU_ISOLATE
from emu.zone.gfp import (
    __GFP_NORETRY,
    __GFP_NOWARN,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOFS,
    GFP_NOWAIT,
    PF_KTHREAD,
    PF_MEMALLOC,
)  # fmt: skip
from emu.zone.vmstat_items import ALLOCSTALL, NR_FREE_PAGES, NR_ZONE_WRITE_PENDING, PGSCAN_DIRECT_THROTTLE
from tests.reclaim.entries import alloc, allowed, free_page, reclaim_cgroup, reclaim_directly, retry, throttle
from tests.reclaim.lists import ACTIVE_FILE, INACTIVE_ANON, INACTIVE_FILE, Lists, dirty

QUEUED = 0xFFFFFFFF


def direct(lists: Lists, gfp: int = GFP_KERNEL, order: int = 0) -> int:
    return int(reclaim_directly(lists.m, lists.b.cpu(), 0, gfp, order))


def isolations(lists: Lists) -> list[tuple[int, int]]:
    """(asked for, list) of every batch."""
    events = lists.b.events()
    of = events[events["kind"] == EV_LRU_ISOLATE]
    return [(int(e["a"]) & 0xFFFFF, int(e["b"]) >> 32) for e in of]


@pytest.mark.slow
def test_the_part_of_the_lists_doubles_with_every_priority(lists: Lists) -> None:
    """As recorded of 5.10: 23 pages at priority 7 after 11, 5, 2 and 1 of some 3000."""
    lists.fill_file(lists.file(4000), 3000)
    lists.b.cpu().trace = 1
    assert direct(lists) == 42
    assert isolations(lists) == [(1, 2), (2, 2), (5, 2), (11, 2), (23, 2)]
    assert lists.count(ALLOCSTALL + 2) == 1
    assert not lists.b.task().process_flags & PF_MEMALLOC


def test_events_of_a_direct_reclaim(lists: Lists) -> None:
    lists.fill_file(lists.file(100), 64)
    lists.b.cpu().trace = 1
    got = direct(lists, GFP_NOFS, 1)
    events = lists.b.events()
    first, last = events[0], events[-1]
    assert (first["kind"], first["gfp"], first["order"]) == (EV_DIRECT_RECLAIM_BEGIN, GFP_NOFS, 1)
    assert (last["kind"], last["a"]) == (EV_DIRECT_RECLAIM_END, got)


def test_nothing_reclaimable_is_no_progress(lists: Lists) -> None:
    lists.space()
    lists.fill_anon(100)
    assert direct(lists) == 0
    assert lists.sizes()[INACTIVE_ANON] == 100 and lists.count(ALLOCSTALL + 2) == 1


def test_spared_active_pages_get_a_second_attempt(lists: Lists) -> None:
    """Half the active list is short enough to be spared; but there is nothing else, so it is shrunk by force."""
    p = lists.fill_file(lists.file(200), 100)
    for pfn in p:
        dirty(lists.m, lists.b.cpu(), pfn)
    direct(lists)
    active = len(lists.on(ACTIVE_FILE))
    assert active > 0
    before = lists.count(ALLOCSTALL + 2)
    assert direct(lists) == 0
    assert lists.count(ALLOCSTALL + 2) - before >= 1


def test_a_machine_that_is_stopped_does_not_reclaim(lists: Lists) -> None:
    lists.fill_file(lists.file(100), 64)
    lists.m.stop = 1
    assert direct(lists) == 0
    lists.m.stop = 0


@pytest.mark.slow
def test_an_allocation_is_served_by_reclaim(lists: Lists) -> None:
    lists.fill_file(lists.file(8000), 6000)
    lists.b.drain()
    lists.m.watermark_boost_factor = 0  # the boost would count as a reserve, and kswapd doesn't run here
    taken = lists.b.take_all(leave=lists.b.zone().watermark[0] - 10)
    pfn = int(alloc(lists.m, lists.b.cpu(), GFP_KERNEL, 0))
    assert pfn >= 0
    assert lists.count(ALLOCSTALL + 2) == 1
    assert alloc(lists.m, lists.b.cpu(), GFP_ATOMIC, 9) == -1, "who may not wait, doesn't reclaim"
    assert lists.count(ALLOCSTALL + 2) == 1
    free_page(lists.m, lists.b.cpu(), pfn, 0)
    for q in taken:
        lists.b.free(q)


def test_pages_of_lower_zones_only(lists: Lists) -> None:
    """A request for DMA32 doesn't take pages of the Normal zone."""
    lists.fill_file(lists.file(100), 64)
    assert direct(lists, GFP_KERNEL | 4) == 0
    assert lists.sizes()[INACTIVE_FILE] == 64


@pytest.mark.parametrize(
    ("gfp", "flags", "stalls"),
    [
        (GFP_KERNEL, 0, 1), (GFP_KERNEL | __GFP_NORETRY, 0, 1), (GFP_ATOMIC, 0, 0), (GFP_NOWAIT, 0, 0),
        (GFP_KERNEL, PF_MEMALLOC, 0),
    ],
)  # fmt: skip
def test_only_those_who_may_wait_reclaim(lists: Lists, gfp: int, flags: int, stalls: int) -> None:
    """PF_MEMALLOC may take the last page, but there is none."""
    taken = lists.b.take_all()
    lists.b.task().process_flags = flags
    assert alloc(lists.m, lists.b.cpu(), gfp | __GFP_NOWARN, 0) == -1
    assert lists.count(ALLOCSTALL + 2) == stalls
    lists.b.task().process_flags = 0
    for pfn in taken:
        lists.b.free(pfn)


# --- throttling -------------------------------------------------------------------------------------------------------


def starve(lists: Lists, free: int) -> int:
    """Set the counter that the throttle reads; the old value."""
    counter = lists.b.zone().vm_stat[NR_FREE_PAGES]
    old = counter.counter
    counter.counter = free
    return int(old)


def test_reserves_below_half_of_min_throttle(lists: Lists) -> None:
    lists.fill_file(lists.file(100), 10)
    half = lists.b.zone().watermark[0] // 2
    old = starve(lists, half)
    node = lists.node()
    node.kswapd_wait.state = 1
    node.kswapd_highest_zoneidx = 3
    assert not allowed(lists.m, lists.b.cpu(), node)
    assert node.kswapd_wait.state & QUEUED == 0 and node.kswapd_highest_zoneidx == 2, "kswapd is woken for it"
    node.kswapd_failures = 16
    assert allowed(lists.m, lists.b.cpu(), node)
    node.kswapd_failures = 0
    starve(lists, half + 1)
    assert allowed(lists.m, lists.b.cpu(), node)
    starve(lists, old)


def test_who_is_throttled(lists: Lists) -> None:
    lists.fill_file(lists.file(100), 10)
    old = starve(lists, 1)
    task = lists.b.task()
    lists.m.stop = 1  # nobody will wake us
    for flags, signal, times in ((PF_KTHREAD, 0, 0), (0, 1, 0), (0, 0, 1)):
        task.process_flags, task.fatal_signal = flags, signal
        before = lists.count(PGSCAN_DIRECT_THROTTLE)
        assert not throttle(lists.m, lists.b.cpu(), 0, GFP_KERNEL)
        assert lists.count(PGSCAN_DIRECT_THROTTLE) - before == times
    assert lists.node().pfmemalloc_wait.state & QUEUED == 0
    lists.m.stop = 0
    starve(lists, old)


# --- retry ------------------------------------------------------------------------------------------------------------


def again(lists: Lists, order: int = 0, progress: int = 0, loops: int = 1) -> bool:
    return bool(retry(lists.m, lists.b.cpu(), 0, GFP_KERNEL, order, progress, loops))


@pytest.mark.parametrize(("loops", "answer"), [(1, True), (16, True), (17, False)])
def test_sixteen_rounds_without_progress(lists: Lists, loops: int, answer: bool) -> None:
    lists.fill_file(lists.file(100), 100)
    assert again(lists, loops=loops) is answer


def test_retry_when_the_reclaimable_pages_would_do(lists: Lists) -> None:
    """Without anything on the lists the free pages count twice, as in 5.10.262."""
    zone = lists.b.zone()
    taken = lists.b.take_all(leave=0)
    lists.b.drain()
    mark = zone.watermark[0]
    for free, answer in ((mark // 2, False), (mark // 2 + 1, mark % 2 == 1 or True)):
        while lists.b.nr_free_now() < free:
            lists.b.free(taken.pop())
            lists.b.drain()
        assert again(lists) is (2 * free > mark) is answer
    assert not again(lists, order=10)
    for q in taken:
        lists.b.free(q)


def test_retry_waits_for_the_disk(lists: Lists) -> None:
    """When most of what is reclaimable is being written; the machine is stopped, so the wait is short."""
    lists.fill_file(lists.file(100), 100)
    lists.b.zone().vm_stat[NR_ZONE_WRITE_PENDING].counter += 51
    lists.m.stop = 1
    assert again(lists)
    lists.m.stop = 0
    lists.b.zone().vm_stat[NR_ZONE_WRITE_PENDING].counter -= 51


# --- memory cgroups ---------------------------------------------------------------------------------------------------


def test_limit_reclaim_touches_only_its_cgroup(lists: Lists) -> None:
    lists.m.memcgs[1].memory_max = 0
    lists.fill_file(lists.file(200), 100)
    lists.b.task().memcg = 2
    lists.fill_file(lists.file(200), 100)
    lists.b.task().memcg = 0
    assert lists.sizes(2)[INACTIVE_FILE] == 100 and lists.m.memcgs[1].memory == 100
    got = int(reclaim_cgroup(lists.m, lists.b.cpu(), 2, 1, GFP_HIGHUSER_MOVABLE, 1))
    assert got >= 32
    assert lists.sizes()[INACTIVE_FILE] == 100
    assert lists.sizes(2)[INACTIVE_FILE] == 100 - got == lists.m.memcgs[1].memory
    assert lists.count(ALLOCSTALL + 3) == 0, "nobody stalls for want of memory"


def test_global_reclaim_takes_from_all_cgroups(lists: Lists) -> None:
    lists.b.task().memcg = 1
    lists.fill_file(lists.file(2000), 1000)
    lists.b.task().memcg = 0
    lists.fill_file(lists.file(2000), 1000)
    direct(lists)
    assert lists.sizes()[INACTIVE_FILE] < 1000 and lists.sizes(1)[INACTIVE_FILE] < 1000
