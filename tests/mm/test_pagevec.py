"""Pages reach the LRU lists by fifteens, and move between them."""

import pytest

from emu.zone.mm_types import VM_LOCKED
from emu.zone.mmzone import PAGEVEC_SIZE
from emu.zone.page import PG_active, PG_dirty, PG_lru, PG_mlocked, PG_reclaim, PG_referenced
from shm.atomic import load_acquire
from tests.bench import core, one_zone, two_nodes
from tests.mm.mmbench import Happened, MmBench, Thread, mm_bench

INACTIVE_ANON, ACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE, UNEVICTABLE = range(5)


def file_pages(b: MmBench, count: int) -> list[int]:
    """Clean pages of a file, on the inactive list, unreferenced."""
    pfns = b.fill(b.new_file(count), count)
    b.lru_add_drain()
    return pfns


def test_a_full_pagevec_goes_to_the_lru_in_order() -> None:
    with mm_bench() as b:
        mm_id = b.space(64)
        assert b.touch_all(mm_id, 0, PAGEVEC_SIZE - 1) == 0
        assert b.lru(INACTIVE_ANON) == []
        assert not b.flags(b.mapped(mm_id, 0)) & PG_lru
        assert b.page(b.mapped(mm_id, 0)).refcount == 2
        b.touch_all(mm_id, PAGEVEC_SIZE - 1, 1)
        assert b.lru(INACTIVE_ANON) == [b.mapped(mm_id, i) for i in range(PAGEVEC_SIZE - 1, -1, -1)]
        assert b.page(b.mapped(mm_id, 0)).refcount == 1
        assert b.lru_sizes() == [PAGEVEC_SIZE, 0, 0, 0, 0]
        assert b.node_stat("nr_inactive_anon") == b.zone_stat("nr_zone_inactive_anon") == PAGEVEC_SIZE
        b.end()
        assert b.lru_sizes() == [0] * 5


def test_each_node_has_lists_of_its_own() -> None:
    with mm_bench(two_nodes()) as b:
        file = b.new_file(8)
        for i in range(8):
            assert b.vfs_write(file, i, cpu=i & 1) == 0
        b.lru_add_drain(cpu=0)
        b.lru_add_drain(cpu=1)
        for nid in range(2):
            assert b.lru(INACTIVE_FILE, nid=nid) == [b.cached(file, i) for i in (6 + nid, 4 + nid, 2 + nid, nid)]


def test_second_access_activates() -> None:
    with mm_bench() as b:
        first, second = file_pages(b, 2)
        b.mark_page_accessed(first)
        assert b.flags(first) & (PG_referenced | PG_active) == PG_referenced
        age = b.lruvec().nonresident_age.counter
        b.mark_page_accessed(first)
        assert b.lruvec().nonresident_age.counter == age + 1
        assert not b.flags(first) & PG_active  # queued
        b.lru_add_drain()
        assert b.flags(first) & (PG_referenced | PG_active) == PG_active
        assert (b.lru(ACTIVE_FILE), b.lru(INACTIVE_FILE)) == ([first], [second])
        assert b.event("pgactivate") == 1
        b.mark_page_accessed(first)
        b.mark_page_accessed(first)
        assert b.flags(first) & (PG_referenced | PG_active) == PG_referenced | PG_active


def test_page_that_waits_in_this_cpus_pagevec_becomes_active_there() -> None:
    with mm_bench(one_zone(cpus=2)) as b:
        file = b.new_file(2)
        for i in range(2):
            b.vfs_write(file, i, cpu=i)
        own, others = b.cached(file, 0), b.cached(file, 1)
        for pfn in (own, own, others, others):
            b.mark_page_accessed(pfn)
        assert b.flags(own) & PG_active
        assert not b.flags(others) & (PG_active | PG_referenced)  # the kernel forgets it, too
        b.lru_add_drain(cpu=0)
        b.lru_add_drain(cpu=1)
        assert (b.lru(ACTIVE_FILE), b.lru(INACTIVE_FILE)) == ([own], [others])
        assert b.event("pgactivate") == 0  # it was never on the inactive list


def test_rotation_goes_to_the_tail() -> None:
    with mm_bench() as b:
        pfns = file_pages(b, 3)
        b.activate_page(pfns[2])
        b.lru_add_drain()
        for pfn in pfns[1:]:
            b.rotate_reclaimable_page(pfn)
        assert b.lru(INACTIVE_FILE) == [pfns[1], pfns[0]]
        b.lru_add_drain()
        assert b.lru(INACTIVE_FILE) == [pfns[0], pfns[1], pfns[2]]
        assert b.event("pgrotated") == 2


