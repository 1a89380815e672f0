"""Deterministic, or not and found out: in this process, in others, in every mode."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emu.race.players
from emu.race.doctor import check_determinism
from emu.race.ops_litmus import add, crash, history, lock, nap, signal, step, unlock, wander
from emu.race.players import Players
from emu.race.schedule import Schedule
from emu.testing import litmus
from tests.race.again import digests

pytestmark = pytest.mark.usefixtures("native")

ROOT = Path(__file__).parents[2]
MIXED = litmus([lock(0), add(0), unlock(0)], [nap(1)], [add(0), signal(1)], name="MIXED")


@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw"])
def test_what_is_deterministic_is_found_to_be(strategy: str) -> None:
    with Players(MIXED) as players:
        diagnosis = check_determinism(players, 25, strategy=strategy, seed=3)
    assert diagnosis.deterministic
    assert str(diagnosis) == "MIXED: 25 schedules played twice, all identical"


@pytest.mark.parametrize("name", ["R8", "R12", "R1b"])
def test_races_of_the_catalogue_are_deterministic(name: str) -> None:
    """With a daemon that sleeps and wakes, and virtual time."""
    from emu.race.catalogue import find_scenario

    with Players(find_scenario(name)) as players:
        assert check_determinism(players, 15).deterministic


def test_a_number_that_is_not_put_back_is_named_with_its_point() -> None:
    """How many schedules this process has played: memory outside of the machine."""
    with Players(litmus([add(0), history(5), step(2)], [step(3)], name="DICE")) as players:
        diagnosis = check_determinism(players)
    found = diagnosis.difference
    assert found is not None
    assert (found.number, found.actor, found.point) == (1, "cpu0", "litmus:fault")
    assert found.what.startswith("scenario.variables[5].value is ")
    assert Schedule.parse(str(found.schedule)) == found.schedule
    assert str(diagnosis).startswith("DICE: NOT deterministic: schedule 1, step ")
    assert str(found.schedule) in str(diagnosis)


def test_a_program_that_takes_other_steps_is_found_by_the_log() -> None:
    with Players(litmus([step(1), wander(3)], [step(1)], name="DICE")) as players:
        found = check_determinism(players).difference
    assert found is not None
    assert (found.actor, found.point) == ("cpu0", "litmus:step")
    assert "it comes to" in found.what


def test_memory_that_somebody_else_writes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.urandom() into a slot just before the baton is handed out: nobody's step, so the field alone is named."""
    start = emu.race.players.start
    with Players(MIXED) as players:

        def soiled(baton: Any) -> Any:
            players.world.area.slots[60] = int.from_bytes(os.urandom(7))
            return start(baton)

        monkeypatch.setattr(emu.race.players, "start", soiled)
        found = check_determinism(players).difference
    assert found is not None
    assert (found.number, found.step) == (1, 0)
    assert found.what.startswith("scenario.slots[60] is ")


def test_nobody_is_left_to_play_again() -> None:
    with Players(litmus([crash()], [step(1)], name="DIES")) as players:
        diagnosis = check_determinism(players)
    assert diagnosis.schedules == 0
    assert str(diagnosis) == (
        "DIES: 0 schedules played twice, all identical; then crash: a process died after cpu0 went on from litmus:fault"
    )


# --- other processes --------------------------------------------------------------------------------------------------


def asked(what: str, *args: object, mode: str = os.environ.get("EMU_MODE", "compiled"), **env: str) -> str:
    """What a function of ``tests.race.again`` prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.race.again", what, *map(str, args)], cwd=ROOT, capture_output=True, text=True,
        check=False, env=os.environ | {"EMU_MODE": mode} | env, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(290)
def test_a_thousand_replays_are_identical_over_restarts() -> None:
    """Four processes, each with another hash seed and address space, pinned to one core or on any: 250 replays each of
    the same twelve schedules give one log and one memory."""
    told = {
        asked("digests", 250, place, PYTHONHASHSEED=str(seed))
        for seed, place in ((0, "pinned"), (1, "pinned"), (12345, "anywhere"), (4294967295, "anywhere"))
    }
    assert len(told) == 1
    found = json.loads(told.pop())
    assert len(found) == 12
    assert all(len(each) == 1 for each in found.values()), "one log and one memory in 250 replays"


@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.parametrize("turn", range(2))
def test_replays_in_a_process_that_has_run_other_tests_are_those_of_a_fresh_one(turn: int) -> None:
    """With pytest-xdist each turn is on whatever worker is free, with all that its tests have left in memory."""
    assert digests(20, "anywhere") == json.loads(asked("digests", 2, "pinned", PYTHONHASHSEED=str(turn)))


@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.parametrize("mode", ["checked"])
def test_interpreted_and_compiled_have_the_same_digests(mode: str) -> None:
    """Python over ctypes and native code: the same steps, the same last byte."""
    told = {each: json.loads(asked("digests", 2, "pinned", mode=each)) for each in ("compiled", "interpreted", mode)}
    assert told["compiled"] == told["interpreted"] == told[mode]


@pytest.mark.slow
@pytest.mark.timeout(290)
def test_real_time_and_random_numbers_in_the_model_are_found_every_time() -> None:
    """Fifty models, each with a call of the real clock or of os.urandom() planted at another place: in each the point
    is named at which it was made."""
    found = json.loads(asked("planted", 50, mode="interpreted"))
    assert len(found) == 50
    assert [one for one in found if one["found"] != one["planted"]] == []
