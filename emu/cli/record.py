"""``emu record``: trace the kernel that runs here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from emu.cli.common import Json, UsageError, app, print_result
from emu.cli.race import seconds_of


@app.command()
def record(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Text that emu replay takes; .gz packs it.")],
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long, or until Ctrl-C: 10s, 2m.")] = "10s",
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", metavar="SYSTEM:NAME", help="Instead of the page allocator's; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Capture the page allocator's events of this host.

    Of the kernel that runs here; it takes root, and tracefs. In a trace instance of its own, removed at the end; events
    that the kernel lost are counted.
    """
    from emu.record import EVENTS, capture

    seconds = seconds_of(duration, "--duration")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such directory")
    done = capture(out, seconds, tuple(event or EVENTS))
    lost = f", {done.lost:,} lost: a shorter --duration, or fewer events with --event" if done.lost else ", none lost"
    lines = [f"{done.lines:,} events of {done.cpus} CPUs in {done.seconds:.1f} s{lost}", f"trace: {out}"]
    print_result(as_json, dataclasses.asdict(done), lines, f"emu replay {out} --order cpu")
