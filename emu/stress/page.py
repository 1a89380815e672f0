"""A sweep as one HTML page: charts, table, configuration. It needs no network: the charts' program is inside.

The reports lie in it as JSON too (``<script id="sweep">``), so the page can be evaluated again.
"""

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs

from emu.report import write_whole
from emu.stress.measure import decode
from emu.stress.sweep import Axis, SweepReport, label, mean_share, plain, value_of, zone_lock

__all__ = ["page", "write_page"]

Values = dict[str, Any]
LINES = {"p50": "dot", "p99": "solid", "longest": "dash"}
PARTS = {"holding": "#0072b2", "spinning": "#e69f00", "parked": "#bbbbbb"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; } th { border-bottom-color: #888; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8em; font-size: 12px; } p.about { color: #555; }
"""


def _colors(count: int) -> list[str]:
    """As many as there are series, in order: from dark to light."""
    where = [0.15 + 0.65 * i / max(count - 1, 1) for i in range(count)]
    return [str(color) for color in sample_colorscale("Viridis", where)]


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


def _figure(title: str, x: str, y: str, **layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        title=title, template="plotly_white", height=420, margin={"l": 70, "r": 20, "t": 60, "b": 60},
        xaxis_title=x, yaxis_title=y, **layout,
    )  # fmt: skip
    return figure


def _along(report: SweepReport, title: str, y: str, values: dict[str, Callable[[Values], Any]], **layout: Any) -> Any:
    """Lines over the first parameter: one for every series and every kind of value."""
    first = report.axes[0] if report.axes else Axis("", ())
    figure = _figure(title, first.name, y, xaxis_type="category", **layout)
    series = _series(report)
    for (name, points), color in zip(series, _colors(len(series)), strict=True):
        at = [value_of(first, one["config"]) if report.axes else "" for one in points]
        for kind, value in values.items():
            line = {"color": color, "dash": LINES.get(kind, "solid")}
            text = " ".join(word for word in (name, kind if len(values) > 1 else "") if word)
            found = [value(one) for one in points]
            if any(number is not None for number in found):
                figure.add_scatter(x=at, y=found, mode="lines+markers", name=text or y, line=line)
    return figure


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
    figure = _figure("Where the CPUs' time went", "", "% of the time", barmode="stack", yaxis_range=[0, 100])
    names = [label(report.axes, one["config"]) for one in report.points]
    for part, color in PARTS.items():
        shares = [100 * mean_share(one, part) for one in report.points]
        figure.add_bar(x=names, y=shares, name=part, marker_color=color)
    return figure


def _histograms(report: SweepReport, which: str, title: str) -> go.Figure:
    """One line a point: how many of the times lie in each eighth of a power of two."""
    figure = _figure(title, "microseconds", "times counted", xaxis_type="log", yaxis_type="log")
    for one, color in zip(report.points, _colors(len(report.points)), strict=True):
        lock = zone_lock(one)
        if lock is None or not lock[which]["nr"] or not lock[which]["histogram"]:
            continue
        counts: dict[int, int] = {}
        for step in decode(lock[which]["histogram"]).get_recorded_iterator():
            eighth = int(8 * _log2(step.value_iterated_to))
            counts[eighth] = counts.get(eighth, 0) + step.count_added_in_this_iter_step
        at = sorted(counts)
        figure.add_scatter(
            x=[2 ** ((n + 0.5) / 8) / 1000 for n in at], y=[counts[n] for n in at], mode="lines",
            name=label(report.axes, one["config"]), line={"color": color, "shape": "hvh"},
        )  # fmt: skip
    return figure


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
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _in_script(data: Any) -> str:
    return json.dumps(data).replace("<", "\\u003c")


def _lock_stats(axes: Sequence[Axis], points: Sequence[Values]) -> str:
    return "".join(
        f"<details><summary>/proc/lock_stat: {html.escape(label(axes, one['config']))}</summary>"
        f"<pre>{html.escape(one['lock_stat'])}</pre></details>"
        for one in points
    )  # fmt: skip


def page(report: SweepReport) -> str:
    """The whole document."""
    over = ", ".join(axis.name for axis in report.axes) or "one point"
    title = f"emu stress lock: {over}"
    figures = "\n".join(chart.to_html(full_html=False, include_plotlyjs=False) for chart in charts(report))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>
<script>{get_plotlyjs()}</script></head><body>
<h1>{html.escape(title)}</h1>
<p class="about">{len(report.points)} points in {report.seconds:.1f} s, seed {report.config["seed"]}. Times of
zone->lock on this host, by its wall clock: who waits for a core waits longer for a lock.</p>
{_table(report)}
{figures}
<h2>Configuration</h2>
<pre id="config">{html.escape(json.dumps(report.config, indent=1))}</pre>
{_lock_stats(report.axes, report.points)}
<script type="application/json" id="sweep">{_in_script(plain(report))}</script>
</body></html>
"""


def write_page(path: Path, report: SweepReport) -> None:
    """Write it whole or not at all."""
    write_whole(path, page(report))
