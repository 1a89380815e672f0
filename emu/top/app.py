"""The screen of ``emu top``, with textual."""

from collections.abc import Callable
from typing import ClassVar

from rich.markup import escape
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.coordinate import Coordinate
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from emu.top.sample import CpuView, Sample, View, ZoneView, sample, view
from emu.top.text import BAR, bar, block_rows, cpu_row, number
from emu.zone.mmzone import MAX_ORDER, Machine

__all__ = ["Help", "Top"]

COLOURS = {"ok": "green", "low": "yellow", "min": "red", "below min": "bold red"}
STATE_COLOURS = {"running": "green", "irqs": "yellow", "interrupt": "yellow", "waiting": "red", "idle": "dim",
                 "offline": "dim"}  # fmt: skip
"""Of a CPU, by the first word of what it does."""
FASTEST, SLOWEST = 0.25, 16.0
SORTS: tuple[tuple[str, Callable[[CpuView], object]], ...] = (
    ("number", lambda cpu: 0), ("allocations", lambda cpu: -cpu.allocated), ("stalls", lambda cpu: -cpu.stalls),
    ("state", lambda cpu: cpu.state),
)  # fmt: skip
HELP = """\
[b]What it shows[/b]
zones    free pages, and as a bar that is full at 3 times high; m, l, h: the
         watermarks with the boost. ok (green): above high; low (yellow):
         kswapd works; min (red): below low; below min: only reserves
blocks   free blocks by order, all together or by migratetype (m)
cpus     pages a second allocated and freed, entries into the slow path and
         into direct reclaim; running (green), irqs off or in an interrupt
         (yellow), or the lock it waits for and its holder (red)
daemons  kswapd and kcompactd; reclaim, compaction, slow path a second
locks    by contentions a second, and the call site where most waited

[b]Keys[/b]
q quit   p pause   s sort CPUs   m blocks by migratetype   ? this
+ -      look less often, more often
1 to 9   one zone, its blocks by migratetype; the same again: all zones
"""
NARROW, NARROW_BAR = 100, 12  # columns of a terminal, and of the bars in one that has less


