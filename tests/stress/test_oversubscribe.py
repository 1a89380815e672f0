"""More CPU processes than cores: who keeps what of the throughput, and whether it is fair."""

import json
import subprocess
import sys

import pytest

from emu.config import make_config
from emu.stress.oversubscribe import jain, stress_oversubscribe

pytestmark = pytest.mark.compiled


def test_jains_index() -> None:
    assert jain([3, 3, 3, 3]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1


@pytest.mark.slow
def test_many_processes_keep_most_of_the_throughput_and_every_wait_ends() -> None:
    config = make_config({"memory": "256M", "workload": "bulk", "duration": 1.0}, "test")
    report = stress_oversubscribe(config, counts=[1, 24])
    assert report.problems == ()
    one, many = report.points
    assert (one.cpus, many.cpus) == (1, 24)
    assert one.contentions == one.longest_wait == 0
    assert many.contentions > many.stolen > 0
    assert many.share > 0.3  # a spinlock that never parks keeps a twentieth
    assert 0 < many.longest_wait < 5_000_000_000
    assert 0.5 < many.jain <= 1
    assert many.acquisitions / many.ops_per_second > 0


@pytest.mark.slow
def test_the_command_prints_one_row_for_each_count() -> None:
    args = [sys.executable, "-m", "emu", "stress", "oversubscribe", "3", "--mem", "64M", "--duration", "0.2"]
    done = subprocess.run([*args, "-q"], capture_output=True, text=True, check=True)
    assert "│ 3 " in done.stdout
    assert "seed 1, bulk, 64M" in done.stdout
    assert "next: emu stress oversubscribe 64 --no-park" in done.stdout
    data = json.loads(subprocess.run([*args, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [p["cpus"] for p in data["points"]] == [3]
    assert data["config"]["seed"] == 1


def test_impossible_counts_are_refused() -> None:
    args = [sys.executable, "-m", "emu", "stress", "oversubscribe", "300"]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "emu: 300 CPUs: give counts from 1 to 256\n")
