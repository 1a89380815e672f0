"""Zonelists that are built anew at run time, and the allocations that walk them meanwhile."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu import cookies, page_alloc
from emu.cpu.slowpath import S_NOPAGE
from emu.zone.board import Board
from emu.zone.boot import Shape, ZoneShape
from emu.zone.gfp import GFP_ATOMIC, GFP_HIGHUSER_MOVABLE
from emu.zone.mm_types import Vm
from emu.zone.mmzone import ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE, ZONE_NORMAL, Cpu, Machine
from emu.zone.sched import RESTART_ZONELIST
from emu.zone.zonelist_build import S_DONE, S_ZONEREF, __build_all_zonelists
from shm.point import Party, schedule_point
from shm.struct import record_at
from tests.bench import Bench, bench, one_zone, two_nodes

CASES = sorted((Path(__file__).parents[1] / "cases" / "fast").iterdir())
rebuild = __build_all_zonelists


def lists(m: Machine) -> list[list[list[tuple[int, int]]]]:
    """(node, zone) in order, of each node's two lists."""
    out: list[list[list[tuple[int, int]]]] = []
    for nid in range(m.nr_nodes):
        both: list[list[tuple[int, int]]] = []
        for zonelist in m.nodes[nid].node_zonelists:
            refs = [(ref.zone, ref.node, ref.zone_idx) for ref in zonelist.zonerefs]
            both.append([ref[1:] for ref in refs[: [zone for zone, _, _ in refs].index(0)]])
        out.append(both)
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_they_are_the_kernels_own(case: Path) -> None:
    state = json.loads(gzip.decompress((case / "before.json.gz").read_bytes()))
    kernels = [
        [[tuple(ref) for ref in n[name]] for name in ("zonelist_fallback", "zonelist_nofallback")]
        for n in state["nodes"]
    ]
    with Board.from_state(state, ring_capacity=1 << 10, script_size=1 << 12) as board:
        assert lists(board.m) == kernels
        for node in board.m.nodes:
            for zonelist in node.node_zonelists:
                for ref in zonelist.zonerefs:
                    ref.zone, ref.zone_idx, ref.node = 0, 7, 7
        rebuild(board.m, board.cpu(0))
        assert lists(board.m) == kernels
        assert all(n.node_zonelists[0].zonerefs[32].zone == 0 for n in board.m.nodes)


def naive_orders(distance: list[list[int]], memory: list[bool], cpus: set[int]) -> list[list[int]]:
    """Nearest first; a lower node counts as one further, and so does one with CPUs; then the load, then the number."""
    nodes = len(distance)
    load, orders = [0] * nodes, []
    for local in range(nodes):
        order, penalty = [local], nodes - 1
        while True:
            left = [n for n in range(nodes) if memory[n] and n not in order]
            if not left:
                break
            best = min(left, key=lambda n: (distance[local][n] + (n < local) + (n in cpus), load[n], n))
            if distance[local][best] != distance[local][order[-1]]:
                load[best] = penalty
            order.append(best)
            penalty -= 1
        orders.append(order)
    return orders


@settings(max_examples=30)
@given(st.data())
def test_order_of_nodes(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 8))
    steps = st.sampled_from([11, 12, 20, 21, 30])
    distance = [[10 if i == j else 0 for j in range(nodes)] for i in range(nodes)]
    for i in range(nodes):
        for j in range(i):
            distance[i][j] = distance[j][i] = data.draw(steps)
    memory = [i == 0 or data.draw(st.booleans()) for i in range(nodes)]
    cpus = data.draw(st.lists(st.integers(0, nodes - 1), min_size=1, max_size=nodes))
    zones = tuple(ZoneShape(i, ZONE_NORMAL, 1024 + i * 2048, 2048, 2048, 2048) for i in range(nodes))
    with bench(Shape(tuple(cpus), zones, nodes, tuple(tuple(row) for row in distance))) as b:
        b.strict = False
        for nid in range(nodes):
            if not memory[nid]:
                b.m.nodes[nid].node_zones[ZONE_NORMAL].present_pages = 0
                b.m.nodes[nid].node_present_pages = 0
        rebuild(b.m, b.cpu())
        orders = naive_orders(distance, memory, set(cpus))
        assert [[n for n, _ in both[0]] for both in lists(b.m)] == [[n for n in o if memory[n]] for o in orders]
        assert [both[1] for both in lists(b.m)] == [[(n, ZONE_NORMAL)] if memory[n] else [] for n in range(nodes)]


