"""What each strategy finds, and misses, with the probabilities that it should have.

Seeds are fixed, so a test that has passed passes; the bounds say how surprising it would be if another seed did not.
"""

from math import exp, factorial

import pytest

from emu.race.catalogue import catalogue, find_scenario
from emu.race.explore import Result, play_batch
from emu.race.ops_litmus import add, forbid, increase, read, require, step, write
from emu.race.players import Players
from emu.race.scenario import Scenario
from emu.race.schedule import schedule_of
from emu.testing import explore, litmus

pytestmark = pytest.mark.usefixtures("native")

SAMPLERS = ("random", "pct", "pos", "surw")

# cpu1's first read must come between cpu0's first two writes, its second after the third: two preemptions
TWICE = litmus(
    [write(0, 1), write(0, 0), write(1, 1)], [read(0, 0), read(1, 1)], setup=forbid(r0=1, r1=1), name="TWICE"
)
# whoever has few steps must wait for all steps of the other
STARVED = litmus([step(12), write(0)], [read(0, 0)], setup=forbid(r0=1), name="STARVED")
LOST = litmus([add(0)], [add(0)], setup=require(v0=2), name="LOST")


def sampled(scenario: Scenario | str, strategy: str, schedules: int, depth: int = 3, seed: int = 1) -> Result:
    return explore(
        scenario, strategy=strategy, depth=depth, seed=seed, schedules=schedules, seconds=120, stop_at_failure=False
    )


# --- PCT: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A randomized scheduler with probabilistic guarantees of finding
# bugs", ASPLOS 2010: a bug of depth d among n actors and k steps is hit with a probability of 1 / (n k^(d-1)) at least


def test_the_planted_race_needs_two_preemptions() -> None:
    failures = [
        explore(TWICE, strategy="exhaustive", bound=bound, stop_at_failure=False).failures for bound in range(3)
    ]
    assert failures == [0, 0, 1]


@pytest.mark.parametrize("depth", [1, 2])
def test_pct_without_enough_change_points_never_finds_it(depth: int) -> None:
    """Nobody waits for anybody, so each of d - 1 change points makes at most one preemption: two need d = 3."""
    assert sampled(TWICE, "pct", 2000, depth).failures == 0


def test_pct_3_finds_it_as_often_as_it_promises() -> None:
    """n = 2, k = 7: at least one schedule in 98. Of 2,000 that is 20.4 on average, with a standard deviation of 4.5;
    fewer than 7 would be a chance of 0.0003."""
    result = sampled(TWICE, "pct", 2000)
    assert result.most_steps == 7
    assert result.failures >= 7


@pytest.mark.parametrize(
    ("name", "schedules", "actors", "steps", "least"),
    [
        ("R12", 2_000, 2, 8, 4),  # 15.6 expected
        ("R16b", 4_000, 2, 11, 5),  # 16.5
        ("R9b", 100_000, 3, 66, 1),  # 7.7
    ],
)
def test_pct_of_the_catalogue_races_that_need_two_preemptions(
    name: str, schedules: int, actors: int, steps: int, least: int
) -> None:
    """PCT(2) never has them, PCT(3) in one schedule of n k^2 at least. Fewer than ``least`` would be a chance of less
    than 0.0006 (Poisson)."""
    expected = schedules / (actors * steps**2)
    assert sum(exp(-expected) * expected**k / factorial(k) for k in range(least)) < 0.0006
    assert find_scenario(name).preemptions == 2
    assert sampled(name, "pct", schedules, depth=2).failures == 0
    result = sampled(name, "pct", schedules, depth=3)
    assert result.schedules == schedules and result.most_steps == steps
    assert result.failures >= least


def test_no_other_race_of_the_catalogue_needs_two() -> None:
    assert {name for name, scenario in catalogue().items() if scenario.preemptions >= 2} == {"R12", "R16b", "R9b"}


def test_pct_1_is_the_order_of_priorities() -> None:
    """One actor after the other: of two, one of two orders, each as likely. 1,000 coins, 5 standard deviations."""
    result = sampled(STARVED, "pct", 1000, depth=1)
    assert 500 - 80 < result.failures < 500 + 80


# --- the others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", SAMPLERS)
def test_every_sampler_finds_what_many_schedules_show(strategy: str) -> None:
    """12 of 20 schedules lose an update, and no sampler is blind to them: one in ten at least."""
    result = sampled(LOST, strategy, 300)
    assert result.failures >= 30
    assert result.coverage == "sampled(300)"


def test_a_random_walk_starves_the_short_program() -> None:
    """cpu1 has 2 steps. It stays behind cpu0's 13 steps by 13 tosses of a coin, and one more each for what it may do
    before: 14 in 16,384. The others give each order of the two accesses, or of all events, a chance of its own, and
    find it more often than one in twenty."""
    assert sampled(STARVED, "random", 1000).failures <= 5
    for strategy in ("pct", "pos", "surw"):
        assert sampled(STARVED, strategy, 1000).failures >= 50, strategy


def test_a_random_walk_prefers_nobody() -> None:
    """Two programs of two steps each: whose second step comes first is a coin. 1,000 of them, 5 standard deviations."""
    firsts = sampled(litmus([increase(0)], [read(0, 0)], setup=forbid(r0=0)), "random", 1000).failures
    assert 500 - 80 < firsts < 500 + 80


def test_robin_takes_turns() -> None:
    with Players(litmus([step(2)], [step(2)], [step(2)])) as players:
        play_batch(players, "robin")
        actors = [players.baton.log[i].actor for i in range(players.baton.steps)]
    assert actors == [0, 1, 2] * 3


# --- seeds ------------------------------------------------------------------------------------------------------------


def lines(strategy: str, seed: int, count: int = 8) -> list[str]:
    """The first schedules of an exploration."""
    with Players(litmus([step(4)], [step(4)], [step(4)])) as players:
        found = []
        for i in range(1, count + 1):
            play_batch(players, strategy, seed=seed, schedules=i)
            found.append(str(schedule_of(players)))
        return found


@pytest.mark.parametrize("strategy", SAMPLERS)
def test_the_same_seed_is_the_same_schedules(strategy: str) -> None:
    assert lines(strategy, 7) == lines(strategy, 7)


@pytest.mark.parametrize("strategy", SAMPLERS)
def test_another_seed_is_others(strategy: str) -> None:
    assert lines(strategy, 7) != lines(strategy, 8)


@pytest.mark.parametrize("strategy", SAMPLERS)
def test_schedules_of_one_exploration_differ(strategy: str) -> None:
    """Of 34,650 schedules, or of the 6 orders and some hundred places of change points of PCT(3)."""
    assert len(set(lines(strategy, 7))) >= 4
