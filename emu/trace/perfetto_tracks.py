"""Tracks with slices in Perfetto's format, made from trace events as Chrome's JSON has them.

There a slice is one event with its duration (``X``); here it is two packets, and a track's packets are nested as they
come. A track belongs to a process (``pid``) and has a number (``tid``), its name is in an ``M`` event. ``i`` becomes an
instant, ``C`` a counter of its own track, an arrow (``s`` to ``f``) two instants of one flow.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from emu.trace.protobuf import proto, serialized

__all__ = ["track_packets"]

SEQUENCE = 1
EXPLICIT = 3  # TrackDescriptor.ChildTracksOrdering: by sibling_order_rank
PART = 4096  # packets in one part of the file
TraceEvent = dict[str, Any]
Order = tuple[int, int, int]
"""Time in ns, then what of the same moment comes first."""


def track_packets(events: Iterable[TraceEvent]) -> Iterator[bytes]:
    """A descriptor for each track, then what happens on all of them in the order of time."""
    events = list(events)
    packets = list(_descriptors(events))
    timed = [pair for event in events for pair in _timed(event)]
    packets += [packet for _, packet in sorted(timed, key=lambda pair: pair[0])]
    if packets:
        packets[0].sequence_flags = proto().TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    for i in range(0, len(packets), PART):
        yield serialized(packets[i : i + PART])


def _uuid(event: TraceEvent) -> int:
    """Of the track that an event is on. The process's own has number 0."""
    if event["ph"] == "C":
        return zlib.crc32(event["name"].encode()) << 32 | int(event["pid"]) << 16
    return 1 << 63 | int(event["pid"]) << 32 | int(event.get("tid", 0))


def _descriptors(events: list[TraceEvent]) -> Iterator[Any]:
    said: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["ph"] == "M":
            said.setdefault(_uuid(event), {"pid": event["pid"], "tid": event.get("tid", 0)}).update(event["args"])
        elif event["ph"] == "C":
            said.setdefault(_uuid(event), {"pid": event["pid"], "name": event["name"], "counter": True})
    for uuid, of in said.items():
        packet = _packet()
        track = packet.track_descriptor
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
        yield packet


def _timed(event: TraceEvent) -> Iterator[tuple[Order, Any]]:
    """Packets of one event, each with its place in time.

    At one moment slices end before others begin, the inner first; of those that begin, the longest is the outermost.
    """
    kind = event["ph"]
    if kind == "M":
        return
    types = proto().TrackEvent
    begin = round(event["ts"] * 1000)
    if kind == "X":
        length = round(event["dur"] * 1000)
        yield (begin, 1, -length), _event(event, begin, types.TYPE_SLICE_BEGIN)
        ends = _packet(begin + length)
        ends.track_event.type = types.TYPE_SLICE_END
        ends.track_event.track_uuid = _uuid(event)
        yield (begin + length, 0 if length else 2, -begin), ends
    elif kind == "C":
        for value in event["args"].values():
            packet = _packet(begin)
            packet.track_event.type = types.TYPE_COUNTER
            packet.track_event.track_uuid = _uuid(event)
            packet.track_event.counter_value = value
            yield (begin, 3, 0), packet
    else:
        packet = _event(event, begin, types.TYPE_INSTANT)
        if kind == "s":
            packet.track_event.flow_ids.append(event["id"])
        elif kind == "f":
            packet.track_event.terminating_flow_ids.append(event["id"])
        yield (begin, 3, 0), packet


def _packet(timestamp: int | None = None) -> Any:
    packet = proto().TracePacket(trusted_packet_sequence_id=SEQUENCE)
    if timestamp is not None:
        packet.timestamp = timestamp
    return packet


def _event(event: TraceEvent, timestamp: int, type_: int) -> Any:
    """A slice's begin or an instant."""
    packet = _packet(timestamp)
    out = packet.track_event
    out.type, out.track_uuid, out.name = type_, _uuid(event), event["name"]
    if "cat" in event:
        out.categories.append(event["cat"])
    for name, value in event.get("args", {}).items():
        _annotate(out.debug_annotations.add(name=name), value)
    return packet


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
