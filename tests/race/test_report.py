"""Reports of a recorded schedule: text, JSON, a page, a timeline."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emu.programs import load_all
from emu.race.fields import Namer
from emu.race.hunt import hunt
from emu.race.players import Players
from emu.race.replay import Recording, Seen, Write, from_log, record, replay
from emu.race.report import Report
from emu.race.scenario import Scenario, small
from emu.race.source import source_of
from emu.race.verdict import Verdict
from emu.race.witness import Did
from tests.race.planted import COUNTED, LOOP
from tests.race.reports import bare, found, played

# --- text -------------------------------------------------------------------------------------------------------------

DIAGRAM = """\
CPU0                                              CPU1
free(slot=0)
__free_pages()
  put_page_testzero
    page 0: refcount 1 -> 0
free_unref_page_prepare()
  read migratetype = Movable (page 0)
    page 0: index 0 -> 1
free_unref_page()
  irqsave
    pcp.count 0 -> 1
  <preempted>
                                                  pagelist_fraction()
                                                      percpu_pagelist_fraction 0 -> 8
                                                  pageset_update()
                                                    write pcp.batch, as it was
                                                    write cpu0's pcp.high 0 -> 256
                                                    write cpu0's pcp.batch 1 -> 64
                                                    write pcp.batch, as it was
                                                    write pcp.high 0 -> 256
                                                    write pcp.batch 1 -> 64
                                                      5 others' pcp.high 0 -> 256
                                                      5 others' pcp.batch 1 -> 64
                                                    <ends>
free_unref_page_commit()
  read pcp.batch = 64
    pcp.lists[Movable].first page 0 -> none
    pcp.lists[Movable].last page 0 -> none
free_pcppages_bulk()
  list is empty
  ... the same 4 more times
free_pcppages_bulk()
  list is empty
  <finds everything as it was>

livelock:
  cpu0 comes to free_pcppages_bulk:list is empty again and again, and finds everything as it was
