"""Every invariant of reclaim and of tasks notices the bug that it is there for, and no other one does."""

from collections.abc import Callable, Iterator

import pytest

from emu.race.invariants import INVARIANTS, check_invariant
from emu.race.invariants_reclaim import RECLAIM_INVARIANTS
from emu.race.invariants_tasks import G_BELOW_MIN, G_KILLS, G_NEEDLESS, G_VICTIM, TASK_INVARIANTS
from emu.race.ops_pages import alloc
from emu.race.ops_reclaim import G_ORDER, G_ZONEIDX
from emu.race.scenario import Scenario, small
from emu.race.world import World
from emu.reclaim.kswapd import KSWAPD_TRY_TO_SLEEP
from emu.zone.boot import Tuning
from emu.zone.event import EV_RECLAIM_RETRY, Event
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES
from emu.zone.mmzone import MAX_NR_ZONES, WMARK_HIGH, WMARK_MIN, ZONE_MOVABLE, ZONE_NORMAL
from emu.zone.sched import RETRY_RECLAIM
from emu.zone.slow_types import FAILED_AVOIDABLE, FAILED_RESERVE
from emu.zone.vmstat_items import NR_FREE_PAGES, OOM_KILL
from shm.ring import RING_HEADER, Ring
from shm.struct import address_of, record_at
from shm.waitqueue import prepare_to_wait
from tests import program


@pytest.fixture(scope="module", autouse=True)
def native_code() -> None:
    program.load()


def violated(w: World) -> set[str]:
    """Names of the invariants of both families that don't hold. A kill is seen by whoever asks first: each asks as if
    it were alone."""
    found = set()
    for invariant in (*RECLAIM_INVARIANTS, *TASK_INVARIANTS):
        w.area.ghost[G_KILLS] = 0
        if check_invariant(w.m, w.area, invariant.code):
            found.add(invariant.name)
    return found


def machine(zid: int = ZONE_NORMAL) -> World:
    """Two CPUs, nearly all memory free; nobody sleeps, nobody waits, nothing was asked of kswapd."""
    scenario = Scenario(
        "T1", "", "", small(zid=zid), {"cpu0": (), "cpu1": ()}, (), trace=True,
        tuning=Tuning(min_free_kbytes=16, watermark_boost_factor=0),
    )  # fmt: skip
    return World(scenario)


@pytest.fixture
def world() -> Iterator[World]:
    with machine() as w:
        assert violated(w) == set()
        yield w


def free_on_lists(w: World) -> int:
    return sum(area.nr_free << order for order, area in enumerate(w.zone().free_area))


def request_forgotten(w: World) -> None:
    """Order 10 was asked for and is still on order, but there is no block of it and kswapd never ran for it."""
    w.run(alloc(slot=0, order=10))
    w.run(alloc(slot=1))  # of the other block
    w.area.ghost[G_ORDER] = w.node().kswapd_order = 10
    w.area.ghost[G_ZONEIDX] = ZONE_NORMAL


def request_undone(w: World) -> None:
    w.area.ghost[G_ORDER] = 3


def boost_left(w: World) -> None:
    """kswapd had been told of the boost, and sleeps."""
    w.zone().watermark_boost = 8
    w.node().kswapd_highest_zoneidx = MAX_NR_ZONES - 1
    prepare_to_wait(w.node().kswapd_wait)


def boost_untold(w: World) -> None:
    w.zone().watermark_boost = 8


def slept_on(w: World) -> None:
    """By the counter there is enough above the high watermark, on the lists there isn't."""
    w.zone().watermark[WMARK_HIGH] = free_on_lists(w)
    w.zone().vm_stat[NR_FREE_PAGES].counter += 100
    prepare_to_wait(w.node().kswapd_wait)


def below_min(w: World) -> None:
    w.zone().watermark[WMARK_MIN] = free_on_lists(w) + 1


def drifting(w: World) -> None:
    w.vm().kswapds[0].step = KSWAPD_TRY_TO_SLEEP
    w.zone().percpu_drift_mark = 100
    w.pageset(1).stat_threshold = 125


