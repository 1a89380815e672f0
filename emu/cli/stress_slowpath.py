"""``emu stress slowpath``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.common import Boots, Cpus, Json, Memory, Nodes, Quiet, Stoppable, Sysctls, config_of, print_result
from emu.cli.stress import stress

if TYPE_CHECKING:
    from emu.stress.slowpath import SlowpathRun


@stress.command()
def slowpath(
    cpus: Cpus = None, memory: Memory = None, node: Nodes = None, sysctl: Sysctls = None, boot: Boots = None,
    swap: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Size of the swap device (default 128M; 0: none).")
    ] = None,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds (default 5).")] = None,
    operations: Annotated[
        int | None, typer.Option("--operations", "-n", metavar="N", help="Operations per CPU instead.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Same seed, same bursts on each CPU.")] = None,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure the slow path of CPUs at the watermarks.

    Retries, drains, avoidable failures, throttling.
    """
    from emu.live import CompileProgress, Screen
    from emu.stress.slowpath import DEFAULTS, stress_slowpath
    from emu.stress.slowpath_text import slowpath_lines

    given = {
        "cpus": cpus, "memory": memory, "swap": swap, "duration": duration, "operations": operations, "seed": seed,
    }  # fmt: skip
    values = {**DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    config = config_of(None, values.pop("cpus"), values.pop("memory"), node, sysctl, boot, **values)
    screens: list[Screen] = []

    def told(work: SlowpathRun) -> Callable[[], None]:
        screen = Screen(work.machine, "slowpath", config.operations * config.cpus, work.done, quiet or as_json)
        screens.append(screen.__enter__())
        return screen

    with Stoppable():
        try:
            report = stress_slowpath(config, told, CompileProgress(quiet or as_json))
        finally:
            for screen in screens:
                screen.__exit__(None, None, None)
    print_result(
        as_json, dataclasses.asdict(report), slowpath_lines(report),
        f"emu stress slowpath --cpus {config.cpus} --sysctl vm.watermark_scale_factor=200",
    )  # fmt: skip
    if report.problems:
        raise typer.Exit(1)
