"""Reports of planted races, and of steps that nobody has played."""

from typing import Any

from emu.race.hunt import hunt
from emu.race.players import Players
from emu.race.replay import Recording, Seen, record
from emu.race.report import Report
from emu.race.scenario import Scenario, small
from emu.race.verdict import Verdict


def found(scenario: Scenario) -> Report:
    with Players(scenario) as players:
        search = hunt(players, seconds=60)
        assert search.found and search.found.schedule and search.preemptions == scenario.preemptions and search.fewest
        return Report(record(players, search.found.schedule), scenario)


def played(scenario: Scenario, *steps: Seen, verdict: Verdict | None = None) -> Report:
    """A report of steps that nobody has played."""
    verdict = verdict or Verdict.fine()
    schedule = f"emu-race/1 {scenario.id} unfixed seed=1"
    return Report(Recording(scenario.id, scenario.title, True, schedule, verdict, list(steps)), scenario)


def bare(cpus: int = 2, **programs: Any) -> Scenario:
    return Scenario("X1", "a title", "a story", small(cpus), programs or {"cpu0": ()}, ())
