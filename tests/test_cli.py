"""The command line as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunEmu = Callable[..., CompletedProcess[str]]
CASES = Path(__file__).parent / "cases" / "fast"
TRACE = CASES / "race_2cpu" / "trace.txt.gz"


def one_line(result: CompletedProcess[str], *words: str) -> None:
    """Exit status 2, one line on stderr that says what and where, no traceback."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("emu: "), result.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_replay_prints_what_it_did_and_what_it_left_out(run_emu: RunEmu, tmp_path: Path) -> None:
    result = run_emu("replay", TRACE, "--out", tmp_path / "r", "-q")
    assert result.returncode == 0, result.stderr
    assert "trace order" in result.stdout and "lines not replayed" in result.stdout
    assert "validate: clean" in result.stdout and f"report: {tmp_path / 'r'}" in result.stdout
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["lines"] == summary["events"] + sum(summary["skipped"].values()) + sum(
        summary["not_replayed"].values()
    )
    assert (tmp_path / "r" / "proc" / "buddyinfo").read_text().startswith("Node 0, zone")


@pytest.mark.parametrize("order", ["trace", "cpu"])
def test_replay_from_the_recorded_state(run_emu: RunEmu, tmp_path: Path, order: str) -> None:
    before = CASES / "race_2cpu" / "before.json.gz"
    result = run_emu("replay", TRACE, "--before", before, "--order", order, "--out", tmp_path / "r", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["cpus"] == 2 and report["order"] == order and report["validate"] == []


def test_run_is_reproducible_per_cpu(run_emu: RunEmu, tmp_path: Path) -> None:
    args = (
        "run",
        "--cpus",
        "1",
        "--mem",
        "64M",
        "--workload",
        "mixed",
        "-n",
        "20000",
        "--seed",
        "7",
        "--json",
        "--out",
    )
    a, b = (json.loads(run_emu(*args, tmp_path / name).stdout) for name in "ab")
    assert a["ops"] == b["ops"] >= 20000 and a["by_order"] == b["by_order"]
    assert (tmp_path / "a/proc/buddyinfo").read_text() == (tmp_path / "b/proc/buddyinfo").read_text()


@pytest.mark.parametrize("workload", ["bulk", "repeat", "rand", "frag", "pagefault", "network", "thp", "mixed"])
def test_workloads_run_on_two_cpus(run_emu: RunEmu, tmp_path: Path, workload: str) -> None:
    result = run_emu(
        "run", "--cpus", "2", "--mem", "64M", "--workload", workload, "-n", "5000", "--out", tmp_path / "r", "-q"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "validate: clean" in result.stdout and "seed: 1" in result.stdout and "next: " in result.stdout


def test_machine_toml_with_options_on_top(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text('cpus = 2\nnodes = ["64M", "64M"]\n[sysctl]\nwatermark_boost_factor = 0\n')
    result = run_emu(
        "run", tmp_path / "machine.toml", "--workload", "repeat", "-n", "1000", "--sysctl", "vm.min_free_kbytes=2048",
        "--out", tmp_path / "r", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    zoneinfo = (tmp_path / "r/proc/zoneinfo").read_text()
    assert "Node 1, zone" in zoneinfo


def test_verify_says_match_or_differs(run_emu: RunEmu) -> None:
    result = run_emu("verify", CASES / "highatomic", "-q")
    assert result.returncode == 0 and "1 of 1 cases match" in result.stdout


def test_check_finds_damage_in_a_saved_state(run_emu: RunEmu, tmp_path: Path) -> None:
    import gzip

    with gzip.open(CASES / "highatomic" / "before.json.gz", "rt") as file:
        state = json.load(file)
    state["zones"][1]["vm_stat"][0] += 1
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert run_emu("check", CASES / "highatomic" / "before.json.gz").returncode == 0
    result = run_emu("check", tmp_path / "state.json")
    assert result.returncode == 1 and "nr_free_pages" in result.stdout


def test_proc_of_a_saved_state(run_emu: RunEmu) -> None:
    result = run_emu("proc", "zoneinfo", "--state", CASES / "highatomic" / "before.json.gz")
    assert result.returncode == 0 and result.stdout.startswith("Node 0, zone      DMA\n  per-node stats\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "--cpus", "0"), ("cpus", "greater than or equal to 1")),
        (("run", "--mem", "2M"), ("too little",)),
        (("run", "--mem", "99T"), ("this host has",)),
        (("run", "--workload", "juggle"), ("juggle", "bulk")),
        (("run", "--sysctl", "vm.swapiness=3"), ("swapiness",)),
        (("run", "no-such.toml"), ("no-such.toml", "No such file")),
        (("replay", "no-such-trace"), ("no-such-trace",)),
        (("replay", __file__), ("test_cli.py",)),
        (("verify", "no-such-dir"), ("no-such-dir",)),
        (("proc", "slabinfo"), ("slabinfo", "buddyinfo")),
        (("proc", "buddyinfo", "--state", __file__), ("not a state",)),
        (("proc", "buddyinfo", "--machine", "emu-1-nothing"), ("emu-1-nothing",)),
        (("check", __file__), ("not a state",)),
    ],
)
def test_bad_input_is_one_line(run_emu: RunEmu, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    one_line(run_emu(*args), *words)


def test_truncated_trace_is_refused(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(TRACE.read_bytes()[:20000])
    one_line(run_emu("replay", tmp_path / "t.gz"), "t.gz")


def test_state_of_another_version_is_refused(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"kernel": "6.1.0"}')
    one_line(run_emu("replay", TRACE, "--before", tmp_path / "s.json"), "6.1.0")


PROCESSES = 2 + 5  # CPUs; kswapd, kcompactd, disk, flusher, oom_reaper


def _start_run(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "emu", "run", "--cpus", "2", "--mem", "64M", "--duration", "60",
            "--out", str(tmp_path / "r"), *more,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def _running(run_emu: RunEmu, pid: int) -> dict[str, object]:
    """Wait until ``emu ps`` lists the machine of a process with all its children."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for machine in json.loads(run_emu("ps", "--json").stdout)["machines"]:
            if machine["pid"] == pid and machine["processes"] == PROCESSES:
                return dict(machine)
    raise AssertionError("the machine did not come up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_cleanly(run_emu: RunEmu, tmp_path: Path, number: int) -> None:
    process = _start_run(tmp_path)
    machine = _running(run_emu, process.pid)
    text = run_emu("proc", "buddyinfo", "--machine", str(machine["segment"]))
    assert text.returncode == 0 and text.stdout.startswith("Node 0, zone")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 143) and "Traceback" not in err
    assert all(m["pid"] != process.pid for m in json.loads(run_emu("ps", "--json").stdout)["machines"])


def test_gc_removes_what_a_dead_owner_left(run_emu: RunEmu, tmp_path: Path) -> None:
    from shm.segment import Segment

    pid = os.fork()
    if pid == 0:
        left = Segment.create(1 << 16)
        os._exit(0 if left else 1)
    os.waitpid(pid, 0)
    listed = run_emu("ps").stdout
    one_line(run_emu("proc", "buddyinfo", "--machine", listed.split()[0]), "is gone", "emu gc")
    assert f"pid {pid}  DEAD" in listed and "next: emu gc" in listed
    assert f"removed emu-{pid}-" in run_emu("gc").stdout
