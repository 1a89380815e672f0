"""``emu stress all``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from emu.cli.common import Json, Quiet, Stoppable, print_result
from emu.cli.stress import stress


@stress.command("all")
def everything(
    quick: Annotated[bool, typer.Option("--quick", help="Each a few seconds: less than a minute together.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of all of them.")] = 1,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run all of the others, one after another.

    Exit status 1 when an answer is not right.
    """
    from emu.live import CompileProgress
    from emu.programs import load_all
    from emu.stress.all import stress_all

    load_all(CompileProgress(quiet or as_json))
    parts = []
    with Stoppable():
        for part in stress_all(quick, seed):
            parts.append(part)
            if not as_json:
                typer.echo(f"{part.name:14}{'ok' if part.ok else 'WRONG':7}{part.seconds:6.1f} s  {part.says}")
    ok = all(part.ok for part in parts)
    data = {"seed": seed, "quick": quick, "ok": ok, "parts": [dataclasses.asdict(part) for part in parts]}
    seconds = sum(part.seconds for part in parts)
    print_result(
        as_json, data, [f"seed {seed}, {seconds:.0f} s"], "emu stress lock --sweep cpus=1..16 --html lock.html"
    )
    if not ok:
        raise typer.Exit(1)
