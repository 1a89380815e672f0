"""Whole runs: what moves where, which pageblocks are marked, what an allocation gets."""

import pytest

from emu.compact.kcompactd import compact_node, kcompactd_round
from emu.cpu.seams import COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED, COMPACT_SUCCESS
from emu.zone.gfp import __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL, PF_KTHREAD
from emu.zone.init_vm import kcompactd_party
from emu.zone.mmzone import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, PAGEBLOCK_NR_PAGES
from emu.zone.pageblock import PB_SKIP
from emu.zone.vmstat_items import (
    COMPACTFAIL,
    COMPACTFREE_SCANNED,
    COMPACTISOLATED,
    COMPACTMIGRATE_SCANNED,
    COMPACTSTALL,
    COMPACTSUCCESS,
    KCOMPACTD_WAKE,
    PGMIGRATE_SUCCESS,
)
from tests.compact.world import (
    World,
    capture_by_free,
    direct_compact,
    do,
    fast_search,
    wake_kcompactd,
    world,
    zone_order,
)

pytestmark = pytest.mark.slow
MOVABLE_HUGE = 0x152CCA  # GFP_HIGHUSER_MOVABLE | __GFP_NOWARN | __GFP_NORETRY | __GFP_COMP


def still_there(w: World, slots: list[int]) -> list[int]:
    """The pages of the slots: each is the slot's own, and no two are the same."""
    for index in range(w.m.nr_parties):
        w.drain(index)
    pfns = [w.mapped_at(slot) for slot in slots]
    assert len(set(pfns)) == len(slots)
    assert all(w.anon_owner(pfn) == (1, slot) for slot, pfn in zip(slots, pfns, strict=True))
    assert all((w.b.page(pfn).refcount, w.b.page(pfn).mapcount) == (1, 0) for pfn in pfns)
    return pfns


def skipped(w: World) -> list[int]:
    """The pageblocks that are marked."""
    zone = w.b.zone()
    blocks = range(zone.zone_start_pfn, zone.zone_start_pfn + zone.spanned_pages, PAGEBLOCK_NR_PAGES)
    return [pfn for pfn in blocks if w.b.block(pfn).bits & PB_SKIP]


def test_compact_memory_gathers_all_pages_at_the_end() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        free = w.b.nr_free_now()
        before = still_there(w, slots)
        compact_node(w.m, w.b.cpu(), w.node())
        w.b.drain()
        after = still_there(w, slots)
        assert w.b.nr_free_now() == free
        assert sum(after) > sum(before)
        large = sum(1 << order for order in (9, 10) for _ in w.b.free_list(order, MIGRATE_MOVABLE))
        assert large >= 1536  # three quarters of 4096 are free; the first pageblock has the page tables
        # scanners met: every page lies above every large free block, apart from the pageblock where they met
        lowest = sorted(after)[PAGEBLOCK_NR_PAGES:][0]
        assert all(pfn < lowest for pfn in w.b.free_list(10, MIGRATE_MOVABLE))
        assert w.count(PGMIGRATE_SUCCESS) > 0 and w.count(COMPACTISOLATED) >= 2 * w.count(PGMIGRATE_SUCCESS)


def test_what_a_run_leaves_behind() -> None:
    with world() as w:
        w.checkerboard(keep=4)
        zone = w.b.zone()
        start, end = zone.zone_start_pfn, zone.zone_start_pfn + zone.spanned_pages
        ret = zone_order(w.m, w.b.cpu(), zone, 9, 1)
        assert ret == COMPACT_SUCCESS
        captured = w.b.cpu().capture_page - 1
        assert captured % PAGEBLOCK_NR_PAGES == 0
        w.b.page(captured).refcount = 1
        w.b.free(captured, 9)
        assert start < zone.compact.cached_migrate_pfn[1] <= zone.compact.cached_free_pfn < end
        assert zone.compact.cached_migrate_pfn[0] == zone.compact.cached_migrate_pfn[1]
        assert w.count(COMPACTMIGRATE_SCANNED) > 0 and w.count(COMPACTFREE_SCANNED) > 0
        assert zone.compact.blockskip_flush == 0


