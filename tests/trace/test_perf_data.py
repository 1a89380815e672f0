"""perf.data: its records, and what perf makes of them."""

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from emu.trace.perf_data import perf_data
from tests.trace.streams import ALLOC, BEGIN, END, FREE, MIGRATE, Event, alternating, handing_over, stream_of

perf_there = pytest.mark.skipif(not shutil.which("perf"), reason="perf is not there")
SCRIPT = Path("/usr/lib/perf-core/scripts/python/compaction-times.py")


def written(path: Path, events: Sequence[Event]) -> Path:
    path.write_bytes(b"".join(perf_data(stream_of(events))))
    return path


def perf(*words: str | Path) -> str:
    """What it prints, some of it as if it were an error."""
    done = subprocess.run(["perf", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


# --- records ----------------------------------------------------------------------------------------------------------


def records_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each record of a file."""
    (at, size) = struct.unpack_from("<QQ", data, 40)
    end = at + size
    while at < end:
        kind, _, size = struct.unpack_from("<IHH", data, at)
        assert size % 8 == 0 and size > 8
        yield kind, data[at + 8 : at + size]
        at += size
    assert at == end


def test_records_are_in_the_order_of_time() -> None:
    events = alternating(100)
    events[40] = events[40]._replace(lost=12)
    kinds = list(records_of(b"".join(perf_data(stream_of(events)))))
    assert [kind for kind, _ in kinds] == [1, 3, 3, *[9] * 40, 2, *[9] * 60], "map, names, samples with one loss"
    assert struct.unpack("<QQ", kinds[43][1]) == (ALLOC.id, 12)
    samples = [body for kind, body in kinds if kind == 9]
    for event, body in zip(events, samples, strict=True):
        id_, _, pid, tid, time, cpu, _, period, size = struct.unpack_from("<QQIIQIIQI", body)
        assert (id_, pid, tid, time, cpu) == (event.type.id, 1000 + event.cpu, 1000 + event.cpu, event.ts, event.cpu)
        assert period == 1 and len(body) == 52 + size
        assert struct.unpack_from("<HBBiQ", body, 52)[0::4] == (event.type.id, event.values[0])


# --- perf -------------------------------------------------------------------------------------------------------------


@pytest.mark.tool
@perf_there
def test_perf_lists_the_events(tmp_path: Path) -> None:
    said = perf("evlist", "-i", written(tmp_path / "perf.data", alternating(10)))
    assert said.splitlines()[:2] == ["kmem:mm_page_alloc", "kmem:mm_page_free"]


LINE = re.compile(r"\s*(\S+)\s+(\d+) \[(\d+)\]\s+(\d+)\.(\d+):\s+(\w+):(\w+): (.*)")


@pytest.mark.tool
@perf_there
def test_perf_script_decodes_all(tmp_path: Path) -> None:
    events = alternating(300)
    lines = perf("script", "-i", written(tmp_path / "perf.data", events)).splitlines()
    for line, event in zip(lines, events, strict=True):
        found = LINE.fullmatch(line.rstrip())
        assert found, line
        comm, pid, cpu, seconds, micros, system, name, text = found.groups()
        assert (comm, pid, int(cpu)) == (f"emu_cpu{event.cpu}", str(1000 + event.cpu), event.cpu)
        assert (int(seconds), int(micros)) == divmod(event.ts // 1000, 10**6)
        assert (system, name) == ("kmem", event.type.name)
        assert text.startswith(f"pfn={event.values[0]} order={event.values[1]}")
        assert text.endswith("gfp_flags=GFP_KERNEL|__GFP_ZERO") == (event.type is ALLOC)


@pytest.mark.tool
@perf_there
def test_perf_tells_of_lost_events(tmp_path: Path) -> None:
    events = alternating(10)
    events[5] = events[5]._replace(lost=12)
    said = perf("script", "--show-lost-events", "-i", written(tmp_path / "perf.data", events))
    assert re.findall(r"PERF_RECORD_LOST lost (\d+)", said) == ["12"]


@pytest.mark.tool
@perf_there
def test_perf_kmem_counts_what_was_written(tmp_path: Path) -> None:
    events = [
        Event(1000 + i, i % 2, ALLOC, (4096 + 16 * i, order, 0xCC0, migratetype))
        for i, (order, migratetype) in enumerate([(0, 0)] * 5 + [(0, 1)] * 3 + [(3, 2)] * 2)
    ]
    events += [Event(2000 + i, 0, FREE, event.values[:2]) for i, event in enumerate(events[:6])]
    said = perf("kmem", "-i", written(tmp_path / "perf.data", events), "--page", "stat")
    totals = {name: int(count) for name, count in re.findall(r"^(Total .*?) *: *(\d+)", said, re.MULTILINE)}
    assert totals == {
        "Total allocation requests": 10, "Total free requests": 6, "Total alloc+freed requests": 6,
        "Total alloc-only requests": 4, "Total free-only requests": 0, "Total allocation failures": 0,
    }  # fmt: skip
    # A column for each migratetype in the order of the kernel's numbers; perf's names are those of another version.
    table = {int(row[0]): row[1:] for row in re.findall(r"^ +(\d+)" + r" +(\S+)" * 5 + "$", said, re.MULTILINE)}
    assert table[0] == ("5", "3", ".", ".", ".") and table[3] == (".", ".", "2", ".", ".")


@pytest.mark.tool
@perf_there
def test_perf_lock_reports_the_waits(tmp_path: Path) -> None:
    path = written(tmp_path / "perf.data", handing_over())

    def rows(*options: str) -> dict[str, list[str]]:
        lines = perf("lock", "-i", path, "report", *options).splitlines()
        assert lines[0].split()[:3] == ["Name", "acquired", "contended"]
        return {row[0]: row[1:] for row in map(str.split, lines[1:]) if row}

    wait = ["900", "ns"] * 4
    assert rows() == {"&zone->lock": ["2", "1", *wait], "&lruvec->lru_lock": ["1", "0", *["0", "ns"] * 4]}
    assert rows("-t")["emu_cpu1"] == ["1", "1", *wait]


@pytest.mark.tool
@perf_there
@pytest.mark.skipif(not SCRIPT.exists(), reason="perf's compaction-times.py is not there")
def test_perf_scripts_of_its_own_read_it(tmp_path: Path) -> None:
    zone = (0, 100, 5000, 8192, 1)
    events = [Event(1000, 0, BEGIN, zone), Event(3000, 0, MIGRATE, (7, 2)), Event(6000, 0, END, (*zone, 8))]
    said = perf("script", "-s", SCRIPT, "-i", written(tmp_path / "perf.data", events))
    assert said.startswith("total: 5000ns migration: moved=7 failed=2")
