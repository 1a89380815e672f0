"""A machine through drgn: its types, its values, drgn's own helpers."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.init import party_of, zones_of
from emu.zone.mmzone import Node, Page, Pageset, Zone, page_record, pageset_at
from emu.zone.page import PAGE_FLAG_NAMES
from emu.zone.snapshot import walk
from emu.zone.vmstat_items import VM_EVENT_NAMES

drgn = pytest.importorskip("drgn", reason="drgn is not installed")
pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with Board.boot(shape_of(2, [32768, 16384])) as made:
        yield made


@pytest.fixture(scope="module")
def prog(board: Board) -> Any:
    from emu.drgn import program

    return program(board)


@pytest.fixture
def zone(prog: Any) -> Any:
    return prog["node_data"][0].node_zones[1].address_of_()


def test_every_struct_has_its_members_where_they_are(prog: Any) -> None:
    from emu.drgn.types import POINTER_SIZE, POINTERS, all_structs, struct_name

    kinds = list(all_structs())
    assert len(kinds) > 60 and len({struct_name(kind) for kind in kinds}) == len(kinds)
    for kind in kinds:
        made = prog.type(f"struct {struct_name(kind)}")
        assert made.size == ctypes.sizeof(kind)
        places = {member.name: member.bit_offset // 8 for member in made.members}
        pointers = POINTERS.get(kind, {})
        assert all(offset + POINTER_SIZE <= made.size for offset, _ in pointers.values())
        for name, ctype, *_ in kind._fields_:
            assert places[name] == getattr(kind, name).offset
            assert drgn.sizeof(made.member(name).type) == ctypes.sizeof(ctype)


def test_values_are_the_machines_and_change_with_it(board: Board, zone: Any) -> None:
    ours = board.m.nodes[0].node_zones[1]
    assert zone.managed_pages.counter.value_() == ours.managed_pages > 0
    assert [n.value_() for n in zone._watermark] == list(ours.watermark)
    before = ours.watermark_boost
    ours.watermark_boost = before + 77
    assert zone.watermark_boost.value_() == before + 77
    ours.watermark_boost = before


def test_drgns_watermarks_are_with_the_boost(board: Board, zone: Any) -> None:
    from drgn.helpers.linux.mmzone import high_wmark_pages, low_wmark_pages, min_wmark_pages

    ours = board.m.nodes[0].node_zones[1]
    ours.watermark_boost = 5
    found = [int(of(zone)) for of in (min_wmark_pages, low_wmark_pages, high_wmark_pages)]
    assert found == [mark + 5 for mark in ours.watermark]
    ours.watermark_boost = 0


def test_drgns_counters(board: Board, prog: Any, zone: Any) -> None:
    from drgn.helpers.linux.vmstat import (
        global_node_page_state,
        global_numa_event_state,
        global_zone_page_state,
        nr_free_pages,
        zone_page_state,
    )

    zones = zones_of(board.m)
    assert zone_page_state(zone, prog["NR_FREE_PAGES"]) == board.m.nodes[0].node_zones[1].vm_stat[0].counter
    assert nr_free_pages(prog) == global_zone_page_state(prog, 0) == sum(z.vm_stat[0].counter for z in zones)
    zones[0].numa_stat[0].counter += 3
    zones[-1].numa_stat[0].counter += 4
    assert global_numa_event_state(prog, prog["NUMA_HIT"]) == sum(z.numa_stat[0].counter for z in zones)
    board.m.nodes[1].vm_stat[20].counter = 9
    assert global_node_page_state(prog, prog["NR_DIRTY"]) == 9


def test_drgns_nodes(board: Board, prog: Any) -> None:
    from drgn.helpers.linux.mmzone import NODE_DATA, for_each_online_pgdat

    assert [int(node.node_id) for node in for_each_online_pgdat(prog)] == [0, 1]
    assert int(NODE_DATA(prog, 1).node_present_pages) == board.m.nodes[1].node_present_pages
    assert prog.type("pg_data_t").type.size == ctypes.sizeof(Node)


def test_drgns_pages(board: Board, prog: Any) -> None:
    from drgn.helpers.linux.mm import (
        PFN_PHYS,
        PHYS_PFN,
        PageHead,
        PageReserved,
        PageSlab,
        for_each_valid_pfn_and_page,
        page_to_pfn,
        pfn_to_page,
        totalram_pages,
    )

    assert int(page_to_pfn(pfn_to_page(prog, 700))) == 700
    page = pfn_to_page(prog, 0)
    assert PageReserved(page) == bool(page.flags & PAGE_FLAG_NAMES["reserved"])
    ours = page_record(board.m, board.m.mem_map + 900 * ctypes.sizeof(Page))
    ours.page_flags |= PAGE_FLAG_NAMES["slab"] | PAGE_FLAG_NAMES["head"]
    assert PageSlab(pfn_to_page(prog, 900)) and PageHead(pfn_to_page(prog, 900)) and not PageSlab(page)
    ours.page_flags &= ~(PAGE_FLAG_NAMES["slab"] | PAGE_FLAG_NAMES["head"])
    assert int(pfn_to_page(prog, 900)._mapcount.counter) == ours.mapcount
    assert prog.type("struct page").size == ctypes.sizeof(Page)
    assert (int(PFN_PHYS(prog, 3)), int(PHYS_PFN(prog, 3 << 12))) == (3 << 12, 3)
    assert totalram_pages(prog) == sum(zone.managed_pages for zone in zones_of(board.m))
    pfn, last = list(for_each_valid_pfn_and_page(prog))[-1]
    assert pfn == int(page_to_pfn(last)) == board.m.max_pfn - 1


def test_what_has_no_pointer_here_is_an_error_and_no_wrong_answer(prog: Any) -> None:
    """A tail page knows its head by a link."""
    from drgn.helpers.linux.mm import PageCompound, PageTail, compound_head, pfn_to_page

    for ask in (PageCompound, PageTail, compound_head):
        with pytest.raises(KeyError):
            ask(pfn_to_page(prog, 900))


def test_free_lists(board: Board, zone: Any) -> None:
    from drgn.helpers.linux.mm import page_to_pfn

    from emu.drgn import free_pages_of

    ours = board.m.nodes[0].node_zones[1]
    found = [int(page_to_pfn(page)) for page in free_pages_of(zone, 10, 1)]
    assert found == list(walk(board.m, ours.free_area[10].free_list[1], board.m.max_pfn)) and len(found) > 10


def test_pointers_lead_where_the_records_offsets_do(board: Board, prog: Any) -> None:
    for nid in range(2):
        node = prog["node_data"][nid]
        for zid, name in enumerate((b"DMA", b"DMA32", b"Normal", b"Movable")):
            zone = node.node_zones[zid]
            assert zone.zone_pgdat == node and zone.zone_pgdat.node_id == nid
            assert zone.name.string_() == name
    ours = board.m.nodes[0].node_zones[1]
    for cpu in range(2):
        pageset = pageset_at(board.m, ours.pageset + cpu * ctypes.sizeof(Pageset))
        pageset.count = 17 + cpu
        assert int(prog["node_data"][0].node_zones[1].pageset[cpu].count) == 17 + cpu
        pageset.count = 0


def test_a_piece_of_a_pointer_is_that_piece(prog: Any, zone: Any) -> None:
    """Whatever pieces memory is read in, it is the same memory."""
    at = zone.value_()
    size = ctypes.sizeof(Zone)
    whole = prog.read(at, size)
    for step in (1, 3, 7, 64):
        assert b"".join(prog.read(at + i, min(step, size - i)) for i in range(0, size, step)) == whole


def test_drgns_cpus_and_vm_events(board: Board, prog: Any) -> None:
    from drgn.helpers.linux.cpumask import cpu_possible_mask, cpumask_to_cpulist, for_each_online_cpu, num_online_cpus
    from drgn.helpers.linux.percpu import per_cpu
    from drgn.helpers.linux.vmstat import global_vm_event_state

    item = VM_EVENT_NAMES.index("pgalloc_normal")
    for party in range(board.m.nr_parties):
        party_of(board.m, party).vm_events[item] = 1 << party
    every = (1 << board.m.nr_parties) - 1
    assert list(for_each_online_cpu(prog)) == [0, 1] and num_online_cpus(prog) == 2
    assert global_vm_event_state(prog, prog["PGALLOC_NORMAL"]) == every
    assert int(per_cpu(prog["vm_event_states"], 1).event[item]) == 2  # the daemons' are with the first CPU
    party_of(board.m, 0).online = 0
    assert list(for_each_online_cpu(prog)) == [1] and cpumask_to_cpulist(cpu_possible_mask(prog)) == "0-1"
    assert global_vm_event_state(prog, prog["PGALLOC_NORMAL"]) == every
    party_of(board.m, 0).online = 1
    for party in range(board.m.nr_parties):
        party_of(board.m, party).vm_events[item] = 0


def test_more_than_64_cpus() -> None:
    from drgn.helpers.linux.cpumask import for_each_online_cpu

    from emu.drgn import program

    with Board.boot(shape_of(70, [65536])) as board:
        prog = program(board)
        assert list(for_each_online_cpu(prog)) == list(range(70))
        assert len(prog["__cpu_online_mask"].bits) == 2


def test_it_reads_as_c(zone: Any) -> None:
    text = str(zone[0])
    assert text.startswith("(struct zone){") and ".free_area = (struct free_area [11]){" in text
    assert drgn.sizeof(zone[0]) == ctypes.sizeof(Zone)


def test_what_is_not_there(prog: Any) -> None:
    with pytest.raises(LookupError):
        prog.type("struct task_struct_of_another_kernel")
    with pytest.raises(KeyError):
        prog["swapper_pg_dir"]
    with pytest.raises(drgn.FaultError):
        drgn.Object(prog, "int", address=0x1000).value_()
