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
from emu.like.files import cpu_nodes
from emu.like.place import Space
from emu.proc import render
from emu.proc.tree import tree
from emu.replay import DEMO
from emu.zone.board import Board
from emu.zone.validate import validate

RunEmu = Callable[..., CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
CASES = [DEMO[1], *sorted((ROOT / "tests/cases").glob("*/*/before.json.gz"))]
SAME = ("free", "min", "low", "high", "spanned", "present", "managed", "protection", "count:", "high:", "batch:",
        "start_pfn:")  # fmt: skip


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def of_case(path: Path, directory: Path) -> Path:
    with gzip.open(path, "rt") as file:
        return write(directory, tree(json.load(file)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_case(CASES[0], tmp_path_factory.mktemp("recorded"))


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
    ours, theirs = sizes(render("zoneinfo", state)), sizes((tmp_path / "proc/zoneinfo").read_text())
    # free pages of a recorded kernel may lag behind its lists by per-cpu differentials
    assert [line for line in ours if "free" not in line] == [line for line in theirs if "free" not in line]
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


def test_this_host() -> None:
    try:
        made = like(Path("/proc"))
    except LikeError as err:
        pytest.skip(str(err))  # more memory or CPUs than can be copied
    with Board.from_state(made.state) as board:
        assert validate(board.m) == []
        text = render("buddyinfo", board.state(light=True))
    assert [line.split()[:4] for line in text.splitlines()] == [
        line.split()[:4] for line in Path("/proc/buddyinfo").read_text().splitlines()
    ]


# --- files ------------------------------------------------------------------------------------------------------------


def test_without_pagetypeinfo_all_is_movable(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "proc", tmp_path, dirs_exist_ok=True)
    (tmp_path / "pagetypeinfo").unlink()
    made = like(tmp_path)
    assert "pagetypeinfo can't be read" in made.notes[-1]
    for zone in made.state["zones"]:
        assert not any(pfns for area in zone["free_area"] for mt, pfns in enumerate(area["lists"]) if mt != 1)
        assert {mt for _, mt, _, _ in zone["pageblocks"]} <= {1, -1}


def test_newer_and_older_lines_are_passed_over(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    plain = like(tmp_path).state
    path = tmp_path / "proc/zoneinfo"
    text = path.read_text().replace("        min      ", "        boost    0\n        min      ")
    text = text.replace("        spanned  ", "        promo    0\n        spanned  ").replace(
        "        managed  ", "        cma      0\n        managed  "
    )
    device = "Node 0, zone   Device\n  pages free     7\n        min      0\n        present  0\n"
    path.write_text(text + device)
    (tmp_path / "proc/buddyinfo").write_text((tmp_path / "proc/buddyinfo").read_text().replace(" Normal", " Normal"))
    assert like(tmp_path).state == plain


def test_the_boost_is_taken_off(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "proc/zoneinfo"
    path.write_text(path.read_text().replace("        min      ", "        boost    5\n        min      "))
    before, after = like(recorded).state["zones"], like(tmp_path).state["zones"]
    for old, new in zip(before, after, strict=True):
        assert new["watermark_boost"] == 5 and [mark + 5 for mark in new["watermark"]] == old["watermark"]


def test_cpus_without_sysfs_are_spread_evenly(tmp_path: Path) -> None:
    assert cpu_nodes(tmp_path / "proc", 5, [0, 1]) == [0, 0, 0, 1, 1]
    write(tmp_path, {"sys/devices/system/node/node1/cpulist": "0,3-4\n", "proc/zoneinfo": ""})
    assert cpu_nodes(tmp_path / "proc", 5, [0, 1]) == [1, 0, 0, 1, 1]


BROKEN = {
    "empty": ("zoneinfo", lambda text: "", "zoneinfo: no zone with memory"),
    "foreign": ("zoneinfo", lambda text: "<html>\n" * 20, "zoneinfo: no zone with memory"),
    "cut": ("zoneinfo", lambda text: text[: text.index("spanned")], "zoneinfo: no zone with memory"),
    "cut later": ("zoneinfo", lambda text: text[: text.index("managed")], "has no managed"),
    "no pagesets": ("zoneinfo", lambda text: text.replace("cpu:", "xpu:"), "has no pagesets"),
    "impossible": ("zoneinfo", lambda text: text.replace("managed  ", "managed  9"), "can't be"),
    "nodes": ("zoneinfo", lambda text: text.replace("Node 0", "Node 77"), "zoneinfo:1: node 77"),
    "buddyinfo": (
        "buddyinfo",
        lambda text: text.replace("\n", " x\n", 1).replace("DMA", "DMA x", 1),
        "buddyinfo:1: not 11",
    ),
    "missing zone": ("buddyinfo", lambda text: text.splitlines()[0], "buddyinfo: no line for node"),
    "too many free": ("buddyinfo", lambda text: text, "don't fit"),
    "binary": ("zoneinfo", None, "zoneinfo: not a text file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_describes_no_machine_is_said_in_one_line(name: str, recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "proc", tmp_path, dirs_exist_ok=True)
    which, change, words = BROKEN[name]
    path = tmp_path / which
    if change is None:
        path.write_bytes(b"\xff\xfe" * 100)
    else:
        path.write_text(change(path.read_text()))
    if name == "too many free":
        (tmp_path / "pagetypeinfo").unlink()
        head, _, rest = path.read_text().partition("\n")
        path.write_text(f"{head.rstrip()[:-1]}9999\n{rest}")
    with pytest.raises(LikeError, match=words) as caught:
        like(tmp_path)
    assert ("\n" not in str(caught.value) and str(tmp_path) in str(caught.value)) or "don't fit" in str(caught.value)


def test_too_large_is_refused_at_once(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded / "proc", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "zoneinfo"
    path.write_text(re.sub(r"(present|spanned)  (?=[1-9])", r"\1  99999", path.read_text()))
    with pytest.raises(LikeError, match="GiB; up to 64 GiB"):
        like(tmp_path)


# --- places -----------------------------------------------------------------------------------------------------------


def test_no_two_buddies_of_one_order() -> None:
    space = Space(set())
    space.add(0, 4096)
    taken = {(order, space.take(order)) for order in (9, 9, 5, 5, 5, 0, 0, 0, 0)}
    assert all(pfn % (1 << order) == 0 and pfn >= 0 for order, pfn in taken)
    assert not any((order, pfn ^ (1 << order)) in taken for order, pfn in taken)
    pages = [page for order, pfn in taken for page in range(pfn, pfn + (1 << order))]
    assert len(pages) == len(set(pages))


def test_the_last_fit_is_found() -> None:
    space = Space(set())
    space.add(256, 4096)
    assert sorted(space.take(order) for order in (10, 10, 10, 9, 8)) == [256, 512, 1024, 2048, 3072]
    assert space.take(0) == -1


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


@pytest.mark.parametrize(
    ("args", "words"),
    [(("--like", "nothing"), "nothing: no zoneinfo there"), (("--like", "/proc", "--cpus", "3"), "without --cpus"),
     (("--like", "/proc", "--mem", "3G", "--swap", "1M"), "without --mem, --swap")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(run_emu: RunEmu, args: tuple[str, ...], words: str) -> None:
    done = run_emu("run", *args)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert words in done.stderr
