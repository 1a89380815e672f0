"""Reports read as the kernel's would: the line somebody greps for is there."""

from typing import Any

import pytest

from emu.zone import event as ev
from emu.zone.gfp import (
    __GFP_COMP,
    __GFP_DMA,
    __GFP_DMA32,
    __GFP_MOVABLE,
    __GFP_NOFAIL,
    __GFP_WRITE,
    __GFP_ZERO,
    GFP_ATOMIC,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOWAIT,
    GFP_TRANSHUGE,
    GFP_TRANSHUGE_LIGHT,
    GFP_USER,
)  # fmt: skip
from emu.zone.gfp_names import gfp_names
from emu.zone.mmzone import PD_POISON
from emu.zone.page import PAGE_MAPPING_ANON, PG_locked, PG_lru, PG_table, set_flag
from emu.zone.report import node_list, render, show_mem
from shm.core import CHECKED
from tests.bench import Bench, bench, one_zone, two_nodes


@pytest.mark.parametrize(("value", "text"), [
    (0, "none"),
    (GFP_KERNEL, "GFP_KERNEL"),
    (GFP_KERNEL | __GFP_ZERO | __GFP_COMP, "GFP_KERNEL|__GFP_COMP|__GFP_ZERO"),
    (GFP_USER, "GFP_USER"),
    (GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    (GFP_TRANSHUGE, "GFP_TRANSHUGE"),
    (GFP_TRANSHUGE_LIGHT | __GFP_WRITE, "GFP_TRANSHUGE_LIGHT|__GFP_WRITE"),
    (GFP_ATOMIC | __GFP_MOVABLE, "GFP_ATOMIC|__GFP_MOVABLE"),
    (GFP_NOWAIT | __GFP_DMA, "GFP_NOWAIT|GFP_DMA"),
    (GFP_KERNEL | __GFP_DMA32, "GFP_KERNEL|GFP_DMA32"),
    (GFP_KERNEL & ~0x40, "GFP_NOIO|__GFP_FS"),
    (1 << 23 | __GFP_ZERO, "__GFP_ZERO|0x800000"),
])  # fmt: skip
def test_gfp_names_are_the_kernels(value: int, text: str) -> None:
    assert gfp_names(value) == text


@pytest.mark.parametrize(("mask", "text"), [(0, ""), (1, "0"), (3, "0-1"), (0b10110011, "0-1,4-5,7"), (5, "0,2")])
def test_node_lists_are_bitmaps_in_words(mask: int, text: str) -> None:
    assert node_list(mask) == text


def reports(b: Bench, kind: int) -> list[str]:
    return [render(e, b.m) for e in b.events() if e["kind"] == kind]


def bad_page_of(b: Bench, **fields: int) -> list[str]:
    """What is said about a page that comes back from its user like this."""
    pfn = b.alloc(1)
    for name, value in fields.items():
        setattr(b.page(pfn), name, value)
    b.free(pfn, 1)
    b.strict = False
    (text,) = reports(b, ev.EV_BAD_PAGE)
    return text.replace(f"{pfn:05x}", "PFN").replace(f"{pfn:#x}", "0xPFN").splitlines()


def test_bad_page_is_described() -> None:
    with bench() as b:
        lines = bad_page_of(b, mapcount=0, index=5)
        assert lines[0] == "BUG: Bad page state in process emu/0  pfn:PFN"
        assert lines[1].startswith("page:ffffea0000")
        assert lines[1].endswith(" refcount:0 mapcount:1 mapping:0000000000000000 index:0x5 pfn:0xPFN")
        assert lines[2:] == ["flags: 0x20000000000000()", "page dumped because: nonzero mapcount"]


@pytest.mark.parametrize(("fields", "flags", "mapcount", "reason"), [
    ({"mapping": 0x80}, "flags: 0x20000000000000()", 0, "non-NULL mapping"),
    ({"page_flags": 2 | PG_locked | PG_lru}, "flags: 0x20000000000011(locked|lru)", 0,
     "PAGE_FLAGS_CHECK_AT_FREE flag(s) set"),
    ({"page_flags": 2 | PG_table}, "flags: 0x20000000000000()", -1024, "nonzero mapcount"),
])  # fmt: skip
def test_bad_page_says_why(fields: dict[str, int], flags: str, mapcount: int, reason: str) -> None:
    with bench() as b:
        lines = bad_page_of(b, **fields)
        assert lines[2:] == [flags, f"page dumped because: {reason}"]
        assert f" mapcount:{mapcount} " in lines[1]


def test_anonymous_page_is_called_so() -> None:
    with bench() as b:
        pfn = b.alloc()
        b.page(pfn).mapping = 0x80 | PAGE_MAPPING_ANON
        b.free(pfn)  # an anonymous page is unmapped on its way
        b.page(pfn).mapping = 0x80 | PAGE_MAPPING_ANON
        b.strict = False
        b.drain()
        (text,) = reports(b, ev.EV_BAD_PAGE)
        assert "\nanon flags: " in text
        assert "page dumped because: non-NULL mapping\n" in text


def test_warning_names_cpu_task_and_place() -> None:
    with bench() as b:
        b.alloc(11)
        (text,) = reports(b, ev.EV_WARN)
        assert text == (
            "------------[ cut here ]------------\n"
            "WARNING: CPU: 0 PID: 1000 at __alloc_pages_nodemask\n"
            "order >= MAX_ORDER: order:11, mode:0xcc0(GFP_KERNEL)\n"
        )


def test_poison_shows_what_was_found() -> None:
    with bench(page_debug=PD_POISON) as b:
        pfn = b.alloc()
        b.free(pfn)
        b.ext(pfn).content = 0xBB
        while b.alloc() != pfn:
            pass
        (text,) = reports(b, ev.EV_POISON)
        assert text == f"pagealloc: memory corruption\n{pfn << 12:016x}: {' '.join(['bb'] * 16)}\n"


def failed(b: Bench, **how: Any) -> list[str]:
    """The report of an allocation that finds no memory at all."""
    b.take_all(order=4)
    b.take_all()
    b.events()
    assert b.alloc(**how) == -1
    (text,) = reports(b, ev.EV_ALLOC_FAILURE)
    return text.splitlines()


def test_failure_is_a_line_and_mem_info() -> None:
    with bench(one_zone(8192)) as b:
        lines = failed(b, order=3, gfp=GFP_KERNEL | __GFP_COMP)
        assert lines[0] == (
            "emu/0: page allocation failure: order:3, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), "
            "nodemask=(null),cpuset=/,mems_allowed=0"
        )
        assert lines[1:3] == ["Mem-Info:", "active_anon:0 inactive_anon:0 isolated_anon:0"]
        assert lines[-1] == "0 pages hwpoisoned"
        assert "8192 pages RAM" in lines


def test_failure_under_a_nodemask_shows_its_nodes_only() -> None:
    with bench(two_nodes()) as b:
        lines = failed(b, order=0, gfp=GFP_USER, nid=1, nodemask=2)
        assert "nodemask=1,cpuset=/,mems_allowed=0-1" in lines[0]
        assert [line[:6] for line in lines if line.startswith("Node ")] == ["Node 1"] * 3


def test_atomic_failure_forgets_the_nodemask_and_shows_all_nodes() -> None:
    with bench(two_nodes()) as b:
        lines = failed(b, order=0, gfp=GFP_ATOMIC, nid=1, nodemask=2)
        assert "nodemask=(null)" in lines[0]
        assert {line[:6] for line in lines if line.startswith("Node ")} == {"Node 0", "Node 1"}


def test_mem_info_has_the_zones_numbers() -> None:
    with bench(one_zone(8192), cma=1024) as b:
        pfn = b.alloc()
        zone, text = b.zone(), list(show_mem(b.board.state(light=True)))
        (line,) = (line for line in text if line.startswith("Node 0 Normal free:"))
        assert f"free:{zone.vm_stat[0].counter * 4}kB min:{zone.watermark[0] * 4}kB low:" in line
        assert f"free_pcp:{b.pcp().count * 4}kB local_pcp:{b.pcp().count * 4}kB free_cma:4096kB" in line
        (free,) = (line for line in text if line.startswith("Node 0 Normal: "))
        assert "7*4096kB (MC) = " in free
        assert free.endswith(f"= {b.nr_free() * 4}kB")
        assert "1024 pages cma reserved" in text
        assert list(show_mem(b.board.state())) != []
        b.free(pfn)


def test_boost_is_part_of_the_watermarks() -> None:
    with bench() as b:
        plain = list(show_mem(b.board.state(light=True)))
        b.zone().watermark_boost = 512
        boosted = list(show_mem(b.board.state(light=True)))
        marks = [b.zone().watermark[i] * 4 for i in range(3)]
        assert f"min:{marks[0]}kB low:{marks[1]}kB high:{marks[2]}kB" in "".join(plain)
        assert f"min:{marks[0] + 2048}kB low:{marks[1] + 2048}kB" in "".join(boosted)


def test_other_records_are_no_reports() -> None:
    with bench() as b:
        b.cpu().trace = 1
        b.free(b.alloc())
        with pytest.raises(ValueError, match="mm_page_alloc is not a report"):
            [render(e, b.m) for e in b.events() if e["kind"] == ev.EV_ALLOC]


@pytest.mark.skipif(not CHECKED, reason="seen at once in checked mode only")
def test_reference_that_is_not_there_is_reported_at_once() -> None:
    with bench() as b:
        pfn = b.alloc()
        b.free(pfn)
        b.free(pfn)
        b.strict = False
        assert "VM_BUG_ON_PAGE(page_ref_count(page) == 0)" in reports(b, ev.EV_BAD_PAGE)[0]


def test_nofail_warning_is_a_report() -> None:
    with bench() as b:
        set_flag(b.page(b.alloc()), 0)
        b.free(b.alloc(2, GFP_KERNEL | __GFP_NOFAIL), 2)
        assert "at rmqueue\n__GFP_NOFAIL with order > 1: order:2" in reports(b, ev.EV_WARN)[0]
