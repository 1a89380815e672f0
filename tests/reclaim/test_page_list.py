"""What becomes of each page that is looked at."""

import pytest

from emu.zone.gfp import __GFP_IO, __GFP_RECLAIM, GFP_KERNEL, GFP_NOFS, PF_KSWAPD, PF_SWAPWRITE
from emu.zone.mm_types import AS_SHMEM, PTE_PRESENT, PTE_SWAP, PTE_YOUNG, VM_EXEC, VM_LOCKED
from emu.zone.page import (
    PG_active,
    PG_dirty,
    PG_locked,
    PG_lru,
    PG_mlocked,
    PG_reclaim,
    PG_referenced,
    PG_swapcache,
    PG_workingset,
    PG_writeback,
)  # fmt: skip
from emu.zone.vmstat_items import (
    NR_ISOLATED_ANON,
    NR_ISOLATED_FILE,
    NR_VMSCAN_IMMEDIATE,
    NR_VMSCAN_WRITE,
    PGACTIVATE,
    PGDEACTIVATE,
    PGREFILL,
    PGSCAN_ANON,
    PGSCAN_DIRECT,
    PGSCAN_FILE,
    PGSCAN_KSWAPD,
    PGSTEAL_DIRECT,
    PGSTEAL_FILE,
    PSWPOUT,
)  # fmt: skip
from tests.reclaim.entries import (
    MAY_SWAP,
    MAY_UNMAP,
    MAY_WRITEPAGE,
    lock,
    references,
    shrink,
    unlock,
    write_out,
)  # fmt: skip
from tests.reclaim.lists import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    UNEVICTABLE,
    Lists,
    dirty,
    map_page,
    write_done,
    writeback,
)  # fmt: skip

ALL = MAY_WRITEPAGE | MAY_UNMAP | MAY_SWAP
RECLAIM, RECLAIM_CLEAN, KEEP, ACTIVATE = range(4)
PGDAT_DIRTY, PGDAT_WRITEBACK = 1, 2
DIRTY, UNQUEUED, CONGESTED, WRITEBACK, IMMEDIATE, FILE_TAKEN, TAKEN, SCANNED = range(8)


def run(
    lists: Lists, lru: int = INACTIVE_FILE, nr: int = 32, gfp: int = GFP_KERNEL, may: int = ALL, target: int = 0
) -> int:
    """Pages reclaimed of one batch."""
    return int(shrink(lists.m, lists.b.cpu(), lists.lruvec(target), lru, nr, gfp, may, target))


def found(lists: Lists) -> list[int]:
    return [int(w) for w in lists.b.words()[:8]]


def be_kswapd(lists: Lists) -> None:
    lists.b.task().process_flags |= PF_KSWAPD | PF_SWAPWRITE


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("young", "referenced", "vm_flags", "verdict", "still"),
    [
        (0, 0, 0, RECLAIM, 0),
        (0, 1, 0, RECLAIM_CLEAN, 0),
        (1, 0, 0, KEEP, 1),
        (1, 1, 0, ACTIVATE, 1),
        (2, 0, 0, ACTIVATE, 1),
        (1, 0, VM_EXEC, ACTIVATE, 1),
        (0, 0, VM_EXEC, RECLAIM, 0),
        (1, 1, VM_LOCKED, RECLAIM, 0),
    ],
)
def test_references_of_a_file_page(
    lists: Lists, young: int, referenced: int, vm_flags: int, verdict: int, still: int
) -> None:
    """``young``: how many of two mappings were used."""
    file = lists.file(4)
    (pfn,) = lists.fill_file(file, 1)
    for mm in (1, 2):
        lists.space(mm, vm_flags=vm_flags, file=file)
        map_page(lists.m, lists.b.cpu(), mm, 0, pfn)
        if young >= mm:
            lists.touch(mm, 0)
    if referenced:
        lists.b.page(pfn).page_flags |= PG_referenced
    assert lock(lists.m, pfn)
    assert references(lists.m, lists.b.cpu(), pfn) == verdict
    unlock(lists.m, lists.b.cpu(), pfn)
    assert bool(lists.flags(pfn) & PG_referenced) == bool(still)
    if not vm_flags & VM_LOCKED:
        assert not lists.pte(1, 0).value & PTE_YOUNG and not lists.pte(2, 0).value & PTE_YOUNG


