"""Commands that look at machines, measure, and clean up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emu.cli.attach import attached
from emu.cli.common import Json, Quiet, UsageError, app, print_result, problems


@app.command()
def check(
    state: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A saved state; without one, a running machine.")
    ] = None,
    machine: Annotated[str | None, typer.Option(metavar="SEGMENT", help="Segment of the machine (emu ps).")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check every invariant of an allocator state."""
    from emu.replay import read_state
    from emu.zone.board import Board

    if state is not None:
        with Board.from_state(read_state(state)) as board:
            wrong = problems(board)
    else:
        with attached(machine) as board:
            wrong = problems(board)
    print_result(as_json, {"problems": wrong}, wrong or ["clean"])
    if wrong:
        raise typer.Exit(1)


@app.command()
def bench(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="What to measure (default all): repeat_o0 bulk_o0 rand_o0 repeat_o9 bulk_o9 rand_o9 boot replay "
            "cold_compile_s warm_start_s slowpath reclaim compaction kswapd race.",
        ),
    ] = None,
    gib: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Memory in GiB; repeatable (default 1 and 8).")
    ] = None,
    procs: Annotated[
        list[int] | None, typer.Option(metavar="N", help="CPU processes; repeatable (default 1 and 2).")
    ] = None,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure ns per operation, beside the real kernel's.

    Also boot, replay, compilation, reclaim, compaction, kswapd, and schedules of races.
    """
    from rich.console import Console

    from emu.bench import bench as measure
    from emu.bench import table

    told = (lambda _: None) if quiet or as_json else (lambda key: typer.echo(f"measuring {key}", err=True))
    try:
        results = measure(keys or None, gib=gib or (1, 8), procs=procs or (1, 2), told=told)
    except ValueError as err:
        raise UsageError(str(err)) from err
    if as_json:
        typer.echo(json.dumps({"results": results}))
    else:
        Console(width=140).print(table(results))


@app.command()
def ps(as_json: Json = False) -> None:
    """List machines: segments in shared memory and who owns them."""
    import psutil

    from shm.segment import segments

    rows: list[dict[str, Any]] = []
    for s in segments():
        pid = int(str(s.facts["pid"]))
        children = len(psutil.Process(pid).children()) if s.alive else 0
        rows.append({"segment": s.name, "pid": pid, "alive": s.alive, "processes": children, "touched": s.touched})
    lines = [
        f"{r['segment']}  pid {r['pid']}  {'running' if r['alive'] else 'DEAD'}  {r['processes']} processes  "
        f"{r['touched'] >> 20} MiB" for r in rows
    ]  # fmt: skip
    dead = any(not r["alive"] for r in rows)
    print_result(as_json, {"machines": rows}, lines or ["no machine is running"], "emu gc" if dead else "")


@app.command()
def gc(as_json: Json = False) -> None:
    """Remove segments whose owner is gone."""
    from shm.segment import directory, segments

    removed = []
    for s in segments():
        if not s.alive:
            (directory() / s.name).unlink(missing_ok=True)
            removed.append(s.name)
    print_result(as_json, {"removed": removed}, [f"removed {name}" for name in removed] or ["nothing to remove"])


@app.command()
def warmup(as_json: Json = False, quiet: Quiet = False) -> None:
    """Compile everything now, so that no later command has to."""
    import time

    from emu.live import CompileProgress
    from emu.programs import load_all

    began = time.perf_counter()
    load_all(CompileProgress(quiet or as_json))
    seconds = time.perf_counter() - began
    print_result(as_json, {"seconds": seconds}, [f"ready in {seconds:.1f} s"], "emu run")
