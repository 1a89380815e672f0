"""Sweeps: the same measurement over the values of one or two parameters, each point on a machine of its own.

::

    pcp.batch=1,31,63,127      these values
    cpus=1..64                 the powers of two between
    order=0..9/3               from 0 in steps of 3
    mix=bulk,fault             mixes
    vm.min_free_kbytes=...     any sysctl that a machine has
"""

import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from emu.config import ConfigError, parse_size
from emu.stress.lock import ZONE_LOCK, lock_config, point
from emu.stress.mix import split_mixes

__all__ = [
    "PARAMETERS", "Axis", "SweepReport", "axis_of", "grid", "in_sequence", "label", "mean_share", "plain", "sweep",
    "table", "value_of", "zone_lock",
]  # fmt: skip

MOST_POINTS = 512
# what a parameter is called on the command line, in a configuration, and what it is read as
PARAMETERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "cpus": ("cpus", int),
    "memory": ("memory", parse_size),
    "mem": ("memory", parse_size),
    "mix": ("mix", str),
    "order": ("order", int),
    "fill": ("fill", float),
    "operations": ("operations", int),
    "duration": ("duration", float),
    "pcp.high": ("pcp_high", int),
    "pcp.batch": ("pcp_batch", int),
    "spin_limit": ("spin_limit", int),
    "seed": ("seed", int),
}
_RANGE = re.compile(r"([^.]+)\.\.([^/]+)(?:/(\w+))?")

Values = dict[str, Any]
Points = Callable[[list[Values]], Iterable[Values]]
"""Runs points: configurations in, reports out, in the same order."""


@dataclass(frozen=True)
class Axis:
    """A parameter and the values it takes."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class SweepReport:
    """All points: ``points[i]`` is a :class:`emu.stress.lock.LockReport` as plain data."""

    axes: tuple[Axis, ...]
    config: Values  # what all points share
    executor: str
    seconds: float
    points: tuple[Values, ...]


def axis_of(text: str) -> Axis:
    """Read ``NAME=VALUES``; ConfigError in one line."""
    name, eq, values = text.partition("=")
    if not eq or not values:
        raise ConfigError(f"sweep {text}: give NAME=VALUES, such as pcp.batch=1,31,63 or cpus=1..64")
    if name not in PARAMETERS and not name.startswith("vm."):
        raise ConfigError(f"sweep {text}: there are {', '.join(PARAMETERS)} and vm.NAME")
    read = PARAMETERS[name][1] if name in PARAMETERS else int
    try:
        parts = split_mixes(values) if name == "mix" else values.split(",")
        found = [value for part in parts for value in (_range(part, read) if name != "mix" else [part])]
    except ValueError as err:
        raise ConfigError(f"sweep {text}: {err}") from err
    if len(set(found)) < len(found):
        raise ConfigError(f"sweep {text}: each value once")
    return Axis("memory" if name == "mem" else name, tuple(found))


def _range(part: str, read: Callable[[str], Any]) -> list[Any]:
    found = _RANGE.fullmatch(part)
    if not found:
        return [read(part)]
    if read is float:
        raise ValueError(f"{part}: a range is of whole numbers")
    first, last = read(found[1]), read(found[2])
    if found[3] is None:
        if first < 1:
            raise ValueError(f"{part}: no powers of two below 1; give a step, {part}/1")
        values = [1 << n for n in range(last.bit_length()) if first <= 1 << n <= last]
    else:
        step = read(found[3])
        if step < 1:
            raise ValueError(f"{part}: a step is 1 at least")
        values = list(range(first, last + 1, step)) if (last - first) // step < MOST_POINTS else []
    if not values:
        raise ValueError(f"{part}: there is nothing, or too much, between")
    return values


def _with(config: Values, name: str, value: Any) -> Values:
    if name.startswith("vm."):
        return {**config, "sysctl": {**config.get("sysctl", {}), name.removeprefix("vm."): value}}
    return {**config, PARAMETERS[name][0]: [value] if name == "mix" else value}


def grid(base: Values, axes: Sequence[Axis]) -> list[Values]:
    """Every combination as a checked configuration, the first axis slowest."""
    if len(axes) > 2 or len({axis.name for axis in axes}) < len(axes):
        raise ConfigError("sweep: give one or two different parameters")
    configs = []
    for values in itertools.product(*(axis.values for axis in axes)):
        config = base
        for axis, value in zip(axes, values, strict=True):
            config = _with(config, axis.name, value)
        configs.append(lock_config(config).model_dump(mode="json"))
        if len(configs) > MOST_POINTS:
            raise ConfigError(f"sweep: more than {MOST_POINTS} points")
    return configs


def in_sequence(configs: list[Values]) -> Iterator[Values]:
    """One point after the other, in this process."""
    yield from map(point, configs)


def sweep(
    base: Values, axes: Sequence[Axis], *, points: Points = in_sequence, executor: str = "",
    told: Callable[[str], None] = lambda _: None,
) -> SweepReport:  # fmt: skip
    """Measure every point."""
    configs = grid(base, axes)
    began, done = time.monotonic(), []
    for report in points(configs):
        done.append(report)
        told(f"{len(done)} of {len(configs)}: {label(axes, report['config'])}: {report['ops_per_second']:,.0f}/s")
    shared = lock_config(base).model_dump(mode="json")
    return SweepReport(tuple(axes), shared, executor, time.monotonic() - began, tuple(done))


def value_of(axis: Axis, config: Values) -> str:
    """A point's value of a parameter, as people write it."""
    if axis.name.startswith("vm."):
        return str(config["sysctl"][axis.name.removeprefix("vm.")])
    value = config[PARAMETERS[axis.name][0]]
    if axis.name == "memory":
        for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
            if value % (1 << shift) == 0:
                return f"{value >> shift}{unit}"
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def label(axes: Sequence[Axis], config: Values) -> str:
    """What a point is called."""
    return " ".join(f"{axis.name}={value_of(axis, config)}" for axis in axes) or "one point"


