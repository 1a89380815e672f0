"""Chrome's JSON, folded stacks, plot-fragmentation, LLFree: what a recording says in each of them."""

import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from emu.trace.chrome import chrome_json, failures, slow_paths
from emu.trace.convert import CONVERTERS, ConvertError, converter_for
from emu.trace.event_type import Rows
from emu.trace.folded import lock_waits, retries
from emu.trace.fragmentation import plot_fragmentation
from emu.trace.llfree import llfree_trace
from emu.trace.recording import Recording
from emu.zone.event import (
    EV_ALLOC,
    EV_ALLOC_FAILURE,
    EV_COMPACTION_END,
    EV_COMPACTION_FINISHED,
    EV_DIRECT_RECLAIM_END,
    EV_EXTFRAG,
    EV_FREE,
    EV_SLOWPATH,
)  # fmt: skip
from tests.trace.recordings import events_of, handing_over, recording_of

START, RETRY, NOPAGE, RESTART = range(4)
SUCCESS, COMPLETE = 8, 5


def rows_of(*events: dict[str, int]) -> Rows:
    """Events of CPU 0, one each us."""
    rows = events_of(len(events))
    rows["cpu"] = rows["task"] = 0
    for row, values in zip(rows, events, strict=True):
        for name, value in values.items():
            row[name] = value
    return rows


def slow_path_events() -> Rows:
    """One with two retries that got a page, one that got none, one whose end was lost."""
    step = {"kind": EV_SLOWPATH, "order": 2, "gfp": 0xCC0}
    return rows_of(
        {**step, "migratetype": START}, {**step, "migratetype": RETRY, "b": 0},
        {**step, "migratetype": RETRY, "b": 1 << 32 | 3}, {**step, "migratetype": RESTART, "b": 1},
        {"kind": EV_ALLOC, "pfn": 4096, "order": 2, "gfp": 0xCC0},
        {**step, "migratetype": START}, {**step, "migratetype": NOPAGE}, {"kind": EV_ALLOC_FAILURE, "order": 2},
        {"kind": EV_ALLOC, "pfn": -1, "order": 2}, {**step, "migratetype": START},
    )  # fmt: skip


def chrome(recording: Recording) -> list[dict[str, Any]]:
    """The events of the file, which must be JSON."""
    events: list[dict[str, Any]] = json.loads(b"".join(chrome_json(recording)))["traceEvents"]
    return events


def test_a_way_through_the_slow_path_is_a_slice() -> None:
    slices = [event for event in slow_paths(recording_of(slow_path_events())) if event["ph"] == "X"]
    assert [(each["ts"], each["dur"], each["args"]["got"], each["args"]["reasons"]) for each in slices] == [
        (1e6, 4.0, "a page", "reclaim cpuset_cookie"), (1e6 + 5, 1.0, "nothing", ""),
    ]  # fmt: skip
    assert slices[0]["args"]["gfp_flags"] == "GFP_KERNEL"


def test_failures_are_instants() -> None:
    found = failures(recording_of(slow_path_events()))
    assert [(each["ph"], each["name"], each["ts"]) for each in found] == [
        ("i", "page_alloc_failure", 1e6 + 7), ("i", "allocation failed", 1e6 + 8),
    ]  # fmt: skip


def test_chrome_has_locks_as_slices() -> None:
    slices = Counter(each["name"] for each in chrome(recording_of(events_of(0), handing_over())) if each["ph"] == "X")
    assert slices == {"hold &zone->lock": 2, "hold &pgdat->lru_lock": 1, "wait &zone->lock": 1}


@pytest.mark.compiled
def test_chrome_of_a_run(squeezed: Recording) -> None:
    events = chrome(squeezed)
    assert {each["pid"] for each in events} == {1}
    named = {each["tid"] for each in events if each["name"] == "thread_name"}
    names = Counter(each["name"].split()[0] for each in events if each["ph"] == "X")
    assert names["hold"] == len(squeezed.holds)
    assert names["direct"] == np.sum(squeezed.events["kind"] == EV_DIRECT_RECLAIM_END) > 0
    starts = (squeezed.events["kind"] == EV_SLOWPATH) & (squeezed.events["migratetype"] == START)
    assert names["slow"] == np.sum(starts) > 0
    for each in events:
        assert each["ph"] in ("M", "X", "i", "C")
        if each["ph"] == "X":
            assert each["dur"] >= 0
            assert each["tid"] in named


def test_retries_as_folded_stacks() -> None:
    text = b"".join(retries(recording_of(slow_path_events()))).decode()
    assert text == (
        "emu_cpu0;order 2;check_retry_cpuset;cpuset_cookie 1\nemu_cpu0;order 2;should_reclaim_retry;reclaim 1\n"
    )


