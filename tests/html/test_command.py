"""``--report`` of the commands: what is refused before anything starts, and what is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from emu.stress import page_kill
from emu.stress.kill import KillReport

RunEmu = Callable[..., "CompletedProcess[str]"]
SMALL = ("--cpus", 2, "--memory", "48M", "-q")


def data_of(page: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    "command",
    [("run",), *(("stress", name) for name in ("lock", "slowpath", "irq", "oversubscribe")), ("stress", "kill")],
)
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
    long = ("--kills", 1000) if command[-1] == "kill" else ("--duration", 60)
    done = run_emu(*command, *long, "--report", path, timeout=30)
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
    options = ("--mem", "64M", "--workload", "rand", "--fill", 2.5, "--duration", 20, "-q")
    done = run_emu("run", "--cpus", 4, *options, "--report", "page.html")
    assert done.returncode == 1
    assert done.stderr.endswith("page: page.html\nemu: Kernel panic - not syncing: System is deadlocked on memory\n")
    page = tmp_path / "page.html"
    assert "The machine ended before its time: Kernel panic" in page.read_text()
    assert {"oom", "failure"} <= {one["kind"] for one in data_of(page)["incidents"]}
    # Nobody else frees a page, and kswapd has no boost to take away: Mem-Info shows what the request was refused for.
    alone = ("--cpus", 1, "--sysctl", "vm.watermark_boost_factor=0")
    assert run_emu("run", *alone, *options, "--report", "page.html").returncode == 1
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


@pytest.mark.compiled
@pytest.mark.slow
def test_stress_irq(run_emu: RunEmu, tmp_path: Path) -> None:
    done = run_emu("stress", "irq", *SMALL, "--duration", 0.5, "--report", "page.html")
    assert done.returncode == 0 and "\npage: page.html\n" in done.stdout, done.stderr
    assert 5 < len(data_of(tmp_path / "page.html")["t"]) <= 201
    text = (tmp_path / "page.html").read_text()
    assert "interrupts that came in" in text and "validate: clean" in text
    done = run_emu("stress", "irq", "--unsafe", "no-irqsave", "--report", "page.html")
    assert (done.returncode, done.stderr) == (2, "emu: --report: is of one machine; --unsafe breaks several\n")


@pytest.mark.compiled
@pytest.mark.slow
def test_stress_of_many_machines_has_charts(run_emu: RunEmu, tmp_path: Path) -> None:
    done = run_emu("stress", "oversubscribe", 1, 4, "--memory", "64M", "--duration", 0.2, "-q", "--report", "o.html")
    assert done.returncode == 0 and "page: o.html\n" in done.stdout, done.stderr
    assert [point["cpus"] for point in charts_of(tmp_path / "o.html", "points")["points"]] == [1, 4]
    done = run_emu("stress", "kill", "-n", 4, "--cpus", 2, "--mem", "32M", "-q", "--report", "k.html", "--json")
    told, data = json.loads(done.stdout), charts_of(tmp_path / "k.html", "kills")
    assert told.pop("page") == "k.html" and data == {name: one for name, one in told.items() if name != "next"}


def charts_of(page: Path, name: str) -> dict[str, Any]:
    text = page.read_text()
    assert not re.search(r"(?:src|href)=", re.sub(r"(?<=<script)>.*?</script>", "", text, flags=re.DOTALL))
    (found,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert text.count('class="plotly-graph-div"') >= 2
    made: dict[str, Any] = json.loads(found)
    return made


def test_findings_are_in_the_page() -> None:
    """Of a kill: all that was wrong, and nothing of it can be markup."""
    times = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0}
    report = KillReport(
        1, 2, 1 << 25, "bulk", 3, 1.0, {"runs": 3}, {"zone->lock, rmqueue_bulk:lock": 1}, 1, 2, 0, times, times, times,
        ("kill 2 of cpu0: noticed after 5388 ms",), ("a < b",), (), ("process 7",),
    )  # fmt: skip
    text = page_kill.page(report)
    for words in ("noticed late: 1", "after 5388 ms", "wrong verdicts: 1", "<li>a &lt; b</li>", "left behind: 1"):
        assert words in text
    assert "invariants broken" not in text.partition("<script type")[0].rpartition("</script>")[2]
    assert "All deaths were noticed" not in text
