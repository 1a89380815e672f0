"""How many schedules there are: counted, and by formula. Memory between them."""

from itertools import pairwise
from math import comb, factorial, prod

import pytest

from emu.race.explore import play_batch
from emu.race.ops_litmus import add, increase, require, step, write
from emu.race.players import Players
from emu.race.scenario import ScenarioError
from emu.race.verdict import Verdict
from emu.testing import explore, litmus

pytestmark = pytest.mark.usefixtures("native")


def steps(points: int) -> int:
    """Of a program of so many points: the first step is the one up to the first point."""
    return points + 1


def interleavings(*lengths: int) -> int:
    """Of independent actors with so many steps each."""
    return factorial(sum(lengths)) // prod(factorial(n) for n in lengths)


def words(a: int, b: int, blocks: int) -> int:
    """Interleavings of a and b steps in so many blocks that begin with the first actor."""
    half, more = blocks // 2, blocks % 2
    return comb(a - 1, half + more - 1) * comb(b - 1, half - 1)


@pytest.mark.parametrize("points", [(1,), (1, 1), (2, 3), (1, 1, 1), (2, 1, 1), (0, 0, 1, 1)])
def test_independent_actors_have_as_many_schedules_as_the_multinomial_says(points: tuple[int, ...]) -> None:
    result = explore(litmus(*([step(n)] for n in points)), strategy="exhaustive")
    lengths = [steps(n) for n in points]
    assert result.schedules == interleavings(*lengths)
    assert result.coverage == "exhaustive"
    assert result.steps == result.schedules * sum(lengths)
    assert result.most_steps == sum(lengths)


@pytest.mark.parametrize("bound", range(5))
def test_schedules_within_a_preemption_bound(bound: int) -> None:
    """The last change of actors but one ends somebody's program: r blocks are r - 2 preemptions."""
    a, b = steps(3), steps(2)
    wanted = sum(words(a, b, r) + words(b, a, r) for r in range(2, bound + 3))
    result = explore(litmus([step(3)], [step(2)]), strategy="exhaustive", bound=bound)
    assert result.schedules == wanted
    assert result.coverage == ("exhaustive" if wanted == interleavings(a, b) else f"bounded({bound})")


@pytest.mark.parametrize("delay", range(6))
def test_schedules_within_a_delay_bound(delay: int) -> None:
    """Without a delay the first actor goes on to its end; beginning with the second is one, each preemption is one."""
    a, b = steps(3), steps(2)
    wanted = sum(words(a, b, r) for r in range(2, delay + 3)) + sum(words(b, a, r) for r in range(2, delay + 2))
    result = explore(litmus([step(3)], [step(2)]), strategy="exhaustive", delay=delay)
    assert result.schedules == wanted
    assert result.coverage == ("exhaustive" if wanted == interleavings(a, b) else f"bounded(delays {delay})")


def test_bounds_contain_one_another() -> None:
    scenario = litmus([step(1)], [step(1)], [step(1)])
    counts = [explore(scenario, strategy="exhaustive", bound=bound).schedules for bound in range(4)]
    assert all(less < more for less, more in pairwise(counts))
    assert counts[0] == factorial(3)
    assert counts[-1] == interleavings(2, 2, 2)


@pytest.mark.parametrize("points", [0, 1, 4])
def test_an_interrupt_comes_in_once_before_each_step_or_after_the_last(points: int) -> None:
    result = explore(litmus([step(points)], irqs=[increase(0)]), strategy="exhaustive")
    assert result.schedules == steps(points) + 1


def test_robin_is_one_schedule_and_random_never_ends_by_itself() -> None:
    scenario = litmus([step(1)], [step(1)])
    assert explore(scenario, strategy="robin").schedules == 1
    result = explore(scenario, strategy="random", schedules=300)
    assert (result.schedules, result.coverage) == (300, "sampled(300)")


def test_a_budget_in_schedules_and_in_seconds() -> None:
    scenario = litmus([step(6)], [step(6)], [step(6)])
    result = explore(scenario, strategy="exhaustive", schedules=40)
    assert (result.schedules, result.coverage) == (40, "sampled(40)")
    result = explore(scenario, strategy="exhaustive", seconds=0.05)
    assert result.schedules > 0
    assert result.coverage == f"sampled({result.schedules})"


def test_a_failure_ends_the_search_or_is_counted() -> None:
    """Each program steps up to its read, reads, writes. Of the 20 orders nothing is lost in those in which one has
    written before the other reads: its three steps in a row, and the other's first at any of four places among them."""
    scenario = litmus([add(0)], [add(0)], setup=require(v0=2))
    first = explore(scenario, strategy="exhaustive")
    assert (first.schedules, first.failures, first.verdict.kind) == (2, 1, "invariant")
    every = explore(scenario, strategy="exhaustive", stop_at_failure=False)
    assert (every.schedules, every.failures, every.coverage) == (20, 20 - 2 * 4, "exhaustive")


def test_what_a_strategy_is_called() -> None:
    with pytest.raises(ScenarioError, match=r"strategy 'magic': not one of exhaustive, random"):
        explore(litmus([step(1)]), strategy="magic")


def test_the_result_as_plain_data() -> None:
    result = explore(litmus([add(0)], [add(0)], setup=require(v0=2)), strategy="exhaustive", seed=5)
    data = result.as_dict()
    assert (data["schedules"], data["failures"], data["seed"], data["coverage"]) == (2, 1, 5, "sampled(2)")
    assert data["schedule"] == "emu-race/1 LITMUS unfixed seed=5 cpu0@litmus:write+v0*1>cpu1"
    assert data["verdict"]["invariant"] == "outcome"


# --- memory between schedules -----------------------------------------------------------------------------------------


def test_memory_is_put_back_before_every_schedule() -> None:
    """Two increments make 2 in every schedule, the thousandth as well."""
    result = explore(litmus([increase(0)], [increase(0)], setup=require(v0=2)), schedules=1000)
    assert (result.schedules, result.failures) == (1000, 0)


@pytest.mark.parametrize("schedules", [50, 600])
def test_memory_that_nobody_put_back_is_noticed_and_put_back(schedules: int) -> None:
    """Nobody looks at the first schedules' memory: the second begins in what the first left, and fails for it. That
    failure isn't believed; the chunk is put back from then on."""
    with Players(litmus([increase(0)], [write(1)], setup=require(v0=1))) as players:
        memory = players.arena.memory
        memory.learn_until = 0
        assert memory.nr_dirty == 0
        result = play_batch(players, "random", schedules=schedules)
        assert (result.verdict, result.failures, result.schedules) == (Verdict.fine(), 0, schedules)
        assert memory.nr_dirty > 0


def test_memory_that_was_soiled_by_hand_is_not_trusted() -> None:
    """A chunk that no schedule has changed before: a batch that ends in other memory than it should is played again."""
    with Players(litmus([increase(0)], [step(1)], setup=require(v0=1))) as players:
        assert play_batch(players, "random", schedules=20).verdict.ok
        known = int(players.arena.memory.nr_dirty)
        players.world.page(1000).private += 1
        result = play_batch(players, "random", schedules=30)
        assert (result.schedules, result.verdict) == (30, Verdict.fine())
        assert players.arena.memory.nr_dirty == known + 1
        players.reset()
        assert players.world.page(1000).private == 0
