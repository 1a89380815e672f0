"""What ``emu stress slowpath`` counts: planted situations one by one, and a small run on real processes."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from emu.cli import app
from emu.config import ConfigError, make_config
from emu.stress.slowpath import DEFAULTS, Class, SlowpathReport, SlowpathRun, stress_slowpath
from emu.stress.slowpath_text import duration, slowpath_lines
from emu.zone.boot import Shape
from emu.zone.gfp import (
    __GFP_NORETRY,
    __GFP_NOWARN,
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOWAIT,
    PF_KTHREAD,
)  # fmt: skip
from emu.zone.init_vm import kswapd_party, vm_of
from emu.zone.mmzone import MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from emu.zone.sched import TASK_SIZE
from emu.zone.slow_types import SPENT_DRAIN, SPENT_NAMES
from emu.zone.task_stats import drain_costs, slow_costs
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.core import MODE
from tests.bench import Bench, bench, core, one_zone, two_zones
from tests.cpu.test_workqueue import fill, processor
from tests.reclaim.entries import throttle
from tests.reclaim.lists import Lists
from tests.stress.entries import end_of_drain, fail, wait

QUIET_NOWAIT = GFP_NOWAIT | __GFP_NOWARN
NONE = {"late": 0, "avoidable": 0, "own": 0, "daemon": 0, "reserve": 0}


@contextmanager
def measured(shape: Shape) -> Iterator[Bench]:
    """A bench whose slow path is measured, without boosts."""
    with bench(shape, watermark_boost_factor=0) as b:
        vm_of(b.m).slow_stat.measured = 1
        yield b


def verdicts(b: Bench, cpu: int = 0) -> dict[str, int]:
    """What the failures of a CPU's task were put down to."""
    found: dict[str, int] = slow_costs(b.m, [task_number(b, cpu)])["failed_for"]
    return found


def task_number(b: Bench, cpu: int = 0) -> int:
    return int(b.cpu(cpu).current - b.m.tasks) // TASK_SIZE


def free_now(b: Bench, at: int = -1) -> int:
    return int(b.zone(at).vm_stat[NR_FREE_PAGES].counter)


@contextmanager
def marks(b: Bench, mark: int, at: int = -1) -> Iterator[None]:
    """All watermarks of a zone are this for a while."""
    zone = b.zone(at)
    before = list(zone.watermark)
    zone.watermark[:] = [mark] * 3
    yield
    zone.watermark[:] = before


@contextmanager
def nothing_free(b: Bench) -> Iterator[list[int]]:
    """All pages are allocated; what is left in the list in the end is given back."""
    taken = b.take_all()
    b.drain()
    taken += b.take_all()
    yield taken
    for pfn in taken:
        b.free(pfn)


def pair(pfns: list[int]) -> int:
    """The first of two buddies, both taken out of the list."""
    first = next(p for p in sorted(pfns) if p % 2 == 0 and p + 1 in pfns)
    pfns.remove(first)
    pfns.remove(first + 1)
    return first


# Avoidable failures


@pytest.mark.parametrize(("short", "avoidable"), [(0, 1), (2, 1), (3, 0), (100, 0)])
def test_pages_of_another_cpu_that_would_reach_the_mark_make_it_avoidable(short: int, avoidable: int) -> None:
    """Three pages are on CPU 1's list; the zone is ``short`` of what the request needs, and one page more."""
    with measured(one_zone(8192, 2)) as b:
        fill(b, 1)()
        held = b.pcp(cpu=1).count
        core.refresh_cpu_vm_stats(b.m, b.cpu(1), 0)
        with marks(b, free_now(b) + held - 3 + short):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "avoidable": avoidable}
        costs = slow_costs(b.m, [task_number(b)])
        assert (costs["failures"], costs["pcp_pages"]) == (1, held)


def test_pages_on_ones_own_list_are_told_apart() -> None:
    with measured(one_zone(8192, 2)) as b:
        fill(b, 0)()
        core.refresh_cpu_vm_stats(b.m, b.cpu(0), 0)
        with marks(b, free_now(b)):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "own": 1}
        assert slow_costs(b.m, [task_number(b)])["pcp_pages"] == 0


