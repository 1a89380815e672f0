"""Driven replay of recorded kernel cases."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emu.workload import driven_ops as d
from emu.workload import script as s
from emu.workload import script_run
from emu.workload.case import Case, Line, Step, load_case
from emu.workload.driven import driven_script
from emu.workload.driven_check import Driven, compare_driven
from emu.zone.board import Board
from emu.zone.event import Event, ring_at
from emu.zone.vmstat_items import NUMA_FOREIGN, NUMA_LOCAL
from shm.ring import ring_drain
from shm.struct import address_of, dtype_of
from tests import program

CASE = Path(__file__).parent.parent / "cases" / "slow" / "slow_nothing"
FIELDS = ("code", "cpu", "order", "gfp", "handle", "nid", "zid", "nodemask", "n", "pfn")


def replay(case: Case, steps: list[Step]) -> Driven:
    """Run the steps in this process, playing all CPUs."""
    program.load()
    size = len(steps) * s.OP_SIZE + 4096
    with Board.from_state(case.before, ring_capacity=1 << 15, script_size=size) as board:
        m = board.m
        ops = np.frombuffer((s.Op * len(steps)).from_address(address_of(m) + m.script), dtype=dtype_of(s.Op))
        for at, step in enumerate(steps):
            for name in FIELDS:
                ops[name][at] = getattr(step, name)
        for i in range(m.nr_cpus):
            board.cpu(i).trace = 1
        script_run.run_ordered(m, board.cpu(0), m.script, 0, 0, len(steps), 1, 0)
        rings = [ring_at(m, board.cpu(i).event_ring) for i in range(m.nr_cpus)]
        assert not any(ring.lost for ring in rings)
        events = np.concatenate([ring_drain(ring, Event) for ring in rings])
        return compare_driven(case, steps, ops.copy(), board.state(), events)


@pytest.fixture(scope="module")
def case() -> Case:
    return load_case(CASE)


def test_everything_is_decided_as_the_kernel_did(case: Case) -> None:
    result = replay(case, driven_script(case))
    assert [str(x) for x in result.differences] == []
    assert (result.allocs, result.matched) == (343, 343)
    # op 451: kswapd zeroed the boost between the kernel's look at it and its next event
    assert [x.where for x in result.reads] == ["event 5652, cpu 0: the kernel's verdict is too low"]


def test_a_page_less_is_noticed(case: Case) -> None:
    steps = driven_script(case)
    free = next(i for i, step in enumerate(steps) if step.code in (s.OP_FREE_PFN, d.OP_FREE_PREPARE))
    result = replay(case, [*steps[:free], Step(steps[free].at, s.OP_NOP, 0), *steps[free + 1 :]])
    assert result.differences


def test_an_order_that_kswapd_was_not_asked_for_is_noticed(case: Case) -> None:
    steps = driven_script(case)
    wake = next(i for i, step in enumerate(steps) if step.code == d.OP_KSWAPD and step.n == d.KSWAPD_WAKES)
    result = replay(case, [*steps[:wake], replace(steps[wake], order=9), *steps[wake + 1 :]])
    assert [x.where.split(": ")[1] for x in result.differences] == ["order that kswapd finds"]


def test_attempts_of_one_allocation(case: Case) -> None:
    steps = driven_script(case)
    kinds = {step.n for step in steps if step.code == d.OP_ATTEMPT}
    assert {d.ATTEMPT_FAST, d.ATTEMPT_START, d.ATTEMPT_RETRY, d.ATTEMPT_OOM} <= kinds
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def test_an_interrupt_between_entry_and_page(case: Case) -> None:
    """The page came off the list before the interrupt, unless the interrupt put it there."""
    enter = "order=0 gfp=0xcc0 nid=0 nodemask=0x0 mems=0x1 alloc_flags=0x801 pflags=0x0 irq=0 hzi=2"
    for freed, order in ((500, ["free", "alloc"]), (501, ["alloc", "free"])):
        trace = [
            Line(10, "a", 7, 0, "....", "oracle_alloc_enter", enter),
            Line(12, "a", 7, 0, "..s.", "mm_page_free", f"page=ffffea0 pfn={freed} order=0"),
            Line(14, "a", 7, 0, "....", "mm_page_alloc", "page=ffffea0 pfn=500 order=0 migratetype=0"),
        ]
        steps = driven_script(Case(case.path, case.meta, case.before, case.after, [], trace))
        names = {d.OP_FREE_PREPARE: "free", d.OP_ATTEMPT: "alloc"}
        assert [names[step.code] for step in steps if step.code in names] == order


@pytest.mark.parametrize(("refused", "order"), [((0, 1), ["none", "page"]), ((1,), ["page", "none"])])
def test_an_attempt_that_was_not_refused_looked_under_the_lock(
    case: Case, refused: tuple[int, ...], order: list[str]
) -> None:
    """It found nothing there, and has no event of it: whoever has taken a page meanwhile was faster."""
    enter = "order=3 gfp=0xcc0 nid=0 nodemask=0x0 mems=0x1 alloc_flags=0x801 pflags=0x0 irq=0 hzi=2"
    fail = "nid=0 zid={} order=3 mark=280 alloc_flags=0x801 hzi=2 free=220"
    trace = [
        Line(10, "a", 7, 0, "....", "oracle_alloc_enter", enter),
        *(Line(11 + zid, "a", 7, 0, "....", "oracle_wmark_fail", fail.format(zid)) for zid in refused),
        Line(14, "b", 8, 1, "....", "oracle_alloc_enter", enter),
        Line(16, "b", 8, 1, "d...", "mm_page_alloc_zone_locked", "page=ffffea0 pfn=5000 order=3 migratetype=0"),
        Line(18, "b", 8, 1, "....", "mm_page_alloc", "page=ffffea0 pfn=5000 order=3 migratetype=0"),
        Line(20, "a", 7, 0, "....", "oracle_slowpath", "step=start order=3 gfp=0xcc0 alloc_flags=0x840 a=0 b=0"),
    ]
    steps = driven_script(Case(case.path, case.meta, case.before, case.after, [], trace))
    attempts = ["none" if step.pfn < 0 else "page" for step in steps if step.code == d.OP_ATTEMPT]
    assert attempts == order


@pytest.mark.parametrize(("moved", "accepted"), [(1, True), (9, False)])
def test_hits_and_misses_of_attempts_whose_mems_changed(moved: int, accepted: bool) -> None:
    """Which zone was preferred is not certain for them; how many they are is."""
    case = load_case(CASE.parent / "cookie_race")
    steps = driven_script(case)
    ours = deepcopy(case.after)
    zone = ours["zones"][1]
    zone["numa_stat"][NUMA_FOREIGN] += moved
    ops = np.zeros(len(steps), dtype=dtype_of(s.Op))
    ops["code"] = [step.code for step in steps]
    ops["pfn"] = [step.pfn for step in steps]
    ops["pcp"][[step.code == d.OP_ATTEMPT for step in steps].index(True)] = d.OTHER_MEMS
    ops["done"] = 1
    found = compare_driven(case, steps, ops, ours)
    assert any("another preferred zone" in x.where for x in found.reads) is accepted
    assert any("numa_stat" in x.where for x in found.differences) is not accepted
    zone["numa_stat"][NUMA_LOCAL] += 1
    assert any("numa_stat" in x.where for x in compare_driven(case, steps, ops, ours).differences)
