"""``emu race`` as a user meets it, on scenarios of the tests' own."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emu.config import ConfigError, make_config
from emu.programs import load_all
from emu.race.catalogue import catalogue
from emu.race.variant import deviation_bits, deviation_words
from emu.zone.deviations import R8, R12
from tests.race.command import LOOP, MINE, TWICE, Emu, follow, refused


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    """Native code is there before a command's output is looked at."""
    load_all()


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_finds_the_race_and_says_what_comes_next(emu: Emu) -> None:
    done = emu("run", LOOP)
    assert done.status == 1 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "LOOP (without the fix): a free that never ends" and lines[1] == "seed 1"
    assert [line.split("  ")[1] for line in lines[2:4]] == ["0 preemptions", "1 preemption"]
    assert lines[4].startswith("found: livelock: cpu0 comes to ") and lines[4].endswith(
        "(1 preemption, the fewest there are)"
    )
    assert lines[5].startswith("schedule: emu-race/1 LOOP unfixed seed=1 cpu0@")
    assert "CPU0" in lines[7] and "<preempted>" in done.out
    assert follow(done) == ["minimize", lines[5].removeprefix("schedule: "), "--file", MINE]


def test_run_json_is_one_object(emu: Emu) -> None:
    done = emu("run", LOOP, "--json", "--seed", "3")
    data = done.data
    assert done.status == 1 and data["found"] and data["seed"] == 3 and data["preemptions"] == 1 and data["fewest"]
    assert data["verdict"]["kind"] == "livelock" and data["recording"]["schedule"] == data["schedule"]
    assert data["searches"][0]["coverage"] == "bounded(0)"
    assert shlex.split(data["replay"])[:3] == ["emu", "race", "replay"]
    assert shlex.split(data["next"])[:3] == ["emu", "race", "minimize"]


@pytest.mark.parametrize("strategy", ["exhaustive", "random", "pct", "pos", "surw"])
def test_each_strategy_finds_it(emu: Emu, strategy: str) -> None:
    done = emu("run", LOOP, "--strategy", strategy, "--budget", "60s", "--json")
    assert done.status == 1 and done.data["searches"][0]["strategy"] == strategy


def test_the_same_seed_finds_the_same(emu: Emu) -> None:
    one, two, other = (emu("run", TWICE, "--strategy", "random", "--seed", s, "--json").data for s in ("5", "5", "6"))
    assert one["schedule"] == two["schedule"] != other["schedule"]


def test_with_the_fix_all_is_played_and_nothing_found(emu: Emu) -> None:
    done = emu("run", LOOP, "--fix", "--budget", "200ms", "--schedules", "40")
    assert done.status == 0 and "no failure: bounded(" in done.out
    assert done.out.startswith("LOOP (as 5.10.262 has it)")
    assert follow(done) == ["explore", LOOP]
    assert emu("run", LOOP, "--fix", "--schedules", "40", "--json").data["schedules"] == 40


def test_reports_and_the_schedule_are_written(emu: Emu, tmp_path: Path) -> None:
    names = ["r.txt", "r.json", "r.html", "r.pftrace", "r.perfetto-trace.json"]
    options = [word for name in names for word in ("--report", name)]
    done = emu("run", LOOP, *options, "--out", "found.schedule")
    assert done.status == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "found.schedule"])
    assert [line for line in done.out.splitlines() if line.startswith(("report: ", "schedule in: "))] == [
        *(f"report: {name}" for name in names), "schedule in: found.schedule"
    ]  # fmt: skip
    line = (tmp_path / "found.schedule").read_text()
    assert line == json.loads((tmp_path / "r.json").read_text())["schedule"] + "\n"
    assert "CPU0" in (tmp_path / "r.txt").read_text() and "<!doctype html>" in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "r.perfetto-trace.json").read_text())["traceEvents"]
    assert line.strip().encode() in (tmp_path / "r.pftrace").read_bytes(), "the command that replays it"


def test_depth_is_the_preemptions_that_pct_plans_and_one(emu: Emu) -> None:
    """Of cpu0's and cpu1's two operations each, one runs to its end before the other begins where none is planned."""
    args = ("run", LOOP, "--strategy", "pct", "--schedules", "200", "--json")
    assert not emu(*args, "--depth", "1").data["found"]
    assert emu(*args, "--depth", "2").data["found"]


def test_full_folds_nothing(emu: Emu) -> None:
    assert "... the same 4 more times" in emu("run", LOOP).out
    assert "..." not in emu("run", LOOP, "--full").out


# --- explore ----------------------------------------------------------------------------------------------------------


