"""Swap slots and the swap cache: who may have a slot, and that a page that comes back is the one that went."""

import pytest

from emu.config import ConfigError, make_config
from emu.mm.swapfile import SWAP_HAS_CACHE
from emu.zone.mm_types import XA_PAGE, XA_SHADOW
from emu.zone.page import PG_dirty, PG_locked, PG_readahead, PG_reclaim, PG_swapcache, PG_uptodate, PG_writeback
from emu.zone.vmstat_items import NR_FILE_PAGES, NR_WRITEBACK, NR_WRITTEN, PSWPIN, PSWPOUT, SWAP_RA, SWAP_RA_HIT
from tests.mm.iobench import IoBench, io, iobench


def slots_of(b: IoBench, count: int) -> list[int]:
    return [b.call("get_swap_page") for _ in range(count)]


def free_all(b: IoBench, entries: list[int]) -> None:
    for entry in entries:
        b.call("put_swap_page", entry)


def swap_out(b: IoBench, pfns: list[int]) -> list[int]:
    """What reclaim does with mapped pages: a slot, a swap entry in the table, out to the disk, the page gone."""
    entries = []
    for pfn in pfns:
        assert b.call("add_to_swap", pfn)
        entries.append(b.entry_of(pfn))
        assert b.call("swap_duplicate", entries[-1]) == 0
        b.call("put_page", pfn)  # the table entry's
        assert b.call("clear_page_dirty_for_io", pfn)
        assert b.call("writepage", pfn) == 0
    b.call("lru_add_drain")
    return entries


def drop_written(b: IoBench, pfns: list[int]) -> None:
    """Reclaim's second look: written and clean, the page leaves the swap cache and is free."""
    for pfn in pfns:
        b.page(pfn).page_flags |= PG_locked
        b.page(pfn).refcount += 1
        b.call("delete_from_swap_cache", pfn)
        b.call("unlock_page", pfn)
        b.call("put_page", pfn)


def test_slots_are_given_out_in_order_and_slot_0_never() -> None:
    with iobench(swap=64) as b:
        assert b.ask("total_swap_pages") == 63
        taken = slots_of(b, 63)
        assert taken == list(range(1, 64))
        assert b.call("get_swap_page") == 0
        assert (b.vm.swap.lowest_bit, b.vm.swap.highest_bit, b.ask("get_nr_swap_pages")) == (64, 0, 0)
        free_all(b, [40, 7])
        assert (b.vm.swap.lowest_bit, b.vm.swap.highest_bit) == (7, 40)
        assert {b.call("get_swap_page"), b.call("get_swap_page")} == {7, 40}
        free_all(b, taken)
        assert b.ask("get_nr_swap_pages") == 63


def test_without_swap_there_is_no_slot() -> None:
    with iobench() as b:
        assert b.call("get_swap_page") == 0
        pfn = b.call("anon_page", 1, 0, 0)
        assert not b.call("add_to_swap", pfn)
        assert b.flags(pfn) & (PG_swapcache | PG_dirty) == 0
        b.call("unlock_page", pfn)
        b.call("put_page", pfn)
        b.call("lru_add_drain")


def test_a_used_up_cluster_is_followed_by_the_first_empty_one() -> None:
    with iobench(swap=2048) as b:
        first = slots_of(b, 256)
        assert first == list(range(1, 257))
        free_all(b, first[:200])  # room at the bottom, but no whole cluster
        assert b.call("get_swap_page") == 257
        free_all(b, [*first[200:], 257])


def test_scattered_slots_are_found_when_no_cluster_is_empty() -> None:
    with iobench(swap=512) as b:
        taken = slots_of(b, 511)
        free_all(b, taken[::5])
        found = slots_of(b, len(taken[::5]))
        assert sorted(found) == taken[::5]
        assert b.call("get_swap_page") == 0
        free_all(b, taken)


def test_counts_of_a_slot() -> None:
    with iobench(swap=64) as b:
        entry = b.call("get_swap_page")
        assert b.swap_count(entry).count == SWAP_HAS_CACHE
        assert b.call("swapcache_prepare", entry) == -17
        assert b.call("swap_duplicate", entry) == 0
        b.call("put_swap_page", entry)
        assert (b.swap_count(entry).count, b.vm.swap.inuse_pages) == (1, 1)
        for _ in range(0x3D):
            assert b.call("swap_duplicate", entry) == 0
        assert b.call("swap_duplicate", entry) == -12
        for _ in range(0x3E):
            b.call("swap_free", entry)
        assert (b.swap_count(entry).count, b.vm.swap.inuse_pages) == (0, 0)
        assert b.call("swap_duplicate", entry) == -2
        assert b.call("swapcache_prepare", entry) == -2
        assert b.call("swap_duplicate", 64) == -22


