"""Every invariant of pages notices the bug that it is there for, and no other one does."""

from collections.abc import Callable, Iterator

import pytest

from emu.race.invariants_pages import (
    PAGE_INVARIANTS,
    SOUND,
    batch_within_high,
    check_pages,
    free_counted,
    highatomic_counted,
    isolated_apart,
    isolation_counted,
    lists_match,
    mlock_counted,
    none_isolated_on_pcp,
    nr_free_right,
    one_owner_each,
    overshoot_bounded,
    pages_conserved,
    pcp_count_right,
    watermark_kept,
)  # fmt: skip
from emu.race.ops_pages import (
    GHOST_COUNTED,
    GHOST_MOST,
    GHOST_ORDER,
    alloc,
    count,
    drain,
    free,
    isolate,
    put,
    reserve,
    try_get,
    undo_isolate,
    unreserve,
)  # fmt: skip
from emu.race.scenario import Scenario, small
from emu.race.scenarios import freelists, interrupts, isolation, overshoot, pcp, references
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_COMP, GFP_HIGHUSER_MOVABLE
from emu.zone.mmzone import MIGRATE_ISOLATE, MIGRATE_RECLAIMABLE, ZONE_MOVABLE
from emu.zone.pageblock import set_pageblock_migratetype
from emu.zone.vmstat_items import NR_FREE_PAGES
from tests import program

