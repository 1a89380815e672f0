"""What a recording can be made into: ``CONVERTERS``, by the names that ``emu trace convert --to`` takes.

A converter gives the parts of a file one by one. Each imports what it needs when it is called.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from emu.trace.recording import Recording
from emu.whole import write_parts

__all__ = ["CONVERTERS", "DIALECTS", "ConvertError", "Converter", "Options", "convert", "converter_for"]

DIALECTS = ("pagealloc", "vmscan")


class ConvertError(ValueError):
    """What cannot be made of a recording, in one line."""


@dataclass(frozen=True)
class Options:
    """``irq_info``, ``dialect``: of ftrace's text (:mod:`emu.trace.ftrace`). ``systems``: only events of these."""

    irq_info: bool = True
    dialect: str | None = None
    systems: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Converter:
    """``endings``: of the names of such files, the first one by default; ``help``: what reads them."""

    name: str
    endings: tuple[str, ...]
    function: Callable[[Recording, Options], Iterable[bytes]]
    help: str


def _ftrace(recording: Recording, options: Options) -> Iterable[bytes]:
    from emu.trace.ftrace import ftrace_text

    return ftrace_text(recording, options.irq_info, options.dialect, options.systems)


def _trace_dat(recording: Recording, options: Options) -> Iterable[bytes]:
    from emu.trace.from_recording import stream_of
    from emu.trace.trace_dat import trace_dat

    return trace_dat(stream_of(recording, options.systems))


def _perf_data(recording: Recording, options: Options) -> Iterable[bytes]:
    from emu.trace.from_recording import stream_of
    from emu.trace.perf_data import perf_data

    return perf_data(stream_of(recording, options.systems))


def _perfetto(recording: Recording, options: Options) -> Iterable[bytes]:
    from emu.trace.chrome import trace_events
    from emu.trace.from_recording import stream_of
    from emu.trace.perfetto import perfetto_trace

    stream = stream_of(recording, options.systems)
    return perfetto_trace(stream, trace_events(recording, stream, options.systems))


def _chrome(recording: Recording, options: Options) -> Iterable[bytes]:
    from emu.trace.chrome import chrome_json

    return chrome_json(recording, options.systems)


def _plot_fragmentation(recording: Recording, _: Options) -> Iterable[bytes]:
    from emu.trace.fragmentation import plot_fragmentation

    return plot_fragmentation(recording)


def _lock_waits(recording: Recording, _: Options) -> Iterable[bytes]:
    from emu.trace.folded import lock_waits

    if not len(recording.holds):
        raise ConvertError(f"{recording.path}: no locks were recorded: emu run --lock-stat --record does")
    return lock_waits(recording)


def _retries(recording: Recording, _: Options) -> Iterable[bytes]:
    from emu.trace.folded import retries

    return retries(recording)


def _llfree(recording: Recording, _: Options) -> Iterable[bytes]:
    from emu.trace.llfree import LARGEST_PFN, llfree_trace

    if len(recording.events) and recording.events["pfn"].max() > LARGEST_PFN:
        raise ConvertError(f"{recording.path}: a machine of more than 64 GiB, where LLFree's traces end")
    return llfree_trace(recording)


CONVERTERS = {
    converter.name: converter
    for converter in (
        Converter("ftrace", (".trace", ".txt", ".ftrace"), _ftrace, "ftrace's text: emu replay, the kernel's scripts"),
        Converter("trace.dat", (".dat",), _trace_dat, "trace-cmd report, KernelShark"),
        Converter("perf.data", (".data", ".perf"), _perf_data, "perf script, perf kmem, perf lock report"),
        Converter("chrome", (".json",), _chrome, "chrome://tracing, ui.perfetto.dev, speedscope"),
        Converter("fragmentation", (".frag.json",), _plot_fragmentation, "plot-fragmentation's visualizer"),
        Converter("lock-waits", (".locks.folded", ".folded"), _lock_waits, "flamegraph.pl, speedscope: ns by stack"),
        Converter("retries", (".retries.folded",), _retries, "flamegraph.pl, speedscope: rounds of the slow path"),
        Converter("llfree", (".llfree",), _llfree, "LLFree's replay"),
        Converter("perfetto", (".pftrace", ".perfetto-trace"), _perfetto, "ui.perfetto.dev"),
    )
}


def converter_for(name: str | None, path: Path | None) -> Converter:
    """The converter that is called so, or whose files end like ``path``: the longest ending wins."""
    if name is not None:
        if name not in CONVERTERS:
            raise ConvertError(f"--to {name}: give one of {', '.join(CONVERTERS)}")
        return CONVERTERS[name]
    if path is None:
        raise ConvertError(f"give --to ({', '.join(CONVERTERS)}), or --out with an ending that says it")
    ends = [(ending, each) for each in CONVERTERS.values() for ending in each.endings if path.name.endswith(ending)]
    if not ends:
        raise ConvertError(f"{path}: no format is known by that ending: give --to ({', '.join(CONVERTERS)})")
    return max(ends, key=lambda found: len(found[0]))[1]


def convert(recording: Recording, converter: Converter, path: Path, options: Options) -> None:
    """Write the file. Errors: ConvertError, OSError."""
    write_parts(path, converter.function(recording, options))
