"""Memory goes offline and online: what becomes of free pages, spans, watermarks, zonelists."""

import math

import pytest

from emu.config import ConfigError, make_config
from emu.zone.boot import Shape, shape_of
from emu.zone.event import EV_HOTPLUG, REPORTS
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import MIGRATE_MOVABLE, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL
from emu.zone.report import render
from emu.zone.validate import validate
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests.bench import one_zone, shape, two_nodes
from tests.mm.hot import EBUSY, EEXIST, EINVAL, ONLINE, ONLINE_KERNEL, ONLINE_MOVABLE, Hot, essence, hot, int_sqrt

M4 = 1024
NODES = two_nodes(8192)


def sized(of: Shape, block: int = M4, hotplug: int = 0) -> Shape:
    """With memory blocks of a size of its own, and room to plug memory in."""
    return Shape(of.cpu_node, of.zones, of.nodes, memory_block=block, hotplug=hotplug)


def healthy(b: Hot) -> None:
    assert validate(b.m, from_boot=True) == []


def test_a_memory_block_is_128_mib_or_what_each_node_has_whole() -> None:
    assert shape_of(1, [1 << 18]).block_pages == 1 << 15
    assert shape_of(1, [1 << 18, 1 << 16]).block_pages == 1 << 15
    assert shape_of(1, [1 << 18, 100 << 8]).block_pages == 16384
    assert one_zone(8192).block_pages == 4096
    assert one_zone(4096).block_pages == 2048
    assert sized(one_zone(8192), 2048).block_pages == 2048
    assert sized(one_zone(8192), 4096, 8192).max_pfn == 12288 + 8192
    assert one_zone(8192).max_pfn == 9216


def test_room_and_block_size_are_the_machines() -> None:
    of = make_config({"memory": "64M", "hotplug": "32M"}, "here").shape()
    assert (of.block_pages, of.max_pfn) == (8192, 24576)
    assert make_config({"memory": "64M", "memory_block": "4M"}, "here").shape().block_pages == M4
    for wrong in ({"hotplug": "3M"}, {"memory_block": "6M"}, {"memory_block": "2M"}, {"hotplug": "64M"}):
        with pytest.raises(ConfigError, match="hotplug|memory_block"):
            make_config({"memory": "1G", **wrong}, "here")


def test_free_memory_goes_offline_and_comes_back_as_it_was() -> None:
    with hot(sized(one_zone(8192)), min_free_kbytes=2048) as b:
        before = essence(b)
        assert b.offline(2048, 2 * M4) == 0
        zone = b.zone()
        assert (zone.managed_pages, zone.present_pages, zone.spanned_pages) == (6144, 6144, 8192)
        assert (zone.contiguous, zone.nr_isolate_pageblock) == (0, 0)
        assert not {pfn for pfn, _ in b.free_blocks()} & set(range(2048, 4096))
        assert [b.block(pfn).bits for pfn in (2048, 2560, 3072, 3584)] == [32] * 4
        healthy(b)
        taken = b.take_all(0, GFP_HIGHUSER_MOVABLE)
        assert len(taken) == 6144
        assert not set(taken) & set(range(2048, 4096))
        for pfn in taken:
            b.free(pfn)
        b.drain()
        assert b.online(2048, 2 * M4) == 0
        healthy(b)
        assert b.free_list(10, MIGRATE_MOVABLE)[-2:] == [2048, 3072]
        after = essence(b)
        for state in (before, after):
            del state["zones"][0]["numa_stat"], state["nodes"][0]["kswapd_highest_zoneidx"]
            del state["zones"][0]["contiguous"]
        assert after == before
        done = [(int(e["order"]), int(e["a"]), int(e["b"])) for e in b.reports()]
        assert done == [(0, 2048, 2048), (0, 2048, 2048 | 1 << 62)]
        assert EV_HOTPLUG in REPORTS


