"""The types of events are the kernel's: by what a recorded kernel printed, and by its headers."""

import gzip
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emu.trace.event_type import EventType, Rows
from emu.trace.events import EVENTS, format_text
from emu.trace.types.lock import LOCK
from emu.workload.trace import EVENT_KINDS, read_trace
from emu.zone.event import EV_EXTFRAG, EV_MARK_VICTIM, KINDS, Event
from shm.struct import dtype_of
from tests.trace.recordings import FACTS

CASES = Path(__file__).parent.parent / "cases"
TRACES = sorted(CASES.rglob("trace.txt.gz"))
SOURCE = os.environ.get("EMU_KERNEL_SOURCE")
BY_NAME = {type_.name: type_ for type_ in EVENTS.values()}
KERNEL = [type_ for type_ in EVENTS.values() if type_.system != "emu"]
CONVERSIONS = {"d": r"-?\d+", "u": r"\d+", "x": r"[0-9a-f]+", "s": r"\S+", "p": r"[0-9a-f]{16}", "pS": r"\S+"}


def row(**values: int) -> Rows:
    found = np.zeros(1, dtype_of(Event))
    for name, value in values.items():
        found[name] = value
    return found


def shape(type_: EventType) -> re.Pattern[str]:
    """What a text of this type may look like."""
    form = type_.print_fmt[1 : type_.print_fmt.index('"', 1)]
    parts = re.split(r"%(-?\d*)(?:h|ll?)?(pS|[duxsp])", form)
    text = re.escape(parts[0])
    for width, letter, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += CONVERSIONS[letter] + (" *" if width else "") + re.escape(rest)
    return re.compile(text)


def test_each_kind_has_one_type() -> None:
    assert set(EVENTS) - set(LOCK) == set(range(1, len(KINDS)))
    assert max(Counter(type_.id for type_ in EVENTS.values()).values()) == 1
    assert max(Counter(type_.name for type_ in EVENTS.values()).values()) == 1
    for kind, type_ in EVENTS.items():
        if kind not in LOCK and type_.system != "emu":
            assert type_.name == {"reclaim_retry": "reclaim_retry_zone"}.get(KINDS[kind], KINDS[kind])


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.parent.name)
def test_a_real_kernel_prints_such_texts(path: Path) -> None:
    shapes = {name: shape(type_) for name, type_ in BY_NAME.items()}
    seen: Counter[str] = Counter()
    with gzip.open(path, "rt") as file:
        for line in file:
            found = re.match(r".{16}-\d+ +\[\d+\] \S+ +\d+: (\w+): (.*)\n", line)
            if found and found[1] in shapes:
                assert shapes[found[1]].fullmatch(found[2]), line
                seen[found[1]] += 1
    assert sum(seen.values()) > 100


def test_texts_of_the_page_allocator_are_a_real_kernels_letter_by_letter() -> None:
    path = CASES / "fast" / "steal_small" / "trace.txt.gz"
    trace = read_trace(path)
    with gzip.open(path, "rt") as file:
        lines = [found[1] for line in file if (found := re.search(r"(mm_page_\w+: .*)\n", line))]
    assert len(lines) == len(trace.events) > 1000
    rows = np.zeros(len(lines), dtype_of(Event))
    for name in ("pfn", "gfp", "order"):
        rows[name] = trace.events[name]
    rows["migratetype"] = np.maximum(trace.events["migratetype"], 0)
    rows["kind"] = trace.events["kind"] + 1  # in the same order
    fallbacks = rows["kind"] == EV_EXTFRAG
    rows["a"] = np.where(fallbacks, trace.events["fallback_order"] | trace.events["flag"].astype(int) << 8, 0)
    rows["b"] = np.where(fallbacks, trace.events["fallback_migratetype"], 0)
    assert [KINDS[kind] for kind in range(1, 7)] == list(EVENT_KINDS)
    ours = np.empty(len(rows), object)
    for kind in np.unique(rows["kind"]).tolist():
        these = rows["kind"] == kind
        ours[these] = [f"{EVENTS[kind].name}: {text}" for text in EVENTS[kind].texts(rows[these])]
    assert ours.tolist() == lines


