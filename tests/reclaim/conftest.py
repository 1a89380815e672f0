"""A machine whose lists reclaim works on. Disk requests are done at once when a test runs the disk."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.bench import bench, one_zone
from tests.reclaim.lists import Lists


@pytest.fixture
def lists() -> Iterator[Lists]:
    """One zone of 32 MiB, one CPU."""
    with bench(one_zone(8192)) as b:
        yield Lists(b)


@pytest.fixture
def swapping() -> Iterator[Lists]:
    """The same with 512 pages of swap, and a disk that takes no time."""
    with bench(replace(one_zone(8192), swap=513)) as b:
        made = Lists(b)
        made.vm.disk.latency_ns = made.vm.disk.page_ns = 0
        yield made
