"""Prefixes, masks, zone columns and the arithmetic of each kernel, one by one."""

import pytest

from emu.explain.dump import Dump, DumpZone
from emu.explain.gfp import flags_of, migratetype
from emu.explain.index import fragmentation_index, unusable_index
from emu.explain.lines import bare
from emu.explain.rules import Access, Sum, access_of, finds_block, infer_boost, version_of, watermark_sum
from emu.explain.zones import gfp_zone, node_set, zone_columns

ATOMIC = frozenset({"HIGH", "ATOMIC", "KSWAPD_RECLAIM"})
KERNEL = frozenset({"DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS"})


def dump_of(*zones: DumpZone, mode: int = 0, names: str = "", kernel: str = "") -> Dump:
    return Dump(1, "failure", "task", 0, mode, names, kernel=kernel, mem_info=2, zones=list(zones))


def zone_of(name: str = "Normal", reserve: tuple[int, ...] = (0, 0, 0, 0), **kb: int) -> DumpZone:
    amounts = {"free": 4000, "min": 1000, "low": 1250, "high": 1500, "managed": 100000, **kb}
    return DumpZone(0, name, 3, amounts, list(reserve), [0] * 11, [""] * 11)


@pytest.mark.parametrize("prefix", [
    "", "[    1.234567] ", "[12345.678901][    T1] ", "[    1.5][  C12] ", "<4>[    1.234567] ", "<6>", "> > ",
    "Nov 22 23:59:59 host kernel: ", "Nov  2 03:59:59 host kernel: [  1.000000] ", "kernel: ",
    "2026-11-22T23:59:59.123456+01:00 host kernel: ", "[Mon Jun  3 19:59:56 2024] ", "kern  :warn  : [    1.234567] ",
    "Sep 15 14:44:48.518439 [ 1613.227909] ", "<4>[ 6207.637280]  [3:  Binder:9343_3:22875] ", "> [  785.581374] ",
])  # fmt: skip
def test_prefixes_go(prefix: str) -> None:
    for text in ("Mem-Info:", "Node 0 DMA free:4kB min:4kB", "a: page allocation failure: order:0, mode:0x1(GFP_DMA)"):
        assert bare(prefix + text) == text


@pytest.mark.parametrize(("mode", "version", "flags"), [
    (0x20, (4, 0), {"HIGH", "KSWAPD_RECLAIM"}),
    (0xD0, (4, 3), {"DIRECT_RECLAIM", "IO", "FS", "KSWAPD_RECLAIM"}),
    (0x400010, (4, 3), {"DIRECT_RECLAIM", "NO_KSWAPD"}),
    (0x2084020, (4, 9), {"HIGH", "ATOMIC", "KSWAPD_RECLAIM", "COMP"}),
    (0x24000C0, (4, 4), {"DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS"}),
    (0xCC0, (5, 10), set(KERNEL)), (0xA20, (5, 4), set(ATOMIC)), (0x40DC0, (6, 7), set(KERNEL) | {"COMP", "ZERO"}),
])  # fmt: skip
def test_numbers_of_each_kernel(mode: int, version: tuple[int, int], flags: set[str]) -> None:
    assert flags_of(dump_of(zone_of(), mode=mode), version) == (flags, ())


def test_names_decide_and_unknown_ones_are_told() -> None:
    found, unknown = flags_of(dump_of(zone_of(), names="GFP_TEMPORARY|__GFP_COLD|0x8000000"), (4, 9))
    assert found == KERNEL | {"RECLAIMABLE", "COLD"} and unknown == ("0x8000000",)
    assert migratetype(found) == "Reclaimable"
    assert "ATOMIC" not in flags_of(dump_of(zone_of(), names="GFP_ATOMIC"), (6, 3))[0]