def test_swap_is_full_beyond_half() -> None:
    with iobench(swap=101) as b:
        taken = slots_of(b, 50)
        assert not b.ask("vm_swap_full")
        taken += slots_of(b, 1)
        assert b.ask("vm_swap_full")
        free_all(b, taken)


def test_a_page_goes_out_and_comes_back() -> None:
    with iobench(swap=64) as b:
        pfn = b.call("anon_page", 1, 5, 0)
        files = b.stat(NR_FILE_PAGES)
        (entry,) = swap_out(b, [pfn])
        assert b.swap_slot(entry).value == pfn << 2 | XA_PAGE
        assert b.flags(pfn) & (PG_swapcache | PG_writeback | PG_dirty | PG_locked) == PG_swapcache | PG_writeback
        assert (b.stat(NR_FILE_PAGES), b.stat(NR_WRITEBACK), b.event(PSWPOUT)) == (files + 1, 1, 1)
        b.disk()
        assert (b.flags(pfn) & PG_writeback, b.stat(NR_WRITEBACK), b.stat(NR_WRITTEN)) == (0, 0, 1)
        drop_written(b, [pfn])
        assert (b.swap_slot(entry).value, b.swap_count(entry).count) == (0, 1)
        b.vm.page_cluster = 0
        assert b.ask("lookup_swap_cache", entry) == -1
        back = b.call("swapin", entry, 0, 5)
        assert b.flags(back) & (PG_locked | PG_uptodate | PG_swapcache) == PG_locked | PG_swapcache
        assert (b.entry_of(back), b.event(PSWPIN)) == (entry, 1)
        b.disk()
        assert b.flags(back) & (PG_locked | PG_uptodate) == PG_uptodate
        b.call("swap_free", entry)  # the fault has mapped it
        assert b.page(back).refcount == 2 + 1  # ours, the swap cache's, the pagevec's
        b.page(back).page_flags |= PG_locked
        assert b.call("try_to_free_swap", back)
        assert b.flags(back) & (PG_dirty | PG_swapcache) == PG_dirty
        b.call("unlock_page", back)
        b.call("put_page", back)
        b.call("lru_add_drain")
        assert b.vm.swap.inuse_pages == 0


def test_a_page_that_is_written_keeps_its_slot() -> None:
    with iobench(swap=64) as b:
        pfn = b.call("anon_page", 1, 5, 0)
        (entry,) = swap_out(b, [pfn])
        b.page(pfn).page_flags |= PG_locked
        b.call("swap_free", entry)
        assert not b.call("try_to_free_swap", pfn)  # under writeback
        b.disk()
        b.page(pfn).refcount += 1
        assert b.call("try_to_free_swap", pfn)
        b.call("unlock_page", pfn)
        b.call("put_page", pfn)


def test_a_slot_that_only_the_cache_uses_is_not_written() -> None:
    with iobench(swap=64) as b:
        pfn = b.call("anon_page", 1, 5, 0)
        assert b.call("add_to_swap", pfn)
        assert b.call("clear_page_dirty_for_io", pfn)
        assert b.call("writepage", pfn) == 0
        assert b.vm.disk.head == 0
        assert b.flags(pfn) & (PG_dirty | PG_swapcache | PG_locked) == PG_dirty
        b.call("put_page", pfn)
        b.call("lru_add_drain")


def test_reclaim_waits_for_it_so_it_goes_to_the_tail() -> None:
    with iobench(swap=64) as b:
        pfn = b.call("anon_page", 1, 5, 0)
        (entry,) = swap_out(b, [pfn])
        b.page(pfn).page_flags |= PG_reclaim
        b.disk()
        assert b.flags(pfn) & PG_reclaim == 0
        drop_written(b, [pfn])
        b.call("swap_free", entry)


def test_freeing_the_last_entry_drops_a_clean_cached_page() -> None:
    with iobench(swap=64) as b:
        pfn = b.call("anon_page", 1, 5, 0)
        (entry,) = swap_out(b, [pfn])
        b.disk()
        b.call("free_swap_and_cache", entry)
        assert b.vm.swap.inuse_pages == 0
        assert b.page(pfn).refcount == 0


def test_slots_of_the_cache_alone_are_taken_back_when_swap_is_full() -> None:
    with iobench(swap=17) as b:
        pfns = [b.call("anon_page", 1, i, 0) for i in range(16)]
        for pfn in pfns:
            assert b.call("add_to_swap", pfn)
            b.call("unlock_page", pfn)
        assert b.ask("get_nr_swap_pages") == 0
        extra = b.call("anon_page", 1, 16, 0)
        assert not b.call("add_to_swap", extra)  # not even looked at: no slot is free
        b.page(pfns[3]).page_flags |= PG_locked
        assert b.call("try_to_free_swap", pfns[3])
        b.call("unlock_page", pfns[3])
        assert b.call("add_to_swap", extra)
        assert b.entry_of(extra) == 4
        b.call("unlock_page", extra)
        for pfn in [*pfns, extra]:
            b.page(pfn).page_flags |= PG_locked
            b.call("try_to_free_swap", pfn)
            b.call("unlock_page", pfn)
            b.call("put_page", pfn)
        b.call("lru_add_drain")
        assert b.vm.swap.inuse_pages == 0


