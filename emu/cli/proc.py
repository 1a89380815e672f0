"""``emu proc``: a machine in the kernel's own files, one or all of them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.attach import MachineName, attached
from emu.cli.common import Json, UsageError, app, print_result
from emu.cli.complete import proc_files
from emu.cli.race import seconds_of

if TYPE_CHECKING:
    from emu.zone.board import Board
    from emu.zone.snapshot import State


@app.command()
def proc(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=proc_files,
            help="One of buddyinfo pagetypeinfo zoneinfo vmstat meminfo numastat lock_stat.",
        ),
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write proc, sys and tracing into a directory instead.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The same, again and again, until the machine ends or Ctrl-C.")
    ] = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="With --watch, between two writings: 1s, 500ms.")] = "1s",
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A saved state instead of a running machine.")
    ] = None,
    machine: MachineName = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Print a /proc file of a machine, as 5.10 would.

    Or write all of them, with those of /sys and the trace events, into a directory. Of a running machine, or of a saved
    state. A directory is for tools that take another root: node_exporter --path.procfs DIR/proc, or a bind mount.
    """
    if sum(given is not None for given in (name, dump, watch)) != 1:
        raise UsageError("proc: give the name of a file, --dump DIR or --watch DIR")
    if name:
        text = _file(name, state, machine)
        typer.echo(json.dumps({"name": name, "text": text}) if as_json else text, nl=as_json)
    elif watch:
        if state:
            raise UsageError("--watch: a saved state doesn't change; --dump writes it")
        _watch(watch, seconds_of(every, "--every"), machine, as_json)
    elif dump:
        files = _tree_of_state(state) if state else _tree_of_machine(machine)
        _write(dump, files)
        lines = [f"{len(files)} files below {dump}"]
        print_result(as_json, {"directory": str(dump), "files": sorted(files)}, lines, f"emu run --like {dump}")


def _file(name: str, state: Path | None, machine: str | None) -> str:
    from emu.proc import FILES, render
    from emu.replay import read_state

    if name not in (*FILES, "lock_stat"):
        raise UsageError(f"{name}: not one of {', '.join(FILES)}, lock_stat")
    if state is not None:
        if name == "lock_stat":
            raise UsageError(
                "lock_stat: a saved state has no locks; a report has proc/lock_stat if run with --lock-stat"
            )
        return render(name, read_state(state))
    with attached(machine) as board:
        return _lock_stat(board) if name == "lock_stat" else render(name, board.state(light=True))


def _lock_stat(board: Board) -> str:
    import emu.programs  # noqa: F401  (knows the names of all call sites)
    from emu.proc import lock_stat
    from emu.zone.locks import locks_of

    return lock_stat.render(locks_of(board.m))


def _tree_of_state(path: Path) -> dict[str, str]:
    from emu.proc.tree import tree
    from emu.replay import read_state

    return {**tree(read_state(path)), **_formats()}


def _tree_of_machine(machine: str | None) -> dict[str, str]:
    with attached(machine) as board:
        return {**_live(board), **_formats()}


def _live(board: Board) -> dict[str, str]:
    """What changes while a machine runs."""
    from emu.proc.tree import tree
    from emu.trace.page_owner import has_page_owner, page_owner_text
    from emu.zone.sysctl import SYSCTLS, sysctl_read

    m = board.m
    state: State = board.state(light=True)
    nodes = [{**node, "distance": m.nodes[node["nid"]].distance[: m.nr_nodes]} for node in state["nodes"]]
    values = {name: sysctl_read(m, name) for name, what in SYSCTLS.items() if what.field}
    sysctl = {name: value if len(value) > 1 else value[0] for name, value in values.items()}
    files = tree({**state, "nodes": nodes, "sysctl": sysctl})
    files["proc/lock_stat"] = _lock_stat(board)
    if has_page_owner(m):
        files["sys/kernel/debug/page_owner"] = "".join(page_owner_text(m))
    return files


def _formats() -> dict[str, str]:
    """What doesn't: the formats of trace events."""
    from emu.trace.events import EVENTS, format_text

    return {f"tracing/events/{t.system}/{t.name}/format": format_text(t) for t in EVENTS.values()}


def _write(directory: Path, files: dict[str, str]) -> None:
    """Each file whole, by rename: whoever reads meanwhile has the old one or the new one."""
    from emu.whole import write_whole

    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def _watch(directory: Path, every: float, machine: str | None, as_json: bool) -> None:
    from shm.segment import segments

    over: list[int] = []
    old = {number: signal.signal(number, lambda *_: over.append(1)) for number in (signal.SIGINT, signal.SIGTERM)}
    times = 0
    try:
        with attached(machine) as board:
            name = board.segment.path.name
            _write(directory, _formats())
            while not over and any(s.name == name and s.alive for s in segments()):
                _write(directory, _live(board))
                times += 1
                deadline = time.monotonic() + every
                while not over and (left := deadline - time.monotonic()) > 0:
                    time.sleep(min(left, 0.1))
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    lines = [f"written {times} times below {directory}" + ("" if over else ": the machine has ended")]
    print_result(as_json, {"directory": str(directory), "times": times, "ended": not over}, lines)