def test_explore_proves_what_5_10_262_has(emu: Emu) -> None:
    done = emu("explore", LOOP)
    lines = done.out.splitlines()
    assert done.status == 0 and lines[0] == "LOOP (as 5.10.262 has it): a free that never ends"
    assert (
        lines[2].split()[0] == "exhaustive"
        and lines[2].endswith("one of each kind")
        and lines[3] == "no schedule fails"
    )


def test_one_of_each_kind_is_enough(emu: Emu) -> None:
    """By default and with --strategy dpor, in a mode of its own; the others play them one by one."""
    reduced, named, whole = (
        emu("explore", TWICE, *how, "--fix", "--json").data for how in ((), ("--strategy", "dpor"), ("--jobs", "2"))
    )
    assert reduced["strategy"] == named["strategy"] == "dpor" and whole["strategy"] == "exhaustive"
    assert reduced["coverage"] == named["coverage"] == whole["coverage"] == "exhaustive"
    assert reduced["schedules"] == named["schedules"] < whole["schedules"]


def test_explore_within_a_bound_says_so(emu: Emu) -> None:
    done = emu("explore", LOOP, "--bound", "1")
    assert done.status == 0 and "bounded(1)" in done.out and "no schedule with at most 1 preemption fails" in done.out
    data = emu("explore", LOOP, "--bound", "0", "--unfix", "--json").data
    assert not data["found"] and data["coverage"] == "bounded(0)" and data["schedules"] == 2


def test_explore_without_the_fix_finds_it(emu: Emu) -> None:
    done = emu("explore", LOOP, "--unfix", "--report", "r.txt")
    assert done.status == 1 and "found: livelock" in done.out and follow(done)[0] == "minimize"
    assert Path("r.txt").exists()


def test_workers_find_the_same(emu: Emu) -> None:
    one, two = (emu("explore", LOOP, "--bound", "2", "--jobs", jobs, "--json").data for jobs in ("1", "2"))
    assert one["schedules"] == two["schedules"] and one["coverage"] == two["coverage"] == "bounded(2)"


def test_what_was_not_finished_is_no_proof(emu: Emu) -> None:
    done = emu("explore", f"{MINE}:LARGE", "--budget", "50ms")
    assert done.status == 0 and "no failure in what was played in 50ms" in done.out and "sampled(" in done.out
    assert follow(done)[-2:] == ["--bound", "2"]


# --- replay -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def schedule(emu: Emu) -> str:
    found: str = emu("run", TWICE, "--json").data["schedule"]
    return found


def test_replays_are_identical(emu: Emu, schedule: str) -> None:
    done = emu("replay", schedule, "--file", MINE, "--times", "20", "--json")
    again = emu("replay", schedule, "--file", MINE, "--json").data
    assert done.status == 1 and done.data["identical"] and done.data["times"] == 20
    assert (done.data["log"], done.data["memory"]) == (again["log"], again["memory"]), "and so in other processes"
    text = emu("replay", schedule, "--file", MINE, "--times", "3").out
    assert "played 3 times, all identical: event log " in text and "highatomic-counted" in text


def test_a_schedule_comes_from_a_file_or_from_stdin(emu: Emu, schedule: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text(f"# found yesterday\n\n{schedule}\n")
    for done in (emu("replay", "s", "--file", MINE), emu("replay", "-", "--file", MINE, stdin=schedule)):
        assert done.status == 1 and "highatomic-counted" in done.out


@pytest.mark.parametrize("how", ["replay", "minimize"])
def test_a_schedule_is_written_down_whole(emu: Emu, how: str, tmp_path: Path) -> None:
    schedule = emu("run", LOOP, "--json").data["schedule"]
    folded = emu(how, schedule, "--file", MINE, "--report", "r.html", "--report", "r.json")
    whole = emu(how, schedule, "--file", MINE, "--full")
    assert "..." in folded.out and "..." not in whole.out.partition("next: ")[0]
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["scenario"] == "LOOP" and "<!doctype html>" in (tmp_path / "r.html").read_text()


def test_the_same_schedule_with_the_fix_is_fine(emu: Emu, schedule: str) -> None:
    done = emu("replay", schedule.replace(" unfixed ", " fixed "), "--file", MINE)
    assert done.status == 0 and "ok: this schedule does not fail" in done.out
    assert follow(done) == ["run", TWICE]


def test_drift_names_the_point(emu: Emu, schedule: str) -> None:
    later = schedule.replace("*1>cpu1", "*9>cpu1")
    refused(emu("replay", later, "--file", MINE), "TWICE: switch 1 of 2", "free_one_page:lock*9>cpu1: never came")
    other = schedule.replace("free_one_page:lock", "wakeup_kswapd:wake_up")
    refused(
        emu("replay", other, "--file", MINE),
        "switch 1 of 2",
        "wakeup_kswapd:wake_up*1>cpu1: never came; cpu0 went on to",
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("emu-race/9 LOOP unfixed seed=1", ("version emu-race/9",)),
        ("emu-race/1 LOOP", ("does not begin with",)),
        ("emu-race/1 LOOP unfixed seed=1 cpu0@nowhere", ("'cpu0@nowhere' is no switch",)),
        ("emu-race/1 LOOP unfixed seed=1 cpu0@no:where*1>cpu1", ("there is no point 'no:where'",)),
        ("emu-race/1 LOOP unfixed seed=1 cpu0@free_one_page:lock*1>cpu7", ("no actor 'cpu7'",)),
        ("emu-race/1 NONE unfixed seed=1", ("no scenario 'NONE'",)),
        ("missing.schedule", ("missing.schedule: No such file",)),
        (MINE, (MINE, "no line of it is a schedule")),
    ],
)
def test_what_is_no_schedule_is_refused(emu: Emu, line: str, words: tuple[str, ...]) -> None:
    refused(emu("replay", line, "--file", MINE), *words)


