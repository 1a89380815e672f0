"""Capturing the page allocator's trace events of the kernel that runs here, through tracefs.

In an instance of its own (``instances/``), so that whoever else traces isn't disturbed; it is removed on every way out.
What is written is ftrace's text, which ``emu replay`` takes.
"""

import gzip
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from emu.whole import WholeFile

__all__ = ["EVENTS", "Captured", "RecordError", "capture", "tracefs"]

EVENTS = (
    "kmem:mm_page_alloc", "kmem:mm_page_free", "kmem:mm_page_free_batched", "kmem:mm_page_alloc_zone_locked",
    "kmem:mm_page_pcpu_drain", "kmem:mm_page_alloc_extfrag",
)  # fmt: skip
PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
BUFFER_KB = 16384  # of each CPU
CHUNK = 1 << 20
TICK_S = 0.1
_LOST = re.compile(r"^(?:overrun|dropped events): (\d+)$", re.MULTILINE)
_LOST_HERE = re.compile(rb" \[LOST (?:\d+ )?EVENTS\]\n")  # a line of trace_pipe that is no event


class RecordError(ValueError):
    """The kernel's events can't be had: what is missing."""


@dataclass(frozen=True)
class Captured:
    """What came of it."""

    path: str
    seconds: float
    lines: int
    lost: int  # events that found the kernel's buffer full
    cpus: int


def tracefs() -> Path:
    """Where tracefs is mounted: ``$EMU_TRACEFS``, or the usual places."""
    places = [os.environ["EMU_TRACEFS"]] if "EMU_TRACEFS" in os.environ else PLACES
    for place in map(Path, places):
        try:
            if (place / "instances").is_dir():
                if os.access(place / "instances", os.W_OK):
                    return place
                raise RecordError(f"{place}: only root may trace the kernel")
        except PermissionError:
            raise RecordError(f"{place}: only root may trace the kernel") from None
    raise RecordError(f"no tracefs at {' or '.join(map(str, places))}: mount -t tracefs nodev {places[0]}")


def _remove_leftovers(root: Path) -> None:
    """Instances of captures that were killed."""
    for path in (root / "instances").glob("emu-*"):
        pid = path.name.removeprefix("emu-")
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            path.rmdir()


class _Instance(AbstractContextManager["_Instance"]):
    """A trace buffer of our own."""

    def __init__(self, root: Path, events: Iterable[str]) -> None:
        self.path = root / "instances" / f"emu-{os.getpid()}"
        self.events = tuple(events)

    def __enter__(self) -> "_Instance":
        self.path.mkdir()
        try:
            self.write("buffer_size_kb", str(BUFFER_KB))
            self.write("trace_clock", "mono")
            for event in self.events:
                system, _, name = event.partition(":")
                if not (self.path / "events" / system / name).is_dir():
                    raise RecordError(f"{event}: this kernel has no such event")
                self.write(f"events/{system}/{name}/enable", "1")
        except BaseException:
            self.path.rmdir()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.write("tracing_on", "0")
        finally:
            self.path.rmdir()

    def write(self, name: str, value: str) -> None:
        """A setting."""
        (self.path / name).write_text(value)

    def stats(self) -> tuple[int, int]:
        """Number of CPUs, and events lost on them."""
        texts = [file.read_text() for file in (self.path / "per_cpu").glob("cpu*/stats")]
        return len(texts), sum(int(n) for text in texts for n in _LOST.findall(text))


class _Stop(AbstractContextManager["_Stop"]):
    """Ctrl-C and SIGTERM end a capture in good order."""

    asked = False

    def __enter__(self) -> "_Stop":
        self.old = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def capture(path: Path, duration: float, events: Iterable[str] = EVENTS) -> Captured:
    """Record for ``duration`` seconds, or until Ctrl-C, into a file that appears whole (gzipped if ``.gz``)."""
    root = tracefs()
    whole = WholeFile(path)
    raw = whole.file
    try:
        _remove_leftovers(root)
        with _Stop() as stop, _Instance(root, events) as instance:
            began = time.monotonic()
            with gzip.GzipFile(path.name, "wb", 6, raw) if path.suffix == ".gz" else nullcontext(raw) as into:
                lines = _drain(instance, into.write, began + duration, stop)
            seconds = time.monotonic() - began
            cpus, lost = instance.stats()
        whole.keep()
    except BaseException:
        whole.discard()
        raise
    return Captured(str(path), seconds, lines, lost, cpus)


def _drain(instance: _Instance, write: Callable[[bytes], object], deadline: float, stop: _Stop) -> int:
    """Copy whole lines until the time is over and the buffer empty. Returns how many."""
    lines, rest, on = 0, b"", True
    pipe = os.open(instance.path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        instance.write("tracing_on", "1")
        while True:
            if on and (stop.asked or time.monotonic() >= deadline):
                instance.write("tracing_on", "0")
                on = False
            try:
                data = os.read(pipe, CHUNK)
            except BlockingIOError:
                data = b""
            if not data:
                if not on:
                    return lines
                select.select([], [], [], min(TICK_S, max(deadline - time.monotonic(), 0)))
                continue
            whole, newline, rest = (rest + data).rpartition(b"\n")
            write(whole + newline)
            lines += (whole + newline).count(b"\n") - len(_LOST_HERE.findall(whole + newline))
    finally:
        os.close(pipe)