def test_own_and_others_pages_together_are_avoidable() -> None:
    with measured(one_zone(8192, 2)) as b:
        for cpu in (0, 1):
            fill(b, cpu)()
            core.refresh_cpu_vm_stats(b.m, b.cpu(cpu), 0)
        own, other = b.pcp(cpu=0).count, b.pcp(cpu=1).count
        with marks(b, free_now(b) + own + other - 1):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "avoidable": 1}


def test_nothing_anywhere_is_not_avoidable() -> None:
    with measured(one_zone(8192, 2)) as b, nothing_free(b):
        assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == NONE


def test_pages_of_a_zone_that_is_not_allowed_do_not_count() -> None:
    with measured(two_zones(8192, 2)) as b, nothing_free(b) as taken:
        normal = max(taken)
        taken.remove(normal)
        b.free(normal, cpu=1)
        assert b.pcp(b.zone(1), 1).count == 1
        with marks(b, 0, 0), marks(b, 0, 1):
            assert b.alloc(gfp=QUIET_NOWAIT | 4) == -1  # GFP_DMA32
            assert verdicts(b) == NONE and slow_costs(b.m, [task_number(b)])["pcp_pages"] == 0
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "avoidable": 1}


def test_a_page_that_goes_to_the_reserve_is_of_no_use() -> None:
    """Pages of a HIGHATOMIC block travel on the movable list; drained, this request wouldn't get it."""
    with measured(one_zone(8192, 2)) as b, nothing_free(b) as taken:
        pfn = taken.pop()
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_HIGHATOMIC)
        b.free(pfn, cpu=1)
        assert b.pcp_list(1, cpu=1) == [pfn]
        with marks(b, -10):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == NONE
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_UNMOVABLE)
        b.page(pfn).index = MIGRATE_MOVABLE  # of the list that it is on


@pytest.mark.parametrize("second", ["listed", "buddy", "apart", "taken"])
def test_a_block_that_drained_pages_complete(second: str) -> None:
    """Of order 1: both halves on another CPU's list, or one free already; not if the other half is far or in use."""
    with measured(one_zone(8192, 2)) as b, nothing_free(b) as taken:
        first = pair(taken)
        b.free(first, cpu=1)
        if second == "listed":
            b.free(first + 1, cpu=1)
        elif second == "buddy":
            b.free(first + 1)
            b.drain()
            assert b.free_blocks() == {(first + 1, 0)}
        else:
            taken.append(first + 1)
            if second == "apart":
                b.free(taken.pop(taken.index(min(p for p in taken if abs(p - first) > 8))), cpu=1)
        with marks(b, 0):
            assert b.alloc(1, gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "avoidable": int(second in ("listed", "buddy"))}


def test_daemons_lists_are_told_apart() -> None:
    """drain_all_pages() asks CPUs; kswapd has lists of its own here until it sleeps."""
    with measured(one_zone(8192, 2)) as b, nothing_free(b) as taken:
        b.free(taken.pop(), cpu=kswapd_party(b.m, 0))
        with marks(b, 0):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "daemon": 1}


def test_the_reserve_for_atomic_requests_is_told_apart() -> None:
    with measured(one_zone(8192, 2)) as b, nothing_free(b) as taken:
        pfn = taken.pop()
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_HIGHATOMIC)
        b.zone().nr_reserved_highatomic += 512
        b.free(pfn)
        b.drain()
        assert b.free_list(0, MIGRATE_HIGHATOMIC) == [pfn]
        with marks(b, 0):
            assert b.alloc(gfp=QUIET_NOWAIT) == -1
        assert verdicts(b) == {**NONE, "reserve": 1}
        assert slow_costs(b.m, [task_number(b)])["reserve_pages"] == 1


def test_memory_that_has_come_meanwhile_is_late_and_nothing_else() -> None:
    with measured(one_zone(8192, 2)) as b:
        fill(b, 1)()
        fail(b.m, b.cpu(), GFP_NOWAIT, 3)
        assert verdicts(b) == {**NONE, "late": 1}


def test_nothing_is_counted_while_nobody_measures() -> None:
    with bench(one_zone(8192, 2)) as b, nothing_free(b):
        with b.kernel_thread():
            assert b.alloc(gfp=GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN) == -1
        core.drain_all_pages(b.m, b.cpu(), 0)
        costs = slow_costs(b.m, range(b.m.nr_tasks))
        assert costs["failures"] == 0 and not any(costs["times"].values()) and not any(drain_costs(b.m).values())


# Drains


