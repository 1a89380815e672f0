"""Dirty pages of files: what is counted, in which order they are written, and by whom."""

from emu.mm.page_io import AOP_WRITEPAGE_ACTIVATE
from emu.mm.page_writeback import WB_KICKED, WB_START_ALL
from emu.zone.mm_types import AS_SHMEM, XA_SWAP
from emu.zone.page import PG_dirty, PG_locked, PG_reclaim, PG_swapcache, PG_writeback
from emu.zone.vmstat_items import (
    NR_DIRTIED,
    NR_FILE_DIRTY,
    NR_FILE_PAGES,
    NR_SHMEM,
    NR_WRITEBACK,
    NR_WRITTEN,
    NR_ZONE_WRITE_PENDING,
    PGPGOUT,
    PGROTATED,
    PSWPOUT,
)  # fmt: skip
from shm.atomic import clock_ns
from tests.bench import two_zones
from tests.mm.iobench import IoBench, iobench


def pages_of(b: IoBench, file: int, count: int, start: int = 0) -> list[int]:
    return [b.call("file_page", file, start + i) for i in range(count)]


def dirty_file(b: IoBench, count: int, pages: int = 64) -> tuple[int, list[int]]:
    """A file whose first pages are dirty."""
    file = b.new_file(pages)
    pfns = pages_of(b, file, count)
    for pfn in pfns:
        assert b.call("set_page_dirty", pfn)
    return file, pfns


def drop(b: IoBench, pfns: list[int]) -> None:
    """Out of the page cache, as truncation does."""
    b.call("lru_add_drain")
    for pfn in pfns:
        b.page(pfn).page_flags |= PG_locked
        b.page(pfn).refcount += 1
        b.call("cancel_dirty_page", pfn)
        b.call("delete_from_page_cache", pfn)
        b.call("unlock_page", pfn)
        b.call("put_page", pfn)


def queued(b: IoBench) -> list[int]:
    """Pages waiting for the disk, oldest first."""
    disk = b.vm.disk
    return [disk.queue[at % 1024].pfn for at in range(disk.tail, disk.head)]


def pending(b: IoBench) -> int:
    b.stat(NR_FILE_DIRTY)
    return sum(z.vm_stat[NR_ZONE_WRITE_PENDING].counter for z in b.m.nodes[0].node_zones)


def test_a_page_is_dirtied_once() -> None:
    with iobench() as b:
        file = b.new_file(8)
        (pfn,) = pages_of(b, file, 1)
        assert b.call("set_page_dirty", pfn)
        assert not b.call("set_page_dirty", pfn)
        assert (b.stat(NR_FILE_DIRTY), b.stat(NR_DIRTIED), pending(b)) == (1, 1, 1)
        assert (b.file(file).nr_dirty, b.task().nr_dirtied) == (1, 1)
        assert b.file(file).dirtied_when > 0
        drop(b, [pfn])
        assert (b.stat(NR_FILE_DIRTY), pending(b), b.file(file).nr_dirty) == (0, 0, 0)


def test_anonymous_and_tmpfs_pages_are_not_counted() -> None:
    with iobench() as b:
        anon = b.call("anon_page", 1, 0, 0)
        tmpfs = b.new_file(8, AS_SHMEM)
        (shmem,) = pages_of(b, tmpfs, 1)
        for pfn in (anon, shmem):
            assert b.call("set_page_dirty", pfn)
            assert not b.call("set_page_dirty", pfn)
            assert b.flags(pfn) & PG_dirty
        assert (b.stat(NR_FILE_DIRTY), b.stat(NR_DIRTIED), pending(b), b.file(tmpfs).nr_dirty) == (0, 0, 0, 0)
        assert b.call("clear_page_dirty_for_io", shmem)
        assert not b.call("clear_page_dirty_for_io", shmem)
        drop(b, [shmem])
        b.call("unlock_page", anon)
        b.call("put_page", anon)


def test_dirtying_takes_back_the_mark_of_reclaim() -> None:
    with iobench() as b:
        file = b.new_file(8)
        (pfn,) = pages_of(b, file, 1)
        b.page(pfn).page_flags |= PG_reclaim
        b.call("set_page_dirty", pfn)
        assert b.flags(pfn) & PG_reclaim == 0
        drop(b, [pfn])


def test_writing_a_page() -> None:
    with iobench() as b:
        _, (pfn,) = dirty_file(b, 1)
        b.page(pfn).page_flags |= PG_locked
        assert b.call("clear_page_dirty_for_io", pfn)
        assert (b.stat(NR_FILE_DIRTY), pending(b)) == (0, 0)
        assert b.call("writepage", pfn) == 0
        assert b.flags(pfn) & (PG_dirty | PG_writeback | PG_locked) == PG_writeback
        assert (b.stat(NR_WRITEBACK), pending(b), b.vm.wb.nr_writeback.counter, b.event(PGPGOUT)) == (1, 1, 1, 8)
        b.disk()
        assert (b.stat(NR_WRITEBACK), pending(b), b.stat(NR_WRITTEN), b.vm.wb.nr_written.counter) == (0, 0, 1, 1)
        assert b.flags(pfn) & PG_writeback == 0
        drop(b, [pfn])


def test_a_page_of_the_inactive_list_that_reclaim_marked_is_rotated() -> None:
    with iobench() as b:
        _, (pfn,) = dirty_file(b, 1)
        b.call("lru_add_drain")
        b.page(pfn).page_flags |= PG_locked
        b.call("clear_page_dirty_for_io", pfn)
        b.page(pfn).page_flags |= PG_reclaim
        b.call("writepage", pfn)
        b.disk()
        assert (b.event(PGROTATED), b.flags(pfn) & PG_reclaim) == (1, 0)
        drop(b, [pfn])


