"""``emu bench``: nanoseconds per operation beside the real kernel's, boot, replay, compile, memory pressure.

``repeat``, ``bulk`` and ``rand`` are what allocator papers measure: half the memory held and one block allocated and
freed; half the memory allocated and freed in order; the same freed at random. Every figure is of CPU processes, is the
median of several rounds, and says what it was measured with.

``slowpath``, ``reclaim``, ``compaction`` and ``kswapd`` are of machines short of memory, of sizes of their own
(``emu.bench_pressure``), with all daemons running and a disk that takes no time:

slowpath    ns of a pass through the slow path of a full machine with nothing to reclaim: ``nowait_ns`` of
            ``GFP_NOWAIT``, ``noretry_ns`` of ``GFP_KERNEL | __GFP_NORETRY``, which tries direct reclaim once
reclaim     pages that direct reclaim frees in a second: of a clean page cache, and anonymous ones to swap
compaction  pageblocks that ``compact_node()`` makes free in a second where of three pages one is movable anonymous
            memory, and pages migrated in a second
kswapd      all zones at their low end: us from ``wakeup_kswapd()`` until kswapd has the request (``wake_us``) and until
            the high watermark is reached (``balance_us``), with the ``pages`` between
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from emu.bench_pressure import MEASURED
from emu.bench_race import measure_race, race_text
from emu.config import make_config
from emu.programs import load_all
from emu.replay import DEMO, Replay
from emu.run import WorkloadRun
from emu.workload.trace import read_trace
from emu.zone.board import Board
from emu.zone.boot import shape_of
from shm.segment import directory

__all__ = ["KERNEL", "KEYS", "bench", "table"]

ROUNDS = 7
PATTERNS = ("repeat_o0", "bulk_o0", "rand_o0", "repeat_o9", "bulk_o9", "rand_o9")
OTHERS = ("boot", "replay", "cold_compile_s", "warm_start_s")
PRESSURE = tuple(MEASURED)
KEYS = PATTERNS + OTHERS + PRESSURE + ("race",)
# Linux 5.10.262's page_alloc.c in User Mode Linux (real code, no SMP locks or atomics) on a 2-core AMD EPYC virtual
# machine: ns of an allocation and a free, or of the pair
KERNEL: dict[tuple[str, int], tuple[int | None, int | None, int]] = {
    ("repeat_o0", 1): (None, None, 24),
    ("repeat_o0", 8): (None, None, 25),
    ("bulk_o0", 1): (42, 27, 69),
    ("bulk_o0", 8): (41, 26, 67),
    ("rand_o0", 1): (40, 152, 192),
    ("rand_o0", 8): (41, 205, 246),
    ("repeat_o9", 1): (None, None, 754),
    ("repeat_o9", 8): (None, None, 763),
    ("bulk_o9", 1): (492, 529, 1021),
    ("bulk_o9", 8): (1558, 2020, 3578),
}
BOOT_GIB = (1, 64, 1024)

Result = dict[str, Any]


def _pattern(key: str, gib: int, procs: int) -> Result:
    """One of the six patterns on a machine of ``gib`` GiB with ``procs`` CPU processes."""
    name, _, order_text = key.partition("_o")
    order = int(order_text)
    config = make_config({"cpus": procs, "memory": gib << 30, "workload": name}, key)
    allocs, frees, pairs = [], [], []
    with WorkloadRun(config, order=order) as work:
        held = ((gib << 18) // 2 // procs) >> order
        work.post(2 * held)  # once through, so that all memory has been touched
        per_round = 2 * held * max(1, 400_000 // held) if name != "repeat" else (1_000_000 if order == 0 else 20_000)
        for _ in range(ROUNDS):
            before = [(r.alloc_ns, r.free_ns, r.allocs, r.frees, r.rounds) for r in work.runs()]
            work.post(per_round)
            for run, (ns_in_allocs, ns_in_frees, nr_allocs, nr_frees, rounds) in zip(work.runs(), before, strict=True):
                if name == "repeat":
                    pairs.append((run.alloc_ns - ns_in_allocs) / max(run.rounds - rounds, 1))
                else:
                    allocs.append((run.alloc_ns - ns_in_allocs) / max(run.allocs - nr_allocs, 1))
                    frees.append((run.free_ns - ns_in_frees) / max(run.frees - nr_frees, 1))
    alloc_ns, free_ns = (statistics.median(v) if v else None for v in (allocs, frees))
    pair_ns = statistics.median(pairs) if pairs else (alloc_ns or 0) + (free_ns or 0)
    kernel = KERNEL.get((key, gib)) if procs == 1 else None
    return {
        "key": key, "gib": gib, "procs": procs, "alloc_ns": alloc_ns, "free_ns": free_ns, "pair_ns": pair_ns,
        "kernel_pair_ns": kernel[2] if kernel else None,
    }  # fmt: skip


def _boot(gib: int) -> Result:
    """Seconds from nothing to a booted machine, and the memory it then occupies."""
    began = time.perf_counter()
    with Board.boot(shape_of(1, [gib << 18])) as board:
        return {
            "key": "boot", "gib": gib, "seconds": time.perf_counter() - began, "resident_bytes": board.segment.touched()
        }  # fmt: skip


def _replay() -> Result:
    """The bundled trace on one CPU process at will, and on four in the recorded order."""
    trace = read_trace(DEMO[0])
    rates = {}
    for order, cpus in (("cpu", 1), ("trace", 4)):
        best = 0.0
        for _ in range(3):
            job = Replay(trace, order=order, cpus=cpus)
            with job.machine:
                best = max(best, job.run().events_per_second)
        rates[order] = best
    return {"key": "replay", "events_per_second": rates["cpu"], "ordered_events_per_second": rates["trace"]}


_FIRST = """
import time
from emu.machine import Machine
with Machine(cpus=1, memory="256M") as m:
    assert m.alloc_pages() >= 0
    print(time.monotonic())
