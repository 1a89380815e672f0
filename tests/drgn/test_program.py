"""A machine through drgn: its types, its values, drgn's own helpers."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.init import zones_of
from emu.zone.mmzone import Node, Page, Zone
from emu.zone.page import PAGE_FLAG_NAMES
from emu.zone.snapshot import walk

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
    from emu.drgn.types import all_structs, struct_name

    kinds = list(all_structs())
    assert len(kinds) > 60 and len({struct_name(kind) for kind in kinds}) == len(kinds)
    for kind in kinds:
        made = prog.type(f"struct {struct_name(kind)}")
        assert made.size == ctypes.sizeof(kind)
        places = {member.name: member.bit_offset // 8 for member in made.members}
        for name, ctype, *_ in kind._fields_:
            assert places[name] == getattr(kind, name).offset
            assert drgn.sizeof(made.member(name).type) == ctypes.sizeof(ctype)


def test_values_are_the_machines_and_change_with_it(board: Board, zone: Any) -> None:
    ours = board.m.nodes[0].node_zones[1]
    assert zone.managed_pages.value_() == ours.managed_pages > 0
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
    from drgn.helpers.linux.mm import PageReserved, page_to_pfn, pfn_to_page

    assert int(page_to_pfn(pfn_to_page(prog, 700))) == 700
    page = pfn_to_page(prog, 0)
    assert PageReserved(page) == bool(page.flags & PAGE_FLAG_NAMES["reserved"])
    assert prog.type("struct page").size == ctypes.sizeof(Page)


def test_free_lists(board: Board, zone: Any) -> None:
    from drgn.helpers.linux.mm import page_to_pfn

    from emu.drgn import free_pages_of

    ours = board.m.nodes[0].node_zones[1]
    found = [int(page_to_pfn(page)) for page in free_pages_of(zone, 10, 1)]
    assert found == list(walk(board.m, ours.free_area[10].free_list[1], board.m.max_pfn)) and len(found) > 10


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
