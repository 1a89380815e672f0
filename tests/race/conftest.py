"""Native code for tests that play scenarios in their own process."""

import pytest

from emu.programs import load_all


@pytest.fixture
def native() -> None:
    load_all()
