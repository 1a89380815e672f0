"""The examples in the docstrings of ``emu.testing`` are run."""

import doctest
import importlib
import pkgutil
from typing import Any

import pytest

import emu.testing

MODULES = ["emu.testing", *(f"emu.testing.{module.name}" for module in pkgutil.iter_modules(emu.testing.__path__))]
PUBLIC = {name: getattr(emu.testing, name) for name in emu.testing.__all__}


def examples() -> list[Any]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        found += [test for test in finder.find(module, extraglobs=PUBLIC) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name.removeprefix("emu.testing."))
def test_an_example_says_what_happens(example: doctest.DocTest) -> None:
    told: list[str] = []
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=told.append)
    assert results.failed == 0, "".join(told)


@pytest.mark.parametrize("name", ["race_test", "Sequencer", "Clock", "litmus", "explore", "check_determinism"])
def test_every_tool_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(emu.testing, name).__doc__ or "")