@pytest.mark.parametrize(("flags", "order", "version", "access"), [
    (KERNEL, 0, (5, 10), Access()),
    (ATOMIC, 0, (5, 10), Access(half=True, quarter=True, reserve=True, highatomic=True, cpuset=False)),
    (ATOMIC | {"NOMEMALLOC"}, 0, (5, 10), Access(half=True, cpuset=False)),
    (KERNEL | {"HIGH"}, 0, (5, 10), Access(half=True)),
    (KERNEL | {"MOVABLE"}, 0, (5, 10), Access(cma=True)),
    (KERNEL | {"MEMALLOC"}, 0, (5, 10), Access(watermarks=False)),
    (frozenset({"HIGH", "KSWAPD_RECLAIM"}), 0, (4, 2),
     Access(half=True, quarter=True, reserve=True, highatomic=True, cpuset=False)),
    (ATOMIC - {"ATOMIC"}, 0, (6, 6), Access(half=True, quarter=True, reserve=True, cpuset=False)),
    (ATOMIC - {"ATOMIC"}, 2, (6, 6), Access(half=True, quarter=True, reserve=True, highatomic=True, cpuset=False)),
    (frozenset({"KSWAPD_RECLAIM"}), 2, (6, 6), Access(reserve=True, highatomic=True)),
    (frozenset({"KSWAPD_RECLAIM"}), 2, (6, 18), Access(reserve=True)),
    (frozenset({"KSWAPD_RECLAIM"}), 2, (6, 2), Access()),
])  # fmt: skip
def test_privileges_of_each_kernel(flags: frozenset[str], order: int, version: tuple[int, int], access: Access) -> None:
    assert access_of(flags, order, version) == access


def test_kswapd_may_ignore_watermarks_except_in_an_interrupt() -> None:
    assert not access_of(ATOMIC, 0, (5, 10), comm="kswapd0").watermarks
    assert access_of(ATOMIC, 0, (5, 10), comm="kswapd0", irq=True).watermarks
    assert access_of(ATOMIC | {"NOMEMALLOC"}, 0, (5, 10), comm="kswapd0").watermarks


@pytest.mark.parametrize(("version", "order", "highatomic"), [
    ((4, 3), 0, 0), ((4, 4), 0, 512), ((4, 7), 0, 0), ((5, 8), 0, 0), ((5, 9), 0, 512), ((5, 8), 1, 512),
])  # fmt: skip
def test_reserve_counts_from_4_4_on_and_not_in_the_quick_test(
    version: tuple[int, int], order: int, highatomic: int
) -> None:
    zone = zone_of(reserved_highatomic=2048)
    assert watermark_sum(dump_of(zone), zone, 1000, 2, Access(), version, order).highatomic == highatomic


def test_free_part_of_the_reserve_is_used_where_it_is_printed() -> None:
    zone = zone_of(reserved_highatomic=4096, free_highatomic=40)
    assert watermark_sum(dump_of(zone), zone, 1000, 2, Access(), (6, 13), 0).highatomic == 10


def test_sum_rounds_as_the_kernel_does() -> None:
    zone = zone_of(reserve=(0, 0, 0, 7), free_cma=400)
    high = Access(half=True, quarter=True, reserve=True)
    assert watermark_sum(dump_of(zone), zone, 1012, 3, high, (5, 10), 2) == Sum(1000, 3, 0, 100, 253, 96, 7)
    assert Sum(1000, 3, 0, 100, 253, 96, 7).usable == 897


@pytest.mark.parametrize(("letters", "access", "version", "found"), [
    ("M", Access(), (5, 10), True), ("H", Access(), (5, 10), False), ("C", Access(), (5, 10), False),
    ("C", Access(cma=True), (5, 10), True), ("H", Access(quarter=True, highatomic=True), (5, 10), True),
    ("I", Access(quarter=True, highatomic=True), (4, 15), False),
    ("I", Access(quarter=True, highatomic=True), (4, 14), True),
])  # fmt: skip
def test_block_has_to_be_on_a_list_for_the_request(
    letters: str, access: Access, version: tuple[int, int], found: bool
) -> None:
    zone = zone_of()
    zone.counts[3], zone.letters[3] = 1, letters
    assert finds_block(zone, 2, access, version, Sum(1000, 3, 0, 0, 10, 10, 0)) == found
    assert not finds_block(zone, 4, access, version, Sum(1000, 15, 0, 0, 10, 10, 0))


