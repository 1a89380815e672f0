"""What the commands share: the app, options, configuration, the end of a run."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.complete import sysctls
from emu.cli.order import InOrder

if TYPE_CHECKING:
    from emu.config import MachineConfig
    from emu.proc.lock_stat import LockClass
    from emu.zone.board import Board

app = typer.Typer(
    name="emu", cls=InOrder, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    add_completion=True,
    help="The Linux 5.10 zoned page allocator, run by real processes over shared memory.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Directory for the report (summary, state, /proc files).")
]
Cpus = Annotated[int | None, typer.Option(metavar="N", help="Simulated CPUs, one OS process each (1 to 256).")]
Memory = Annotated[
    str | None, typer.Option("--memory", "--mem", metavar="SIZE", help="Memory of the only node: 512M, 4G.")
]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="SIZE", help="Memory of one node; give it once per node (up to 8)."),
]
Sysctls = Annotated[
    list[str] | None,
    typer.Option("--sysctl", metavar="vm.NAME=VALUE", autocompletion=sysctls, help="As in /proc/sys/vm; repeatable."),
]
Boots = Annotated[list[str] | None, typer.Option("--boot", metavar="NAME[=VALUE]", help="Boot parameter; repeatable.")]

NEXT = "next: "


class UsageError(ValueError):
    """What the user asked for can't be done: one line."""


def option_value(text: str, option: str) -> tuple[str, Any]:
    """``NAME=VALUE`` of an option; numbers separated by commas are a list."""
    name, eq, value = text.partition("=")
    name = name.removeprefix("vm.")
    if not name or (not eq and option == "--sysctl"):
        raise UsageError(f"{option} {text}: give NAME=VALUE")
    if not eq:
        return name, True
    if "," in value or " " in value.strip():
        try:
            return name, [int(v) for v in value.replace(",", " ").split()]
        except ValueError:
            raise UsageError(f"{option} {text}: {value!r} is no list of numbers") from None
    return name, value


def config_of(
    machine: Path | None, cpus: int | None, memory: str | None, nodes: list[str] | None, sysctl: list[str] | None,
    boot: list[str] | None, **more: Any,
) -> MachineConfig:  # fmt: skip
    """The machine that a file and the options describe."""
    from emu.config import load_config

    values = {
        k: v for k, v in {"cpus": cpus, "memory": memory, "nodes": nodes or None, **more}.items() if v is not None
    }
    if sysctl:
        values["sysctl"] = dict(option_value(text, "--sysctl") for text in sysctl)
    if boot:
        values["boot"] = dict(option_value(text, "--boot") for text in boot)
    return load_config(machine, values)


def print_result(as_json: bool, data: dict[str, Any], lines: list[str], follow: str = "") -> None:
    """One JSON object, or the lines and the next useful command."""
    if as_json:
        typer.echo(json.dumps(data))
        return
    for line in lines:
        typer.echo(line)
    if follow:
        typer.echo(NEXT + follow)


def problems(board: Board) -> list[str]:
    """What is wrong with a machine's state."""
    from emu.zone.validate import validate

    return validate(board.m)


def finish(
    summary: dict[str, Any], lines: list[str], board: Board, out: Path, as_json: bool, follow: str,
    page: Callable[[list[str]], list[str]] = lambda _: [],
) -> None:  # fmt: skip
    """Validate, write the report, print; exit status 1 when the state is not right.

    ``page`` writes another one, gets what is wrong and says where it is.
    """
    from emu.report import write_report

    wrong = problems(board)
    summary["validate"] = wrong
    more = {}
    if board.cpu(0).party.lock_stat:
        from emu.proc import lock_stat
        from emu.zone.locks import locks_of

        more["lock_stat"] = lock_stat.render(locks_of(board.m))
        classes = lock_stat.lock_classes(locks_of(board.m))
        summary["locks"] = [dataclasses.asdict(what) for what in classes]
        lines += contention(classes)
    path = write_report(out, summary, board.state(), more)
    summary["report"] = str(path)
    lines.append("validate: clean" if not wrong else f"validate: {len(wrong)} problems")
    lines += [f"  {problem}" for problem in wrong[:20]]
    lines += [f"report: {path}", *page(wrong)]
    print_result(as_json, summary, lines, follow)
    if wrong:
        raise typer.Exit(1)


def contention(classes: list[LockClass], most: int = 6) -> list[str]:
    """The locks that were waited for, a line each."""
    from emu.proc.lock_stat import symbol

    lines = [f"{'lock':24}{'acquired':>14}{'contended':>12}{'share':>8}{'wait avg':>11}{'max us':>11}  mostly at"]
    for what in [c for c in classes if c.waits.nr][:most]:
        share = what.waits.nr / max(what.holds.nr, 1)
        at = symbol(what.contention_points[0].site).partition("+")[0] if what.contention_points else ""
        lines.append(
            f"{what.name:24}{what.holds.nr:14,}{what.waits.nr:12,}{share:8.2%}{what.waits.average / 1000:11,.2f}"
            f"{what.waits.longest / 1000:11,.2f}  {at}"
        )
    return lines if len(lines) > 1 else ["no lock was waited for"]


def log_reports(machine: Any) -> None:
    """Warnings and bad pages in the kernel's words, on stderr."""
    from emu.live import console
    from emu.zone.report import render

    def told(event: Any) -> None:  # line by line as it is, so that emu explain reads it
        console.print(
            render(event, machine.m), style="red", markup=False, emoji=False, soft_wrap=True, end=""
        )  # fmt: skip

    machine.on_report = told


@app.callback()
def options(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log what happens; -vv: more.")] = 0,
) -> None:
    """What all commands share."""
    import logging

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)


class Stoppable:
    """SIGTERM ends a command as Ctrl-C does: everything it started is stopped and removed."""

    def __enter__(self) -> None:
        self.old = signal.signal(signal.SIGTERM, self._stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.old)

    @staticmethod
    def _stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)
