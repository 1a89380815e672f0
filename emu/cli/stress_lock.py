"""``emu stress lock``: who waits for zone->lock, how long, where, and what would change it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.common import Json, Quiet, Stoppable, Sysctls, UsageError, option_value, print_result
from emu.cli.page import PageFile, PageOption
from emu.cli.stress import stress

if TYPE_CHECKING:
    from emu.stress.lock import LockReport
    from emu.stress.measure import PointMeasure, Spread
    from emu.stress.sweep import SweepReport

MIX_HELP = (
    "What the CPUs do: bulk repeat rand fault highorder network mixed thp, or order=0:70,1:20,3:10. Several: each "
    "CPU the next one; 3*bulk for three CPUs. Repeatable."
)
SWEEP_HELP = (
    "NAME=VALUES: 1,31,63 or a..b (powers of two) or a..b/step; of cpus memory mix order fill pcp.high pcp.batch "
    "spin_limit seed operations duration vm.NAME. Once or twice."
)


@stress.command()
def lock(
    cpus: Annotated[
        int | None, typer.Option(metavar="N", help="Simulated CPUs, one OS process each (default 4).")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", "--mem", metavar="SIZE", help="Memory of the only node (1G).")
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="SIZE", help="Memory of one node; repeatable.")
    ] = None,
    sysctl: Sysctls = None,
    mix: Annotated[list[str] | None, typer.Option(metavar="MIX", help=MIX_HELP)] = None,
    order: Annotated[int | None, typer.Option(metavar="N", help="Order of bulk, repeat and rand (0).")] = None,
    fill: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Part of its usual memory that each mix takes (1).")
    ] = None,
    pcp_high: Annotated[
        int | None, typer.Option(metavar="N", help="Pages on a pcp list at most (5.10: 6 batches).")
    ] = None,
    pcp_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Pages moved at once (5.10: by zone size, up to 63).")
    ] = None,
    spin_limit: Annotated[int | None, typer.Option(metavar="N", help="Looks at a lock before parking (200).")] = None,
    no_park: Annotated[bool, typer.Option("--no-park", help="Spin for ever, as outside of virtual machines.")] = False,
    no_lock_stat: Annotated[bool, typer.Option("--no-lock-stat", help="Count, but measure no times.")] = False,
    no_pin: Annotated[bool, typer.Option("--no-pin", help="Let the host move the CPUs between its cores.")] = False,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds (2).")] = None,
    operations: Annotated[
        int | None, typer.Option("--operations", "-n", metavar="N", help="Operations per CPU instead.")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(metavar="N", help="Operations per CPU beforehand (once through memory).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Same seed, same operations on each CPU.")] = None,
    sweep: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUES", help=SWEEP_HELP)] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page of charts that needs no network.")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local:N", help="Run points on dask.distributed: its address, or local:N workers.")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where /proc/lock_stat is written.")
    ] = Path("emu-lock_stat"),
    report: PageOption = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure who waits for zone->lock, how long, and where.

    Allocators on N CPUs: throughput, waits and holds, contention points, fairness, time shares.
    """
    from emu.stress.lock import lock_config
    from emu.stress.sweep import axis_of, grid

    if no_park and spin_limit is not None:
        raise UsageError("--no-park: that is --spin-limit -1; give one of them")
    given: dict[str, Any] = {
        "cpus": cpus, "memory": memory, "nodes": node, "mix": mix, "order": order, "fill": fill, "pcp_high": pcp_high,
        "pcp_batch": pcp_batch, "spin_limit": -1 if no_park else spin_limit, "duration": duration,
        "operations": operations, "warmup": warmup, "seed": seed, "lock_stat": False if no_lock_stat else None,
        "pin": False if no_pin else None,
    }  # fmt: skip
    base = {name: value for name, value in given.items() if value is not None}
    if sysctl:
        base["sysctl"] = dict(option_value(text, "--sysctl") for text in sysctl)
    lock_config(base)
    axes = [axis_of(text) for text in sweep or ()]
    grid(base, axes)
    for path in (html, out):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"{path}: not a file in a directory that exists")
    sweeps = bool(axes or html or executor)
    if report and sweeps:
        raise UsageError("--report: is of one machine; a sweep's page is --html")
    page = PageFile(report)
    with Stoppable():
        if sweeps:
            _sweep(base, axes, html, executor or "", as_json, quiet)
        else:
            _once(base, out, page, as_json, quiet)


def _once(base: dict[str, Any], out: Path, page: PageFile, as_json: bool, quiet: bool) -> None:
    from emu.live import CompileProgress
    from emu.stress.lock import LockRun, lock_config
    from emu.whole import write_whole

    with LockRun(lock_config(base), CompileProgress(quiet or as_json)) as made:
        report = made.run(page.watch(made.machine, list(enumerate(made.runs())), made.failed))
        title = f"emu stress lock: {', '.join(report.config['mix'])} on {report.config['cpus']} CPUs"
        said = page.write(made.machine, title, report.config, totals(report), report.validate, report.classes)
    write_whole(out, report.lock_stat)
    lines = [report.lock_stat.rstrip("\n"), "", *lines_of(report), f"/proc/lock_stat: {out}", *said]
    follow = (
        f"emu stress lock --mix {' --mix '.join(report.config['mix'])} --sweep pcp.batch=1,31,63,127 --html lock.html"
    )
    print_result(as_json, {**dataclasses.asdict(report), "file": str(out), **page.named}, lines, follow)
    if report.validate:
        raise typer.Exit(1)


