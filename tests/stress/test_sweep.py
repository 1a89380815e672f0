"""Sweeps: what a parameter's values are, the table, the page, and points on a cluster."""

import html.parser
import importlib.util
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from rich.console import Console

from emu.config import ConfigError
from emu.stress import page as page_module
from emu.stress.lock import point
from emu.stress.page import page, write_page
from emu.stress.sweep import Axis, SweepReport, axis_of, grid, label, plain, sweep, table

RunEmu = Callable[..., CompletedProcess[str]]
BASE: dict[str, Any] = {"cpus": 2, "memory": "16M", "operations": 3000, "pin": False, "seed": 9}


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("pcp.batch=1,31,63", "pcp.batch", (1, 31, 63)),
        ("cpus=1..64", "cpus", (1, 2, 4, 8, 16, 32, 64)),
        ("cpus=3..20", "cpus", (4, 8, 16)),
        ("order=0..9/3", "order", (0, 3, 6, 9)),
        ("cpus=1,3,8..32", "cpus", (1, 3, 8, 16, 32)),
        ("mem=256M..1G", "memory", (256 << 20, 512 << 20, 1 << 30)),
        ("memory=1G..2G/512M", "memory", (1 << 30, 3 << 29, 2 << 30)),
        ("spin_limit=-1,0,200", "spin_limit", (-1, 0, 200)),
        ("fill=0.5,1", "fill", (0.5, 1.0)),
        ("mix=bulk,order=0:70,1:30,fault", "mix", ("bulk", "order=0:70,1:30", "fault")),
        ("vm.min_free_kbytes=1024,2048", "vm.min_free_kbytes", (1024, 2048)),
    ],
)
def test_values_of_a_parameter(text: str, name: str, values: tuple[object, ...]) -> None:
    assert axis_of(text) == Axis(name, values)


@pytest.mark.parametrize("text", [
    "cpus", "cpus=", "=1", "nope=1", "cpus=x", "cpus=0..4", "cpus=1,1", "cpus=9..8/1", "cpus=5..7", "cpus=1..8/0",
    "fill=0.1..1", "cpus=1..9999999/1", "memory=1X",
])  # fmt: skip
def test_no_values(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"sweep {text}")):
        axis_of(text)


def test_every_combination_is_a_checked_configuration() -> None:
    configs = grid(BASE, [axis_of("pcp.batch=1,31"), axis_of("vm.min_free_kbytes=1024,2048")])
    assert [(c["pcp_batch"], c["sysctl"]["min_free_kbytes"]) for c in configs] == [
        (1, 1024), (1, 2048), (31, 1024), (31, 2048),
    ]  # fmt: skip
    assert all(c["seed"] == 9 and c["memory"] == 16 << 20 for c in configs)
    assert len(grid(BASE, [])) == 1
    with pytest.raises(ConfigError, match="cpus"):
        grid(BASE, [axis_of("cpus=1,1000")])
    with pytest.raises(ConfigError, match="one or two"):
        grid(BASE, [axis_of("cpus=1"), axis_of("cpus=2")])
    with pytest.raises(ConfigError, match="points"):
        grid(BASE, [axis_of("seed=1..100/1"), axis_of("cpus=1..100/1")])


