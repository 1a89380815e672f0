"""``emu bench`` as a library: what is measured, and how it is told."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emu import bench as b
from emu import bench_pressure as p

PATTERN_FIELDS = {"key", "gib", "procs", "alloc_ns", "free_ns", "pair_ns", "kernel_pair_ns"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "ROUNDS", 1)


def text_of(results: list[dict[str, Any]]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(b.table(results))
    return captured.get()


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("procs", [1, 2])
def test_a_pair_is_timed_where_alloc_and_free_cannot_be(procs: int) -> None:
    (result,) = b.bench(["repeat_o9"], gib=(1,), procs=(procs,))
    assert set(result) == PATTERN_FIELDS
    assert (result["alloc_ns"], result["free_ns"]) == (None, None)
    assert 10 < result["pair_ns"] < 1_000_000
    assert result["kernel_pair_ns"] == (754 if procs == 1 else None)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("key", ["bulk_o9", "rand_o9"])
def test_phases_are_timed_apart(key: str) -> None:
    (result,) = b.bench([key], gib=(1,), procs=(1,))
    assert result["alloc_ns"] > 10
    assert result["free_ns"] > 10
    assert result["pair_ns"] == result["alloc_ns"] + result["free_ns"]


def test_every_key_once_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(b, "load_all", lambda: None)
    monkeypatch.setattr(b, "_pattern", lambda key, gib, procs: {"key": key, "gib": gib, "procs": procs})
    monkeypatch.setattr(b, "_boot", lambda gib: {"key": "boot", "gib": gib})
    monkeypatch.setattr(b, "MEASURED", {name: lambda name=name: {"key": name} for name in b.MEASURED})
    for name in ("_replay", "_cold", "_warm", "measure_race"):
        monkeypatch.setattr(b, name, lambda name=name: {"key": name})
    results = b.bench(gib=(1, 8), procs=(1, 2), told=told.append)
    assert told == list(b.KEYS)
    assert [r["key"] for r in results[:4]] == ["repeat_o0"] * 4
    assert [(r["gib"], r["procs"]) for r in results[:4]] == [(1, 1), (1, 2), (8, 1), (8, 2)]
    assert [r["gib"] for r in results if r["key"] == "boot"] == [1, 64, 1024]
    assert len(results) == 6 * 4 + 3 + 3 + 5
    assert [r["key"] for r in results[-5:]] == ["slowpath", "reclaim", "compaction", "kswapd", "measure_race"]


def test_an_unknown_key_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"^bulk_o1, nonsense: not one of repeat_o0, bulk_o0"):
        b.bench(["bulk_o0", "bulk_o1", "nonsense"])


def test_booting_touches_little() -> None:
    result = b._boot(1)
    assert result["key"] == "boot"
    assert 0 < result["seconds"] < 60
    assert 100_000 < result["resident_bytes"] < 8 << 20


def test_a_cold_start_has_an_empty_cache_and_a_warm_one_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[str | None] = []

    def start(cache: str | None) -> float:
        assert cache is None or list(Path(cache).iterdir()) == []
        caches.append(cache)
        return 3.0 - len(caches) / 10

    monkeypatch.setattr(b, "_start", start)
    assert b._cold() == {"key": "cold_compile_s", "seconds": 2.9}
    assert b._warm() == {"key": "warm_start_s", "seconds": 2.4}
    assert caches[0] is not None
    assert caches[1:] == [None] * 5
    assert not Path(caches[0]).exists()


def test_the_kernels_figures_add_up() -> None:
    for (key, gib), (alloc, free, pair) in b.KERNEL.items():
        assert key in b.PATTERNS
        assert gib in (1, 8)
        assert alloc is None or alloc + (free or 0) == pair


def test_the_table_says_what_was_measured() -> None:
    text = text_of(
        [
            {"key": "bulk_o0", "gib": 1, "procs": 1, "alloc_ns": 38.04, "free_ns": 35.6, "pair_ns": 73.64,
             "kernel_pair_ns": 69},
            {"key": "repeat_o9", "gib": 1, "procs": 2, "alloc_ns": None, "free_ns": None, "pair_ns": 1234.5,
             "kernel_pair_ns": None},
            {"key": "boot", "gib": 1024, "seconds": 1.5, "resident_bytes": 5 << 28},
            {"key": "replay", "events_per_second": 2_500_000.0, "ordered_events_per_second": 800_000.0},
            {"key": "warm_start_s", "seconds": 0.61},
            {"key": "slowpath", "gib": 0.25, "nowait_ns": 312.4, "noretry_ns": 4567.8},
            {"key": "reclaim", "gib": 0.5, "file_pages_per_second": 1_234_567.8, "anon_pages_per_second": 98_765.4},
            {"key": "compaction", "gib": 0.5, "pageblocks_per_second": 4321.0, "migrated_per_second": 1_000_000.4},
            {"key": "kswapd", "gib": 1.0, "wake_us": 55.26, "balance_us": 1234.0, "pages": 2048},
        ]
    )  # fmt: skip
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["bulk_o0", "1", "1", "38.0", "35.6", "73.6", "69.0", "1.07"]
    assert lines[2] == ["repeat_o9", "1", "2", "1,234"]
    assert lines[3] == ["boot", "1024", "1.50", "s,", "1.25", "GiB", "resident"]
    assert lines[4] == ["replay", "2,500,000", "events/s,", "ordered", "800,000/s"]
    assert lines[5] == ["warm_start_s", "0.61", "s"]
    told = [line.strip().split(maxsplit=2) for line in text.splitlines()[6:]]
    assert told == [
        ["slowpath", "0.25", "GFP_NOWAIT 312 ns, GFP_KERNEL|__GFP_NORETRY 4,568 ns a pass"],
        ["reclaim", "0.5", "page cache 1,234,568 pages/s, to swap 98,765 pages/s"],
        ["compaction", "0.5", "4,321 pageblocks/s, 1,000,000 pages migrated/s"],
        ["kswapd", "1", "awake in 55.3 us, 2,048 pages in 1,234 us"],
    ]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of 32 MiB, one round each."""
    monkeypatch.setattr(p, "MIB", dict.fromkeys(p.MIB, 32))
    for name, value in (("ROUNDS", 1), ("KSWAPD_PASSES", 2), ("SLOW_ALLOCS", 20)):
        monkeypatch.setattr(p, name, value)