@pytest.mark.parametrize(("hits", "near", "last", "pages"), [
    (0, False, 0, 1), (0, True, 0, 2), (1, False, 0, 4), (2, False, 0, 4), (3, False, 0, 8), (9, False, 0, 8),
    (0, False, 8, 4), (0, False, 4, 2), (0, False, 2, 1),
])  # fmt: skip
def test_readahead_window(hits: int, near: bool, last: int, pages: int) -> None:
    with iobench(swap=64):
        before = 11 if near else 40
        assert io["__swapin_nr_pages"](before, 10, hits, 8, last) == pages


def test_readahead_brings_the_slots_around() -> None:
    with iobench(swap=64) as b:
        pfns = [b.call("anon_page", 1, i, 0) for i in range(12)]
        entries = swap_out(b, pfns)
        b.disk()
        drop_written(b, pfns)
        first = b.call("swapin", entries[4], 0, 4)  # 4 hits to start with: a window of 8
        b.disk()
        cached = [e for e in entries if b.swap_slot(e).value & 3 == XA_PAGE]
        assert cached == [e for e in entries if e & ~7 == entries[4] & ~7]
        assert (b.event(SWAP_RA), b.event(PSWPIN)) == (len(cached) - 1, len(cached))
        assert b.flags(first) & PG_readahead == 0
        other = next(e for e in cached if e != entries[4])
        pfn = b.call("swapin", other, 0, 0)
        assert (b.event(SWAP_RA_HIT), b.event(PSWPIN), b.vm.swap.ra_hits.counter) == (1, len(cached), 1)
        b.call("put_page", first)
        b.call("put_page", pfn)
        b.call("lru_add_drain")
        for entry in entries:
            b.call("free_swap_and_cache", entry)
        assert b.vm.swap.inuse_pages == 0


def test_a_slot_forgets_its_shadow_when_it_is_freed() -> None:
    with iobench(swap=64) as b:
        entry = b.call("get_swap_page")
        b.call("swap_duplicate", entry)
        b.call("put_swap_page", entry)
        b.swap_slot(entry).value = 99 << 2 | XA_SHADOW
        b.call("swap_free", entry)
        assert b.swap_slot(entry).value == 0


def test_the_group_that_swapped_it_out_is_charged() -> None:
    with iobench(swap=64) as b:
        b.vm.page_cluster = 0
        pfn = b.call("anon_page", 1, 0, 3)
        assert b.m.memcgs[2].memory == 1
        (entry,) = swap_out(b, [pfn])
        b.disk()
        drop_written(b, [pfn])
        assert (b.m.memcgs[2].memory, b.swap_count(entry).memcg) == (0, 3)
        back = b.call("swapin", entry, 0, 0)
        b.disk()
        assert (b.m.memcgs[2].memory, b.memcg_of(back), b.entry_of(back)) == (1, 3, entry)
        b.call("put_page", back)
        b.call("lru_add_drain")
        b.call("free_swap_and_cache", entry)
        assert (b.m.memcgs[2].memory, b.swap_count(entry).memcg) == (0, 0)


def test_swap_goes_off_and_on() -> None:
    with iobench(swap=64) as b:
        assert b.call("swapon", 0) == -16
        entry = b.call("get_swap_page")
        assert b.call("swapoff") == -16
        b.call("put_swap_page", entry)
        assert b.call("swapoff") == 0
        assert (b.call("swapoff"), b.call("get_swap_page"), b.ask("total_swap_pages")) == (-22, 0, 0)
        assert b.call("swapon", 64) == -22  # one is the header
        assert b.call("swapon", 10) == 0
        assert slots_of(b, 11) == [*range(1, 11), 0]
        free_all(b, list(range(1, 11)))
        assert b.call("swapoff") == 0
        assert b.call("swapon", 0) == 0
        assert b.ask("total_swap_pages") == 63


def test_no_device_no_swapon() -> None:
    with iobench() as b:
        assert (b.call("swapon", 0), b.call("swapoff")) == (-22, -22)


def test_swap_in_a_machines_description() -> None:
    assert make_config({"swap": "64M"}, "machine").shape().swap == 64 << 8
    assert make_config({}, "machine").shape().swap == 0
    with pytest.raises(ConfigError, match="a swap device has from 1 MiB"):
        make_config({"swap": 4096}, "machine")
