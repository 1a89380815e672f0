"""The catalogue is what it says: every race is found, and with its fix there is none."""

import json
from typing import Any

import pytest

from emu.race.catalogue import catalogue
from emu.race.prove import NO_FIX
from emu.race.scenario import FIXED, NOT_APPLICABLE, OPEN, PLANTED
from emu.zone.deviations import RACES

FIRST = ("R2b", "R3", "R8", "R13", "R6", "R18", "R12", "R1", "R1b", "R5", "R16", "R7", "R9", "R24", "R27", "R17")
THEN = ("R2", "R4a", "R4b", "R10", "R11", "R14", "R15", "R19", "R20", "R21", "R22", "R23", "R25", "R28", "R30", "R33")
STORMS = ("S1", "S2", "S3")
PARTS = 4  # of the proof, so that workers share it


def test_the_catalogue_has_the_races_of_the_list() -> None:
    assert set(FIRST + THEN + STORMS) <= set(catalogue())


@pytest.mark.parametrize("name", catalogue())
def test_a_scenario_tells_its_story(name: str) -> None:
    scenario = catalogue()[name]
    assert scenario.status in (FIXED, OPEN, NOT_APPLICABLE, PLANTED) and scenario.title
    lines = scenario.story.strip().splitlines()
    assert 3 <= len(lines) <= 7, "about five lines"
    assert scenario.invariants or scenario.kind in ("deadlock", "livelock", "lost wake-up")
    assert not scenario.switch or scenario.switch in RACES
    assert all(commit.mark.rstrip("*-") in ("V", "S", "M", "I") for commit in scenario.commits)


@pytest.mark.parametrize(("one", "rest"), [
    ("lists-match", "isolated-apart"), ("watermark-kept", "overshoot-bounded"),
    ("next_round_gets_it", "rounds_are_bounded"),
])  # fmt: skip
def test_who_asks_for_one_part_of_a_rule_asks_for_the_other(one: str, rest: str) -> None:
    """Each of the two leaves something to the other: alone it would overlook that."""
    asked = [{i.name for i in scenario.invariants} for scenario in catalogue().values()]
    assert any(one in names for names in asked) and all(rest in names for names in asked if one in names)


def test_every_switch_belongs_to_a_scenario() -> None:
    assert {s.switch for s in catalogue().values() if s.switch} == set(RACES)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.timeout(290)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", ["instrumented"])
def test_every_race_is_found_and_every_fix_is_proved(mode: str, part: int, run_emu: Any) -> None:
    """Found by a sampling strategy and by bounded search within 10 s; minimised to the fewest preemptions that bounded
    search shows to exist; with the fix exhausted, or played with up to two preemptions."""
    names = list(catalogue())[part::PARTS]
    done = run_emu("race", "prove", *names, "--json", mode=mode, timeout=280)
    proofs = {proof["scenario"]: proof for proof in json.loads(done.stdout)["proofs"]}
    assert list(proofs) == names
    for name, proof in proofs.items():
        scenario = catalogue()[name]
        assert proof["sampled_by"] and proof["sampled_s"] < 10, proof
        assert proof["bounded_by"] >= 0 and proof["bounded_s"] < 10, proof
        assert proof["fixed"] in (("exhaustive", "bounded(2)") if scenario.switch else (NO_FIX,)), proof
        assert proof["fewest_proven"] and proof["fewest"] == scenario.preemptions, proof
    assert done.returncode == 0
