"""The formatters against the files of a real 5.10.262 kernel.

The recorded files were read a little after the recorded state, so they are compared three ways: the shape of every
line; every number of every line that nothing touched in between; and, with the file's own numbers put in, byte for
byte.
"""

import copy
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from emu import proc
from emu.proc import buddyinfo, meminfo, names, numastat, pagetypeinfo, vmstat, zoneinfo

CASES = Path(__file__).parent.parent / "cases" / "fast"
ALL = ("drain", "mixed_orders_normal", "numa_fallback")
RECORDED = ("pagetypeinfo", "vmstat", "zoneinfo")

# What moved before the files were read: the driver gave its pages back, a shell ran, kswapd and kcompactd woke up.
NOISE = """
    nr_free_pages nr_inactive_anon nr_active_anon nr_zone_inactive_anon nr_zone_active_anon nr_slab_unreclaimable
    nr_anon_pages nr_mapped nr_kernel_stack nr_page_table_pages numa_hit numa_local nr_dirty_threshold
    nr_dirty_background_threshold pgpgin pgpgout pgalloc_dma32 pgalloc_normal pgfree pgfault pgreuse pageoutrun
    compact_daemon_wake compact_migrate_scanned compact_daemon_migrate_scanned count: pages
"""


def load(case: str) -> dict[str, Any]:
    with gzip.open(CASES / case / "after.json.gz", "rt") as file:
        state: dict[str, Any] = json.load(file)
    return state


def recorded(case: str, name: str) -> str:
    with gzip.open(CASES / case / f"{name}.txt.gz", "rt") as file:
        return file.read()


