"""Which zones, in which order."""

import pytest

from emu.zone.boot import Shape, ZoneShape
from emu.zone.gfp import (
    __GFP_DMA,
    __GFP_DMA32,
    __GFP_HIGHMEM,
    __GFP_MOVABLE,
    __GFP_THISNODE,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_USER,
    gfp_migratetype,
    gfp_zone,
)  # fmt: skip
from emu.zone.mmzone import Zonelist, Zoneref
from shm.struct import record_at
from tests import naive
from tests.bench import Bench, bench, core, shape, two_nodes

FAR = ((10, 16, 22, 28), (16, 10, 24, 21), (22, 24, 10, 17), (28, 21, 17, 10))


def refs(b: Bench, nid: int, gfp: int = 0) -> list[tuple[int, int]]:
    """(node, zone) in zoneref order."""
    lists = record_at(Zonelist, b.base + int(core.node_zonelist(b.m, nid, gfp)))
    out: list[tuple[int, int]] = []
    ref: Zoneref
    for ref in lists.zonerefs:
        if ref.zone == 0:
            break
        out.append((ref.node, ref.zone_idx))
    return out


def test_zonelists_are_nearest_node_first_highest_zone_first() -> None:
    zones = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 3), (3, 3)]
    made = tuple(ZoneShape(nid, zid, 1024 + i * 4096, 4096, 4096, 4096) for i, (nid, zid) in enumerate(zones))
    with bench(Shape((0, 1, 2, 3), made, 4, FAR)) as b:
        nodes = {nid: [zid for n, zid in zones if n == nid] for nid in range(4)}
        for nid in range(4):
            expected = naive.zone_fallback(nid, [list(row) for row in FAR], nodes)
            assert refs(b, nid) == expected
            assert refs(b, nid, __GFP_THISNODE) == [(n, z) for n, z in expected if n == nid]


def test_own_node_comes_first_and_every_node_once() -> None:
    with bench(shape([(nid, 2, 1024 + nid * 4096, 4096) for nid in range(3)], (0, 1, 2))) as b:
        for nid in range(3):
            assert refs(b, nid)[0] == (nid, 2)
            assert sorted(refs(b, nid)) == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(("gfp", "zid"), [
    (GFP_KERNEL, 2), (GFP_USER, 2), (__GFP_DMA, 0), (__GFP_DMA32, 1), (__GFP_HIGHMEM, 2), (__GFP_MOVABLE, 2),
    (GFP_HIGHUSER_MOVABLE, 3),
])  # fmt: skip
def test_highest_zone_of_a_request(gfp: int, zid: int) -> None:
    assert gfp_zone(gfp) == zid


def test_mobility_bits_are_the_migratetype() -> None:
    assert [gfp_migratetype(0, gfp) for gfp in (GFP_KERNEL, GFP_HIGHUSER_MOVABLE, 0x10)] == [0, 1, 2]
    assert gfp_migratetype(1, GFP_HIGHUSER_MOVABLE) == 0


@pytest.mark.parametrize(("gfp", "place"), [(GFP_KERNEL, 1), (__GFP_DMA32 | GFP_KERNEL, 0)])
def test_request_gets_its_highest_zone(gfp: int, place: int) -> None:
    with bench(two_nodes()) as b:
        zone = b.zone(place)
        assert zone.zone_start_pfn <= b.alloc(2, gfp) < zone.zone_start_pfn + zone.spanned_pages


def test_thisnode_fails_where_another_node_has_plenty() -> None:
    with bench(two_nodes()) as b:
        while b.alloc(9, GFP_KERNEL | __GFP_THISNODE | 0x2000, cpu=1) >= 0:
            pass
        zone = b.zone(2)
        assert b.alloc(9, GFP_KERNEL | __GFP_THISNODE | 0x2000, cpu=1) == -1
        assert b.alloc(9, GFP_KERNEL, cpu=1) < zone.zone_start_pfn


def test_nodemask_leaves_nodes_out() -> None:
    with bench(two_nodes()) as b:
        assert b.alloc(0, nid=0, nodemask=0b10) >= b.zone(2).zone_start_pfn
        assert b.alloc(0, GFP_KERNEL | __GFP_DMA32 | 0x2000, nid=0, nodemask=0b10) == -1
