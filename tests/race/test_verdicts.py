"""Every way in which a schedule can end, each planted, and what is said of it."""

import os
import signal

import pytest

import emu.race.players
from emu.race.explore import Result, play_batch
from emu.race.invariants_litmus import outcome
from emu.race.ops_litmus import (
    add,
    crash,
    hang,
    increase,
    lock,
    nap,
    read,
    require,
    retry,
    spin,
    step,
    unlock,
    write,
)  # fmt: skip
from emu.race.ops_litmus import (
    signal as wake,
)
from emu.race.players import Players
from emu.race.replay import record, replay
from emu.race.scenario import Scenario
from emu.testing import explore, litmus
from shm.baton import VERDICTS

pytestmark = pytest.mark.usefixtures("native")


def searched(scenario: Scenario) -> Result:
    return explore(scenario, strategy="exhaustive")


def test_an_invariant_at_rest() -> None:
    verdict = searched(litmus([add(0)], [add(0)], setup=require(v0=2))).verdict
    assert (verdict.kind, verdict.invariant, verdict.value) == ("invariant", "outcome", 1)
    assert str(verdict) == "invariant: the variables are not as they must be in the end (found 1)"
    assert not verdict.ok


def test_an_invariant_at_every_point() -> None:
    """v0 is 1 for one step only: at rest nobody would notice. The verdict names whose step broke it."""
    from dataclasses import replace

    always = replace(outcome, always=True)
    scenario = litmus([write(0, 1), write(0, 0)], [step(1)], setup=require(v0=0))
    assert searched(scenario).coverage == "exhaustive"
    found = searched(scenario.named(invariants=(always,)))
    assert (found.verdict.kind, found.verdict.who) == ("invariant", "cpu0")


def test_a_deadlock_says_who_waits_for_what_and_who_has_it() -> None:
    abba = litmus([lock(0), lock(1), unlock(1), unlock(0)], [lock(1), lock(0), unlock(0), unlock(1)])
    verdict = searched(abba).verdict
    assert verdict.kind == "deadlock"
    assert verdict.text == (
        "cpu0 waits for node0.lru_lock, held by cpu1; cpu1 waits for node0 Normal.lock, held by cpu0"
    )


def test_locks_in_one_order_have_none() -> None:
    order = litmus([lock(0), lock(1), unlock(1), unlock(0)], [lock(0), lock(1), unlock(1), unlock(0)])
    result = searched(order)
    assert (result.coverage, result.failures) == ("exhaustive", 0)


def test_a_task_that_waits_for_its_own_interrupt_is_a_deadlock() -> None:
    """An interrupt takes the lock that the task below it holds, if that left interrupts on. It doesn't: locks keep
    interrupts off. The interrupt comes before, or after."""
    result = searched(litmus([lock(0), step(1), unlock(0)], irqs=[lock(0), unlock(0)]))
    assert (result.coverage, result.failures) == ("exhaustive", 0)


def test_a_lost_wakeup_is_told_from_a_deadlock() -> None:
    """Careless: the condition is looked at before going on the queue, and the wake-up comes in between."""
    verdict = searched(litmus([nap(0, careful=0)], [wake(0)])).verdict
    assert verdict.kind == "lost wake-up"
    assert verdict.text == "cpu0 waits for node0.pfmemalloc_wait: no wake-up"
    assert searched(litmus([nap(0)], [wake(0)])).coverage == "exhaustive"


def test_nobody_wakes_whom_nobody_knows() -> None:
    assert searched(litmus([nap(0)], [step(1)])).verdict.kind == "lost wake-up"


def test_a_timeout_ends_a_lost_wakeup() -> None:
    result = searched(litmus([nap(0, careful=0, ns=1_000_000)], [wake(0)]))
    assert (result.coverage, result.failures) == ("exhaustive", 0)


def test_a_livelock_names_the_head_of_the_loop() -> None:
    verdict = searched(litmus([retry(0)], [step(2)])).verdict
    assert (verdict.kind, verdict.who) == ("livelock", "cpu0")
    assert verdict.text == "cpu0 comes to litmus:retry again and again, and finds everything as it was"


def test_two_that_begin_again_because_of_each_other() -> None:
    assert searched(litmus([retry(0)], [retry(1)])).verdict.kind == "livelock"


def test_a_loop_that_somebody_ends_is_none() -> None:
    """No schedule of a loop that waits for another's write is a livelock, however long the other one is kept waiting: a
    repeated state makes the loop stand back. Nor is it one that the other comes to the same point twice, over the same
    memory, on a straight way."""
    result = searched(litmus([retry(0)], [step(2), write(0)]))
    assert (result.coverage, result.failures) == ("exhaustive", 0)


def test_a_spin_that_nobody_ends_is_a_deadlock() -> None:
    verdict = searched(litmus([spin(0)], [step(1)])).verdict
    assert verdict.kind == "deadlock"
    assert "cpu0 waits for what nobody changes: it spins after litmus:read v0" in verdict.text
    assert searched(litmus([spin(0)], [step(1), write(0)])).coverage == "exhaustive"


def test_too_many_steps() -> None:
    scenario = litmus([step(30)], [step(30)]).named(max_steps=20)
    verdict = explore(scenario, strategy="random").verdict
    assert (verdict.kind, verdict.text) == ("too many steps", "more than 20 steps")


# --- processes that are gone, or stuck --------------------------------------------------------------------------------


def test_a_process_that_dies_is_a_verdict_with_a_schedule() -> None:
    result = searched(litmus([step(1), crash()], [step(1)]))
    assert (result.verdict.kind, result.verdict.who, result.failures) == ("crash", "cpu0", 1)
    assert result.verdict.text == "a process died after cpu0 went on from litmus:fault"
    assert result.schedule is not None


def test_others_play_on_after_one_has_died() -> None:
    """The failure is replayed by processes that are made anew, and dies again; then another batch is as good as
    ever."""
    with Players(litmus([increase(0), crash()], [increase(0)])) as players:
        result = play_batch(players, "random")
        assert result.verdict.kind == "crash"
        assert result.schedule is not None
        pids = set(players.pids.values())
        assert replay(players, result.schedule).verdict == result.verdict
        assert not pids & set(players.pids.values())
        recording = record(players, result.schedule)
        assert recording.verdict == result.verdict
        assert recording.steps[-1].point == "litmus:fault"


def test_a_process_that_is_killed_between_schedules() -> None:
    with Players(litmus([step(2)], [step(2)])) as players:
        assert play_batch(players, "random", schedules=5).verdict.ok
        os.kill(next(iter(players.pids.values())), signal.SIGKILL)
        assert play_batch(players, "random", schedules=50).verdict.kind == "crash"
        assert play_batch(players, "random", schedules=50).verdict.ok


def test_a_process_that_comes_to_no_point_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emu.race.players, "HANG_S", 0.2)
    result = searched(litmus([hang()], [read(0, 0)]))
    assert (result.verdict.kind, result.verdict.who) == ("hang", "cpu0")
    assert result.verdict.text == "cpu0 went on from litmus:fault and reaches no other point"


def test_every_verdict_has_been_seen_here() -> None:
    """All but the one that strategies give themselves."""
    seen = {"ok", "invariant", "deadlock", "livelock", "lost wake-up", "too many steps", "crash", "hang"}
    assert set(VERDICTS) - seen == {"pruned"}
