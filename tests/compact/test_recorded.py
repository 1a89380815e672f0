"""The scanners of a real kernel: a recorded case's compactions, step by step, from the state it began in."""

import re
from pathlib import Path
from typing import Any

import pytest

from emu.workload.case import Case, Line, load_case
from emu.workload.own_state import load_lruvecs
from emu.zone.board import Board
from emu.zone.event import KINDS, Event
from emu.zone.gfp import PF_KTHREAD
from emu.zone.init_vm import kcompactd_party
from emu.zone.lru import LRU_INACTIVE_ANON
from emu.zone.mmzone import Machine
from emu.zone.snapshot import mem_map, walk
from emu.zone.validate import validate
from shm.ring import Ring, ring_drain
from shm.struct import address_of, record_at
from tests import program
from tests.compact.world import allocate, direct_compact, drain, kcompactd_works, kswapd_sleeps

pytestmark = pytest.mark.slow
CASE = Path(__file__).parent.parent / "cases" / "slow" / "compact_anon"
RESULTS = (
    "not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete", "partial_skipped",
    "contended", "success",
)  # fmt: skip
ASYNC = 2
ALLOC_FLAGS = 0x840


def recorded(line: Line) -> str | None:
    """One event of the kernel as text."""
    name, text = line.event.removeprefix("mm_compaction_"), line.text
    if name in ("isolate_migratepages", "isolate_freepages", "migratepages"):
        return f"{name} {text.strip()}"
    if name == "finished":
        return f"{name} {line.field('ret')}"
    if name == "oracle_isolate_free":
        return f"isolate_free pfn={line['pfn']} order={line['order']}"
    if name in ("begin", "end"):
        found = re.search(r"migrate_pfn=(\S+) free_pfn=(\S+) .*mode=(\w+)(?: status=(\w+))?", text)
        assert found
        return f"{name} {' '.join(part for part in found.groups() if part)}"
    return None


def ours(event: Any) -> str | None:
    """One event of the emulator, in the same words."""
    name = KINDS[event["kind"]].removeprefix("mm_compaction_")
    pfn, a, b = int(event["pfn"]), int(event["a"]), int(event["b"])
    if name in ("isolate_migratepages", "isolate_freepages"):
        return f"{name} range=({pfn:#x} ~ {a:#x}) nr_scanned={b & 0xFFFFFFFF} nr_taken={b >> 32}"
    if name == "migratepages":
        return f"{name} nr_migrated={a} nr_failed={b}"
    if name == "finished":
        return f"{name} {RESULTS[a]}"
    if name == "isolate_free":
        return f"{name} pfn={pfn} order={event['order']}"
    if name in ("begin", "end"):
        status = f" {RESULTS[b >> 16]}" if name == "end" else ""
        return f"{name} {pfn:#x} {a:#x} {'sync' if b & 1 else 'async'}{status}"
    return None


def findings(m: Machine) -> list[str]:
    """What is wrong, but for the slab pages: a state doesn't say of which caches they are."""
    return [text for text in validate(m) if "slab" not in text]


class Replay:
    """The case's machine, and what the kernel's tasks did."""

    def __init__(self, board: Board, case: Case) -> None:
        self.board, self.m = board, board.m
        self.before = case.before
        load_lruvecs(board.m, case.before)
        for index in range(self.m.nr_parties):
            board.task(index).process_flags = PF_KTHREAD
            board.cpu(index).trace = 1
        self.ops, self.trace = case.ops, case.trace

    def of(self, task: str, first: int, last: int) -> list[str]:
        """What the kernel's task did between two places of the trace."""
        lines = [line for line in self.trace if line.task.startswith(task) and first <= line.seq <= last]
        return [text for text in map(recorded, lines) if text]

    def done(self, index: int) -> list[str]:
        """What our party did since the last time."""
        events = ring_drain(record_at(Ring, address_of(self.m) + self.board.cpu(index).event_ring), Event)
        return [text for text in map(ours, events) if text]

    def up_to(self, op: int, first: int = 0) -> None:
        for at in range(first, op):
            assert (
                allocate(self.m, self.board.cpu(0), self.ops[at]["gfp"], self.ops[at]["order"]) == self.ops[at]["pfn"]
            )

    def op_11(self) -> tuple[list[str], list[str]]:
        """An order-9 request for unmovable memory, in vain: twice compaction, with a drain of all CPUs in between."""
        cpu, gfp = self.board.cpu(0), self.ops[11]["gfp"]
        assert direct_compact(self.m, cpu, gfp, 9, ALLOC_FLAGS, ASYNC) == -1
        first = self.done(0)
        kswapd_sleeps(self.m, cpu, self.m.nodes[0])
        drain(self.m, self.board.cpu(1))
        drain(self.m, cpu)
        assert direct_compact(self.m, cpu, gfp, 9, ALLOC_FLAGS, ASYNC) == -1
        return first, self.done(0)


@pytest.fixture
def replay() -> Any:
    case = load_case(CASE)
    program.load()
    with Board.from_state(case.before, ring_capacity=1 << 16) as board:
        yield Replay(board, case)


def test_lru_pages_of_a_state_have_owners(replay: Replay) -> None:
    m = replay.m
    pages = mem_map(m)
    inactive = list(walk(m, m.nodes[0].lruvecs[0].lists[LRU_INACTIVE_ANON], m.max_pfn))
    before = replay.before["lruvecs"][0]["lists"]["inactive_anon"]
    assert inactive == before[0]
    anon = pages["mapping"][inactive] == 1 << 2 | 1
    assert anon.sum() == sum(digit in "46" for digit in before[1]) == 4222
    assert len(set(pages["index"][inactive][anon])) == 4222
    assert findings(m) == []


def test_compactions_are_the_kernels(replay: Replay) -> None:
    m, node = replay.m, replay.m.nodes[0]
    kcompactd = kcompactd_party(m, 0)
    replay.up_to(11)
    first, second = replay.op_11()
    # the kernel's first pass ended after a zone, since kswapd wanted its CPU (need_resched())
    kernel = replay.of("oracle/0", 71, 100)
    assert first[: len(kernel)] == kernel
    # so it came to the other zone in the second pass, where ours has been already
    kernel = replay.of("oracle/0", 171, 175)
    assert second[: len(kernel)] == kernel and len(kernel) == 3
    replay.up_to(30, 12)
    # kswapd slept while the direct compactor ran, which had its start already
    compact = node.node_zones[1].compact
    kept = compact.cached_free_pfn, compact.cached_migrate_pfn[0]
    kswapd_sleeps(m, replay.board.cpu(kcompactd), node)
    compact.cached_free_pfn, compact.cached_migrate_pfn[0], compact.cached_migrate_pfn[1] = *kept, kept[1]
    node.node_zones[1].watermark_boost = 0
    assert direct_compact(m, replay.board.cpu(0), replay.ops[30]["gfp"], 9, ALLOC_FLAGS, ASYNC) == 25088
    kernel = replay.of("oracle/0", 290, 4875)
    assert len(kernel) == 530 and replay.done(0) == kernel
    # kcompactd in the other zone, at the same time in the kernel
    node.kcompactd_max_order, node.kcompactd_highest_zoneidx = 9, 0
    kcompactd_works(m, replay.board.cpu(kcompactd), node)
    mine = replay.done(kcompactd)
    kernel = replay.of("kcompactd0", 300, 4200)[: len(mine)]
    assert len(mine) == 120 and mine == kernel
    assert findings(m) == []