PRESSURE_FIELDS = {
    "slowpath": {"nowait_ns": (10, 1e8), "noretry_ns": (10, 1e8)},
    "reclaim": {"file_pages_per_second": (100, 1e8), "anon_pages_per_second": (100, 1e8)},
    "compaction": {"pageblocks_per_second": (1, 1e6), "migrated_per_second": (100, 1e8)},
    "kswapd": {"wake_us": (1, 1e7), "balance_us": (5, 1e7), "pages": (20, 4096)},
}


@pytest.mark.compiled
@pytest.mark.slow
def test_schedules_are_counted_and_hand_overs_are_timed() -> None:
    (result,) = b.bench(["race"])
    assert result["key"] == "race" and result["procs"] == 3 and 10 <= result["points"] <= 16
    assert result["schedules_per_second"] > 1000 and result["handoffs_per_second"] > 5000
    assert 0 < result["handoff_share"] <= 1 and result["handoff_ns"] > 100
    assert 0 < result["reset_ns"] < result["schedule_ns"] and 0 < result["judge_ns"] < result["schedule_ns"]


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("key", PRESSURE_FIELDS)
def test_memory_pressure(key: str, tiny: None) -> None:
    (result,) = b.bench([key])
    assert (result.pop("key"), result.pop("gib")) == (key, 32 / 1024)
    assert set(result) == set(PRESSURE_FIELDS[key])
    for name, (low, high) in PRESSURE_FIELDS[key].items():
        assert low <= result[name] <= high, name
    if key == "slowpath":
        assert result["nowait_ns"] < result["noretry_ns"]  # which tries direct reclaim
    if key == "kswapd":
        assert result["wake_us"] <= result["balance_us"]