@pytest.mark.compiled
def test_folded_stacks_of_a_run(squeezed: Recording) -> None:
    waits = b"".join(lock_waits(squeezed)).decode().splitlines()
    assert all(re.fullmatch(r"cpu\d+;\w+;\S+ \d+", line) for line in waits)
    weights = sum(int(line.rpartition(" ")[2]) for line in waits)
    assert weights == int(squeezed.holds["waited"][squeezed.holds["waited"] >= 0].sum())
    steps = squeezed.events[squeezed.events["kind"] == EV_SLOWPATH]
    rounds = np.sum((steps["migratetype"] == RETRY) & (steps["b"] >> 32 > 0)) + np.sum(steps["migratetype"] == RESTART)
    lines = b"".join(retries(squeezed)).decode().splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == rounds


def test_fragmentation_as_its_tracker_writes_it() -> None:
    rows = rows_of(
        {"kind": EV_EXTFRAG, "order": 3, "migratetype": 0, "a": 9 | 1 << 8, "b": 1},
        {"kind": EV_EXTFRAG, "order": 0, "migratetype": 2, "a": 4, "b": 0},
        {"kind": EV_COMPACTION_FINISHED, "order": 9, "a": SUCCESS, "b": 1},
        {"kind": EV_COMPACTION_END, "b": 1 << 8 | SUCCESS << 16},
        {"kind": EV_COMPACTION_FINISHED, "order": 4, "a": COMPLETE, "b": 6},
        {"kind": EV_COMPACTION_END, "b": 6 << 8 | COMPLETE << 16},
    )
    data = json.loads(b"".join(plot_fragmentation(recording_of(rows))))
    who = {"pid": 1000, "comm": "emu_cpu0"}
    claim, steal, done, failed = data["events"]
    assert claim == {
        **who, "timestamp": 0.0, "event_type": "extfrag", "order": 3, "fallback_order": 9, "migrate_from": "MOVABLE",
        "migrate_to": "UNMOVABLE", "is_steal": False,
    }  # fmt: skip
    assert (steal["migrate_to"], steal["is_steal"]) == ("RECLAIMABLE", True)
    assert done == {
        **who, "timestamp": 3e-6, "event_type": "compaction_success", "order": 9, "zone": "DMA32", "node": 0,
    }  # fmt: skip
    assert (failed["event_type"], failed["order"], failed["zone"], failed["node"]) == (
        "compaction_failure", 4, "Normal", 1,
    )  # fmt: skip
    assert data["metadata"]["total_events"] == 4
    assert data["statistics"] == {
        "extfrag": {"3": 1, "0": 1},
        "compaction": {"9": {"success": 1, "failure": 0}, "4": {"success": 0, "failure": 1}},
    }  # fmt: skip


def read_llfree(data: bytes) -> list[tuple[int, ...]]:
    """CPU, time, pfn, alloc, order, gfp, pid of each entry: by the description of the format alone."""
    assert len(data) % 4096 == 0
    pages, _, highest = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4, 8))
    assert pages == len(data) // 4096 - 1
    found = []
    for at in range(4096, len(data), 4096):
        cpu = int.from_bytes(data[at : at + 4], "little")
        for entry in range(at + 16, at + 4096, 16):
            bits = int.from_bytes(data[entry : entry + 16], "little")
            values = []
            for width in (38, 24, 1, 4, 29, 32):
                values.append(bits & ((1 << width) - 1))
                bits >>= width
            if any(values):
                found.append((cpu, *values))
                assert values[1] <= highest
    return found


def test_llfree_round_trip() -> None:
    random = np.random.default_rng(1)
    rows = events_of(2000)
    rows["kind"] = random.choice([EV_ALLOC, EV_FREE, EV_EXTFRAG], len(rows))
    rows["pfn"], rows["order"] = random.integers(-1, 1 << 24, len(rows)), random.integers(0, 11, len(rows))
    rows["gfp"] = np.where(rows["kind"] == EV_ALLOC, random.integers(0, 1 << 24, len(rows)), 0)
    rows["pfn"][0], rows["kind"][0], rows["gfp"][0] = 0xFFFFFF, EV_ALLOC, 0xCC0
    wanted = [
        (int(r["cpu"]), int(r["ts"] - 10**9) // 1000, int(r["pfn"]), int(r["kind"] == EV_ALLOC), int(r["order"]),
         int(r["gfp"]), 1000 + int(r["cpu"]))
        for r in rows if r["kind"] != EV_EXTFRAG and r["pfn"] >= 0
    ]  # fmt: skip
    found = read_llfree(b"".join(llfree_trace(recording_of(rows))))
    assert sorted(found) == sorted(wanted)
    assert [each for each in found if each[0] == 1] == [each for each in wanted if each[0] == 1]  # in order


def test_llfree_has_no_room_for_larger_machines() -> None:
    from emu.trace.convert import Options

    rows = rows_of({"kind": EV_ALLOC, "pfn": 1 << 24})
    with pytest.raises(ConvertError, match="64 GiB"):
        CONVERTERS["llfree"].function(recording_of(rows), Options())


def test_the_ending_tells_the_format(tmp_path: Any) -> None:
    for converter in CONVERTERS.values():
        for ending in converter.endings:
            assert converter_for(None, tmp_path / f"x{ending}") is converter
