"""``emu record``, from a directory that plays tracefs and, where it may, from the kernel's own."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading  # noqa: TID251 - nothing is forked here while it runs
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emu.record import EVENTS, Captured, RecordError, capture, tracefs
from emu.workload.trace import read_trace

RunEmu = Callable[..., CompletedProcess[str]]
ALLOC = (
    "            bash-77      [001] ....    12.{:06d}: mm_page_alloc: page=0000000012345678 pfn={} order=0 "
    "migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE\n"
)
LOST = "CPU:1 [LOST 3 EVENTS]\n"


class Tracefs:
    """Does what the kernel does: fills each new instance, writes into its pipe while tracing is on, empties it."""

    def __init__(self, root: Path, lines: int, lost: int, missing: str = "") -> None:
        self.root, self.lines, self.lost, self.missing = root, lines, lost, missing
        self.settings: dict[str, str] = {}
        (root / "instances").mkdir(parents=True)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        fd = None
        while not self.over.is_set():
            for instance in (self.root / "instances").iterdir():
                if fd is None and not (instance / "trace_pipe").exists():
                    fd = self.fill(instance)
                elif fd is not None and self.on(instance):
                    events = [ALLOC.format(i, 1000 + i) for i in range(self.lines)]
                    os.write(fd, "".join([*events[:9], *([LOST] if self.lost else []), *events[9:]]).encode())
                    self.lines = 0
            time.sleep(0.01)
        if fd is not None:
            os.close(fd)

    def on(self, instance: Path) -> bool:
        try:
            return self.lines > 0 and (instance / "tracing_on").read_text() == "1"
        except FileNotFoundError:
            return False

    def fill(self, instance: Path) -> int:
        for event in EVENTS:
            if event != self.missing:
                (instance / "events" / event.replace(":", "/")).mkdir(parents=True)
        for cpu in range(2):
            stats = instance / "per_cpu" / f"cpu{cpu}" / "stats"
            stats.parent.mkdir(parents=True)
            stats.write_text(
                f"entries: 0\noverrun: {self.lost}\ncommit overrun: 0\ndropped events: 1\nread events: 5\n"
            )
        os.mkfifo(instance / "trace_pipe")
        return os.open(instance / "trace_pipe", os.O_RDWR)


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdir and rmdir as tracefs has them: an instance is complete at once, and goes with all that is in it."""
    make = Path.mkdir

    def mkdir(self: Path, *args: object, **more: object) -> None:
        make(self, *args, **more)  # type: ignore[arg-type]
        while self.parent.name == "instances" and not (self / "trace_pipe").exists():
            time.sleep(0.01)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", lambda self: shutil.rmtree(self))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracefs]:
    fake = Tracefs(tmp_path / "tracing", lines=40, lost=3)
    monkeypatch.setenv("EMU_TRACEFS", str(fake.root))
    settled(monkeypatch)
    fake.thread.start()
    yield fake
    fake.over.set()
    fake.thread.join()


def test_it_writes_what_replay_reads(kernel: Tracefs, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    done = capture(path, 0.5)
    assert (done.lines, done.lost, done.cpus) == (40, 8, 2) and 0.4 < done.seconds < 5
    trace = read_trace(path)
    assert len(trace.events) == 40 and trace.events["pfn"][-1] == 1039
    assert trace.skipped == {"lost events marker": 1} and path.read_text().count(LOST) == 1
    assert list((kernel.root / "instances").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.txt", "tracing"]


def test_gz_is_packed(kernel: Tracefs, tmp_path: Path) -> None:
    path = tmp_path / "out.txt.gz"
    assert capture(path, 0.3).lines == 40
    assert gzip.decompress(path.read_bytes()).count(b"mm_page_alloc") == 40


def test_sigterm_ends_it_early_and_in_order(kernel: Tracefs, tmp_path: Path) -> None:
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    done = capture(tmp_path / "out.txt", 60)
    timer.join()
    assert done.lines == 40 and done.seconds < 30
    assert list((kernel.root / "instances").iterdir()) == []


def test_what_a_killed_capture_left_is_removed(kernel: Tracefs, tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    for pid in (killed.pid, os.getppid()):
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "trace_pipe").touch()  # the kernel has been there
        (tmp_path / "old").rename(kernel.root / "instances" / f"emu-{pid}")
    capture(tmp_path / "out.txt", 0.3)
    assert [path.name for path in (kernel.root / "instances").iterdir()] == [f"emu-{os.getppid()}"]


def test_an_unknown_event_leaves_nothing(kernel: Tracefs, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="kmem:mm_nothing: this kernel has no such event"):
        capture(tmp_path / "out.txt", 1, ["kmem:mm_page_alloc", "kmem:mm_nothing"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tracing"]
    assert list((kernel.root / "instances").iterdir()) == []


def test_no_tracefs_is_one_line(run_emu: RunEmu, tmp_path: Path) -> None:
    done = run_emu("record", "--out", "x.txt", env={"EMU_TRACEFS": str(tmp_path / "none")})
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no tracefs at" in done.stderr
    for args, words in (
        (("--out", "x.txt", "--duration", "soon"), "--duration soon: not a time"),
        (("--out", "no/x.txt"), "no: no such directory"),
    ):
        done = run_emu("record", *args)
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tool
@pytest.mark.compiled
@pytest.mark.slow
def test_the_kernel_that_runs_here(tmp_path: Path) -> None:
    try:
        tracefs()
    except RecordError as err:
        pytest.skip(str(err))
    path = tmp_path / "host.txt.gz"
    command = [sys.executable, "-m", "emu"]
    done = subprocess.run(
        [*command, "record", "--out", str(path), "--duration", "1s", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    captured = Captured(**json.loads(done.stdout))
    assert captured.lines > 0 and len(read_trace(path).events) > 0
    replayed = subprocess.run(
        [*command, "replay", str(path), "--order", "cpu", "-q"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert replayed.returncode == 0, replayed.stderr
