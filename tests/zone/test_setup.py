"""Watermarks, reserves, thresholds and pcp sizes against their formulas."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.zone.boot import Shape, ShapeError, ZoneShape, shape_of
from emu.zone.init import zones_of
from emu.zone.mmzone import Zone
from emu.zone.setup import (
    calculate_normal_threshold,
    fls,
    setup_pagesets,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
    zone_batchsize,
)  # fmt: skip
from tests import naive
from tests.bench import Bench, bench, core, one_zone, shape, two_nodes, two_zones

MACHINES = {"one": one_zone(8192), "two": two_zones(16384), "nodes": two_nodes(8192, 4)}


@pytest.mark.parametrize("x", [0, 1, 2, 3, 255, 256, 1 << 40])
def test_fls_is_the_length_in_bits(x: int) -> None:
    assert fls(x) == x.bit_length()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("min_free", [128, 1000, 4095])
@pytest.mark.parametrize("scale", [10, 500, 3000])
def test_watermarks_follow_the_formula(name: str, min_free: int, scale: int) -> None:
    with bench(MACHINES[name], min_free_kbytes=min_free, watermark_scale_factor=scale) as b:
        zones = zones_of(b.m)
        expected = naive.watermarks([z.managed_pages for z in zones], min_free, scale)
        assert [tuple(z.watermark) for z in zones] == expected


def test_new_watermarks_take_back_the_boost() -> None:
    with bench() as b:
        b.zone().watermark_boost = 512
        b.m.min_free_kbytes = 2048
        setup_per_zone_wmarks(b.m, b.cpu())
        assert b.zone().watermark_boost == 0
        assert b.zone().watermark[0] == 512


@pytest.mark.parametrize("ratio", [(256, 256, 32, 0), (1, 3, 0, 0), (0, 0, 0, 0)])
def test_lowmem_reserve_follows_the_ratios(ratio: tuple[int, ...]) -> None:
    with bench(shape_of(1, [32 << 8], movable=4096), lowmem_reserve_ratio=ratio) as b:
        zones = b.m.nodes[0].node_zones
        expected = naive.lowmem_reserve([z.managed_pages for z in zones], list(ratio))
        assert [list(z.lowmem_reserve) for z in zones] == expected


def test_totalreserve_is_high_watermarks_and_largest_reserves() -> None:
    with bench(two_nodes()) as b:
        parts = [min(max(z.lowmem_reserve) + z.watermark[2], z.managed_pages) for z in zones_of(b.m)]
        assert b.m.totalreserve_pages == sum(parts)
        assert b.m.nodes[1].totalreserve_pages == parts[2]


@settings(max_examples=200)
@given(st.integers(1, 256), st.integers(0, 1 << 32))
def test_threshold_grows_with_cpus_and_memory(cpus: int, managed: int) -> None:
    from emu.zone.mmzone import Machine

    m, zone = Machine(), Zone()
    m.nr_cpus, m.nr_online_cpus, zone.managed_pages = cpus, cpus, managed
    assert calculate_normal_threshold(m, zone) == naive.threshold(cpus, managed)


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_batch_is_a_power_of_two_minus_one(managed: int) -> None:
    zone = Zone()
    zone.managed_pages = managed
    assert zone_batchsize(zone) == naive.pcp_batch(managed)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("fraction", [0, 8, 100, 4000])
def test_pcp_sizes_follow_the_formula(name: str, fraction: int) -> None:
    with bench(MACHINES[name], percpu_pagelist_fraction=fraction) as b:
        for zone in zones_of(b.m):
            high, batch = naive.pcp_sizes(zone.managed_pages, fraction)
            assert [(b.pcp(zone, i).high, b.pcp(zone, i).batch) for i in range(b.m.nr_cpus)] == (
                [(high, batch)] * b.m.nr_cpus
            )


def drift(b: Bench, zone: Zone) -> int:
    """The mark below which differentials are added up."""
    worst = naive.threshold(b.m.nr_cpus, zone.managed_pages) * b.m.nr_cpus
    return zone.watermark[2] + worst if worst > zone.watermark[1] - zone.watermark[0] else 0


@pytest.mark.parametrize("cpus", [1, 4, 16])
def test_drift_mark_exists_where_drift_could_hide_a_breach(cpus: int) -> None:
    with bench(one_zone(8192, cpus), min_free_kbytes=400) as b:
        assert b.zone().percpu_drift_mark == drift(b, b.zone())


def test_thresholds_go_down_under_pressure_and_up_again() -> None:
    with bench(one_zone(8192, 16), min_free_kbytes=400) as b:
        zone, node = b.zone(), b.m.nodes[0]
        normal = naive.threshold(16, 8192)
        assert b.pcp(cpu=3).stat_threshold == normal
        core.set_pgdat_percpu_threshold(b.m, node, 1)
        expected = min(125, max(1, (zone.watermark[1] - zone.watermark[0]) // 16))
        assert b.pcp(cpu=3).stat_threshold == expected == core.calculate_pressure_threshold(b.m, zone)
        core.set_pgdat_percpu_threshold(b.m, node, 0)
        assert b.pcp(cpu=3).stat_threshold == normal


def test_default_min_free_kbytes_is_the_kernels() -> None:
    with bench(one_zone(8192), transparent_hugepage=False) as b:
        assert b.m.min_free_kbytes == int((8192 * 4 * 16) ** 0.5)
    with bench(one_zone(1 << 18)) as b:  # khugepaged wants room for its pageblocks, 5 % of the memory at most
        assert b.m.min_free_kbytes == min(512 * 2 + 512 * 9, (1 << 18) // 20) * 4


def test_sysctls_may_change_later() -> None:
    with bench(two_zones()) as b:
        b.m.lowmem_reserve_ratio[1] = 2
        setup_per_zone_lowmem_reserve(b.m)
        assert b.zone(0).lowmem_reserve[2] == 8192 // 2
        b.m.percpu_pagelist_fraction = 8
        setup_pagesets(b.m, b.cpu())
        assert b.pcp(b.zone(0)).high == 1024


@pytest.mark.parametrize(("cpus", "pages", "movable", "text"), [
    (0, [8192], 0, "0 CPUs"), (257, [8192], 0, "257 CPUs"), (1, [], 0, "0 nodes"), (1, [8192] * 9, 0, "9 nodes"),
    (1, [4095], 0, "too little"), (1, [8192], 8192, "movable is all"), (1, [8192], -1, "movable"),
])  # fmt: skip
def test_impossible_machine_is_refused_in_one_line(cpus: int, pages: list[int], movable: int, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        shape_of(cpus, pages, movable)


def test_pc_has_its_zones_at_16_mib_and_4_gib() -> None:
    gib = 1 << 18
    zones = [(z.zid, z.start_pfn, z.spanned) for z in shape_of(2, [5 * gib], movable=1024).zones]
    high = [(2, 4 * gib, gib - 1024), (3, 5 * gib - 1024, 1024)]
    assert zones == [(0, 1, 4095), (1, 4096, 4 * gib - 4096), *high]


def test_cpus_are_shared_out_over_nodes() -> None:
    assert shape_of(4, [8192, 8192]).cpu_node == (0, 0, 1, 1)
    assert Shape((0,), (ZoneShape(0, 2, 1024, 8192, 8192, 8192),), 1).max_pfn == 1024 + 8192
    assert shape([(0, 2, 1024, 8000)]).max_pfn == 1024 + 8192


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(st.integers(128, 4000), st.integers(1, 3000))
def test_sysctl_then_watermarks(min_free: int, scale: int) -> None:
    with bench(two_zones()) as b:
        b.m.min_free_kbytes, b.m.watermark_scale_factor = min_free, scale
        setup_per_zone_wmarks(b.m, b.cpu())
        assert [tuple(z.watermark) for z in zones_of(b.m)] == naive.watermarks([8192, 8192], min_free, scale)
