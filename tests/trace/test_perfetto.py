"""Perfetto traces, parsed back with the library's classes."""

import sys
from typing import Any

import pytest

from emu.trace.counters import counters
from emu.trace.event_type import EventType
from emu.trace.facts import ZoneFacts
from emu.trace.from_recording import stream_of as stream_of_recording
from emu.trace.perfetto import perfetto_trace
from emu.trace.perfetto_tracks import track_packets
from emu.trace.protobuf import MissingLibraryError, proto
from emu.trace.timeline import timeline
from tests.trace.recordings import every_kind
from tests.trace.streams import (
    ALLOC,
    BEGIN,
    CONTENDED,
    END,
    FREE,
    SLEEP,
    VICTIM,
    WAKE,
    ZONE_LOCK,
    Event,
    alternating,
    handing_over,
    stream_of,
    u32,
)  # fmt: skip

pytest.importorskip("perfetto")
NO_PFN = 0xFFFFFFFFFFFFFFFF
RETRY = EventType("oom", "compact_retry", 92, (u32("order"), VICTIM.fields[1]), '"order=%d", REC->order')


def parsed(data: bytes) -> Any:
    trace = proto().Trace()
    trace.ParseFromString(data)
    return trace


def trace_of(*events: Event) -> Any:
    stream = stream_of(events)
    return parsed(b"".join(perfetto_trace(stream, timeline(stream))))


def bundles(trace: Any) -> list[Any]:
    return [packet.ftrace_events for packet in trace.packet if packet.HasField("ftrace_events")]


# --- trace events -----------------------------------------------------------------------------------------------------


def test_every_event_comes_back() -> None:
    events = alternating(10_000)
    found = []
    for bundle in bundles(trace_of(*events)):
        for event in bundle.event:
            kind = event.WhichOneof("event")
            type_ = {"mm_page_alloc": ALLOC, "mm_page_free": FREE}[kind]
            values = tuple(getattr(getattr(event, kind), field.name) for field in type_.fields)
            assert event.pid == 1000 + bundle.cpu
            found.append(Event(event.timestamp, bundle.cpu, type_, values))
    assert found == sorted(events, key=lambda event: (event.cpu, event.ts))


def test_the_number_of_packets() -> None:
    trace = trace_of(*alternating(10_000))
    assert [(bundle.cpu, len(bundle.event)) for bundle in bundles(trace)] == [(0, 4096), (0, 904), (1, 4096), (1, 904)]
    assert len(trace.packet) == 1 + 4 + 1, "the tasks, two bundles for each CPU, the process; nothing takes time"
    assert [(p.pid, list(p.cmdline)) for p in trace.packet[0].process_tree.processes] == [
        (1000, ["emu_cpu0"]), (1001, ["emu_cpu1"])
    ]  # fmt: skip


def test_a_loss_begins_a_bundle() -> None:
    events = alternating(20)
    events[8] = events[8]._replace(lost=3)
    found = [(b.cpu, b.lost_events, len(b.event)) for b in bundles(trace_of(*events))]
    assert found == [(0, False, 4), (0, True, 6), (1, False, 10)]


def test_what_perfetto_does_not_know_is_generic() -> None:
    trace = trace_of(Event(5, 0, RETRY, (3, -1)), Event(6, 0, SLEEP, (0,)), Event(7, 0, VICTIM, (b"hog", 4)))
    retry, sleep, victim = bundles(trace)[0].event
    fields = [(f.name, getattr(f, f.WhichOneof("value"))) for f in retry.generic.field]
    assert retry.generic.event_name == "compact_retry" and fields == [("order", 3), ("pid", -1)]
    assert sleep.WhichOneof("event") == "mm_vmscan_kswapd_sleep" and sleep.mm_vmscan_kswapd_sleep.nid == 0
    assert victim.mark_victim.pid == 4


def test_every_type_fits() -> None:
    """Each field that Perfetto knows holds what ours may hold, and has our number."""
    recording = every_kind()
    stream = stream_of_recording(recording)
    found = [event for bundle in bundles(parsed(b"".join(perfetto_trace(stream, [])))) for event in bundle.event]
    assert len(found) == len(recording.events)
    by_ts = {event.timestamp: event for event in found}
    for batch in stream.batches:
        if batch.type.system == "lock":
            continue
        for i, row in zip(batch.index.tolist(), batch.fields(), strict=True):
            event = by_ts[stream.ts[i]]
            ours = dict(zip((field.name for field in batch.type.fields), row, strict=True))
            if event.WhichOneof("event") == "generic":
                assert event.generic.event_name == batch.type.name
                theirs = {f.name: getattr(f, f.WhichOneof("value")) for f in event.generic.field}
                assert theirs == ours
            else:
                message = getattr(event, batch.type.name)
                theirs = {field.name: value for field, value in message.ListFields()}
                assert theirs == {name: ours[name] for name in theirs} and theirs.keys() <= ours.keys()
                assert batch.type.name == "mark_victim" or all(hasattr(message, name) for name in ours)


# --- tracks -----------------------------------------------------------------------------------------------------------


def slices(trace: Any) -> list[tuple[str, str, int, int]]:
    """Track, name, begin and end, in the order of their ends. Checks that times ascend and slices nest."""
    names: dict[int, str] = {}
    open_: dict[int, list[tuple[str, int]]] = {}
    out, last = [], 0
    event_types = proto().TrackEvent
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            names[packet.track_descriptor.uuid] = packet.track_descriptor.name
        if packet.HasField("track_event"):
            assert packet.timestamp >= last and packet.trusted_packet_sequence_id
            last, event = packet.timestamp, packet.track_event
            assert event.track_uuid in names
            if event.type == event_types.TYPE_SLICE_BEGIN:
                open_.setdefault(event.track_uuid, []).append((event.name, last))
            elif event.type == event_types.TYPE_SLICE_END:
                name, begin = open_[event.track_uuid].pop()
                out.append((names[event.track_uuid], name, begin, last))
    assert not any(open_.values())
    return out


