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
    exit_with_machine: Annotated[
        bool, typer.Option("--exit-with-machine", help="End when the machine does; else wait for q.")
    ] = False,
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
        from shm.segment import segments

        load_free_blocks()
        name = board.segment.path.name

        def alive() -> bool:
            return any(s.name == name and s.alive for s in segments())

        if once or as_json:
            before = sample(board.m)
            time.sleep(BETWEEN_S)
            seen = view(board.m, before, sample(board.m))
            if as_json:
                typer.echo(json.dumps({"machine": name, "ended": not alive(), **seen.as_dict()}))
            else:
                typer.echo(render(name, seen, ended=not alive()), nl=False)
            return
        from emu.top.app import Top

        screen = Top(board.m, name, alive, seconds, exit_with_machine=exit_with_machine)
        screen.run()
        if screen.ended:
            typer.echo(f"{name} has ended")