@pytest.mark.parametrize(
    ("young", "referenced", "verdict"),
    [(0, 0, RECLAIM), (0, 1, RECLAIM), (1, 0, KEEP), (1, 1, ACTIVATE)],
)
def test_references_of_an_anonymous_page(lists: Lists, young: int, referenced: int, verdict: int) -> None:
    lists.space(vm_flags=VM_EXEC)
    (pfn,) = lists.fill_anon(1)
    if young:
        lists.touch(1, 0)
    if referenced:
        lists.b.page(pfn).page_flags |= PG_referenced
    assert lock(lists.m, pfn)
    assert references(lists.m, lists.b.cpu(), pfn) == verdict
    unlock(lists.m, lists.b.cpu(), pfn)


# --- clean pages of files ---------------------------------------------------------------------------------------------


def test_clean_cache_is_freed_and_leaves_shadows(lists: Lists) -> None:
    file = lists.file(64)
    p = lists.fill_file(file, 40)
    assert run(lists) == 32
    assert lists.on(INACTIVE_FILE) == [*reversed(p[32:])]
    assert lists.mapping(file).nrpages == 8 and lists.mapping(file).nrexceptional == 32
    assert all(lists.b.page(q).refcount == 0 for q in p[:32])
    assert [lists.count(i) for i in (PGSCAN_DIRECT, PGSCAN_FILE, PGSTEAL_DIRECT, PGSTEAL_FILE)] == [32] * 4
    assert lists.node_state(NR_ISOLATED_FILE) == 0
    assert lists.lruvec().nonresident_age.counter == 32


def test_pages_in_use_stay(lists: Lists) -> None:
    file = lists.file(8)
    p = lists.fill_file(file, 5)
    assert lock(lists.m, p[0])  # locked: not even looked at
    lists.b.page(p[1]).refcount += 1  # somebody holds it
    lists.space(file=file)
    map_page(lists.m, lists.b.cpu(), 1, 2, p[2])
    lists.touch(1, 2)
    assert run(lists) == 2
    assert found(lists)[SCANNED] == 4
    assert lists.on(INACTIVE_FILE) == [p[2], p[1], p[0]]
    assert lists.flags(p[2]) & PG_referenced
    lists.touch(1, 2)
    assert run(lists) == 0
    assert lists.on(ACTIVE_FILE) == [p[2]], "used a second time"
    assert lists.count(PGACTIVATE) == 1
    unlock(lists.m, lists.b.cpu(), p[0])
    lists.b.page(p[1]).refcount -= 1
    assert run(lists) == 2


def test_mapped_pages_are_unmapped_or_spared(lists: Lists) -> None:
    file = lists.file(8)
    p = lists.fill_file(file, 2)
    mm = lists.space(file=file)
    map_page(lists.m, lists.b.cpu(), 1, 0, p[0])
    assert run(lists, may=MAY_WRITEPAGE) == 1, "isolation leaves the mapped one out"
    assert lists.on(INACTIVE_FILE) == [p[0]]
    assert run(lists) == 1
    assert lists.pte(1, 0).value == 0 and mm.rss_stat[0].counter == 0


def test_an_mlocked_mapping_makes_the_page_unevictable(lists: Lists) -> None:
    file = lists.file(8)
    (pfn,) = lists.fill_file(file, 1)
    lists.space(file=file, vm_flags=VM_LOCKED)
    map_page(lists.m, lists.b.cpu(), 1, 0, pfn)
    assert run(lists) == 0
    lists.drain()
    assert lists.flags(pfn) & PG_mlocked
    assert lists.on(UNEVICTABLE) == [pfn]


# --- dirty pages and writeback ----------------------------------------------------------------------------------------


def test_direct_reclaim_leaves_dirty_files_to_the_flusher(lists: Lists) -> None:
    p = lists.fill_file(lists.file(8), 2)
    for q in p:
        dirty(lists.m, lists.b.cpu(), q)
    assert run(lists) == 0
    assert found(lists)[:3] == [2, 2, 0]
    assert sorted(lists.on(ACTIVE_FILE)) == p
    assert all(lists.flags(q) & PG_reclaim for q in p)
    assert lists.node_state(NR_VMSCAN_IMMEDIATE) == 2 and lists.node_state(NR_VMSCAN_WRITE) == 0
    assert lists.vm.wb.wb_state, "nothing but unqueued dirty pages: the flusher is nudged"


def test_the_flusher_is_not_nudged_for_some_dirty_pages(lists: Lists) -> None:
    p = lists.fill_file(lists.file(8), 2)
    dirty(lists.m, lists.b.cpu(), p[0])
    assert run(lists) == 1
    assert not lists.vm.wb.wb_state


