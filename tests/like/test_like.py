"""A machine made of another's files has the same files."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from emu.like import LikeError, like
from emu.mm.filemap import create_file
from emu.proc import render
from emu.proc.tree import tree
from emu.workload.file_lists import load_file_lists
from emu.workload.user_tasks import TASKS_PER_CPU
from emu.zone.board import Board
from emu.zone.state_in import shape_of_state
from emu.zone.validate import validate
from tests.like.directory import CASES, of_case, write

RunEmu = Callable[..., CompletedProcess[str]]
SAME = ("free", "min", "low", "high", "spanned", "present", "managed", "protection", "count:", "high:", "batch:",
        "start_pfn:")  # fmt: skip


def sizes(zoneinfo: str) -> list[str]:
    """The lines that a machine of the same shape and fill has in common; without memory no other line is compared."""
    lines = [line.split() for line in zoneinfo.splitlines()]
    return [" ".join(words) for words in lines if words[0] in ("Node", *SAME) or words[:2] == ["pages", "free"]]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.parent.name)
def test_recorded_machines(case: Path, tmp_path: Path) -> None:
    made = like(of_case(case, tmp_path))
    with Board.from_state(made.state) as board:
        assert validate(board.m) == []
        state: Any = board.state(light=True)
    for name in ("buddyinfo", "pagetypeinfo"):
        assert render(name, state) == (tmp_path / "proc" / name).read_text(), name
    assert sizes(render("zoneinfo", state)) == sizes((tmp_path / "proc/zoneinfo").read_text())
    assert state["cpu_node"] == made.state["cpu_node"] and len(state["cpu_node"]) > 0


def test_a_machine_of_ours_there_and_back(tmp_path: Path) -> None:
    from emu.zone.boot import shape_of

    with Board.boot(shape_of(3, [40000, 20000], 4096)) as board:
        first = board.state(light=True)
    write(tmp_path, tree(first))
    with Board.from_state(like(tmp_path).state) as board:
        again = board.state(light=True)
    for name in ("buddyinfo", "pagetypeinfo"):
        assert render(name, again) == render(name, first)
    assert sizes(render("zoneinfo", again)) == sizes(render("zoneinfo", first))
    assert again["cpu_node"] == first["cpu_node"] and again["sysctl"] == first["sysctl"]


def test_this_host(tmp_path: Path) -> None:
    for name in ("zoneinfo", "buddyinfo", "pagetypeinfo"):
        try:
            (tmp_path / name).write_text(Path("/proc", name).read_text())
        except OSError:
            assert name == "pagetypeinfo"
    try:
        made = like(tmp_path)
    except LikeError as err:
        pytest.skip(str(err))  # more memory or CPUs than can be copied
    with Board.from_state(made.state) as board:
        assert validate(board.m) == []
        state: Any = board.state(light=True)
    if (tmp_path / "pagetypeinfo").exists():
        assert free_by_type(render("pagetypeinfo", state)) == free_by_type((tmp_path / "pagetypeinfo").read_text())
    else:
        assert render("buddyinfo", state) == (tmp_path / "buddyinfo").read_text()
    ours, theirs = ([zone.split() for zone in text.split("Node ")[1:]] for text in
                    (render("zoneinfo", state), (tmp_path / "zoneinfo").read_text()))  # fmt: skip
    for mine, its in zip(ours, theirs, strict=False):  # newer kernels have further zones
        assert mine[:3] == its[:3]
        names = ("min", "low", "high", "spanned", "present", "managed")
        for name in names if its[its.index("present") + 1] != "0" else ():
            assert mine[mine.index(name) + 1] == its[its.index(name) + 1]


def free_by_type(pagetypeinfo: str) -> dict[tuple[str, ...], list[str]]:
    """Those of the four types that each kernel has; what is isolated counts as movable here."""
    rows = [line.split() for line in pagetypeinfo.partition("Number of blocks")[0].splitlines() if ", type" in line]
    return {tuple(row[:6]): row[6:] for row in rows if row[5] in ("Unmovable", "Reclaimable", "HighAtomic")}


@pytest.fixture
def cached(recorded: Path, tmp_path: Path) -> Path:
    """The recorded machine, if a third of what it uses were page cache."""
    directory = Path(shutil.copytree(recorded, tmp_path / "cached"))
    for name, pages in (("inactive", 9000), ("active", 2000)):
        path = directory / "proc/zoneinfo"
        text = re.sub(rf"nr_zone_{name}_file \d+", f"nr_zone_{name}_file 0", path.read_text())
        zone = text.index("Node 1, zone    DMA32")
        path.write_text(text[:zone] + text[zone:].replace(f"nr_zone_{name}_file 0", f"nr_zone_{name}_file {pages}", 1))
    return directory


def test_page_cache_is_on_the_lists(cached: Path) -> None:
    made = like(cached)
    assert made.file_pages == 11000 and "42 MiB page cache" in str(made)
    with Board.from_state(made.state, entries=[create_file]) as board:
        number = load_file_lists(board.m, made.state)
        assert number == 1 and validate(board.m) == []
        state: Any = board.state(light=True)
    text = render("zoneinfo", state)
    assert "nr_zone_inactive_file 9000\n" in text and "nr_zone_active_file 2000\n" in text
    assert "nr_file_pages 11000\n" in text
    assert render("pagetypeinfo", state) == (cached / "proc/pagetypeinfo").read_text()


@pytest.mark.parametrize("cpus", [4, 20])
def test_room_for_the_processes_of_all_cpus(cpus: int) -> None:
    shape = shape_of_state({"zones": [], "cpu_node": [0] * cpus, "nodes_online": [0]})
    assert shape.mms >= cpus * TASKS_PER_CPU and shape.files > 2 * cpus + 1


# --- command ----------------------------------------------------------------------------------------------------------


@pytest.mark.compiled
@pytest.mark.slow
def test_a_run_begins_there(run_emu: RunEmu, recorded: Path, tmp_path: Path) -> None:
    done = run_emu("run", "--like", recorded, "-n", "20000", "-q", "--json", "--sysctl", "vm.min_free_kbytes=4321")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["validate"] == [] and summary["cpus"] == 4 and summary["like"]["notes"] == []
    with gzip.open(tmp_path / "emu-report/state.json.gz", "rt") as file:
        after = json.load(file)
    before = like(recorded).state
    assert [z["managed"] for z in after["zones"]] == [z["managed"] for z in before["zones"]]
    assert after["sysctl"]["min_free_kbytes"] == 4321
    assert [z["watermark"] for z in after["zones"]] != [z["watermark"] for z in before["zones"]]
    text = run_emu("run", "--like", recorded, "-n", "2000", "-q").stdout
    assert text.startswith(f"like {recorded}: 4 CPUs, 2 nodes, 302 MiB, ")


@pytest.mark.compiled
@pytest.mark.slow
def test_a_run_there_and_back(run_emu: RunEmu, tmp_path: Path) -> None:
    """What a run left behind, by its report and by a dump of its saved state, each with what is on top of it."""
    done = run_emu("run", "--cpus", "2", "--node", "96M", "--node", "64M", "--workload", "mixed", "-n", "20000", "-q")
    assert done.returncode == 0, done.stderr
    done = run_emu("proc", "--dump", "dump", "--state", "emu-report/state.json.gz")
    assert done.returncode == 0, done.stderr
    for directory, more in (("emu-report", ()), ("dump", ("--boot", "page_owner", "--sysctl", "vm.swappiness=1"))):
        proc = tmp_path / directory / "proc"
        with Board.from_state(like(proc).state) as board:
            state: Any = board.state(light=True)
        for name in ("buddyinfo", "pagetypeinfo"):
            assert render(name, state) == (proc / name).read_text()
        assert sizes(render("zoneinfo", state)) == sizes((proc / "zoneinfo").read_text())
        done = run_emu("run", "--like", directory, "-n", "5000", "-q", "--json", "--out", "again", *more)
        assert done.returncode == 0 and json.loads(done.stdout)["validate"] == [], done.stderr


@pytest.mark.compiled
@pytest.mark.slow
def test_reclaim_takes_the_page_cache(run_emu: RunEmu, cached: Path, tmp_path: Path) -> None:
    done = run_emu(
        "run", "--like", cached, "--workload", "filecache", "--fill", "1.5", "-n", "60000", "-q", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["validate"] == [] and summary["failed"] == 0 and summary["killed"] == 0
    assert sum(n for name, n in summary["vmstat"].items() if name.startswith("pgsteal_")) > 10000


@pytest.mark.parametrize(
    ("args", "words"),
    [(("--like", "nothing"), "nothing: no zoneinfo there"), (("--like", "/proc", "--cpus", "3"), "without --cpus"),
     (("--like", "/proc", "--mem", "3G", "--swap", "1M"), "without --mem, --swap")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(run_emu: RunEmu, args: tuple[str, ...], words: str) -> None:
    done = run_emu("run", *args)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert words in done.stderr
