"""The tester is tested: every invariant catches the damage that it is for, and a sound machine has none."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.workload.case import load_case
from emu.zone import validate as v
from emu.zone import validate_page as vp
from emu.zone import validate_zone as vz
from emu.zone.board import Board
from emu.zone.boot import Tuning, shape_of
from emu.zone.buddy import add_to_free_list, del_page_from_free_list, set_buddy_order
from emu.zone.gfp import __GFP_COMP, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.init_vm import vm_of
from emu.zone.list import list_add, list_del
from emu.zone.mmzone import MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, NODESTAT_SIZE, NodeStat
from emu.zone.page import PG_buddy, PG_guard, PG_lru, set_flag
from emu.zone.pageblock import PB_INITIALISED, init_head
from emu.zone.snapshot import pageblocks
from emu.zone.validate import validate
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NUMA_FOREIGN, NUMA_HIT, PGFREE
from shm.ring import Ring
from shm.struct import record_at
from tests.bench import Bench, bench, one_zone, scaled, two_nodes

GFPS = (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC, GFP_KERNEL | __GFP_COMP)
CASES = Path(__file__).parent.parent / "cases" / "fast"


@pytest.fixture
def used() -> Iterator[Bench]:
    """A machine with pages in every state, CMA included; what is planted into it has to be found."""
    with bench(two_nodes(), cma=1024) as b:
        b.strict = False
        b.churn(7, 300, 64, GFPS)
        b.alloc(3, GFP_KERNEL | __GFP_COMP, nid=1)
        assert validate(b.m, from_boot=True) == []
        yield b


def head(b: Bench, order: int = 10) -> int:
    """A free block of the last zone."""
    return next(pfn for mt in (MIGRATE_MOVABLE, MIGRATE_CMA) for pfn in b.free_list(order, mt))


def small_head(b: Bench) -> int:
    """One of order 2 to 8, of no CMA block."""
    return next(pfn for order in range(2, 9) for mt in range(3) for pfn in b.free_list(order, mt))


def pcp_page(b: Bench) -> int:
    """A page on CPU 0's unmovable list of the last zone."""
    b.free(b.alloc(nid=1))
    return b.pcp_list(0)[0]


def tail(b: Bench) -> int:
    """The last page of a compound page."""
    return b.alloc(2, GFP_KERNEL | __GFP_COMP, nid=1) + 3


def set_type(b: Bench, pfn: int, migratetype: int) -> None:
    blocks = pageblocks(b.m)
    blocks[pfn >> 9] = blocks[pfn >> 9] & 0xF8 | migratetype


def break_backward(b: Bench) -> None:
    b.page(head(b)).lru.prev += 8


def break_forward(b: Bench) -> None:
    b.page(head(b)).lru.next = 5


def list_in_place(b: Bench, pfn: int, order: int, migratetype: int = MIGRATE_MOVABLE) -> None:
    """Make a block look free, on its list and counted, whatever else it is."""
    zone = b.zone()
    if not pageblocks(b.m)[pfn >> 9] & PB_INITIALISED:
        init_head(b.m, zone, pfn)
    set_buddy_order(b.page(pfn), order)
    add_to_free_list(b.m, zone, b.page(pfn), order, migratetype)
    zone.vm_stat[0].counter += 1 << order


def take_off(b: Bench, pfn: int, order: int, migratetype: int = MIGRATE_MOVABLE) -> None:
    """Take a block off its list, in good order."""
    del_page_from_free_list(b.m, b.zone(), b.page(pfn), order)
    b.zone().vm_stat[0].counter -= 1 << order


def unmerge(b: Bench) -> None:
    pfn, zone = b.free_list(10, MIGRATE_MOVABLE)[0], b.zone()
    del_page_from_free_list(b.m, zone, b.page(pfn), 10)
    for half in (pfn, pfn + 512):
        init_head(b.m, zone, half)
        set_buddy_order(b.page(half), 9)
        add_to_free_list(b.m, zone, b.page(half), 9, MIGRATE_MOVABLE)


def misalign(b: Bench) -> None:
    pfn = b.alloc(3, GFP_KERNEL, nid=1)
    list_in_place(b, pfn + 1, 1)


