"""All scenarios, and those of a user's own file."""

import importlib
import importlib.util
import pkgutil
import re
from functools import cache
from pathlib import Path

from emu.race import scenarios
from emu.race.scenario import Scenario, ScenarioError

__all__ = ["catalogue", "file_of", "find_scenario", "load_file"]


def _order(scenario: Scenario) -> tuple[str, int, str]:
    letters, number, rest = re.fullmatch(r"([A-Z]+)(\d+)(\w*)", scenario.id).groups()  # type: ignore[union-attr]
    return letters, int(number), rest


@cache
def catalogue() -> dict[str, Scenario]:
    """The scenarios that come with the program, by id."""
    found: list[Scenario] = []
    for module in pkgutil.iter_modules(scenarios.__path__):
        found += importlib.import_module(f"{scenarios.__name__}.{module.name}").SCENARIOS
    return {scenario.id: scenario for scenario in sorted(found, key=_order)}


def file_of(name: str) -> tuple[Path | None, str]:
    """``mine.py:LOST`` as a file and an id, which is empty where only the file is named. No file: (None, the name)."""
    match = re.fullmatch(r"(.+\.py)(?::(.*))?", name)
    return (Path(match[1]), match[2] or "") if match else (None, name)


def find_scenario(name: str) -> Scenario:
    """By id, or from a file: ``R8``, ``mine.py``, ``mine.py:LOST``. Raises ScenarioError."""
    known = catalogue()
    by_upper = {id_.upper(): id_ for id_ in known}
    if name.upper() in by_upper:
        return known[by_upper[name.upper()]]
    path, which = file_of(name)
    if path is not None:
        mine = {scenario.id: scenario for scenario in load_file(path)}
        if which and which not in mine:
            raise ScenarioError(f"{path}: no scenario {which!r}; there are {', '.join(mine)}")
        return mine[which] if which else next(iter(mine.values()))
    raise ScenarioError(f"{name}: no such race; there are {', '.join(known)}")


def load_file(path: Path) -> tuple[Scenario, ...]:
    """The ``SCENARIOS`` of a Python file."""
    if not path.is_file():
        raise ScenarioError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ScenarioError:
        raise
    except (Exception, SystemExit) as err:
        raise ScenarioError(f"{path}: {type(err).__name__}: {err}") from err
    found = getattr(module, "SCENARIOS", None)
    if not isinstance(found, tuple | list) or not found or not all(isinstance(s, Scenario) for s in found):
        raise ScenarioError(f"{path}: has no SCENARIOS, a tuple of emu.race.scenario.Scenario")
    return tuple(found)
