"""Fixtures of the tests of shm."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
