"""A Perfetto trace (protobuf), for ui.perfetto.dev."""

from collections.abc import Iterable, Iterator
from typing import Any

from emu.trace.perfetto_ftrace import ftrace_packets
from emu.trace.perfetto_tracks import track_packets
from emu.trace.stream import Stream

__all__ = ["perfetto_trace"]


def perfetto_trace(stream: Stream, tracks: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The file in parts: the kernel's events as they are, then what is told of them as Chrome's trace events."""
    yield from ftrace_packets(stream)
    yield from track_packets(tracks)
