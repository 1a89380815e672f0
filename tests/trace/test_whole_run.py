"""A machine's own recording: what trace-cmd, perf and Perfetto's classes say of it is what lock_stat and we say."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu.trace.convert import CONVERTERS, Options
from emu.trace.events import EVENTS
from emu.trace.from_recording import stream_of
from emu.trace.ftrace import KERNEL_SYSTEMS, ftrace_text
from emu.trace.perf_data import perf_data
from emu.trace.protobuf import proto
from emu.trace.recording import Recording, load_recording
from emu.trace.trace_dat import trace_dat
from emu.trace.types.lock import lock_name

pytestmark = pytest.mark.compiled
PERF_LOCK = r"^ *(\S+) +(\d+) +(\d+) +[\d.]+ [num]?s +([\d.]+) ([num]?s) "
perf_there = pytest.mark.skipif(not shutil.which("perf"), reason="perf is not there")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Three CPUs that fight for the locks of a small machine."""
    directory = tmp_path_factory.mktemp("run")
    options = ["--workload", "bulk,thp", "--cpus", "3", "--mem", "128M", "-n", "3000", "--lock-stat", "--quiet"]
    subprocess.run([sys.executable, "-m", "emu", "run", *options, "--record", "r.emu"], cwd=directory, check=True)
    return load_recording(directory / "r.emu")


def counts(recording: Recording) -> Counter[str]:
    return Counter({type_.name: len(rows) for type_, rows, _ in recording.by_type()})


OURS = re.compile(r"\s*(\S+)-(\d+)\s+\[(\d+)\] (....) +([\d.]+): (\w+): (.*)")
THEIRS = re.compile(r"\s*(\S+)-(\d+)\s+(\d+)(....)\. +([\d.]+): (\w+): +(.*)")


def line_of(form: re.Pattern[str], line: str) -> tuple[str, ...]:
    """Task, pid, CPU, irq-info, time, event and its text, as trace-cmd has them: 8 letters of the task's name, no zeros
    before the CPU's number, pointers that begin with 0x."""
    found = form.fullmatch(line)
    assert found, line
    task, pid, cpu, *rest, text = found.groups()
    return (task[:8], pid, str(int(cpu)), *rest, re.sub(r"\b(?=ffff[0-9a-f]{12}\b)", "0x", text))


@pytest.mark.tool
@pytest.mark.skipif(not shutil.which("trace-cmd"), reason="trace-cmd is not there")
def test_trace_cmd_prints_our_text(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "trace.dat").write_bytes(b"".join(trace_dat(stream_of(recording, KERNEL_SYSTEMS))))
    said = subprocess.run(
        ["trace-cmd", "report", "-l", tmp_path / "trace.dat"], check=True, capture_output=True, text=True
    ).stdout
    theirs = [line_of(THEIRS, line) for line in said.splitlines()[1:]]
    text = b"".join(ftrace_text(recording)).decode()
    ours = [line_of(OURS, line) for line in text.splitlines() if not line.startswith("#")]
    times = [float(line[4]) for line in theirs]
    assert times == sorted(times) == [float(line[4]) for line in ours]
    # Events of two CPUs in the same ns stand in the order of their numbers with us, of the CPUs there.
    assert sorted(theirs, key=lambda line: int(line[2])) == sorted(ours, key=lambda line: int(line[2]))


@pytest.mark.tool
@perf_there
def test_perf_kmem_counts_the_same(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "perf.data").write_bytes(b"".join(perf_data(stream_of(recording))))
    said = subprocess.run(
        ["perf", "kmem", "-i", tmp_path / "perf.data", "--page", "stat"], check=True, capture_output=True, text=True
    ).stdout
    (asked,) = re.findall(r"Total allocation requests +: +(\d+)", said)
    (freed,) = re.findall(r"Total free requests +: +(\d+)", said)
    ours = counts(recording)
    assert (int(asked), int(freed)) == (ours["mm_page_alloc"], ours["mm_page_free"])
    rows = recording.events[[EVENTS[kind].name == "mm_page_alloc" for kind in recording.events["kind"].tolist()]]
    for order, *columns in re.findall(r"^ +(\d+)" + r" +(\S+)" * 5 + "$", said, re.MULTILINE):
        of_order = rows[rows["order"] == int(order)]
        assert [0 if c == "." else int(c) for c in columns] == [np.sum(of_order["migratetype"] == t) for t in range(5)]


