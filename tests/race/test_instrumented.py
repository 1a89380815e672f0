"""Instrumented mode: partial-order reduction, store buffers, data races. Each question is asked in a process of its
own, since a process has one mode."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.compiled,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("mode", ["instrumented"]),
]


def ask(mode: str, *question: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.race.seen", *question], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"EMU_MODE": mode, "PYTHONHASHSEED": "0"}, timeout=270,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_partial_order_reduction_meets_every_final_state(mode: str) -> None:
    """The same verdicts and final memories as the full search, in a fraction of its schedules."""
    names = ("pages", "blocks", "R3", "R12", "R13", "R16", "R24", "R33")
    for name, variants in zip(names, ask(mode, "final", *names), strict=True):
        for found in variants:
            assert found["dpor"]["states"] == found["exhaustive"]["states"] != [], name
            assert found["dpor"]["schedules"] <= found["exhaustive"]["schedules"], name
    pages = ask(mode, "final", "pages")[0][0]
    assert pages["dpor"]["schedules"] * 100 < pages["exhaustive"]["schedules"]


def test_what_does_not_conflict_needs_one_schedule(mode: str) -> None:
    (found,) = ask(mode, "final", "apart")[0]
    assert found["dpor"]["schedules"] == 1 < found["exhaustive"]["schedules"]
    assert len(found["dpor"]["states"]) == 1


def test_store_buffers_allow_what_x86_allows(mode: str) -> None:
    """As x86-TSO: store buffering is seen, unless a barrier forbids it; messages arrive in order."""
    sb, sb_mb, mp = ask(mode, "litmus", "SB", "SB+mb", "MP")
    assert sb["sc"] == 0 < sb["tso"]
    assert sb_mb == mp == {"sc": 0, "tso": 0}


def test_a_plain_access_without_a_lock_is_a_data_race(mode: str) -> None:
    plain, locked = ask(mode, "races", "plain", "locked")
    assert locked == []
    assert {race["nr_bytes"] for race in plain} == {8} and plain[0]["count"] > 0
    assert {side["access"] for race in plain for side in (race["first"], race["second"])} == {"read", "write"}


def test_what_the_zone_lock_protects_does_not_race(mode: str) -> None:
    """The model's free lists are only touched under zone->lock; pageblock types are read without it (R3), as 5.10
    does; kswapd_order is marked."""
    r3, r8 = ask(mode, "races", "R3", "R8b")
    fields = {race["field"] for race in r3}
    assert not [name for name in fields if ".lru." in name or name.endswith((".lock.word", ".acquisitions"))]
    assert any(name.startswith("pageblock") for name in fields)
    assert not [race for race in r8 if "kswapd_order" in race["field"]]
