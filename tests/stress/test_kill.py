"""``emu stress kill`` at a small size; and it does find what it looks for."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import emu.machine
from emu.death import Death
from emu.stress import kill as stress
from emu.stress.kill import KillReport, left_behind, misjudged, percentiles, stress_kill
from emu.stress.sight import KINDS, Sight, process_state
from emu.zone.board import Board
from shm.segment import PREFIX, directory
from tests.conftest import RunEmu

pytestmark = [pytest.mark.compiled, pytest.mark.slow]

SEEN = Sight((("zone->lock", "here"),), 0, True, False, False, False, False, True)
JUDGED = Death("cpu1", 1, 7, "was killed by SIGKILL", locks=(("zone->lock", "here"),), irqs_off=True)


@pytest.fixture(scope="module")
def report() -> KillReport:
    return stress_kill(24, cpus=3, seed=4, workload="bulk", memory="32M")


def test_all_deaths_are_noticed_and_judged_rightly(report: KillReport) -> None:
    assert (report.late, report.wrong, report.unclean, report.left) == ((), (), (), ())
    assert report.ok and report.detection["max"] < stress.LIMIT_MS


def test_a_parent_that_does_not_see_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines whose parent looks all the time, but collects no exit status for 0.2 s."""
    real, since = emu.machine.Machine._reap, dict[int, float]()

    def blind(self: emu.machine.Machine) -> list[Any]:
        for child in self.children:
            if child.status is None and process_state(child.pid) == "Z":
                if time.monotonic() - since.setdefault(child.pid, time.monotonic()) < 0.2:
                    return [c for c in self.children if c.status is None]
        return real(self)

    monkeypatch.setattr(emu.machine.Machine, "_reap", blind)
    monkeypatch.setattr(stress, "LIMIT_MS", 100.0)
    monkeypatch.setattr(stress, "AIMS", (("holds a lock", 1),))
    report = stress_kill(2, cpus=2, seed=1, memory="32M")
    assert not report.ok and len(report.late) == 2 and "noticed after" in report.late[0]


def test_machines_are_stopped_and_cpus_taken_offline(report: KillReport) -> None:
    assert report.stopped + report.offlined == report.kills == sum(report.kinds.values()) == 24
    assert report.stopped > 0 and report.offlined > 0
    assert report.kinds.get("holds a lock", 0) > 0 and sum(report.locks.values()) >= report.kinds["holds a lock"]


def test_mixed_orders_are_accounted_for_as_well() -> None:
    report = stress_kill(8, cpus=2, seed=5, workload="mixed", memory="32M")
    assert report.ok, (report.late, report.wrong, report.unclean, report.left)


def test_a_verdict_that_forgets_what_was_held_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = emu.machine.examine

    def forgetful(*args: object) -> Death:
        return dataclasses.replace(real(*args), locks=(), irqs_off=True)  # type: ignore[arg-type]

    monkeypatch.setattr(emu.machine, "examine", forgetful)
    monkeypatch.setattr(stress, "AIMS", (("holds a lock", 1),))
    report = stress_kill(4, cpus=2, seed=1, memory="32M")
    assert not report.ok and len(report.wrong) >= report.kinds["holds a lock"] > 0
    assert "locks: judged ()" in report.wrong[0]


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ({}, ""),
        ({"locks": ()}, "locks"),
        ({"locks": (("zone->lock", "there"),)}, "locks"),
        ({"irqs_off": False}, "irqs off"),
        ({"in_interrupt": True}, "interrupt"),
        ({"mutexes": ("oom_lock",)}, "mutexes"),
        ({"reclaiming": True}, "reclaim"),
        ({"inside": "there"}, "section"),
    ],
)
def test_a_wrong_verdict_is_told_from_a_right_one(verdict: dict[str, object], says: str) -> None:
    text = misjudged(dataclasses.replace(JUDGED, **verdict), SEEN)  # type: ignore[arg-type]
    assert text.startswith(says) and bool(text) == bool(says)


def test_a_machine_that_is_stopped_without_need_is_a_wrong_verdict() -> None:
    free = dataclasses.replace(SEEN, locks=(), irqs_off=False)
    assert free.kind == "runs" and not free.fatal
    assert "stop: judged True" in misjudged(dataclasses.replace(JUDGED, locks=(), irqs_off=False, command="x"), free)


def test_the_kind_is_the_first_that_is_so() -> None:
    assert SEEN.kind == KINDS[0] and SEEN.fatal
    assert dataclasses.replace(SEEN, locks=(), waits=True).kind == "waits for a lock"
    assert dataclasses.replace(SEEN, locks=(), irqs_off=False, busy=False).kind == "idle"


def test_a_segment_that_stays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "close", lambda _: None)
    monkeypatch.setattr(stress, "AIMS", (("holds a lock", 1),))
    report = stress_kill(1, cpus=2, seed=1, memory="32M")
    assert not report.ok and report.left[0].startswith(f"segment {PREFIX}")
    assert not list(directory().glob(f"{PREFIX}{os.getpid()}-*"))  # and removed


def test_a_process_that_stays_is_told_and_ended() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert left_behind(before) == [f"process {pid}"]
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_temporary_file_that_stays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def littering(self: stress._Rounds, number: int) -> None:
        (Path(tempfile.gettempdir()) / "litter").touch()

    monkeypatch.setattr(stress._Rounds, "kill", littering)
    assert stress_kill(1, cpus=2).left == ("file litter",)


def test_percentiles() -> None:
    assert percentiles([]) == {}
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}


def test_the_command_prints_its_seed_and_what_to_do_next(run_emu: RunEmu) -> None:
    done = run_emu("stress", "kill", "-n", 2, "--cpus", 2, "--seed", 9, "--mem", "32M", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills" in done.stdout and "seed 9" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("next: emu stress kill -n 2 --cpus 2 --seed 10")


def test_the_command_as_json(run_emu: RunEmu) -> None:
    done = run_emu("stress", "kill", "-n", 1, "--cpus", 2, "--mem", "32M", "--json")
    data = json.loads(done.stdout)
    assert data["ok"] and data["kills"] == 1 and data["seed"] == 1