def overlap(b: Bench) -> None:
    pfn = next(p for order in range(3, 9) for mt in range(3) for p in b.free_list(order, mt))
    list_in_place(b, pfn + 4, 0)


def mixed_types(b: Bench) -> None:
    pfn, zone = small_head(b), b.zone()
    order = b.page(pfn).private
    list_del(b.m, b.page(pfn).lru)
    list_add(b.m, b.page(pfn).lru, zone.free_area[order].free_list[MIGRATE_CMA])
    zone.vm_stat[NR_FREE_CMA_PAGES].counter += 1 << order


def list_twice(b: Bench) -> None:
    """A free block's page on a pcp list as well."""
    pfn, pset = small_head(b) + 1, b.pcp()
    list_add(b.m, b.page(pfn).lru, pset.lists[0])
    pset.count += 1
    b.page(pfn).index = 0


def lose_page(b: Bench) -> None:
    pfn = b.alloc(4, nid=1)
    b.page(pfn).refcount = 0


def lose_block(b: Bench) -> None:
    take_off(b, b.free_list(10, MIGRATE_MOVABLE)[0], 10)


def stray_buddy(b: Bench) -> None:
    set_flag(b.page(b.alloc(nid=1)), PG_buddy)


def guard_on_list(b: Bench) -> None:
    b.m.debug_guardpage_minorder = 4
    set_flag(b.page(small_head(b)), PG_guard)


def wrong_tail(b: Bench) -> None:
    b.page(tail(b)).lru.next = b.m.mem_map_link + (b.alloc(nid=1) << 3) | 1


def no_range(b: Bench) -> None:
    b.zone().watermark[2] = b.zone().watermark[0] - 1


def adds(at: Callable[[Bench], Any], field: str, n: int) -> Callable[[Bench], None]:
    """Damage that adds to a field."""
    return lambda b: setattr(at(b), field, getattr(at(b), field) + n)


def element(at: Callable[[Bench], Any], index: int, value: int) -> Callable[[Bench], None]:
    """Damage that sets an element of an array."""
    return lambda b: at(b).__setitem__(index, value)


def zone(b: Bench) -> Any:
    return b.zone()


def cpu(b: Bench) -> Any:
    return b.cpu(1)