def zone_lock(report: Values) -> Values | None:
    """A report's ``&zone->lock``."""
    return next((c for c in report["classes"] if c["name"] == ZONE_LOCK), None)


def mean_share(report: Values, name: str) -> float:
    """A share of time, averaged over the CPUs."""
    return float(sum(cpu[name] for cpu in report["cpus"]) / len(report["cpus"]))


_COLUMNS = (
    "op/s", "lock/op", "waited", "wait p50", "p99", "max us", "hold p50", "p99", "Jain", "spin", "parked", "hold",
)  # fmt: skip


def table(report: SweepReport) -> Table:
    """What people read: times in microseconds, shares of the CPUs' time, all of zone->lock."""
    out = Table(box=None, header_style="bold", padding=(0, 1))
    for axis in report.axes:
        out.add_column(axis.name, justify="right")
    for column in _COLUMNS:
        out.add_column(column, justify="right")
    for one in report.points:
        where = [value_of(axis, one["config"]) for axis in report.axes]
        shares = [f"{mean_share(one, name):.1%}" for name in ("spinning", "parked", "holding")]
        out.add_row(
            *where, f"{one['ops_per_second']:,.0f}", f"{one['acquisitions_per_op']:.4f}", *_times(zone_lock(one)),
            f"{one['jain']:.4f}", *shares,
        )  # fmt: skip
    return out


def _times(lock: Values | None) -> list[str]:
    if lock is None:
        return ["-"] * 6
    waits, holds = lock["waits"], lock["holds"]
    share = lock["contentions"] / lock["acquisitions"] if lock["acquisitions"] else 0.0
    marks = [waits[name] if waits["nr"] else None for name in ("p50", "p99", "longest")]
    marks += [holds[name] if holds["nr"] else None for name in ("p50", "p99")]
    return [f"{share:.2%}", *("-" if ns is None else f"{ns / 1000:,.2f}" for ns in marks)]


def plain(report: SweepReport) -> Values:
    """For JSON."""
    return asdict(report)