"""


def _start(cache: str | None) -> float:
    """Seconds from starting Python to the first allocation on a CPU process."""
    env = {**os.environ, "EMU_SHM": str(directory())}
    if cache is not None:
        env["EMU_CACHE"] = cache
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _FIRST], env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return float(done.stdout) - began


def _cold() -> Result:
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as cache:
        return {"key": "cold_compile_s", "seconds": _start(cache)}


def _warm() -> Result:
    return {"key": "warm_start_s", "seconds": min(_start(None) for _ in range(5))}


def bench(
    keys: Iterable[str] | None = None, *, gib: Iterable[int] = (1, 8), procs: Iterable[int] = (1, 2),
    told: Callable[[str], None] = lambda _: None,
) -> list[Result]:  # fmt: skip
    """Measure; ``told`` hears what is being measured. ValueError for an unknown key."""
    wanted = list(keys or KEYS)
    unknown = [k for k in wanted if k not in KEYS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not one of {', '.join(KEYS)}")
    load_all()
    single = {"replay": _replay, "cold_compile_s": _cold, "warm_start_s": _warm, "race": measure_race, **MEASURED}
    results = []
    for key in wanted:
        told(key)
        if key in PATTERNS:
            results += [_pattern(key, g, p) for g in gib for p in procs]
        elif key == "boot":
            results += [_boot(g) for g in BOOT_GIB]
        else:
            results.append(single[key]())
    return results


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _gib(gib: float | None) -> str:
    return "" if gib is None else f"{gib:g}"


def _told(r: Result) -> str:
    """What was measured under pressure."""
    if r["key"] == "slowpath":
        return f"GFP_NOWAIT {_number(r['nowait_ns'])} ns, GFP_KERNEL|__GFP_NORETRY {_number(r['noretry_ns'])} ns a pass"
    if r["key"] == "reclaim":
        return (
            f"page cache {r['file_pages_per_second']:,.0f} pages/s, to swap {r['anon_pages_per_second']:,.0f} pages/s"
        )
    if r["key"] == "compaction":
        return f"{r['pageblocks_per_second']:,.0f} pageblocks/s, {r['migrated_per_second']:,.0f} pages migrated/s"
    return f"awake in {_number(r['wake_us'])} us, {r['pages']:,} pages in {_number(r['balance_us'])} us"


def table(results: list[Result]) -> Table:
    """What people read."""
    out = Table(box=None, header_style="bold")
    for column in ("", "GiB", "processes", "alloc ns", "free ns", "pair ns", "kernel pair ns", "ratio", ""):
        out.add_column(column, justify="right" if column else "left")
    for r in results:
        kernel = r.get("kernel_pair_ns")
        ratio = f"{r['pair_ns'] / kernel:.2f}" if kernel else ""
        other = [f"{r['seconds']:.2f} s"] if "seconds" in r else []
        other += [f"{r['resident_bytes'] / 2**30:.2f} GiB resident"] if "resident_bytes" in r else []
        if "events_per_second" in r:
            other.append(f"{r['events_per_second']:,.0f} events/s, ordered {r['ordered_events_per_second']:,.0f}/s")
        other += [_told(r)] if r["key"] in PRESSURE else []
        other += [race_text(r)] if r["key"] == "race" else []
        numbers = [_number(r.get(name)) for name in ("alloc_ns", "free_ns", "pair_ns")]
        out.add_row(
            r["key"], _gib(r.get("gib")), str(r.get("procs", "")), *numbers, _number(kernel), ratio, ", ".join(other)
        )
    return out
