"""May a zone be used? Against the formula, over all flags; and the cases that have rules of their own."""

import itertools

import pytest

from emu.zone.gfp import ALLOC_CMA, ALLOC_HARDER, ALLOC_HIGH, ALLOC_OOM, ALLOC_WMARK_LOW, GFP_ATOMIC, GFP_KERNEL
from emu.zone.mmzone import MAX_ORDER, MIGRATE_TYPES, WMARK_MIN
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES
from tests import naive
from tests.bench import Bench, bench, core, one_zone, two_zones

FLAGS = {"high": ALLOC_HIGH, "harder": ALLOC_HARDER, "oom": ALLOC_OOM, "cma": ALLOC_CMA}
SETS = [dict(zip(FLAGS, on, strict=True)) for on in itertools.product((False, True), repeat=4)]


def lists(b: Bench) -> dict[tuple[int, int], int]:
    return {(o, mt): len(b.free_list(o, mt)) for o in range(MAX_ORDER) for mt in range(MIGRATE_TYPES)}


@pytest.mark.parametrize("order", [0, 1, 3, 9, 10])
@pytest.mark.parametrize("which", ["plain", "highatomic", "cma", "fragmented"])
def test_verdict_is_the_formulas_around_every_mark(order: int, which: str) -> None:
    with bench(one_zone(8192), cma=2048 if which == "cma" else 0) as b:
        zone = b.zone()
        if which == "highatomic":
            core.reserve_highatomic_pageblock(b.m, b.cpu(), b.alloc(9), zone)
        if which == "fragmented":
            b.take_all(order=9)
            b.take_all(order=3, leave=7)
        blocks = lists(b)
        for flags in SETS:
            alloc_flags = sum(bit for name, bit in FLAGS.items() if flags[name])
            for free in (0, 100, 1000, 2000, 3000, 5000, 8000):
                for mark in (0, 99, free - 512, free // 2, free - 1, free, 4 * free // 3, 2 * free, 4 * free):
                    expected = naive.watermark_ok(
                        free, order, max(mark, 0), blocks, **flags, reserve=zone.lowmem_reserve[3],
                        highatomic=zone.nr_reserved_highatomic, free_cma=zone.vm_stat[NR_FREE_CMA_PAGES].counter,
                    )  # fmt: skip
                    got = getattr(core, "__zone_watermark_ok")(b.m, zone, order, max(mark, 0), 3, alloc_flags, free)
                    assert bool(got) == expected, (flags, free, mark)


def test_reserve_of_a_lower_zone_depends_on_who_asks() -> None:
    with bench(two_zones(), lowmem_reserve_ratio=(256, 2, 32, 0)) as b:
        low = b.zone(0)
        mark = low.vm_stat[NR_FREE_PAGES].counter - 10
        assert core.zone_watermark_ok(b.m, low, 0, mark, 1, 0)
        assert not core.zone_watermark_ok(b.m, low, 0, mark, 2, 0)


def test_atomic_order_0_ignores_the_boost_at_the_min_mark_only() -> None:
    with bench() as b:
        zone = b.zone()
        free = zone.vm_stat[NR_FREE_PAGES].counter
        zone.watermark_boost = free
        fast = core.zone_watermark_fast
        mark = zone.watermark[WMARK_MIN] + zone.watermark_boost
        assert not fast(b.m, zone, 0, mark, 3, 0, GFP_KERNEL)
        assert fast(b.m, zone, 0, mark, 3, 0, GFP_ATOMIC)
        assert not fast(b.m, zone, 0, mark, 3, ALLOC_WMARK_LOW, GFP_ATOMIC)
        assert not fast(b.m, zone, 1, mark, 3, 0, GFP_ATOMIC)
        zone.watermark_boost = 0


def test_fast_verdict_is_the_full_one_without_boost() -> None:
    with bench(cma=2048) as b:
        zone = b.zone()
        free = zone.vm_stat[NR_FREE_PAGES].counter
        for mark in range(free - 2060, free + 4):
            for flags in (0, ALLOC_CMA, ALLOC_HARDER):
                full = core.zone_watermark_ok(b.m, zone, 0, mark, 3, flags)
                assert core.zone_watermark_fast(b.m, zone, 0, mark, 3, flags, GFP_KERNEL) == full


def test_below_the_drift_mark_the_differentials_count() -> None:
    with bench() as b:
        zone, free = b.zone(), b.nr_free()
        b.pcp().vm_stat_diff[NR_FREE_PAGES] = -100
        zone.percpu_drift_mark = 0
        assert core.zone_watermark_ok_safe(b.m, zone, 0, free - 50, 3)
        zone.percpu_drift_mark = free + 1
        assert not core.zone_watermark_ok_safe(b.m, zone, 0, free - 50, 3)
        b.pcp().vm_stat_diff[NR_FREE_PAGES] = 0


def test_negative_counter_reads_as_zero() -> None:
    with bench() as b:
        before = b.zone().vm_stat[NR_FREE_PAGES].counter
        b.zone().vm_stat[NR_FREE_PAGES].counter = -5
        assert not core.zone_watermark_ok(b.m, b.zone(), 0, 0, 3, 0)
        assert core.zone_page_state_snapshot(b.m, b.zone(), NR_FREE_PAGES) == 0
        b.zone().vm_stat[NR_FREE_PAGES].counter = before
