"""Native code for tests that play scenarios."""

import pytest

from emu.programs import load_all


@pytest.fixture(autouse=True, scope="session")
def native() -> None:
    load_all()
