"""The map of memory against other books: the free lists, the pagesets, the counters, the workloads' slots."""

import re
from collections.abc import Iterator

import numpy as np
import pytest

from emu.config import make_config
from emu.html import memory_map
from emu.html.counts import OWNERS
from emu.html.memory_map import PLANES, Frame, MemoryMap, load_counts
from emu.run import WorkloadRun
from emu.salvage import slots_of
from emu.trace.page_owner import page_owner_text
from emu.zone.init import zones_of
from emu.zone.init_vm import vm_of
from emu.zone.mm_types import ADDRESS_SPACE_SIZE, MM_ANONPAGES, MM_SIZE, AddressSpace, Mm
from emu.zone.mmzone import MAX_ORDER, MIGRATETYPE_NAMES, Pageset
from emu.zone.report import comm
from emu.zone.snapshot import view
from shm.core import INTERPRETED
from shm.struct import address_of, record_at

OPERATIONS = 600 if INTERPRETED else 30_000


@pytest.fixture(scope="module", params=["mixed", "orders,filecache", "hog,forkstorm"])
def work(request: pytest.FixtureRequest) -> Iterator[WorkloadRun]:
    """A machine whose CPUs hold pages of all kinds, and rest."""
    load_counts()
    config = make_config({"cpus": 2, "memory": "48M", "workload": request.param, "fill": 0.3, "pin": False}, "test")
    with WorkloadRun(config) as made:
        made.post(OPERATIONS)
        made.machine.settle()
        yield made


def look(work: WorkloadRun) -> tuple[MemoryMap, Frame]:
    made = MemoryMap(work.machine.m, work.parts_by_cpu())
    return made, made.frame()


