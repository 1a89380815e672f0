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


def test_the_screen_comes_up_and_quits(live: Live) -> None:
    """On a terminal of its own."""
    master, slave = os.openpty()
    screen = subprocess.Popen(
        [sys.executable, "-m", "emu", "top", "--machine", live.name],
        stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while b"contended/s" not in seen and b"DMA" not in seen:
        seen += os.read(master, 1 << 16)
    os.write(master, b"q")
    try:
        while os.read(master, 1 << 16):
            pass
    except OSError:  # the other side has closed it
        pass
    assert screen.wait(UP_S) == 0
    os.close(master)


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
