"""Areas of address spaces, and their end."""

import pytest

from emu.mm.mmap import mm_create
from emu.zone.event import EV_FREE, EV_FREE_BATCHED
from emu.zone.mm_types import MMF_OOM_SKIP, MMF_OOM_VICTIM, VM_LOCKED, VM_SHARED, VM_WRITE
from emu.zone.page import PG_mlocked, PG_unevictable
from emu.zone.validate_mm import World
from tests.mm.mmbench import MmBench, mm_bench

EINVAL, ENOMEM, EAGAIN = 22, 12, 11


def areas(b: MmBench, mm_id: int) -> list[tuple[int, int]]:
    mm = b.mm_of(mm_id)
    return sorted((v.start, v.end) for v in mm.vmas[: mm.nr_vmas] if v.end)


def test_a_task_has_one_address_space() -> None:
    with mm_bench(mms=2) as b:
        assert [mm_create(b.m, b.cpu(), k, 0) for k in (0, 0, 1, 2, -1)] == [1, 0, 2, 0, 0]
        assert (b.user(0).mm, b.user(0).alive) == (1, 1)
        b.end(0)
        assert (b.user(0).mm, b.user(0).alive, mm_create(b.m, b.cpu(), 0, 0)) == (0, 0, 1)
        b.end(0)
        b.end(1)


def test_areas_dont_overlap() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        assert b.map(mm_id, 7, 2) == -EINVAL
        assert b.map(mm_id, 8, 0) == -EINVAL
        assert b.map(mm_id, b.vm.mm_slots - 1, 2) == -EINVAL
        assert b.map(mm_id, 8, 8, 5) == -EINVAL  # no such file
        for i in range(1, 8):
            assert b.map(mm_id, 8 * i, 8) == 0
        assert b.map(mm_id, 64, 8) == -ENOMEM
        assert b.mm_of(mm_id).total_vm == 64
        b.end()


def test_unmapping_the_middle_leaves_two_areas() -> None:
    with mm_bench() as b:
        file = b.new_file(20)
        b.fill(file, 20)
        mm_id = b.space()
        assert b.map(mm_id, 10, 10, file, VM_WRITE | VM_SHARED, 5) == 0
        assert b.touch_all(mm_id, 10, 10, 0) == 0
        assert b.munmap(mm_id, 13, 4) == 0
        assert areas(b, mm_id) == [(10, 13), (17, 20)]
        assert (b.mm_of(mm_id).total_vm, b.mm_of(mm_id).rss_stat[0].counter) == (6, 6)
        pfn = b.cached(file, 13)
        assert b.mapped(mm_id, 18) == pfn
        b.lock_page(pfn)
        assert b.page_referenced(pfn) & 0xFFFF == 1  # found through the new area
        b.unlock_page(pfn)
        assert b.touch(mm_id, 14, 0) == 0x40
        b.end()
        assert b.remove_file(file) == 0


def test_split_without_room_changes_nothing() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        for i in range(1, 8):
            b.map(mm_id, 8 * i, 8)
        b.touch_all(mm_id, 0, 64)
        assert b.munmap(mm_id, 2, 2) == -ENOMEM
        assert b.mm_of(mm_id).rss_stat[1].counter == 64
        assert b.munmap(mm_id, 0, 64) == 0
        assert (areas(b, mm_id), b.mm_of(mm_id).nr_page_tables) == ([], 0)
        b.end()


def test_page_table_goes_with_its_last_area() -> None:
    with mm_bench() as b:
        mm_id = b.space(8)
        b.map(mm_id, 100, 8)
        b.touch_all(mm_id, 0, 8)
        b.touch_all(mm_id, 100, 8)
        b.munmap(mm_id, 0, 8)
        assert b.mm_of(mm_id).nr_page_tables == 1
        b.munmap(mm_id, 100, 8)
        assert b.mm_of(mm_id).nr_page_tables == 0
        b.end()


def test_zapped_area_stays() -> None:
    with mm_bench() as b:
        mm_id = b.space(20)
        b.touch_all(mm_id, 0, 20)
        b.zap_page_range(mm_id, 5, 10)
        assert (b.mm_of(mm_id).rss_stat[1].counter, areas(b, mm_id)) == (10, [(0, 20)])
        assert b.touch_all(mm_id, 0, 20) == 0
        b.end()


