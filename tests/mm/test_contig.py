"""Contiguous ranges: from free memory, from memory in use, and from the CMA area."""

import itertools

import pytest

from emu.compact.cma import cma_alloc, cma_release
from emu.compact.contig import alloc_contig_pages, alloc_contig_range, free_contig_range
from emu.zone.boot import Shape
from emu.zone.event import KINDS
from emu.zone.gfp import __GFP_COMP, __GFP_FS, __GFP_THISNODE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import MIGRATE_CMA, MIGRATE_MOVABLE, ZONE_MOVABLE, ZONE_NORMAL
from emu.zone.snapshot import State
from emu.zone.validate import validate
from emu.zone.vmstat_items import COMPACTISOLATED, NR_FREE_CMA_PAGES, NR_FREE_PAGES, PGMIGRATE_FAIL
from tests.bench import one_zone, shape, two_nodes
from tests.mm.hot import EBUSY, Hot, essence, hot
from tests.mm.test_hotplug_used import ANON, FILE, MOVABLE, SHMEM, Used

CMA = 2048
AREA = 1024 + 16384 - CMA


def with_cma() -> Shape:
    return one_zone(16384, cpus=2)


def take(b: Hot, first: int, last: int, mt: int = MIGRATE_MOVABLE, gfp: int = GFP_KERNEL) -> int:
    return int(alloc_contig_range(b.m, b.cpu(), first, last, mt, gfp))


def give(b: Hot, pfn: int, pages: int) -> None:
    free_contig_range(b.m, b.cpu(), pfn, pages)


def besides_hints(b: Hot) -> State:
    """The state without the pageblocks' skip hints: a block in which there was nothing to be moved gets one."""
    state = essence(b)
    for zone in state["zones"]:
        zone["pageblocks"] = [(start, migratetype, text) for start, migratetype, _, text in zone["pageblocks"]]
    return state


def alloc_cma(b: Hot, pages: int, align: int = 0) -> int:
    return int(cma_alloc(b.m, b.cpu(), pages, align))


@pytest.mark.parametrize(
    ("first", "last"), [(2048, 3072), (2048, 2049), (2051, 2300), (2047, 2049), (3071, 4100), (2304, 3328)]
)
def test_a_free_range_is_the_callers_page_by_page(first: int, last: int) -> None:
    with hot(one_zone(8192)) as b:
        before = besides_hints(b)
        assert take(b, first, last) == 0
        for pfn in range(first, last):
            page = b.page(pfn)
            assert (page.refcount, page.mapcount, page.mapping) == (1, -1, 0)
        assert not any(p < last and p + (1 << order) > first for p, order in b.free_blocks())
        b.drain()
        assert validate(b.m, from_boot=True) == []
        zone = b.zone()
        free = zone.vm_stat[NR_FREE_PAGES].counter + sum(
            b.pcp(cpu=i).vm_stat_diff[NR_FREE_PAGES] for i in range(b.m.nr_parties)
        )
        assert free == 8192 - (last - first)
        give(b, first, last - first)
        b.drain()
        assert validate(b.m, from_boot=True) == []
        assert besides_hints(b) == before
        hints = [block[0] for block in essence(b)["zones"][0]["pageblocks"] if block[2]]
        assert hints == [pfn for pfn in range(first, last) if pfn % 512 == 0]


def test_a_busy_page_refuses_the_range_and_all_is_as_before() -> None:
    with hot(one_zone(8192)) as b:
        pfn = b.alloc(0, GFP_KERNEL)
        b.drain()
        before = essence(b)
        assert take(b, pfn & -512, (pfn & -512) + 512) == EBUSY
        assert take(b, 0, 100) == EBUSY  # a hole
        assert essence(b) == before
        b.free(pfn)


def test_pages_in_use_move_away() -> None:
    with hot(MOVABLE) as b:
        used = Used(b)
        first = min(used.pages()) + 3
        assert take(b, first, first + 700) == 0
        assert not set(range(first, first + 700)) & set(used.pages())
        assert len(set(used.pages())) == ANON + SHMEM + FILE
        assert validate(b.m) == []
        give(b, first, 700)
        b.drain()
        assert validate(b.m) == []


