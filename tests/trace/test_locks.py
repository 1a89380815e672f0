"""Holds of locks on record: as many as lock_stat counts, and the same times."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emu.cli.recorded import Recorded
from emu.machine import Machine
from emu.trace.folded import lock_waits
from emu.trace.recording import Recording, load_recording
from emu.trace.types.lock import lock_name, lock_rows
from emu.zone.gfp import GFP_KERNEL
from tests.trace.recordings import events_of, handing_over, recording_of


def by_class(recording: Recording, which: str) -> dict[str, tuple[int, int]]:
    """Count and sum of a time, by the names of classes."""
    found: dict[str, tuple[int, int]] = {}
    for hold in recording.holds:
        ns = int(hold["waited"]) if which == "waits" else int(hold["released"] - hold["acquired"])
        if ns >= 0:
            count, total = found.get(lock_name(int(hold["lock_class"])), (0, 0))
            found[lock_name(int(hold["lock_class"]))] = (count + 1, total + ns)
    return found


def test_a_hold_becomes_the_kernels_events() -> None:
    rows = lock_rows(recording_of(events_of(0), handing_over()).holds)
    kinds = [(int(row["ts"]), int(row["kind"]) - 128, int(row["cpu"])) for row in rows]
    acquire, contended, acquired, release = range(4)
    assert kinds == [
        (1001, acquire, 0), (1001, acquired, 0), (1110, acquire, 1), (1110, contended, 1), (1130, acquire, 0),
        (1130, acquired, 0), (1140, release, 0), (2000, release, 0), (2010, acquired, 1), (3000, release, 1),
    ]  # fmt: skip


@pytest.mark.compiled
def test_as_many_and_as_long_as_lock_stat_says(run_emu: Any, tmp_path: Path) -> None:
    machine = ("--cpus", 4, "--mem", "64M", "--workload", "bulk", "-n", 5000, "--lock-stat")
    done = run_emu("run", *machine, "--record", "r.emurec", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    recording = load_recording(tmp_path / "r.emurec")
    assert summary["recorded"]["holds"] == len(recording.holds)
    assert recording.lost_holds == 0
    locks = {what["name"]: what for what in summary["locks"]}
    assert locks["&zone->lock"]["holds"]["measured"] > 100
    for which in ("waits", "holds"):
        ours = by_class(recording, which)
        for name, what in locks.items():
            assert ours.get(name, (0, 0)) == (what[which]["measured"], what[which]["total"]), name
    counts = Counter({type_.name: len(rows) for type_, rows, _ in recording.by_type(["lock"])})
    assert counts["lock_acquire"] == counts["lock_acquired"] == counts["lock_release"] == len(recording.holds)
    assert counts["lock_contended"] == sum(what["waits"]["measured"] for what in locks.values())


@pytest.mark.compiled
def test_without_lock_stat_there_are_no_rings_for_it(tmp_path: Path) -> None:
    for trace, lock_stat in ((True, False), (False, True)):
        with Machine(cpus=1, memory="64M", trace=trace, lock_stat=lock_stat) as machine:
            with Recorded(machine, tmp_path / "r.emurec", "none"):
                machine.alloc_pages(gfp=GFP_KERNEL)
            assert machine.board.cpu(0).party.lock_ring == 0
        assert len(load_recording(tmp_path / "r.emurec").holds) == 0


def test_waits_as_folded_stacks() -> None:
    recording = recording_of(events_of(0), handing_over())
    known = replace(recording, facts=replace(recording.facts, sites={0: "rmqueue_bulk:lock"}))
    assert b"".join(lock_waits(known)) == b"cpu1;rmqueue_bulk;&zone->lock 900\n"
    assert b"".join(lock_waits(recording)) == b"cpu1;site 0x0;&zone->lock 900\n"
