"""One worker or several: the same schedules, the same failure."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from emu.race.crew import Here, Workers
from emu.race.explore import ALL, Result, explore
from emu.race.ops_litmus import add, crash, require, step, write
from emu.race.parts import rest_of
from emu.race.plan import Node
from emu.race.scenario import Scenario, ScenarioError
from emu.race.spread import CHUNK, seed_of, spread
from emu.testing import litmus
from tests.conftest import RunEmu

pytestmark = pytest.mark.usefixtures("native")

WIDE = litmus([step(3)], [step(2)], [step(2)], name="WIDE")
LOST = litmus([step(1), add(0)], [add(0)], [step(1)], setup=require(v0=2), name="LOST")
JOBS = [1, 2, 3]
NAMES = [name for name, _ in Node._fields_]


def facts(result: Result) -> tuple[Any, ...]:
    """All but how long it took, and over how many hands."""
    return (
        result.schedules, result.failures, result.pruned, result.steps, result.most_steps, result.coverage,
        result.verdict, str(result.schedule), result.seed,
    )  # fmt: skip


@pytest.mark.parametrize("jobs", JOBS)
@pytest.mark.parametrize(
    ("scenario", "limits"),
    [
        (WIDE, {}),
        (WIDE, {"bound": 2}),
        (WIDE, {"delay": 3}),
        (WIDE, {"schedules": 700}),
        (LOST, {}),
        (LOST, {"bound": 1}),
        (LOST, {"stop_at_failure": False}),
    ],
    ids=lambda value: (
        value.id if isinstance(value, Scenario) else " ".join(f"{k}={v}" for k, v in value.items()) or "all"
    ),
)
def test_a_search_is_the_same_for_any_number_of_workers(scenario: Scenario, limits: dict[str, Any], jobs: int) -> None:
    """As the one search that isn't cut; slices are short, so that it is cut often."""
    whole = explore(scenario, strategy="exhaustive", **limits)
    assert facts(spread(scenario, strategy="exhaustive", jobs=jobs, slice_s=0.02, **limits)) == facts(whole)