def test_run_that_fails_meets_in_the_middle_and_marks_blocks() -> None:
    """Every 16th page pinned: no block of order 9 can become free."""
    with world() as w:
        slots = w.checkerboard(at=0)
        pinned = [pfn for pfn in still_there(w, slots) if pfn % 16 == 8]
        for pfn in pinned:
            w.b.page(pfn).refcount += 1
        zone, cpu = w.b.zone(), w.b.cpu()
        assert zone_order(w.m, cpu, zone, 9, 1) == COMPACT_PARTIAL_SKIPPED  # it began inside the zone, for all it knew
        assert zone.compact.blockskip_flush == 1
        assert list(zone.compact.cached_migrate_pfn) == [zone.zone_start_pfn] * 2
        assert zone.compact.cached_free_pfn == (zone.zone_start_pfn + zone.spanned_pages - 1) & -PAGEBLOCK_NR_PAGES
        marked = skipped(w)
        assert marked
        do.reset_isolation_suitable(w.m, cpu, w.node())
        assert zone.compact.blockskip_flush == 0
        assert len(skipped(w)) < len(marked)
        assert zone_order(w.m, cpu, zone, 9, 0) == COMPACT_COMPLETE  # of highest priority: end to end
        for pfn in pinned:
            w.b.page(pfn).refcount -= 1
        still_there(w, slots)


def test_fast_search_finds_nothing_once_the_scanners_have_passed_each_other() -> None:
    """The distance between them is unsigned."""
    with world() as w:
        w.checkerboard(keep=4)
        zone, cpu = w.b.zone(), w.b.cpu()
        start = zone.zone_start_pfn
        zone.compact.init_free_pfn = start + zone.spanned_pages  # not at the start of the scan
        assert fast_search(w.m, cpu, zone, 9, start, start + 512) > 0
        assert fast_search(w.m, cpu, zone, 9, start + 612, start + 512) == 0


def test_allocation_by_direct_compaction() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        cpu = w.b.cpu()
        assert not w.b.free_list(9, MIGRATE_MOVABLE)
        pfn = w.b.alloc(9, MOVABLE_HUGE)
        assert pfn >= 0 and pfn % PAGEBLOCK_NR_PAGES == 0
        assert w.count(COMPACTSUCCESS) == 1 and w.count(COMPACTSTALL) == 1 + w.count(COMPACTFAIL)
        still_there(w, slots)
        assert cpu.capture == 0 and cpu.capture_page == 0
        assert w.b.zone().compact.order_failed == 10
        assert w.b.task().process_flags & 0x800 == 0  # PF_MEMALLOC is gone
        w.b.free(pfn, 9)


def test_no_compaction_without_io() -> None:
    with world() as w:
        w.checkerboard(keep=4)
        assert direct_compact(w.m, w.b.cpu(), MOVABLE_HUGE & ~0x40, 9, 0x840, 2) == -1
        assert w.count(COMPACTMIGRATE_SCANNED) == 0


def test_async_for_unmovable_looks_at_unmovable_blocks_only() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        before = still_there(w, slots)
        gfp = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN
        assert direct_compact(w.m, w.b.cpu(), gfp, 9, 0x840, 2) == -1
        assert still_there(w, slots) == before and w.count(PGMIGRATE_SUCCESS) == 0
        assert w.count(COMPACTFAIL) == 1
        # sync goes everywhere
        pfn = direct_compact(w.m, w.b.cpu(), gfp, 9, 0x840, 1)
        assert pfn >= 0
        still_there(w, slots)
        w.b.free(pfn, 9)


def test_failed_compaction_is_deferred_from_sync_on() -> None:
    with world() as w:
        slots = w.checkerboard()
        pinned = [pfn for pfn in still_there(w, slots) if pfn % 16 == 1]
        for pfn in pinned:
            w.b.page(pfn).refcount += 1
        zone, cpu = w.b.zone(), w.b.cpu()
        zone.compact.order_failed = 10
        assert direct_compact(w.m, cpu, MOVABLE_HUGE, 9, 0x840, 2) == -1
        assert zone.compact.defer_shift == 0
        assert direct_compact(w.m, cpu, MOVABLE_HUGE, 9, 0x840, 1) == -1
        assert (zone.compact.defer_shift, zone.compact.order_failed) == (1, 9)
        scanned = w.count(COMPACTMIGRATE_SCANNED)
        assert direct_compact(w.m, cpu, MOVABLE_HUGE, 9, 0x840, 1) == -1
        assert w.count(COMPACTMIGRATE_SCANNED) == scanned  # put off
        assert w.count(COMPACTFAIL) == 3
        for pfn in pinned:
            w.b.page(pfn).refcount -= 1


CAPTURES = [
    # kthread, type of the block, its order, the order wanted: captured?
    (False, MIGRATE_UNMOVABLE, 4, 4, True),
    (False, MIGRATE_UNMOVABLE, 4, 5, False),
    (True, MIGRATE_UNMOVABLE, 4, 4, False),
    (False, MIGRATE_MOVABLE, 4, 4, False),
    (False, MIGRATE_MOVABLE, 9, 9, True),
]


