"""An order of CPUs, forced by hand."""

from collections.abc import Callable

import pytest

from emu.race.ops_litmus import add, crash, increase, lock, nap, read, require, retry, signal, spin, step, unlock, write
from emu.race.players import Players
from emu.race.replay import replay
from emu.testing import Scenario, ScenarioError, Schedule, Sequencer, litmus, small

LOST = litmus([add(0)], [add(0)], setup=require(v0=2), name="LOST")


def test_a_lost_update_in_the_one_order_that_loses_it() -> None:
    with Sequencer(LOST) as s:
        assert s.run("cpu0", until="litmus:write v0") == "litmus:write v0"
        assert s.run("cpu1") == "end"
        assert s.world.area.variables[0].value == 1
        assert s.run("cpu0") == "end"
        assert s.world.area.variables[0].value == 1
        assert s.finish().kind == "invariant"
        assert s.verdict is not None and s.verdict.invariant == "outcome"


def test_the_other_order_is_fine_in_the_same_processes() -> None:
    with Sequencer(LOST) as s:
        s.run("cpu0", until="litmus:write v0")
        s.restart()
        assert s.where("cpu0") == "start"
        assert s.world.area.variables[0].value == 0
        assert s.run("cpu0") == "end"
        s.run("cpu1")
        assert s.finish().ok
        s.restart()
        s.run("cpu1", until="litmus:write v0")
        s.run("cpu0")
        assert not s.finish().ok


def test_the_schedule_of_a_sequence_is_replayed_at_full_speed() -> None:
    with Sequencer(LOST) as s:
        s.run("cpu1", until="litmus:write v0")
        s.run("cpu0")
        verdict = s.finish()
        line = str(s.schedule)
    assert line == "emu-race/1 LOST unfixed seed=0 start@start*1>cpu1 cpu1@litmus:write+v0*1>cpu0"
    with Players(LOST) as players:
        assert replay(players, Schedule.parse(line)).verdict == verdict


def test_the_window_of_a_race_of_the_catalogue() -> None:
    """kswapd has read the request and not reset it yet: what is asked for in between is lost; asked before or after,
    it isn't."""
    for unfixed, kind in ((True, "invariant"), (False, "ok")):
        with Sequencer("R8", unfixed=unfixed) as s:
            s.run("cpu0")
            s.run("kswapd0", until="kswapd_try_to_sleep:prepare_to_wait nap")
            s.run("cpu1")
            assert s.finish().kind == kind


def test_visits_are_counted_from_now_on() -> None:
    with Sequencer(litmus([step(5)])) as s:
        s.run("cpu0", until="litmus:step", visit=2)
        s.run("cpu0", until="litmus:step", visit=3)
        assert s.step("cpu0") == "end"


def test_a_lock_is_waited_for_and_its_holder_named() -> None:
    scenario = litmus([lock(0), step(1), unlock(0)], [lock(0), unlock(0)])
    with Sequencer(scenario) as s:
        s.run("cpu0", until="litmus:step")
        assert s.run("cpu1") == "litmus:lock zone"
        assert s.waiting == {"cpu1": "node0 Normal.lock, held by cpu0"}
        with pytest.raises(ScenarioError, match=r"cpu1 can't make a step at litmus:lock zone: .*held by cpu0"):
            s.step("cpu1")
        s.run("cpu0")
        assert s.enabled == ("cpu1",)
        assert s.finish().ok


def test_all_others_go_on_until_they_are_blocked() -> None:
    with Sequencer(litmus([nap(0)], [nap(0)], [signal(0)])) as s:
        assert set(s.run_until_blocked("cpu0", "cpu1")) == {"cpu0", "cpu1"}
        assert s.where("cpu2") == "start"
        assert s.run_until_blocked() == {}
        assert s.finish().ok


def test_a_deadlock_is_what_remains() -> None:
    scenario = litmus([lock(0), lock(1)], [lock(1), lock(0)])
    with Sequencer(scenario) as s:
        s.run("cpu0", until="litmus:lock lru")
        s.run("cpu1", until="litmus:lock zone")
        assert s.run_until_blocked() == {
            "cpu0": "node0.lru_lock, held by cpu1",
            "cpu1": "node0 Normal.lock, held by cpu0",
        }
        assert s.finish().kind == "deadlock"