def test_values_are_numbers_as_the_fields_hold_them() -> None:
    failed = row(kind=1, pfn=-1, gfp=0xCC0, order=3)[0]
    assert BY_NAME["mm_page_alloc"].values(failed) == (2**64 - 1, 3, 0xCC0, 0)
    assert BY_NAME["mm_page_alloc"].text(failed) == (
        "page=0000000000000000 pfn=0 order=3 migratetype=0 gfp_flags=GFP_KERNEL"
    )
    victim = row(kind=EV_MARK_VICTIM, gfp=1 | (1000 - 17) << 16, pfn=25 | 2 << 32, a=10 | 3 << 32)[0]
    assert BY_NAME["mark_victim"].text(victim, FACTS) == (
        "pid=1001 comm=emu_cpu1 total-vm=100kB anon-rss=40kB file-rss:12kB shmem-rss:0kB uid=0 pgtables=8kB "
        "oom_score_adj=-17"
    )


def test_the_story_of_the_slow_path() -> None:
    retry = BY_NAME["reclaim_retry_zone"].text(row(order=2, a=70 | 90 << 32, b=5 | 3 << 8 | 1 << 16 | 40 << 20)[0])
    assert retry == (
        "node=1 zone=DMA32    order=2 reclaimable=70 available=90 min_wmark=40 no_progress_loops=3 wmark_check=1"
    )
    compact = BY_NAME["compact_retry"].text(row(order=4, a=1 | 5 << 8, b=2 | 16 << 32)[0])
    assert compact == (
        "order=4 priority=COMPACT_PRIO_SYNC_LIGHT compaction_result=failed retries=2 max_retries=16 should_retry=0"
    )


def test_the_format_file_has_each_field_where_c_puts_it() -> None:
    lines = format_text(BY_NAME["mm_page_alloc"]).split("\n")
    assert lines[:2] == ["name: mm_page_alloc", "ID: 257"]
    assert lines[6] == "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;"
    assert lines[8:12] == [
        "\tfield:unsigned long pfn;\toffset:8;\tsize:8;\tsigned:0;",
        "\tfield:unsigned int order;\toffset:16;\tsize:4;\tsigned:0;",
        "\tfield:gfp_t gfp_flags;\toffset:20;\tsize:4;\tsigned:0;",
        "\tfield:int migratetype;\toffset:24;\tsize:4;\tsigned:1;",
    ]
    assert "\tfield:char comm[16];\toffset:12;\tsize:16;" in format_text(BY_NAME["oom_score_adj_update"])


def declared(source: Path, type_: EventType) -> tuple[list[tuple[str, str]], str]:
    """Fields and format of a type in the kernel's headers, which may have it from a class of events."""
    text = re.sub(r"\\\n", " ", (source / "include" / "trace" / "events" / f"{type_.system}.h").read_text())
    found = re.search(rf"DEFINE_EVENT\(\s*(\w+),\s*{type_.name}\s*,", text)
    name = found[1] if found else type_.name
    begin = re.search(rf"(?:TRACE_EVENT|DECLARE_EVENT_CLASS)\(\s*{name}\s*,", text)
    assert begin, type_.name
    body = text[begin.end() : text.index("TP_fast_assign", begin.end())]
    fields = re.findall(
        r"__(field|array|string)\(\s*([^,()]+?)\s*,\s*(\w+|\w+->\w+)", body[body.index("TP_STRUCT__e") :]
    )
    form = re.search(r'TP_printk\(\s*((?:"[^"]*"\s*)+)', text[begin.end() :])
    assert form
    return [
        (name, "__data_loc char[]") if kind == "string" else (rest, name) for kind, name, rest in fields
    ], "".join(re.findall(r'"([^"]*)"', form[1]))  # fmt: skip


@pytest.mark.tool
@pytest.mark.skipif(not SOURCE, reason="EMU_KERNEL_SOURCE doesn't say where the source of 5.10 is")
@pytest.mark.parametrize("type_", KERNEL, ids=lambda type_: type_.name)
def test_the_kernels_headers_declare_the_same(type_: EventType) -> None:
    fields, form = declared(Path(SOURCE or ""), type_)
    assert [(field.name, re.sub(r"\[\d+\]$", "", field.ctype)) for field in type_.fields] == fields
    assert type_.print_fmt[1 : type_.print_fmt.index('"', 1)] == form
