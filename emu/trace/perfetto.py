"""A Perfetto trace (protobuf), for ui.perfetto.dev: the trace events themselves, and what takes time as slices."""

from collections.abc import Iterator

from emu.trace.perfetto_ftrace import ftrace_packets
from emu.trace.perfetto_tracks import track_packets
from emu.trace.stream import Stream
from emu.trace.timeline import timeline

__all__ = ["perfetto_trace"]


def perfetto_trace(stream: Stream) -> Iterator[bytes]:
    """The file, in parts."""
    yield from ftrace_packets(stream)
    yield from track_packets(timeline(stream))