def unboosted(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state after kswapd took the boost away, as it had in the recorded cases when the files were read."""
    for zone in state["zones"]:
        zone["watermark_boost"] = 0
    return state


def shape(name: str, text: str) -> str:
    # The columns of pagetypeinfo have a width: there, mask padding and number as one, and keep the length.
    if name == "pagetypeinfo":
        return re.sub(r" *\d+", lambda run: "#" * len(run[0]), text)
    return re.sub(r"\d+$|(?<=[(,])( ?)\d+", r"\1#", text, flags=re.MULTILINE)


def settled_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.split()[0] not in NOISE.split()]


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("name", RECORDED)
def test_shape_is_the_kernels(case: str, name: str) -> None:
    assert shape(name, proc.render(name, load(case))) == shape(name, recorded(case, name))


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("name", ["vmstat", "zoneinfo"])
def test_untouched_numbers_are_the_kernels(case: str, name: str) -> None:
    theirs = settled_lines(recorded(case, name))
    assert settled_lines(proc.render(name, unboosted(load(case)))) == theirs
    labels = {line.split()[0] for line in theirs}
    wanted = {
        "vmstat": "allocstall_dma32 pgactivate nr_dirtied compact_stall thp_split_pud nr_unstable",
        "zoneinfo": "min low high spanned present managed protection: numa_miss numa_foreign numa_interleave "
        "nr_dirtied "
        "cpu: high: batch: vm node_unreclaimable: start_pfn:",
    }
    assert set(wanted[name].split()) <= labels


def test_zoneinfo_counts_the_numa_differentials_and_vmstat_does_not() -> None:
    state = load("numa_fallback")
    first, second = state["zones"][1], state["zones"][2]
    assert (first["numa_stat"][2], first["pcp"][0]["numa_stat_diff"][2]) == (0, 289)
    assert (second["numa_stat"][1], second["pcp"][0]["numa_stat_diff"][1]) == (0, 289)
    for text in (zoneinfo.render(state), recorded("numa_fallback", "zoneinfo")):
        assert text.count("      numa_foreign 289\n") == text.count("      numa_miss    289\n") == 1
    for text in (vmstat.render(state), recorded("numa_fallback", "vmstat")):
        assert "numa_miss 0\nnuma_foreign 0\n" in text


# The file's own numbers put into the state.


def by_name(state: dict[str, Any]) -> dict[tuple[int, str], dict[str, Any]]:
    return {(zone["nid"], zone["name"]): zone for zone in state["zones"]}


def with_zoneinfo(state: dict[str, Any], text: str) -> dict[str, Any]:
    nodes = {node["nid"]: node for node in state["nodes"]}
    zones = by_name(state)
    for block in re.split(r"^(?=Node )", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone +(\w+)", block)
        assert head
        numbers = dict(re.findall(r"^ +(?:pages )?([a-z_]+) +(\d+)$", block, re.MULTILINE))
        if "per-node stats" in block:
            nodes[int(head[1])]["vm_stat"] = [int(numbers[name]) for name in state["node_stat_names"]]
        if "pagesets" not in block:
            continue
        zone = zones[int(head[1]), head[2]]
        zone["watermark"], zone["watermark_boost"] = [int(numbers[mark]) for mark in ("min", "low", "high")], 0
        zone["vm_stat"] = [int(numbers[name]) for name in state["zone_stat_names"]]
        zone["numa_stat"] = [int(numbers[name]) for name in state["numa_stat_names"]]
        for pcp, count in zip(zone["pcp"], re.findall(r"count: (\d+)", block), strict=True):
            pcp["count"] = int(count)
            pcp["numa_stat_diff"] = [0] * len(zone["numa_stat"])
    return state


def with_pagetypeinfo(state: dict[str, Any], text: str) -> dict[str, Any]:
    zones = by_name(state)
    types = names.migratetype_names(state["migrate_types"])
    for nid, name, kind, numbers in re.findall(r"(?m)^Node +(\d+), zone +(\w+), type +(\w+) ([ \d]+) $", text):
        for area, count in zip(zones[int(nid), name]["free_area"], numbers.split(), strict=True):
            area.setdefault("counts", [0] * len(types))[types.index(kind)] = int(count)
    for nid, name, numbers in re.findall(r"^Node (\d+), zone +(\w+) ([ \d]+) $", text, re.MULTILINE):
        zones[int(nid), name]["pageblock_counts"] = [int(count) for count in numbers.split()]
    return state


def with_vmstat(state: dict[str, Any], text: str) -> dict[str, Any]:
    numbers = {name: int(value) for name, value in (line.split() for line in text.splitlines())}
    for zone in state["zones"]:
        zone["vm_stat"] = [0] * len(state["zone_stat_names"])
        zone["numa_stat"] = [0] * len(state["numa_stat_names"])
    for node in state["nodes"]:
        node["vm_stat"] = [0] * len(state["node_stat_names"])
    # The file shows the sum of the zones.
    state["zones"][0]["vm_stat"] = [numbers[name] - 3 for name in state["zone_stat_names"]]
    state["zones"][-1]["vm_stat"] = [3] * len(state["zone_stat_names"])
    state["zones"][0]["numa_stat"] = [numbers[name] for name in state["numa_stat_names"]]
    state["nodes"][0]["vm_stat"] = [numbers[name] for name in state["node_stat_names"]]
    sectors = {"pgpgin", "pgpgout"}
    state["vm_events"] = {name: numbers[name] * (2 if name in sectors else 1) for name in state["vm_events"]}
    return state


WITH = {"pagetypeinfo": with_pagetypeinfo, "vmstat": with_vmstat, "zoneinfo": with_zoneinfo}


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("name", RECORDED)
def test_kernels_numbers_give_the_kernels_bytes(case: str, name: str) -> None:
    # The dirty thresholds are not put in: they must come out of the other numbers.
    text = recorded(case, name)
    assert proc.render(name, WITH[name](load(case), text)) == text


# Pageblocks and lists.


@pytest.mark.parametrize("case", ALL)
def test_blocks_are_the_kernels(case: str) -> None:
    rows = re.compile(r"^Number of blocks .*|^Node \d, zone .{8} [ \d]+$", re.MULTILINE)
    assert rows.findall(pagetypeinfo.render(load(case))) == rows.findall(recorded(case, "pagetypeinfo"))


def test_blocks_of_a_hole_are_not_counted() -> None:
    state = load("mixed_orders_normal")
    dma32 = state["zones"][1]
    assert (len(dma32["pageblocks"]), sum(block[1] >= 0 for block in dma32["pageblocks"])) == (2040, 56)
    # 16 blocks after the end of memory have pages, which are not linked to this zone.
    assert proc.pageblock_counts(state, dma32) == [0, 37, 3, 0]


@pytest.mark.parametrize(
    ("start_pfn", "spanned", "counts"),
    [
        (0, 1536, [0, 2, 0, 0]),  # looks at pfn 0, 512 and 1024; the first belongs to another zone
        (80, 1456, [1, 2, 0, 0]),  # looks at pfn 80, 592 and 1104
        (80, 1024, [1, 1, 0, 0]),  # ends at pfn 1104, so its 80 pages in the third block do not count
    ],
)
def test_one_page_a_block_decides(start_pfn: int, spanned: int, counts: list[int]) -> None:
    blocks = [[0, 0, 0, "z80u16b4b8z144"], [512, 1, 0, "b9"], [1024, 1, 0, "+"]]
    zone = {"start_pfn": start_pfn, "spanned": spanned, "pageblocks": blocks}
    assert proc.pageblock_counts({"migrate_types": 4, "pageblock_order": 9}, zone) == counts


@pytest.mark.parametrize("case", ALL)
def test_counts_stand_for_lists(case: str) -> None:
    state = load(case)
    counted = copy.deepcopy(state)
    for zone in counted["zones"]:
        for area in zone["free_area"]:
            area["counts"] = [len(pfns) for pfns in area.pop("lists")]
        zone["pageblock_counts"] = proc.pageblock_counts(counted, zone)
        del zone["pageblocks"]
    for name in proc.FILES:
        assert proc.render(name, counted) == proc.render(name, state)


def test_long_list_is_capped() -> None:
    state = load("drain")
    state["zones"][0]["free_area"][0]["counts"] = [99999, 100000, 123456, 0]
    rows = [line for line in pagetypeinfo.render(state).splitlines() if ", zone      DMA, type" in line]
    assert [re.sub(r"^.{43} (>?.{6}) .*", r"\1", row) for row in rows] == [" 99999", ">100000", ">100000", "     0"]


@pytest.mark.parametrize(("migrate_types", "last"), [(4, "HighAtomic"), (5, "Isolate"), (6, "CMA      Isolate")])
def test_migratetypes(migrate_types: int, last: str) -> None:
    state = load("drain")
    state["migrate_types"] = migrate_types
    for zone in state["zones"]:
        for area in zone["free_area"]:
            area["lists"] += [[]] * (migrate_types - 4)
        zone["pageblocks"][0][1] = migrate_types - 1
    text = pagetypeinfo.render(state)
    head = rf"^Number of blocks type +Unmovable +Movable +Reclaimable +(HighAtomic +)?{last} $"
    assert re.search(head, text, re.MULTILINE)
    assert re.search(r"^Node 0, zone      DMA  .* 1 $", text, re.MULTILINE)
    assert len({len(line) for line in text.splitlines()[3:] if ", type " in line}) == 1
    with pytest.raises(ValueError, match="not 7"):
        names.migratetype_names(7)


def test_buddyinfo() -> None:
    assert buddyinfo.render(load("numa_fallback")) == (
        "Node 0, zone      DMA      7      6      5      5      5      1      0      3      2      1      0 \n"
        "Node 0, zone    DMA32      2      2      2      2      1      1      2     28      7      0      0 \n"
        "Node 1, zone    DMA32      5      3      5      3     20     11      1      5      1      2     21 \n"
    )


# Zones and nodes without memory.


def test_zone_emptied_by_hotplug_ends_early() -> None:
    state = load("numa_fallback")
    state["zones"][0] |= {"present": 0, "managed": 0, "vm_stat": [0] * 11}
    text = zoneinfo.render(state)
    assert text.startswith("Node 0, zone      DMA\n  pages free     0\n        min      32\n")
    assert "protection: (0, 95, 95, 95)\nNode 0, zone    DMA32\n  per-node stats\n" in text
    assert "DMA " not in buddyinfo.render(state)
    assert "DMA," not in pagetypeinfo.render(state)


def test_node_without_memory() -> None:
    state = load("numa_fallback")
    state["zones"].pop()
    text = zoneinfo.render(state)
    assert text.count("Node 1, zone") == 4
    assert text.count("per-node stats") == 1
    assert text.endswith(
        "Node 1, zone  Movable\n  pages free     0\n        min      0\n        low      0\n        high     0\n"
        "        spanned  0\n        present  0\n        managed  0\n        protection: (0, 0, 0, 0)\n"
    )
    assert "Node 1" not in buddyinfo.render(state)
    assert pagetypeinfo.render(state).count("Page block order") == 1
    assert numastat.values(state, 1)["numa_hit"] == 0
    state["max_nr_zones"] = 5
    assert "Node 1, zone   Device\n  pages free     0\n" in zoneinfo.render(state)


def test_marks_include_the_boost_and_failing_kswapd_shows() -> None:
    state = load("numa_fallback")
    state["nodes"][1]["kswapd_failures"] = zoneinfo.MAX_RECLAIM_RETRIES
    text = zoneinfo.render(state)
    assert "        min      711\n        low      760\n        high     809\n" in text
    assert re.findall(r"node_unreclaimable:  (\d)", text) == ["0", "0", "1"]


def test_negative_counter_reads_as_zero() -> None:
    state = load("drain")
    state["zones"][0]["vm_stat"] = [-5] * 11
    state["zones"][1]["vm_stat"] = [3] * 11
    state["nodes"][0]["vm_stat"][0] = -1
    text = zoneinfo.render(state)
    assert "      nr_inactive_anon 0\n" in text
    assert "      nr_mlock     0\n" in text
    assert "      nr_mlock     3\n" in text
    # The kernel cuts the sum at 0, not each part.
    assert "nr_mlock 0\n" in vmstat.render(state)
    assert meminfo.values(state)["Mlocked"] == 0


# vmstat, numastat, meminfo.


@pytest.mark.parametrize("case", ALL)
def test_event_names_are_the_kernels(case: str) -> None:
    recorded_names = [line.split()[0] for line in recorded(case, "vmstat").splitlines()]
    events = recorded_names[recorded_names.index("nr_dirty_background_threshold") + 1 : -1]
    assert [name for name in names.VM_EVENTS if name not in names.CONFIG_VM_EVENTS] == events
    assert names.CONFIG_VM_EVENTS < set(names.VM_EVENTS)


def test_missing_event_is_zero_and_config_events_are_optional() -> None:
    state = load("drain")
    state["vm_events"] = {"balloon_inflate": 7, "numa_hint_faults": 8, "swap_ra": 9}
    text = vmstat.render(state)
    assert "oom_kill 0\nnuma_hint_faults 8\npgmigrate_success 0\n" in text
    assert text.endswith("thp_swpout_fallback 0\nballoon_inflate 7\nswap_ra 9\nswap_ra_hit 0\nnr_unstable 0\n")
    assert "numa_pte_updates" not in text
    state["vm_events"]["pgdemote_kswapd"] = 1
    with pytest.raises(ValueError, match="pgdemote_kswapd"):
        vmstat.render(state)


def test_dirty_limits() -> None:
    state = load("drain")
    state["totalreserve_pages"] = 1 << 40
    assert vmstat.global_dirty_limits(state) == (0, 0)
    state["nodes"][0]["vm_stat"][2:4] = [6000, 4000]
    assert vmstat.global_dirty_limits(state) == (10001 * 819 >> 12, 10001 * 409 >> 12)
    state["sysctl"] |= {"dirty_ratio": 50, "dirty_background_ratio": 60}
    state["totalreserve_pages"] = 0
    assert vmstat.global_dirty_limits(state) == (23378 // 2, 23378 // 4)


def test_numastat() -> None:
    state = with_zoneinfo(load("numa_fallback"), recorded("numa_fallback", "zoneinfo"))
    assert numastat.render_node(state, 1) == (
        "numa_hit 3496\nnuma_miss 289\nnuma_foreign 0\ninterleave_hit 2724\nlocal_node 0\nother_node 3785\n"
    )
    assert numastat.values(state, 0)["numa_hit"] == 114 + 8285
    with pytest.raises(ValueError, match="no node 2"):
        numastat.render_node(state, 2)
    assert numastat.render(load("numa_fallback")) == (
        "                           node0           node1\n"
        "numa_hit                    8130            3496\n"
        "numa_miss                      0             289\n"
        "numa_foreign                 289               0\n"
        "interleave_hit              2493            2724\n"
        "local_node                  8130               0\n"
        "other_node                     0            3785\n"
    )


def test_render_by_name() -> None:
    assert proc.FILES == ("buddyinfo", "meminfo", "numastat", "pagetypeinfo", "vmstat", "zoneinfo")
    state = load("drain")
    assert all(proc.render(name, state).endswith("\n") for name in proc.FILES)
    assert state == load("drain")
    with pytest.raises(ValueError, match="no file 'slabinfo': choose from buddyinfo"):
        proc.render("slabinfo", state)
