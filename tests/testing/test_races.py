"""``@race_test`` from outside: what pytest makes of it, what a failure says and leaves."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from emu.race.schedule import Schedule
from shm.loader import cache_dir

CACHE = str(cache_dir())  # pytester gives tests a home of their own
PLUGIN = ("-p", "emu.pytest_plugin", "-p", "no:cacheprovider")
HEAD = """
from emu.testing import race_test, litmus
from emu.race.ops_litmus import add, increase, require, history, step, write
from emu.race.scenario import ScenarioError

GOOD = litmus([increase(0)], [increase(0)], setup=require(v0=2), name="GOOD")
LOST = litmus([add(0)], [add(0)], setup=require(v0=2), name="LOST")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """``run(text, *options)`` runs a test file; files of failures go to ``there``."""
    there = tmp_path / "artifacts"
    for name in ("SEED", "SECONDS", "REPLAY"):
        monkeypatch.delenv(f"EMU_RACE_{name}", raising=False)
    monkeypatch.setenv("EMU_RACE_ARTIFACTS", str(there))
    monkeypatch.setenv("EMU_CACHE", CACHE)

    def go(text: str, *options: object) -> pytest.RunResult:
        pytester.makepyfile(test_it=HEAD + text)
        return pytester.runpytest_inprocess(*PLUGIN, *options)

    go.there = there
    return go


def test_it_passes_where_no_schedule_fails(run) -> None:
    result = run(
        """
        @race_test(GOOD, strategy="exhaustive")
        def test_good(): pass

        @race_test(GOOD, strategy="exhaustive")
        def test_result(result):
            assert (result.schedules, result.coverage) == (6, "exhaustive")

        @race_test(lambda: GOOD, schedules=50, seed=[3, 4], check_determinism=5)
        def test_made(result):
            assert result.coverage == "sampled(50)"
        """.replace("\n        ", "\n"), "-v",
    )  # fmt: skip
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["*test_good?seed=1? PASSED*", "*test_made?seed=3? PASSED*", "*test_made?seed=4? PASSED*"]
    )


FAILING = """
@race_test(LOST, strategy="exhaustive")
def test_lost():
    raise AssertionError("not reached")
"""


def test_a_failure_says_what_when_and_how_to_have_it_again(run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(FAILING)
    result.assert_outcomes(failed=1)
    (saved,) = run.there.iterdir()
    assert saved.name == "test_lost-seed=1-000.txt"
    line = saved.read_text().splitlines()[0]
    assert line == "emu-race/1 LOST unfixed seed=1 cpu0@litmus:write+v0*1>cpu1".replace("unfixed", "fixed")
    out = result.stdout.str()
    result.stdout.fnmatch_lines([
        "LOST (as 5.10.262 has it): a litmus test",
        "invariant: the variables are not as they must be in the end (found 1)",
        "exhaustive, seed 1: 2 schedules, sampled(2)",
        f"schedule: {line.replace('*', '[*]')}",
        "CPU0 *CPU1",
        f"saved: {saved}",
        f"this test on it alone: EMU_RACE_REPLAY={saved} pytest 'test_it.py::test_lost?seed=1?'",
    ])  # fmt: skip
    assert "not reached" not in out
    assert "Traceback" not in out
    assert "emu race replay" not in out  # it knows no scenario of a test

    monkeypatch.setenv("EMU_RACE_REPLAY", str(saved))
    again = run(FAILING)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["replay, seed 1: 1 schedules, sampled(1)", f"schedule: {line.replace('*', '[*]')}"])


def test_a_race_of_the_catalogue_is_replayed_by_a_command(run) -> None:
    result = run("""
@race_test("R13", unfixed=True, strategy="exhaustive", bound=1)
def test_r13(): pass
""")
    result.assert_outcomes(failed=1)
    found = re.search(r"^replay: emu race replay '(emu-race/1 R13 unfixed .*)'$", result.stdout.str(), re.MULTILINE)
    assert found
    assert str(Schedule.parse(found[1])) == found[1]


def test_a_race_that_must_be_found(run) -> None:
    result = run("""
@race_test(LOST, fails=True, schedules=100)
def test_found(result):
    assert result.verdict.kind == "invariant"

@race_test(GOOD, fails=True, strategy="exhaustive")
def test_not_found(): pass

@race_test(LOST, fails=None, strategy="exhaustive")
def test_judges_itself(result, tmp_path, request):
    assert result.found and tmp_path.is_dir() and request.node.name == "test_judges_itself[seed=1]"
""")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["GOOD (as 5.10.262 has it): no schedule failed, exhaustive; seed 1"])
    assert not run.there.exists()


