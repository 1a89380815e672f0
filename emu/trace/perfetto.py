"""A Perfetto trace (protobuf), for ui.perfetto.dev: the trace events themselves, what takes time as slices, allocated
pages as counters."""

from collections.abc import Iterator, Sequence

from emu.trace.counters import counters
from emu.trace.facts import ZoneFacts
from emu.trace.perfetto_ftrace import ftrace_packets
from emu.trace.perfetto_tracks import track_packets
from emu.trace.stream import Stream
from emu.trace.timeline import timeline

__all__ = ["perfetto_trace"]


def perfetto_trace(stream: Stream, zones: Sequence[ZoneFacts] = ()) -> Iterator[bytes]:
    """The file, in parts. ``zones``: those to count pages of."""
    yield from ftrace_packets(stream)
    yield from track_packets([*timeline(stream), *counters(stream, zones)])
