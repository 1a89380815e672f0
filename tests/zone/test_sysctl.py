"""/proc/sys/vm of a running machine: what is taken, what follows, and that a refused value changes nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from emu.zone.mm_types import Vm
from emu.zone.sysctl import INT_MAX, INT_MIN, SYSCTLS, sysctl_read, sysctl_write
from shm.struct import record_at
from tests.bench import Bench, bench, two_zones

ACTIONS = ("compact_memory", "drop_caches")
VALUES = [name for name in SYSCTLS if name not in ACTIONS]


@pytest.fixture
def b() -> Iterator[Any]:
    with bench(two_zones(8192)) as made:
        yield made


def write(b: Bench, name: str, value: int, index: int = 0) -> int:
    return int(sysctl_write(b.m, b.cpu(), SYSCTLS[name].number, index, value))


def everything(b: Bench) -> dict[str, Any]:
    """All sysctls, and all that is computed from them."""
    zones = [
        (list(z.watermark), z.watermark_boost, list(z.lowmem_reserve))
        for node in b.m.nodes[: b.m.nr_nodes] for z in node.node_zones
    ]  # fmt: skip
    nodes = [(n.min_unmapped_pages, n.min_slab_pages, n.totalreserve_pages) for n in b.m.nodes[: b.m.nr_nodes]]
    pcps = [(b.pcp(b.zone(i)).high, b.pcp(b.zone(i)).batch) for i in range(2)]
    return {**{name: sysctl_read(b.m, name) for name in VALUES}, "zones": zones, "nodes": nodes, "pcps": pcps}


def test_table_is_in_order() -> None:
    assert [what.number for what in SYSCTLS.values()] == list(range(len(SYSCTLS)))


@pytest.mark.parametrize("name", VALUES)
def test_limits_are_taken_and_read_back(b: Bench, name: str) -> None:
    what = SYSCTLS[name]
    for value in (what.low, what.high):
        if name == "min_free_kbytes" and value == INT_MAX:
            value = 4096  # more than there is memory would be taken, too
        assert write(b, name, value) == 0
        shown = max(value, 0) if name == "lowmem_reserve_ratio" else value
        assert sysctl_read(b.m, name)[0] == shown


@pytest.mark.parametrize("name", [n for n, what in SYSCTLS.items() if n != "compact_memory"])
def test_values_out_of_range_change_nothing(b: Bench, name: str) -> None:
    what, before = SYSCTLS[name], everything(b)
    for value in (what.low - 1, what.high + 1, INT_MAX + 1, INT_MIN - 1):
        assert write(b, name, value) == -22
    assert write(b, name, what.low, what.count) == -22
    assert write(b, name, what.low, -1) == -22
    assert everything(b) == before


def test_unknown_number_is_refused(b: Bench) -> None:
    for number in (-1, len(SYSCTLS)):
        assert sysctl_write(b.m, b.cpu(), number, 0, 1) == -22


def test_min_free_kbytes_moves_the_watermarks(b: Bench) -> None:
    assert write(b, "min_free_kbytes", 4096) == 0
    assert sum(b.zone(i).watermark[0] for i in range(2)) == 1024
    assert b.m.user_min_free_kbytes == 4096
    assert b.zone().watermark[1] == b.zone().watermark[0] + (b.zone().watermark[0] >> 2)


def test_watermark_scale_factor(b: Bench) -> None:
    write(b, "min_free_kbytes", 128)
    write(b, "watermark_scale_factor", 1000)
    assert b.zone().watermark[1] - b.zone().watermark[0] == 8192 // 10000 * 1000 + 8192 % 10000 * 1000 // 10000


@pytest.mark.parametrize("value", range(1, 8))
def test_too_large_a_part_of_a_zone_is_refused(b: Bench, value: int) -> None:
    before = everything(b)
    assert write(b, "percpu_pagelist_fraction", value) == -22
    assert everything(b) == before


def test_percpu_pagelist_fraction_and_back(b: Bench) -> None:
    before = everything(b)
    assert write(b, "percpu_pagelist_fraction", 8) == 0
    assert (b.pcp().high, b.pcp().batch) == (1024, 96)
    assert write(b, "percpu_pagelist_fraction", 0) == 0
    assert everything(b) == before


def test_lowmem_reserve_ratio(b: Bench) -> None:
    assert write(b, "lowmem_reserve_ratio", 100, 1) == 0
    assert b.zone(0).lowmem_reserve[2] == 8192 // 100
    assert write(b, "lowmem_reserve_ratio", -5, 1) == 0
    assert sysctl_read(b.m, "lowmem_reserve_ratio")[1] == b.zone(0).lowmem_reserve[2] == 0


def test_node_reclaim_ratios(b: Bench) -> None:
    write(b, "min_unmapped_ratio", 10)
    write(b, "min_slab_ratio", 50)
    node = b.m.nodes[0]
    assert (node.min_unmapped_pages, node.min_slab_pages) == (2 * 819, 8192)


def test_numa_statistics_are_cleared_when_switched_off(b: Bench) -> None:
    b.alloc(1)
    assert b.pcp().numa_stat_diff[0] == 1
    assert write(b, "numa_stat", 0) == 0
    assert b.pcp().numa_stat_diff[0] == b.zone().numa_stat[0].counter == 0
    b.alloc(1)
    assert b.pcp().numa_stat_diff[0] == 0
    assert write(b, "numa_stat", 1) == 0
    b.alloc(1)
    assert b.pcp().numa_stat_diff[0] == 1


def test_those_that_others_read_are_where_they_look(b: Bench) -> None:
    vm = record_at(Vm, b.base + b.m.vm)
    for name, field in (("vfs_cache_pressure", "vfs_cache_pressure"), ("page-cluster", "page_cluster"),
                        ("panic_on_oom", "panic_on_oom"), ("extfrag_threshold", "extfrag_threshold")):  # fmt: skip
        assert write(b, name, 1) == 0
        assert getattr(vm, field) == 1


@pytest.mark.parametrize("name", ACTIONS)
def test_some_can_only_be_written(b: Bench, name: str) -> None:
    with pytest.raises(PermissionError):
        sysctl_read(b.m, name)
    assert write(b, name, 1) == 0