"""


def test_columns_of_a_livelock(loop: Report) -> None:
    assert "\n".join(loop.body(100)) + "\n" == DIAGRAM


def test_the_text_begins_with_the_title_and_ends_with_the_command(loop: Report) -> None:
    lines = loop.text(100).splitlines()
    assert lines[0] == "LOOP (without the fix): a free that never ends"
    assert lines[-1] == f"replay: emu race replay '{loop.recording.schedule}'"
    more = replace(loop, options=("--file", "my file.py"))
    assert more.text(100).endswith(f"emu race replay '{loop.recording.schedule}' --file 'my file.py'")


def test_what_is_broken_is_said_with_its_number(twice: Report) -> None:
    assert list(twice.verdict_lines()) == [
        "invariant: highatomic-counted",
        "  nr_reserved_highatomic is 512 for each HIGHATOMIC pageblock. (found -512)",
    ]
    text = twice.text(150)
    assert text.count("<preempted>") == 2
    for line in ("nr_reserved_highatomic 1024 -> 512", "pageblock 0: HighAtomic -> Movable", "page 0: +buddy",
                 "read migratetype = HighAtomic (page 0)", "unreserve() returns 1"):  # fmt: skip
        assert line in text
    assert "free_list" not in text and "lru.next" not in text, "links are noise where something else is written"


def test_an_interrupt_stands_in_its_cpus_column() -> None:
    load_all()
    lines = list(found(COUNTED).body(100))
    assert lines[0] == "CPU0"
    inside = lines[lines.index("  <irq>") + 1 : lines.index("  <end of irq>")]
    assert inside[0] == "count()" and "  write pcp.vm_stat_diff[nr_mlock] 0 -> 1" in inside
    assert "  write vm_stat_diff, as it was" in lines


@pytest.mark.parametrize("width", [200, 120, 80, 60])
@pytest.mark.parametrize("cpus", [1, 2, 3, 5, 8])
def test_lines_fit_and_columns_stay_in_order(width: int, cpus: int) -> None:
    names = [f"cpu{i}" for i in range(cpus)]
    scenario = bare(cpus, **dict.fromkeys(names, ()))
    steps = [
        Seen(name, "some_function:read zone_flags", value="1, of many words that take some room") for name in names
    ]
    lines = list(played(scenario, *steps).body(width))
    assert all(len(line) <= width for line in lines), max(lines, key=len)
    starts = [next(line.index(f"CPU{i}") for line in lines if f"CPU{i}" in line) for i in range(cpus)]
    assert starts == sorted(starts) and len(set(starts)) == cpus
    heads = [line for line in lines if line.strip() == "some_function()"]
    assert [len(line) - len(line.lstrip()) for line in heads] == starts


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    report = played(bare(2, cpu0=(), cpu1=()), Seen("cpu1", "f:lock"))
    monkeypatch.setenv("COLUMNS", "90")
    assert next(report.body()).index("CPU1") == 45


def test_rounds_of_a_loop_are_shown_once() -> None:
    rounds = [Seen("cpu0", point) for _ in range(15) for point in ("f:retry", "g:read x", "h:lock")]
    report = played(bare(), Seen("cpu0", "start"), *rounds)
    lines = list(report.body(80))
    assert lines[1:8] == [
        "f()", "  retry", "g()", "  read x", "h()", "  lock", "  ... the same 3 steps 14 more times"
    ]  # fmt: skip
    assert sum(line == "f()" for line in report.body(80, full=True)) == 15


def test_rounds_that_differ_in_numbers_say_so() -> None:
    steps = [Seen("cpu0", "f:write x", writes=(Write("m.x", i, i + 1),)) for i in range(6)]
    assert "  ... the same 5 more times, with other numbers" in played(bare(), *steps).body(80)


def test_the_middle_of_a_long_run_is_left_out_but_for_what_others_touch() -> None:
    run = [Seen("cpu0", f"f:read {letter}") for letter in "abcdefghijklmnopqrstuvwxyzABCD"]
    run[15] = Seen("cpu0", "f:write shared", writes=(Write("m.shared", 0, 1),))
    lines = list(played(bare(), *run, Seen("cpu1", "g:read shared", preempts="cpu0")).body(80))
    assert "  write shared 0 -> 1" in lines
    assert [line for line in lines if "..." in line] == ["  ... 13 steps", "  ... 11 steps"]


def test_who_waits_says_for_what() -> None:
    scenario = bare(2, cpu0=(), cpu1=())
    waits = "waits for node0 Normal.lock, held by cpu1"
    verdict = Verdict("deadlock", "cpu0", text="cpu0 " + waits + "; cpu1 waits for node0.lru_lock, held by cpu0")
    report = played(scenario, Seen("cpu0", "f:lock", stands=waits), verdict=verdict)
    assert "  <waits for zone lock, held by cpu1>" in report.body(100)
    assert list(report.verdict_lines()) == [
        "deadlock:", "  cpu0 waits for zone lock, held by cpu1", "  cpu1 waits for lru_lock, held by cpu0"
    ]  # fmt: skip


def test_operations_begin_and_end() -> None:
    steps = (
        Seen("cpu0", "start", did=(Did("alloc(slot=0)"),)),
        Seen("cpu0", "rmqueue:lock", did=(Did("alloc(slot=0)", True, "page 7"), Did("free(slot=0)"))),
        Seen("cpu0", "f:lock", did=(Did("free(slot=0)", True),), stands="end"),
    )
    assert list(played(bare(1), *steps).body(80))[1:9] == [
        "alloc(slot=0)", "rmqueue()", "  lock", "  alloc() returns page 7", "free(slot=0)", "f()", "  lock", "  <ends>"
    ]  # fmt: skip


def test_what_a_crash_leaves_is_the_schedulers_log() -> None:
    load_all()
    for scenario in (LOOP, COUNTED):
        with Players(scenario) as players:
            search = hunt(players, seconds=60)
            assert search.found and search.found.schedule
            seen = record(players, search.found.schedule)
            again = replay(players, search.found.schedule)
            log = from_log(players, search.found.schedule, again.verdict)

        def steps(of: Recording) -> list[Any]:
            return [(step.actor, step.point, step.preempts, step.enabled) for step in of.steps]

        assert steps(log) == steps(seen) and log.verdict == again.verdict
        assert "CPU0" in Report(log, scenario).text()


# --- names of fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (Write("pcp of cpu0, node0 Normal.count", 1, 2), "pcp.count 1 -> 2"),
        (Write("pcp of cpu1, node0 Normal.count", 1, 2), "cpu1's pcp.count 1 -> 2"),
        (Write("node0 Normal.vm_stat[0].counter", 5, 4), "vm_stat[nr_free_pages] 5 -> 4"),
        (Write("node0.kswapd_order", 0, 9), "kswapd_order 0 -> 9"),
        (Write("node0 Normal.zone_flags", 0, 1), "zone_flags +BOOSTED_WATERMARK"),
        (Write("page 3.page_flags", 0, 1 << 10), "page 3: +lru"),
        (Write("pageblock 1", 1 | 16, 5 | 16), "pageblock 1: Movable -> Isolate"),
        (Write("pageblock 1", 1, 1 | 8), "pageblock 1: +skip"),
        (Write("vm.kswapds[0].reclaim_order", 0, 3), "kswapd0's reclaim_order 0 -> 3"),
        (Write("vm.kswapds[0].task", 4096, 0), "kswapd0's task a task -> NULL"),
    ],
)
def test_fields_have_short_names(write: Write, line: str) -> None:
    assert Namer(bare()).writes([write], "cpu0") == [line]


def test_more_than_one_zone_has_its_name() -> None:
    namer = Namer(Scenario("X1", "", "", small(2, nodes=2), {"cpu0": ()}, ()))
    assert namer.writes([Write("node1 Normal.watermark_boost", 0, 8)], "irq0") == ["node1.watermark_boost 0 -> 8"]


def test_links_are_shown_where_nothing_else_is() -> None:
    link, order = Write("page 4.lru.next", 8, -1), Write("node0 Normal.free_area[2].nr_free", 0, 1)
    namer = Namer(bare())
    assert namer.writes([link], "cpu0") == ["page 4: lru.next page 8 -> head"]
    assert namer.writes([link, order], "cpu0") == ["free_area[2].nr_free 0 -> 1"]
    assert namer.writes([Write("scenario.slots[1]", 0, 3), Write("cpu0.bulk.next", -1, 2)], "cpu0") == []


def test_neighbours_are_one_line_and_many_lines_are_cut() -> None:
    namer = Namer(bare())
    pages = [Write(f"page {pfn}.refcount", 0, 1) for pfn in (3, 4, 5, 9)]
    assert namer.writes(pages, "cpu0") == ["pages 3-5: refcount 0 -> 1", "page 9: refcount 0 -> 1"]
    orders = [Write(f"node0 Normal.free_area[{order}].nr_free", 0, 1) for order in range(4)]
    assert namer.writes(orders, "cpu0") == ["free_area[0..3].nr_free 0 -> 1"]
    many = [Write(f"m.field{i}", 0, i) for i in range(1, 11)]
    lines = namer.writes(many, "cpu0")
    assert len(lines) == 6 and lines[-1] == "... and 5 more"


# --- the source -------------------------------------------------------------------------------------------------------


def test_the_source_of_a_scenario_is_a_file_of_its_own(tmp_path: Path) -> None:
    from emu.race.catalogue import catalogue, load_file

    for scenario in catalogue().values():
        path = tmp_path / f"{scenario.id}.py"
        path.write_text(source_of(scenario))
        (again,) = load_file(path)
        assert again.programs == scenario.programs and again.invariants == scenario.invariants
        assert again.named(setup=None) == scenario.named(setup=None)
    assert source_of(LOOP) == ""
