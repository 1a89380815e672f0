"""trace.dat: its pages, and what trace-cmd reads."""

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.trace.event_type import EventType, format_text
from emu.trace.events import EVENTS
from emu.trace.ring_pages import cpu_pages
from emu.trace.stream import rows_of
from emu.trace.trace_dat import trace_dat
from tests.trace.streams import ALLOC, FREE, LONG, VICTIM, Event, alternating, handing_over, stream_of

trace_cmd = pytest.mark.skipif(not shutil.which("trace-cmd"), reason="trace-cmd is not there")

# --- payloads ---------------------------------------------------------------------------------------------------------


def test_a_payload_is_a_c_struct() -> None:
    one = np.array([7])
    (row,) = rows_of(VICTIM, [[b"kswapd0"], [-5]], one, one * 0 + 1, one * 0 + 2)
    assert row.tobytes() == struct.pack("<HBBi16si", 91, 1, 2, 7, b"kswapd0", -5)


def test_strings_stand_behind_the_fields() -> None:
    (batch,) = stream_of([e for e in handing_over() if e.type.name == "lock_release"]).batches
    for row, name in zip(batch.rows, (b"&lruvec->lru_lock", b"&zone->lock", b"&zone->lock"), strict=True):
        data, where = row.tobytes(), int(row["name"])
        at, size = where & 0xFFFF, where >> 16
        assert at == 24 and size == len(name) + 1 and data[at : at + size] == name + b"\0"
        assert len(data) % 4 == 0


@pytest.mark.parametrize("type_", EVENTS.values(), ids=lambda type_: type_.name)
def test_fields_are_where_the_format_says(type_: EventType) -> None:
    said = re.findall(r"field:.*?(\w+)(?:\[\d+\])?;\toffset:(\d+);\tsize:(\d+);", format_text(type_))
    none = np.zeros(0, np.int64)
    dtype = rows_of(type_, [none] * len(type_.fields), none, none, none).dtype
    ours = {name: (dtype.fields[name][1], dtype[name].itemsize) for name in dtype.names if not name.endswith("[]")}
    assert ours == {name: (int(offset), int(size)) for name, offset, size in said}


# --- pages ------------------------------------------------------------------------------------------------------------


def read_pages(data: bytes) -> list[tuple[int, bytes, int]]:
    """Time, payload and how many were lost before, of each event in a CPU's pages."""
    out = []
    for page in (data[at : at + 4096] for at in range(0, len(data), 4096)):
        time, commit = struct.unpack_from("<QQ", page)
        end = 16 + (commit & 0xFFFFF)
        assert end <= 4096 and commit & 0xFFFFF > 0
        lost = struct.unpack_from("<Q", page, end)[0] if commit >> 30 & 1 else commit >> 31
        at = 16
        while at < end:
            (head,) = struct.unpack_from("<I", page, at)
            kind, delta = head & 31, head >> 5
            (word,) = struct.unpack_from("<I", page, at + 4)
            at += 4
            if kind == 30:
                time += delta + (word << 27)
                at += 4
                continue
            assert kind <= 28
            size = kind * 4 or word - 4
            at += 0 if kind else 4
            time += delta
            out.append((time, page[at : at + size], lost))
            at += size
            lost = 0
        assert at == end
    return out


STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 5000), st.sampled_from([2**27 - 1, 2**27, 2**40 + 3])),
        st.integers(0, 2), st.sampled_from([ALLOC, FREE, LONG]), st.sampled_from([0] * 20 + [1, 2**33]),
    ), max_size=400,
)  # fmt: skip


def events_of(steps: Sequence[tuple[int, int, EventType, int]]) -> list[Event]:
    now, out = 0, []
    for i, (gap, cpu, type_, lost) in enumerate(steps):
        now += gap
        values: tuple[Any, ...] = tuple(i + j for j in range(len(type_.fields)))
        out.append(Event(now, cpu, type_, values, lost))
    return out


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_pages_hold_every_event_at_its_time(steps: list[tuple[int, int, EventType, int]]) -> None:
    events = events_of(steps)
    stream = stream_of(events, 3)
    payload = {i: row for b in stream.batches for i, row in zip(b.index.tolist(), b.rows, strict=True)}
    for cpu in range(3):
        mine = [(e.ts, payload[i].tobytes(), e.lost) for i, e in enumerate(events) if e.cpu == cpu]
        assert read_pages(cpu_pages(stream, cpu)) == mine


