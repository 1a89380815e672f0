"""All types of events, as trace-cmd and perf print them: what our own text says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from emu.trace.from_recording import stream_of
from emu.trace.perf_data import perf_data
from emu.trace.recording import Recording
from emu.trace.trace_dat import trace_dat
from tests.trace.recordings import every_kind


def texts(recording: Recording) -> list[tuple[str, str]]:
    """The name and the text of each event, in the order of time. Pointers begin with 0x, as in these tools."""
    said = [
        (ts, type_.name, text)
        for type_, rows, _ in recording.by_type()
        for ts, text in zip(rows["ts"].tolist(), type_.texts(rows, recording.facts), strict=True)
    ]
    each = [(name, text) for _, name, text in sorted(said, key=lambda one: one[0])]
    return [(name, re.sub(r"\b(?=ffff[0-9a-f]{12}\b)", "0x", text.rstrip())) for name, text in each]


@pytest.fixture(scope="module")
def recording() -> Recording:
    return every_kind()


@pytest.mark.tool
@pytest.mark.skipif(not shutil.which("trace-cmd"), reason="trace-cmd is not there")
def test_trace_cmd(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "trace.dat").write_bytes(b"".join(trace_dat(stream_of(recording))))
    done = subprocess.run(["trace-cmd", "report", tmp_path / "trace.dat"], check=True, capture_output=True, text=True)
    assert not done.stderr
    lines = [re.fullmatch(r".*?\[00\d\] +[\d.]+: (\w+): +(.*)", line) for line in done.stdout.splitlines()[1:]]
    # A function has its size there only where kallsyms tells of what follows.
    ours = [(name, text.replace("+0x0/0x1000", "+0x0")) for name, text in texts(recording)]
    assert [line and (line[1], line[2].rstrip()) for line in lines] == ours


@pytest.mark.tool
@pytest.mark.skipif(not shutil.which("perf"), reason="perf is not there")
def test_perf_script(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "perf.data").write_bytes(b"".join(perf_data(stream_of(recording))))
    said = subprocess.run(["perf", "script", "-i", tmp_path / "perf.data"], check=True, capture_output=True, text=True)
    lines = [re.fullmatch(r".*?\[00\d\] +[\d.]+: +\w+:(\w+): (.*)", line) for line in said.stdout.splitlines()]
    # perf knows no functions but those of the kernel that it runs on.
    ours = [(name, re.sub(r"\w+\+0x0/0x1000", "FUNCTION", text)) for name, text in texts(recording)]
    theirs = [line and (line[1], re.sub(r"0xffffffff812\w+", "FUNCTION", line[2].rstrip())) for line in lines]
    assert theirs == ours