# --- minimize ---------------------------------------------------------------------------------------------------------


def test_minimize_takes_all_away_that_can_go(emu: Emu) -> None:
    found = emu("run", TWICE, "--strategy", "random", "--seed", "3", "--json").data["schedule"]
    done = emu("minimize", found, "--file", MINE, "--json", "--out", "least")
    data = done.data
    assert done.status == 0 and data["preemptions"] == 2 and data["proven"]
    assert data["switches"] <= data["switches_before"] and set(data["dropped"]) >= {"cpu2", "cpu0.1"}
    least = Path("least").read_text().strip()
    assert least == data["schedule"] and "drop=" in least
    again = emu(*shlex.split(data["next"])[2:], "--json")
    assert again.status == 1 and again.data["verdict"]["invariant"] == "highatomic-counted"


def test_minimize_prints_the_diagram_and_the_command(emu: Emu, schedule: str) -> None:
    done = emu("minimize", schedule, "--file", MINE)
    assert (
        done.status == 0 and "2 switches before, 2 now; 2 preemptions; bounded search finds none with fewer" in done.out
    )
    assert "<preempted>" in done.out and "CPU2" not in done.out
    assert follow(done)[0] == "replay" and "preemptions, fewer do not do" in done.err


def test_there_is_nothing_to_minimize_in_what_does_not_fail(emu: Emu) -> None:
    refused(emu("minimize", "emu-race/1 LOOP fixed seed=1", "--file", MINE), "LOOP", "does not fail")


# --- list, show -------------------------------------------------------------------------------------------------------


def test_list_has_them_all(emu: Emu) -> None:
    done, data = emu("list"), emu("list", "--json").data
    assert done.status == 0 and [race["id"] for race in data["races"]] == list(catalogue())
    rows = {line.split()[0]: line for line in done.out.splitlines() if line[:1] in ("R", "S")}
    assert set(rows) == set(catalogue())
    for race in data["races"]:
        assert (" OPEN " in rows[race["id"]]) == (race["status"] == "open")
        assert not race["commits"] or race["commits"][0] in rows[race["id"]]
    assert follow(done)[0] == "show"


def test_show_tells_the_story_and_how_sure_the_commits_are(emu: Emu) -> None:
    done = emu("show", LOOP)
    assert done.status == 0 and follow(done) == ["run", LOOP]
    for line in (
        "LOOP: a free that never ends", "5.10.262 has the fix.", "  CPU0 frees a page by the old sizes.",
        "  88e8ac11d2ea  mm, page_alloc: fix core hung in free_pcppages_bulk() [V]",
        "  [V]           id and subject were seen together", "  2 CPUs, 1 node", "  Slot 0 has a page.",
        "  cpu1          pagelist_fraction()", "  --unfix R13 takes the fix out; --fix is as 5.10.262 has it",
    ):  # fmt: skip
        assert line in done.out.splitlines(), done.out
    data = emu("show", LOOP, "--json").data
    assert data["commits"][0]["means"] == "id and subject were seen together" and data["switch"] == "R13"


@pytest.mark.parametrize("name", catalogue())
def test_show_knows_each(emu: Emu, name: str) -> None:
    data = emu("show", name, "--json").data
    assert data["id"] == name and all(commit["means"] for commit in data["commits"])
    assert emu("show", name).status == 0