@pytest.mark.parametrize("pages", [5, 600, 3000])
def test_exit_frees_everything(pages: int) -> None:
    """More than the gather holds by itself, and than one more page of it."""
    with mm_bench() as b:
        file = b.new_file(20)
        b.fill(file, 20)
        mm_id = b.space(pages)
        b.map(mm_id, pages + 10, 20, file)
        free = b.nr_free_now() + b.pcp().count
        assert b.touch_all(mm_id, 0, pages) == 0
        assert b.touch_all(mm_id, pages + 10, 20, 0) == 0
        b.end()
        mm = b.mm_of(mm_id)
        assert [int(c.counter) for c in mm.rss_stat] == [0, 0, 0, 0]
        assert (mm.nr_page_tables, mm.mm_users) == (0, 0)
        assert b.nr_free_now() + b.pcp().count == free
        assert b.event("pgalloc_normal") - b.event("pgfree") == len(World(b.m).used.pfn) == 20


def test_exit_frees_in_batches_the_last_page_first() -> None:
    """Eight pages fit in the gather; the others, and then the page table, in its first page."""
    with mm_bench() as b:
        mm_id = b.space(12)
        b.touch_all(mm_id, 0, 12)
        b.lru_add_drain()
        pfns = [b.mapped(mm_id, i) for i in range(12)]
        table = next(iter(set(World(b.m).used.pfn.tolist()) - set(pfns)))
        b.cpu().trace = 1
        b.end()
        b.cpu().trace = 0
        events = b.events()
        freed = [int(e["pfn"]) for e in events if e["kind"] == EV_FREE_BATCHED]
        assert freed == [*pfns[7::-1], table, *pfns[:7:-1]]
        plain = [int(e["pfn"]) for e in events if e["kind"] == EV_FREE]
        assert plain[:-1] == freed  # prepared in the same order; last the gather's own page
        assert plain[-1] not in (*pfns, table)


def test_victim_of_the_oom_killer_is_disregarded_from_then_on() -> None:
    with mm_bench() as b:
        mm_id = b.space(4)
        b.touch_all(mm_id, 0, 4)
        b.user(0).oom_victim = 1
        b.mm_of(mm_id).mm_flags |= MMF_OOM_VICTIM
        b.end()
        assert b.mm_of(mm_id).mm_flags & MMF_OOM_SKIP
        assert b.user(0).oom_victim == 0


# --- mlock ------------------------------------------------------------------------------------------------------------


def test_mlock_faults_in_and_keeps() -> None:
    with mm_bench() as b:
        mm_id = b.space(20)
        b.touch_all(mm_id, 0, 3)
        b.lru_add_drain()
        assert b.mlock(mm_id, 2, 4) == 0
        assert areas(b, mm_id) == [(0, 2), (2, 6), (6, 20)]
        assert (b.mm_of(mm_id).locked_vm, b.zone_stat("nr_mlock")) == (4, 4)
        b.lru_add_drain()
        locked = {b.mapped(mm_id, i) for i in range(2, 6)}
        assert set(b.lru(4)) == locked
        assert all(b.flags(pfn) & (PG_mlocked | PG_unevictable) == PG_mlocked | PG_unevictable for pfn in locked)
        assert b.munlock(mm_id, 2, 4) == 0
        b.lru_add_drain()
        assert (b.lru(4), b.zone_stat("nr_mlock"), b.event("unevictable_pgs_munlocked")) == ([], 0, 4)
        assert b.mm_of(mm_id).locked_vm == 0
        b.end()


def test_mlock_of_a_hole() -> None:
    with mm_bench() as b:
        mm_id = b.space(4)
        b.map(mm_id, 6, 4)
        assert b.mlock(mm_id, 0, 10) == -ENOMEM
        assert b.mlock(mm_id, 20, 2) == -ENOMEM
        assert b.mlock(mm_id, -1, 2) == -EINVAL
        b.end()


def test_mlock_without_memory() -> None:
    with mm_bench() as b:
        mm_id = b.space(20)
        b.touch_all(mm_id, 0, 1)
        taken = b.take_all()
        assert b.mlock(mm_id, 0, 10) == -EAGAIN
        for pfn in taken:
            b.free(pfn)
        b.end()


def test_unmapping_unlocks() -> None:
    with mm_bench() as b:
        mm_id = b.space(4, VM_WRITE | VM_LOCKED)
        b.touch_all(mm_id, 0, 4)
        assert b.munmap(mm_id, 0, 2) == 0
        assert (b.mm_of(mm_id).locked_vm, b.zone_stat("nr_mlock")) == (2, 2)
        b.end()
        assert b.zone_stat("nr_mlock") == 0