def test_waits_and_holds_of_locks_are_slices() -> None:
    trace = trace_of(*handing_over())
    assert not bundles(trace), "nothing twice"
    assert slices(trace) == [
        ("CPU0 emu_cpu0 &lruvec->lru_lock", "hold &lruvec->lru_lock", 1130, 1140),
        ("CPU0 emu_cpu0 &zone->lock", "hold &zone->lock", 1001, 2000),
        ("CPU1 emu_cpu1 &zone->lock", "wait &zone->lock", 1110, 2010),
        ("CPU1 emu_cpu1 &zone->lock", "hold &zone->lock", 2010, 3000),
    ]


def test_reclaim_and_compaction_are_slices() -> None:
    zone = (0, 100, 5000, 8192, 1)
    trace = trace_of(
        Event(10, 1, WAKE, (0, 0)), Event(20, 0, BEGIN, zone), Event(60, 0, END, (*zone, 8)),
        Event(90, 1, SLEEP, (0,)), Event(95, 0, BEGIN, zone), Event(96, 0, CONTENDED, ZONE_LOCK),
    )  # fmt: skip
    assert slices(trace) == [
        ("CPU0 emu_cpu0", "compaction", 20, 60), ("CPU1 emu_cpu1", "kswapd awake", 10, 90)
    ], "the second has no end"  # fmt: skip
    (begin, _) = [p.track_event for p in trace.packet if p.track_event.name == "compaction"] * 2
    assert {a.name: a.int_value for a in begin.debug_annotations}["status"] == 8


def test_slices_of_one_moment_nest() -> None:
    def slice_(name: str, ts: float, dur: float) -> dict[str, Any]:
        return {"ph": "X", "pid": 1, "tid": 1, "ts": ts, "dur": dur, "name": name}

    names = [{"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "t"}}]
    events = [slice_("inner", 0, 1), slice_("next", 2, 1), slice_("outer", 0, 2), slice_("none", 3, 0)]
    found = slices(parsed(b"".join(track_packets(names + events))))
    assert found == [
        ("t", "inner", 0, 1000), ("t", "outer", 0, 2000), ("t", "next", 2000, 3000), ("t", "none", 3000, 3000)
    ]  # fmt: skip


def test_counters_have_tracks() -> None:
    events = [{"ph": "C", "pid": 1, "ts": t, "name": "free pages", "args": {"Normal": 10 * t}} for t in (1, 2)]
    tracks, *rest = parsed(b"".join(track_packets(events))).packet
    assert tracks.track_descriptor.HasField("counter") and tracks.track_descriptor.name == "free pages"
    assert [(p.timestamp, p.track_event.counter_value) for p in rest] == [(1000, 10), (2000, 20)]


def test_allocated_pages_are_counted() -> None:
    zones = (ZoneFacts(0, 1, 4096, 100), ZoneFacts(1, 2, 8192, 100))
    order_2, order_0 = (2, 0xCC0, 0), (0, 0xCC0, 0)
    stream = stream_of([
        Event(10, 0, ALLOC, (4096, *order_2)), Event(20, 1, ALLOC, (8192, *order_0)),
        Event(25, 1, ALLOC, (NO_PFN, *order_2)), Event(30, 1, FREE, (4096, 2)),
        Event(40, 0, FREE, (8193, 0)), Event(41, 0, FREE, (8194, 3)),
    ])  # fmt: skip
    trace = parsed(b"".join(track_packets(counters(stream, zones))))
    names = {p.track_descriptor.uuid: p.track_descriptor.name.partition(":")[0] for p in trace.packet}
    found = [
        (p.timestamp, names[p.track_event.track_uuid], p.track_event.counter_value)
        for p in trace.packet
        if p.HasField("track_event")
    ]
    assert found == [
        (10, "node0 DMA32", 4), (20, "node1 Normal", 1), (30, "node0 DMA32", 0), (40, "node1 Normal", 0),
        (41, "node1 Normal", -8),
    ]  # fmt: skip


def test_counters_have_no_more_points_than_can_be_seen() -> None:
    stream = stream_of([Event(i, 0, ALLOC, (5, 0, 0xCC0, 0)) for i in range(9000)])
    points = list(counters(stream, [ZoneFacts(0, 0, 0, 10)]))
    assert len(points) == 4000
    assert [(point["ts"], point["args"]["pages"]) for point in points[:: len(points) - 1]] == [(0, 1), (8.999, 9000)]


def test_arguments_keep_their_types() -> None:
    args = {"text": "a", "number": -3, "yes": True, "lines": ["x", "y"]}
    event = {"ph": "i", "pid": 1, "tid": 1, "ts": 0, "name": "n", "cat": "c", "args": args}
    (packet,) = parsed(b"".join(track_packets([event]))).packet
    text, number, yes, lines = packet.track_event.debug_annotations
    assert (text.string_value, number.int_value, yes.bool_value) == ("a", -3, True)
    assert [each.string_value for each in lines.array_values] == ["x", "y"]
    assert list(packet.track_event.categories) == ["c"]


def test_without_the_library_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'emu-pagealloc\[perfetto\]'"):
        proto()
