"""Memory that moves under an allocation: it begins again, for the right reason, unless the check is removed.

The slow path runs on CPU 0. At a scheduling point the other CPU does something, once: that interleaving and no other.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from emu.cpu import cookies, seams
from emu.cpu.cpuset import cpuset_change_task_nodemask
from emu.cpu.page_alloc import __alloc_pages_nodemask, alloc_pages
from emu.cpu.slowpath import S_NOPAGE, S_RETRY, STEP_RESTART, STEP_RETRY
from emu.zone.event import EV_ALLOC_FAILURE, EV_SLOWPATH
from emu.zone.gfp import __GFP_NOFAIL, __GFP_NOWARN, __GFP_THISNODE, GFP_KERNEL, GFP_NOWAIT, GFP_USER
from emu.zone.mm_types import Vm
from emu.zone.mmzone import ZONE_NORMAL, Cpu, Machine, cpu_record
from emu.zone.sched import (
    RESTART_CPUSET,
    RESTART_NODEMASK,
    RESTART_ZONELIST,
    RETRY_NOFAIL,
    task_at,
)  # fmt: skip
from emu.zone.task_stats import slowpath_counts
from shm import loader
from shm.atomic import fetch_add
from shm.core import Seam, core, entry
from shm.point import Party, schedule_loop, schedule_point
from shm.struct import At, record_at
from tests import program
from tests.bench import Bench, _published, bench, shape

TWO = shape([(nid, ZONE_NORMAL, 1024 + nid * 4096, 4096) for nid in range(2)], (0, 1))
DO_NOTHING, DO_CPUSET, DO_ZONELIST, DO_STOP, DO_STOP_NEXT = range(5)
machine_at = At(Machine)
party_at = At(Party)


@core
def other_cpu(me: Party, where: int) -> None:
    """What CPU 1 does when CPU 0 gets to a place: its party says where the machine is, where, and what, once."""
    if me.index != 0:
        return
    other = party_at(me, me.stride)
    if other.last_site != where or other.state == DO_NOTHING:
        return
    m = machine_at(me, -other.heartbeat)
    cpu = cpu_record(m, m.cpus + me.stride)
    what = other.state
    other.state = DO_NOTHING
    if what == DO_CPUSET:
        task = task_at(m, cpu_record(m, m.cpus).current)
        cpuset_change_task_nodemask(m, cpu, task, 0b10)
    elif what == DO_ZONELIST:
        fetch_add(record_vm(m, m.vm), "zonelist_update_seq", 2)
    elif what == DO_STOP_NEXT:
        other.state = DO_STOP
    elif what == DO_STOP:
        m.stop = 1


@core
def other_cpu_at_loop(me: Party, where: int, state: int) -> None:
    """The same where a loop begins again."""
    other_cpu(me, where)


record_vm = At(Vm)
HOOKED: dict[Any, Any] = {schedule_point: other_cpu, schedule_loop: other_cpu_at_loop}
SLOWPATH = getattr(seams, "__alloc_pages_slowpath")
NOT_HERE = [each for each in vars(seams).values() if isinstance(each, Seam) and each is not SLOWPATH]


@entry
def alloc(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``alloc_pages()`` in a program whose scheduling points let the other CPU in."""
    return alloc_pages(m, cpu, gfp, order)


@entry
def alloc_nodemask(m: Machine, cpu: Cpu, gfp: int, order: int, nid: int, nodemask: int) -> int:
    """``__alloc_pages_nodemask()``, as :func:`alloc`."""
    return ALLOC_NODEMASK(m, cpu, gfp, order, nid, nodemask)


ALLOC_NODEMASK = __alloc_pages_nodemask
BEGIN = _published(cookies.zonelist_iter_begin)


@pytest.fixture(scope="module")
def hooked() -> Iterator[None]:
    """A program of its own: with the hook, and with nothing to reclaim, compact or kill, so that it's small."""
    program.load()  # the tests' own keeps all bodies
    bodies = {each.__core__: each.__core__.body for each in (*HOOKED, *NOT_HERE)}
    for each, body in HOOKED.items():
        each.__core__.body = body
    for each in NOT_HERE:
        each.__core__.body = each.declared
    try:
        loader.load([alloc, alloc_nodemask, BEGIN])
        yield
    finally:
        for info, body in bodies.items():
            info.body = body


@pytest.fixture
def b(hooked: None) -> Iterator[Any]:
    with bench(TWO) as made:
        made.cpu().party.scheduled = 1
        made.cpu(1).party.heartbeat = made.m.cpus
        made.m.cpusets_enabled = 1
        yield made
        made.cpu().party.scheduled = 0
        made.cpu(1).party.heartbeat = made.cpu(1).party.state = 0
        made.cpu(1).party.last_site = 0


def vm(b: Bench) -> Vm:
    return record_at(Vm, b.base + b.m.vm)


def at(b: Bench, where: int, what: int) -> None:
    b.cpu(1).party.last_site, b.cpu(1).party.state = where, what


def exhaust(b: Bench, nid: int) -> None:
    """Take all of a node."""
    mems, b.task().mems_allowed = b.task().mems_allowed, 0b11
    scheduled, b.cpu().party.scheduled = b.cpu().party.scheduled, 0
    with b.kernel_thread():
        for order in (9, 4, 1, 0):
            while b.alloc(order, GFP_KERNEL | __GFP_THISNODE | __GFP_NOWARN | 0x20000, nid=nid) >= 0:
                pass
    b.task().mems_allowed, b.cpu().party.scheduled = mems, scheduled
    b.events()
    for i in range(3):
        b.task().restarts_by[i] = 0
    b.task().retries = 0


