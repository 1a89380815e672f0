"""Recordings: written by a machine, read back; files that are cut short, foreign or newer get one line."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from emu.cli.recorded import Recorded
from emu.config import make_config
from emu.machine import Machine, MachineError
from emu.trace.recorder import Recorder
from emu.trace.recording import RecordingError, load_recording
from emu.whole import WholeFile
from emu.workload.trace import TraceError, read_trace
from emu.zone.board import Board
from emu.zone.event import EV_ALLOC, EV_FREE
from emu.zone.gfp import GFP_KERNEL
from emu.zone.sched import TASK_SIZE
from tests.shm.helpers import until
from tests.trace.recordings import events_of


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """Two CPUs, no processes."""
    config = make_config({"cpus": 2, "memory": "32M"}, "test")
    with Board.boot(config.shape(), config.tuning(), ring_capacity=64, script_size=4096) as board:
        yield board


def recorder_at(board: Board, path: Path) -> Recorder:
    return Recorder(board.m, path, seed=7, workload="none", config={"cpus": 2})


@pytest.fixture
def written(board: Board, tmp_path: Path) -> Path:
    """Ten events of each CPU in two chunks each; CPU 0 has lost 5 between its two."""
    recorder = recorder_at(board, tmp_path / "r.emurec")
    events = events_of(20)
    events["task"] *= TASK_SIZE
    for part, lost in ((events[:10], 5), (events[10:], 5)):
        recorder.take(1, part[1::2], 0)
        recorder.take(0, part[::2], lost)
    recorder.close()
    return recorder.path


def test_what_was_written_is_read(written: Path) -> None:
    found = load_recording(written)
    assert (found.seed, found.workload, found.facts.nr_cpus) == (7, "none", 2)
    assert found.events["ts"].tolist() == events_of(20)["ts"].tolist()
    assert found.events["task"].tolist() == [0, 1] * 10
    assert [task.comm for task in found.facts.tasks[:3]] == ["emu/0", "emu/1", "kswapd0"]
    assert found.lost == 5
    lost = {i: n for i, n in enumerate(found.lost_before.tolist()) if n}
    assert lost == {10: 5}  # before the sixth event of CPU 0
    assert len(found.holds) == 0


def test_a_file_is_there_when_it_is_whole(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "r.emurec"
    path.write_text("what was there before")
    recorder = recorder_at(board, path)
    recorder.take(0, events_of(2), 0)
    assert path.read_text() == "what was there before"
    recorder.discard()
    assert [each.name for each in tmp_path.iterdir()] == ["r.emurec"]
    assert path.read_text() == "what was there before"


def test_every_cut_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    cut = written.with_name("cut.emurec")
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(RecordingError, match=re.escape(str(cut))) as error:
            load_recording(cut)
        assert "\n" not in str(error.value)


def changed(path: Path, **values: Any) -> Path:
    """A copy with other values in its header."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(path.read_bytes())
    objects = list(unpacker)
    objects[0].update(values)
    other = path.with_name("other.emurec")
    other.write_bytes(b"".join(msgpack.packb(each) for each in objects))
    return other


def test_replay_tells_what_to_do_with_one(written: Path) -> None:
    with pytest.raises(TraceError, match="a recording: give the text that `emu trace convert --to ftrace`"):
        read_trace(written)


def test_foreign_newer_and_damaged_files(written: Path) -> None:
    assert len(load_recording(changed(written)).events) == 20
    for values, says in (
        ({"format": "something else"}, "not a recording"), ({"version": 99}, "another version"),
        ({"layouts": {"e": "i64", "l": ""}}, "another version"), ({"facts": {}}, "damaged"),
        ({"seed": "seven"}, "damaged"),
    ):  # fmt: skip
        with pytest.raises(RecordingError, match=says):
            load_recording(changed(written, **values))
    for content, says in (
        (b"", "not a recording"), (b"# tracer: nop\n", "not a recording"), (b"\xc1" * 40, "not a recording"),
        (b"\xdf\xff\xff\xff\xff", "not a recording"),
    ):  # fmt: skip
        written.write_bytes(content)
        with pytest.raises(RecordingError, match=says):
            load_recording(written)


def test_what_follows_the_end_is_noticed(written: Path) -> None:
    written.write_bytes(written.read_bytes() + msgpack.packb(["e", 0, 0, b""]))
    with pytest.raises(RecordingError, match="follows the end"):
        load_recording(written)


