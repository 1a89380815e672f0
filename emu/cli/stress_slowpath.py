"""``emu stress slowpath``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.common import Boots, Cpus, Json, Memory, Nodes, Quiet, Stoppable, Sysctls, config_of, print_result
from emu.cli.page import PageFile, PageOption, facts_of
from emu.cli.stress import stress

if TYPE_CHECKING:
    from emu.stress.slowpath import SlowpathReport


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
    report: PageOption = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure the slow path of CPUs at the watermarks.

    Retries, drains, avoidable failures, throttling.
    """
    from emu.live import CompileProgress, Screen
    from emu.stress.slowpath import DEFAULTS, SlowpathRun
    from emu.stress.slowpath_text import slowpath_lines

    given = {
        "cpus": cpus, "memory": memory, "swap": swap, "duration": duration, "operations": operations, "seed": seed,
    }  # fmt: skip
    values = {**DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    config = config_of(None, values.pop("cpus"), values.pop("memory"), node, sysctl, boot, **values)
    page, title = PageFile(report), f"emu stress slowpath: {config.cpus} CPUs at the watermarks"
    with Stoppable(), SlowpathRun(config, CompileProgress(quiet or as_json)) as work:
        with Screen(work.machine, "slowpath", config.operations * config.cpus, work.done, quiet or as_json) as screen:
            tick = page.watch(work.machine, work.runs(), work.failed, screen)
            with page.even_if_it_ends(work.machine, title, facts_of(config)):
                found = work.run(tick)
        said = page.write(work.machine, title, facts_of(config), totals(found), found.problems)
    print_result(
        as_json, dataclasses.asdict(found) | page.named, [*slowpath_lines(found), *said],
        f"emu stress slowpath --cpus {config.cpus} --sysctl vm.watermark_scale_factor=200",
    )  # fmt: skip
    if found.problems:
        raise typer.Exit(1)


def totals(found: SlowpathReport) -> dict[str, Any]:
    """What the CPUs did, for the page."""
    total = found.total
    return {
        "operations": found.operations, "seconds": found.seconds, "allocations": total.attempts,
        "through the slow path": total.slow, "failed": total.failures.failed,
        "of those avoidable": total.failures.avoidable, "processes killed": found.killed,
    }  # fmt: skip