@pytest.mark.parametrize(("single", "mark", "found"), [(900, 100, True), (960, 100, False), (960, 50, True)])
def test_before_4_4_the_mark_halves_with_each_order(single: int, mark: int, found: bool) -> None:
    zone = zone_of()
    zone.counts[0], zone.counts[1] = single, 20
    assert finds_block(zone, 1, Access(), (4, 3), Sum(1000, 1, 0, 0, mark, mark, 0)) == found


def test_boost_is_at_least_what_min_has_too_much() -> None:
    zone = zone_of(min=2844, low=3040, high=3236)
    assert infer_boost(dump_of(zone), zone, (5, 10)) == (2844 - 4 * 196 - 12, False)
    assert infer_boost(dump_of(zone), zone, (4, 19)) == (0, False)
    plain = zone_of(min=1000, low=1250, high=1500)
    assert infer_boost(dump_of(plain), plain, (5, 10)) == (0, False)
    printed = zone_of(boost=64)
    assert infer_boost(dump_of(printed), printed, (6, 1)) == (64, True)


@pytest.mark.parametrize(("zones", "columns"), [
    ([("DMA", (0, 2422, 32068, 32068)), ("DMA32", (0, 0, 9, 9)), ("Normal", (0,) * 4)], "DMA DMA32 Normal Movable"),
    ([("DMA", (0, 1, 9, 9, 9)), ("DMA32", (0, 0, 8, 8, 8)), ("Normal", (0,) * 5)], "DMA DMA32 Normal Movable Device"),
    ([("DMA", (0, 544, 2867, 2867)), ("Normal", (0, 0, 9, 9)), ("HighMem", (0,) * 4)], "DMA Normal HighMem Movable"),
    ([("Normal", (0, 0))], "Normal Movable"),
    ([("DMA", (0, 61, 61, 61)), ("DMA32", (0,) * 4)], "DMA DMA32 Normal Movable"),
    ([("DMA", (0, 0, 9, 9)), ("Normal", (0,) * 4)], "DMA DMA32 Normal Movable"),
    ([("DMA32", (0, 7, 7)), ("Normal", (0,) * 3)], "DMA32 Normal Movable"),
])  # fmt: skip
def test_columns_of_lowmem_reserve(zones: list[tuple[str, tuple[int, ...]]], columns: str) -> None:
    assert zone_columns(dump_of(*(zone_of(name, row) for name, row in zones))) == tuple(columns.split())


@pytest.mark.parametrize(("flags", "columns", "name"), [
    ({"DMA"}, "DMA DMA32 Normal Movable", "DMA"), ({"DMA"}, "Normal Movable", "Normal"),
    ({"DMA32"}, "DMA DMA32 Normal Movable", "DMA32"), ({"DMA32"}, "DMA Normal HighMem Movable", "Normal"),
    ({"HIGHMEM"}, "DMA Normal HighMem Movable", "HighMem"), ({"HIGHMEM"}, "DMA DMA32 Normal Movable", "Normal"),
    ({"HIGHMEM", "MOVABLE"}, "DMA DMA32 Normal Movable", "Movable"), ({"MOVABLE"}, "DMA Normal Movable", "Normal"),
])  # fmt: skip
def test_highest_zone_of_a_mask(flags: set[str], columns: str, name: str) -> None:
    names = tuple(columns.split())
    assert names[gfp_zone(frozenset(flags), names)] == name


def test_versions_come_from_the_text_or_the_format() -> None:
    assert version_of(dump_of(zone_of(), kernel="5.19.0-rc2-1")) == ((5, 19), True)
    assert version_of(dump_of(zone_of(boost=0))) == ((6, 2), False)
    assert version_of(dump_of(zone_of(free_highatomic=0))) == ((6, 13), False)
    assert version_of(dump_of(zone_of(pages_scanned=0))) == ((4, 7), False)


def test_node_lists_and_indices() -> None:
    assert node_set("0-2,5") == {0, 1, 2, 5} and node_set("") == set()
    zone = zone_of()
    zone.counts[:2], zone.letters[:2] = [100, 50], ["U", "M"]
    assert fragmentation_index(zone, 1) is None
    assert fragmentation_index(zone, 3) == 1000 - (1000 + 200 * 1000 // 8) // 150
    assert unusable_index(zone, 1, set()) == 0.5