def test_a_list_that_gets_shorter_ends_for_everybody() -> None:
    with bench(two_nodes()) as b:
        b.strict = False
        b.m.nodes[0].node_zones[ZONE_NORMAL].present_pages = 0
        rebuild(b.m, b.cpu())
        assert lists(b.m)[0][0] == [(0, ZONE_DMA32), (1, ZONE_NORMAL)]
        end = b.m.nodes[0].node_zonelists[0].zonerefs[2]
        assert (end.zone, end.zone_idx) == (0, ZONE_DMA)


def test_the_policy_zone_only_rises() -> None:
    with bench(one_zone(zid=ZONE_DMA32)) as b:
        assert b.m.policy_zone == ZONE_DMA32
        b.strict = False
        zone = b.m.nodes[0].node_zones[ZONE_NORMAL]
        zone.present_pages = 1024
        b.m.nodes[0].node_zones[ZONE_MOVABLE].present_pages = 1024
        rebuild(b.m, b.cpu())
        assert b.m.policy_zone == ZONE_NORMAL
        zone.present_pages = 0
        rebuild(b.m, b.cpu())
        assert b.m.policy_zone == ZONE_NORMAL


class Interleaved:
    """CPU 0 runs in Python; at a named point something else happens first."""

    def __init__(self, b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.b = b
        self.plans: dict[tuple[int, int], Callable[[], None]] = {}
        monkeypatch.setattr(schedule_point.__core__, "body", self)  # type: ignore[attr-defined]
        for i in range(b.m.nr_cpus):
            b.cpu(i).party.scheduled = 1

    def __call__(self, me: Party, where: int) -> None:
        plan = self.plans.pop((me.index, where), None)
        if plan is not None:
            plan()

    def alloc(self, cpu: Cpu, gfp: int) -> int:
        return int(page_alloc.alloc_pages(self.b.m, cpu, gfp, 0))


@pytest.mark.parametrize("without", [0, 1])
def test_an_allocation_about_to_fail_looks_again_when_the_lists_were_rebuilt(
    without: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(two_nodes()) as b:
        b.strict = False
        vm = record_at(Vm, b.base + b.m.vm)
        vm.no_zonelist_cookie = without
        zone = b.m.nodes[1].node_zones[ZONE_NORMAL]

        def come_and_go(pages: int) -> None:
            zone.present_pages = b.m.nodes[1].node_present_pages = pages
            rebuild(b.m, b.cpu(1))

        come_and_go(0)
        b.take_all(0, GFP_HIGHUSER_MOVABLE)
        run = Interleaved(b, monkeypatch)
        run.plans[0, S_NOPAGE] = lambda: come_and_go(8192)
        pfn = run.alloc(b.cpu(0), GFP_ATOMIC)
        task = b.task(0)
        if without:
            assert (pfn, task.restarts_by[RESTART_ZONELIST]) == (-1, 0)
        else:
            assert (pfn >= zone.zone_start_pfn, task.restarts_by[RESTART_ZONELIST]) == (True, 1)


def test_who_begins_during_a_rebuild_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(two_nodes()) as b:
        b.strict = False
        vm = record_at(Vm, b.base + b.m.vm)
        seen: list[int] = []

        def look() -> None:
            seen.append(vm.zonelist_update_seq & 1)
            assert b.cpu(1).party.irqs_off == 1

        run = Interleaved(b, monkeypatch)
        run.plans[1, S_ZONEREF] = run.plans[1, S_DONE] = look
        before = vm.zonelist_update_seq
        __build_all_zonelists.fn(b.m, b.cpu(1))  # type: ignore[attr-defined]
        assert seen == [1, 1]
        assert vm.zonelist_update_seq == before + 2
        assert b.cpu(1).party.irqs_off == 0
        vm.zonelist_update_seq += 1
        b.m.stop = 1  # it would wait for ever
        assert cookies.zonelist_iter_begin(b.m, b.cpu(0)) == before + 3
