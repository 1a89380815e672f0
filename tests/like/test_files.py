"""Files of other kernels, and files that describe no machine."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.like import LikeError, like
from emu.like.files import cpu_nodes
from tests.like.directory import change, write


@pytest.fixture
def copy(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path, dirs_exist_ok=True))


def test_without_pagetypeinfo_all_is_movable(copy: Path) -> None:
    (copy / "proc/pagetypeinfo").unlink()
    made = like(copy)
    assert "pagetypeinfo can't be read" in made.notes[-1]
    for zone in made.state["zones"]:
        assert not any(pfns for area in zone["free_area"] for mt, pfns in enumerate(area["lists"]) if mt != 1)
        assert {mt for _, mt, _, _ in zone["pageblocks"]} <= {1, -1}


def test_newer_and_older_lines_are_passed_over(copy: Path) -> None:
    plain, path = like(copy).state, copy / "proc/zoneinfo"
    change(path, "        min      ", "        boost    0\n        min      ")
    change(path, "        spanned  ", "        promo    0\n        spanned  ")
    change(path, "        managed  ", "        cma      0\n        managed  ")
    change(path, "  vm stats threshold", "              high_min: 7\n              high_max: 9\n  vm stats threshold")
    device = "Node 0, zone   Device\n  pages free     7\n        min      0\n        present  0\n"
    path.write_text(path.read_text() + device)
    assert like(copy).state == plain


def test_the_boost_is_taken_off(copy: Path) -> None:
    before = like(copy).state
    change(copy / "proc/zoneinfo", "        min      ", "        boost    5\n        min      ")
    shutil.rmtree(copy / "proc/sys")
    after = like(copy).state
    for old, new in zip(before["zones"], after["zones"], strict=True):
        assert new["watermark_boost"] == 5 and [mark + 5 for mark in new["watermark"]] == old["watermark"]
    assert after["sysctl"]["min_free_kbytes"] == 4 * sum(zone["watermark"][0] for zone in after["zones"])


def test_cpus_without_sysfs_are_spread_evenly(tmp_path: Path) -> None:
    assert cpu_nodes(tmp_path / "proc", 5, [0, 1]) == [0, 0, 0, 1, 1]
    write(tmp_path, {"sys/devices/system/node/node1/cpulist": "0,3-4\n", "proc/zoneinfo": ""})
    assert cpu_nodes(tmp_path / "proc", 5, [0, 1]) == [1, 0, 0, 1, 1]


def test_a_count_that_is_cut_off_comes_from_buddyinfo(copy: Path) -> None:
    """5.10 stops counting a list at 100000 and prints ``>``."""
    whole, path = like(copy).state, copy / "proc/pagetypeinfo"
    row = max(re.findall(r"^Node    1, zone    DMA32, type .*$", path.read_text(), re.MULTILINE), key=most_of)
    count = most_of(row)
    assert count > 1
    change(path, row, row.replace(f" {count} ", " >1 ", 1))
    assert like(copy).state == whole


def most_of(row: str) -> int:
    return max(map(int, row.split()[6:]))


@pytest.mark.parametrize("missing", ["Number of blocks type", "Node    0, zone      DMA, type    Unmovable"])
def test_a_cut_pagetypeinfo_is_no_missing_one(missing: str, copy: Path) -> None:
    path = copy / "proc/pagetypeinfo"
    path.write_text(path.read_text().partition(missing)[0])
    with pytest.raises(LikeError, match=r"pagetypeinfo: no (pageblocks|free blocks) of node 0 DMA: cut short\?"):
        like(copy)


def test_more_pcp_pages_than_5_10_has(copy: Path) -> None:
    change(copy / "proc/zoneinfo", "              high:  42", "              high:  1")
    for zone in like(copy).state["zones"]:
        assert all(pcp["count"] < pcp["high"] + pcp["batch"] or pcp["count"] == 0 for pcp in zone["pcp"])


def between(text: str, first: str, last: str) -> str:
    """Without what is from the one to before the other."""
    start = text.index(first)
    return text[:start] + text[text.index(last, start) :]


BROKEN: dict[str, tuple[str, Callable[[str], str], str]] = {
    "empty": ("proc/zoneinfo", lambda text: "", "zoneinfo: no zone with memory"),
    "foreign": ("proc/zoneinfo", lambda text: "<html>\n" * 20, "zoneinfo: no zone with memory"),
    "cut": ("proc/zoneinfo", lambda text: text[: text.index("spanned")], "zoneinfo: no zone with memory"),
    "cut later": ("proc/zoneinfo", lambda text: text[: text.index("managed")], "zoneinfo:1: node 0 DMA has no managed"),
    "cut at its end": ("proc/zoneinfo", lambda text: text[: text.rindex("start_pfn:")], "has no start_pfn: cut short"),
    "no pagesets": ("proc/zoneinfo", lambda text: text.replace("cpu:", "xpu:"), "has no pagesets"),
    "half a pageset": ("proc/zoneinfo", lambda text: text.replace("batch:", "bitch:"), "a pageset without count"),
    "many CPUs": ("proc/zoneinfo", lambda text: text.replace("cpu: 1", "cpu: 999"), "cpu 999, and 256 CPUs"),
    "managed": ("proc/zoneinfo", lambda text: text.replace("managed  ", "managed  9"), "can't have managed 9"),
    "watermarks": ("proc/zoneinfo", lambda text: text.replace("low      ", "low      9"), "can't have watermarks"),
    "huge": ("proc/zoneinfo", lambda text: text.replace("min      ", "min      9" + "0" * 30), "not a count: '90000"),
    "protection": ("proc/zoneinfo", lambda text: text.replace("protection: (", "protection: (,"), "not a count: ''"),
    "nodes": ("proc/zoneinfo", lambda text: text.replace("Node 0", "Node 77"), "zoneinfo:1: node 77"),
    "a node's gap": ("proc/zoneinfo", lambda text: text.replace("Node 1", "Node 3"), r"nodes \[0, 3\]"),
    "overlap": (
        "proc/zoneinfo",
        lambda text: text.replace("start_pfn:           4096", "start_pfn:           4000"),
        "begins at pfn 4000, inside node 0 DMA",
    ),
    "far away": (
        "proc/zoneinfo",
        lambda text: text.replace("start_pfn:           ", "start_pfn:           9999999"),
        "up to 256 GiB can be copied",
    ),
    "buddyinfo": ("proc/buddyinfo", lambda text: text.replace("DMA ", "DMA x "), "buddyinfo:1: not a count: 'x'"),
    "a digit that is none": ("proc/buddyinfo", lambda text: text.replace("DMA ", "DMA \u00b2 "), "not a count"),
    "short line": (
        "proc/buddyinfo",
        lambda text: text[: text.index("\n") - 30],
        r"buddyinfo:1: \d numbers instead of 11: cut short",
    ),
    "missing zone": ("proc/buddyinfo", lambda text: text.splitlines()[0], "buddyinfo: no line for node"),
    "sysctl": ("proc/sys/vm/swappiness", lambda text: "", "swappiness:1: 0 numbers instead of 1"),
    "sysctl's range": ("proc/sys/vm/swappiness", lambda text: "999", "swappiness:1: vm.swappiness can't be 999"),
    "cpulist": ("sys/devices/system/node/node0/cpulist", lambda text: "all", "cpulist:1: not a list of CPUs: 'all'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_describes_no_machine_is_said_in_one_line(name: str, copy: Path) -> None:
    which, make, words = BROKEN[name]
    path = copy / which
    path.write_text(make(path.read_text()))
    with pytest.raises(LikeError, match=words) as caught:
        like(copy)
    assert str(caught.value).startswith(f"{path}:") and "\n" not in str(caught.value)


def test_bytes_are_no_text(copy: Path) -> None:
    (copy / "proc/zoneinfo").write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(LikeError, match="zoneinfo: not a text file"):
        like(copy)


def test_more_is_free_than_there_is(copy: Path) -> None:
    (copy / "proc/pagetypeinfo").unlink()
    path = copy / "proc/buddyinfo"
    head, _, rest = path.read_text().partition("\n")
    path.write_text(f"{head.rstrip()[:-1]}9999\n{rest}")
    with pytest.raises(LikeError, match="zoneinfo:1: node 0 DMA: the free blocks don't fit into"):
        like(copy)


def test_too_large_is_refused_at_once(copy: Path) -> None:
    path = copy / "proc/zoneinfo"
    path.write_text(re.sub(r"(present|spanned)  (?=[1-9]\d{4})", r"\1  999", path.read_text()))
    with pytest.raises(LikeError, match="GiB; up to (128|256) GiB can be copied"):
        like(copy)