def test_what_is_done_is_told() -> None:
    with hot(sized(one_zone(8192))) as b:
        pfn = b.alloc(0, GFP_KERNEL)
        b.offline(pfn & -M4, M4)
        b.free(pfn)
        b.offline(2048, M4)
        b.online(2048, M4)
        told = "".join(render(event, b.m) for event in b.reports())
        assert told == (
            f"page dumped because: unmovable page pfn:{pfn:#x}\n"
            f"memory offlining [mem {(pfn & -M4) << 12:#012x}-{((pfn & -M4) + M4 << 12) - 1:#012x}] failed due to "
            "failure to isolate range\nOfflined Pages 1024\nOnlined Pages 1024 [mem 0x0000800000-0x0000bfffff]\n"
        )


def test_the_zone_shrinks_at_its_ends_and_grows_again() -> None:
    with hot(sized(one_zone(8192))) as b:
        zone = b.zone()
        assert b.offline(1024, M4) == 0
        assert (zone.zone_start_pfn, zone.spanned_pages, zone.contiguous) == (2048, 7168, 1)
        assert b.offline(3072, M4) == 0
        assert (zone.zone_start_pfn, zone.spanned_pages, zone.contiguous) == (2048, 7168, 0)
        assert b.offline(2048, M4) == 0
        assert (zone.zone_start_pfn, zone.spanned_pages, zone.contiguous) == (4096, 5120, 1)
        assert b.offline(8192, M4) == 0
        assert (zone.zone_start_pfn, zone.spanned_pages) == (4096, 4096)
        assert (b.m.nodes[0].node_start_pfn, b.m.nodes[0].node_spanned_pages) == (4096, 4096)
        healthy(b)
        for pfn in (8192, 1024, 3072, 2048):
            assert b.online(pfn, M4) == 0
            healthy(b)
        assert (zone.zone_start_pfn, zone.spanned_pages, zone.contiguous) == (1024, 8192, 0)
        assert b.m.nodes[0].node_present_pages == zone.present_pages == zone.managed_pages == 8192


def test_only_whole_blocks_of_one_zones_online_memory() -> None:
    with hot(sized(shape([(0, ZONE_DMA32, 1024, 4096), (0, ZONE_NORMAL, 5120, 4096)]))) as b:
        assert [b.offline(*r) for r in ((1024, 512), (1536, 1024), (1024, 0), (-1024, 1024), (1 << 30, 1024))] == [
            EINVAL
        ] * 5
        assert b.offline(0, M4) == EINVAL  # a hole
        assert b.offline(4096, 2 * M4) == EINVAL  # two zones
        assert b.offline(2048, M4) == 0
        assert b.offline(2048, M4) == EINVAL
        assert b.online(3072, M4) == EINVAL
        assert b.online(2048, M4, 0) == EINVAL
        assert b.online(2048, M4, 4) == EINVAL
        why = [int(e["order"]) for e in b.reports()]
        assert why == [1, 2, 0, 1]


def test_a_page_in_use_that_cannot_move_keeps_everything_as_it_was() -> None:
    with hot(sized(two_nodes(8192))) as b:
        pfn = b.alloc(0, GFP_KERNEL)
        b.drain()
        before = essence(b)
        assert b.offline(pfn & -M4, M4) == EBUSY
        assert b.offline(pfn & -M4, 2 * M4) == EBUSY
        assert essence(b) == before
        assert [(int(e["order"]), int(e["pfn"])) for e in b.reports()] == [(4, pfn)] * 2
        healthy(b)
        b.free(pfn)
        assert b.offline(pfn & -M4, M4) == 0
        healthy(b)


def test_a_page_that_is_movable_but_pinned_ends_the_attempt_after_some_passes() -> None:
    with hot(sized(shape([(0, ZONE_NORMAL, 1024, 8192), (0, ZONE_MOVABLE, 9216, 4096)]))) as b:
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        b.vm.offline_passes = 3
        assert b.offline(pfn & -M4, M4) == EBUSY
        assert [int(e["order"]) for e in b.reports()] == [7]
        healthy(b)
        b.free(pfn)
        assert b.offline(pfn & -M4, M4) == 0


def test_whoever_is_killed_stops() -> None:
    with hot(sized(one_zone(8192))) as b:
        b.task().fatal_signal = 1
        assert b.offline(2048, M4) == -4
        b.task().fatal_signal = 0
        healthy(b)
        assert b.block(2048).bits & 7 == MIGRATE_MOVABLE


