"""Which variant of each race a machine has: as 5.10.262 has it, with a fix taken out, with a fix put in.

``Machine.deviations`` has a bit for each race: of one that 5.10.262 has a fix for it takes the fix out, of one that is
open there it puts a fix in (``emu.zone.deviations``). Which of the two it is, the catalogue's scenarios say.
"""

from collections.abc import Iterable
from dataclasses import replace

from emu.race.catalogue import catalogue
from emu.race.scenario import OPEN, PLANTED, Scenario, ScenarioError
from emu.zone.deviations import RACES

__all__ = ["OWN", "chosen", "deviation_bits", "deviation_words", "own_variant", "variant_words"]

SCHEDULED_ONLY = {"R18"}  # its variant is set up by the scenario: interrupts that the pcp lists don't keep out
OWN = "own"  # stands for the scenario's own race


def _open_races() -> dict[str, bool]:
    """Races with a switch that a scenario shows: whether 5.10.262 lacks a fix."""
    return {s.switch: s.status == OPEN for s in catalogue().values() if s.switch}


def _race(name: str) -> str:
    """The switch that a name stands for: its own, or that of the scenario."""
    races = {race.upper(): race for race in _open_races()}
    ids = {s.id.upper(): s.switch for s in catalogue().values() if s.switch}
    known = {**ids, **races}
    if name.upper() not in known:
        raise ScenarioError(f"{name}: no race that the model has both variants of; there are {', '.join(RACES)}")
    return known[name.upper()]


def deviation_bits(fix: Iterable[str] = (), unfix: Iterable[str] = ()) -> int:
    """``Machine.deviations`` for a machine with these fixes, and without those. Raises ScenarioError."""
    with_fix, without = {_race(name) for name in fix}, {_race(name) for name in unfix}
    if both := with_fix & without:
        raise ScenarioError(f"{', '.join(sorted(both))}: both with the fix and without it")
    is_open = _open_races()
    # the bit says that the machine isn't as 5.10.262 has it
    changed = [race for race in with_fix if is_open[race]] + [race for race in without if not is_open[race]]
    if found := SCHEDULED_ONLY.intersection(changed):
        raise ScenarioError(f"{found.pop()}: acts in its own scenario only; emu stress irq --unsafe shows it elsewhere")
    return sum(1 << RACES.index(race) for race in changed)


def deviation_words(bits: int) -> list[str]:
    """``without the fix of R12``, ``with a fix of R8``: a word for each bit."""
    status = {s.switch: s.status for s in catalogue().values()}
    words = {OPEN: "with a fix of", PLANTED: "with the planted bug of"}
    return [
        f"{words.get(status.get(race, ''), 'without the fix of')} {race}"
        for i, race in enumerate(RACES)
        if bits >> i & 1
    ]


def own_variant(scenario: Scenario) -> bool:
    """Whether the scenario's race is there (``unfixed``) in 5.10.262 as it is."""
    return not scenario.switch or scenario.status == OPEN


def variant_words(scenario: Scenario, unfixed: bool) -> str:
    """The variant that is played, in words."""
    if not scenario.switch or unfixed == own_variant(scenario):
        return "as 5.10.262 has it"
    if scenario.status == PLANTED:
        return "with the planted bug"
    return "without the fix" if unfixed else "with a fix that 5.10.262 hasn't"


def chosen(
    scenario: Scenario, fix: Iterable[str], unfix: Iterable[str], unfixed: bool
) -> tuple[Scenario, bool, list[str]]:
    """The scenario and its variant, by the names of races that are to be with a fix or without; ``unfixed``: unless
    they say otherwise. The list: options that say the same about other races than its own. Raises ScenarioError."""
    own = {OWN.upper(), scenario.id.upper(), scenario.switch.upper()}
    names = {"--fix": list(fix), "--unfix": list(unfix)}
    asked = {option for option, given in names.items() if any(name.upper() in own for name in given)}
    if asked and not scenario.switch:
        raise ScenarioError(f"{scenario.id}: it has one variant; the model has no switch for it")
    if len(asked) == 2:
        raise ScenarioError(f"{scenario.id}: both with the fix and without it")
    others = {option: [name for name in given if name.upper() not in own] for option, given in names.items()}
    bits = deviation_bits(others["--fix"], others["--unfix"])
    if bits:
        scenario = replace(scenario, tuning=replace(scenario.tuning, deviations=scenario.tuning.deviations | bits))
    options = [word for option, given in others.items() for name in given for word in (option, name)]
    return scenario, asked == {"--unfix"} if asked else unfixed, options
