"""What ``emu stress slowpath`` found, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

from emu.stress.slowpath import Class, SlowpathReport, Spread
from emu.zone.slow_types import SPENT_NAMES, THROTTLES

__all__ = ["slowpath_lines"]

WIDTH = 136


def _table(title: str, left: int, columns: Iterable[str]) -> Table:
    """The first columns are words, the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(columns):
        table.add_column(name, justify="left" if at < left else "right", no_wrap=at < left)
    return table


def duration(ns: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def _times(of: Spread) -> list[str]:
    return [duration(of.mean), duration(of.p50), duration(of.p99), duration(of.longest)]


def _name(made: Class) -> list[str]:
    return [made.flags, str(made.order) if made.order >= 0 else ""]


def _allocations(report: SlowpathReport) -> Table:
    columns = ("allocations", "order", "attempts", "fast", "slow", "slow %", "failed", "mean", "p50", "p99",
               "longest")  # fmt: skip
    table = _table("What they cost; times are of those in the slow path", 2, columns)
    for c in [*report.classes, report.total]:
        table.add_row(
            *_name(c), f"{c.attempts:,}", f"{c.fast:,}", f"{c.slow:,}", f"{100 * c.slow / c.attempts:.1f}",
            f"{c.failures.failed:,}", *(_times(c.slow_ns) if c.slow else ["-"] * 4),
        )  # fmt: skip
    return table


def _retries(report: SlowpathReport) -> Table:
    reasons = list(report.total.retries_by)
    columns = ("allocations", "order", "slow", "retries", "mean", "p50", "p99", "most", *reasons, "restarts")
    table = _table("How often they went round, and why", 2, columns)
    for c in [*report.classes, report.total]:
        if not c.retries and c is not report.total and not sum(c.restarts_by.values()):
            continue
        of = c.retries_per_slow
        table.add_row(
            *_name(c), f"{c.slow:,}", f"{c.retries:,}", f"{of.mean:.3f}", str(of.p50), str(of.p99), str(of.longest),
            *(f"{c.retries_by[name]:,}" for name in reasons), f"{sum(c.restarts_by.values()):,}",
        )  # fmt: skip
    return table


def _failures(report: SlowpathReport) -> Table:
    columns = ("allocations", "order", "failed", "avoidable", "%", "own lists", "with daemons'", "reserve", "late")
    table = _table("What would have saved those that failed", 2, columns)
    for c in [*report.classes, report.total]:
        f = c.failures
        if f.failed or c is report.total:
            table.add_row(
                *_name(c), f"{f.failed:,}", f"{f.avoidable:,}", f"{100 * f.avoidable / max(f.failed, 1):.0f}",
                f"{f.own:,}", f"{f.daemon:,}", f"{f.reserve:,}", f"{f.late:,}",
            )  # fmt: skip
    return table


def _zones(report: SlowpathReport) -> Table:
    columns = ("zone", "min", "low", "high", "lowest seen", "looks", "below low", "below min", "boosted")
    table = _table("Watermarks, in pages", 1, columns)
    for z in report.zones:
        table.add_row(
            f"{z.node} {z.zone}", str(z.min), str(z.low), str(z.high), str(z.lowest), f"{z.looks:,}",
            f"{z.below_low:,}", f"{z.below_min:,}", f"{z.boosted:,}",
        )  # fmt: skip
    return table


def _spent(report: SlowpathReport) -> Table:
    table = _table("Where the time of tasks went", 1, ("", "times", "together", "mean", "share of CPU time"))
    whole = report.seconds * report.cpus * 1e9
    for i, name in enumerate(SPENT_NAMES):
        ns, times = report.spent[name], report.times[name]
        if times or i in THROTTLES:
            label = name if i == 0 else f"{'throttled: ' if i in THROTTLES else 'of it '}{name}"
            mean = duration(ns / times) if times else "-"
            table.add_row(label, f"{times:,}", duration(ns), mean, f"{100 * ns / whole:.2f} %")
    return table


def _drains(report: SlowpathReport) -> list[str]:
    d, calls = report.drain, report.drain["drains"] + report.drain["drains_busy"]
    direct, spent, works = report.times["drain_all_pages"], report.spent["drain_all_pages"], d["drain_works"]
    return [
        f"drain_all_pages: {calls:,} calls, {d['drains_busy']:,} of them found another one going on and returned",
        (
            f"  {d['drains']:,} done, {direct:,} of them by allocations, which took {duration(spent)}; {works:,} works "
            f"queued for other CPUs ({works / max(d['drains'], 1):.2f} a drain), {d['drains_empty']:,} found nothing"
        ),
        f"  pages drained: {d['drained_remote']:,} of other CPUs, {d['drained_local']:,} of its own",
        (
            f"  left behind: {d['missed_cpus']:,} times a CPU that had no pages when it was looked at had some in the "
            f"end ({d['missed_pages']:,} pages), {d['refilled_cpus']:,} times one that had drained "
            f"({d['refilled_pages']:,} pages)"
        ),
    ]


def _kswapd(report: SlowpathReport) -> list[str]:
    v = report.vmstat
    names = [name for name in v if v[name] and not name.startswith("allocstall")]
    stalls = sum(n for name, n in v.items() if name.startswith("allocstall"))
    slept = ", ".join(f"{name} {duration(ns)}" for name, ns in report.daemons_spent.items() if ns) or "nothing"
    return [
        (
            f"kswapd: woken {report.drain['kswapd_wakes']:,} times; allocstall {stalls:,}, "
            + ", ".join(f"{name} {v[name]:,}" for name in names)
        ),
        f"daemons waited for: {slept}",
    ]


def slowpath_lines(report: SlowpathReport) -> list[str]:
    """All of it as text."""
    console = Console(file=StringIO(), width=WIDTH, highlight=False)
    rate = report.operations / report.seconds if report.seconds else 0
    tables = [_allocations(report), _retries(report), _failures(report), _spent(report), _zones(report)]
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    total = report.total
    killed = [f"{report.killed} processes killed for memory"] if report.killed else []
    return [
        (
            f"slowpath: {report.cpus} CPUs, {report.memory >> 20} MiB, swap {report.swap >> 20} MiB: "
            f"{report.operations:,} operations in {report.seconds:.2f} s, {rate:,.0f}/s"
        ),
        (
            f"{total.attempts:,} allocations, {total.slow:,} through the slow path, {total.failures.failed:,} failed; "
            f"{report.elsewhere:,} slow paths elsewhere (page cache, page faults)"
        ),
        "",
        *(line.rstrip() for line in text.splitlines()),
        *_drains(report),
        *_kswapd(report),
        (
            f"at a failure, on average: {report.pcp_pages_per_failure:.0f} pages on other CPUs' lists, "
            f"{report.reserve_pages_per_failure:.0f} free in the highatomic reserve"
        ),
        *killed,
        "validate: clean" if not report.problems else f"validate: {len(report.problems)} problems",
        *(f"  {problem}" for problem in report.problems[:20]),
        f"configuration: {_configured(report)}",
        f"seed: {report.seed}",
    ]


def _configured(report: SlowpathReport) -> str:
    parts = [f"--cpus {report.cpus}", f"--memory {report.memory >> 10}K", f"--swap {report.swap >> 10}K"]
    parts += [f"--sysctl {name}={value}" for name, value in report.sysctl.items()]
    parts += [f"--boot {name}={str(value).lower()}" for name, value in report.boot.items()]
    ended = f"--operations {report.target}" if report.target else f"--duration {report.duration:g}"
    return " ".join([*parts, ended])
