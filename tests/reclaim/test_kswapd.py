"""kswapd: when it sleeps, what wakes it, and how far it goes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from emu.zone.event import EV_BALANCE_PGDAT, EV_BOOST
from emu.zone.gfp import GFP_KERNEL, PF_KSWAPD, PF_MEMALLOC
from emu.zone.init_vm import kswapd_party
from emu.zone.mm_types import Kswapd
from emu.zone.mmzone import Cpu
from emu.zone.vmstat_items import (
    KSWAPD_HIGH_WMARK_HIT_QUICKLY,
    NR_FREE_PAGES,
    PAGEOUTRUN,
    PGSTEAL_KSWAPD,
    PSWPOUT,
)  # fmt: skip
from tests.bench import bench, one_zone
from tests.reclaim.entries import (
    balance,
    begin,
    kswapd_round,
    may_sleep,
    reclaim_directly,
    try_to_sleep,
    wake,
    work,
)  # fmt: skip
from tests.reclaim.lists import INACTIVE_ANON, INACTIVE_FILE, Lists, dirty

NEW, TRY_TO_SLEEP, ASLEEP = range(3)
QUEUED = 0xFFFFFFFF


@pytest.fixture
def lists() -> Iterator[Lists]:
    """32 MiB, swap, and kswapd played by its own party."""
    with bench(replace(one_zone(8192), swap=513)) as b:
        made = Lists(b)
        made.vm.disk.latency_ns = made.vm.disk.page_ns = 0
        yield made


def kswapd(lists: Lists) -> Cpu:
    cpu = lists.b.cpu(kswapd_party(lists.m, 0))
    cpu.trace = 1
    return cpu


def state(lists: Lists) -> Kswapd:
    return lists.vm.kswapds[0]


def ready(lists: Lists) -> Cpu:
    cpu = kswapd(lists)
    begin(lists.m, cpu, lists.node(), state(lists))
    return cpu


def run(lists: Lists, order: int = 0, idx: int = 3) -> int:
    return int(balance(lists.m, kswapd(lists), lists.node(), order, idx))


def ran(lists: Lists) -> tuple[int, int]:
    """Pages reclaimed by the last run, and its priority."""
    events = lists.b.events(kswapd_party(lists.m, 0))
    last = events[events["kind"] == EV_BALANCE_PGDAT][-1]
    return int(last["a"]), int(last["b"]) >> 8


def free_now(lists: Lists) -> int:
    return lists.b.nr_free_now()


def press(lists: Lists, pages: int = 6500, below: int = 0) -> list[int]:
    """A file fills most of memory and others the rest, down to below the low watermark."""
    lists.fill_file(lists.file(8000), pages)
    lists.b.drain()
    return lists.b.take_all(leave=lists.b.zone().watermark[1] - below)


def give_back(lists: Lists, pages: list[int]) -> None:
    for pfn in pages:
        lists.b.free(pfn)


@pytest.mark.slow
def test_a_run_restores_the_high_watermark(lists: Lists) -> None:
    cpu = ready(lists)
    taken = press(lists)
    high = lists.b.zone().watermark[2]
    assert free_now(lists) <= high
    assert run(lists) == 0
    assert lists.b.zone().vm_stat[NR_FREE_PAGES].counter > high
    reclaimed, _ = ran(lists)
    assert reclaimed == cpu.vm_events[PGSTEAL_KSWAPD] > 0
    assert cpu.vm_events[PAGEOUTRUN] == 1 and lists.node().kswapd_failures == 0
    assert lists.node().kswapd_order == 0
    give_back(lists, taken)


def test_a_balanced_node_is_left_alone(lists: Lists) -> None:
    ready(lists)
    lists.fill_file(lists.file(100), 100)
    run(lists)
    assert ran(lists) == (0, 12) and lists.sizes()[INACTIVE_FILE] == 100
    assert lists.node().kswapd_failures == 0


@pytest.mark.slow
def test_a_boost_is_relieved_without_writing_or_swapping(lists: Lists) -> None:
    ready(lists)
    lists.space()
    anon = lists.fill_anon(300)
    file = lists.fill_file(lists.file(8000), 6000)
    for pfn in file[200:208]:
        dirty(lists.m, lists.b.cpu(), pfn)
    lists.b.zone().watermark_boost = 64
    assert run(lists) == 0
    events = lists.b.events(kswapd_party(lists.m, 0))
    reclaimed, priority = (int(events[events["kind"] == EV_BALANCE_PGDAT][-1][f]) for f in ("a", "b"))
    assert reclaimed >= 64 and priority >> 8 >= 10, "the priority is not raised beyond 10"
    assert [int(b) for b in events[events["kind"] == EV_BOOST]["b"]] == [64]
    assert lists.b.zone().watermark_boost == 0
    assert lists.vm.disk.head == 0 and lists.sizes()[INACTIVE_ANON] == len(anon)


def test_a_boost_that_nothing_can_relieve_ends_at_once(lists: Lists) -> None:
    ready(lists)
    lists.space()
    lists.fill_anon(300)
    lists.b.zone().watermark_boost = 512
    run(lists)
    assert ran(lists) == (0, 12), "one look, without success"
    assert lists.b.zone().watermark_boost == 0 and lists.node().kswapd_failures == 1


def test_a_boost_that_came_during_the_run_stays(lists: Lists) -> None:
    ready(lists)
    lists.b.zone().watermark_boost = 100
    lists.fill_file(lists.file(200), 100)
    before = lists.b.zone().watermark_boost
    lists.m.swappiness = 60
    assert before == 100
    run(lists)
    assert lists.b.zone().watermark_boost == 0
    lists.b.zone().watermark_boost = 7
    run(lists, idx=1)  # zones up to DMA32: this one is not looked at
    assert lists.b.zone().watermark_boost == 7


def test_below_the_marks_a_boost_does_not_matter(lists: Lists) -> None:
    """Anonymous memory only: the boosted pass could reclaim nothing, the normal one swaps."""
    cpu = ready(lists)
    lists.space()
    lists.fill_anon(400)
    lists.b.drain()
    taken = lists.b.take_all(leave=lists.b.zone().watermark[1] - 5)
    lists.b.zone().watermark_boost = 30
    run(lists)
    assert cpu.vm_events[PSWPOUT] > 0
    assert lists.b.zone().watermark_boost == 0
    lists.run_disk()
    give_back(lists, taken)


def test_sixteen_failures_and_nobody_wakes_it(lists: Lists) -> None:
    cpu = ready(lists)
    node, zone = lists.node(), lists.b.zone()
    lists.swap.inuse_pages = lists.swap.pages  # nothing to reclaim, nowhere to swap
    taken = lists.b.take_all(leave=zone.watermark[1] - 5)
    for n in range(16):
        assert not may_sleep(lists.m, cpu, node, 0, 3)
        assert node.kswapd_failures == n
        run(lists)
        assert ran(lists) == (0, 0)
    assert may_sleep(lists.m, cpu, node, 0, 3), "a hopeless node is left to direct reclaim"
    node.kswapd_wait.state = 1
    lists.b.cpu().trace = 1
    wake(lists.m, lists.b.cpu(), zone, GFP_KERNEL, 0, 2)
    assert "mm_vmscan_wakeup_kswapd" not in lists.b.kinds()
    node.kswapd_failures = 15
    wake(lists.m, lists.b.cpu(), zone, GFP_KERNEL, 0, 2)
    assert "mm_vmscan_wakeup_kswapd" in lists.b.kinds()
    give_back(lists, taken)
    lists.fill_file(lists.file(200), 100)
    node.kswapd_failures = 16
    assert reclaim_directly(lists.m, lists.b.cpu(), 0, GFP_KERNEL, 0) > 0
    assert node.kswapd_failures == 0
    node.kswapd_wait.state = 0
    lists.swap.inuse_pages = 0


@pytest.mark.slow
def test_twice_a_blocks_pages_are_enough_for_a_high_order(lists: Lists) -> None:
    ready(lists)
    taken = press(lists)
    k = state(lists)
    lists.node().kswapd_order = 3
    lists.node().kswapd_highest_zoneidx = 2
    work(lists.m, kswapd(lists), lists.node(), k)
    reclaimed, _ = ran(lists)
    assert reclaimed >= 2 << 3
    assert (k.alloc_order, k.reclaim_order, k.highest_zoneidx) == (3, 0, 2), "kcompactd does the rest"
    assert (lists.node().kswapd_order, lists.node().kswapd_highest_zoneidx) == (0, 4)
    give_back(lists, taken)


def test_a_request_during_the_run_is_seen_before_sleep(lists: Lists) -> None:
    ready(lists)
    k = state(lists)
    k.highest_zoneidx = 3
    lists.node().kswapd_highest_zoneidx = 1
    work(lists.m, kswapd(lists), lists.node(), k)
    assert k.highest_zoneidx == 1, "nothing asked for since: as before"
    lists.node().kswapd_order, lists.node().kswapd_highest_zoneidx = 2, 2
    work(lists.m, kswapd(lists), lists.node(), k)
    assert (k.alloc_order, k.highest_zoneidx) == (0, 2)


@pytest.mark.slow
def test_it_does_not_sleep_while_the_node_is_short(lists: Lists) -> None:
    cpu = ready(lists)
    taken = press(lists)
    assert not try_to_sleep(lists.m, cpu, lists.node(), state(lists))
    assert cpu.vm_events[KSWAPD_HIGH_WMARK_HIT_QUICKLY] == 1
    assert lists.node().kswapd_wait.state & QUEUED == 0
    give_back(lists, taken)


def test_going_to_sleep(lists: Lists) -> None:
    """The machine is being stopped, so that the nap is short."""
    cpu = ready(lists)
    node = lists.node()
    node.pgdat_flags = 7  # dirty, writeback, and somebody's node reclaim
    node.lruvecs[0].lruvec_flags = 1
    node.pfmemalloc_wait.state = 1
    lists.m.stop = 1
    assert try_to_sleep(lists.m, cpu, node, state(lists))
    lists.m.stop = 0
    assert node.pgdat_flags == 4 and node.lruvecs[0].lruvec_flags == 0
    assert node.pfmemalloc_wait.state & QUEUED == 0, "nobody stays throttled"
    assert node.kswapd_wait.state & QUEUED == 1
    assert "mm_vmscan_kswapd_sleep" in lists.b.kinds(kswapd_party(lists.m, 0))


@pytest.mark.slow
def test_rounds_make_one_kswapd(lists: Lists) -> None:
    cpu, node, k = kswapd(lists), lists.node(), state(lists)
    zone = lists.b.zone()
    zone.percpu_drift_mark = 1
    pset = lists.b.pcp()
    normal = pset.stat_threshold
    lists.m.stop = 1
    assert not kswapd_round(lists.m, cpu, node)
    lists.m.stop = 0
    assert k.step == ASLEEP and node.kswapd_wait.state & QUEUED == 1
    task = lists.b.task(kswapd_party(lists.m, 0))
    assert task.process_flags & (PF_KSWAPD | PF_MEMALLOC) == PF_KSWAPD | PF_MEMALLOC
    taken = press(lists)
    lists.b.cpu().trace = 1
    wake(lists.m, lists.b.cpu(), zone, GFP_KERNEL, 1, 2)
    assert node.kswapd_wait.state & QUEUED == 0
    assert kswapd_round(lists.m, cpu, node)
    assert (k.step, k.highest_zoneidx) == (TRY_TO_SLEEP, 2)
    kinds = lists.b.kinds(kswapd_party(lists.m, 0))
    assert [x for x in kinds if "kswapd" in x or x == "balance_pgdat"] == [
        "mm_vmscan_kswapd_sleep", "mm_vmscan_kswapd_wake", "balance_pgdat",
    ]  # fmt: skip
    assert pset.stat_threshold != normal, "awake: counters drift less"
    lists.m.stop = 1
    assert not kswapd_round(lists.m, cpu, node)
    lists.m.stop = 0
    assert k.step == ASLEEP and pset.stat_threshold == normal
    assert lists.b.pcp(cpu=kswapd_party(lists.m, 0)).count == 0, "it leaves no pages in lists that nobody drains"
    give_back(lists, taken)