DAMAGE: list[tuple[Callable[..., Any], Callable[[Bench], Any], str]] = [
    (v.irqs_are_on, adds(lambda b: b.cpu(1).party, "irqs_off", 1), "cpu 1: irqs_off expected 0, found 1"),
    (v.irqs_are_on, adds(cpu, "irq_nesting", 1), "irq_nesting expected 0"),
    (v.locks_are_free, adds(lambda b: b.zone().lock, "tail", 1), "zone->lock of node 1 Normal: expected free"),
    (v.locks_are_free, adds(lambda b: b.cpu().work_lock, "word", 2), "holder 1"),
    (v.locks_are_free, adds(lambda b: vm_of(b.m).swap.si_lock, "word", 1), "si_lock of swap: expected free"),
    (v.locks_are_free, adds(lambda b: b.m, "drain_busy", 1), "mutex taken"),
    (v.rings_are_sane, adds(lambda b: record_at(Ring, b.base + b.cpu(1).event_ring), "tail", 1), "head 0, tail 1"),
    (v.rings_are_sane, adds(cpu, "work_tail", 1), "work queue of 16: head 0, tail 1"),
    (v.seqcounts_are_even, adds(lambda b: b.task(1).mems_allowed_seq, "sequence", 1), "expected even, found 1"),
    (v.present_pages_add_up, adds(lambda b: b.m.nodes[0], "node_present_pages", 1), "node 0: node_present_pages"),
    (v.node_diffs_are_small, element(
        lambda b: record_at(NodeStat, b.base + b.m.nodes[1].per_cpu_nodestats + NODESTAT_SIZE).vm_node_stat_diff,
        3, -127), "node 1: cpu 1: nr_active_file differential"),
    (v.misses_are_foreign, lambda b: adds(lambda b: b.zone().numa_stat[NUMA_FOREIGN], "counter", 3)(b), "found 3"),
    (v.charges_are_sane, adds(lambda b: b.m.memcgs[2], "kmem", -1), "memcg 2: kmem expected in [0, any], found -1"),
    (v.reserves_add_up, adds(lambda b: b.m, "totalreserve_pages", 1), "totalreserve_pages expected"),
    (v.events_account_for_pages, lambda b: adds(cpu, "online", 0)(b) or element(
        lambda b: b.cpu(1).vm_events, PGFREE, 1)(b), "(pgalloc"),
    (vz.geometry, adds(zone, "present_pages", 1), "node_present_pages"),
    (vz.geometry, adds(zone, "managed_pages", 1), "expected managed <= present <= spanned"),
    (vz.lists_are_linked, break_backward, "its prev link is expected"),
    (vz.lists_are_linked, break_forward, "its next link 0x5 is no page"),
    (vz.lists_are_linked, guard_on_list, "a guard of order"),
    (vz.nr_free_is_right, adds(lambda b: b.zone().free_area[10], "nr_free", 1), "order 10: nr_free expected"),
    (vz.heads_are_aligned, misalign, "order 1 Movable free list, expected aligned"),
    (vz.heads_are_buddies, lambda b: adds(lambda b: b.page(head(b)), "page_flags", -PG_buddy)(b), "expected PG_buddy"),
    (vz.heads_are_buddies, adds(lambda b: b.page(head(b)), "private", -1), "expected order 10, found 9"),
    (vz.heads_are_buddies, adds(lambda b: b.page(head(b)), "page_flags", 1), "expected a page of this zone"),
    (vz.blocks_dont_overlap, overlap, "inside another free block"),
    (vz.buddies_are_merged, unmerge, "free with its buddy of order 9"),
    (vz.strict_types_are_kept, mixed_types, "CMA free list, expected as its CMA block"),
    (vz.pcp_counts_are_right, adds(lambda b: b.pcp(), "count", -1), "cpu 0: pcp count expected"),
    (vz.pcp_counts_are_right, lambda b: pcp_page(b) and setattr(b.pcp(), "high", -1), "expected below high -1"),
    (vz.stamps_are_valid, lambda b: setattr(b.page(pcp_page(b)), "index", 3), "stamp expected 0, found 3"),
    (vz.pcp_pages_are_listed_once, list_twice, "on a pcp list and in a free block"),
    (vz.free_pages_are_counted, adds(lambda b: b.zone().vm_stat[0], "counter", 1), "nr_free_pages with differentials"),
    (vz.free_cma_is_counted, element(
        lambda b: b.pcp(cpu=1).vm_stat_diff, NR_FREE_CMA_PAGES, 1), "nr_free_cma with differentials"),
    (vz.diffs_are_small, element(lambda b: b.pcp(cpu=1).vm_stat_diff, 4, -126), "nr_zone_active_file differential"),
    (vz.diffs_are_small, lambda b: element(lambda b: b.pcp(cpu=1).numa_stat_diff, 3, 65535)(b), "numa differential"),
    (vz.watermarks_are_ordered, no_range, "watermarks expected min <= low <= high"),
    (vz.boost_is_bounded, adds(zone, "watermark_boost", 1 << 20), "watermark_boost expected in"),
    (vz.numa_adds_up, adds(lambda b: b.zone().numa_stat[NUMA_HIT], "counter", 1), "numa local + other expected"),
    (vz.numa_adds_up, adds(lambda b: b.zone().numa_stat[3], "counter", 1 << 30), "numa_interleave expected"),
    (vz.block_types_are_valid, lambda b: set_type(b, head(b), 7), "found type 7"),
    (vz.highatomic_is_counted, adds(zone, "nr_reserved_highatomic", 1), "nr_reserved_highatomic expected 0"),
    (vz.highatomic_is_counted, lambda b: set_type(b, head(b), MIGRATE_HIGHATOMIC), "expected 512"),
    (vz.highatomic_is_counted, adds(zone, "nr_reserved_highatomic", 4096), "found 4096"),
    (vz.isolation_is_counted, lambda b: set_type(b, head(b), MIGRATE_ISOLATE), "nr_isolate_pageblock expected 1"),
    (vz.untouched_blocks_are_free, lose_block, "block never used, expected on a free list"),
    (vp.listed_pages_are_unreferenced, adds(lambda b: b.page(small_head(b)), "refcount", -1), "a free block, refcount"),
    (vp.listed_pages_are_unreferenced, adds(lambda b: b.page(pcp_page(b)), "refcount", 1), "pcp list, refcount"),
    (vp.listed_pages_are_clean, adds(lambda b: b.page(small_head(b) + 1), "mapcount", 1), "expected mapcount -1"),
    (vp.listed_pages_are_clean, adds(lambda b: b.page(small_head(b) + 1), "mapping", 8), "expected no mapping"),
    (vp.listed_pages_are_clean, adds(lambda b: b.page(small_head(b)), "page_flags", PG_lru), "without flags"),
    (vp.buddies_are_listed, stray_buddy, "PG_buddy, expected on a free list"),
    (vp.no_page_is_lost, lose_page, "refcount 0 and on no list"),
    (vp.tails_name_their_head, wrong_tail, "expected to point at the head"),
    (vz.managed_is_conserved, adds(zone, "managed_pages", -1), "managed_pages expected"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "damage", "text"), DAMAGE, ids=lambda x: getattr(x, "__name__", ""))
