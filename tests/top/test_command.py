"""``emu top`` on a machine that ``emu run`` runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.test_ctl_live import ROOT, UP_S, Live, emu, running

pytestmark = [pytest.mark.usefixtures("run_emu"), pytest.mark.compiled, pytest.mark.slow]
RunEmu = Callable[..., CompletedProcess[str]]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with running(tmp_path / "report") as process:
        yield Live(process)


def test_one_look_at_a_running_machine(live: Live) -> None:
    status, out, err = emu("top", "--once", "--machine", live.name)
    assert status == 0, err
    assert out.startswith(f"{live.name}  2 CPUs  ") and max(map(len, out.splitlines())) <= 100
    status, out, err = emu("top", "--json", "--machine", live.name)
    data = json.loads(out)
    assert status == 0 and data["machine"] == live.name and [c["name"] for c in data["cpus"]] == ["cpu0", "cpu1"]
    assert sum(c["allocated"] for c in data["cpus"]) > 0


def shown(terminal: int, until: bytes = b"") -> bytes:
    """What is written to a terminal until those words have been, or until the other side closes it."""
    seen = b""
    try:
        while not until or until not in seen:
            seen += os.read(terminal, 1 << 16)
    except OSError:  # closed
        assert not until, seen
    return seen


def test_the_screen_comes_up_and_quits(live: Live) -> None:
    """On a terminal of its own."""
    master, slave = os.openpty()
    screen = subprocess.Popen(
        [sys.executable, "-m", "emu", "top", "--machine", live.name],
        stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    shown(master, until=b"DMA")
    os.write(master, b"q")
    shown(master)
    assert screen.wait(UP_S) == 0
    os.close(master)


def test_the_screen_ends_with_its_machine(tmp_path: Path) -> None:
    """It says so, on what is then the terminal again."""
    with running(tmp_path / "report") as process:
        name = Live(process).name
        master, slave = os.openpty()
        screen = subprocess.Popen(
            [sys.executable, "-m", "emu", "top", "--machine", name, "--every", "200ms", "--exit-with-machine"],
            stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(slave)
        seen = shown(master, until=b"DMA")
        process.terminate()
        seen = shown(master)
        assert screen.wait(UP_S) == 0 and f"{name} has ended".encode() in seen
        os.close(master)


def test_of_two_machines_one_must_be_named(live: Live, tmp_path: Path) -> None:
    with running(tmp_path / "other") as second:
        names = {live.name, Live(second).name}
        status, out, err = emu("top", "--once")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "machines are running: give --machine" in err and names <= set(err.split())
        status, out, _ = emu("top", "--json", "--machine", live.name)
        assert status == 0 and json.loads(out)["ended"] is False


ERRORS = (
    ((), "0 machines are running"),
    (("--machine", "emu-1-nothing"), "emu-1-nothing"),
    (("--every", "1ms"), "100ms is"),
    (("--every", "often"), "--every often: not a time"),
)


@pytest.mark.parametrize(("args", "words"), ERRORS)
def test_what_cannot_be_is_one_line(run_emu: RunEmu, args: tuple[str, ...], words: str) -> None:
    done = run_emu("top", "--once", *args)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert words in done.stderr