def test_pages_and_works_of_a_drain_are_counted() -> None:
    with measured(one_zone(8192, 3)) as b:
        fill(b, 0)()
        own = b.pcp(cpu=0).count
        with processor(b, 1, fill(b, 1)):
            other = b.pcp(cpu=1).count
            core.drain_all_pages(b.m, b.cpu(), 0)
        assert {k: v for k, v in drain_costs(b.m).items() if v} == {
            "drains": 1, "drain_works": 1, "drained_local": own, "drained_remote": other,
        }  # fmt: skip
        cost = b.task(0).slow
        assert cost.times[SPENT_DRAIN] == 1 and cost.spent[SPENT_DRAIN] > 0


def test_a_drain_that_finds_another_one_is_counted_and_does_nothing() -> None:
    with measured(one_zone(8192, 2)) as b:
        fill(b, 0)()
        b.m.drain_busy = 1
        core.drain_all_pages(b.m, b.cpu(), 0)
        b.m.drain_busy = 0
        assert {k: v for k, v in drain_costs(b.m).items() if v} == {"drains_busy": 1}
        assert b.task(0).slow.times[SPENT_DRAIN] == 0


def test_pages_that_a_drain_leaves_behind() -> None:
    """CPU 1 was asked and has pages again, CPU 2 was not asked; CPU 3 has none, CPU 0 drains."""
    with measured(one_zone(8192, 4)) as b:
        for cpu in (0, 1, 2):
            fill(b, cpu)()
        end_of_drain(b.m, b.cpu(), 0b10)
        costs = drain_costs(b.m)
        assert (costs["refilled_cpus"], costs["refilled_pages"]) == (1, b.pcp(cpu=1).count)
        assert (costs["missed_cpus"], costs["missed_pages"]) == (1, b.pcp(cpu=2).count)
        assert costs["drain_works"] == 1


# Time


@pytest.mark.parametrize(("gfp", "order", "parts"), [
    (GFP_NOWAIT, 0, {"slow path"}),
    (GFP_ATOMIC, 3, {"slow path"}),
    (GFP_KERNEL | __GFP_NORETRY, 0, {"slow path", "direct reclaim"}),
    (GFP_KERNEL | __GFP_NORETRY, 1, {"slow path", "direct reclaim", "direct compaction"}),
])  # fmt: skip
def test_time_in_the_slow_path_and_its_parts(gfp: int, order: int, parts: set[str]) -> None:
    with measured(one_zone(8192, 2)) as b, nothing_free(b):
        b.task().process_flags |= PF_KTHREAD  # nobody plays kswapd, so it must not be waited for
        assert b.alloc(order, gfp | __GFP_NOWARN) == -1
        b.task().process_flags &= ~PF_KTHREAD
        costs = slow_costs(b.m, [task_number(b)])
        assert {name for name, times in costs["times"].items() if times} == parts
        assert all(costs["ns"][name] > 0 for name in parts)
        assert costs["ns"]["slow path"] >= sum(costs["ns"][name] for name in parts - {"slow path"})


def test_throttled_time_has_its_cause() -> None:
    with measured(one_zone(8192)) as b:
        lists = Lists(b)
        lists.fill_file(lists.file(100), 10)
        counter, old = b.zone().vm_stat[NR_FREE_PAGES], free_now(b)
        counter.counter = 1
        b.m.stop = 1  # nobody will wake us
        throttle(b.m, b.cpu(), 0, GFP_KERNEL)
        counter.counter = old
        throttle(b.m, b.cpu(), 0, GFP_KERNEL)  # reserves are full: not held back
        wait(b.m, b.cpu(), 1)  # nothing is congested
        wait(b.m, b.cpu(), 0)
        vm_of(b.m).nr_wb_congested.counter = 1
        wait(b.m, b.cpu(), 1)
        vm_of(b.m).nr_wb_congested.counter = 0
        b.m.stop = 0
        costs = slow_costs(b.m, [task_number(b)])
        want = {"throttle_direct_reclaim": 1, "congestion_wait": 1, "wait_iff_congested": 1}
        assert {name: n for name, n in costs["times"].items() if n} == want
        assert all(costs["ns"][name] > 0 for name in want)


# The command