class Help(ModalScreen[None]):
    """What the columns and keys mean."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,question_mark", "dismiss", "back")]
    DEFAULT_CSS = "Help { align: center middle; } Help Static { width: auto; border: round $primary; padding: 0 1; }"

    def compose(self) -> ComposeResult:
        """One box."""
        yield Static(HELP)


class Top(App[None]):
    """Looks at a machine every few moments. ``alive`` says whether it still runs; when it doesn't, the screen stays for
    who wants to read it, or goes as well (``exit_with_machine``)."""

    CSS = """
        DataTable { height: auto; max-height: 999; scrollbar-size-horizontal: 0; }
        #events, #head { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "quit"), ("question_mark", "help", "help"), ("p", "pause", "pause"), ("s", "sort", "sort"),
        ("m", "types", "types"), ("plus", "slower", "slower"), ("minus", "faster", "faster"),
        *(Binding(str(n), f"zone({n})", "zone", show=n == 1, key_display="1-9") for n in range(1, 10)),
    ]  # fmt: skip
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self, machine: Machine, name: str, alive: Callable[[], bool], every: float = 1.0, *,
        exit_with_machine: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.exit_with_machine = exit_with_machine
        self.machine, self.name_of_machine, self.alive, self.every = machine, name, alive, every
        self.before: Sample = sample(machine)
        self.shown: View = view(machine, self.before, self.before)
        self.paused = self.by_type = self.ended = False
        self.bar = BAR
        self.order = 0  # of SORTS
        self.zone = 0  # the only one shown, counted from 1; 0: all

    def compose(self) -> ComposeResult:
        """From what is looked at most to what is looked at least."""
        yield Static(id="head")
        with VerticalScroll():
            for name in ("zones", "blocks", "cpus"):
                yield DataTable(id=name, show_cursor=False, cell_padding=0)
            yield Static(id="events")
            yield DataTable(id="locks", show_cursor=False, cell_padding=0)
        yield Footer()

    def on_mount(self) -> None:
        """Columns, and the first look."""
        for name, titles in (
            ("zones", ("zone", "free", "state", "", "min", "low", "high", "boost", "of")),
            ("blocks", ("blocks", "type", *(str(order) for order in range(MAX_ORDER)))),
            ("cpus", ("cpu", "alloc/s", "free/s", "slow/s", "stalls/s", "state")),
            ("locks", ("lock", "contended/s", "contended", "acquired", "mostly at")),
        ):
            self.table(name).add_columns(*(_cell(title) for title in titles))
        for table in self.query(DataTable):
            table.can_focus = False  # keys scroll all of it
        self.query_one(VerticalScroll).focus()
        self.draw()
        self.timer = self.set_interval(self.every, self.look)

    def on_resize(self, event: Resize) -> None:
        """Bars as long as there is room for; not before there are columns, nor under the help."""
        self.bar = NARROW_BAR if event.size.width < NARROW else BAR
        if self.query("#zones") and self.table("zones").columns:
            self.draw()

    def table(self, name: str) -> "DataTable[Text]":
        """One of the tables."""
        return self.query_one(f"#{name}", DataTable)

    def look(self) -> None:
        """The next sample, unless paused."""
        if not self.query("#head"):
            return  # a last tick, while the screen is taken down
        if not self.ended and not self.alive():
            self.ended = True
            self.draw()
            if self.exit_with_machine:
                self.exit()
        if self.paused or self.ended:
            return
        now = sample(self.machine)
        self.shown, self.before = view(self.machine, self.before, now), now
        self.draw()

    def draw(self) -> None:
        """Everything, from the view that was taken last."""
        v = self.shown
        state = "[b red]it has ended[/]" if self.ended else "[b yellow]paused[/]" if self.paused else ""
        pages = sum(cpu.allocated for cpu in v.cpus)
        self.query_one("#head", Static).update(
            f"[b]{self.name_of_machine}[/b]  {len(v.cpus)} CPUs  {number(pages)} pages/s  every {self.every:g} s  "
            f"sorted by {SORTS[self.order][0]}  {state}"
        )
        zones = v.zones[self.zone - 1 : self.zone] if self.zone else v.zones
        self.fill("zones", [_zone_row(zone, self.bar) for zone in zones])
        self.fill("blocks", [
            (zone.name, what, *(number(n) for n in counts))
            for zone in zones for what, counts in block_rows(zone, self.by_type or self.zone != 0)
        ])  # fmt: skip
        cpus = sorted(v.cpus, key=SORTS[self.order][1])  # type: ignore[arg-type]
        self.fill("cpus", [_cpu_row(cpu) for cpu in cpus])
        self.fill("locks", [
            (k.name, number(k.contended), f"{k.contentions:,}", f"{k.acquisitions:,}", k.at) for k in v.locks
        ])  # fmt: skip
        rates = {**v.events, "slow path": v.slowpaths, **v.retries}
        busy = "  ".join(f"{name} {number(rate)}/s" for name, rate in rates.items() if rate)
        daemons = "   ".join(f"[b]{daemon.name}[/b] {daemon.state}" for daemon in v.daemons)
        self.query_one("#events", Static).update(f"{daemons}\n{busy or 'no reclaim, no compaction, no slow path'}")

    def fill(self, name: str, rows: list[tuple[str, ...]]) -> None:
        """Put rows into a table: in place where their number hasn't changed, so that nothing flickers or scrolls."""
        table, cells = self.table(name), [[_cell(value) for value in row] for row in rows]
        if table.row_count != len(rows):
            table.clear()
            table.add_rows(cells)
            return
        for column, values in enumerate(zip(*cells, strict=True)):
            # One cell decides the width: for each that may, textual measures the column again if it got narrower.
            widest = max(values, key=lambda value: value.cell_len)
            for at, value in enumerate(values):
                if value is widest or value != table.get_cell_at(Coordinate(at, column)):
                    table.update_cell_at(Coordinate(at, column), value, update_width=value is widest)

    def action_help(self) -> None:
        """``?``"""
        self.push_screen(Help())

    def action_pause(self) -> None:
        """``p``"""
        self.paused = not self.paused
        self.draw()

    def action_sort(self) -> None:
        """``s``"""
        self.order = (self.order + 1) % len(SORTS)
        self.draw()

    def action_types(self) -> None:
        """``m``"""
        self.by_type = not self.by_type
        self.draw()

    def action_zone(self, n: int) -> None:
        """``1`` to ``9``"""
        if n <= len(self.shown.zones):
            self.zone = 0 if n == self.zone else n
            self.draw()

    def action_slower(self) -> None:
        """``+``"""
        self._every(min(self.every * 2, SLOWEST))

    def action_faster(self) -> None:
        """``-``"""
        self._every(max(self.every / 2, FASTEST))

    def _every(self, seconds: float) -> None:
        self.every = seconds
        self.timer.stop()
        self.timer = self.set_interval(seconds, self.look)
        self.draw()


def _cell(value: str) -> Text:
    """With a space in front of it; numbers to the right."""
    text = Text.from_markup(value)
    text.justify = "right" if text.plain[:1].isdigit() and " " not in text.plain else "left"
    return Text(" ", justify=text.justify).append_text(text)


def _cpu_row(cpu: CpuView) -> tuple[str, ...]:
    *rates, state = cpu_row(cpu)
    colour = STATE_COLOURS.get(state.partition(" ")[0], "default")
    return (*rates, f"[{colour}]{escape(state)}[/]")


def _zone_row(zone: ZoneView, width: int) -> tuple[str, ...]:
    colour = COLOURS[zone.state]
    marks = (number(mark) for mark in (zone.min, zone.low, zone.high, zone.boost))
    return (zone.name, f"{zone.free:,}", f"[{colour}]{zone.state}[/]", f"[{colour}]{bar(zone, width)}[/]", *marks,
            number(zone.managed))  # fmt: skip
