"""``emu stress oversubscribe --report``: throughput, fairness and waits over the number of CPU processes."""

from collections.abc import Callable
from typing import Any

from emu.stress.document import colors, document, figure, listing, table
from emu.stress.oversubscribe import OversubscribeReport, Point

__all__ = ["page"]

Value = Callable[[Point], float | None]
CHARTS: tuple[tuple[str, str, dict[str, Value], dict[str, Any]], ...] = (
    ("Throughput beside two CPUs", "%", {"of two CPUs": lambda p: 100 * p.share}, {"yaxis_rangemode": "tozero"}),
    ("Fairness: Jain's index", "", {"Jain": lambda p: p.jain}, {"yaxis_range": [0, 1.02]}),
    ("Longest wait for zone->lock", "ms", {"longest": lambda p: p.longest_wait / 1e6 or None}, {"yaxis_type": "log"}),
    (
        "Acquisitions of zone->lock", "%",
        {
            "waited": lambda p: 100 * p.contentions / max(p.acquisitions, 1),
            "stolen from a sleeping waiter": lambda p: 100 * p.stolen / max(p.acquisitions, 1),
        },
        {"yaxis_rangemode": "tozero"},
    ),
    ("Context switches", "per second", {"switches": lambda p: p.switches}, {"yaxis_rangemode": "tozero"}),
)  # fmt: skip


def page(report: OversubscribeReport) -> str:
    """The whole document."""
    config = report.config
    at = [str(point.cpus) for point in report.points]
    charts = []
    for title, unit, values, layout in CHARTS:
        chart = figure(title, "CPU processes", unit, xaxis_type="category", **layout)
        for (name, value), color in zip(values.items(), colors(len(values)), strict=True):
            there = [value(point) for point in report.points]
            chart.add_scatter(x=at, y=there, mode="lines+markers", name=name, line={"color": color})
        charts.append(chart)
    rows = [
        (f"{p.cpus}", f"{p.ops_per_second / 1e6:.1f}", f"{p.share:.0%}", f"{p.jain:.3f}", f"{p.longest_wait / 1e6:.1f}",
         f"{p.switches:,}", f"{p.idle:.0%}") for p in report.points
    ]  # fmt: skip
    numbers = table(("CPUs", "M ops/s", "of two", "Jain", "longest wait ms", "switches/s", "host idle"), rows)
    parking = "waiters park" if report.parking else "waiters never park"
    about = f"{config['duration']:g} s each on {report.cores} cores, seed {config['seed']}; {parking}."
    good = "<p>validate: clean</p>" if not report.problems else ""
    return document(
        f"emu stress oversubscribe: {config['workload']}", about, [good, listing("validate", report.problems), numbers],
        charts, [], config, ("points", report.as_dict()),
    )  # fmt: skip
