"""Whether to compact: suitability by watermarks and fragmentation, deferral, retries. Against numbers made naively."""

import random

import pytest

from emu.compact.defer import COMPACT_MAX_DEFER_SHIFT
from emu.cpu.seams import (
    COMPACT_COMPLETE,
    COMPACT_CONTENDED,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
)
from emu.zone.mmzone import MAX_ORDER
from tests.compact.world import World, do, retry, world

suitable = vars(do)["__compaction_suitable"]


def naive_index(nr_free: list[int], order: int) -> int:
    """``fragmentation_index()`` from the counts of free blocks."""
    total = sum(nr_free)
    if total == 0:
        return 0
    if any(nr_free[order:]):
        return -1000
    pages = sum(n << o for o, n in enumerate(nr_free))
    return 1000 - (1000 + pages * 1000 // (1 << order)) // total


def set_free(w: World, nr_free: list[int]) -> list[int]:
    """Pretend these counts of free blocks; the real ones."""
    areas = w.b.zone().free_area
    real = [areas[order].nr_free for order in range(MAX_ORDER)]
    for order, count in enumerate(nr_free):
        areas[order].nr_free = count
    return real


def test_fragmentation_index_and_score() -> None:
    random_counts = random.Random(5)
    with world() as w:
        zone = w.b.zone()
        for _ in range(60):
            top = random_counts.randrange(1, MAX_ORDER)
            counts = [random_counts.randrange(0, 60) if o < top else 0 for o in range(MAX_ORDER)]
            real = set_free(w, counts)
            try:
                for order in (0, 3, 5, 9, 10):
                    assert do.fragmentation_index(zone, order) == naive_index(counts, order)
                    pages = sum(n << o for o, n in enumerate(counts))
                    large = sum(n << o for o, n in enumerate(counts) if o >= order)
                    assert do.extfrag_for_order(zone, order) == ((pages - large) * 100 // pages if pages else 0)
                score = zone.present_pages * do.extfrag_for_order(zone, 9) // (w.node().node_present_pages + 1)
                assert do.fragmentation_score_node(w.m, w.node()) == score
            finally:
                set_free(w, real)


def test_suitable_by_watermarks() -> None:
    """Not needed while the order is to be had; too few pages below the mark plus twice the block."""
    with world() as w:
        zone = w.b.zone()
        assert suitable(w.m, zone, 9, 0, 3, zone.vm_stat[0].counter) == COMPACT_SUCCESS
        w.checkerboard()
        low, least = zone.watermark[1], zone.watermark[0]
        assert suitable(w.m, zone, -1, 0, 3, 0) == COMPACT_CONTINUE
        areas = w.b.zone().free_area
        real = [areas[order].nr_free for order in range(MAX_ORDER)]
        for order, mark in ((1, least), (3, least), (4, low), (9, low)):
            for high in range(1, MAX_ORDER):
                areas[high].nr_free = 0
            edge = mark + (2 << order)
            assert suitable(w.m, zone, order, 0, 3, edge) == COMPACT_SKIPPED
            assert suitable(w.m, zone, order, 0, 3, edge + 1) == COMPACT_CONTINUE
        zone.watermark_boost = 100
        assert suitable(w.m, zone, 9, 0, 3, low + (2 << 9) + 1) == COMPACT_SKIPPED
        zone.watermark_boost = 0
        set_free(w, real)


def test_costly_orders_only_if_memory_is_in_pieces() -> None:
    with world() as w:
        zone, cpu = w.b.zone(), w.b.cpu()
        w.checkerboard()
        assert do.fragmentation_index(zone, 9) > 500
        assert do.compaction_suitable(w.m, cpu, zone, 9, 0, 3) == COMPACT_CONTINUE
        w.vm.extfrag_threshold = 1000
        assert do.compaction_suitable(w.m, cpu, zone, 9, 0, 3) == COMPACT_SKIPPED
        real = set_free(w, [zone.free_area[0].nr_free] + [0] * (MAX_ORDER - 1))
        assert do.compaction_suitable(w.m, cpu, zone, 3, 0, 3) == COMPACT_CONTINUE  # never asked
        set_free(w, real)


def test_deferral_doubles_up_to_64() -> None:
    with world() as w:
        zone, cpu = w.b.zone(), w.b.cpu()
        assert not do.compaction_deferred(w.m, cpu, zone, 5)  # nothing has failed, but it counts from order 0 on
        zone.compact.order_failed = MAX_ORDER
        assert not do.compaction_deferred(w.m, cpu, zone, 5)
        for shift in [*range(1, COMPACT_MAX_DEFER_SHIFT + 1), COMPACT_MAX_DEFER_SHIFT]:
            do.defer_compaction(w.m, cpu, zone, 5)
            assert (zone.compact.defer_shift, zone.compact.order_failed, zone.compact.considered) == (shift, 5, 0)
            assert not do.compaction_deferred(w.m, cpu, zone, 4)
            skipped = 0
            while do.compaction_deferred(w.m, cpu, zone, 5):
                skipped += 1
            assert skipped == (1 << shift) - 1
            assert zone.compact.considered == 1 << shift
            assert bool(do.compaction_restarting(zone, 5)) == (shift == COMPACT_MAX_DEFER_SHIFT)
        do.compaction_defer_reset(w.m, cpu, zone, 7, 0)
        assert (zone.compact.order_failed, zone.compact.defer_shift) == (8, COMPACT_MAX_DEFER_SHIFT)
        do.compaction_defer_reset(w.m, cpu, zone, 7, 1)
        assert (zone.compact.considered, zone.compact.defer_shift) == (0, 0)


# order, result, priority, retries -> again, priority, retries
RETRIES = [
    (0, COMPACT_SUCCESS, 1, 0, (0, 1, 0)),
    (3, COMPACT_COMPLETE, 2, 5, (1, 1, 0)),
    (3, COMPACT_COMPLETE, 1, 5, (1, 0, 0)),
    (3, COMPACT_COMPLETE, 0, 5, (0, 0, 5)),
    (4, COMPACT_COMPLETE, 2, 5, (1, 1, 0)),
    (4, COMPACT_COMPLETE, 1, 5, (0, 1, 5)),
    (3, COMPACT_DEFERRED, 1, 5, (1, 0, 0)),
    (3, COMPACT_CONTENDED, 1, 5, (1, 0, 0)),
    (9, COMPACT_PARTIAL_SKIPPED, 1, 5, (0, 1, 5)),
    (3, COMPACT_SUCCESS, 1, 15, (1, 1, 16)),
    (3, COMPACT_SUCCESS, 1, 16, (1, 0, 0)),
    (3, COMPACT_SUCCESS, 0, 16, (0, 0, 17)),
    (4, COMPACT_SUCCESS, 1, 3, (1, 1, 4)),
    (4, COMPACT_SUCCESS, 1, 4, (0, 1, 5)),
]


def test_should_compact_retry() -> None:
    with world() as w:
        for order, result, priority, retries, (again, new_priority, new_retries) in RETRIES:
            got = int(retry(w.m, w.b.cpu(), order, result, priority, retries))
            assert (got & 1, got >> 8 & 255, got >> 16) == (again, new_priority, new_retries), (order, result, priority)


def test_retry_after_skipping_only_if_reclaim_can_help() -> None:
    with world() as w:
        zone = w.b.zone()
        assert int(retry(w.m, w.b.cpu(), 3, COMPACT_SKIPPED, 1, 2)) == 1 | 1 << 8 | 2 << 16
        w.checkerboard()
        free = zone.vm_stat[0].counter
        zone.vm_stat[0].counter = 8
        # nothing can be reclaimed without swap: so all is free pages, an eighth of them
        assert do.zone_reclaimable_pages(w.m, zone) == pytest.approx(8, abs=125)
        zone.watermark[0] = zone.watermark[1] = zone.watermark[2] = 4000
        assert int(retry(w.m, w.b.cpu(), 3, COMPACT_SKIPPED, 1, 2)) & 1 == 0
        zone.vm_stat[0].counter = free
        w.b.strict = False
