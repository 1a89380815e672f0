"""``--report`` of the commands: what is refused before anything starts, and what is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

RunEmu = Callable[..., "CompletedProcess[str]"]
SMALL = ("--cpus", 2, "--memory", "48M", "-q")


def data_of(page: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("command", [("run",), ("stress", "lock"), ("stress", "slowpath")])
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("page.txt", "page.txt: a page's name ends in .html"),
        ("none/page.html", "none/page.html: No such file or directory"),
        ("dir.html", "dir.html: is a directory"),
        ("/proc/page.html", "/proc/page.html: No such file or directory"),
    ],
)
@pytest.mark.compiled
def test_what_cannot_be_written_is_said_before_the_run(
    run_emu: RunEmu, tmp_path: Path, command: tuple[str, ...], path: str, why: str
) -> None:
    (tmp_path / "dir.html").mkdir()
    done = run_emu(*command, "--duration", 60, "--report", path, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"emu: {why}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["dir.html"]


@pytest.mark.compiled
def test_a_sweep_has_no_such_page(run_emu: RunEmu) -> None:
    done = run_emu("stress", "lock", "--sweep", "cpus=1,2", "--report", "page.html")
    assert (done.returncode, done.stderr) == (2, "emu: --report: is of one machine; a sweep's page is --html\n")


@pytest.mark.compiled
@pytest.mark.slow
def test_run(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("an older one")
    options = ("--workload", "hog,filecache", "--swap", "16M", "--fill", 1.2, "--duration", 1, "--lock-stat")
    done = run_emu("run", *SMALL, *options, "--report", "page.html")
    assert done.returncode == 0, done.stderr
    assert "\npage: page.html\n" in done.stdout
    data = data_of(tmp_path / "page.html")
    assert 30 < len(data["t"]) <= 201 and 0.9 < data["t"][-1] < 10
    assert data["spans"]["kswapd0"] and data["wakes"]["kswapd0"] > 0
    assert sum(data["marks"]["direct reclaim"]) == sum(n for k, n in data["events"].items() if "allocstall" in k)
    zone_lock = next(lock for lock in data["locks"] if lock["name"] == "&zone->lock")
    assert sum(n for _, n in zone_lock["holds"]["histogram"]) == zone_lock["acquisitions"] > 0
    command = f"emu run {' '.join(map(str, (*SMALL, *options)))} --report page.html --seed 1"
    assert f'<pre id="command">{command}</pre>' in (tmp_path / "page.html").read_text()
    assert data["looking"] < 0.1
    assert {each.name for each in tmp_path.iterdir()} == {"page.html", "emu-report"}


@pytest.mark.compiled
@pytest.mark.slow
def test_a_machine_that_panics_has_a_page(run_emu: RunEmu, tmp_path: Path) -> None:
    options = ("--cpus", 4, "--mem", "64M", "--workload", "rand", "--fill", 2.5, "--duration", 20, "-q")
    done = run_emu("run", *options, "--report", "page.html")
    assert done.returncode == 1
    assert done.stderr.endswith("page: page.html\nemu: Kernel panic - not syncing: System is deadlocked on memory\n")
    page = tmp_path / "page.html"
    assert "The machine ended before its time: Kernel panic" in page.read_text()
    kinds = {one["kind"]: one for one in data_of(page)["incidents"]}
    assert kinds["oom"]["verdict"].startswith("short of memory")


@pytest.mark.compiled
@pytest.mark.slow
def test_stress(run_emu: RunEmu, tmp_path: Path) -> None:
    done = run_emu("stress", "lock", *SMALL, "-n", 200_000, "--json", "--report", "lock.html")
    assert done.returncode == 0, done.stderr
    report, data = json.loads(done.stdout), data_of(tmp_path / "lock.html")
    assert report["page"] == "lock.html"
    (zone_lock,) = (c for c in report["classes"] if c["name"] == "&zone->lock")
    (shown,) = (lock for lock in data["locks"] if lock["name"] == "&zone->lock")
    assert shown["acquisitions"] == zone_lock["acquisitions"]
    assert shown["contentions"] == zone_lock["contentions"]
    done = run_emu(
        "stress", "slowpath", "--cpus", 2, "--mem", "64M", "--duration", 1, "--json", "--report", "slow.html"
    )
    assert done.returncode == 0, done.stderr
    report, data = json.loads(done.stdout), data_of(tmp_path / "slow.html")
    assert sum(data["marks"]["failed allocation"]) == report["total"]["failures"]["failed"]
    assert data["slowpath"]["slowpaths"] >= report["total"]["slow"] > 0
