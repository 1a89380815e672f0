"""The screen, driven by textual's pilot over a machine of this process."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from emu.top.app import COLOURS, HELP, Help, Top
from emu.top.free_blocks import load_free_blocks
from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.init import party_of, zones_of
from emu.zone.vmstat_items import VM_EVENT_NAMES

Script = Callable[[Top, Pilot[None]], Awaitable[None]]
PGALLOC = VM_EVENT_NAMES.index("pgalloc_dma32")
NEVER = 3600.0  # the test looks itself


@pytest.fixture
def board() -> Iterator[Board]:
    load_free_blocks()
    with Board.boot(shape_of(4, [32768])) as made:
        yield made


def play(
    board: Board, script: Script, size: tuple[int, int] = (100, 40), alive: bool = True, **options: bool
) -> None:  # fmt: skip
    """A session with the screen."""

    async def session() -> None:
        app = Top(board.m, "emu-1-test", lambda: alive, NEVER, **options)
        async with app.run_test(size=size) as pilot:
            await script(app, pilot)

    asyncio.run(session())


def column(app: Top, table: str, index: int) -> list[str]:
    return [row[index] for row in rows(app, table)]


def rows(app: Top, table: str) -> list[list[str]]:
    found: DataTable[Any] = app.query_one(f"#{table}", DataTable)
    return [[str(cell).strip() for cell in found.get_row_at(at)] for at in range(found.row_count)]


def head(app: Top) -> str:
    return str(app.query_one("#head", Static).render())


def test_the_numbers_are_the_machines(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        zones = zones_of(board.m)
        assert column(app, "zones", 1) == [f"{zone.vm_stat[0].counter:,}" for zone in zones]
        assert column(app, "zones", 5) == [str(zone.watermark[1]) for zone in zones]
        assert column(app, "cpus", 0) == ["cpu0", "cpu1", "cpu2", "cpu3"]
        assert all(len(row) == 13 for row in rows(app, "blocks"))
        zones[-1].vm_stat[0].counter = 1
        app.look()
        assert column(app, "zones", 1)[-1] == "1" and column(app, "zones", 2)[-1] == "below min"

    play(board, script)


def test_p_pauses(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        shown = column(app, "zones", 1)
        await pilot.press("p")
        assert "paused" in head(app)
        zones_of(board.m)[-1].vm_stat[0].counter = 5
        app.look()
        assert column(app, "zones", 1) == shown
        await pilot.press("p")
        app.look()
        assert "paused" not in head(app) and column(app, "zones", 1)[-1] == "5"

    play(board, script)


def test_s_sorts_cpus(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        party_of(board.m, 2).vm_events[PGALLOC] += 1000
        app.look()
        assert column(app, "cpus", 0)[0] == "cpu0" and "sorted by number" in head(app)
        await pilot.press("s")
        assert column(app, "cpus", 0) == ["cpu2", "cpu0", "cpu1", "cpu3"] and "sorted by allocations" in head(app)
        for _ in range(3):
            await pilot.press("s")
        assert column(app, "cpus", 0)[0] == "cpu0"

    play(board, script)


def test_m_shows_blocks_by_type(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert set(column(app, "blocks", 1)) == {"all"}
        await pilot.press("m")
        assert "Movable" in column(app, "blocks", 1) and "all" not in column(app, "blocks", 1)
        await pilot.press("m")
        assert set(column(app, "blocks", 1)) == {"all"}

    play(board, script)


def test_a_digit_shows_one_zone(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        every = column(app, "zones", 0)
        assert len(every) > 1
        await pilot.press("2")
        assert column(app, "zones", 0) == [every[1]]
        assert set(column(app, "blocks", 0)) == {every[1]} and "Movable" in column(app, "blocks", 1)
        await pilot.press("1")
        assert column(app, "zones", 0) == [every[0]]
        await pilot.press("9")  # there is none
        assert column(app, "zones", 0) == [every[0]]
        await pilot.press("1")
        assert column(app, "zones", 0) == every and set(column(app, "blocks", 1)) == {"all"}

    play(board, script)


@pytest.mark.parametrize(
    ("state", "off", "word", "colour"),
    [(2, 0, "running", "green"), (2, 1, "irqs off", "yellow"), (1, 0, "idle", "dim")],
)
def test_what_a_cpu_does_is_a_word_and_a_colour(board: Board, state: int, off: int, word: str, colour: str) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        party = party_of(board.m, 1).party
        party.pid, party.state, party.irqs_off = 1, state, off
        app.look()
        cell = app.table("cpus").get_row_at(1)[5]
        assert cell.plain.strip() == word and [str(span.style) for span in cell.spans] == [colour]

    play(board, script)


def test_plus_and_minus_change_the_interval(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        app._every(1.0)
        await pilot.press("plus")
        assert app.every == 2.0 and "every 2 s" in head(app)
        for _ in range(9):
            await pilot.press("minus")
        assert app.every == 0.25
        for _ in range(9):
            await pilot.press("plus")
        assert app.every == 16.0

    play(board, script)


def test_it_looks_by_itself(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        app._every(0.05)
        zones_of(board.m)[-1].vm_stat[0].counter = 77
        await pilot.pause(0.5)
        assert column(app, "zones", 1)[-1] == "77"

    play(board, script)


def test_question_mark_explains_and_q_quits(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)
        await pilot.press("q")
        assert app._exit

    play(board, script)


def test_the_end_of_the_machine_is_said(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        before = app.shown
        app.look()
        assert "it has ended" in head(app) and app.shown is before

        assert not app._exit

    play(board, script, alive=False)


def test_it_ends_with_the_machine_if_it_is_to(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        app.look()
        assert app._exit and app.ended

    play(board, script, alive=False, exit_with_machine=True)


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (200, 60)])
def test_any_terminal_will_do(board: Board, size: tuple[int, int]) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert app.query_one("#head").region.width <= size[0]
        assert app.query_one("#zones").region.height >= 2
        await pilot.press("m", "s", "question_mark", "escape")

    play(board, script, size)


def busy(board: Board) -> None:
    """Numbers as long as they get: every zone is low and split up, every CPU waits, every lock was waited for."""
    for zone in zones_of(board.m):
        zone.watermark_boost = zone.managed_pages
        zone.lock.acquisitions, zone.lock.contentions = 10**9, 10**6
    for index in range(board.m.nr_cpus):
        party_of(board.m, index).vm_events[PGALLOC] += 10**7


@pytest.mark.parametrize("cpus", [4, 64])
@pytest.mark.parametrize("pages", [32768, 8 << 18])
def test_80_columns_have_every_column(cpus: int, pages: int) -> None:
    load_free_blocks()

    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("m")
        app.look()
        await pilot.pause()
        assert {table.id for table in app.query(DataTable) if table.virtual_size.width > 80} == set()
        assert all(word in COLOURS for word in column(app, "zones", 2))
        await pilot.press("question_mark")
        box = app.screen.query_one(Static)
        assert box.region.right <= 80 and box.region.bottom <= 24
        assert max(map(len, Text.from_markup(HELP).plain.splitlines())) <= box.content_region.width

    with Board.boot(shape_of(cpus, [pages])) as board:
        busy(board)
        play(board, script, (80, 24))


def test_bars_are_as_long_as_there_is_room_for(board: Board) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert {len(bar) for bar in column(app, "zones", 3)} == {24}
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        bars = column(app, "zones", 3)
        assert {len(bar) for bar in bars} == {12} and all(mark in bar for bar in bars for mark in "mlh")

    play(board, script)


def test_columns_are_as_wide_as_what_is_in_them(board: Board) -> None:
    """When a number gets longer, and when it gets shorter again."""

    async def script(app: Top, pilot: Pilot[None]) -> None:
        widths = []
        for pages in (0, 10**12, 0):
            party_of(board.m, 3).vm_events[PGALLOC] += pages
            app.before = replace(app.before, at=app.before.at - 1.0)
            app.look()
            await pilot.pause()
            widths.append(app.table("cpus").ordered_columns[1].content_width)
            assert widths[-1] == max(len(" alloc/s"), *(len(row[1]) + 1 for row in rows(app, "cpus")))
        free = app.table("zones").ordered_columns[1]
        for count, width in ((12_345_678, 11), (7, len(" 4,095"))):
            zones_of(board.m)[-1].vm_stat[0].counter = count
            app.look()
            await pilot.pause()
            assert free.content_width == width

    play(board, script)


def test_64_cpus_scroll() -> None:
    load_free_blocks()

    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert len(rows(app, "cpus")) == 64
        view = app.query_one("VerticalScroll")
        assert view.max_scroll_y > 20
        await pilot.press("end")
        await pilot.pause(0.3)
        assert view.scroll_y == view.max_scroll_y

    with Board.boot(shape_of(64, [65536])) as board:
        play(board, script, (80, 24))