def test_a_method_a_fixture_and_a_parameter(run) -> None:
    run("""
import pytest

class TestThem:
    @pytest.mark.parametrize("n", [1, 2])
    @race_test(GOOD, strategy="exhaustive")
    def test_method(self, n, tmp_path, result):
        assert n in (1, 2) and result.schedules == 6
""").assert_outcomes(passed=2)


def test_what_is_not_deterministic_is_refused(run) -> None:
    result = run("""
@race_test(litmus([history(0)], [step(1)], name="DICE"), strategy="exhaustive", check_determinism=True)
def test_dice(): pass
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["DICE: NOT deterministic: schedule 1, step *, cpu0 at litmus:fault: *variables?0?*"])


def test_a_scenario_that_cannot_be_is_one_line(run) -> None:
    result = run("""
@race_test("R999")
def test_unknown(): pass

@race_test(GOOD, strategy="magic")
def test_strategy(): pass
""")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["R999: no such race; there are *", "strategy 'magic': not one of *"])


def test_options_go_before_what_the_test_says(run) -> None:
    text = """
@race_test(GOOD, seconds=1000, seed=[1, 2, 3])
def test_good(result):
    assert (result.seed, result.seconds < 100) == (77, True)
"""
    run(text, "--race-seed=77", "--race-seconds=0.05").assert_outcomes(passed=1)


def test_a_schedule_of_another_scenario_is_no_test_of_this_one(run) -> None:
    line = "emu-race/1 LOST fixed seed=1 cpu0@litmus:write+v0*1>cpu1"
    text = (
        FAILING
        + """
@race_test(GOOD, strategy="exhaustive")
def test_good(): pass
"""
    )
    run(text, f"--race-replay={line}").assert_outcomes(failed=1, skipped=1)
    result = run(text, "--race-replay=nowhere.txt")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["EMU_RACE_REPLAY: nowhere.txt: *No such file*"])


def test_a_minimised_schedule_is_played_without_what_it_drops(run) -> None:
    text = """
THREE = LOST.named(programs={**LOST.programs, "cpu2": LOST.programs["cpu1"]})

@race_test(THREE)
def test_three(result):
    pass
"""
    line = "emu-race/1 LOST fixed seed=1 drop=cpu2 cpu0@litmus:write+v0*1>cpu1"
    result = run(text, f"--race-replay={line}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["schedule: emu-race/1 LOST fixed seed=1 drop=cpu2 cpu0@*", "CPU0 *CPU1"])
    assert "CPU2" not in result.stdout.str()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_test_that_would_play_nothing_fails(run, monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    monkeypatch.setenv("EMU_RACE_SECONDS", seconds)
    run("""
@race_test(GOOD)
def test_good(): pass
""").assert_outcomes(failed=1)


def test_the_ini_file_says_where_failures_are_saved(run, pytester: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.delenv("EMU_RACE_ARTIFACTS")
    pytester.makeini("[pytest]\nrace_artifacts = left/here")
    run(FAILING).assert_outcomes(failed=1)
    assert [path.name for path in (pytester.path / "left" / "here").iterdir()] == ["test_lost-seed=1-000.txt"]


def test_junit_has_seed_coverage_and_schedule(run, tmp_path: Path) -> None:
    run(FAILING, f"--junitxml={tmp_path / 'out.xml'}")
    (case,) = ET.parse(tmp_path / "out.xml").iter("testcase")
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties["race_seed"] == "1"
    assert properties["race_coverage"] == "sampled(2)"
    assert properties["race_schedule"].startswith("emu-race/1 LOST fixed seed=1 ")
    assert Path(properties["race_artifact"]).is_file()
    assert "schedule: emu-race/1 LOST" in case.find("failure").text


def test_a_directory_that_cannot_be_written_hides_no_failure(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMU_RACE_ARTIFACTS", "/proc/nothing")
    result = run(FAILING)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["schedule: emu-race/1 LOST *", "not saved: *"])


@pytest.mark.slow
def test_workers_that_fail_at_once_leave_a_file_each(run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + """
import pytest

@pytest.mark.parametrize("n", range(6))
@race_test(LOST, strategy="exhaustive")
def test_lost(n): pass
""", test_other=HEAD + FAILING, test_third=HEAD + FAILING)  # fmt: skip
    pytester.runpytest_subprocess(*PLUGIN, "-n", "2").assert_outcomes(failed=8)
    names = sorted(path.name for path in run.there.iterdir())
    each = [f"test_lost-seed=1-{n}-000.txt" for n in range(6)]
    assert names == sorted([*each, "test_lost-seed=1-000.txt", "test_lost-seed=1-001.txt"])
    assert all(path.read_text().startswith("emu-race/1 LOST ") for path in run.there.iterdir())


def test_without_the_plugin_it_works_as_well(run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + FAILING)
    pytester.runpytest_inprocess("-p", "no:emu.pytest_plugin").assert_outcomes(failed=1)
    assert len(list(run.there.iterdir())) == 1