def test_an_interrupt_is_an_actor() -> None:
    scenario = litmus([add(0)], irqs=[increase(0)], setup=require(v0=2))
    with Sequencer(scenario) as s:
        s.run("cpu0", until="litmus:write v0")
        assert s.run("irq0") == "end"
        assert s.world.area.variables[0].value == 1
        assert s.finish().kind == "invariant"
        assert "cpu0@litmus:write+v0*1>irq0" in str(s.schedule)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda s: s.run("cpu7"), r"no actor 'cpu7'; there are cpu0, cpu1"),
        (lambda s: s.run("cpu0", until="litmus:writ v0"), r"no point 'litmus:writ v0'; do you mean 'litmus:write v0'"),
        (lambda s: s.run("cpu0", until="litmus:step"), r"cpu0 never came to litmus:step: it stands at end"),
        (lambda s: s.run("cpu0", until="litmus:read v0", visit=2), r"cpu0 1 times at litmus:read v0: it stands at end"),
        (lambda s: (s.run("cpu0"), s.step("cpu0")), r"cpu0 can't make a step at end: it has ended"),
        (lambda s: (s.finish(), s.step("cpu0")), r"the schedule is finished; restart\(\) begins another"),
    ],
)
def test_what_cannot_be_is_one_line(act: Callable[[Sequencer], object], told: str) -> None:
    with Sequencer(LOST) as s, pytest.raises(ScenarioError, match=told) as caught:
        act(s)
    assert "\n" not in str(caught.value)


def test_without_a_with_block_there_is_nothing() -> None:
    for act in (lambda s: s.step("cpu0"), lambda s: s.where("cpu0"), lambda s: s.restart()):
        with pytest.raises(ScenarioError, match="with Sequencer"):
            act(Sequencer(LOST))


def test_a_process_that_dies_is_said_and_replaced() -> None:
    with Sequencer(litmus([crash()], [write(0)])) as s:
        s.run("cpu0", until="litmus:fault")
        with pytest.raises(ScenarioError, match="did not come back"):
            s.step("cpu0")
        s.restart()
        assert s.run("cpu1") == "end"


def test_loops_that_wait_end_where_they_wait() -> None:
    with Sequencer(litmus([spin(0)], [retry(0)], [write(0)])) as s:
        assert set(s.run_until_blocked("cpu0", "cpu1")) == {"cpu0", "cpu1"}
        s.run("cpu2")
        assert s.finish().ok


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_stands_still_while_somebody_can_go_on() -> None:
    with Sequencer(litmus([nap(0, ns=700)], [step(3)])) as s:
        s.run("cpu0", until="sleep")
        assert (s.clock.now, s.clock.deadlines) == (0, {"cpu0": 700})
        s.run("cpu1", until="litmus:step", visit=3)
        assert s.clock.now == 0
        s.step("cpu1")
        assert s.enabled == ("cpu0",)  # nobody else can: the deadline is reached
        assert s.clock.now == 700
        assert s.finish().ok
        assert s.schedule.switches == ()


def test_time_moved_by_hand_is_in_no_schedule() -> None:
    with Sequencer(litmus([nap(0, ns=700)], [signal(0)])) as s:
        s.run("cpu0", until="sleep")
        assert s.clock.advance(100) == 100
        assert s.enabled == ("cpu1",)
        assert s.clock.advance() == 700
        assert s.enabled == ("cpu0", "cpu1")
        with pytest.raises(ScenarioError, match="moved by hand"):
            _ = s.schedule
        with pytest.raises(ScenarioError, match="nobody waits for a later time than 700 ns"):
            s.clock.advance()
        with pytest.raises(ScenarioError, match="time goes forward"):
            s.clock.advance(-1)
        assert s.finish().ok
        s.restart()
        assert s.clock.now == 0


def test_a_scenario_that_cannot_be_leaves_nothing() -> None:
    broken = Scenario("X", "t", "s", small(), {"cpu9": ()}, ())
    with pytest.raises(ScenarioError, match="no actor 'cpu9'"):
        Sequencer(broken).__enter__()
    with pytest.raises(ScenarioError, match="no such race"):
        Sequencer("R999")


def test_reading_is_reading() -> None:
    with Sequencer(litmus([write(3, 7)], [read(3, 2)])) as s:
        s.run("cpu0")
        s.run("cpu1")
        assert s.world.area.variables[8 + 2].value == 7
