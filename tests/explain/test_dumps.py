"""Real reports from public sources, 4.4 to 6.8: what each zone said was worked out by hand."""

import re
from pathlib import Path

import pytest

from emu.explain import DumpError, as_json, as_text, explain, read_dumps
from emu.explain.decide import Explanation

DUMPS = Path(__file__).parent.parent / "data" / "dumps"


def explained(name: str) -> list[Explanation]:
    dumps, problems = read_dumps((DUMPS / f"{name}.txt").read_text().splitlines())
    assert problems == []
    return [explain(dump) for dump in dumps]


# (file, report in it, verdict, {zone: (what it said, usable kB, needed kB)})
BY_HAND = [
    # 46452 - one pageblock of 2048 = 44404, min is 44700; DMA: 8208 against 352 + 1966 * 4 = 8216
    ("v4.4-oom", 0, "watermark", {"DMA32": ("watermark", 44404, 44700), "DMA": ("watermark", 8208, 8216)}),
    # single pages, 4.7 to 5.8: the quick test leaves the reserve out; 104 + 327 * 4 = 1412
    ("v4.10-oom", 0, "passes", {"DMA32": ("passes", 5012, 2264), "DMA": ("passes", 1484, 1412)}),
    # 10908 - 712 CMA; 6192 kB = 1548 pages, half 774, less a quarter 193 = 581 pages; but every block is HighAtomic
    ("v4.14-atomic-highatomic", 0, "lists", {"Normal": ("lists", 10196, 2324)}),
    # 32 pages cost 124 kB; Normal has H blocks of 128 and 512 kB, so at least one pageblock is reserved
    ("v5.4-order5", 0, "order", {
        "Normal": ("order", 70568 - 124 - 2048, 21180), "DMA32": ("order", 248564, 1728 + 4 * 29645),
        "DMA": ("watermark", 15764, 8 + 4 * 32068),
    }),
    # 14098 pages -> 7049 -> 5287; 9420 -> 4710 -> 3533 and 4433 in reserve; 33 -> 17 -> 13 and 7878
    ("v5.4-atomic", 0, "watermark", {
        "Normal": ("watermark", 20672, 5287 * 4), "DMA32": ("watermark", 31476, (3533 + 4433) * 4),
        "DMA": ("watermark", 15908, (13 + 7878) * 4),
    }),
    ("v5.7-dma", 0, "nowhere", {"Normal": ("zone", 0, 0), "DMA32": ("zone", 0, 0), "DMA": ("empty", 0, 0)}),
    # Normal is above min (3636) but not above high (5452); DMA is above both: 100 + 824 * 4 = 3396 < 3588
    ("v5.7-i386-oom", 0, "passes", {
        "HighMem": ("zone", 0, 0), "Normal": ("high", 4228, 5452), "DMA": ("passes", 3588, 68 + 4 * 824),
    }),
    ("v5.10-order5", 0, "order", {
        "DMA32": ("order", 71164 - 252 - 2048 - 4160, 49012), "DMA": ("order", 171552 - 252, 16520 + 4 * 2807),
    }),
    ("v5.10-order5", 1, "order", {
        "DMA32": ("order", 60196 - 124 - 2048 - 776, 49012), "DMA": ("order", 78096 - 124, 16520 + 4 * 2807),
    }),
    # 804 - 12 against 896; 464 - 12 = 452 against 224 + 61 * 4 = 468
    ("v5.10-oom-twice", 0, "watermark", {"DMA32": ("watermark", 792, 896), "DMA": ("watermark", 452, 468)}),
    ("v5.10-oom-twice", 1, "watermark", {"DMA32": ("watermark", 2744, 2944), "DMA": ("watermark", 2508, 2516)}),
    # GFP_HIGHUSER_MOVABLE reads the column of Movable: 128 + 95 * 4 = 508, and "not above" is what it says
    ("v5.10-cpuset-oom", 0, "watermark", {"DMA32": ("watermark", 812, 2844), "DMA": ("watermark", 508, 508)}),
    ("v5.15-order6", 0, "order", {
        "Normal": ("order", 121696 - 252 - 12288, 55416), "DMA32": ("order", 86104 - 252 - 2048, 14148 + 4 * 12963),
        "DMA": ("watermark", 13312 - 252, 64 + 4 * 15794),
    }),
    # 2916 against 2940; 2304 - 124 = 2180 against 80 + 544 * 4 = 2256
    ("v5.19-i386-order5", 0, "watermark", {
        "HighMem": ("zone", 0, 0), "Normal": ("watermark", 2916, 2940), "DMA": ("watermark", 2180, 2256),
    }),
    # 32 bits: DMA, Normal, HighMem, Movable; so GFP_KERNEL reads column 1, which is 0
    ("v6.1-cma-oom", 0, "watermark", {"DMA": ("watermark", 519112 - 513592, 10428)}),
    ("v6.7-order5", 0, "watermark", {
        "Normal": ("watermark", 149776 - 124 - 2048, 147740), "DMA32": ("watermark", 63608 - 124, 9884 + 4 * 13439),
        "DMA": ("watermark", 13308 - 124, 64 + 4 * 15744),
    }),
    ("v6.8-oom-boost", 0, "watermark", {"Normal": ("watermark", 29116 - 4376, 26624)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "which", "verdict", "zones"), BY_HAND, ids=[f"{n}-{i}" for n, i, *_ in BY_HAND])
def test_each_zone_says_what_was_worked_out(
    name: str, which: int, verdict: str, zones: dict[str, tuple[str, int, int]]
) -> None:
    found = explained(name)[which]
    page = found.dump.page_kb
    said = {
        a.zone.name: (a.said, a.test.usable * page if a.test else 0, a.test.needed * page if a.test else 0)
        for a in found.answers
    }
    assert said == zones
    assert found.verdict == verdict
    assert list(said) == list(zones)  # as the zonelist has them: from the highest zone down


def test_every_report_is_here() -> None:
    assert {f"{name}.txt" for name, *_ in BY_HAND} == {path.name for path in DUMPS.iterdir()}
    for path in DUMPS.iterdir():
        head = path.read_text().splitlines()[:3]
        assert any("http" in line or "public" in line for line in head if line.startswith("#")), path.name


@pytest.mark.parametrize(("name", "model"), [
    ("v4.14-atomic-highatomic", False), ("v5.4-order5", True), ("v5.10-order5", True), ("v5.19-i386-order5", True),
    ("v6.1-cma-oom", True), ("v6.7-order5", False),
])  # fmt: skip
def test_the_emulator_is_asked_where_its_check_is_the_kernels(name: str, model: bool) -> None:
    assert all(answer.model == model for found in explained(name) for answer in found.asked)


@pytest.mark.parametrize(("name", "zone", "causes", "boost"), [
    ("v4.4-oom", "DMA32", {"highatomic"}, 0),
    ("v5.4-atomic", "Normal", {"boost"}, 56392 - 4 * 9488 - 12),
    ("v5.4-atomic", "DMA", {"reserve"}, 0),
    ("v6.7-order5", "DMA", {"reserve"}, 0),
    ("v5.19-i386-order5", "Normal", {"order"}, 0),
    ("v5.10-cpuset-oom", "DMA32", {"boost"}, 2048),
    ("v6.1-cma-oom", "DMA", {"cma", "boost"}, 7216),
    ("v6.7-order5", "Normal", {"highatomic", "boost"}, 90112),
    ("v6.7-order5", "DMA32", {"reserve"}, 0),
    ("v6.8-oom-boost", "Normal", {"cma", "boost"}, 18432),
])  # fmt: skip
def test_what_alone_would_have_turned_it_round(name: str, zone: str, causes: set[str], boost: int) -> None:
    (answer,) = (a for a in explained(name)[0].answers if a.zone.name == zone)
    assert set(answer.causes) == causes
    assert answer.boost_kb == boost


@pytest.mark.parametrize(("name", "words"), [
    ("v4.14-atomic-highatomic", ("all are on lists that it can't be served from", "Linux 5.9")),
    ("v5.4-order5", ("fragmented: Normal and DMA32 have the pages", "order 4 (64 kB) or less", "compaction of DMA32:")),
    ("v5.7-dma", ("the mask stops at DMA", "no __GFP_DMA")),
    ("v5.19-i386-order5", ("2,040,716 kB are free above Normal", "__GFP_HIGHMEM")),
    ("v6.1-cma-oom", ("without CMA, which only movable requests can have", "a smaller CMA area")),
    ("v6.8-oom-boost", ("without the watermark boost (Normal)", "vm.watermark_boost_factor=0")),
    ("v5.4-atomic", ("vm.min_free_kbytes", "7,705,212 kB of page cache")),
    ("v4.4-oom", ("swap: there is none",)),
    ("v4.10-oom", ("granted now, in DMA32 and DMA: pages came free between",)),
    ("v5.7-i386-oom", ("granted now, in DMA: pages came free, or a watermark boost ended, between",)),
])  # fmt: skip
def test_verdict_and_advice(name: str, words: tuple[str, ...]) -> None:
    text = "\n".join(line for line in as_text(explained(name)[0], "f") if line.startswith(("verdict", "would")))
    assert all(word in text for word in words), text


def test_node_outside_the_cpuset_is_named() -> None:
    (found,) = explained("v5.10-cpuset-oom")
    assert found.hidden_nodes == {1}
    assert any("Node 1" in line and "mems_allowed 0 of cpuset a" in line for line in as_text(found, "f"))
    assert "a wider nodemask or cpuset" in as_json(found)["advice"]


def test_json_has_the_same_answers() -> None:
    found = explained("v5.10-order5")[1]
    data = as_json(found)
    assert (data["kernel"], data["order"], data["highest_zone"]) == ("5.10.2", 5, "Normal")
    assert [(z["zone"], z["said"], z["usable_kb"], z["needed_kb"], z["decided_by"]) for z in data["zones"]] == [
        ("DMA32", "order", 57248, 49012, "emulator"), ("DMA", "order", 77972, 27748, "emulator"),
    ]  # fmt: skip
    assert data["cpuset"] == "lxc.payload.openwrt"
    assert data["zones"][1]["sentence"] in "".join(as_text(found, "f"))


def test_reports_are_told_apart_and_what_is_no_refusal_is_named() -> None:
    lines = (DUMPS / "v5.4-order5.txt").read_text().splitlines()
    memcg = [
        "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "memory: usage 102400kB, limit 102400kB, failcnt 12",
    ]
    by_hand = ["bash invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=-1, oom_score_adj=0", "Mem-Info:"]
    silent = ["a: page allocation failure: order:0, mode:0x820(GFP_ATOMIC), nodemask=(null)"]
    dumps, problems = read_dumps(memcg + lines + by_hand + silent)
    assert [dump.comm for dump in dumps] == ["emerge"]
    assert ["memory cgroup" in problems[0], "SysRq" in problems[1], "suppressed" in problems[2]] == [True] * 3
    assert [problem.split(":")[0] for problem in problems] == [
        "line 1", f"line {len(lines) + 3}", f"line {len(lines) + 5}",
    ]  # fmt: skip


@pytest.mark.parametrize(("cut", "words"), [
    (4, "line 3: no Mem-Info follows"), (9, "line 3: no zones follow"), (10, "zone DMA of line 11 has no lowmem"),
    (15, "line 3: zone DMA of line 11 has no free lists"), (17, "zone Normal of line 15 has no free lists"),
])  # fmt: skip
def test_report_that_breaks_off_is_named_with_its_line(cut: int, words: str) -> None:
    lines = (DUMPS / "v5.4-order5.txt").read_text().splitlines()[: cut + 1]
    dumps, problems = read_dumps(lines)
    assert dumps == []
    assert words in problems[0]


@pytest.mark.parametrize(("lines", "words"), [
    ([], "line 1: no 'page allocation failure'"),
    (["nothing", "", "of interest"], "line 3: no 'page allocation failure'"),
    (["[1.0] Mem-Info:", "x"], "line 1: Mem-Info, but no request before it"),
    (["a: page allocation failure: order:x"], "line 1: this report of a refused request is not in the form"),
])  # fmt: skip
def test_foreign_text_is_refused(lines: list[str], words: str) -> None:
    with pytest.raises(DumpError, match="line") as err:
        read_dumps(lines)
    assert words in str(err.value)


def test_free_lists_have_to_add_up() -> None:
    text = (DUMPS / "v5.4-order5.txt").read_text().replace("623*64kB", "622*64kB")
    with pytest.raises(DumpError, match=r"line 18: the free lists of zone DMA32 add up to 249736 kB, not to 249800 kB"):
        read_dumps(text.splitlines())


def test_mask_without_names_and_kernel_can_not_be_read() -> None:
    text = (DUMPS / "v4.4-oom.txt").read_text().replace("Not tainted 4.4.0-104-generic", "")
    dumps, _ = read_dumps(text.replace("pages_scanned", "scanned").splitlines())
    with pytest.raises(DumpError, match="line 3: the mask has no names"):
        explain(dumps[0])


def test_the_manual_shows_what_the_command_prints() -> None:
    manual = (DUMPS.parents[2] / "docs" / "explain.md").read_text()
    shown = re.findall(
        r"^\$ emu explain (tests/data/dumps/([\w.-]+)\.txt)\n(.*?)\n```", manual, re.DOTALL | re.MULTILINE
    )
    assert len(shown) == 3
    for path, name, output in shown:
        assert "\n\n".join("\n".join(as_text(found, path)) for found in explained(name)) == output