@pytest.mark.parametrize(("kthread", "migratetype", "order", "wanted", "taken"), CAPTURES)
def test_capture(kthread: bool, migratetype: int, order: int, wanted: int, taken: bool) -> None:
    with world() as w:
        zone, task = w.b.zone(), w.b.task()
        task.process_flags = PF_KTHREAD if kthread else 0
        gfp = GFP_KERNEL | (8 if migratetype == MIGRATE_MOVABLE else 0)
        pfn = w.b.alloc(order, gfp)
        # its buddy stays in use, so that it can't merge
        buddy = w.b.alloc(order, gfp)
        if buddy ^ pfn != 1 << order:
            pytest.fail("these two were to be buddies")
        free = w.b.nr_free_now()
        found = int(capture_by_free(w.m, w.b.cpu(), zone, pfn, order, wanted))
        assert found == (pfn if taken else -1)
        assert w.b.nr_free_now() == free + (0 if taken else 1 << order)
        w.b.free(buddy, order)
        if taken:
            w.b.page(pfn).refcount = 1
            w.b.free(pfn, order)


def test_kcompactd_wakes_works_and_sleeps() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        node, mine = w.node(), w.b.cpu(kcompactd_party(w.m, 0))
        mine.trace = 1
        w.b.cpu().trace = 1
        w.vm.kcompactd_until[0] = -1  # as if it had slept before
        node.kcompactd_highest_zoneidx = node.nr_zones - 1
        wake_kcompactd(w.m, w.b.cpu(), node, 0, 3)
        assert node.kcompactd_max_order == 0
        wake_kcompactd(w.m, w.b.cpu(), node, 9, 3)
        assert node.kcompactd_max_order == 9
        assert w.b.kinds() == []  # it doesn't sleep, so it isn't woken
        node.kcompactd_wait.state = 1
        wake_kcompactd(w.m, w.b.cpu(), node, 9, 3)
        assert w.b.kinds() == ["mm_compaction_suitable", "mm_compaction_wakeup_kcompactd"]
        assert kcompactd_round(w.m, mine, node)
        kinds = w.b.kinds(kcompactd_party(w.m, 0))
        assert kinds[:2] == ["mm_compaction_kcompactd_sleep", "mm_compaction_kcompactd_wake"]
        assert kinds[-1] == "mm_compaction_defer_reset"
        assert mine.vm_events[KCOMPACTD_WAKE] == 1
        assert (node.kcompactd_max_order, node.kcompactd_highest_zoneidx) == (0, node.nr_zones - 1)
        w.drain(kcompactd_party(w.m, 0))
        w.b.drain(kcompactd_party(w.m, 0))
        assert w.b.free_list(9, MIGRATE_MOVABLE) or w.b.free_list(10, MIGRATE_MOVABLE)
        still_there(w, slots)


def test_proactive_compaction_by_score() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        node, cpu = w.node(), w.b.cpu()
        node.kswapd_wait.state = 1  # kswapd sleeps
        score = int(do.fragmentation_score_node(w.m, node))
        assert score > 90
        w.vm.compaction_proactiveness = 0
        assert not do.proactive_round(w.m, cpu, node)
        w.vm.compaction_proactiveness = 20
        assert do.proactive_round(w.m, cpu, node)
        w.b.drain()
        assert do.fragmentation_score_node(w.m, node) < score
        assert w.vm.kcompactd_defer[0] == 0
        still_there(w, slots)
        node.kswapd_wait.state = 0
        assert not do.proactive_round(w.m, cpu, node)  # kswapd is running


def test_proactive_compaction_in_vain_waits_for_64_rounds() -> None:
    with world() as w:
        slots = w.checkerboard()
        pinned = still_there(w, slots)
        for pfn in pinned:
            w.b.page(pfn).refcount += 1
        node, cpu = w.node(), w.b.cpu()
        node.kswapd_wait.state = 1
        assert do.proactive_round(w.m, cpu, node)
        assert w.vm.kcompactd_defer[0] == 64
        assert not do.proactive_round(w.m, cpu, node)
        assert w.vm.kcompactd_defer[0] == 63
        for pfn in pinned:
            w.b.page(pfn).refcount -= 1


def test_fatal_signal_ends_a_run_without_losing_pages() -> None:
    with world() as w:
        slots = w.checkerboard(keep=4)
        w.b.task().fatal_signal = 1
        free = w.b.nr_free_now()
        assert zone_order(w.m, w.b.cpu(), w.b.zone(), 9, 1) not in (COMPACT_SUCCESS, COMPACT_PARTIAL_SKIPPED)
        w.b.drain()
        assert w.b.nr_free_now() == free
        still_there(w, slots)
