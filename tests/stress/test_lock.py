"""``emu stress lock``: its numbers fit together, its parameters reach the machine, its mistakes are one line."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from emu.config import ConfigError
from emu.stress.histogram import hdr_of
from emu.stress.lock import LockRun, lock_config, point, stress_lock
from emu.stress.measure import decode
from emu.stress.mix import MIXES, mixes_of, split_mixes
from emu.stress.oversubscribe import jain
from emu.zone.init import zones_of
from emu.zone.mmzone import PAGESET_SIZE, Pageset
from shm.lockstat import NR_BUCKETS, Histogram, bucket_value
from shm.struct import address_of, record_at

RunEmu = Callable[..., CompletedProcess[str]]
SMALL: dict[str, Any] = {"cpus": 2, "memory": "32M", "operations": 20_000, "pin": False}
on_processes = [pytest.mark.compiled, pytest.mark.slow]


def marked(test: Any) -> Any:
    for mark in on_processes:
        test = mark(test)
    return test


# Mixes and numbers


def test_cpus_take_the_mixes_in_turn() -> None:
    mixes = mixes_of(["2*bulk", "order=0:70,1:20,3:10", "fault"], 6)
    assert [mix.workload for mix in mixes] == ["bulk", "bulk", "orders", "pagefault", "bulk", "bulk"]
    assert mixes[2].weights == {0: 70, 1: 20, 3: 10}
    assert mixes_of(["order=4"], 1)[0].weights == {4: 1}
    assert split_mixes("order=0:70,1:20,bulk,order=3,fault") == ["order=0:70,1:20", "bulk", "order=3", "fault"]


@pytest.mark.parametrize("text", ["nope", "order=", "order=11:1", "order=0:0", "order=0:x", "0*bulk", "2*nope"])
def test_impossible_mix(text: str) -> None:
    with pytest.raises(ConfigError, match="mix"):
        lock_config({"mix": text})


def test_jain() -> None:
    assert jain([3, 3, 3]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([]) == jain([0, 0]) == 1.0


def test_histograms_become_hdr_histograms() -> None:
    one, two = Histogram(), Histogram()
    one.counts[0], one.counts[100], two.counts[1000], two.counts[NR_BUCKETS - 1] = 10, 85, 4, 1
    made = hdr_of([one, two])
    again = decode(made.encode().decode())
    for of in (made, again):
        assert of.get_total_count() == 100
        assert of.get_value_at_percentile(5) == 1 and of.get_value_at_percentile(50) == 100
        assert of.get_value_at_percentile(99) == pytest.approx(bucket_value(1000), rel=0.01)
        assert of.get_max_value() == pytest.approx(bucket_value(NR_BUCKETS - 1), rel=0.01)
    assert decode("").get_total_count() == 0


# Parameters


@marked
@pytest.mark.parametrize(
    ("given", "high", "batch"),
    [
        ({"pcp_high": 40, "pcp_batch": 5}, 40, 5),
        ({"pcp_batch": 5}, 30, 5),
        ({"pcp_high": 40}, 40, 10),
        ({"pcp_high": 4000}, 4000, 96),
        ({"pcp_high": 0}, 0, 1),
        ({"sysctl": {"percpu_pagelist_fraction": 16}}, 256, 64),
        ({}, 0, 1),
    ],
)
def test_pcp_sizes_reach_every_pageset(given: dict[str, Any], high: int, batch: int) -> None:
    made = LockRun(lock_config({**SMALL, "memory": "32M", "spin_limit": -1, **given}))
    try:
        zone = zones_of(made.m)[-1]
        sets = [
            record_at(Pageset, address_of(made.m) + zone.pageset + i * PAGESET_SIZE) for i in range(made.m.nr_parties)
        ]
        seen = {(pcp.high, pcp.batch) for pcp in sets}
        limits = {made.machine.board.cpu(i).party.spin_limit for i in range(made.m.nr_parties)}
    finally:
        made.machine.stop()
    assert limits == {-1}
    assert seen == {(high, batch)}


@marked
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_a_batch_is_as_many_operations_as_one_acquisition_serves(batch: int) -> None:
    report = stress_lock(lock_config({**SMALL, "cpus": 1, "pcp_batch": batch}))
    assert report.acquisitions_per_op == pytest.approx(1 / batch, rel=0.1)
    assert report.pcp["Node 0 DMA32"] == {"high": 6 * batch, "batch": batch}
    zone = report.zone_lock()
    assert zone is not None and zone.contentions == 0 and zone.contended == 0.0
    assert report.longest_wait_ns == 0 and report.longest_wait_class == ""


@marked
def test_operations_of_higher_orders_are_not_counted_as_those_of_order_0() -> None:
    report = stress_lock(lock_config({**SMALL, "cpus": 1, "mix": "order=0:50,3:50", "pcp_batch": 8}))
    assert report.by_order[0] > 3000 and report.by_order[3] > 3000 and sum(report.by_order) == report.allocs
    assert report.acquisitions_per_op < 0.3


# Runs


@marked
@pytest.mark.parametrize("mix", MIXES)
def test_mixes_run_and_give_everything_back(mix: str) -> None:
    report = stress_lock(lock_config({**SMALL, "memory": "64M", "mix": mix}))
    assert report.ops >= 2 * SMALL["operations"] and report.seconds > 0
    assert report.validate == []
    assert report.lock_stat.startswith("lock_stat version 0.4\n")


@marked
def test_numbers_fit_together() -> None:
    report = stress_lock(lock_config({**SMALL, "mix": ["bulk", "highorder"], "operations": 50_000}))
    zone = report.zone_lock()
    assert zone is not None and zone.acquisitions > 50_000 and [cpu.mix for cpu in report.cpus] == ["bulk", "highorder"]
    assert report.ops == sum(cpu.ops for cpu in report.cpus) == report.allocs + report.frees
    assert zone.holds.decoded().get_total_count() == zone.holds.nr == zone.acquisitions
    assert zone.waits.decoded().get_total_count() == zone.waits.nr == zone.contentions
    assert sum(p.contentions for p in zone.waited_at) == zone.contentions
    assert zone.holds.shortest <= zone.holds.p50 <= zone.holds.p99 <= zone.holds.p999 <= zone.holds.longest  # type: ignore[operator]
    waited = sum((cpu.spinning + cpu.parked) * cpu.seconds for cpu in report.cpus) * 1e9
    assert waited == pytest.approx(sum(c.waits.total for c in report.classes), rel=0.05, abs=1e5)
    for cpu in report.cpus:
        assert 0 <= cpu.spinning + cpu.parked + cpu.holding <= 1.01 and 0 < cpu.running < 1.2
    assert report.longest_wait_ns == max(c.waits.longest for c in report.classes)
    assert 0.5 < report.jain <= 1.0  # each is alone with its mix
    assert f"{zone.acquisitions:14d}" in report.lock_stat


@marked
def test_without_times_it_counts() -> None:
    report = stress_lock(lock_config({**SMALL, "lock_stat": False}))
    zone = report.zone_lock()
    assert zone is not None and zone.acquisitions > 1000
    assert (zone.holds.p50, zone.holds.histogram, zone.holds.total) == (None, "", 0)
    assert all(cpu.spinning == cpu.parked == cpu.holding == 0 for cpu in report.cpus)


@marked
def test_a_point_is_plain_data_and_the_same_for_the_same_seed() -> None:
    config = {**SMALL, "cpus": 1, "mix": ["order=0:6,2:1"], "seed": 3, "lock_stat": False}
    a, b = point(json.loads(json.dumps(config))), point(config)
    other = point({**config, "seed": 4})
    assert json.loads(json.dumps(a))["config"]["seed"] == 3
    same = ("ops", "allocs", "frees", "by_order", "acquisitions_per_op")
    assert {name: a[name] for name in same} == {name: b[name] for name in same}
    assert a["by_order"] != other["by_order"]


# The command


@marked
def test_command(run_emu: RunEmu, tmp_path: Path) -> None:
    args = ("stress", "lock", "--cpus", "2", "--mem", "32M", "-n", "20000", "--no-pin", "--seed", "5")
    done = run_emu(*args, "--mix", "bulk", "--mix", "order=0:7,1:2", "--no-park")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "emu-lock_stat").read_text()
    assert done.stdout.startswith(text.rstrip("\n")) and "&zone->lock" in text
    for words in ("seed: 5", "spin_limit=-1", "Jain's index", "holds  p50", "next: emu stress lock", "validate: clean"):
        assert words in done.stdout, words
    report = json.loads(run_emu(*args, "--json", "--out", "x").stdout)
    assert report["config"]["seed"] == 5 and report["config"]["memory"] == 32 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emu-lock_stat", "x"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cpus": 0}, "cpus"),
        ({"cpus": 300}, "cpus"),
        ({"memory": "much"}, "memory: 'much' is not a size"),
        ({"order": 11}, "order"),
        ({"pcp_batch": 0}, "pcp_batch"),
        ({"sysctl": {"nothing": 1}}, "sysctl.nothing"),
        ({"duration": 0}, "duration"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_impossible_configuration(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lock_config(given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--mix", "nope"), "mix nope: there are bulk"),
        (("--no-park", "--spin-limit", "3"), "--no-park"),
        (("--sweep", "cpus=1,300"), "cpus"),
        (("--html", "nowhere/x.html"), "nowhere/x.html"),
        (("--executor", "local:0", "--sweep", "cpus=1"), "local:0"),
    ],
)
def test_mistakes_are_one_line(run_emu: RunEmu, tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    done = run_emu("stress", "lock", *args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("emu: ") and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