def column(frame: Frame, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return frame[:, PLANES.index(name)].astype(np.int64)


def test_every_page_is_somebodys(work: WorkloadRun) -> None:
    made, frame = look(work)
    pages = sum(column(frame, name) for name in OWNERS) - column(frame, "reserved")  # page 0 is
    for cells, zone in zip(made.zones, zones_of(work.machine.m), strict=True):
        assert cells.name.startswith(f"Node {zone.node} ")
        assert int(pages[cells.first : cells.first + cells.count].sum()) == zone.present_pages
    assert set(pages[1:].tolist()) == {512}
    assert made.per_cell == 1 and made.nr_cells == 24


def test_free_blocks_are_those_of_the_free_lists(work: WorkloadRun) -> None:
    _, frame = look(work)
    free, orders = np.zeros(24, np.int64), np.zeros((24, MAX_ORDER), np.int64)
    for zone in work.machine.state()["zones"]:
        for order, area in enumerate(zone["free_area"]):
            for pfn in (pfn for pfns in area["lists"] for pfn in pfns):
                orders[pfn >> 9, order] += 1
                for part in range(pfn, pfn + (1 << order), 512):
                    free[part >> 9] += min(1 << order, 512)
    assert column(frame, "free").tolist() == free.tolist()
    assert [column(frame, f"order {order}").tolist() for order in range(MAX_ORDER)] == orders.T.tolist()
    assert free.sum() > 0


def test_types_are_those_of_the_pageblocks(work: WorkloadRun) -> None:
    _, frame = look(work)
    for zone in work.machine.state(light=True)["zones"]:
        if zone["present"]:
            first, last = zone["start_pfn"] >> 9, -(-(zone["start_pfn"] + zone["spanned"]) // 512)
            for name, n in zip(MIGRATETYPE_NAMES, zone["pageblock_counts"], strict=False):
                assert int(column(frame, name.lower())[first:last].sum()) == n


def test_the_owners_are_those_of_the_counters(work: WorkloadRun) -> None:
    m = work.machine.m
    _, frame = look(work)
    vm, base = vm_of(m), address_of(m)
    files = (record_at(AddressSpace, base + vm.files + i * ADDRESS_SPACE_SIZE) for i in range(vm.nr_files))
    mms = (record_at(Mm, base + vm.mms + i * MM_SIZE) for i in range(vm.nr_mms))
    pagesets = [view(m, Pageset, zone.pageset, m.nr_parties)["count"].sum() for zone in zones_of(m)]
    assert int(column(frame, "file").sum()) == sum(file.nrpages for file in files)
    assert int(column(frame, "anon").sum()) == sum(mm.rss_stat[MM_ANONPAGES].counter for mm in mms if mm.mm_users)
    assert int(column(frame, "pcp").sum()) == sum(pagesets)
    light = work.machine.state(light=True)
    slab = sum(node["vm_stat"][light["node_stat_names"].index("nr_slab_reclaimable")] for node in light["nodes"])
    slab += sum(node["vm_stat"][light["node_stat_names"].index("nr_slab_unreclaimable")] for node in light["nodes"])
    assert 0 <= int(column(frame, "slab").sum()) - slab < 64 * m.nr_parties  # counters keep a little per CPU


def test_what_workloads_hold_is_theirs_and_the_cpu_is_named(work: WorkloadRun) -> None:
    m = work.machine.m
    _, frame = look(work)
    held, total = np.zeros((2, 24), np.int64), 0
    for cpu, run in work.parts_by_cpu():
        for pfn, order in slots_of(m, run)[["pfn", "order"]].tolist():
            if pfn < 0:
                continue
            total += 1 << order
            for part in range(pfn, pfn + (1 << order), 512):
                held[cpu, part >> 9] += min(1 << order, 512)
    assert int(column(frame, "workload").sum()) == total
    holder = [int(cell.argmax()) + 1 if cell.any() else 0 for cell in held.T]
    assert column(frame, "holder").tolist() == holder


def test_with_page_owner_all_that_is_in_use_has_a_holder() -> None:
    """Not only what workloads keep in slots: of each cell, whoever allocated most of its pages, as the file tells."""
    load_counts()
    values = {"cpus": 2, "memory": "48M", "workload": "filecache,hog,orders", "fill": 0.3, "pin": False}
    with WorkloadRun(make_config(values | {"boot": {"page_owner": True}}, "test")) as work:
        work.post(OPERATIONS)
        work.machine.settle()
        m = work.machine.m
        _, frame = look(work)
        parties = [comm(m, party) for party in range(m.nr_parties)]
        told = np.zeros((m.nr_parties, 24), np.int64)
        for block in page_owner_text(m):
            order, pfn, who = re.findall(r"order (\d+),.*\nPFN (\d+) .*\n.*\n (.+)\+0x0", block)[0]
            for part in range(int(pfn), int(pfn) + (1 << int(order)), 512):
                told[parties.index(who), part >> 9] += min(1 << int(order), 512)
        assert told.sum() > 1000
        assert column(frame, "holder").tolist() == [int(c.argmax()) + 1 if c.any() else 0 for c in told.T]


def test_cells_of_a_large_machine_are_sums_of_neighbours(work: WorkloadRun, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fine = look(work)
    monkeypatch.setattr(memory_map, "MOST_CELLS", 7)
    made, coarse = look(work)
    assert made.per_cell == 4 and made.nr_cells == 2 + 4  # the DMA zone's 8 blocks, and 16
    summed = fine[:, :-1].reshape(6, 4, -1).sum(axis=1)
    assert coarse[:, :-1].tolist() == summed.tolist()


def test_an_untouched_machine_is_free_but_for_its_first_page() -> None:
    load_counts()
    with WorkloadRun(make_config({"cpus": 1, "memory": "32M", "workload": "repeat", "pin": False}, "test")) as work:
        _, frame = look(work)
        totals = {name: int(column(frame, name).sum()) for name in OWNERS}
        assert {name for name, n in totals.items() if n} <= {"free", "reserved", "pcp", "slab"}
        assert totals["free"] > 8000
