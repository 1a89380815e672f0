"""A schedule as text: read, written, replayed, refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.race.explore import play_batch
from emu.race.ops_litmus import add, forbid, increase, lock, read, require, step, unlock, write
from emu.race.plan import MAX_SWITCHES
from emu.race.players import Players
from emu.race.replay import ReplayDrift, record, replay
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import VERSION, Schedule, Switch, actor_name, actor_number, schedule_of, site_number
from emu.testing import litmus
from shm.point import site_names

pytestmark = pytest.mark.usefixtures("native")

LOST = litmus([add(0)], [add(0)], setup=require(v0=2), name="LOST")
LINE = "emu-race/1 LOST unfixed seed=3 cpu0@litmus:write+v0*1>cpu1"

NAMES = st.sampled_from([name for _, name in site_names()] + ["start", "end"])
ACTORS = st.sampled_from(["start", "cpu0", "cpu12", "irq3", "work0", "kswapd0", "oom_reaper"])
SWITCHES = st.builds(Switch, ACTORS, NAMES, st.integers(1, 10_000), ACTORS)


@given(st.booleans(), st.integers(0, (1 << 62) - 1), st.lists(SWITCHES, max_size=8))
def test_text_and_schedule_are_the_same(unfixed: bool, seed: int, switches: list[Switch]) -> None:
    schedule = Schedule("R12b", unfixed, seed, tuple(switches))
    text = str(schedule)
    assert Schedule.parse(text) == schedule
    assert str(Schedule.parse(text)) == text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "does not begin with"),
        ("emu-race R8 unfixed seed=1", "does not begin with"),
        ("emu-race/1 R8 broken seed=1", "does not begin with"),
        ("emu-race/1 R8 fixed seed=x", "does not begin with"),
        ("emu-race/2 R8 fixed seed=1", "version emu-race/2, this program knows emu-race/1"),
        ("emu-race/1 R8 fixed seed=1 cpu0", "'cpu0' is no switch such as cpu0@rmqueue_bulk:lock"),
        ("emu-race/1 R8 fixed seed=1 cpu0@start>cpu1", "is no switch"),
        ("emu-race/1 R8 fixed seed=1 cpu0@start*one>cpu1", "is no switch"),
        ("emu-race/1 R8 fixed seed=1 cpu0@start*0>cpu1", "is no switch"),
        ("emu-race/1 R8 fixed seed=1 cpu0@start*4294967297>cpu1", "is no switch"),
        (f"emu-race/1 R8 fixed seed={'9' * 5000}", "does not begin with"),
    ],
)
def test_text_that_is_no_schedule(text: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=told) as caught:
        Schedule.parse(text)
    assert "\n" not in str(caught.value)


def test_white_space_does_not_matter() -> None:
    assert Schedule.parse(f"  {LINE.replace(' ', chr(10), 2)}\n") == Schedule.parse(LINE)


def test_every_actor_of_a_scenario_has_a_name() -> None:
    for actor in (-1, 0, 1, 16, 17, 32, 33, 2, 3):
        assert actor_number(LOST, actor_name(LOST, actor)) == actor
    assert [actor_name(LOST, n) for n in (-1, 0, 16, 33, 2, 3)] == [
        "start",
        "cpu0",
        "irq0",
        "work1",
        "kswapd0",
        "kcompactd0",
    ]
    with pytest.raises(ScenarioError, match="has no actor 'cpu7'"):
        actor_number(LOST, "cpu7")


def test_points_are_known_by_name() -> None:
    assert dict(site_names())[site_number("litmus:write v0")] == "litmus:write v0"
    with pytest.raises(ScenarioError, match="there is no point 'litmus:wriet'"):
        site_number("litmus:wriet")


# --- replay -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw", "robin"])
def test_a_schedule_of_any_strategy_is_replayed_by_its_text(strategy: str) -> None:
    """With locks, an interrupt and waiting in between: the same steps, the same memory, the same text again."""
    scenario = litmus(
        [lock(0), add(0), unlock(0), step(1)], [lock(0), add(0), unlock(0)], irqs=[increase(0)], name="LOCKED"
    )
    with Players(scenario) as players:
        for seed in range(10):
            play_batch(players, strategy, seed=seed, schedules=1)
            line, digest = str(schedule_of(players, seed)), players.digest()
            log = [(s.actor, s.site, s.enabled) for s in players.baton.log[: players.baton.steps]]
            replay(players, Schedule.parse(line))
            assert str(schedule_of(players, seed)) == line
            assert players.digest() == digest
            assert [(s.actor, s.site, s.enabled) for s in players.baton.log[: players.baton.steps]] == log


def test_step_by_step_is_as_at_full_speed() -> None:
    with Players(LOST) as players:
        at_once = replay(players, Schedule.parse(LINE))
        digest = players.digest()
        recording = record(players, Schedule.parse(LINE))
    assert recording.verdict == at_once.verdict
    assert recording.digest == digest
    assert [(seen.actor, seen.point) for seen in recording.steps] == [
        ("cpu0", "start"), ("cpu0", "litmus:read v0"), ("cpu1", "start"), ("cpu1", "litmus:read v0"),
        ("cpu1", "litmus:write v0"), ("cpu0", "litmus:write v0"),
    ]  # fmt: skip
    assert [seen.preempts for seen in recording.steps] == ["", "", "cpu0", "", "", ""]


@pytest.mark.parametrize(
    "programs",
    [
        ([step(3), add(0)], [add(0)]),
        ([add(0), step(2)], [step(1), add(0)]),
        ([read(5, 5), add(0), write(4)], [write(4), read(5, 6), add(0), step(1)]),
    ],
    ids=["before", "around", "everywhere"],
)
def test_points_elsewhere_do_not_matter(programs: tuple[list, list]) -> None:
    """Ten unrelated points more, the same line: the same failure."""
    changed = litmus(*programs, setup=require(v0=2), name="LOST")
    with Players(changed) as players:
        result = replay(players, Schedule.parse(LINE))
    assert (result.verdict.kind, result.verdict.invariant) == ("invariant", "outcome")


def test_the_same_point_more_often_is_another_visit() -> None:
    """An access to the same variable before it: the line means that one now."""
    changed = litmus([write(0, 5), add(0)], [read(0, 0)], setup=forbid(r0=5), name="LOST")
    with Players(changed) as players:
        assert replay(players, Schedule.parse(LINE)).verdict.ok
        assert not replay(players, Schedule.parse(LINE.replace("*1>", "*2>"))).verdict.ok


DRIFTS = [
    ("LOST", "cpu0@litmus:write+v3*1>cpu1", r"switch 1 of 1, cpu0@litmus:write\+v3\*1>cpu1: never came; cpu0 went on"),
    ("LOST", "cpu0@litmus:write+v0*2>cpu1", r"switch 1 of 1, .*: never came; cpu0 went on to end"),
    (
        "LOST", "cpu0@litmus:write+v0*1>cpu1 cpu1@litmus:write+v0*3>cpu0",
        r"switch 2 of 2, cpu1@litmus:write\+v0\*3>cpu0: never came; cpu1 went on to end",
    ),
    ("HELD", "cpu0@litmus:step*1>cpu1 cpu0@litmus:step*2>cpu1",
     r"switch 2 of 2, .*: cpu1 can't go on there, it stands at litmus:lock zone"),
    ("BOTH", "cpu0@litmus:step*1>cpu1 cpu0@litmus:step*2>cpu1", r"switch 2 of 2, .*: cpu1 could not go on there"),
]  # fmt: skip
SCENARIOS: dict[str, Scenario] = {
    "LOST": LOST,
    "BOTH": litmus([lock(0), step(2), unlock(0)], [lock(0), unlock(0)], name="BOTH"),
    "HELD": litmus([lock(0), step(2), unlock(0)], [lock(0), unlock(0)], [step(1)], name="HELD"),
}


@pytest.mark.parametrize(("name", "switches", "told"), DRIFTS, ids=["elsewhere", "later", "second", "held", "both"])
def test_what_cannot_be_played_as_written_is_said(name: str, switches: str, told: str) -> None:
    with Players(SCENARIOS[name]) as players:
        with pytest.raises(ReplayDrift, match=told) as caught:
            replay(players, Schedule.parse(f"emu-race/1 {name} unfixed seed=1 {switches}"))
        assert "\n" not in str(caught.value)
        assert replay(players, Schedule(name, True, 1, ())).verdict.ok  # and the players are as good as before


def test_lenient_leaves_out_what_never_comes() -> None:
    line = "emu-race/1 LOST unfixed seed=3 cpu0@litmus:step*1>cpu1 cpu0@litmus:write+v0*1>cpu1 cpu1@end*7>cpu0"
    with Players(LOST) as players:
        assert not replay(players, Schedule.parse(line), lenient=True).verdict.ok
        assert str(schedule_of(players, 3)) == LINE


def test_a_schedule_of_another_scenario_is_refused() -> None:
    with Players(LOST) as players:
        with pytest.raises(ScenarioError, match="it is one of R8, not of LOST"):
            replay(players, Schedule.parse("emu-race/1 R8 unfixed seed=1"))
        with pytest.raises(ScenarioError, match="has no actor 'cpu9'"):
            replay(players, Schedule.parse("emu-race/1 LOST unfixed seed=1 cpu9@start*1>cpu0"))
        many = replace(Schedule.parse(LINE), switches=Schedule.parse(LINE).switches * (MAX_SWITCHES + 1))
        with pytest.raises(ScenarioError, match=f"{MAX_SWITCHES + 1} switches, {MAX_SWITCHES} is the most"):
            replay(players, many)


def test_the_version_is_part_of_the_line() -> None:
    assert LINE.startswith(f"{VERSION} ")
