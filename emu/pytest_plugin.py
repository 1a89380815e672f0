"""pytest options of ``emu.testing.race_test``. Loaded wherever the package is installed, so it imports nothing else."""

import os
from typing import Any

import pytest

VARIABLES = {
    "race_seconds": "EMU_RACE_SECONDS", "race_seed": "EMU_RACE_SEED", "race_replay": "EMU_RACE_REPLAY",
    "race_artifacts": "EMU_RACE_ARTIFACTS",
}  # fmt: skip
OLD = pytest.StashKey[dict[str, str | None]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("race", "races of the page allocator (emu.testing.race_test)")
    group.addoption("--race-seconds", type=float, metavar="S", help="budget of each race test")
    group.addoption("--race-seed", type=int, metavar="N", help="the only seed of each race test")
    group.addoption("--race-replay", metavar="SCHEDULE|FILE", help="play this schedule instead of exploring")
    parser.addini("race_artifacts", "directory for the schedules of race tests that fail", default="")


def pytest_configure(config: pytest.Config) -> None:
    """What race tests look at are environment variables; an option goes before one, one before the ini file."""
    old: dict[str, str | None] = {}
    for name, variable in VARIABLES.items():
        is_ini = name == "race_artifacts"
        value: Any = config.getini(name) if is_ini else config.getoption(name)
        if value in (None, "") or (is_ini and variable in os.environ):
            continue
        old[variable] = os.environ.get(variable)
        os.environ[variable] = str(value)
    config.stash[OLD] = old


def pytest_unconfigure(config: pytest.Config) -> None:
    """The environment as it was."""
    for variable, value in config.stash.get(OLD, {}).items():
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value
