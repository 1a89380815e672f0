"""A sweep of ``emu stress lock`` as one HTML page: charts, table, configuration (``<script id="sweep">``)."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from emu.stress.document import colors, document, figure, table
from emu.stress.measure import decode
from emu.stress.sweep import Axis, SweepReport, label, mean_share, plain, value_of, zone_lock
from emu.whole import write_whole

__all__ = ["page", "write_page"]

Values = dict[str, Any]
LINES = {"p50": "dot", "p99": "solid", "longest": "dash"}
PARTS = {"holding": "#0072b2", "spinning": "#e69f00", "parked": "#bbbbbb"}


def _series(report: SweepReport) -> list[tuple[str, list[Values]]]:
    """The points by the value of the second parameter; along the first one each."""
    if len(report.axes) < 2:
        return [("", list(report.points))]
    second = report.axes[1]
    names = dict.fromkeys(value_of(second, one["config"]) for one in report.points)
    return [
        (f"{second.name}={name}", [one for one in report.points if value_of(second, one["config"]) == name])
        for name in names
    ]  # fmt: skip


def _along(report: SweepReport, title: str, y: str, values: dict[str, Callable[[Values], Any]], **layout: Any) -> Any:
    """Lines over the first parameter: one for every series and every kind of value."""
    first = report.axes[0] if report.axes else Axis("", ())
    chart = figure(title, first.name, y, xaxis_type="category", **layout)
    series = _series(report)
    for (name, points), color in zip(series, colors(len(series)), strict=True):
        at = [value_of(first, one["config"]) if report.axes else "" for one in points]
        for kind, value in values.items():
            line = {"color": color, "dash": LINES.get(kind, "solid")}
            text = " ".join(word for word in (name, kind if len(values) > 1 else "") if word)
            found = [value(one) for one in points]
            if any(number is not None for number in found):
                chart.add_scatter(x=at, y=found, mode="lines+markers", name=text or y, line=line)
    return chart


def _of_waits(kind: str) -> Callable[[Values], float | None]:
    def microseconds(one: Values) -> float | None:
        lock = zone_lock(one)
        ns = lock["waits"][kind] if lock and lock["waits"]["nr"] else None
        return ns / 1000 if ns else None

    return microseconds


def _contended(one: Values) -> float | None:
    lock = zone_lock(one)
    return 100 * lock["contentions"] / lock["acquisitions"] if lock and lock["acquisitions"] else None


def _shares(report: SweepReport) -> go.Figure:
    chart = figure("Where the CPUs' time went", "", "% of the time", barmode="stack", yaxis_range=[0, 100])
    names = [label(report.axes, one["config"]) for one in report.points]
    for part, color in PARTS.items():
        shares = [100 * mean_share(one, part) for one in report.points]
        chart.add_bar(x=names, y=shares, name=part, marker_color=color)
    return chart


def _histograms(report: SweepReport, which: str, title: str) -> go.Figure:
    """One line a point: how many of the times lie in each eighth of a power of two."""
    chart = figure(title, "microseconds", "times counted", xaxis_type="log", yaxis_type="log")
    for one, color in zip(report.points, colors(len(report.points)), strict=True):
        lock = zone_lock(one)
        if lock is None or not lock[which]["nr"] or not lock[which]["histogram"]:
            continue
        counts: dict[int, int] = {}
        for step in decode(lock[which]["histogram"]).get_recorded_iterator():
            eighth = int(8 * _log2(step.value_iterated_to))
            counts[eighth] = counts.get(eighth, 0) + step.count_added_in_this_iter_step
        at = sorted(counts)
        chart.add_scatter(
            x=[2 ** ((n + 0.5) / 8) / 1000 for n in at], y=[counts[n] for n in at], mode="lines",
            name=label(report.axes, one["config"]), line={"color": color, "shape": "hvh"},
        )  # fmt: skip
    return chart


def _log2(ns: int) -> float:
    whole = max(ns, 1).bit_length() - 1
    return whole + (max(ns, 1) / (1 << whole) - 1)  # linear in between


def charts(report: SweepReport) -> list[go.Figure]:
    """All of them."""
    waits = {kind: _of_waits(kind) for kind in LINES}
    return [
        _along(report, "Operations per second", "per second", {"": lambda one: one["ops_per_second"]},
               yaxis_rangemode="tozero"),
        _along(report, "Waiting for zone->lock", "microseconds", waits, yaxis_type="log"),
        _along(report, "Acquisitions of zone->lock that had to wait", "%", {"": _contended}, yaxis_rangemode="tozero"),
        _shares(report),
        _along(report, "Fairness: Jain's index", "", {"": lambda one: one["jain"]}, yaxis_range=[0, 1.02]),
        _histograms(report, "waits", "Waits for zone->lock"),
        _histograms(report, "holds", "Holds of zone->lock"),
    ]  # fmt: skip


def _table(report: SweepReport) -> str:
    titles = [axis.name for axis in report.axes]
    titles += ["op/s", "locks per order-0 op", "waited %", "longest wait ms", "Jain"]
    rows = []
    for one in report.points:
        waited = _contended(one)
        numbers = (
            f"{one['ops_per_second']:,.0f}", f"{one['acquisitions_per_op']:.4f}",
            "-" if waited is None else f"{waited:.2f}", f"{one['longest_wait_ns'] / 1e6:.3f}", f"{one['jain']:.4f}",
        )  # fmt: skip
        rows.append([*(value_of(axis, one["config"]) for axis in report.axes), *numbers])
    return table(titles, rows)


def _lock_stats(axes: Sequence[Axis], points: Sequence[Values]) -> str:
    return "".join(
        f"<details><summary>/proc/lock_stat: {html.escape(label(axes, one['config']))}</summary>"
        f"<pre>{html.escape(one['lock_stat'])}</pre></details>"
        for one in points
    )  # fmt: skip


def page(report: SweepReport) -> str:
    """The whole document."""
    over = ", ".join(axis.name for axis in report.axes) or "one point"
    about = (
        f"{len(report.points)} points in {report.seconds:.1f} s, seed {report.config['seed']}. Times of zone->lock on "
        "this host, by its wall clock: who waits for a core waits longer for a lock."
    )
    return document(
        f"emu stress lock: {over}", about, [_table(report)], charts(report), [_lock_stats(report.axes, report.points)],
        report.config, ("sweep", plain(report)),
    )  # fmt: skip


def write_page(path: Path, report: SweepReport) -> None:
    """Write it whole or not at all."""
    write_whole(path, page(report))
