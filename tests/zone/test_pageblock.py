"""Bits of a pageblock, and struct pages made when they are first needed."""

from itertools import pairwise

import pytest

from emu.zone.mmzone import MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE
from emu.zone.pageblock import PB_INITIALISED, PB_MIGRATE, PB_SKIP
from tests.bench import bench, core


def test_type_is_set_without_touching_other_bits() -> None:
    with bench() as b:
        pfn = 1024 + 700
        b.block(pfn).bits |= PB_SKIP
        core.set_pageblock_migratetype(b.m, pfn, MIGRATE_RECLAIMABLE)
        assert core.get_pfnblock_migratetype(b.m, pfn) == MIGRATE_RECLAIMABLE
        assert b.block(pfn).bits & ~PB_MIGRATE == PB_SKIP
        assert core.get_pfnblock_migratetype(b.m, pfn - 512) == MIGRATE_MOVABLE


@pytest.mark.parametrize(("wanted", "got"), [
    (MIGRATE_MOVABLE, MIGRATE_UNMOVABLE), (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE),
    (MIGRATE_HIGHATOMIC, MIGRATE_HIGHATOMIC), (MIGRATE_ISOLATE, MIGRATE_ISOLATE),
])  # fmt: skip
def test_without_grouping_by_mobility_all_is_unmovable(wanted: int, got: int) -> None:
    with bench() as b:
        b.m.page_group_by_mobility_disabled = 1
        core.set_pageblock_migratetype(b.m, 1024, wanted)
        assert core.get_pfnblock_migratetype(b.m, 1024) == got
        b.strict = False


def test_pages_are_made_when_their_block_is_taken_apart() -> None:
    with bench() as b:
        assert not any(b.block(p).bits & PB_INITIALISED for p in range(1024, 1024 + 8192, 512))
        pfn = b.alloc(10)
        made = [p for p in range(1024, 1024 + 8192, 512) if b.block(p).bits & PB_INITIALISED]
        assert made == [pfn, pfn + 512]
        assert all((b.page(p).page_flags, b.page(p).mapcount) == (2, -1) for p in range(pfn + 1, pfn + 1024))
        b.free(pfn, 10)


def test_half_that_stays_free_stays_unmade() -> None:
    with bench() as b:
        pfn = b.alloc(9)
        assert b.block(pfn).bits & PB_INITIALISED
        assert not b.block(pfn ^ 512).bits & PB_INITIALISED
        assert b.page(pfn ^ 512).mapcount == -1
        assert b.page((pfn ^ 512) + 1).mapcount == 0
        b.free(pfn, 9)


def test_bits_change_one_after_the_other() -> None:
    with bench() as b:
        for clear, add in pairwise((0, PB_SKIP, PB_MIGRATE, 0)):
            before = b.block(2048).bits
            core.change_bits(b.m, 2048, clear, add)
            assert b.block(2048).bits == before & ~clear | add
        core.set_pageblock_migratetype(b.m, 2048, MIGRATE_MOVABLE)
