"""The command line. Exit status: 0 fine, 1 a check failed, 2 bad usage or input."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emu.config import MachineConfig
    from emu.zone.board import Board
    from emu.zone.snapshot import State

app = typer.Typer(
    name="emu", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=True,
    help="The Linux 5.10 zoned page allocator, run by real processes over shared memory.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Out = Annotated[Path, typer.Option("--out", help="Directory for the report (summary, state, /proc files).")]
Cpus = Annotated[int | None, typer.Option(help="Simulated CPUs, one OS process each (1 to 256).")]
Memory = Annotated[str | None, typer.Option("--memory", "--mem", help="Memory of the only node: 512M, 4G.")]
Nodes = Annotated[list[str] | None, typer.Option("--node", help="Memory of one node; give it once per node (up to 8).")]
Sysctls = Annotated[list[str] | None, typer.Option("--sysctl", help="vm.NAME=VALUE as in /proc/sys/vm; repeatable.")]
Boots = Annotated[list[str] | None, typer.Option("--boot", help="Boot parameter NAME[=VALUE]; repeatable.")]

NEXT = "next: "


class UsageError(ValueError):
    """What the user asked for can't be done: one line."""


def _values(text: str, option: str) -> tuple[str, Any]:
    name, eq, value = text.partition("=")
    name = name.removeprefix("vm.")
    if not name or (not eq and option == "--sysctl"):
        raise UsageError(f"{option} {text}: give NAME=VALUE")
    if not eq:
        return name, True
    if "," in value or " " in value.strip():
        return name, [int(v) for v in value.replace(",", " ").split()]
    return name, value


def _config(
    machine: Path | None, cpus: int | None, memory: str | None, nodes: list[str] | None, sysctl: list[str] | None,
    boot: list[str] | None, **more: Any,
) -> MachineConfig:  # fmt: skip
    from emu.config import load_config

    values = {
        k: v for k, v in {"cpus": cpus, "memory": memory, "nodes": nodes or None, **more}.items() if v is not None
    }
    if sysctl:
        values["sysctl"] = dict(_values(text, "--sysctl") for text in sysctl)
    if boot:
        values["boot"] = dict(_values(text, "--boot") for text in boot)
    return load_config(machine, values)


def _print(as_json: bool, data: dict[str, Any], lines: list[str], follow: str = "") -> None:
    if as_json:
        typer.echo(json.dumps(data))
        return
    for line in lines:
        typer.echo(line)
    if follow:
        typer.echo(NEXT + follow)


def _check(board: Board) -> list[str]:
    from emu.zone.validate import validate

    return validate(board.m)


def _finish(summary: dict[str, Any], lines: list[str], board: Board, out: Path, as_json: bool, follow: str) -> None:
    """Validate, write the report, print; exit status 1 when the state is not right."""
    from emu.report import write_report

    wrong = _check(board)
    summary["validate"] = wrong
    path = write_report(out, summary, board.state())
    summary["report"] = str(path)
    lines.append("validate: clean" if not wrong else f"validate: {len(wrong)} problems")
    lines += [f"  {problem}" for problem in wrong[:20]]
    lines.append(f"report: {path}")
    _print(as_json, summary, lines, follow)
    if wrong:
        raise typer.Exit(1)


def _log_reports(machine: Any) -> None:
    """Warnings and bad pages in the kernel's words, on stderr."""
    from emu.live import console
    from emu.zone.report import render

    machine.on_report = lambda event: console.print(render(event, machine.m), style="red")


@app.callback()
def options(verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log; twice: more.")] = 0) -> None:
    """What all commands share."""
    import logging

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)


# --- commands ---


