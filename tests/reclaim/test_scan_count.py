"""How much of each list is looked at, against the formulas written down plainly."""

import math
import random

import pytest

from emu.zone.mmzone import NR_LRU_LISTS
from tests.bench import scaled
from tests.reclaim.entries import is_low, plan, root
from tests.reclaim.lists import ACTIVE_ANON, ACTIVE_FILE, INACTIVE_ANON, INACTIVE_FILE, Lists


def expected(
    sizes: list[list[int]], priority: int, idx: int, may_swap: bool, target: int, tiny: bool, trim: bool,
    costs: tuple[int, int], swappiness: int, free_swap: int,
) -> list[int]:  # fmt: skip
    """``sizes[zone][list]``"""
    total = [sum(zone[lru] for zone in sizes[: idx + 1]) >> priority for lru in range(4)]
    only_file = [0, 0, total[2], total[3]]
    if not may_swap or free_swap <= 0 or (target and swappiness == 0):
        return only_file
    if priority == 0 and swappiness:
        return total
    if tiny:
        return [total[0], total[1], 0, 0]
    if trim:
        return only_file
    sum_of = sum(costs)
    anon_cost, file_cost = sum_of + costs[0], sum_of + costs[1]
    ap = swappiness * (anon_cost + file_cost + 1) // (anon_cost + 1)
    fp = (200 - swappiness) * (anon_cost + file_cost + 1) // (file_cost + 1)
    return [scan * (fp if lru >= 2 else ap) // (ap + fp) for lru, scan in enumerate(total)]


def test_get_scan_count(lists: Lists) -> None:
    rng = random.Random(5)
    lruvec, swap, m = lists.lruvec(), lists.swap, lists.m
    seen = set()
    for _ in range(max(scaled(3000), 300)):
        sizes = [[rng.choice([0, 1, 40, 5000, 1 << 20]) for _ in range(4)] for _ in range(4)]
        for zid in range(4):
            for lru in range(4):
                lruvec.lru_zone_size[zid * NR_LRU_LISTS + lru] = sizes[zid][lru]
        m.swappiness = rng.choice([0, 1, 60, 100, 200])
        swap.pages = rng.choice([0, 1000])
        swap.inuse_pages = rng.choice([0, swap.pages])
        priority, idx, target = rng.randint(0, 12), rng.randint(0, 3), rng.choice([0, 0, 1])
        may_swap, tiny, trim = (rng.random() < 0.7, rng.random() < 0.2, rng.random() < 0.2)
        costs = (rng.choice([0, 1, 1000, 99999]), rng.choice([0, 1, 1000, 99999]))
        plan(m, lruvec, priority, idx, may_swap, target, tiny, trim, *costs)
        wanted = expected(
            sizes, priority, idx, may_swap, target, tiny, trim, costs, m.swappiness, swap.pages - swap.inuse_pages
        )
        assert list(lists.b.words()[:4]) == wanted
        seen.add((wanted[INACTIVE_ANON] > 0, wanted[INACTIVE_FILE] > 0))
    assert len(seen) == 4
    for i in range(4 * NR_LRU_LISTS):
        lruvec.lru_zone_size[i] = 0
    swap.pages = swap.inuse_pages = 0


def test_int_sqrt(lists: Lists) -> None:
    rng = random.Random(6)
    for x in [*range(200), *(rng.getrandbits(rng.randint(1, 62)) for _ in range(scaled(2000)))]:
        assert root(x) == math.isqrt(x)


@pytest.mark.parametrize(
    ("inactive", "active", "low"),
    [
        (100, 100, False), (100, 101, True), (0, 0, False), (0, 1, True),
        (1 << 17, 1 << 17, False),  # 1 GiB: 3 to 1
        (1 << 16, 3 << 16, False), (1 << 16, (3 << 16) + 1, True),
        (250_000, 2_500_000, False), (250_000, 2_500_001, True),  # 10 GiB: 10 to 1
    ],
)  # fmt: skip
def test_inactive_is_low(lists: Lists, inactive: int, active: int, low: bool) -> None:
    for lru, value in ((INACTIVE_FILE, inactive), (ACTIVE_FILE, active)):
        lists.lruvec(1).lru_zone_size[2 * NR_LRU_LISTS + lru] = value
    assert bool(is_low(lists.m, lists.lruvec(1), INACTIVE_FILE)) is low
    assert not is_low(lists.m, lists.lruvec(1), INACTIVE_ANON)
    for lru in (INACTIVE_FILE, ACTIVE_FILE, ACTIVE_ANON):
        lists.lruvec(1).lru_zone_size[2 * NR_LRU_LISTS + lru] = 0