MOVABLE = GFP_HIGHUSER_MOVABLE
SCENARIOS = [
    s for room in (freelists, interrupts, isolation, overshoot, pcp, references) for s in room.SCENARIOS
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def native_code() -> None:
    program.load()


def violated(w: World) -> set[str]:
    """Names of the invariants that don't hold."""
    return {i.name for i in PAGE_INVARIANTS if check_pages(w.m, w.area, i.code)}


@pytest.fixture
def world() -> Iterator[World]:
    """A machine with pages in use, on a pcp list and free, in which all is as it must be.

    Slots 0 and 1 have blocks of one and two pages, slot 2 a compound page, slot 3 all of pageblock 1. CPU1 has three
    pages of pageblock 0 on its list. Pageblocks 2 and 3 are one free block.
    """
    scenario = Scenario(
        "T1", "", "", small(zid=ZONE_MOVABLE), {"cpu0": (), "cpu1": ()}, SOUND,
        tuning=Tuning(min_free_kbytes=16, watermark_boost_factor=0),
    )  # fmt: skip
    with World(scenario) as w:
        w.pcp(batch=4, high=8)
        w.run(alloc(slot=0, gfp=MOVABLE), cpu=1)
        for slot, order in ((1, 1), (2, 2), (3, 9)):
            w.run(alloc(slot=slot, order=order, gfp=MOVABLE | (__GFP_COMP if slot == 2 else 0)))
        w.run(count(3))
        assert w.pageset(1).count == 3
        assert violated(w) == set()
        yield w


def tails_leaked(w: World) -> None:
    w.page(w.slot(1)).refcount = 0
    w.area.ghost[GHOST_ORDER + 1] = 0


def handed_out_twice(w: World) -> None:
    w.area.slots[4] = w.area.slots[0]
    w.area.ghost[GHOST_ORDER + 4] = 1


def forgot_nr_free(w: World) -> None:
    w.zone().free_area[3].nr_free += 1


def forgot_count(w: World) -> None:
    w.pageset(1).count -= 1


def counted_twice(w: World) -> None:
    w.zone().vm_stat[NR_FREE_PAGES].counter += 1


def on_movable_list_of_isolated_block(w: World) -> None:
    set_pageblock_migratetype(w.m, 1024, MIGRATE_ISOLATE)
    w.zone().nr_isolate_pageblock += 1


def isolated_twice(w: World) -> None:
    w.zone().nr_isolate_pageblock += 1


def stolen_meanwhile(w: World) -> None:
    set_pageblock_migratetype(w.m, 1024, MIGRATE_RECLAIMABLE)


def unreserved_never(w: World) -> None:
    w.zone().nr_reserved_highatomic += 512


def missed_by_drain(w: World) -> None:
    w.pageset(1).count = 0  # which is what the drain sees
    w.run(isolate(block=0, slot=9))
    w.pageset(1).count = 3


def sizes_in_wrong_order(w: World) -> None:
    w.pageset(1).high = 2


def all_passed_the_check(w: World) -> None:
    w.zone().watermark[0] = w.zone().vm_stat[NR_FREE_PAGES].counter + 5


def reserve_used_up(w: World) -> None:
    all_passed_the_check(w)
    w.area.ghost[GHOST_MOST] = 0


def lost_update(w: World) -> None:
    w.area.ghost[GHOST_COUNTED] += 1


PLANTED: dict[str, Callable[[World], None]] = {
    pages_conserved.name: tails_leaked,
    one_owner_each.name: handed_out_twice,
    nr_free_right.name: forgot_nr_free,
    pcp_count_right.name: forgot_count,
    free_counted.name: counted_twice,
    isolated_apart.name: on_movable_list_of_isolated_block,
    isolation_counted.name: isolated_twice,
    lists_match.name: stolen_meanwhile,
    highatomic_counted.name: unreserved_never,
    none_isolated_on_pcp.name: missed_by_drain,
    batch_within_high.name: sizes_in_wrong_order,
    watermark_kept.name: all_passed_the_check,
    overshoot_bounded.name: reserve_used_up,
    mlock_counted.name: lost_update,
}


def test_each_invariant_has_its_bug() -> None:
    assert set(PLANTED) == {i.name for i in PAGE_INVARIANTS}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_noticed_by_its_invariant_alone(name: str, world: World) -> None:
    PLANTED[name](world)
    assert violated(world) == {name}


def free_while_used(w: World) -> None:
    pfn = w.slot(0)
    w.run(free(0), cpu=1)
    w.page(pfn).refcount = 1


def broken_next(w: World) -> None:
    w.zone().free_area[10].free_list[1].next = 5


def broken_prev(w: World) -> None:
    w.pageset(1).lists[1].prev += 8


def owned_and_free(w: World) -> None:
    w.area.slots[5] = 1024 + 100 + 1
    w.area.ghost[GHOST_ORDER + 5] = 1


def wrong_order(w: World) -> None:
    w.page(1024).private = 3


@pytest.mark.parametrize("plant", [free_while_used, broken_next, broken_prev, owned_and_free, wrong_order])
def test_page_in_two_places_and_broken_list_are_noticed(world: World, plant: Callable[[World], None]) -> None:
    plant(world)
    assert pages_conserved.name in violated(world)


def test_what_5_10_does_leaves_everything_sound(world: World) -> None:
    w = world
    w.run(try_get(pointer=2, slot=9))
    w.run(put(9))
    w.run(free(2, order=2))
    w.run(free(0), cpu=1)
    w.run(drain(), cpu=1)
    w.run(isolate(block=1, slot=8))  # all of it in use
    w.run(free(3, order=9))
    assert w.zone().nr_isolate_pageblock == 1
    assert violated(w) == set()
    w.run(undo_isolate(block=1, slot=8))
    w.run(reserve(1))
    assert w.zone().nr_reserved_highatomic == 512
    assert violated(w) == set()
    w.run(unreserve())
    w.run(free(1, order=1))
    assert violated(w) == set()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
@pytest.mark.parametrize("unfixed", [False, True])
def test_scenarios_begin_sound(scenario: Scenario, unfixed: bool) -> None:
    with World(scenario, unfixed) as w:
        assert [i.name for i in scenario.invariants if check_pages(w.m, w.area, i.code)] == []
    assert {i.name for i in SOUND} <= {i.name for i in scenario.invariants}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
def test_stories_have_five_lines(scenario: Scenario) -> None:
    lines = [line.strip() for line in scenario.story.strip().splitlines()]
    assert len(lines) == 5 and all(lines)
    assert scenario.switch and scenario.title