def restarts(b: Bench) -> list[int]:
    return list(b.task().restarts_by)


@pytest.mark.parametrize("where", [S_RETRY, S_NOPAGE])
@pytest.mark.parametrize("checked", [True, False])
def test_cpuset_that_moves_away_from_full_nodes(b: Bench, where: int, checked: bool) -> None:
    """Node 0 is full and all the task has. It is given node 1 while it looks: it must not fail."""
    b.task().mems_allowed = 0b01
    exhaust(b, 0)
    vm(b).no_cpuset_cookie = int(not checked)
    at(b, where, DO_CPUSET)
    b.cpu().trace = 1
    pfn = alloc(b.m, b.cpu(), GFP_NOWAIT | 0x100000 | __GFP_NOWARN, 0)
    b.cpu().trace = 0
    reasons = [e["b"] for e in b.events() if e["kind"] == EV_SLOWPATH and e["migratetype"] == STEP_RESTART]
    if checked or where == S_RETRY:
        assert pfn >= 1024 + 4096
    else:
        assert pfn == -1
    assert restarts(b) == [0, int(checked), 0]
    assert reasons == [RESTART_CPUSET] * checked


def test_zonelists_that_are_rebuilt(b: Bench) -> None:
    exhaust(b, 0)
    exhaust(b, 1)
    for checked in (True, False):
        vm(b).no_zonelist_cookie = int(not checked)
        before = restarts(b)[RESTART_ZONELIST]
        at(b, S_NOPAGE, DO_ZONELIST)
        assert alloc(b.m, b.cpu(), GFP_NOWAIT | __GFP_NOWARN, 0) == -1
        assert restarts(b)[RESTART_ZONELIST] - before == int(checked)


def test_quiet_machine_restarts_nothing(b: Bench) -> None:
    exhaust(b, 0)
    exhaust(b, 1)
    assert alloc(b.m, b.cpu(), GFP_NOWAIT | __GFP_NOWARN, 0) == -1
    assert restarts(b) == [0, 0, 0]
    assert b.task().retries == 1


@pytest.mark.parametrize("checked", [True, False])
def test_nodemask_that_misses_the_cpuset_is_dropped(b: Bench, checked: bool) -> None:
    b.task().mems_allowed = 0b10
    vm(b).no_cpuset_cookie = int(not checked)
    pfn = alloc_nodemask(b.m, b.cpu(), GFP_USER | __GFP_NOWARN, 0, 0, 0b01)
    assert (pfn >= 0) == checked
    assert restarts(b)[RESTART_NODEMASK] == int(checked)


def test_begin_waits_for_the_rebuild_until_the_machine_stops(b: Bench) -> None:
    vm(b).zonelist_update_seq = 5
    b.m.stop = 1
    assert BEGIN(b.m, b.cpu()) == 5
    b.m.stop = 0
    vm(b).zonelist_update_seq = 6
    assert BEGIN(b.m, b.cpu()) == 6


def test_nofail_goes_round_with_its_reason(b: Bench) -> None:
    exhaust(b, 0)
    exhaust(b, 1)
    b.cpu().trace = 1
    at(b, S_NOPAGE, DO_STOP_NEXT)
    assert alloc(b.m, b.cpu(), GFP_KERNEL | __GFP_NOFAIL | __GFP_NOWARN, 5) == -1
    b.cpu().trace = b.m.stop = 0
    steps = [e["b"] >> 32 for e in b.events() if e["kind"] == EV_SLOWPATH and e["migratetype"] == STEP_RETRY]
    assert steps == [0, RETRY_NOFAIL + 1]  # the first pass has no reason
    assert (b.task().retries, b.task().retries_by[RETRY_NOFAIL]) == (2, 1)


def test_failures_are_reported_once_in_ten_seconds(b: Bench) -> None:
    exhaust(b, 0)
    exhaust(b, 1)
    for _ in range(3):
        assert alloc(b.m, b.cpu(), GFP_NOWAIT, 0) == -1
    assert [e["kind"] for e in b.events()] == [EV_ALLOC_FAILURE]
    assert vm(b).nopage_rs.missed == 2
    vm(b).nopage_rs.begin -= 10_000_000_001
    assert alloc(b.m, b.cpu(), GFP_NOWAIT, 0) == -1
    assert [e["kind"] for e in b.events()] == [EV_ALLOC_FAILURE]


def test_missing_dma_memory_is_not_worth_a_word(b: Bench) -> None:
    assert alloc(b.m, b.cpu(), GFP_NOWAIT | 1, 0) == -1
    assert len(b.events()) == 0


def test_counts_of_a_task(b: Bench) -> None:
    assert slowpath_counts(b.m) == []
    exhaust(b, 0)
    exhaust(b, 1)
    b.task().slowpaths = 0
    assert alloc(b.m, b.cpu(), GFP_NOWAIT | __GFP_NOWARN, 0) == -1
    assert slowpath_counts(b.m) == [{
        "task": "emu/0", "pid": 1000, "slowpaths": 1, "retries": 1,
        "retries_by": {"reclaim": 0, "compact": 0, "oom": 0, "nofail": 0},
        "restarts_by": {"nodemask": 0, "cpuset cookie": 0, "zonelist cookie": 0},
    }]  # fmt: skip