def test_a_pinned_page_is_given_up_after_some_attempts() -> None:
    with hot(MOVABLE) as b:
        used = Used(b)
        pinned = used.ptes()[5]
        b.page(pinned).refcount += 1
        assert take(b, pinned & -512, (pinned & -512) + 512) == EBUSY
        assert used.ptes()[5] == pinned
        b.page(pinned).refcount -= 1
        assert take(b, pinned & -512, (pinned & -512) + 512) == 0
        give(b, pinned & -512, 512)
        b.drain()


def test_it_moves_pages_as_compaction_does() -> None:
    with hot(MOVABLE) as b:
        used, cpu = Used(b), b.cpu()
        cpu.trace = 1
        moved, pinned = used.ptes()[:2]
        b.page(pinned).refcount += 1
        failed = cpu.vm_events[PGMIGRATE_FAIL]
        assert take(b, pinned, pinned + 1) == EBUSY
        assert cpu.vm_events[PGMIGRATE_FAIL] == failed  # it was never isolated: migration would have failed
        b.page(pinned).refcount -= 1
        b.events()
        isolated = cpu.vm_events[COMPACTISOLATED]
        assert take(b, moved, moved + 1) == 0
        outer = [e for e in b.events() if KINDS[e["kind"]] == "mm_compaction_isolate_freepages"]
        assert cpu.vm_events[COMPACTISOLATED] == isolated + 1 + sum(int(e["b"]) >> 32 for e in outer) > isolated + 1
        give(b, moved, 1)
        b.drain()


def test_pages_of_files_stay_where_filesystems_may_not_be_entered() -> None:
    with hot(MOVABLE) as b:
        used = Used(b)
        anon, cached = used.ptes()[0], used.cached(used.file, 1)[0]
        nofs = GFP_KERNEL & ~__GFP_FS
        assert take(b, cached, cached + 1, gfp=nofs) == EBUSY
        assert used.cached(used.file, 1) == [cached]
        for pfn, gfp in ((anon, nofs), (cached, GFP_KERNEL)):
            assert take(b, pfn, pfn + 1, gfp=gfp) == 0
            give(b, pfn, 1)
        b.drain()


def test_tail_pages_of_a_compound_page_are_in_use() -> None:
    with hot(one_zone(8192)) as b:
        held = b.alloc(4, GFP_KERNEL | __GFP_COMP)
        b.cpu().trace = 1
        pfn = int(alloc_contig_pages(b.m, b.cpu(), 4, GFP_KERNEL, 0, 0))
        block = held & -1024
        assert held == block == b.zone().zone_start_pfn and pfn == block + 1024
        refused = [e for e in b.events() if KINDS[e["kind"]] == "set_migratetype_isolate" and int(e["b"]) >= 0]
        assert len(refused) == (1024 - 16) // 4
        b.free(held, 4)
        give(b, pfn, 4)
        b.drain()


def test_alloc_contig_pages_finds_an_aligned_range() -> None:
    with hot(two_nodes(8192)) as b:
        cpu = b.cpu()
        pfn = int(alloc_contig_pages(b.m, cpu, 2048, GFP_KERNEL, 0, 0))
        assert pfn == 10240  # Normal's first one
        assert int(alloc_contig_pages(b.m, cpu, 2048, GFP_KERNEL, 0, 0b10)) == 18432
        assert int(alloc_contig_pages(b.m, cpu, 4096, GFP_KERNEL, 0, 0)) == 12288
        assert int(alloc_contig_pages(b.m, cpu, 4096, GFP_KERNEL, 0, 0)) == 4096  # DMA32
        assert int(alloc_contig_pages(b.m, cpu, 4096, GFP_KERNEL | __GFP_THISNODE, 0, 0)) == -1
        assert int(alloc_contig_pages(b.m, cpu, 4096, GFP_KERNEL, 0, 0)) == 20480
        assert int(alloc_contig_pages(b.m, cpu, 4096, GFP_KERNEL, 0, 0)) == -1
        for at, pages in ((10240, 2048), (18432, 2048), (12288, 4096), (4096, 4096), (20480, 4096)):
            give(b, at, pages)
        for i in range(2):
            b.drain(i)