@pytest.mark.parametrize(("kswapd", "seen_before", "dirty_node"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)])
def test_only_kswapd_writes_files_and_only_when_it_must(
    swapping: Lists, kswapd: int, seen_before: int, dirty_node: int
) -> None:
    lists = swapping
    (pfn,) = lists.fill_file(lists.file(8), 1)
    dirty(lists.m, lists.b.cpu(), pfn)
    if kswapd:
        be_kswapd(lists)
    if seen_before:
        lists.b.page(pfn).page_flags |= PG_reclaim
    lists.node().pgdat_flags = PGDAT_DIRTY if dirty_node else 0
    assert run(lists) == 0
    written = kswapd and seen_before and dirty_node
    assert lists.vm.disk.head == written
    assert lists.node_state(NR_VMSCAN_WRITE) == written
    assert bool(lists.flags(pfn) & PG_writeback) == bool(written)
    assert lists.on(INACTIVE_FILE if written else ACTIVE_FILE) == [pfn]
    lists.run_disk()
    if written:
        assert not lists.flags(pfn) & (PG_writeback | PG_reclaim | PG_dirty)
        assert run(lists) == 1


def test_writeback_first_time_marks_the_page(lists: Lists) -> None:
    (pfn,) = lists.fill_file(lists.file(8), 1)
    writeback(lists.m, lists.b.cpu(), pfn)
    be_kswapd(lists)
    lists.node().pgdat_flags = PGDAT_WRITEBACK
    assert run(lists) == 0
    assert found(lists) == [1, 0, 0, 1, 0, 1, 1, 1]
    assert lists.on(ACTIVE_FILE) == [pfn] and lists.flags(pfn) & PG_reclaim
    write_done(lists.m, lists.b.cpu(), pfn)


@pytest.mark.parametrize(("kswapd", "flag", "immediate"), [(1, 1, 1), (1, 0, 0), (0, 1, 0)])
def test_writeback_second_time_stalls_kswapd(lists: Lists, kswapd: int, flag: int, immediate: int) -> None:
    (pfn,) = lists.fill_file(lists.file(8), 1)
    writeback(lists.m, lists.b.cpu(), pfn)
    lists.b.page(pfn).page_flags |= PG_reclaim
    if kswapd:
        be_kswapd(lists)
    lists.node().pgdat_flags = PGDAT_WRITEBACK if flag else 0
    assert run(lists) == 0
    assert found(lists)[CONGESTED] == 1, "it cycles through the list"
    assert found(lists)[IMMEDIATE] == immediate and found(lists)[WRITEBACK] == 1 - immediate
    write_done(lists.m, lists.b.cpu(), pfn)


def test_old_cgroups_wait_for_writeback(lists: Lists) -> None:
    (pfn,) = lists.fill_file(lists.file(8), 1)
    writeback(lists.m, lists.b.cpu(), pfn)
    lists.b.page(pfn).page_flags |= PG_reclaim
    lists.vm.legacy_memcg = 1
    lists.m.stop = 1  # the wait ends at once
    shrink(lists.m, lists.b.cpu(), lists.lruvec(), INACTIVE_FILE, 32, GFP_KERNEL, ALL, 1)
    lists.m.stop = 0
    assert found(lists)[WRITEBACK] == 0
    assert lists.on(INACTIVE_FILE) == [pfn] and not lists.flags(pfn) & PG_locked
    shrink(lists.m, lists.b.cpu(), lists.lruvec(), INACTIVE_FILE, 32, GFP_NOFS, ALL, 1)
    assert found(lists)[WRITEBACK] == 1, "but not those who may not enter the file system"
    assert lists.on(ACTIVE_FILE) == [pfn]
    write_done(lists.m, lists.b.cpu(), pfn)


def test_congestion_keeps_direct_reclaim_from_writing(swapping: Lists) -> None:
    lists = swapping
    (pfn,) = lists.fill_file(lists.file(8), 1)
    dirty(lists.m, lists.b.cpu(), pfn)
    lists.vm.nr_wb_congested.counter = 1
    lists.b.page(pfn).refcount += 1  # isolation's
    assert lock(lists.m, pfn)
    assert write_out(lists.m, lists.b.cpu(), pfn) == 0, "PAGE_KEEP"
    be_kswapd(lists)
    assert write_out(lists.m, lists.b.cpu(), pfn) == 2, "PAGE_SUCCESS"
    lists.vm.nr_wb_congested.counter = 0
    lists.run_disk()
    lists.b.page(pfn).refcount -= 1