@pytest.fixture(scope="module")
def report() -> SweepReport:
    """Four points; the machines of two are enough for all."""
    kept: dict[int, dict[str, Any]] = {}

    def points(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for config in configs:
            if config["cpus"] not in kept:
                kept[config["cpus"]] = point(config)
        return [{**kept[config["cpus"]], "config": config} for config in configs]

    told: list[str] = []
    made = sweep(BASE, [axis_of("cpus=1,2"), axis_of("pcp.batch=1,15")], points=points, told=told.append)
    assert len(told) == 4 and told[3].startswith("4 of 4: cpus=2 pcp.batch=15: ")
    return made


@pytest.mark.compiled
@pytest.mark.slow
def test_table_has_a_row_for_every_point(report: SweepReport) -> None:
    out = StringIO()
    Console(file=out, width=160).print(table(report))
    lines = out.getvalue().splitlines()
    assert lines[0].split()[:3] == ["cpus", "pcp.batch", "op/s"] and len(lines) == 5
    assert [line.split()[:2] for line in lines[1:]] == [["1", "1"], ["1", "15"], ["2", "1"], ["2", "15"]]
    assert f"{report.points[0]['ops_per_second']:,.0f}" in lines[1]
    assert label(report.axes, report.points[1]["config"]) == "cpus=1 pcp.batch=15"


class Reader(html.parser.HTMLParser):
    """Collects what refers to elsewhere, what is open, and the text of elements with an id."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: dict[str, str] = {}
        self.now = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.references += [str(given[name]) for name in ("src", "href") if name in given]
        self.now = given.get("id") or ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.now = ""

    def handle_data(self, data: str) -> None:
        if self.now:
            self.ids[self.now] = self.ids.get(self.now, "") + data


@pytest.mark.compiled
@pytest.mark.slow
def test_page_contains_everything_and_needs_nothing(report: SweepReport, tmp_path: Path) -> None:
    write_page(tmp_path / "x.html", report)
    text = (tmp_path / "x.html").read_text()
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [] and reader.references == []
    assert json.loads(reader.ids["sweep"]) == json.loads(json.dumps(plain(report)))
    config = json.loads(reader.ids["config"])
    assert config["seed"] == 9 and config["memory"] == 16 << 20 and config["spin_limit"] == 1000
    assert text.count("Plotly.newPlot(") >= 7 and "/proc/lock_stat: cpus=2 pcp.batch=15" in text
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


@pytest.mark.compiled
@pytest.mark.slow
def test_page_is_written_whole_or_not_at_all(
    report: SweepReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.html").write_text("before")
    monkeypatch.setattr(page_module, "page", lambda _: "\ud800")  # can't be encoded
    with pytest.raises(UnicodeEncodeError):
        write_page(tmp_path / "x.html", report)
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]
    assert (tmp_path / "x.html").read_text() == "before"


@pytest.mark.compiled
@pytest.mark.slow
def test_a_point_without_times_is_drawn_too(report: SweepReport) -> None:
    one = json.loads(json.dumps(report.points[0]))
    for what in one["classes"]:
        for times in (what["waits"], what["holds"]):
            times.update(nr=0, p50=None, p99=None, histogram="")
    assert "Plotly.newPlot(" in page(SweepReport((), report.config, "", 1.0, (one,)))


ARGS = ("stress", "lock", "--cpus", "1", "--mem", "16M", "-n", "2000", "--no-pin", "--sweep", "pcp.batch=1,7")


@pytest.mark.compiled
@pytest.mark.slow
def test_command(run_emu: RunEmu, tmp_path: Path) -> None:
    done = run_emu(*ARGS, "--html", "x.html", "-q")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert re.search(r"^ +7 .*%", done.stdout, re.MULTILINE) and "page: x.html" in done.stdout
    assert "seed=1" in done.stdout and "next: emu stress lock --cpus 1 --pcp-batch" in done.stdout
    assert (tmp_path / "x.html").stat().st_size > 1 << 20


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
def test_points_on_a_cluster(run_emu: RunEmu) -> None:
    done = run_emu(*ARGS, "--executor", "local:1", "--json", env={"PYTHONWARNINGS": None})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["executor"] == "local:1"
    assert [one["config"]["pcp_batch"] for one in report["points"]] == [1, 7]
    assert all(one["ops"] >= 2000 and one["validate"] == [] for one in report["points"])


def test_without_distributed_it_is_one_line(run_emu: RunEmu, tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('not there')\n")  # found before the real one
    done = run_emu(*ARGS, "--executor", "local:1")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1 and "distributed is not installed: pip install" in done.stderr
