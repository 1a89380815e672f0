"""What is read of a machine, and how it is told."""

from dataclasses import replace

import numpy as np
import pytest

from emu.top.free_blocks import free_blocks, load_free_blocks
from emu.top.sample import Sample, View, ZoneView, sample, view
from emu.top.text import bar, block_rows, number, render
from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.init import party_of, zones_of
from emu.zone.mmzone import Machine
from emu.zone.sched import task_at, user_task
from emu.zone.vmstat_items import VM_EVENT_NAMES

ZONE = ZoneView("0 Normal", 0, 9000, 100, 200, 300, 0, ((0, 3, 0, 0, 0, 0),) * 10 + ((1, 5, 2, 0, 0, 0),))


@pytest.fixture
def board() -> Board:
    load_free_blocks()
    with Board.boot(shape_of(2, [32768])) as made:
        yield made


def count(m: Machine, party: int, name: str, n: int) -> None:
    party_of(m, party).vm_events[VM_EVENT_NAMES.index(name)] += n


def later(m: Machine, before: Sample, seconds: float) -> View:
    return view(m, before, replace(sample(m), at=before.at + seconds))


def test_lists_are_as_long_as_the_state_says(board: Board) -> None:
    state = board.state(light=True)
    for zone, told in zip(zones_of(board.m), state["zones"], strict=True):
        counted = free_blocks(board.m, zone)
        assert [list(row[: state["migrate_types"]]) for row in counted] == [a["counts"] for a in told["free_area"]]
        assert [sum(row) for row in counted] == [area.nr_free for area in zone.free_area]


def test_a_torn_list_ends_the_count(board: Board) -> None:
    zone = zones_of(board.m)[-1]
    order, mt = next((o, t) for o in range(11) for t in range(6) if free_blocks(board.m, zone)[o][t] > 1)
    zone.free_area[order].free_list[mt].next = 2  # no page's link
    assert free_blocks(board.m, zone)[order][mt] == 0


def test_rates_are_per_second_and_cpu(board: Board) -> None:
    m = board.m
    before = sample(m)
    count(m, 0, "pgalloc_dma32", 100)
    count(m, 0, "pgfree", 40)
    count(m, 1, "pgalloc_movable", 6)
    count(m, 1, "allocstall_normal", 3)
    count(m, 2, "pgscan_kswapd", 8)  # kswapd's own
    v = later(m, before, 2.0)
    assert [(c.allocated, c.freed, c.stalls) for c in v.cpus] == [(50.0, 20.0, 0.0), (3.0, 0.0, 1.5)]
    assert [c.slowpaths for c in v.cpus] == [0.0, 0.0]
    assert v.events["pgscan_kswapd"] == 4.0 and v.events["pgsteal_kswapd"] == 0.0


def test_slow_path_by_reason(board: Board) -> None:
    before = sample(board.m)
    task = board.task(0)
    task.slowpaths += 4
    task.retries_by[0] += 6
    v = later(board.m, before, 2.0)
    assert v.slowpaths == 2.0 and list(v.retries.values()) == [3.0]
    assert [c.slowpaths for c in v.cpus] == [2.0, 0.0]
    assert next(iter(v.retries)).startswith("retries: ")


def test_user_tasks_count_for_the_cpu_that_runs_them() -> None:
    """Eight for each CPU."""
    with Board.boot(replace(shape_of(2, [32768]), mms=16)) as board:
        m = board.m
        before = sample(m)
        for k, entries in ((0, 1), (7, 2), (8, 5), (15, 7)):
            task_at(m, user_task(m, k)).slowpaths += entries
        assert [c.slowpaths for c in later(m, before, 1.0).cpus] == [3.0, 12.0]


def test_locks_by_what_was_waited_for_since(board: Board) -> None:
    zone = zones_of(board.m)[-1]
    zone.lock.acquisitions, zone.lock.contentions = 500, 30
    before = sample(board.m)
    zone.lock.contentions += 10
    board.m.nodes[0].lru_lock.acquisitions = 9
    board.m.nodes[0].lru_lock.contentions = 50
    v = later(board.m, before, 0.5)
    assert [(lock.name, lock.contended, lock.contentions) for lock in v.locks] == [
        ("&pgdat->lru_lock", 100.0, 50), ("&zone->lock", 20.0, 40)
    ]  # fmt: skip


def test_states_of_cpus_and_daemons(board: Board) -> None:
    m = board.m
    m.nodes[0].kswapd_order, m.nodes[0].kswapd_failures = 3, 2
    for index, (pid, busy, off, nesting) in enumerate(((1, 2, 0, 0), (1, 2, 1, 0))):
        cpu = party_of(m, index)
        cpu.party.pid, cpu.party.state, cpu.party.irqs_off, cpu.irq_nesting = pid, busy, off, nesting
    before = sample(m)
    assert [c.state for c in later(m, before, 1.0).cpus] == ["running", "irqs off"]
    party_of(m, 0).party.state, party_of(m, 1).party.dead = 1, 1
    assert [c.state for c in later(m, before, 1.0).cpus] == ["idle", "offline"]
    assert later(m, before, 1.0).daemons[0].state == "awake for order 3, 2 failures"


@pytest.mark.parametrize(
    ("free", "boost", "state"),
    [(301, 0, "ok"), (300, 0, "low"), (200, 0, "min"), (100, 0, "below min"), (301, 50, "low"), (120, 50, "below min")],
)
def test_where_free_pages_are(free: int, boost: int, state: str) -> None:
    assert replace(ZONE, free=free, boost=boost).state == state


@pytest.mark.parametrize(
    ("free", "drawn"),
    [(0, "..m.l.h..........."), (250, "##m#l.h..........."), (900, "##m#l#h###########"), (9, "..m.l.h...........")],
)
def test_the_bar_has_its_marks(free: int, drawn: str) -> None:
    assert bar(replace(ZONE, free=free), 18) == drawn


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0"), (9999, "9999"), (12_345, "12.3k"), (4_500_000, "4.5M"), (2e9, "2.0G")]
)
def test_numbers_are_short(value: float, told: str) -> None:
    assert number(value) == told


def test_blocks_by_type_leave_out_types_that_have_none() -> None:
    assert [name for name, _ in block_rows(ZONE, by_type=True)] == ["Unmovable", "Movable", "Reclaimable"]
    assert block_rows(ZONE, by_type=False) == [("all", (3,) * 10 + (8,))]


def test_the_text_has_100_columns_at_most(board: Board) -> None:
    before = sample(board.m)
    for name in VM_EVENT_NAMES:
        count(board.m, 0, name, 7_654_321)
    text = render("emu-1-aaaa", later(board.m, before, 0.5))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "emu-1-aaaa has ended" in render("emu-1-aaaa", later(board.m, before, 0.5), ended=True)
    assert "no lock was waited for" in text and "nobody in the slow path" in text
    assert "pgscan_kswapd 15.3M/s" in text


def test_many_cpus_are_cut_short() -> None:
    with Board.boot(shape_of(64, [65536])) as board:
        before = sample(board.m)
        text = render("m", later(board.m, before, 1.0))
    assert "cpu15" in text and "cpu16" not in text and "and 48 more" in text


def test_a_view_is_plain_data(board: Board) -> None:
    before = sample(board.m)
    data = later(board.m, before, 1.0).as_dict()
    assert data["migratetypes"][1] == "Movable" and len(data["zones"][0]["blocks"]) == 11
    assert isinstance(before.events, np.ndarray)
