"""``emu explain``: why was a page refused?"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Annotated

import typer

from emu.cli.common import Json, UsageError, app


@app.command()
def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="dmesg text with 'page allocation failure' or 'oom-killer', .gz too; - is standard input.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say which check refused a request, zone by zone.

    It reads kernel logs of Linux 4.0 to 6.18.
    """
    from emu.explain import DumpError, explain, read_dumps
    from emu.explain import as_json as to_json
    from emu.explain import as_text as to_text

    source = "standard input" if file == "-" else file
    try:
        dumps, problems = read_dumps(_lines(file))
        found = [explain(dump) for dump in dumps]
    except DumpError as err:
        raise UsageError(f"{source}: {err}") from err
    if not found:
        raise UsageError(f"{source}: {problems[0]}")
    if as_json:
        typer.echo(json.dumps({"file": source, "dumps": [to_json(one) for one in found], "problems": problems}))
        return
    typer.echo("\n\n".join("\n".join(to_text(one, source)) for one in found))
    for problem in problems:
        typer.echo(f"\n{source}: {problem}")


def _lines(file: str) -> list[str]:
    if file == "-":
        return sys.stdin.buffer.read().decode(errors="replace").splitlines()
    data = Path(file).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as err:
            raise UsageError(f"{file}: line 1: damaged gzip: {err}") from err
    return data.decode(errors="replace").splitlines()