def adds_up(c: Class) -> None:
    assert c.attempts == c.succeeded + c.failures.failed == c.fast + c.slow
    assert sum(c.retries_by.values()) == c.retries
    assert c.failures.failed <= c.slow
    assert all(n <= c.failures.failed for n in dataclasses.astuple(c.failures))
    assert c.retries_per_slow.p50 <= c.retries_per_slow.p99 <= c.retries_per_slow.longest
    assert c.slow_ns.p50 <= c.slow_ns.p99 <= c.slow_ns.longest and bool(c.slow) == (c.slow_ns.longest > 0)
    assert c.retries_per_slow.mean * c.slow == pytest.approx(c.retries, rel=1e-9)


def check(report: SlowpathReport) -> None:
    """What holds for every run."""
    for c in [*report.classes, report.total]:
        adds_up(c)
    for field in ("attempts", "fast", "slow", "retries"):
        assert sum(getattr(c, field) for c in report.classes) == getattr(report.total, field)
    assert report.times["slow path"] == report.total.slow + report.elsewhere
    assert report.times["throttle_direct_reclaim"] == report.vmstat["pgscan_direct_throttle"]
    assert report.times["direct compaction"] == report.vmstat["compact_stall"]
    assert set(report.spent) == set(SPENT_NAMES)
    assert report.drain["drains"] >= report.times["drain_all_pages"]
    for c in report.classes:
        if "ATOMIC" in c.flags or "NOWAIT" in c.flags or "NORETRY" in c.flags:
            assert c.retries == 0, "who may not wait, or not retry, doesn't"
        if c.flags == "GFP_KERNEL":
            assert c.failures.failed == 0, "up to order 3 it goes on until there is memory"
    for zone in report.zones:
        assert zone.below_min <= zone.below_low <= zone.looks and zone.lowest < zone.high * 100
    assert report.problems == []


def free_pages(work: SlowpathRun) -> int:
    return sum(int(z.vm_stat[NR_FREE_PAGES].counter) for z in work.machine.m.nodes[0].node_zones)


SMALL = {**DEFAULTS, "cpus": 2, "memory": "64M", "swap": "32M", "pin": False, "operations": 20_000}


@pytest.mark.compiled
@pytest.mark.skipif(MODE == "interpreted", reason="a thousand times too slow")
def test_a_small_run_adds_up() -> None:
    report = stress_slowpath(make_config(SMALL, "test"))
    check(report)
    assert report.total.slow > 0 and report.vmstat["pageoutrun"] > 0 and report.operations >= 2 * 20_000
    assert any(zone.below_low for zone in report.zones)
    lines = slowpath_lines(report)
    assert "validate: clean" in lines and "seed: 1" in lines
    assert any(line.lstrip().startswith("GFP_ATOMIC") for line in lines)


@pytest.mark.compiled
@pytest.mark.skipif(MODE == "interpreted", reason="a thousand times too slow")
def test_memory_is_full_when_it_begins_and_free_when_it_ends() -> None:
    with SlowpathRun(make_config({**SMALL, "operations": 2000}, "test")) as work:
        whole = free_pages(work)
        work.fill()
        assert free_pages(work) < whole // 4
        report = work.run()
        assert free_pages(work) > whole * 0.95
    check(report)


@pytest.mark.compiled
@pytest.mark.skipif(MODE == "interpreted", reason="a thousand times too slow")
def test_the_command_prints_its_configuration_and_what_it_found() -> None:
    args = ["stress", "slowpath", "--cpus", "2", "--memory", "64M", "--swap", "0", "-n", "3000", "--seed", "7"]
    result = CliRunner().invoke(app, [*args, "--sysctl", "watermark_scale_factor=50", "--boot", "no_cpuset_cookie",
                                      "--json"])  # fmt: skip
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["seed"], data["cpus"], data["memory"], data["swap"]) == (7, 2, 64 << 20, 0)
    assert data["sysctl"] == {"watermark_scale_factor": 50} and data["boot"] == {"no_cpuset_cookie": True}
    assert data["total"]["attempts"] == data["total"]["fast"] + data["total"]["slow"]


def test_too_many_cpus_are_refused() -> None:
    with pytest.raises(ConfigError, match="64 CPUs"):
        SlowpathRun(make_config({**SMALL, "cpus": 64, "memory": "1G"}, "test"))


@pytest.mark.parametrize(("ns", "text"), [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 us"), (2.5e6, "2.5 ms"),
                                          (3e9, "3 s")])  # fmt: skip
def test_durations(ns: float, text: str) -> None:
    assert duration(ns) == text
