"""Tracks with slices in Perfetto's format, made from trace events as Chrome's JSON has them.

There a slice is one event with its duration (``X``); here it is two packets, and a track's packets are nested as they
come. A track belongs to a process (``pid``) and has a number (``tid``), its name is in an ``M`` event. ``i`` becomes an
instant, ``C`` a counter of its own track, an arrow (``s`` to ``f``) two instants of one flow.
"""

import zlib
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from emu.trace.protobuf import proto

__all__ = ["track_packets"]

SEQUENCE = 1
EXPLICIT = 3  # TrackDescriptor.ChildTracksOrdering: by sibling_order_rank
PART = 4096  # packets in one part of the file
TYPE_SLICE_BEGIN, TYPE_SLICE_END, TYPE_INSTANT, TYPE_COUNTER = 1, 2, 3, 4  # TrackEvent.Type
KINDS = {"i": TYPE_INSTANT, "s": TYPE_INSTANT, "f": TYPE_INSTANT, "C": TYPE_COUNTER}
TraceEvent = dict[str, Any]
Moment = tuple[tuple[int, int, int], int, TraceEvent]
"""Where it stands - time in ns, then what of the same moment comes first - the type of the packet, and its event."""


def track_packets(events: Iterable[TraceEvent]) -> Iterator[bytes]:
    """A descriptor for each track, then what happens on all of them in the order of time."""
    events = list(events)
    trace = proto().Trace()
    for uuid, of in _tracks(events).items():
        _describe(trace.packet.add(trusted_packet_sequence_id=SEQUENCE).track_descriptor, uuid, of)
    if trace.packet:
        trace.packet[0].sequence_flags = proto().TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    yield trace.SerializeToString()
    moments = sorted((moment for event in events for moment in _moments(event)), key=itemgetter(0))
    for i in range(0, len(moments), PART):
        trace = proto().Trace()
        for (timestamp, _, _), kind, event in moments[i : i + PART]:
            packet = trace.packet.add(timestamp=timestamp, trusted_packet_sequence_id=SEQUENCE)
            _fill(packet.track_event, kind, event)
        yield trace.SerializeToString()


def _uuid(event: TraceEvent) -> int:
    """Of the track that an event is on. The process's own has number 0."""
    if event["ph"] == "C":
        return zlib.crc32(event["name"].encode()) << 32 | int(event["pid"]) << 16
    return 1 << 63 | int(event["pid"]) << 32 | int(event.get("tid", 0))


def _tracks(events: list[TraceEvent]) -> dict[int, dict[str, Any]]:
    """What is said of each track."""
    said: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["ph"] == "M":
            said.setdefault(_uuid(event), {"pid": event["pid"], "tid": event.get("tid", 0)}).update(event["args"])
        elif event["ph"] == "C":
            said.setdefault(_uuid(event), {"pid": event["pid"], "name": event["name"], "counter": True})
    return said


def _describe(track: Any, uuid: int, of: dict[str, Any]) -> None:
    track.uuid = uuid
    track.name = of.get("name", "")
    track.description = of.get("labels", "")
    if "counter" in of or of["tid"]:
        track.parent_uuid = _uuid({"ph": "M", "pid": of["pid"]})
        track.sibling_order_rank = of.get("sort_index", 0)
    else:
        track.child_ordering = EXPLICIT
    if "counter" in of:
        track.counter.SetInParent()


def _moments(event: TraceEvent) -> Iterator[Moment]:
    """When there is something to say of an event.

    At one moment slices end before others begin, the inner first; of those that begin, the longest is the outermost.
    """
    if event["ph"] == "M":
        return
    begin = round(event["ts"] * 1000)
    if event["ph"] == "X":
        length = round(event["dur"] * 1000)
        yield (begin, 1, -length), TYPE_SLICE_BEGIN, event
        yield (begin + length, 0 if length else 2, -begin), TYPE_SLICE_END, event
    else:
        yield (begin, 3, 0), KINDS[event["ph"]], event


def _fill(out: Any, kind: int, event: TraceEvent) -> None:
    """The packet's TrackEvent."""
    out.type, out.track_uuid = kind, _uuid(event)
    if kind == TYPE_COUNTER:
        (out.counter_value,) = event["args"].values()
        return
    if kind == TYPE_SLICE_END:
        return
    out.name = event["name"]
    if "cat" in event:
        out.categories.append(event["cat"])
    for name, value in event.get("args", {}).items():
        _annotate(out.debug_annotations.add(name=name), value)
    if event["ph"] == "s":
        out.flow_ids.append(event["id"])
    elif event["ph"] == "f":
        out.terminating_flow_ids.append(event["id"])


def _annotate(annotation: Any, value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _annotate(annotation.array_values.add(), each)
    elif isinstance(value, bool):
        annotation.bool_value = value
    elif isinstance(value, int):
        annotation.int_value = value
    else:
        annotation.string_value = str(value)
