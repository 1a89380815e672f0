"""Fixtures of the tests of shm."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shm.segment import PREFIX, directory
from shm.struct import Struct
from tests.shm.helpers import Crew


@pytest.fixture
def crew() -> Iterator[Callable[..., Crew]]:
    """``crew(kind, parties, **settings)``: processes over a segment, all ended and removed afterwards."""
    made: list[Crew] = []

    def make(kind: type[Struct], parties: int = 3, **settings: Any) -> Crew:
        made.append(Crew(kind, parties, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a child or a segment behind."""
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert not list(directory().glob(f"{PREFIX}{os.getpid()}-*"))
