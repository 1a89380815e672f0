"""``emu trace``: what a recording holds, and other tools' formats of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.attach import MachineName, attached
from emu.cli.common import Json, UsageError, app, print_result
from emu.cli.complete import trace_formats
from emu.cli.order import InOrder

if TYPE_CHECKING:
    from emu.trace.recording import Recording

trace = typer.Typer(name="trace", cls=InOrder, help="Recordings (emu run --record) for other tools.")
app.add_typer(trace)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A recording: what emu run --record wrote.")]


@trace.command()
def show(file: File, as_json: Json = False) -> None:
    """Count what a recording holds.

    Events by type, CPUs, the time they span, losses.
    """
    from emu.trace.recording import load_recording

    recording = load_recording(file)
    counts = {type_.name: (type_.system, len(rows)) for type_, rows, _ in recording.by_type()}
    data = {
        "file": str(file), "workload": recording.workload, "seed": recording.seed, "cpus": recording.facts.nr_cpus,
        "processes": [task.comm for task in recording.facts.parties], "events": len(recording.events),
        "lost": recording.lost, "holds": len(recording.holds), "lost_holds": recording.lost_holds,
        "seconds": recording.seconds, "counts": {name: count for name, (_, count) in counts.items()},
    }  # fmt: skip
    lines = [
        f"{file}: {recording.workload} on {data['cpus']} CPUs, seed {recording.seed}",
        f"{data['events']:,} events in {recording.seconds:.3f} s, {_losses(recording)}",
        *(
            f"  {system + ':' + name:46}{count:12,}"
            for name, (system, count) in sorted(counts.items(), key=lambda each: each[1][0])
        ),
    ]
    print_result(as_json, data, lines, f"emu trace convert {file} --to ftrace")


def _losses(recording: Recording) -> str:
    lost = f"{recording.lost:,} lost" if recording.lost else "none lost"
    if not len(recording.holds):
        return lost
    return f"{lost}; {len(recording.holds):,} holds of locks, {recording.lost_holds or 'none'} lost"


@trace.command()
def convert(
    file: File,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", autocompletion=trace_formats, help="What to make of it; emu trace formats lists them."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; its ending says the format if --to doesn't.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only kmem, vmscan, compaction, migrate, oom, lock or emu; repeatable.")
    ] = None,
    irq_info: Annotated[bool, typer.Option(help="ftrace: the column of irqs off, need-resched, hardirq.")] = True,
    dialect: Annotated[
        str | None,
        typer.Option(metavar="pagealloc|vmscan", help="ftrace: as trace-*-postprocess.pl reads it.")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make a file of a recording that other tools read."""
    from emu.trace.convert import DIALECTS, Options, convert, converter_for
    from emu.trace.events import EVENTS
    from emu.trace.recording import load_recording

    systems = {type_.system for type_ in EVENTS.values()}
    if dialect is not None and dialect not in DIALECTS:
        raise UsageError(f"--dialect {dialect}: give {' or '.join(DIALECTS)}")
    for name in system or ():
        if name not in systems:
            raise UsageError(f"--system {name}: give {', '.join(sorted(systems))}")
    converter = converter_for(to, out)
    path = out or file.with_name(f"{file.name.removesuffix('.emurec')}{converter.endings[0]}")
    if path == file:
        raise UsageError(f"{path}: would replace the recording: give --out")
    recording = load_recording(file)
    convert(recording, converter, path, Options(irq_info, dialect, tuple(system) if system else None))
    data: dict[str, Any] = {"file": str(path), "format": converter.name, "bytes": path.stat().st_size,
                            "lost": recording.lost, "lost_holds": recording.lost_holds}  # fmt: skip
    print_result(as_json, data, [f"{path}: {converter.name}, {data['bytes']:,} bytes; {_losses(recording)}"])


@trace.command()
def formats(as_json: Json = False) -> None:
    """List the formats that a recording can be made into.

    And what reads them.
    """
    from emu.trace.convert import CONVERTERS

    data = {each.name: {"endings": list(each.endings), "help": each.help} for each in CONVERTERS.values()}
    lines = [f"{each.name:15}{' '.join(each.endings):28}{each.help}" for each in CONVERTERS.values()]
    print_result(as_json, {"formats": data}, lines)


@trace.command("page-owner")
def page_owner(
    machine: MachineName = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to, instead of the terminal.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Print who has allocated the pages in use, as debugfs' page_owner.

    Of a running machine that was booted with --boot page_owner. For tools/vm/page_owner_sort.
    """
    from emu.trace.page_owner import has_page_owner, page_owner_text
    from emu.whole import write_whole

    with attached(machine) as board:
        if not has_page_owner(board.m):
            raise UsageError("that machine was booted without page_owner: emu run --boot page_owner")
        blocks = list(page_owner_text(board.m))
    text = "".join(blocks)
    if out is not None:
        write_whole(out, text)
    elif not as_json:
        typer.echo(text, nl=False)
    lines = [f"{out}: {len(blocks):,} allocations"] if out else []
    print_result(as_json, {"allocations": len(blocks), "file": str(out) if out else None}, lines)