def test_zones_count_for_themselves() -> None:
    with iobench(two_zones()) as b:
        normal = b.m.nodes[0].node_zones[2]
        low, normal.watermark[1] = normal.watermark[1], 1 << 20
        _, pfns = dirty_file(b, 3)  # all from DMA32
        normal.watermark[1] = low
        b.stat(NR_FILE_DIRTY)
        assert [b.m.nodes[0].node_zones[z].vm_stat[NR_ZONE_WRITE_PENDING].counter for z in (1, 2)] == [3, 0]
        assert b.findings() == []
        drop(b, pfns)


def test_pages_are_written_in_index_order_in_chunks() -> None:
    with iobench() as b:
        file, pfns = dirty_file(b, 12)
        assert b.call("write_cache_pages", file, 5) == 0
        assert queued(b) == pfns[:5]
        assert b.file(file).writeback_index == 4
        assert b.call("write_cache_pages", file, 100) == 93
        assert queued(b) == pfns
        assert b.file(file).writeback_index == 0
        assert b.call("write_cache_pages", file, 100) == 100  # nothing is dirty
        b.disk()
        drop(b, pfns)


def test_a_page_that_is_being_written_is_left_alone() -> None:
    with iobench() as b:
        file, pfns = dirty_file(b, 3)
        assert b.call("write_cache_pages", file, 1) == 0
        b.call("set_page_dirty", pfns[0])  # again, while it is on its way
        b.file(file).writeback_index = 0
        assert b.call("write_cache_pages", file, 100) == 98
        assert queued(b) == pfns
        assert b.file(file).nr_dirty == 1
        b.disk()
        drop(b, pfns)


def test_the_flusher_writes_all_when_asked() -> None:
    with iobench() as b:
        first, old = dirty_file(b, 20)
        second, young = dirty_file(b, 20)
        b.vm.dirty_writeback_centisecs = 0
        b.file(first).dirtied_when, b.file(second).dirtied_when = 1000, 2000
        b.call("wakeup_flusher_threads")
        assert b.vm.wb.wb_state == WB_KICKED | WB_START_ALL
        assert b.flush()
        assert queued(b) == old + young
        assert b.vm.wb.wb_state == 0
        assert (b.file(first).dirtied_when, b.file(second).dirtied_when) == (0, 0)
        b.disk()
        drop(b, old + young)


def test_nothing_dirty_nobody_woken() -> None:
    with iobench() as b:
        b.call("wakeup_flusher_threads")
        assert b.vm.wb.wb_state == 0


def test_old_pages_are_written_young_ones_stay() -> None:
    with iobench() as b:
        old_file, old = dirty_file(b, 4)
        _, young = dirty_file(b, 4)
        b.file(old_file).dirtied_when = clock_ns() - 31_000_000_000
        b.vm.wb.last_old_flush = -10_000
        assert b.flush()
        assert queued(b) == old
        assert b.vm.wb.last_old_flush >= 0
        b.disk()
        drop(b, old + young)


def test_background_writeback_ends_at_the_threshold() -> None:
    with iobench() as b:
        b.vm.dirty_background_ratio, b.m.vm_dirty_ratio = 1, 40
        b.vm.dirty_writeback_centisecs = 0
        background = b.call("limits") >> 32
        files = [dirty_file(b, 20) for _ in range(background // 20 + 3)]
        b.stat(NR_FILE_DIRTY)
        assert b.call("over_background")
        b.call("wb_start_background_writeback")
        assert b.flush()
        b.stat(NR_FILE_DIRTY)
        assert not b.call("over_background")
        # the oldest file first, and a pass isn't ended in the middle of one
        written = queued(b)
        assert written == [pfn for _, pfns in files for pfn in pfns][: len(written)]
        assert len(written) % 20 == 0
        b.disk()
        drop(b, [pfn for _, pfns in files for pfn in pfns])


def test_tmpfs_goes_to_swap() -> None:
    with iobench(swap=64) as b:
        file = b.new_file(8, AS_SHMEM)
        (pfn,) = pages_of(b, file, 1, 3)
        b.page(pfn).page_flags |= PG_locked | PG_dirty
        b.page(pfn).refcount += 1
        assert b.stat(NR_SHMEM) == 1
        assert b.call("clear_page_dirty_for_io", pfn)
        assert b.call("writepage", pfn) == 0
        entry = b.entry_of(pfn)
        assert b.slot(file, 3) == entry << 2 | XA_SWAP
        assert (b.page(pfn).mapping, b.swap_count(entry).count, b.file(file).nrpages) == (0, 0x41, 0)
        assert b.flags(pfn) & (PG_swapcache | PG_writeback | PG_locked) == PG_swapcache | PG_writeback
        assert (b.stat(NR_SHMEM), b.stat(NR_FILE_PAGES), b.event(PSWPOUT)) == (0, 1, 1)
        b.disk()
        assert b.findings() == []
        b.call("put_page", pfn)
        b.call("lru_add_drain")


def test_tmpfs_stays_without_swap() -> None:
    with iobench(swap=0) as b:
        file = b.new_file(8, AS_SHMEM)
        (pfn,) = pages_of(b, file, 1)
        b.page(pfn).page_flags |= PG_locked
        assert b.call("writepage", pfn) == AOP_WRITEPAGE_ACTIVATE
        assert b.flags(pfn) & (PG_locked | PG_dirty | PG_writeback) == PG_locked | PG_dirty
        drop(b, [pfn])


def test_truncated_pages_are_not_written() -> None:
    with iobench() as b:
        file, pfns = dirty_file(b, 4)
        drop(b, pfns)
        assert b.call("write_cache_pages", file, 10) == 10
        assert b.vm.disk.head == 0
