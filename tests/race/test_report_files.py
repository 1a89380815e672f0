"""A report as a file: JSON, a page, a timeline."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from emu.race.replay import Seen, Write
from emu.race.report import ENDINGS, Report, ending_of
from emu.race.report_timeline import timeline
from emu.race.scenario import ScenarioError
from emu.race.verdict import Verdict
from emu.trace.perfetto_tracks import track_packets
from tests.race.planted import TWICE
from tests.race.reports import bare, played

FLOWS = ("flow_ids", "terminating_flow_ids")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_ending_says_what_a_file_is(ending: str) -> None:
    assert ending_of(f"some.where/r{ending}") == ending


@pytest.mark.parametrize("name", ["r.pdf", "r", "html", "r.txt/x"])
def test_other_endings_are_refused(name: str) -> None:
    with pytest.raises(ScenarioError, match=r"a report's name ends in \.txt, .* or \.trace\.json"):
        ending_of(name)


def test_json_has_all_that_was_seen(twice: Report) -> None:
    data = json.loads(twice.render(".json"))
    assert data["schedule"] == twice.recording.schedule and data["replay"] == twice.command
    assert data["columns"] == ["cpu0", "cpu1", "cpu2"] and data["verdict"]["value"] == -512
    assert len(data["steps"]) == len(twice.recording.steps)
    assert {"name": "node0 Normal.nr_reserved_highatomic", "old": 1024, "new": 512} in [
        write for step in data["steps"] for write in step["writes"]
    ]


class Page(HTMLParser):
    """What tests look at: balanced elements, addresses, text."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.steps: list[int] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]
        self.steps += [int(value or -1) for name, value in attrs if name == "data-step"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data


def test_the_page_needs_nothing_else(loop: Report) -> None:
    text = loop.render(".html")
    page = Page(text)
    assert page.open == []
    assert page.addresses == ["https://git.kernel.org/linus/88e8ac11d2ea"], "links of commits; nothing that is loaded"
    assert not re.search(r"@import|url\((?!#)|\bfetch\(|XMLHttpRequest|import\(", text)
    assert page.steps == list(range(len(loop.recording.steps))), "each step, in order"
    assert "CPU1 changes the sizes <meanwhile> & CPU0 goes on" in page.text
    assert loop.command in page.text and "livelock" in page.text and "read pcp.batch = 64" in page.text


def page_data(report: Report) -> dict[str, Any]:
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', report.render(".html"), re.DOTALL)
    assert inside
    data: dict[str, Any] = json.loads(inside[1])
    return data


def test_the_page_draws_an_arrow_for_each_switch(twice: Report) -> None:
    data, steps = page_data(twice), twice.recording.steps
    assert sum(one["preempted"] for one in data["switches"]) == 2
    for one in data["switches"]:
        assert steps[one["from"]].actor != steps[one["to"]].actor
        assert one["preempted"] == (steps[one["to"]].preempts == steps[one["from"]].actor)


def test_nothing_in_a_scenario_can_break_the_page() -> None:
    evil = "</script><script>alert(1)</script>{title}"
    report = played(
        replace(bare(), title=evil, story=evil), Seen("cpu0", "f:lock", writes=(Write(evil, 0, 1),)),
        verdict=Verdict("invariant", text=evil),
    )  # fmt: skip
    text = report.render(".html")
    assert text.count("<script") == 2 and Page(text).open == []
    assert page_data(report)["steps"][0]["writes"][0]["name"] == evil


def slices(trace: dict[str, Any], category: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


@pytest.mark.parametrize("ending", [".perfetto-trace.json", ".trace.json"])
def test_the_timeline_has_a_track_for_each_actor(twice: Report, ending: str) -> None:
    trace = json.loads(twice.render(ending))
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e.get("name") == "thread_name"}
    assert list(names.values()) == ["cpu0", "cpu1", "cpu2"]
    steps = slices(trace, "step")
    assert [names[s["tid"]] for s in steps] == [step.actor for step in twice.recording.steps]
    assert [s["ts"] for s in steps] == list(range(len(steps))) and {s["dur"] for s in steps} == {1}
    for step in steps:
        if ":" in step["args"]["point"]:
            assert any(
                f["tid"] == step["tid"] and f["ts"] <= step["ts"] and step["ts"] + 1 <= f["ts"] + f["dur"]
                and f["name"] == step["args"]["point"].partition(":")[0]
                for f in slices(trace, "function")
            )  # fmt: skip
    assert trace["otherData"]["replay"] == twice.command


def test_the_timeline_has_an_arrow_for_each_preemption(twice: Report) -> None:
    trace = json.loads(twice.render(".trace.json"))

    def of(phase: str) -> Iterator[dict[str, Any]]:
        return (event for event in trace["traceEvents"] if event["ph"] == phase)

    starts, ends = {e["id"]: e for e in of("s")}, {e["id"]: e for e in of("f")}
    assert starts.keys() == ends.keys() and len(starts) == 2
    for key, start in starts.items():
        # an arrow binds to the slices in which its ends lie
        assert start["tid"] != ends[key]["tid"] and start["ts"] < ends[key]["ts"]
        for end in (start, ends[key]):
            assert any(s["tid"] == end["tid"] and s["ts"] <= end["ts"] < s["ts"] + 1 for s in slices(trace, "step"))
    assert [e["name"] for e in of("i")] == ["preempted by cpu1", "preempted by cpu0", "invariant: highatomic-counted"]


def test_the_timeline_as_protobuf_is_the_same(twice: Report) -> None:
    proto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    events = timeline(twice)["traceEvents"]
    trace = proto.Trace()
    trace.ParseFromString(b"".join(track_packets(events)))
    tracks = {p.track_descriptor.uuid: p.track_descriptor for p in trace.packet if p.HasField("track_descriptor")}
    (process,) = (track for track in tracks.values() if not track.parent_uuid)
    assert process.name == f"TWICE: {TWICE.title}" and process.description == twice.command
    assert [t.name for t in tracks.values() if t.parent_uuid == process.uuid] == ["cpu0", "cpu1", "cpu2"]

    def of(kind: str) -> list[tuple[int, str, str]]:
        return sorted(
            (p.timestamp, tracks[p.track_event.track_uuid].name, p.track_event.name)
            for p in trace.packet
            if p.HasField("track_event") and p.track_event.type == proto.TrackEvent.Type.Value(f"TYPE_{kind}")
        )

    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    for kind, phases in (("SLICE_BEGIN", "X"), ("INSTANT", "isf")):
        assert of(kind) == sorted(
            (round(e["ts"] * 1000), names[e["tid"]], e["name"]) for e in events if e["ph"] in phases
        )
    assert len(of("SLICE_BEGIN")) == len(of("SLICE_END"))
    starts, ends = ([i for p in trace.packet for i in getattr(p.track_event, ids)] for ids in FLOWS)
    assert starts == ends and len(starts) == 2
