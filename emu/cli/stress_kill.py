"""``emu stress kill``: CPU processes are killed at random instants."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.common import Json, Quiet, Stoppable, print_result
from emu.cli.page import PageOption, check_page, write_charts
from emu.cli.stress import stress

if TYPE_CHECKING:
    from emu.stress.kill import KillReport

SHOWN = 20  # of each kind of finding


@stress.command()
def kill(
    kills: Annotated[int, typer.Option("--kills", "-n", min=1, metavar="N", help="How many.")] = 1000,
    cpus: Annotated[int, typer.Option(min=2, max=256, metavar="N", help="Simulated CPUs, one OS process each.")] = 4,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same victims, aims and operations.")] = 1,
    workload: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="What the CPUs do meanwhile: bulk, mixed, ... or several.")
    ] = "bulk",
    memory: Annotated[str, typer.Option("--memory", "--mem", metavar="SIZE", help="Memory of the machine.")] = "64M",
    report: PageOption = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Kill CPU processes at random instants.

    By SIGKILL. Each death must be noticed, judged rightly, and leave nothing.
    """
    from emu.live import CompileProgress, console
    from emu.programs import load_all
    from emu.stress.kill import stress_kill
    from emu.stress.page_kill import page

    silent = quiet or as_json
    if report is not None:
        check_page(report)
    load_all(CompileProgress(silent))
    with Stoppable():
        found = stress_kill(
            kills, cpus=cpus, seed=seed, workload=workload, memory=memory,
            told=(lambda _: None) if silent else console.print,
        )  # fmt: skip
    again = f"emu stress kill -n {kills} --cpus {cpus} --seed {seed + 1} --workload {workload} --mem {memory}"
    named, said = write_charts(report, lambda: page(found))
    print_result(as_json, {**dataclasses.asdict(found), "ok": found.ok, **named}, [*lines_of(found), *said], again)
    if not found.ok:
        raise typer.Exit(1)


def lines_of(report: KillReport) -> list[str]:
    """The report as text."""
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in report.kinds.items())
    lines = [
        (
            f"{report.kills:,} kills in {report.seconds:,.0f} s: {report.workload} on {report.cpus} CPUs, "
            f"{report.memory >> 20} MiB, seed {report.seed}"
        ),
        f"victims: {kinds}",
        (
            f"machines stopped: {report.stopped:,}; CPUs taken offline and brought back: {report.offlined:,}, "
            f"{report.in_flight:,} pages in flight"
        ),
        *(_times(name, times) for name, times in
          (("noticed", report.detection), ("offline", report.takedown), ("new machine", report.restart))),
        *(f"{n:,} x held {lock}" for lock, n in report.locks.items()),
    ]  # fmt: skip
    for name, found in (
        ("late", report.late), ("wrong verdicts", report.wrong), ("invariants broken", report.unclean),
        ("left behind", report.left),
    ):  # fmt: skip
        lines += [f"{name}: {len(found)}", *(f"  {text}" for text in found[:SHOWN])]
    return lines


def _times(name: str, times: dict[str, float]) -> str:
    return f"{name} after ms: " + (", ".join(f"{at} {ms:.1f}" for at, ms in times.items()) or "-")