def counted_on_nothing(w: World) -> None:
    """should_reclaim_retry() of cpu1 has seen a page more than there is."""
    ring = record_at(Ring, address_of(w.m) + w.cpu(1).event_ring)
    event = record_at(Event, address_of(ring) + RING_HEADER + (ring.head & (ring.capacity - 1)) * ring.record)
    event.kind, event.a, event.b = EV_RECLAIM_RETRY, free_on_lists(w) + 1 << 32, w.zone().zone_id
    ring.head += 1


def given_up(w: World) -> None:
    w.node().kswapd_failures = MAX_RECLAIM_RETRIES


def followed_null(w: World) -> None:
    w.vm().kswapds[0].null_derefs = 1


def failed_for_nothing(w: World) -> None:
    w.area.ghost[G_NEEDLESS] = 1


def killed(w: World) -> None:
    """cpu0 has killed, and nothing is above the high watermark."""
    w.cpu(0).vm_events[OOM_KILL] = 1
    w.zone().watermark[WMARK_HIGH] = 1 << 20


def killed_for_what_was_there(w: World) -> None:
    killed(w)
    w.task(0).slow.oom_zone = 1


def killed_amid_plenty(w: World) -> None:
    w.cpu(0).vm_events[OOM_KILL] = 1


def victim_refused(w: World) -> None:
    w.area.ghost[G_VICTIM] = 1


def slept_with_oom_lock(w: World) -> None:
    w.vm().oom_lock, w.cpu(0).asleep = 1, 1


def two_rounds(w: World) -> None:
    w.task(0).retries_by[RETRY_RECLAIM] = 2


def avoidable(w: World) -> None:
    w.task(1).slow.failed_for[FAILED_AVOIDABLE] = 1


def reserve_unused(w: World) -> None:
    w.task(1).slow.failed_for[FAILED_RESERVE] = 1


def served_below_min(w: World) -> None:
    w.area.ghost[G_BELOW_MIN] = 1


PLANTED: dict[str, Callable[[World], None]] = {
    "request_served": request_forgotten,
    "request_kept": request_undone,
    "no_boost_asleep": boost_left,
    "boost_announced": boost_untold,
    "kswapd_woken": slept_on,
    "min_watermark": below_min,
    "pressure_thresholds": drifting,
    "available_exists": counted_on_nothing,
    "hopeless_unbalanced": given_up,
    "no_null_deref": followed_null,
    "failed_needlessly": failed_for_nothing,
    "killed_needlessly": killed_for_what_was_there,
    "kill_above_high": killed_amid_plenty,
    "victim_gets_its_share": victim_refused,
    "nobody_sleeps_with_oom_lock": slept_with_oom_lock,
    "next_round_gets_it": two_rounds,
    "failure_was_avoidable": avoidable,
    "reserve_is_there_to_be_used": reserve_unused,
    "nobody_goes_below_min": served_below_min,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_noticed_by_one_invariant_alone(name: str, world: World) -> None:
    PLANTED[name](world)
    assert violated(world) == {name}


def test_a_kill_that_can_not_help_is_noticed_alone() -> None:
    """All memory is movable, where the killer's allocation may not go."""
    with machine(ZONE_MOVABLE) as w:
        assert violated(w) == set()
        w.cpu(0).vm_events[OOM_KILL] = 1
        assert violated(w) == {"kill_that_can_help"}


def test_rounds_without_bound_are_noticed_alone(world: World) -> None:
    """Up to sixteen are one rule's matter, beyond them it is the other's, but with little free they may be needed."""
    world.task(0).retries_by[RETRY_RECLAIM] = MAX_RECLAIM_RETRIES
    assert violated(world) == {"next_round_gets_it"}
    world.task(0).retries_by[RETRY_RECLAIM] += 1
    assert violated(world) == {"rounds_are_bounded"}
    world.zone().watermark[WMARK_HIGH] = 1 << 20
    assert violated(world) == {"next_round_gets_it"}


def test_each_invariant_has_its_bug() -> None:
    elsewhere = {"kill_that_can_help", "rounds_are_bounded"}
    named = {i.name for i in (*RECLAIM_INVARIANTS, *TASK_INVARIANTS)}
    assert set(PLANTED) | elsewhere == named
    assert named <= set(INVARIANTS)