def totals(report: LockReport) -> dict[str, Any]:
    """What the CPUs did, for the page."""
    return {
        "operations": report.ops, "operations per second": round(report.ops_per_second), "allocations": report.allocs,
        "frees": report.frees, "failed": report.failed, "seconds": report.seconds,
        "locks per order-0 operation": report.acquisitions_per_op, "Jain's index": report.jain,
    }  # fmt: skip


def lines_of(report: LockReport) -> list[str]:
    """A report in words."""
    config = report.config
    given = " ".join(
        f"{name}={value}" for name, value in config.items() if value not in (None, [], {}) and name != "seed"
    )
    lines = [
        (
            f"{report.ops:,} operations on {config['cpus']} CPUs in {report.seconds:.2f} s: "
            f"{report.ops_per_second:,.0f}/s ({report.failed:,} allocations failed)"
        ),
        f"zone->lock was taken {report.acquisitions_per_op:.4f} times by an operation of order 0",
    ]
    zone = report.zone_lock()
    if zone is not None:
        lines.append(f"{zone.contentions:,} of {zone.acquisitions:,} acquisitions waited ({zone.contended:.2%})")
        if config["lock_stat"]:
            lines += [f"waits  {_spread(zone.waits)}", f"holds  {_spread(zone.holds)}"]
        for what, points in (("waited at", zone.waited_at), ("held from", zone.held_from)):
            lines += [f"{what}: {_points(points)}"] if points else []
    longest = (
        f"{report.longest_wait_ns / 1e6:.3f} ms for {report.longest_wait_class}" if report.longest_wait_ns else "-"
    )
    lines.append(f"fairness: Jain's index {report.jain:.4f}, longest wait {longest}")
    wide = max(len(cpu.mix) for cpu in report.cpus)
    lines.append(
        f"{'cpu':>5} {'mix':{wide}} {'operations/s':>14} {'on a core':>10} {'spinning':>9} {'parked':>9} {'holding':>9}"
    )
    for cpu in report.cpus:
        speed = cpu.ops / cpu.seconds if cpu.seconds else 0.0
        lines.append(
            f"{cpu.cpu:5} {cpu.mix:{wide}} {speed:14,.0f} {cpu.running:10.1%} {cpu.spinning:9.1%} {cpu.parked:9.1%} "
            f"{cpu.holding:9.1%}"
        )
    pcp = ", ".join(f"{zone} high {p['high']} batch {p['batch']}" for zone, p in report.pcp.items())
    lines += [f"pcp lists: {pcp}", f"seed: {config['seed']}", f"configuration: {given}"]
    lines += ["validate: clean"] if not report.validate else [f"validate: {len(report.validate)} problems"]
    return lines + [f"  {problem}" for problem in report.validate[:20]]


def _spread(times: Spread) -> str:
    if not times.nr:
        return "none"
    marks = (("p50", times.p50), ("p90", times.p90), ("p99", times.p99), ("p99.9", times.p999), ("max", times.longest))
    return "  ".join(f"{name} {ns / 1000:,.2f}" for name, ns in marks if ns is not None) + " us"


def _points(points: tuple[PointMeasure, ...]) -> str:
    total = sum(point.contentions for point in points) or 1
    return ", ".join(f"{p.name.partition(':')[0]} {p.contentions / total:.1%}" for p in points[:6])


def _sweep(base: dict[str, Any], axes: list[Any], html: Path | None, executor: str, as_json: bool, quiet: bool) -> None:
    from rich.console import Console

    from emu.live import CompileProgress
    from emu.programs import load_all
    from emu.stress.sweep import plain, sweep, table

    def told(text: str) -> None:
        if not (quiet or as_json):
            typer.echo(text, err=True)

    if executor:
        from emu.stress.cluster import cluster_points

        with cluster_points(executor) as points:
            report = sweep(base, axes, points=points, executor=executor, told=told)
    else:
        load_all(CompileProgress(quiet or as_json))
        report = sweep(base, axes, told=told)
    if html is not None:
        from emu.stress.page import write_page

        write_page(html, report)
    wrong = sum(len(one["validate"]) for one in report.points)
    if not as_json:
        Console(file=sys.stdout, width=160, highlight=False).print(table(report))
    print_result(as_json, plain(report), _ending(report, html, wrong), _follow(report, html))
    if wrong:
        raise typer.Exit(1)


def _ending(report: SweepReport, html: Path | None, wrong: int) -> list[str]:
    shared = " ".join(f"{name}={value}" for name, value in report.config.items() if value not in (None, [], {}))
    lines = ["times are of zone->lock, in microseconds; shares are of the CPUs' time", f"configuration: {shared}"]
    lines.append("validate: clean" if not wrong else f"validate: {wrong} problems (--json has them)")
    return [*lines, f"page: {html}"] if html else lines


def _follow(report: SweepReport, html: Path | None) -> str:
    if html is None:
        axes = " ".join(f"--sweep {axis.name}={','.join(map(str, axis.values))}" for axis in report.axes)
        return f"emu stress lock --mix {' --mix '.join(report.config['mix'])} {axes} --html lock.html"
    best = max(report.points, key=lambda one: float(one["ops_per_second"]))["config"]
    batch = f" --pcp-batch {best['pcp_batch']}" if best["pcp_batch"] is not None else ""
    return f"emu stress lock --cpus {best['cpus']}{batch} --mix {' --mix '.join(best['mix'])}"
