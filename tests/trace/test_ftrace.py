"""ftrace's text: what the kernel writes, what emu replay reads, what the kernel's scripts count."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu.trace.event_type import Rows
from emu.trace.ftrace import KERNEL_SYSTEMS, ftrace_text
from emu.trace.recording import Recording, load_recording
from emu.workload.trace import EVENT_KINDS, Trace, read_trace
from emu.zone.event import (
    EV_ALLOC,
    EV_DIRECT_RECLAIM_BEGIN,
    EV_EXTFRAG,
    EV_FREE,
    EV_FREE_BATCHED,
    EV_KSWAPD_WAKE,
    EV_WAKEUP_KSWAPD,
)  # fmt: skip
from tests.trace.recordings import events_of, every_kind, recording_of

SOURCE = os.environ.get("EMU_KERNEL_SOURCE")
needs_scripts = pytest.mark.skipif(
    not (SOURCE and shutil.which("perl")), reason="EMU_KERNEL_SOURCE doesn't say where the scripts are, or no perl"
)


def text_of(recording: Recording, **options: Any) -> str:
    return b"".join(ftrace_text(recording, **options)).decode()


def read(text: str, path: Path) -> Trace:
    path.write_text(text)
    return read_trace(path)


def script(name: str, text: str) -> str:
    """What a script of the kernel's tree prints."""
    path = Path(SOURCE or "") / "Documentation" / "trace" / "postprocess" / name
    return subprocess.run(["perl", path], input=text, check=True, capture_output=True, text=True).stdout


def test_the_header_and_a_line_are_the_kernels() -> None:
    events = events_of(2)
    events["kind"], events["pfn"], events["irq"] = EV_FREE, 4096, [1, 2]
    events["ts"][1] = 12_345_678_901_499
    lines = text_of(recording_of(events)).splitlines()
    assert lines[:4] == ["# tracer: nop", "#", "# entries-in-buffer/entries-written: 2/2   #P:2", "#"]
    assert lines[10:] == [
        "#              | |         |   ||||      |         |",
        "        emu_cpu0-1000    [000] d..1     1.000000: mm_page_free: page=ffffea0000040000 pfn=4096 order=0",
        "        emu_cpu1-1001    [001] ..h. 12345.678901: mm_page_free: page=ffffea0000040000 pfn=4096 order=0",
    ]
    plain = text_of(recording_of(events), irq_info=False).splitlines()
    assert plain[4:7] == [
        "#           TASK-PID     CPU#     TIMESTAMP  FUNCTION",
        "#              | |         |         |         |",
        "        emu_cpu0-1000    [000]     1.000000: mm_page_free: page=ffffea0000040000 pfn=4096 order=0",
    ]


def test_lost_events_are_told_as_the_kernel_does(tmp_path: Path) -> None:
    events = events_of(4)
    events["kind"] = EV_FREE
    recording = recording_of(events)
    recording.lost_before[2] = 17
    text = text_of(recording)
    assert "CPU:0 [LOST 17 EVENTS]\n        emu_cpu0-1000    [000] ....     1.000002: mm_page_free" in text
    trace = read(text, tmp_path / "trace")
    assert trace.skipped == {"comment": 11, "lost events marker": 1}


def page_events(count: int) -> Rows:
    """Events of the page allocator, with numbers as they may be."""
    random = np.random.default_rng(3)
    rows = events_of(count)
    rows["kind"] = 1 + np.arange(count) // 2 % len(EVENT_KINDS)
    rows["pfn"] = random.integers(0, 1 << 24, count)
    rows["pfn"][rows["kind"] == EV_ALLOC] -= (1 << 24) * random.integers(0, 2, count)[rows["kind"] == EV_ALLOC]
    rows["pfn"] = np.maximum(rows["pfn"], -1)  # half of the allocations have failed
    rows["gfp"] = random.choice([0, 0xCC0, 0xDC0, 0x100CCA, 0x1, 0x2000], count)
    rows["order"], rows["migratetype"] = random.integers(0, 11, count), random.integers(0, 4, count)
    rows["a"], rows["b"] = (
        random.integers(0, 11, count) | random.integers(0, 2, count) << 8,
        random.integers(0, 4, count),
    )
    return rows


