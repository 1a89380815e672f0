"""Workloads: they end, give everything back, count their failures, and do the same for the same seed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from emu.workload.catalogue import WORKLOADS, init_run, release_held, shares
from emu.workload.run import SLOT_SIZE, PageSlot, Run
from emu.zone.board import Board
from emu.zone.init import zones_of
from emu.zone.mmzone import Page
from emu.zone.snapshot import view
from emu.zone.validate import validate
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.core import INTERPRETED
from shm.struct import record_at, records_at, size_of
from tests import program
from tests.bench import core, two_zones

PAGES = 8192  # of each of two zones
BUDGET = 50 if INTERPRETED else 3000
SLICES = 3 if INTERPRETED else 10
# those with address spaces and files need the disk and other daemons: tests/test_pressure.py runs them on machines
NAMES = sorted(name for name, work in WORKLOADS.items() if not work.tasks and not work.file)


class Bench:
    """A board and one CPU's Run on it."""

    def __init__(self, board: Board, name: str, seed: int, pages: int, order: int) -> None:
        self.board, self.m, self.cpu = board, board.m, board.cpu(0)
        self.work = WORKLOADS[name].entry
        start = board.segment.base + self.m.script
        self.run = record_at(Run, start)
        self.run.slots, self.run.nr_slots = self.m.script + size_of(Run), pages + 64
        init_run(self.run, name, seed=seed, pages=int(pages * shares([name])[name]), order=order)

    def slices(self, count: int, budget: int = BUDGET) -> int:
        """So many slices; the operations they did."""
        return sum(self.work(self.m, self.cpu, self.run, budget) for _ in range(count))

    def held(self) -> list[tuple[int, int]]:
        """The blocks in the slots, in order."""
        slots = records_at(PageSlot, self.board.segment.base + self.run.slots, self.run.nr_slots)
        return [(int(s["pfn"]), int(s["order"])) for s in slots[: self.run.held]]

    def settle(self) -> int:
        """Everything given back, the lists drained and the counters folded: the free pages of the machine."""
        release_held(self.m, self.cpu, self.run)
        core.drain_local_pages(self.m, self.cpu, 0)
        core.refresh_cpu_vm_stats(self.m, self.cpu, 0)
        return sum(zone.vm_stat[NR_FREE_PAGES].counter for zone in zones_of(self.m))

    def digest(self) -> str:
        """All of the machine that the workload could have touched, and its own state without the times."""
        self.run.alloc_ns = self.run.free_ns = 0
        parts = [view(self.m, Page, self.m.mem_map, self.m.max_pfn).tobytes(), bytes(self.run), repr(self.held())]
        parts += [repr(sorted(self.board.state(light=True).items()))]
        return hashlib.blake2b(b"\0".join(p if isinstance(p, bytes) else p.encode() for p in parts)).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    program.load()


@contextmanager
def running(name: str, seed: int = 1, pages: int = 2 * PAGES, order: int = 0) -> Iterator[Bench]:
    script = size_of(Run) + (pages + 64) * SLOT_SIZE
    with Board.boot(two_zones(PAGES), script_size=script) as board:
        yield Bench(board, name, seed, pages, order)


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_gives_back_what_it_took(name: str) -> None:
    with running(name) as b:
        before = b.settle()
        done = b.slices(SLICES)
        assert done >= SLICES * BUDGET // 2  # a slice ends where a phase does
        assert b.run.ops == b.run.allocs + b.run.frees
        assert sum(b.run.by_order) == b.run.allocs - b.run.failed
        assert sum(b.run.by_order) - b.run.frees == sum(pfn >= 0 for pfn, _ in b.held())
        assert b.settle() == before
        assert (b.run.held, b.run.allocs - b.run.failed) == (0, b.run.frees)
        assert validate(b.m) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_does_the_same(name: str) -> None:
    def ends(seed: int, cut: int) -> Any:
        with running(name, seed) as b:
            b.slices(cut)
            return b.digest(), b.held()

    assert ends(5, SLICES) == ends(5, SLICES)
    if name not in ("bulk", "repeat"):  # which ask no chance
        assert name == "rand" or ends(5, SLICES) != ends(6, SLICES)


def test_rand_frees_in_another_order_for_another_seed() -> None:
    def freed_first(seed: int) -> list[tuple[int, int]]:
        with running("rand", seed, pages=400) as b:
            while b.run.phase == 0:
                b.slices(1, 200)
            return b.held()

    one, two = freed_first(1), freed_first(2)
    assert one != two
    assert sorted(one) == sorted(two)
    assert freed_first(1) == one


@pytest.mark.compiled  # it takes too many operations to fill the memory
@pytest.mark.parametrize("name", NAMES)
def test_failures_are_counted_when_memory_is_short(name: str) -> None:
    with running(name) as b:
        free = b.settle()
        b.run.want = b.run.nr_slots = 2 * PAGES + 64  # more than there is
        order = 9 if name in ("bulk", "rand", "repeat") else 0
        b.run.order = order
        b.cpu.party.heartbeat = 0
        for _ in range(400):
            assert b.slices(1) > 0
            if b.run.failed:
                break
        assert b.run.failed > 0 or name == "network"  # which drops old packets before memory is short
        assert b.settle() == free
        assert validate(b.m) == []


@pytest.mark.parametrize("order", [0, 9])
def test_half_the_memory_is_held(order: int) -> None:
    with running("repeat", order=order) as b:
        while b.run.phase == 0:
            b.slices(1)
        assert sum(1 << o for _, o in b.held()) == PAGES
        pairs = b.run.rounds
        b.slices(1)
        assert b.run.rounds - pairs == BUDGET // 2
        assert sum(1 << o for _, o in b.held()) == PAGES


def test_bulk_frees_in_the_order_of_allocation() -> None:
    with running("bulk", pages=512) as b:
        while b.run.phase == 0:
            b.slices(1, 64)
        pages = b.held()
        b.cpu.trace = 1
        b.slices(1, 40)
        assert b.held()[:40] == [(-1, 0)] * 40
        assert b.held()[40:] == pages[40:]


def test_a_stopped_machine_ends_every_slice() -> None:
    for name in NAMES:
        with running(name) as b:
            b.m.stop = 1
            assert b.slices(1, 1 << 20) < 5000
            b.m.stop = 0
