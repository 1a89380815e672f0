"""Explorations in one call: native code is loaded if it isn't, processes come and go with it."""

from typing import Any

from emu.programs import load_all
from emu.race.catalogue import find_scenario
from emu.race.doctor import Diagnosis
from emu.race.doctor import check_determinism as examine
from emu.race.explore import Result
from emu.race.players import Players
from emu.race.scenario import Scenario
from emu.race.spread import spread

__all__ = ["check_determinism", "explore", "scenario_named"]


def scenario_named(scenario: Scenario | str) -> Scenario:
    """A scenario, or that of a name: ``"R8"``, ``"mine.py:LOST"``. Raises ScenarioError.

    >>> scenario_named("r8").id
    'R8'
    """
    return find_scenario(scenario) if isinstance(scenario, str) else scenario


def explore(scenario: Scenario | str, *, unfixed: bool = True, jobs: int = 1, **limits: Any) -> Result:
    """Explore schedules until one fails, all are done or the budget is spent.

    ``strategy``, ``schedules``, ``seconds``, ``seed``, ``bound``, ``depth``, ``stop_at_failure``: as of
    ``emu.race.spread.spread()``. The result is the same for any number of ``jobs``.

    >>> result = explore("R13", strategy="exhaustive", bound=1)
    >>> result.found, result.verdict.kind
    (True, 'livelock')
    >>> explore("R13", unfixed=False, strategy="exhaustive", bound=1).found
    False
    """
    load_all()
    return spread(scenario_named(scenario), unfixed=unfixed, jobs=jobs, **limits)


def check_determinism(
    scenario: Scenario | str, schedules: int = 100, *, unfixed: bool = True, strategy: str = "random", seed: int = 1
) -> Diagnosis:
    """Play schedules twice and compare all that happened and all of memory.

    >>> print(check_determinism("R13", 10, unfixed=False))
    R13: 10 schedules played twice, all identical
    """
    load_all()
    with Players(scenario_named(scenario), unfixed) as players:
        return examine(players, schedules, strategy=strategy, seed=seed)