def test_the_last_memory_for_the_kernel_stays() -> None:
    with hot(sized(shape([(0, ZONE_NORMAL, 1024, 4096), (0, ZONE_MOVABLE, 5120, 4096)]))) as b:
        assert b.offline(1024, 3 * M4) == 0
        assert b.offline(4096, M4) == EBUSY
        assert [int(e["order"]) for e in b.reports()] == [0, 3]
        assert b.offline(5120, 4 * M4) == 0
        healthy(b)


def zonerefs(b: Hot, nid: int, which: str = "zonelist_fallback") -> list[tuple[int, int]]:
    return [tuple(ref) for ref in b.board.state(light=True)["nodes"][nid][which]]


def test_an_emptied_node_leaves_the_zonelists_and_returns() -> None:
    with hot(sized(NODES), min_free_kbytes=2048) as b:
        before, seq = essence(b), b.vm.zonelist_update_seq
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE, cpu=1)
        assert pfn >= 17408
        b.free(pfn, cpu=1)
        b.drain(1)
        assert b.offline(17408, 8192) == 0
        node = b.m.nodes[1]
        zone = node.node_zones[ZONE_NORMAL]
        assert (zone.present_pages, zone.spanned_pages, zone.zone_start_pfn) == (0, 0, 0)
        assert (node.node_present_pages, node.node_spanned_pages) == (0, 0)
        assert b.vm.zonelist_update_seq == seq + 2
        assert zonerefs(b, 0) == zonerefs(b, 1) == [(0, ZONE_NORMAL), (0, ZONE_DMA32)]
        assert zonerefs(b, 1, "zonelist_nofallback") == []
        healthy(b)
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE, cpu=1)
        assert pfn < 17408
        b.free(pfn, cpu=1)
        b.drain(1)
        assert b.online(17408, 8192) == 0
        healthy(b)
        after = essence(b)
        for state in (before, after):
            for z in state["zones"]:
                del z["numa_stat"], z["contiguous"]
        assert after == before
        assert (node.kswapd_highest_zoneidx, node.kcompactd_highest_zoneidx) == (4, 2)