# --- swap -------------------------------------------------------------------------------------------------------------


def test_anonymous_pages_go_to_swap_and_are_freed_when_written(swapping: Lists) -> None:
    lists = swapping
    mm = lists.space()
    p = lists.fill_anon(4)
    assert run(lists, INACTIVE_ANON) == 0
    assert lists.count(PSWPOUT) == 4 and lists.vm.disk.head == 4
    assert lists.on(INACTIVE_ANON) == [*reversed(p)]
    assert all(lists.flags(q) & PG_writeback and lists.flags(q) & PG_swapcache for q in p)
    assert all(lists.pte(1, i).value & (PTE_SWAP | PTE_PRESENT) == PTE_SWAP for i in range(4))
    assert mm.rss_stat[1].counter == 0 and mm.rss_stat[2].counter == 4
    assert lists.lruvec().anon_cost > 0 and lists.lruvec().file_cost == 0
    lists.run_disk()
    assert run(lists, INACTIVE_ANON) == 4
    assert lists.sizes() == [0] * 5
    assert lists.swap.inuse_pages == 4 and lists.swap.nrpages == 0
    assert lists.count(PGSCAN_ANON) == 8 and lists.node_state(NR_ISOLATED_ANON) == 0


@pytest.mark.parametrize(
    ("gfp", "may", "kept"),
    [(__GFP_RECLAIM, ALL, "inactive"), (GFP_KERNEL, MAY_UNMAP, "inactive"), (__GFP_RECLAIM | __GFP_IO, ALL, "swap")],
)
def test_who_may_swap_out(swapping: Lists, gfp: int, may: int, kept: str) -> None:
    lists = swapping
    lists.space()
    (pfn,) = lists.fill_anon(1)
    assert run(lists, INACTIVE_ANON, gfp=gfp, may=may) == 0
    assert lists.on(INACTIVE_ANON) == [pfn]
    assert bool(lists.flags(pfn) & PG_writeback) == (kept == "swap")
    assert bool(lists.flags(pfn) & PG_swapcache) == (may == MAY_UNMAP or kept == "swap")
    lists.run_disk()


def test_without_a_slot_an_anonymous_page_is_activated(lists: Lists) -> None:
    lists.space()
    (pfn,) = lists.fill_anon(1)
    assert run(lists, INACTIVE_ANON) == 0
    assert lists.on(ACTIVE_ANON) == [pfn]


def test_tmpfs_goes_to_swap(swapping: Lists) -> None:
    lists = swapping
    file = lists.file(8, AS_SHMEM)
    p = lists.fill_file(file, 2)
    for q in p:
        lists.b.page(q).page_flags |= PG_dirty
    assert lists.on(INACTIVE_ANON) == [*reversed(p)]
    assert run(lists, INACTIVE_ANON) == 0
    lists.run_disk()
    assert run(lists, INACTIVE_ANON) == 2
    assert lists.swap.inuse_pages == 2


# --- active lists -----------------------------------------------------------------------------------------------------


def test_active_pages_lose_their_place_but_executables_in_use_keep_it(lists: Lists) -> None:
    file = lists.file(8)
    p = lists.fill_file(file, 4)
    lists.space(file=file, vm_flags=VM_EXEC)
    for i in (0, 1):
        map_page(lists.m, lists.b.cpu(), 1, i, p[i])
    lists.touch(1, 0)
    run(lists)  # the two unmapped ones go, the third is unmapped; the used one becomes active
    assert lists.on(ACTIVE_FILE) == [p[0]]
    lists.touch(1, 0)
    run(lists, ACTIVE_FILE)
    assert lists.on(ACTIVE_FILE) == [p[0]] and lists.count(PGREFILL) == 1 and lists.count(PGDEACTIVATE) == 0
    run(lists, ACTIVE_FILE)
    assert lists.on(INACTIVE_FILE) == [p[0]] and lists.count(PGDEACTIVATE) == 1
    assert lists.flags(p[0]) & (PG_active | PG_lru | PG_workingset) == PG_lru | PG_workingset


def test_kswapd_counts_for_itself(lists: Lists) -> None:
    lists.fill_file(lists.file(8), 4)
    be_kswapd(lists)
    assert run(lists) == 4
    assert lists.count(PGSCAN_KSWAPD) == 4 and lists.count(PGSCAN_DIRECT) == 0