def test_the_commands_say_it_in_one_line(written: Path, run_emu: Any) -> None:
    written.write_bytes(written.read_bytes()[:-9])
    for command in (("show", written), ("convert", written, "--to", "ftrace"), ("show", "missing.emurec")):
        done = run_emu("trace", *command)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"emu: .*\.emurec: .*\n", done.stderr)
    assert [path.name for path in written.parent.iterdir()] == ["r.emurec"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give --to"), (("--to", "tape"), "--to tape: give one of ftrace"), (("--out", "x.y"), "by that ending"),
        (("--to", "ftrace", "--dialect", "low"), "--dialect low"),
        (("--to", "ftrace", "--system", "net"), "--system net"),
        (("--to", "lock-waits"), "no locks were recorded"), (("--to", "ftrace", "--out", "r.emurec"), "would replace"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(written: Path, run_emu: Any, options: tuple[str, ...], says: str) -> None:
    done = run_emu("trace", "convert", "r.emurec", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.compiled
def test_a_run_is_recorded_event_by_event(run_emu: Any, tmp_path: Path) -> None:
    machine = ("--cpus", 2, "--mem", "64M", "--workload", "rand", "-n", 3000)
    done = run_emu("run", *machine, "--record", "r.emurec", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    found = load_recording(tmp_path / "r.emurec")
    assert summary["recorded"]["events"] == len(found.events)
    assert summary["recorded"]["lost"] == found.lost == 0
    kinds = found.events["kind"]
    assert np.sum(kinds == EV_ALLOC) == summary["allocs"] + summary["failed"]
    assert np.sum(kinds == EV_FREE) == summary["allocs"]
    assert np.unique(found.events["seq"]).size == len(found.events)
    shown = json.loads(run_emu("trace", "show", "r.emurec", "--json").stdout)
    assert shown["counts"]["mm_page_alloc"] == np.sum(kinds == EV_ALLOC)
    assert sum(shown["counts"].values()) == shown["events"]


@pytest.mark.compiled
def test_events_that_are_lost_are_counted_exactly(tmp_path: Path) -> None:
    with Machine(cpus=1, memory="64M", trace=True, ring_capacity=256) as machine:
        with Recorded(machine, tmp_path / "r.emurec", "none"):
            for _ in range(3):
                for pfn in [machine.alloc_pages(gfp=GFP_KERNEL, order=9) for _ in range(100)]:
                    machine.free_pages(pfn=pfn, order=9)
        numbers = int(machine.m.trace_clock.counter)
    found = load_recording(tmp_path / "r.emurec")
    gaps = numbers - len(found.events)
    assert found.lost == gaps - int(found.events["seq"].min())  # those before it was recorded are not lost


@pytest.mark.compiled
def test_a_machine_that_dies_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "r.emurec"
    with pytest.raises(MachineError, match="cpu1"), Machine(cpus=2, memory="64M", trace=True) as machine:
        with Recorded(machine, path, "none"):
            pfns = [machine.alloc_pages(cpu=0, gfp=GFP_KERNEL) for _ in range(10)]
            os.kill(next(c.pid for c in machine.children if c.index == 1), signal.SIGKILL)
            machine.wait_for(lambda: False)
    found = load_recording(path)
    allocated = found.events[found.events["kind"] == EV_ALLOC]
    assert allocated["pfn"].tolist() == pfns


@pytest.mark.compiled
def test_a_run_that_is_told_to_end_leaves_a_valid_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emu", "run", "--cpus", "1", "--mem", "64M", "--duration", "60", "-q"]
    run = subprocess.Popen([*command, "--record", "r.emurec"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        until(lambda: any(path.stat().st_size > 100_000 for path in tmp_path.glob(".r.emurec-*")), "events", 60)
        run.terminate()
        assert run.wait(60) == 128 + signal.SIGTERM
    finally:
        run.kill()
        run.wait()
    assert len(load_recording(tmp_path / "r.emurec").events) > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["r.emurec"]


@pytest.mark.compiled
def test_where_there_is_no_place_for_it(run_emu: Any) -> None:
    done = run_emu("run", "--cpus", 1, "--mem", "64M", "-n", 10, "--record", "nowhere/r.emurec")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("emu: nowhere/r.emurec: No such file or directory\n")


@pytest.mark.compiled
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, failed = WholeFile.write, list[bool]()

    def full(self: WholeFile, data: bytes) -> None:
        if not failed:
            failed.append(True)
            raise OSError(28, "No space left on device", str(self.path))
        write(self, data)

    with pytest.raises(OSError, match="No space"), Machine(cpus=1, memory="64M", trace=True) as machine:
        with Recorded(machine, tmp_path / "r.emurec", "none"):
            monkeypatch.setattr(WholeFile, "write", full)
            machine.alloc_pages(gfp=GFP_KERNEL)
    assert not list(tmp_path.iterdir())