def test_the_source_of_a_scenario_runs(emu: Emu, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(emu("show", "R13", "--source").out)
    assert emu("run", "mine.py").status == 1
    (tmp_path / "at 12:30.py").write_text((tmp_path / "mine.py").read_text())
    assert emu("show", "at 12:30.py:R13", "--json").data["id"] == "R13"
    assert "--file 'at 12:30.py'" in emu("run", "at 12:30.py").out
    assert emu("show", MINE, "--source").out == Path(MINE).read_text()


# --- prove and datarace: begin again in instrumented mode -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.compiled
def test_prove_says_what_is_otherwise(run_emu: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    done = run_emu("race", "prove", LOOP, "--seed", "3", "-q", mode="instrumented")
    assert done.returncode == 0 and done.stdout.startswith("seed 3\n")
    assert "1 scenarios, all as they say" in done.stdout
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from tests.race.planted import LOOP\nSCENARIOS = (LOOP.named(id='MINE', kind='deadlock', preemptions=2),)\n"
    )
    done = run_emu("race", "prove", str(mine), "-q", mode="instrumented")
    assert done.returncode == 1 and "livelock, not deadlock  1 preemptions, not 2" in done.stdout
    assert "1 scenarios, not as they say: MINE" in done.stdout


@pytest.mark.slow
@pytest.mark.compiled
def test_data_races_are_printed_as_kcsan_does(run_emu: Callable[..., CompletedProcess[str]]) -> None:
    """Once each, whichever of the two came first."""
    done = run_emu("race", "datarace", "R13", "-q", mode="instrumented")
    heads = [line for line in done.stdout.splitlines() if line.startswith("BUG: KCSAN: data-race in ")]
    assert done.returncode == 1 and f"seed 1: {len(heads)} data races in R13" in done.stdout
    pairs = [frozenset(line.split(" in ")[1].split(" / ")) for line in heads]
    assert frozenset(("free_pcppages_bulk", "pageset_update")) in pairs and len(set(pairs)) == len(pairs)
    data = json.loads(run_emu("race", "datarace", "R13", "-q", "--json", mode="instrumented").stdout)
    assert len(data["races"]) == len(heads) and data["complete"] and data["next"] == "emu race show R13"


# --- other races' switches --------------------------------------------------------------------------------------------


def test_other_races_are_named_in_the_heading_and_in_the_commands(emu: Emu) -> None:
    done = emu("run", LOOP, "--unfix", "R12", "--fix", "r8")
    assert done.out.startswith("LOOP (without the fix, with a fix of R8, without the fix of R12): ")
    assert follow(done)[2:] == ["--file", MINE, "--fix", "r8", "--unfix", "R12"]
    again = emu("replay", follow(done)[1], *follow(done)[2:])
    assert again.status == 1 and "livelock" in again.out


def test_the_scenarios_own_race_may_be_named(emu: Emu) -> None:
    assert emu("run", LOOP, "--fix", "LOOP", "--schedules", "3").status == 0
    assert emu("explore", LOOP, "--unfix", "R13").status == 1


def test_bits_say_what_is_not_as_in_5_10_262() -> None:
    assert deviation_bits(fix=["R8"], unfix=["r12"]) == R8 | R12
    assert deviation_bits(fix=["R12"], unfix=["R8"]) == 0, "so they are in 5.10.262"
    assert deviation_words(R8 | R12) == ["with a fix of R8", "without the fix of R12"]


def test_a_machine_differs_where_it_is_told_to() -> None:
    config = make_config({"unfix": ["R12"], "fix": ["R8"]}, "machine")
    assert config.tuning().deviations == config.deviations() == R8 | R12
    assert make_config({}, "machine").tuning().deviations == 0
    with pytest.raises(ConfigError, match=r"machine: R999: no race"):
        make_config({"unfix": ["R999"]}, "machine")


@pytest.mark.compiled
def test_emu_run_says_how_its_machine_differs(run_emu: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    args = ("run", "--cpus", "2", "--mem", "64M", "-n", "5000", "--unfix", "R12", "--out", tmp_path / "r", "-q")
    done = run_emu(*args)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("differs from 5.10.262: without the fix of R12\n")
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["deviations"] == ["without the fix of R12"]


def test_a_switch_of_one_scenario_is_for_no_machine() -> None:
    with pytest.raises(ConfigError, match="unfix|R18: acts in its own scenario only") as caught:
        make_config({"unfix": ["R18"]}, "machine")
    assert "\n" not in str(caught.value)
