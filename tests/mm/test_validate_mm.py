"""Each rule of LRU lists, page cache and address spaces catches the damage that it is for."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emu.zone import validate_mm as v
from emu.zone.mm_types import AS_SHMEM, PTE_MIGRATION, PTE_SHIFT, VM_LOCKED, VM_SHARED, VM_WRITE
from emu.zone.page import PG_active, PG_lru, PG_mlocked, PG_table
from emu.zone.validate import validate
from emu.zone.vmstat_items import (
    NR_ANON_MAPPED,
    NR_FILE_MAPPED,
    NR_FILE_PAGES,
    NR_INACTIVE_ANON,
    NR_ISOLATED_FILE,
    NR_MLOCK,
    NR_PAGETABLE,
    NR_SHMEM,
    NR_ZONE_LRU_BASE,
)  # fmt: skip
from tests.bench import two_nodes
from tests.mm.mmbench import MmBench, mm_bench

Damage = Callable[[MmBench], Any]


@pytest.fixture
def used() -> Iterator[MmBench]:
    """A machine with pages of every kind; what is planted into it has to be found."""
    with mm_bench(two_nodes(), swap=64) as b:
        b.strict = False
        b.fill(b.new_file(20), 20)
        b.new_file(20, AS_SHMEM)
        for i in range(4):
            b.vfs_write(2, i)
        b.task().memcg = 1
        b.fill(1, 2, 18)
        b.space(10, k=1, vm_flags=VM_WRITE | VM_LOCKED)
        b.touch_all(2, 0, 3)
        b.space(600)
        b.touch_all(1, 0, 20)
        b.map(1, 700, 10, 1, VM_WRITE | VM_SHARED)
        b.touch_all(1, 700, 10, 0)
        b.map(1, 800, 4, 2, VM_WRITE | VM_SHARED)
        b.touch_all(1, 800, 2)
        b.lru_add_drain()
        for pfn in b.lru(0)[:3]:
            b.activate_page(pfn)
        b.lru_add_drain()
        lazy = b.mapped(1, 19)
        b.lock_page(lazy)
        assert b.add_to_swap(lazy)
        b.unlock_page(lazy)
        assert validate(b.m, from_boot=True) == []
        yield b


def anon(b: MmBench) -> Any:
    """The page in slot 5 of address space 1."""
    return b.page(b.mapped(1, 5))


def adds(record: Callable[[MmBench], Any], field: str, by: int) -> Damage:
    return lambda b: setattr(record(b), field, getattr(record(b), field) + by)


def element(array: Callable[[MmBench], Any], at: int, by: int) -> Damage:
    def plant(b: MmBench) -> None:
        array(b)[at] += by

    return plant


def unlink(b: MmBench) -> None:
    """Take a page off its list, and say it still is on it."""
    first, second, third = b.lru(2)[:3]
    b.page(first).lru.next = b.page(second).lru.next
    b.page(third).lru.prev = b.page(second).lru.prev


def two_circles(b: MmBench) -> None:
    """Two pages of a list in a ring of their own."""
    pages = [b.page(pfn) for pfn in b.lru(2)[:4]]
    second, third = pages[0].lru.next, pages[1].lru.next
    pages[0].lru.next, pages[3].lru.prev = pages[2].lru.next, pages[1].lru.prev
    pages[1].lru.prev, pages[2].lru.next = third, second


def stat(item: int, nid: int = 0) -> Damage:
    return adds(lambda b: b.m.nodes[nid].vm_stat[item], "counter", 1)


def zone_stat(item: int) -> Damage:
    return adds(lambda b: b.zone().vm_stat[item], "counter", 1)


PLANTED: list[tuple[Any, Damage, str]] = [
    (v.lru_lists_are_linked, unlink, "prev link expected"),
    (v.lru_lists_are_linked, two_circles, "PG_lru, and on no LRU list"),
    (v.lru_lists_are_linked, adds(lambda b: b.page(b.lru(2)[0]).lru, "prev", 8), "prev link expected"),
    (v.lru_lists_are_linked, adds(lambda b: b.page(b.lru(2)[0]).lru, "next", 2), "expected a page with PG_lru"),
    (v.lru_lists_are_linked, adds(lambda b: b.page(b.lru(2)[0]), "page_flags", -PG_lru), "expected a page with PG_lru"),
    (
        v.lru_lists_are_linked,
        adds(lambda b: b.page(b.lru(2)[0]), "page_flags", PG_active),
        "expected on node 0 active_file",
    ),
    (v.lru_lists_are_linked, adds(anon, "private", 1 << 26), "expected on node 0 inactive_anon of memcg 0"),
    (v.lru_sizes_are_counted, element(lambda b: b.lruvec().lru_zone_size, 7, 1), "inactive_file: pages of DMA32"),
    (v.lru_counters_add_up, stat(NR_INACTIVE_ANON), "nr_inactive_anon with differentials"),
    (v.lru_counters_add_up, stat(NR_ISOLATED_FILE), "nr_isolated_file with differentials expected 0, found 1"),
    (v.lru_counters_add_up, zone_stat(NR_ZONE_LRU_BASE + 3), "nr_zone_active_file with differentials expected 0"),
    (v.lru_counters_add_up, zone_stat(NR_MLOCK), "nr_mlock with differentials"),
    (v.lru_counters_add_up, adds(lambda b: b.page(b.mapped(2, 0)), "page_flags", -PG_mlocked), "nr_mlock"),
    (v.cached_pages_know_their_slot, adds(lambda b: b.page(b.cached(1, 3)), "index", 1), "in slot 3 of file 1"),
    (v.cached_pages_know_their_slot, adds(lambda b: b.page(b.cached(1, 3)), "mapping", 4), "found mapping 0x8"),
    (v.cached_pages_know_their_slot, lambda b: setattr(b.slot(1, 3), "value", 0), "is in none of its slots"),
    (v.cached_pages_know_their_slot, lambda b: setattr(b.slot(1, 3), "value", 4096 << 2 | 1), "expected in use"),
    (v.files_are_counted, adds(lambda b: b.file_of(1), "nrpages", 1), "file 1: nrpages expected 20, found 21"),
    (v.files_are_counted, adds(lambda b: b.file_of(1), "nrexceptional", 1), "nrexceptional expected 0"),
    (v.file_pages_are_counted, stat(NR_FILE_PAGES), "nr_file_pages with differentials"),
    (v.file_pages_are_counted, stat(NR_SHMEM, 1), "node 1: nr_shmem with differentials expected 0"),
    (v.mapped_pages_know_their_owner, adds(anon, "index", 1), "mapped in slot 5 of mm 1"),
    (v.mapped_pages_know_their_owner, adds(anon, "mapping", 4), "found mapping 0x9"),
    (v.mapped_pages_know_their_owner, adds(lambda b: b.pte(1, 701), "value", 1 << PTE_SHIFT), "mapped in slot 701"),
    (v.mapped_pages_know_their_owner, adds(lambda b: b.pte(1, 701), "value", 5000 << PTE_SHIFT), "expected in use"),
    (v.mapcounts_are_mappings, adds(anon, "mapcount", 1), "mapcount expected 0, found 1"),
    (v.mapcounts_are_mappings, lambda b: setattr(b.pte(1, 5), "value", 0), "mapcount expected -1, found 0"),
    (v.rss_is_counted, adds(lambda b: b.mm_of(1).rss_stat[1], "counter", 1), "MM_ANONPAGES expected 20, found 21"),
    (v.rss_is_counted, adds(lambda b: b.mm_of(1).rss_stat[0], "counter", 1), "MM_FILEPAGES expected 10"),
    (v.rss_is_counted, adds(lambda b: b.mm_of(1).rss_stat[3], "counter", -1), "MM_SHMEMPAGES expected 2"),
    (v.rss_is_counted, lambda b: setattr(b.pte(1, 30), "value", PTE_MIGRATION), "slot 30: a migration entry"),
    (v.locked_areas_are_counted, adds(lambda b: b.mm_of(1), "locked_vm", 1), "mm 1: locked_vm expected 0, found 1"),
    (v.mapped_pages_are_counted, stat(NR_ANON_MAPPED), "nr_anon_pages with differentials"),
    (v.mapped_pages_are_counted, stat(NR_FILE_MAPPED), "nr_mapped with differentials"),
    (v.page_tables_are_counted, zone_stat(NR_PAGETABLE), "nr_page_table_pages with differentials"),
    (v.page_tables_are_counted, adds(lambda b: b.mm_of(1), "nr_page_tables", 1), "nr_page_tables expected 2, found 3"),
    (v.page_tables_are_counted, adds(anon, "page_flags", PG_table), "the page of 0 page tables, PG_table set"),
    (v.page_tables_are_counted, lambda b: setattr(b.mm_of(2).vmas[0], "end", 0), "where no area is"),
    (v.references_are_explained, adds(anon, "refcount", 1), "refcount expected 1, found 2"),
    (
        v.references_are_explained,
        adds(lambda b: b.page(b.cached(1, 5)), "refcount", -1),
        "refcount expected 2, found 1",
    ),
]


@pytest.mark.parametrize(
    ("rule", "damage", "text"), PLANTED, ids=[f"{r.__name__}-{i}" for i, (r, _, _) in enumerate(PLANTED)]
)
def test_each_rule_finds_what_it_is_for(used: MmBench, rule: Any, damage: Damage, text: str) -> None:
    damage(used)
    found = list(rule(v.World(used.m)))
    assert any(text in line for line in found), found
    assert set(found) <= set(validate(used.m))


def test_every_rule_is_tested() -> None:
    assert {*v.MM_RULES, *v.MM_BOOT_RULES} == {rule for rule, _, _ in PLANTED}


def test_pages_that_callers_hold_are_told_not_found_fault_with(used: MmBench) -> None:
    before = v.held_pages(used.m)
    pfn = used.alloc()
    assert v.held_pages(used.m) == before + 1
    assert validate(used.m, from_boot=True) == []
    used.free(pfn)


def test_recorded_state_is_not_asked_who_owns_its_pages(used: MmBench) -> None:
    used.vm.recorded = 1
    used.m.nodes[0].vm_stat[NR_FILE_PAGES].counter += 7
    anon(used).refcount += 1
    assert validate(used.m) == []
