"""Fixtures of the tests of shm."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shm.struct import Struct
from tests.shm.helpers import Crew
from tests.shm.lock_model import MANY, Shared, init


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


@pytest.fixture
def made(crew: Callable[..., Crew]) -> Crew:
    """The test holds nothing yet; it is the last party, the others are for children."""
    made = crew(Shared, MANY + 1, spin_limit=100)
    init(made.shared, 3)
    return made