@pytest.mark.tool
@perf_there
def test_perf_lock_agrees_with_lock_stat(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "perf.data").write_bytes(b"".join(perf_data(stream_of(recording, ["lock"]))))
    said = subprocess.run(
        ["perf", "lock", "-i", tmp_path / "perf.data", "report"], check=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ).stdout  # fmt: skip
    found: dict[str, tuple[int, int, float]] = {}
    units = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    for name, acquired, contended, total, unit in re.findall(PERF_LOCK, said, re.MULTILINE):
        before = found.get(name, (0, 0, 0.0))
        found[name] = (before[0] + int(acquired), before[1] + int(contended), before[2] + float(total) * units[unit])
    holds = recording.holds
    for number in np.unique(holds["lock_class"]).tolist():
        of_class = holds[holds["lock_class"] == number]
        waits = of_class["waited"][of_class["waited"] >= 0]
        acquired, contended, total = found[lock_name(number)]
        assert (acquired, contended) == (len(of_class), len(waits))
        assert total == pytest.approx(int(waits.sum()), rel=0.01)
    # It was read before the last daemon had ended.
    lock_stat = (recording.path.parent / "emu-report" / "proc" / "lock_stat").read_text()
    (row,) = re.findall(r"^ *&zone->lock: +(.*)$", lock_stat, re.MULTILINE)
    acquired, contended, _ = found["&zone->lock"]
    assert int(row.split()[1]) <= contended and 1000 < int(row.split()[7]) <= acquired


def test_perfetto_holds_every_event(recording: Recording) -> None:
    trace = proto().Trace()
    trace.ParseFromString(b"".join(CONVERTERS["perfetto"].function(recording, Options())))
    events = [event for packet in trace.packet for event in packet.ftrace_events.event]
    assert len(events) == sum(n for name, n in counts(recording).items() if not name.startswith("lock_"))
    known = {p.track_descriptor.uuid for p in trace.packet if p.HasField("track_descriptor")}
    assert {p.track_event.track_uuid for p in trace.packet if p.HasField("track_event")} <= known
    slices = Counter(p.track_event.name.split()[0] for p in trace.packet if p.track_event.name)
    assert slices["hold"] == len(recording.holds)
    assert slices["wait"] == np.sum(recording.holds["waited"] >= 0)


@pytest.mark.parametrize(
    ("ending", "begin"), [(".dat", b"\x17\x08\x44tracing6\0"), (".data", b"PERFILE2"), (".pftrace", b"\n")]
)
def test_the_command_knows_the_format_by_the_ending(
    recording: Recording, run_emu: Any, tmp_path: Path, ending: str, begin: bytes
) -> None:
    done = run_emu("trace", "convert", recording.path, "--system", "lock", "--out", f"x{ending}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"x{ending}").read_bytes().startswith(begin)


def test_without_the_library_the_command_says_which(recording: Recording, run_emu: Any, tmp_path: Path) -> None:
    (tmp_path / "hide" / "perfetto").mkdir(parents=True)
    (tmp_path / "hide" / "perfetto" / "__init__.py").write_text("raise ImportError\n")
    hidden = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hide"), *sys.path])}
    done = run_emu("trace", "convert", recording.path, "--out", "x.pftrace", env=hidden)
    line = "emu: a Perfetto trace needs a library: pip install 'emu-pagealloc[perfetto]'\n"
    assert (done.returncode, done.stderr) == (2, line)
    assert [path.name for path in tmp_path.iterdir()] == ["hide"]
    early = run_emu("race", "run", "R8", "--report", "x.pftrace", env=hidden)
    assert (early.returncode, early.stdout, early.stderr) == (2, "", line)