def test_pages_are_full() -> None:
    stream = stream_of([Event(i, 0, FREE, (i, 0)) for i in range(1000)])
    size = 4 + stream.batches[0].rows.dtype.itemsize
    assert len(cpu_pages(stream, 0)) // 4096 == -(-1000 // (4080 // size))
    assert cpu_pages(stream, 1) == b""


# --- trace-cmd --------------------------------------------------------------------------------------------------------


def report(path: Path, events: Sequence[Event], *options: str) -> list[str]:
    """What ``trace-cmd report`` says of them, after the number of CPUs."""
    path.write_bytes(b"".join(trace_dat(stream_of(events))))
    done = subprocess.run(["trace-cmd", "report", *options, path], check=True, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "cpus=2"
    return lines


LINE = re.compile(r"\s*(\S+)-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d+): (\w+):\s+(.*)")


def said(event: Event) -> tuple[str, ...]:
    """Fields of the line."""
    micros = (event.ts + 500) // 1000
    if event.type is ALLOC:
        pfn, order, gfp, migratetype = event.values
        flags = {0: "none", 0xDC0: "GFP_KERNEL|__GFP_ZERO"}[gfp]
        text = f"pfn={pfn} order={order} migratetype={migratetype} gfp_flags={flags}"
    else:
        text = f"pfn={event.values[0]} order={event.values[1]}"
    where = (f"emu_cpu{event.cpu}", str(1000 + event.cpu), f"{event.cpu:03}")
    return (*where, str(micros // 10**6), f"{micros % 10**6:06}", event.type.name, text)


def fields(line: str) -> tuple[str, ...]:
    found = LINE.fullmatch(line)
    assert found, line
    return found.groups()


@pytest.mark.tool
@trace_cmd
@pytest.mark.parametrize("gap", [1000, 300_000_000], ids=["close", "time_extend"])
def test_trace_cmd_merges_the_cpus(tmp_path: Path, gap: int) -> None:
    events = alternating(1500, gap)
    assert [fields(line) for line in report(tmp_path / "trace.dat", events)] == [said(event) for event in events]


@pytest.mark.tool
@trace_cmd
def test_trace_cmd_shows_the_irq_flags(tmp_path: Path) -> None:
    first, second = report(tmp_path / "trace.dat", alternating(2), "-l")
    assert "emu_cpu0-1000    0d..1. " in first and "emu_cpu1-1001    1..h.. " in second


@pytest.mark.tool
@trace_cmd
def test_trace_cmd_tells_of_lost_events(tmp_path: Path) -> None:
    events = alternating(400)
    events[200] = events[200]._replace(lost=17)
    events[301] = events[301]._replace(lost=1)
    lines = report(tmp_path / "trace.dat", events)
    dropped = [(i, line) for i, line in enumerate(lines) if "DROPPED" in line]
    assert dropped == [(200, "CPU:0 [17 EVENTS DROPPED]"), (302, "CPU:1 [1 EVENTS DROPPED]")]


@pytest.mark.tool
@trace_cmd
def test_trace_cmd_reads_texts_and_long_events(tmp_path: Path) -> None:
    events = [Event(10, 0, VICTIM, (b"hog", 77)), Event(20, 0, LONG, tuple(range(20)))]
    assert [fields(line)[-1] for line in report(tmp_path / "trace.dat", events)] == ["hog pid=77", "f0=0 f19=19"]
    assert [fields(line)[-1] for line in report(tmp_path / "trace.dat", handing_over())][-1].endswith(" &zone->lock")


@pytest.mark.tool
@trace_cmd
def test_nothing_is_a_trace_as_well(tmp_path: Path) -> None:
    assert report(tmp_path / "trace.dat", []) == []