def test_it_goes_past_ranges_in_use_and_zones_that_may_not_be() -> None:
    with hot(shape([(0, ZONE_NORMAL, 1024, 8192), (0, ZONE_MOVABLE, 9216, 4096)])) as b:
        held = b.alloc(0, GFP_KERNEL)
        pfn = int(alloc_contig_pages(b.m, b.cpu(), 1024, GFP_KERNEL, 0, 0))
        assert pfn < 9216
        assert pfn != held & -1024
        pfn2 = int(alloc_contig_pages(b.m, b.cpu(), 1024, GFP_HIGHUSER_MOVABLE, 0, 0))
        assert pfn2 >= 9216
        b.free(held)
        give(b, pfn, 1024)
        give(b, pfn2, 1024)
        b.drain()


# --- CMA --------------------------------------------------------------------------------------------------------------


def test_the_area_is_given_out_and_taken_back() -> None:
    with hot(with_cma(), cma=CMA) as b:
        before = besides_hints(b)
        assert (b.vm.cma.base_pfn, b.vm.cma.count) == (AREA, CMA)
        first, second = alloc_cma(b, 100), alloc_cma(b, 100)
        assert (first, second) == (AREA, AREA + 100)
        assert alloc_cma(b, 64, 6) == AREA + 256
        assert alloc_cma(b, 8, 9) == AREA + 512
        assert alloc_cma(b, 56) == AREA + 200
        assert b.block(AREA).bits & 7 == MIGRATE_CMA
        assert validate(b.m) == []
        for pfn, pages in ((first, 100), (second, 100), (AREA + 256, 64), (AREA + 512, 8), (AREA + 200, 56)):
            assert cma_release(b.m, b.cpu(), pfn, pages)
        b.drain()
        assert validate(b.m) == []
        assert alloc_cma(b, CMA) == AREA
        assert alloc_cma(b, 1) == -1
        assert cma_release(b.m, b.cpu(), AREA, CMA)
        b.drain()
        assert besides_hints(b) == before


def test_requests_that_can_never_be_met() -> None:
    with hot(with_cma(), cma=CMA) as b:
        assert [alloc_cma(b, pages) for pages in (0, -1, CMA + 1)] == [-1] * 3
        assert alloc_cma(b, 1025, 11) in (-1, AREA + (-AREA) % 2048)
        assert not cma_release(b.m, b.cpu(), AREA - 1, 1)
        assert not cma_release(b.m, b.cpu(), AREA + CMA, 1)
        b.strict = False
    with hot(one_zone(8192)) as b:
        assert alloc_cma(b, 1) == -1


def test_a_busy_part_is_left_for_the_next() -> None:
    with hot(with_cma(), cma=CMA) as b:
        while True:  # movable pages that nobody can migrate, as far as one lies in the area
            pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
            if pfn >= AREA:
                break
        assert b.zone().vm_stat[NR_FREE_CMA_PAGES].counter < CMA or b.pcp_list(MIGRATE_MOVABLE)
        start = pfn & -512
        got = alloc_cma(b, 16, 4)
        assert got >= AREA
        assert not got <= pfn < got + 16
        assert b.page(got).refcount == 1
        assert cma_release(b.m, b.cpu(), got, 16)
        assert start >= AREA


def test_parts_never_overlap() -> None:
    with hot(with_cma(), cma=CMA) as b:
        held: list[tuple[int, int]] = []
        sizes = itertools.cycle((1, 7, 64, 200, 33, 512, 3))
        for step in range(60):
            pages = next(sizes)
            pfn = alloc_cma(b, pages, step % 5)
            if pfn >= 0:
                assert pfn & ((1 << step % 5) - 1) == 0
                held.append((pfn, pages))
            if step % 3 == 2 or pfn < 0:
                assert cma_release(b.m, b.cpu(), *held.pop(step % len(held)))
            covered = [p for pfn, pages in held for p in range(pfn, pfn + pages)]
            assert len(covered) == len(set(covered))
        for pfn, pages in held:
            assert cma_release(b.m, b.cpu(), pfn, pages)
        b.drain()
        assert alloc_cma(b, CMA) == AREA
        assert cma_release(b.m, b.cpu(), AREA, CMA)
        b.drain()