def test_planted_damage_is_found_first(used: Bench, rule: object, damage: Callable[[Bench], Any], text: str) -> None:
    damage(used)
    found = validate(used.m, from_boot=True)
    assert found
    assert text in found[0], found


def test_every_rule_has_its_damage() -> None:
    rules = {*v.MACHINE_RULES, *vz.ZONE_RULES, *vp.PAGE_RULES}
    rules |= {vz.managed_is_conserved, v.events_account_for_pages, v.reserves_add_up}
    assert rules == {rule for rule, _, _ in DAMAGE}


def test_message_names_zone_pfn_expected_and_found(used: Bench) -> None:
    pfn = small_head(used)
    used.page(pfn).refcount = 2
    (text,) = validate(used.m)
    assert text == f"node 1 zone Normal: pfn:{pfn:05x}: in a free block, refcount expected 0, found 2"


def test_many_findings_are_cut_short(used: Bench) -> None:
    for at in range(12):
        used.page(head(used) + at).mapcount = 0
    set_type(used, head(used), MIGRATE_MOVABLE)
    pfn = used.alloc(5, nid=1)
    for at in range(pfn + 1, pfn + 20):
        set_flag(used.page(at), PG_buddy)
    assert any("... and 11 more: PG_buddy" in text for text in validate(used.m))


@pytest.mark.parametrize("tuning", [{}, {"deferred": True}, {"debug_guardpage_minorder": 3}, {"cma": 2048}], ids=str)
def test_booted_machine_is_clean(tuning: dict[str, Any]) -> None:
    with bench(one_zone(8192), **tuning) as b:
        assert validate(b.m, from_boot=True) == []


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("guards", [0, 2])
def test_random_operations_leave_it_clean(seed: int, guards: int) -> None:
    with bench(two_nodes(), cma=1024, debug_guardpage_minorder=guards) as b:
        for part in range(3):
            b.churn(seed * 77 + part, scaled(3000), 128, GFPS, cpu=part & 1)
            assert validate(b.m, from_boot=True) == []
        for pfn, order in b.churned():
            b.free(pfn, order)
        assert validate(b.m, from_boot=True) == []


@pytest.mark.parametrize("which", ["before", "after"])
@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*")))
def test_states_of_the_real_kernel_are_clean(name: str, which: str) -> None:
    with Board.from_state(getattr(load_case(CASES / name), which)) as board:
        assert validate(board.m) == []


@pytest.mark.compiled
@pytest.mark.slow
def test_a_large_machine_is_validated_without_touching_it() -> None:
    with Board.boot(shape_of(2, [64 << 18]), Tuning()) as board:
        before = board.segment.touched()
        assert validate(board.m) == []
        assert board.segment.touched() - before < 1 << 20
