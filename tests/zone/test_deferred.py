"""A zone whose struct pages are mostly left for later grows when it is needed."""

import pytest

from emu.zone.deferred import PAGES_PER_SECTION
from emu.zone.gfp import GFP_KERNEL
from tests.bench import bench, core, one_zone, scaled

pytestmark = pytest.mark.slow
FOUR = one_zone(4 * PAGES_PER_SECTION)


def test_first_section_is_there_from_the_start() -> None:
    with bench(FOUR, deferred=True) as b:
        zone = b.zone()
        assert zone.managed_pages == PAGES_PER_SECTION - 1024
        assert zone.first_deferred_pfn == PAGES_PER_SECTION
        assert zone.present_pages == 4 * PAGES_PER_SECTION


@pytest.mark.parametrize("order", [0, 9, 10])
def test_allocation_grows_the_zone_by_sections_until_all_is_there(order: int) -> None:
    with bench(FOUR, deferred=True) as b:
        zone, sizes = b.zone(), set()
        for _ in range(4 * PAGES_PER_SECTION >> order if order else scaled(60000)):
            if b.alloc(order, GFP_KERNEL | 0x2000) < 0:
                break
            sizes.add(zone.managed_pages)
        steps = [PAGES_PER_SECTION * i - 1024 for i in (1, 2, 3, 4)] + [4 * PAGES_PER_SECTION]
        assert sizes <= set(steps)
        if order:
            assert sizes == set(steps)
            assert zone.first_deferred_pfn == 0


def test_grown_pages_go_behind_those_that_are_free() -> None:
    with bench(FOUR, deferred=True) as b:
        first = b.free_list(10, 1)
        assert core.deferred_grow_zone(b.m, b.cpu(), b.zone(), 0)
        grown = b.free_list(10, 1)
        assert grown == first + list(range(PAGES_PER_SECTION, 2 * PAGES_PER_SECTION, 1024))


def test_zone_that_is_all_there_does_not_grow() -> None:
    with bench(one_zone(8192)) as b:
        assert not core.deferred_grow_zone(b.m, b.cpu(), b.zone(), 0)