@pytest.mark.parametrize("flag", [PG_dirty, 0])
def test_dirty_page_is_not_rotated(flag: int) -> None:
    with mm_bench() as b:
        pfns = file_pages(b, 2)
        if flag:
            b.set_page_dirty(pfns[1])
        b.rotate_reclaimable_page(pfns[1])
        assert b.cpu().pagevecs[1].nr == (0 if flag else 1)
        b.lru_add_drain()


def test_deactivated_file_pages() -> None:
    """Clean ones go to the tail, dirty ones to the head with PG_reclaim, mapped ones stay."""
    with mm_bench() as b:
        file = b.new_file(4)
        pfns = b.fill(file, 4)
        b.lru_add_drain()
        mm_id = b.space(4, file=file)
        assert b.touch_all(mm_id, 3, 1, write=0) == 0
        b.set_page_dirty(pfns[0])
        b.activate_page(pfns[2])
        b.lru_add_drain()
        for pfn in pfns:
            b.deactivate_file_page(pfn)
        b.lru_add_drain()
        assert b.lru(INACTIVE_FILE) == [pfns[0], pfns[3], pfns[1], pfns[2]]
        assert [bool(b.flags(pfn) & PG_reclaim) for pfn in pfns] == [True, False, False, False]
        assert (b.event("pgdeactivate"), b.event("pgrotated")) == (1, 2)
        b.end()


def test_pages_of_a_locked_area_are_unevictable() -> None:
    with mm_bench() as b:
        mm_id = b.space(2, vm_flags=2 | VM_LOCKED)
        b.touch_all(mm_id, 0, 2)
        b.lru_add_drain()
        assert sorted(b.lru(UNEVICTABLE)) == sorted(b.mapped(mm_id, i) for i in range(2))
        assert b.flags(b.mapped(mm_id, 0)) & PG_mlocked
        assert (b.zone_stat("nr_mlock"), b.event("unevictable_pgs_mlocked"), b.event("unevictable_pgs_culled")) == (
            2,
            2,
            2,
        )
        b.end()
        assert b.zone_stat("nr_mlock") == 0


def test_last_reference_frees_a_page_from_its_list() -> None:
    with mm_bench() as b:
        file = b.new_file(2)
        pfns = b.fill(file, 2)
        b.lru_add_drain()
        b.lock_page(pfns[1])
        b.page(pfns[1]).refcount += 1
        b.delete_from_page_cache(pfns[1])
        b.unlock_page(pfns[1])
        assert b.lru(INACTIVE_FILE) == [pfns[1], pfns[0]]
        b.put_page(pfns[1])
        assert b.lru(INACTIVE_FILE) == [pfns[0]]
        assert b.pcp_list(1)[0] == pfns[1]


def test_draining_all_cpus_waits_for_each() -> None:
    with mm_bench(one_zone(cpus=3)) as b:
        file = b.new_file(3)
        for i in range(3):
            b.vfs_write(file, i, cpu=i)
        over = Happened()

        def serve() -> None:
            while not over.is_set():
                for i in (1, 2):
                    core.poll(b.m, b.cpu(i))

        thread = Thread(target=serve)
        thread.start()
        b.lru_add_drain_all()
        over.set()
        thread.join()
        assert len(b.lru(INACTIVE_FILE)) == 3
        assert [load_acquire(b.cpu(i), "work_head") for i in range(3)] == [0, 1, 1]


def test_cost_is_halved_when_it_outgrows_the_lists() -> None:
    with mm_bench() as b:
        b.m.nodes[0].vm_stat[0].counter = 400  # inactive_anon
        b.lru_note_cost(b.lruvec(), 1, 60)
        b.lru_note_cost(b.lruvec(), 0, 40)
        assert (b.lruvec().file_cost, b.lruvec().anon_cost) == (60, 40)
        b.lru_note_cost(b.lruvec(), 1, 1)
        assert (b.lruvec().file_cost, b.lruvec().anon_cost) == (30, 20)
        b.m.nodes[0].vm_stat[0].counter = 0
        b.lru_note_cost(b.lruvec(2), 0, 0)
