"""What a person sees while something runs: a live display on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from emu.machine import Machine
from emu.zone.init import zones_of
from emu.zone.mmzone import MAX_ORDER, ZONE_NAMES

__all__ = ["CompileProgress", "Screen", "console"]

console = Console(stderr=True, highlight=False)
PLAIN_EVERY = 2.0
REFRESH = 0.1
BAR = 28


class CompileProgress:
    """Shows the compiler at work: only when there is something to compile."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.began, self._bar = quiet, 0.0, None
        self._progress: Progress | None = None
        self._task: Any = None

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.quiet:
            return
        if not self.began:
            self.began = time.monotonic()
            console.print("compiling the allocator (once; it is cached)")
        # no threads here: processes are forked after this
        if console.is_terminal:
            filled = done * 30 // total
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r  [{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {what:.60s}\033[K{end}")
            sys.stderr.flush()
        elif done == total:
            console.print(f"  {total} functions in {time.monotonic() - self.began:.1f} s")


class Screen:
    """Zones, CPUs and progress of a running machine. Call it every few milliseconds; it draws when it is time to."""

    def __init__(self, machine: Machine, title: str, total: int, done: Callable[[], int], quiet: bool = False) -> None:
        self.machine, self.title, self.total, self.done = machine, title, total, done
        self.quiet = quiet
        self.next = 0.0
        self.began = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=total or None, rate="")
        self.live = Live(console=console, refresh_per_second=10, transient=False, auto_refresh=False)
        self.drawn = False

    def __enter__(self) -> "Screen":
        if console.is_terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        if console.is_terminal and not self.quiet:
            self.live.update(self._draw(), refresh=True)
            self.live.stop()
        elif not self.quiet and not self.drawn:
            self._line()

    def __call__(self) -> None:
        now = time.monotonic()
        if self.quiet or now < self.next:
            return
        if console.is_terminal:
            self.next = now + REFRESH
            self.live.update(self._draw(), refresh=True)
        else:
            if now - self.began > PLAIN_EVERY:
                self._line()
                self.drawn = True
            self.next = now + PLAIN_EVERY

    def _rate(self) -> str:
        return f"{self.done() / max(time.monotonic() - self.began, 1e-9):,.0f}/s"

    def _line(self) -> None:
        free = sum(z.vm_stat[0].counter for z in zones_of(self.machine.m))
        of = f" of {self.total:,}" if self.total else ""
        console.print(
            f"{self.title}: {self.done():,}{of} operations, {self._rate()}, {free:,} pages free", soft_wrap=True
        )

    def _draw(self) -> Group:
        self.progress.update(self.task, completed=self.done(), rate=self._rate())
        return Group(self.progress, self._zones(), self._cpus())

    def _zones(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for name in ("zone", "free", "", "min", "low", "high", "boost", "blocks by order 0 … 10"):
            table.add_column(name, justify="left" if name in ("zone", "", "blocks by order 0 … 10") else "right")
        for zone in zones_of(self.machine.m):
            free, managed = max(zone.vm_stat[0].counter, 0), max(zone.managed_pages, 1)
            low = zone.watermark[1] + zone.watermark_boost
            color = "green" if free > zone.watermark[2] else "yellow" if free > low else "red"
            bar = Text("█" * max(free * BAR // managed, int(free > 0)), color)
            bar.append("·" * (BAR - len(bar)), "dim")
            areas = " ".join(str(zone.free_area[o].nr_free) for o in range(MAX_ORDER))
            marks = [str(zone.watermark[i]) for i in range(3)]
            name = f"{zone.node} {ZONE_NAMES[zone.zid]}"
            table.add_row(name, f"{free:,}", bar, *marks, str(zone.watermark_boost), Text(areas, "dim"))
        return table

    def _cpus(self) -> Text:
        text = Text()
        for i in range(min(self.machine.m.nr_cpus, 8)):
            cpu = self.machine.board.cpu(i)
            allocated = sum(cpu.vm_events[4:8])
            text.append(f" cpu{i} ", "bold")
            text.append(f"{allocated:,} pages allocated  ", "dim")
        return text