@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw"])
@pytest.mark.parametrize("scenario", [WIDE, LOST], ids=["WIDE", "LOST"])
def test_sampling_is_the_same_for_any_number_of_workers(
    scenario: Scenario, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five parts, the last of them shorter; the failure is that of the first part that has one."""
    monkeypatch.setattr("emu.race.spread.CHUNK", 40)
    results = {facts(spread(scenario, strategy=strategy, schedules=190, seed=5, jobs=jobs)) for jobs in JOBS}
    assert len(results) == 1
    (result,) = results
    if scenario is WIDE:
        assert (result[0], result[5]) == (190, "sampled(190)")
    else:
        alone = explore(scenario, strategy=strategy, seed=result[-1])
        assert (str(alone.schedule), alone.verdict) == (result[7], result[6])


def test_parts_have_seeds_of_their_own() -> None:
    assert seed_of(5, 0) == 5
    seeds = {seed_of(seed, part) for seed in range(100) for part in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 1 << 62 for seed in seeds)
    assert seed_of(5, 1) < seed_of(5, 2)
    assert CHUNK >= 100


def test_time_ends_it() -> None:
    big = litmus([step(9)], [step(9)], [step(9)])
    for strategy in ("exhaustive", "random"):
        result = spread(big, strategy=strategy, jobs=2, seconds=0.3)
        assert result.coverage == f"sampled({result.schedules})"
        assert result.schedules > 0
        assert result.verdict.ok


def test_strategies_that_have_one_worker() -> None:
    assert spread(WIDE, strategy="robin", jobs=3).schedules == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_crash_is_found_by_any_worker(jobs: int) -> None:
    scenario = litmus([write(0), crash()], [step(2)])
    whole = explore(scenario, strategy="exhaustive")
    assert facts(spread(scenario, strategy="exhaustive", jobs=jobs)) == facts(whole)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_worker_refuses_is_said_in_one_line(jobs: int) -> None:
    with pytest.raises(ScenarioError, match="no actor 'cpu7'"):
        spread(WIDE.named(programs={"cpu7": ()}), jobs=jobs, schedules=10)


@pytest.mark.parametrize(
    ("how", "told"),
    [({"jobs": 0}, "jobs 0: 1 to 256"), ({"jobs": 257}, "jobs 257"), ({"strategy": "magic"}, "strategy 'magic'")],
)
def test_what_cannot_be_spread(how: dict[str, Any], told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        spread(WIDE, **how)


PART: dict[str, Any] = {
    "strategy": "exhaustive", "seed": 1, "bound": -1, "delay": -1, "depth": 3, "stop": True, "schedules": ALL,
    "slice": ALL, "left": 1000.0,
}  # fmt: skip


def test_a_part_that_does_not_begin_as_it_should_is_refused() -> None:
    """A part begins with a path of decisions: who could run must be as it was."""
    with Here(WIDE, True) as here:
        here.give([(1, {**PART, "schedules": 3})])
        (((ticket, answer),),) = here.take(0)
        assert ticket == 1
        assert answer is not None
        path = [list(node) for node in answer["rest"][0]]
        path[0][NAMES.index("enabled")] ^= 0b100
        with pytest.raises(ScenarioError, match="did not go as before at its decision 1"):
            here.give([(2, {**PART, "path": path})])


def test_a_batch_ends_with_its_first_failure_or_its_time() -> None:
    sampled = {**PART, "strategy": "random", "schedules": 30}
    with Here(LOST, True) as here:
        here.give([(1, {**PART, "bound": 0}), (2, PART), (3, sampled)])
        here.give([(4, {**sampled, "left": 0.0}), (5, {**sampled, "stop": False})])
        first, second = here.take(0)
    assert [(ticket, answer and answer["failures"]) for ticket, answer in first] == [(1, 0), (2, 1), (3, None)]
    assert [(ticket, answer and answer["schedules"]) for ticket, answer in second] == [(4, None), (5, 30)]


def test_a_worker_that_is_killed_is_noticed_and_leaves_nothing() -> None:
    for_ever = {**PART, "strategy": "random"}
    with pytest.raises(ScenarioError, match="a worker ended with status -9"), Workers(WIDE, True, 2) as workers:
        for ticket in (1, 2):
            workers.give([(ticket, for_ever)])
        os.kill(next(iter(workers.processes.values())).pid, signal.SIGKILL)
        while True:
            workers.take(1.0)


def test_workers_end_at_once_when_nobody_wants_them_any_more() -> None:
    """In the middle of a part that would take for ever; their players and memory go with them."""
    for_ever = {**PART, "strategy": "random"}
    with Workers(WIDE, True, 2) as workers:
        for ticket in (1, 2):
            workers.give([(ticket, for_ever)])
        processes = [psutil.Process(process.pid) for process in workers.processes.values()]
        assert workers.take(0.2) == []
    assert not any(process.is_running() for process in processes)


# --- a cluster --------------------------------------------------------------------------------------------------------

needs_distributed = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed"
)


@pytest.mark.slow
@pytest.mark.compiled
@needs_distributed
def test_a_search_on_a_cluster_is_the_same(run_emu: RunEmu, tmp_path: Path) -> None:
    """Of a scenario in a file of one's own, which each worker reads for itself."""
    (tmp_path / "mine.py").write_text(MINE)
    found = []
    for how in (["--strategy", "exhaustive"], ["--executor", "local:2"]):
        done = run_emu("race", "explore", "mine.py", "--json", *how, env={"PYTHONWARNINGS": None})
        assert done.returncode == 1, done.stderr
        found.append(json.loads(done.stdout))
    keys = ("schedules", "failures", "steps", "coverage", "schedule", "verdict")
    assert [found[0][key] for key in keys] == [found[1][key] for key in keys]


@needs_distributed
@pytest.mark.slow
@pytest.mark.compiled
def test_sampling_on_a_cluster_is_the_same(run_emu: RunEmu) -> None:
    """Parts go to the cluster in batches, and come back in any order."""
    code = (
        "import json, sys\n"
        "from emu.stress.cluster import ClusterCrew, cluster\n"
        "from emu.race.catalogue import find_scenario\n"
        "from emu.race.spread import spread\n"
        "from emu.programs import load_all\n"
        "if __name__ == '__main__':\n"
        "    load_all()\n"
        "    how = dict(unfixed=False, strategy='pct', schedules=3500, seed=9)\n"
        "    with cluster('local:2') as (distributed, client):\n"
        "        values = dict(which='R12', fix=[], unfix=[], unfixed=False)\n"
        "        crew = ClusterCrew(distributed, client, 'local:2', values)\n"
        "        crew.batch = 2\n"
        "        there = spread(find_scenario('R12'), crew=crew, **how)\n"
        "    here = spread(find_scenario('R12'), jobs=1, **how)\n"
        "    facts = [[r.schedules, r.steps, r.most_steps, r.coverage, r.failures] for r in (there, here)]\n"
        "    json.dump(facts, sys.stdout)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    there, here = json.loads(done.stdout)
    assert there == here
    assert there[0] == 3500


def test_a_cluster_and_jobs_are_two_things(run_emu: RunEmu) -> None:
    done = run_emu("race", "explore", "R12", "--executor", "local:2", "--jobs", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--executor local:2: without --jobs" in done.stderr


MINE = """
from emu.race.ops_litmus import add, require, step
from emu.testing import litmus

SCENARIOS = (litmus([step(2), add(0)], [add(0), step(2)], [step(3)], setup=require(v0=2), name="MINE"),)
"""


# --- the rest of a search ---------------------------------------------------------------------------------------------


def node(chosen: int, *todo: int) -> list[int]:
    values = dict.fromkeys(NAMES, 0) | {"chosen": chosen, "todo": sum(1 << n for n in todo)}
    return [values[name] for name in NAMES]


def shown(path: list[list[int]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    for values in path:
        todo = values[NAMES.index("todo")]
        yield values[NAMES.index("chosen")], tuple(n for n in range(todo.bit_length()) if todo >> n & 1)


def test_the_rest_is_what_lies_below_and_then_the_alternatives() -> None:
    path = [node(0), node(1, 2, 4), node(0, 1), node(3)]
    assert [list(shown(part)) for part in rest_of(path)] == [
        [(0, ()), (1, ()), (0, (1,)), (3, ())],  # goes on where it was stopped
        [(0, ()), (2, ())],
        [(0, ()), (4, ())],
    ]
    assert [list(shown(part)) for part in rest_of([node(0), node(1)])] == [[(0, ()), (1, ())]]
