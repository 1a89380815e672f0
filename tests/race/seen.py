"""What instrumented mode is asked in a process of its own: ``python -m tests.race.seen QUESTION [ARGUMENT...]``."""

import json
import sys
from typing import Any

from emu.programs import load_all
from emu.race.catalogue import find_scenario
from emu.race.datarace import data_races
from emu.race.explore import play_batch, set_plan
from emu.race.invariants_litmus import outcome
from emu.race.ops_litmus import fence, forbid, increase, lock, read, unlock, write
from emu.race.ops_pages import alloc, free
from emu.race.players import Players
from emu.race.replay import MachineMemory
from emu.race.scenario import Scenario, small
from shm.baton import VERDICTS

OWN = {
    "pages": Scenario(
        "pages", "pages of one zone", "", small(), {"cpu0": (alloc(0), free(0)), "cpu1": (alloc(1),)}, ()
    ),
    "blocks": Scenario(
        "blocks", "an interrupt as well", "", small(),
        {"cpu0": (alloc(0, order=1),), "cpu1": (alloc(1, order=2),)}, (), irqs={"cpu0": ((alloc(2),),)},
    ),
    # both CPUs are at peace with one another: any order will do
    "apart": Scenario(
        "apart", "two variables", "", small(), {"cpu0": (increase(0),) * 3, "cpu1": (increase(1),) * 3}, ()
    ),
    "locked": Scenario(
        "locked", "one variable, one lock", "", small(),
        {c: (lock(0), increase(0), unlock(0)) for c in ("cpu0", "cpu1")}, (),
    ),
    "plain": Scenario("plain", "one variable, no lock", "", small(), {c: (increase(0),) for c in ("cpu0", "cpu1")}, ()),
    "SB": Scenario(
        "SB", "store buffering", "", small(), {"cpu0": (write(0), read(1, 0)), "cpu1": (write(1), read(0, 1))},
        (outcome,), setup=forbid(r0=0, r1=0),
    ),
    "SB+mb": Scenario(
        "SB+mb", "store buffering, with barriers", "", small(),
        {"cpu0": (write(0), fence(), read(1, 0)), "cpu1": (write(1), fence(), read(0, 1))},
        (outcome,), setup=forbid(r0=0, r1=0),
    ),
    "MP": Scenario(
        "MP", "message passing", "", small(), {"cpu0": (write(0), write(1)), "cpu1": (read(1, 0), read(0, 1))},
        (outcome,), setup=forbid(r0=1, r1=0),
    ),
}  # fmt: skip


def scenario_of(name: str) -> Scenario:
    return OWN.get(name) or find_scenario(name)


def final_states(name: str, unfixed: bool, strategy: str) -> dict[str, Any]:
    """Every verdict and final memory that a search meets, and the schedules it needs."""
    states: set[tuple[str, int]] = set()
    with Players(scenario_of(name), unfixed) as players:
        set_plan(players, strategy, limit=1)
        plan = players.arena.plan
        plan.stop_at_failure = 0
        memory = MachineMemory(players)
        while not plan.exhausted:
            plan.limit = plan.schedules + 1
            players.batch()
            assert not plan.drift and not players.arena.watch.overflow
            players.learn()  # every schedule begins in the right memory
            verdict = VERDICTS[players.baton.verdict]
            if verdict != "pruned":
                states.add((verdict, hash(memory.now[memory.matters].tobytes())))
        return {"states": sorted(states), "schedules": int(plan.schedules)}


def final(name: str) -> list[dict[str, Any]]:
    """Both searches of both variants."""
    variants = (True, False) if scenario_of(name).switch else (True,)
    return [{s: final_states(name, unfixed, s) for s in ("dpor", "exhaustive")} for unfixed in variants]


def litmus(name: str) -> dict[str, int]:
    """How many schedules show the forbidden outcome, without store buffers and with them: all with up to two
    preemptions, and random ones."""
    found = {}
    for buffers in (False, True):
        with Players(scenario_of(name), buffers=buffers) as players:
            bounded = play_batch(players, "exhaustive", bound=2, stop_at_failure=False)
            assert bounded.coverage == "bounded(2)"
            sampled = play_batch(players, "random", schedules=5000, stop_at_failure=False)
            found["tso" if buffers else "sc"] = bounded.failures + sampled.failures
    return found


def races(name: str) -> list[dict[str, Any]]:
    """Data races of 1,000 random schedules of the variant that 5.10.262 has."""
    scenario = scenario_of(name)
    unfixed = not scenario.switch or scenario.status == "open"
    found, whole = data_races(scenario, unfixed=unfixed, seconds=60)
    assert whole
    return [race.as_dict() for race in found]


if __name__ == "__main__":
    load_all()
    question = {"final": final, "litmus": litmus, "races": races}[sys.argv[1]]
    sys.stdout.write(json.dumps([question(name) for name in sys.argv[2:]]))
