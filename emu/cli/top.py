"""``emu top``: look at a running machine."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from emu.cli.attach import MachineName, attached
from emu.cli.common import Json, UsageError, app
from emu.cli.race import seconds_of

BETWEEN_S = 0.5  # the two looks of --once


@app.command()
def top(
    machine: MachineName = None,
    once: Annotated[bool, typer.Option("--once", help="Print it as text and end.")] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="Between two looks: 1s, 500ms.")] = "1s",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Watch a running machine.

    CPUs, zones, free blocks, locks, kswapd, retries. --json is one look, as --once.
    """
    seconds = seconds_of(every, "--every")
    if seconds < 0.1:
        raise UsageError(f"--every {every}: 100ms is the least")
    with attached(machine) as board:
        import emu.programs  # noqa: F401  (knows the names of all call sites)
        from emu.top.free_blocks import load_free_blocks
        from emu.top.sample import sample, view
        from emu.top.text import render

        load_free_blocks()
        name = board.segment.path.name
        if once or as_json:
            before = sample(board.m)
            time.sleep(BETWEEN_S)
            seen = view(board.m, before, sample(board.m))
            text = json.dumps({"machine": name, **seen.as_dict()}) if as_json else render(name, seen)
            typer.echo(text, nl=as_json)
            return
        from emu.top.app import Top
        from shm.segment import segments

        Top(board.m, name, lambda: any(s.name == name and s.alive for s in segments()), seconds).run()
