"""``emu ctl`` changes a machine that ``emu run`` runs; what can't be is one line, and nothing has changed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
UP_S = 120
pytestmark = pytest.mark.usefixtures("run_emu")  # the program is built before the tests begin


def emu(*words: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "emu", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=UP_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@contextmanager
def running(out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A machine of two CPUs with hogs, ended by SIGTERM."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "emu", "run", "--cpus", "2", "--mem", "256M", "--workload", "hog", "--fill", "0.3",
            "--duration", "600", "--out", str(out), "-q", "--json", *more,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=UP_S)


class Live:
    """The machine of a process, through the command line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + UP_S
        found: list[str] = []
        while not found:
            assert time.monotonic() < deadline and process.poll() is None, "the machine did not come up"
            machines = json.loads(emu("ps", "--json")[1])["machines"]
            found = [m["segment"] for m in machines if m["pid"] == process.pid and m["processes"] >= 7]
        self.name = found[0]

    def ctl(self, *words: str) -> dict[str, Any]:
        status, out, err = emu("ctl", *words, "--machine", self.name, "--json")
        assert status == 0, err
        return dict(json.loads(out))

    def refused(self, *words: str) -> str:
        status, out, err = emu("ctl", *words, "--machine", self.name)
        assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith("emu: "), err
        return err.strip()

    def hogs(self) -> list[str]:
        """Pids of the processes that the workload runs now."""
        return [t["task"] for t in self.ctl("tasks")["tasks"] if t["comm"] == "hog"]

    def changed_and_killed_a_hog(self) -> bool:
        """False where it ended by itself first: the workload's processes come and go."""
        for hog in self.hogs()[:1]:
            for words, answer in (
                (("oom_score_adj", f"{hog}=300"), ("oom_score_adj", 300)),
                (("cpuset", hog, "mems=0"), ("mems", 1)),
                (("kill", hog), ("killed", hog)),
            ):
                status, out, err = emu("ctl", *words, "--machine", self.name, "--json")
                if "ESRCH" in err:
                    return False
                assert status == 0, err
                assert json.loads(out)[answer[0]] == answer[1]
            return True
        return False

    def value(self, file: str, name: str) -> int:
        """The sum of a line's numbers over all zones of a /proc file."""
        status, out, err = emu("proc", file, "--machine", self.name)
        assert status == 0, err
        return sum(int(line.split()[1]) for line in out.splitlines() if line.split()[:1] == [name])


@pytest.mark.compiled
@pytest.mark.slow
def test_a_running_machine_is_changed(tmp_path: Path) -> None:
    with running(tmp_path / "r") as process:
        live = Live(process)
        before = live.ctl("sysctl")
        assert before["vm.swappiness"] == 60 and before["vm.lowmem_reserve_ratio"] == [256, 256, 32, 0]
        assert live.ctl("sysctl", "vm.swappiness=35") == {"vm.swappiness": 35}
        assert live.ctl("sysctl", "vm.min_free_kbytes=6000") == {"vm.min_free_kbytes": 6000}
        assert live.value("zoneinfo", "min") in range(1400, 1501)  # pages, rounded down in each zone

        killed = live.value("vmstat", "pgfault")
        while not live.changed_and_killed_a_hog():
            assert process.poll() is None
        while live.value("vmstat", "pgfault") <= killed:  # the CPU goes on with another process
            assert process.poll() is None

        present = live.value("zoneinfo", "present")
        block = live.ctl("memory", "0x8000000", "offline")
        assert (block["state"], live.value("zoneinfo", "present")) == ("offline", present - (block["bytes"] >> 12))
        assert live.ctl("memory", "0x8000000", "online") == {**block, "state": "online"}
        assert live.value("zoneinfo", "present") == present

        assert "EINVAL" in live.refused("sysctl", "vm.swappiness=201")
        assert "EINVAL" in live.refused("sysctl", "vm.lowmem_reserve_ratio=1,2,3,4,5")
        assert "no such sysctl" in live.refused("sysctl", "vm.nonsense=1")
        assert "EINVAL" in live.refused("cpuset", "cpu0", "mems=5")
        assert "ENOSPC" in live.refused("cpuset", "cpu0", "mems=")
        assert "EPERM" in live.refused("kill", "cpu0")
        assert "EINVAL" in live.refused("memory", "0x8000000", "online")  # it is
        assert "in blocks of" in live.refused("memory", "0x8001000", "offline")
        assert "EINVAL" in live.refused("memory", "0", "offline", "256M")  # all there is
        assert "not one of" in live.refused("nonsense")
        assert live.ctl("sysctl") == {**before, "vm.swappiness": 35, "vm.min_free_kbytes": 6000}
        assert live.value("zoneinfo", "present") == present
        assert [t["mems"] for t in live.ctl("tasks")["tasks"][:2]] == ["0", "0"]
        assert emu("check", "--machine", live.name)[0] in (0, 1)  # of a machine that runs: it only looks

        with running(tmp_path / "other") as second:
            both = {live.name, Live(second).name}
            status, out, err = emu("ctl", "sysctl", "vm.swappiness")
            assert (status, out) == (2, "") and "machines are running: give --machine" in err
            assert both <= set(err.replace("\n", "").split())
            assert emu("ctl", live.name, "sysctl", "vm.swappiness") == (0, "vm.swappiness = 35\n", "")
    assert not (Path(os.environ["EMU_SHM"]) / live.name).exists()


def test_swap_that_is_too_large(tmp_path: Path) -> None:
    status, out, err = emu("run", "--mem", "256M", "--swap", "1T", "--out", tmp_path / "r")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "swap: 1099511627776 bytes, a swap device has from 1 MiB to 128 GiB" in err
    assert not (tmp_path / "r").exists()
