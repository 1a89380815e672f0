"""``emu stress oversubscribe``."""

from __future__ import annotations

from typing import Annotated

import typer

from emu.cli.common import Boots, Json, Memory, Quiet, Sysctls, UsageError, config_of, print_result
from emu.cli.page import PageOption, check_page, write_charts
from emu.cli.stress import stress


@stress.command()
def oversubscribe(
    counts: Annotated[
        list[int] | None, typer.Argument(metavar="N", help="Counts of CPU processes (default 2 4 8 ... 256).")
    ] = None,
    memory: Memory = "1G", sysctl: Sysctls = None, boot: Boots = None,
    workload: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="What every CPU does (as in emu run).")
    ] = "bulk",
    duration: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds for each count.")] = 4.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the workload.")] = 1,
    no_park: Annotated[bool, typer.Option("--no-park", help="Waiters spin and never sleep.")] = False,
    page_file: PageOption = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run many more CPUs than the host has cores.

    2 to 256 CPU processes: the throughput they keep, how fair it is, and the longest wait.
    """
    from rich.console import Console
    from rich.table import Table

    from emu.stress.oversubscribe import COUNTS, stress_oversubscribe
    from emu.stress.page_oversubscribe import page

    wanted = counts or list(COUNTS)
    if bad := [n for n in wanted if not 1 <= n <= 256]:
        raise UsageError(f"{bad[0]} CPUs: give counts from 1 to 256")
    if page_file is not None:
        check_page(page_file)
    config = config_of(None, max(wanted), memory, None, sysctl, boot, workload=workload, duration=duration, seed=seed)
    told = (lambda _: None) if quiet or as_json else (lambda text: typer.echo(text, err=True))
    report = stress_oversubscribe(config, counts=wanted, park=not no_park, told=told)
    if not as_json:
        table = Table("CPUs", "M ops/s", "of two", "Jain", "longest wait", "contended", "stolen", "switches/s", "idle")
        for p in report.points:
            table.add_row(
                str(p.cpus), f"{p.ops_per_second / 1e6:.1f}", f"{p.share:.0%}", f"{p.jain:.3f}",
                f"{p.longest_wait / 1e6:.1f} ms", f"{p.contentions / max(p.acquisitions, 1):.1%}",
                f"{p.stolen / max(p.acquisitions, 1):.1%}", f"{p.switches:,}", f"{p.idle:.0%}",
            )  # fmt: skip
        Console(width=110).print(table)
    parking = "parking" if report.parking else "never parking"
    lines = [f"seed {seed}, {workload}, {memory}, {duration:g} s each, {report.cores} cores, waiters {parking}",
             "validate: " + ("clean" if not report.problems else "; ".join(report.problems[:5]))]  # fmt: skip
    follow = "emu stress oversubscribe 64 --no-park    # the same without parking" if report.parking else ""
    named, said = write_charts(page_file, lambda: page(report))
    print_result(as_json, report.as_dict() | named, [*lines, *said], follow)
    if report.problems:
        raise typer.Exit(1)