@app.command()
def run(
    machine: Annotated[Path | None, typer.Argument(help="A machine.toml; options go on top of it.")] = None,
    cpus: Cpus = None, memory: Memory = None, node: Nodes = None, sysctl: Sysctls = None, boot: Boots = None,
    workload: Annotated[str | None, typer.Option(help="bulk repeat rand frag pagefault network thp mixed")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds (default 5).")] = None,
    operations: Annotated[int | None, typer.Option("--operations", "-n", help="Operations per CPU instead.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same operations on each CPU.")] = None,
    out: Out = Path("emu-report"), as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Boot a machine and run a workload on all its CPUs."""
    from emu.live import CompileProgress, Screen
    from emu.run import WorkloadRun

    config = _config(
        machine,
        cpus,
        memory,
        node,
        sysctl,
        boot,
        workload=workload,
        duration=duration,
        operations=operations,
        seed=seed,
    )
    with _stoppable(), WorkloadRun(config, progress=CompileProgress(quiet or as_json)) as work:
        _log_reports(work.machine)
        with Screen(
            work.machine, config.workload, config.operations * config.cpus, work.done, quiet or as_json
        ) as screen:
            result = work.run(tick=screen)
        lines = [
            f"{config.workload}: {result.ops:,} operations on {config.cpus} CPUs in {result.seconds:.2f} s, "
            f"{result.ops_per_second:,.0f}/s ({result.failed:,} allocations failed)",
            f"seed: {config.seed}",
        ]
        _finish(
            dataclasses.asdict(result), lines, work.machine.board, out, as_json,
            f"emu proc buddyinfo --state {out}/state.json.gz",
        )  # fmt: skip


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="Text of ftrace, trace-cmd report or perf script; .gz too.")],
    order: Annotated[str, typer.Option(help="trace: the recorded global order; cpu: every CPU at will.")] = "trace",
    before: Annotated[Path | None, typer.Option(help="State it began in (before.json.gz of a case).")] = None,
    cpus: Cpus = None, memory: Memory = None, node: Nodes = None, sysctl: Sysctls = None, boot: Boots = None,
    out: Out = Path("emu-report"), as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run a recorded kernel trace on CPU processes."""
    _replay(
        trace, order, before, cpus, memory, node, sysctl, boot, out, as_json, quiet, f"emu check {out}/state.json.gz"
    )


@app.command()
def demo(out: Out = Path("emu-report"), as_json: Json = False, quiet: Quiet = False) -> None:
    """Replay a bundled trace of a real 5.10 kernel on 4 CPU processes."""
    from emu.replay import DEMO

    _replay(
        DEMO[0], "trace", None, 4, None, ["256M", "256M"], None, None, out, as_json, quiet, "emu run --cpus 4 --mem 1G"
    )


def _replay(
    trace: Path, order: str, before: Path | None, cpus: int | None, memory: str | None, node: list[str] | None,
    sysctl: list[str] | None, boot: list[str] | None, out: Path, as_json: bool, quiet: bool, follow: str,
) -> None:  # fmt: skip
    from emu.live import CompileProgress, Screen, console
    from emu.replay import Replay, read_state
    from emu.workload.trace import read_trace

    if order not in ("trace", "cpu"):
        raise UsageError(f"--order {order}: give trace or cpu")
    if before is not None and (cpus or memory or node or sysctl or boot):
        raise UsageError("--before: the state says what the machine is; give no other machine options")
    state = read_state(before) if before else None
    recorded = read_trace(trace)
    if not (quiet or as_json):
        console.print(f"read {trace.name}: {len(recorded.events):,} events of {recorded.lines:,} lines")
    base = _config(None, cpus or max(recorded.cpus, 1), memory, node, sysctl, boot)
    given = {"memory": memory, "nodes": node, "sysctl": sysctl, "boot": boot}
    values = {k: v for k, v in base.model_dump().items() if given.get(k)}
    job = Replay(
        recorded, order=order, cpus=0 if before else base.cpus, before=state, values=values,
        progress=CompileProgress(quiet or as_json),
    )  # fmt: skip
    with _stoppable(), job.machine:
        _log_reports(job.machine)
        with Screen(job.machine, f"replay {trace.name}", job.plan.events, job.done, quiet or as_json) as screen:
            report = job.run(tick=screen)
        skipped = {**report.skipped, **report.not_replayed}
        why = "; ".join(f"{n:,} {reason}" for reason, n in skipped.items() if n) or "none"
        lines = [
            (
                f"replayed {report.events:,} events of {report.lines:,} lines on {report.cpus} CPU processes in "
                f"{report.seconds:.2f} s: {report.events_per_second:,.0f} events/s, {report.order} order"
            ),
            (
                f"{report.allocs:,} allocations ({report.failed:,} failed), {report.frees:,} frees "
                f"({report.frees_without_page:,} without a page here), {report.prelude:,} pages allocated beforehand"
            ),
            f"lines not replayed: {why}",
        ]
        _finish(dataclasses.asdict(report), lines, job.machine.board, out, as_json, follow)


@app.command()
def verify(
    cases: Annotated[list[Path], typer.Argument(help="Directories of recorded kernel cases.")],
    processes: Annotated[int | None, typer.Option(help="OS processes that play the CPUs (default: one each).")] = None,
    mode: Annotated[str | None, typer.Option(help="compiled, checked or interpreted.")] = None,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Compare with a real kernel, bit for bit: pages, lists, counters, events."""
    if mode:
        _in_mode(mode)
    from emu.live import CompileProgress
    from emu.verify import verify_case

    verdicts = []
    for path in _case_dirs(cases):
        verdict = verify_case(path, processes=processes, progress=CompileProgress(quiet or as_json))
        verdicts.append(verdict)
        if not as_json:
            word = "match" if verdict.matches else "DIFFERS"
            typer.echo(f"{word:8}{verdict.case:32}{verdict.operations:8,} operations {verdict.events:8,} events")
            for difference in verdict.differences[:8]:
                typer.echo(f"    {difference}")
    bad = [v for v in verdicts if not v.matches]
    data = {"cases": [{**dataclasses.asdict(v), "differences": [str(d) for d in v.differences]} for v in verdicts]}
    _print(as_json, data, [f"{len(verdicts) - len(bad)} of {len(verdicts)} cases match"])
    if bad:
        raise typer.Exit(1)


def _case_dirs(paths: list[Path]) -> list[Path]:
    """Case directories, also below directories of cases."""
    found: list[Path] = []
    for path in paths:
        below = sorted(p.parent for p in path.rglob("meta.json")) if path.is_dir() else []
        if not below:
            raise UsageError(f"{path}: no recorded case (no meta.json) there")
        found += below
    return found


def _in_mode(mode: str) -> None:
    """Modes are chosen at import: begin again with the right environment."""
    from shm.core import MODE, MODES

    if mode not in MODES:
        raise UsageError(f"--mode {mode}: give {', '.join(MODES)}")
    if mode != MODE:
        again = [sys.executable, "-m", "emu", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "EMU_MODE": mode})  # noqa: S606  (ourselves)


@app.command()
def proc(
    name: Annotated[str, typer.Argument(help="buddyinfo pagetypeinfo zoneinfo vmstat meminfo numastat")],
    state: Annotated[Path | None, typer.Option(help="A saved state instead of a running machine.")] = None,
    machine: Annotated[str | None, typer.Option(help="Segment of the machine (emu ps); default: the only one.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Print a /proc file of a running machine, or of a saved state, as 5.10 would."""
    from emu.proc import FILES, render

    if name not in FILES:
        raise UsageError(f"{name}: not one of {', '.join(FILES)}")
    text = render(name, _state(state, machine, light=True))
    typer.echo(json.dumps({"name": name, "text": text}) if as_json else text, nl=as_json)


def _state(path: Path | None, machine: str | None, light: bool) -> State:
    from emu.replay import read_state

    if path is not None:
        return read_state(path)
    board = _attach(machine)
    try:
        return board.state(light)
    finally:
        board.segment.close()


def _attach(name: str | None) -> Board:
    from emu.zone.board import Board
    from shm.segment import segments

    if name is None:
        alive = [s.name for s in segments() if s.alive]
        if len(alive) != 1:
            raise UsageError(f"{len(alive)} machines are running: " + (f"name one of {', '.join(alive)}" if alive else
                             "start one with emu run, or give --state FILE"))  # fmt: skip
        name = alive[0]
    return Board.attach(name)


@app.command()
def check(
    state: Annotated[Path | None, typer.Argument(help="A saved state; without one, a running machine.")] = None,
    machine: Annotated[str | None, typer.Option(help="Segment of the machine (emu ps).")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check every invariant of an allocator state."""
    from emu.replay import read_state
    from emu.zone.board import Board

    if state is not None:
        with Board.from_state(read_state(state)) as board:
            wrong = _check(board)
    else:
        wrong = _check(_attach(machine))
    _print(as_json, {"problems": wrong}, wrong or ["clean"])
    if wrong:
        raise typer.Exit(1)


@app.command()
def bench(
    keys: Annotated[list[str] | None, typer.Argument(help="repeat_o0 bulk_o0 ... boot replay")] = None,
    gib: Annotated[list[int] | None, typer.Option(help="Memory in GiB; repeatable (default 1 and 8).")] = None,
    procs: Annotated[list[int] | None, typer.Option(help="CPU processes; repeatable (default 1 and 2).")] = None,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure: ns per operation beside the real kernel's, boot, replay, compile."""
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
    _print(as_json, {"machines": rows}, lines or ["no machine is running"], "emu gc" if dead else "")


@app.command()
def gc(as_json: Json = False) -> None:
    """Remove segments whose owner is gone."""
    from shm.segment import directory, segments

    removed = []
    for s in segments():
        if not s.alive:
            (directory() / s.name).unlink(missing_ok=True)
            removed.append(s.name)
    _print(as_json, {"removed": removed}, [f"removed {name}" for name in removed] or ["nothing to remove"])


@app.command()
def warmup(as_json: Json = False, quiet: Quiet = False) -> None:
    """Compile everything now, so that no later command has to."""
    import time

    from emu.live import CompileProgress
    from emu.programs import load_all

    began = time.perf_counter()
    load_all(CompileProgress(quiet or as_json))
    seconds = time.perf_counter() - began
    _print(as_json, {"seconds": seconds}, [f"ready in {seconds:.1f} s"], "emu run")


# --- the way in ---


class _stoppable:
    """SIGTERM ends a command as Ctrl-C does: everything it started is stopped and removed."""

    def __enter__(self) -> None:
        self.old = signal.signal(signal.SIGTERM, self._stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.old)

    @staticmethod
    def _stop(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)


def main() -> None:
    """``emu``: errors of the user and of files are one line and exit status 2."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise SystemExit(130) from None
    except Exception as err:
        from emu.config import ConfigError
        from emu.machine import MachineError
        from emu.workload.case import CaseError
        from emu.workload.trace import TraceError
        from emu.zone.boot import ShapeError
        from emu.zone.snapshot import StateError
        from shm.core import CoreError
        from shm.segment import SegmentError

        if isinstance(err, MachineError | CoreError):
            typer.echo(f"emu: {err}", err=True)
            raise SystemExit(1) from None
        known = (UsageError, ConfigError, CaseError, TraceError, ShapeError, StateError, SegmentError, OSError)
        if not isinstance(err, known):
            raise
        text = f"{err.filename}: {err.strerror}" if isinstance(err, OSError) and err.filename else str(err)
        typer.echo(f"emu: {text}", err=True)
        raise SystemExit(2) from None
