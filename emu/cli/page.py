"""``--report FILE.html``: how a run went, as one page (``emu.html``)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.common import UsageError

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

    from emu.config import MachineConfig
    from emu.html.page import Explained
    from emu.html.recorder import Recorder
    from emu.machine import Machine
    from emu.stress.measure import ClassMeasure, Spread
    from emu.workload.run import Run

PageOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write a page that shows how it went; it needs no network."),
]
QUARTERS = 4  # bins of a lock's histogram in a power of two
SIZES = ("memory", "movable", "cma", "swap", "memcg_max", "memcg_high", "hotplug", "memory_block", "disk_bandwidth")


class PageFile:
    """The page of one command; does nothing if none was asked for."""

    def __init__(self, path: Path | None) -> None:
        """Before anything starts: can it be written? Compiles what the recorder needs."""
        self.path = path
        self.recorder: Recorder | None = None
        if path is None:
            return
        check_page(path)
        from emu.html.memory_map import load_counts

        load_counts()

    @property
    def named(self) -> dict[str, str]:
        """Its name, for ``--json``."""
        return {"page": str(self.path)} if self.path else {}

    def watch(
        self, machine: Machine, runs: Iterable[tuple[int, Run]], failed: Callable[[], int],
        tick: Callable[[], None] | None = None,
    ) -> Callable[[], None] | None:  # fmt: skip
        """Record the machine, and call ``tick`` too: returns what is to be called while it runs."""
        if self.path is None:
            return tick
        from emu.html.recorder import Recorder

        self.recorder = recorder = Recorder(machine, runs, failed)

        def both() -> None:
            recorder()
            if tick is not None:
                tick()

        return both

    @contextmanager
    def even_if_it_ends(self, machine: Machine, title: str, config: Mapping[str, Any]) -> Iterator[None]:
        """Write it also of a machine that panics or loses a CPU, and let the error go on."""
        from emu.machine import MachineError

        try:
            yield
        except MachineError as err:
            for line in self.write(machine, title, config, {}, [], ended=str(err)):
                typer.echo(line, err=True)
            raise

    def write(
        self, machine: Machine, title: str, config: Mapping[str, Any], totals: Mapping[str, Any],
        problems: Sequence[str], locks: Sequence[ClassMeasure] | None = None, ended: str = "",
    ) -> list[str]:  # fmt: skip
        """Whole or not at all, while the machine's memory is still there. Returns the line that says so.

        ``locks``: as the command measured them; else as they are now. ``ended``: why the run broke off.
        """
        if self.path is None or self.recorder is None:
            return []
        from emu.html.page import Page, render
        from emu.stress.measure import measure_locks
        from emu.whole import write_whole
        from emu.zone.task_stats import slowpath_total

        classes = measure_locks(machine.m) if locks is None else locks
        page = Page(
            title, _command(config.get("seed")), _facts(config), totals, slowpath_total(machine.m),
            [_lock_row(one) for one in classes], problems, explained, ended,
        )  # fmt: skip
        write_whole(self.path, render(page, self.recorder.finish()))
        return [f"page: {self.path}"]


def check_page(path: Path) -> None:
    """One line now instead of a run for nothing."""
    if path.suffix != ".html":
        raise UsageError(f"{path}: a page's name ends in .html")
    if path.is_dir():
        raise UsageError(f"{path}: is a directory")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}") from err


def write_charts(path: Path | None, page: Callable[[], str]) -> tuple[dict[str, str], list[str]]:
    """A page of charts, if one was asked for, whole or not at all: its name for ``--json``, and the line that says so.

    For commands of many machines, which can't be shown one by one.
    """
    from emu.whole import write_whole

    if path is None:
        return {}, []
    write_whole(path, page())
    return {"page": str(path)}, [f"page: {path}"]


def explained(text: str) -> Explained | None:
    """What ``emu explain`` says of a report; None where it has nothing to say."""
    from emu.explain import DumpError, as_text, explain, read_dumps
    from emu.explain.advice import verdict_sentence
    from emu.html.page import Explained

    try:
        dumps, _ = read_dumps(text.splitlines())
    except DumpError:
        return None
    if not dumps:
        return None
    found = explain(dumps[0])
    return Explained(verdict_sentence(found), as_text(found, "report"))


def facts_of(config: MachineConfig) -> dict[str, Any]:
    """A machine: its size, what it does, and whatever isn't as usual."""
    usual = {"cpus", "nodes" if config.nodes else "memory", "workload", "duration", "seed"}
    return config.model_dump(include=usual) | config.model_dump(exclude_defaults=True)


def _command(seed: int | None) -> list[str]:
    """This command, with its seed."""
    given = sys.argv[1:]
    named = seed is None or any(word == "--seed" or word.startswith("--seed=") for word in given)
    return ["emu", *given, *([] if named else ["--seed", str(seed)])]


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, flat, without what is off or empty."""
    facts: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            facts |= {f"{name} {key}": str(one) for key, one in value.items()}
        elif isinstance(value, list | tuple):
            facts[name] = ", ".join(_size(one) if name == "nodes" else str(one) for one in value)
        elif value is not None:
            facts[name] = _size(value) if name in SIZES else value
    return {name: value for name, value in facts.items() if value != ""}


def _size(value: int) -> str:
    """As it would be written in the options, with its unit."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 1 << shift:
            return f"{value / (1 << shift):g} {unit}"
    return f"{value} B"


def _lock_row(what: ClassMeasure) -> dict[str, Any]:
    return {
        "name": what.name, "acquisitions": what.acquisitions, "contentions": what.contentions,
        "waits": _times(what.waits), "holds": _times(what.holds),
        "waited_at": [[point.name, point.contentions] for point in what.waited_at],
        "held_from": [[point.name, point.contentions] for point in what.held_from],
    }  # fmt: skip


def _times(spread: Spread) -> dict[str, Any]:
    return {
        "measured": bool(spread.total), "average": spread.average, "longest": spread.longest,
        "p50": spread.p50, "p99": spread.p99, "histogram": _bins(spread.decoded()),
    }  # fmt: skip


def _bins(histogram: HdrHistogram) -> list[list[int]]:
    """[ns, how many] by quarters of a power of two."""
    counts: dict[int, int] = {}
    for step in histogram.get_recorded_iterator():
        ns = max(int(step.value_iterated_to), 1)
        whole = ns.bit_length() - 1
        at = whole * QUARTERS + ((ns * QUARTERS >> whole) - QUARTERS)
        counts[at] = counts.get(at, 0) + int(step.count_added_in_this_iter_step)
    return [[_middle(at), n] for at, n in sorted(counts.items())]


def _middle(at: int) -> int:
    whole, quarter = divmod(at, QUARTERS)
    return ((2 * (QUARTERS + quarter) + 1) << whole) // (2 * QUARTERS)
