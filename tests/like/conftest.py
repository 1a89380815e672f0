"""A recorded machine's files."""

from pathlib import Path

import pytest

from tests.like.directory import CASES, of_case


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; to be copied before it is changed."""
    return of_case(CASES[0], tmp_path_factory.mktemp("recorded"))
