"""Looking at what a lock protects, without the lock."""

from collections.abc import Iterator

import pytest

from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.mmzone import Zone
from emu.zone.undisturbed import undisturbed


@pytest.fixture
def zone() -> Iterator[Zone]:
    with Board.boot(shape_of(1, [8192])) as board:
        yield board.m.nodes[0].node_zones[0]


def test_it_looks_again_if_somebody_was_there(zone: Zone) -> None:
    looks = []

    def read() -> int:
        looks.append(zone.lock.word)
        if len(looks) < 3:  # somebody takes the lock and gives it back
            zone.lock.acquisitions += 1
        return len(looks)

    assert undisturbed(zone, read, 10) == 3 and len(looks) == 3


@pytest.mark.parametrize(("held", "looks"), [(True, 1), (False, 5)])
def test_it_gives_up(held: bool, looks: int, zone: Zone) -> None:
    """A holder that stays is not waited for by looking; one that comes each time is, so many times."""
    seen = []

    def read() -> int:
        seen.append(1)
        zone.lock.acquisitions += 1
        return len(seen)

    zone.lock.word = 2 * held
    assert undisturbed(zone, read, 4) == looks
    zone.lock.word = 0