def test_watermarks_and_reserves_follow_the_size_of_memory() -> None:
    with hot(sized(two_nodes(16384))) as b:
        marks = [list(z.watermark) for z in (b.zone(0), b.zone(1), b.zone(2))]
        assert b.offline(1024 + 16384, 8 * M4) == 0
        zones = [b.zone(i) for i in range(3)]
        # nr_free_buffer_pages() sees the high watermarks that were in force
        low = sum(z.managed_pages - high[2] for z, high in zip(zones, marks, strict=True))
        assert b.m.min_free_kbytes == math.isqrt(low * 4 * 16)
        total = sum(z.managed_pages for z in zones)
        assert [z.watermark[0] for z in zones] == [(b.m.min_free_kbytes >> 2) * z.managed_pages // total for z in zones]
        assert zones[0].lowmem_reserve[ZONE_NORMAL] == zones[1].managed_pages // 256
        assert b.m.nodes[0].min_slab_pages == zones[0].managed_pages * 5 // 100 + zones[1].managed_pages * 5 // 100
        assert b.m.totalreserve_pages == sum(b.m.nodes[i].totalreserve_pages for i in range(2))
        healthy(b)


def test_what_the_user_asked_for_is_kept() -> None:
    with hot(sized(one_zone(16384)), min_free_kbytes=4096) as b:
        assert b.offline(1024, 4 * M4) == 0
        assert b.m.min_free_kbytes == 4096
        assert b.zone().watermark[0] == 1024


@pytest.mark.parametrize("x", [0, 1, 2, 3, 4, 15, 16, 17, 99, 100, 101, 1 << 20, (1 << 30) - 1, 12345678901])
def test_int_sqrt(x: int) -> None:
    with hot(one_zone(4096)):
        assert int(int_sqrt(x)) == math.isqrt(x)


def test_memory_can_be_plugged_in_and_out() -> None:
    with hot(sized(one_zone(8192), hotplug=4096)) as b:
        assert b.online(9216, M4) == EINVAL
        assert b.add(9216, M4 + 512) == b.add(9216, M4, nid=1) == b.add(9216, 8192) == EINVAL
        assert b.add(8192, M4) == EEXIST
        assert b.add(9216, 2 * M4) == 0
        assert b.add(10240, M4) == EEXIST
        assert b.zone().present_pages == 8192
        healthy(b)
        assert b.online(9216, M4) == 0
        assert (b.zone().spanned_pages, b.zone().present_pages, b.zone().contiguous) == (9216, 9216, 0)
        assert b.remove(9216, M4) == EBUSY
        assert b.remove(10240, M4) == 0
        assert b.online(10240, M4) == EINVAL
        assert b.offline(9216, M4) == 0
        assert b.remove(9216, M4) == 0
        assert (b.zone().spanned_pages, b.zone().present_pages) == (8192, 8192)
        healthy(b)


def test_which_zone_memory_goes_to() -> None:
    with hot(sized(shape([(0, ZONE_DMA32, 1024, 4096), (0, ZONE_NORMAL, 5120, 4096)]), hotplug=8192)) as b:
        assert b.add(9216, 4 * M4) == 0
        movable = b.m.nodes[0].node_zones[ZONE_MOVABLE]
        assert b.online(9216, M4, ONLINE_MOVABLE) == 0
        assert (movable.zone_start_pfn, movable.present_pages) == (9216, M4)
        assert b.m.nodes[0].nr_zones == 4
        assert zonerefs(b, 0) == [(0, 3), (0, 2), (0, 1)]
        assert b.online(11264, M4, ONLINE) == 0  # spanned by none
        normal = b.m.nodes[0].node_zones[ZONE_NORMAL]
        assert (normal.zone_start_pfn, normal.spanned_pages, normal.present_pages) == (5120, 7168, 5120)
        assert b.online(10240, M4, ONLINE) == 0  # a zone of the kernel spans it now
        assert normal.present_pages == 6144
        assert b.offline(2048, M4) == b.online(2048, M4, ONLINE_KERNEL) == 0
        assert b.m.nodes[0].node_zones[ZONE_DMA32].present_pages == 4096
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        assert 9216 <= pfn < 10240
        b.free(pfn)
        healthy(b)
        assert b.offline(9216, M4) == 0
        assert zonerefs(b, 0) == [(0, 2), (0, 1)]
        assert b.online(9216, M4, ONLINE) == 0  # inside Normal's span
        assert normal.present_pages == 7168
        healthy(b)


def test_mobility_grouping_is_off_while_memory_is_scarce() -> None:
    with hot(sized(shape([(0, ZONE_NORMAL, 1024, 4096), (0, ZONE_MOVABLE, 5120, 4096)]))) as b:
        assert b.offline(1024, 2 * M4) == 0
        assert b.m.page_group_by_mobility_disabled == 0
        assert b.offline(5120, 4 * M4) == 0  # the zone is empty, the zonelists are built anew
        assert b.m.page_group_by_mobility_disabled == 1
        assert b.online(5120, 4 * M4, ONLINE_MOVABLE) == 0
        assert b.m.page_group_by_mobility_disabled == 0


def test_a_poisoned_page_does_not_keep_its_block() -> None:
    with hot(sized(one_zone(8192))) as b:
        pfn = b.alloc(0, GFP_HIGHUSER_MOVABLE)
        b.page(pfn).page_flags |= 1 << 25
        b.strict = False
        assert b.offline(pfn & -M4, M4) == 0


def test_the_pagesets_of_an_emptied_zone_are_folded_and_keep_nothing() -> None:
    with hot(sized(NODES)) as b:
        for _ in range(10):
            b.free(b.alloc(0, GFP_KERNEL, cpu=1), cpu=1)
        zone = b.m.nodes[1].node_zones[ZONE_NORMAL]
        assert b.pcp(zone, 1).count
        b.drain(1)
        assert b.offline(17408, 8192) == 0
        for party in range(b.m.nr_parties):
            p = b.pcp(zone, party)
            assert (p.count, p.high, p.batch) == (0, 0, 1)
            assert not any(p.vm_stat_diff) and not any(p.numa_stat_diff)
        assert zone.vm_stat[NR_FREE_PAGES].counter == 0
        healthy(b)