@pytest.mark.parametrize("irq_info", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, irq_info: bool) -> None:
    ours = page_events(1000)
    trace = read(text_of(recording_of(ours), irq_info=irq_info), tmp_path / "trace")
    assert set(trace.skipped) == {"comment"}
    assert not trace.truncated
    assert trace.tasks == ("emu_cpu0-1000", "emu_cpu1-1001")
    fallback = ours["kind"] == EV_EXTFRAG
    order = np.where(ours["kind"] == EV_FREE_BATCHED, 0, ours["order"])
    typed = ~np.isin(ours["kind"], [EV_FREE, EV_FREE_BATCHED])
    for name, value in (
        ("pfn", ours["pfn"]), ("order", order), ("cpu", ours["cpu"]), ("kind", ours["kind"] - 1),
        ("ts", (ours["ts"] + 500) // 1000 * 1000), ("gfp", np.where(ours["kind"] == EV_ALLOC, ours["gfp"], 0)),
        ("migratetype", np.where(typed, ours["migratetype"].astype(int), -1)),
        ("fallback_order", np.where(fallback, ours["a"] & 255, -1)),
        ("fallback_migratetype", np.where(fallback, ours["b"], -1)),
    ):  # fmt: skip
        assert trace.events[name].tolist() == value.tolist(), name


def test_texts_in_the_order_of_time() -> None:
    times = re.findall(r"\] \S+ +([\d.]+): ", text_of(every_kind(), systems=[*KERNEL_SYSTEMS, "emu"]))
    assert len(times) > 1000
    assert times == sorted(times, key=float)


@pytest.mark.compiled
def test_a_run_can_be_replayed(run_emu: Any, tmp_path: Path) -> None:
    machine = ("--cpus", 2, "--mem", "64M", "--workload", "rand", "-n", 2000)
    assert run_emu("run", *machine, "--record", "r.emurec").returncode == 0
    assert run_emu("trace", "convert", "r.emurec", "--to", "ftrace", "--out", "run.trace").returncode == 0
    done = run_emu("replay", "run.trace", "--json", "--out", "again", "--record", "again.emurec")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    counts = Counter(load_recording(tmp_path / "r.emurec").events["kind"].tolist())
    assert report["allocs"] + report["failed"] == counts[1]
    assert report["frees"] == counts[2]
    assert report["frees_without_page"] == 0
    again = Counter(load_recording(tmp_path / "again.emurec").events["kind"].tolist())
    assert again[1] == counts[1] + report["prelude"]


@pytest.mark.tool
@needs_scripts
@pytest.mark.compiled
def test_the_page_allocators_script_counts_the_same(squeezed: Recording) -> None:
    said = script("trace-pagealloc-postprocess.pl", text_of(squeezed, dialect="pagealloc"))
    rows = {
        line.split()[0]: [int(n) for n in line.split()[1:]]
        for line in said.splitlines()
        if re.search(r"-\d+ +\d", line)
    }
    counted = [sum(column) for column in zip(*rows.values(), strict=True)]
    counts = Counter(type_.name for type_, rows_, _ in squeezed.by_type(["kmem"]) for _ in range(len(rows_)))
    assert counted[:4] == [
        counts["mm_page_alloc"], counts["mm_page_alloc_zone_locked"], counts["mm_page_free"],
        counts["mm_page_free_batched"],
    ]  # fmt: skip
    assert counted[4] == counts["mm_page_pcpu_drain"]
    assert counted[7] == counts["mm_page_alloc_extfrag"]
    assert counts["mm_page_free_batched"] > 100
    assert {"hog-2000", "kswapd0-1002"} <= set(rows)
    assert counted[-1] == 0  # nothing that it doesn't know


@pytest.mark.tool
@needs_scripts
@pytest.mark.compiled
def test_the_vmscan_script_counts_the_same(squeezed: Recording) -> None:
    said = script("trace-vmscan-postprocess.pl", text_of(squeezed, dialect="vmscan"))
    summary = {name.strip(): int(n) for name, n in re.findall(r"^([A-Z][^:\n]*):\s+(\d+)$", said, re.MULTILINE)}
    kinds = Counter(squeezed.events["kind"].tolist())
    assert "Failed to parse" not in said
    assert summary["Direct reclaims"] == kinds[EV_DIRECT_RECLAIM_BEGIN] > 0
    reclaimers = squeezed.events["task"][squeezed.events["kind"] == EV_DIRECT_RECLAIM_BEGIN]  # it counts no others
    wakes = squeezed.events["task"][squeezed.events["kind"] == EV_WAKEUP_KSWAPD]
    assert summary["Wake kswapd requests"] == np.sum(np.isin(wakes, reclaimers))
    assert 0 < summary["Kswapd wakeups"] <= kinds[EV_KSWAPD_WAKE]
    scanned = sum(
        int(np.sum(type_.columns(rows)[3])) for type_, rows, _ in squeezed.by_type(["vmscan"])
        if type_.name == "mm_vmscan_lru_isolate"
    )  # fmt: skip
    assert summary["Direct reclaim pages scanned"] + summary["Kswapd pages scanned"] == scanned
