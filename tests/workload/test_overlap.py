"""What one operation may have seen of another that was under way."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from emu.workload import script as s
from emu.workload.case import Case, Line, Step
from emu.workload.overlap import Overlap

LATEST = {"ordered": 94, "irqoff": 94, "free": 112}  # at will, its CPU goes on after the last fold


def overlap(*ops: tuple[int, int, int, int, int], mode: str = "free", folds: dict[int, int] | None = None) -> Overlap:
    """Operations (CPU, first event, place, last event, free pages after it) on a zone of 100 free pages."""
    trace = [
        Line(at, "<idle>", 0, 9, "d...", "oracle_vmstat_fold", f"nid=0 zid=1 item=0 v={pages}")
        for at, pages in (folds or {}).items()
    ]
    steps, done = [], []
    for seq, (cpu, begun, at, ended, free) in enumerate(ops):
        trace += [
            Line(place, "oracle", cpu, cpu, "....", "oracle_op", f"{what} seq={seq} op=a h=0 pfn=0")
            for place, what in ((begun, "start"), (ended, "end"))
        ]
        steps.append(Step(at, s.OP_ALLOC, cpu, recorded={"seq": seq}))
        done.append(SimpleNamespace(znid=0, rzid=1, free=free, boost=free % 7))
    zone = {"nid": 0, "zid": 1, "vm_stat": [100], "watermark_boost": 5, "nr_reserved_highatomic": 0, "flags": 0}
    return Overlap(Case(Path(), {"mode": mode}, {"zones": [zone]}, {}, [], trace), steps, done)


@pytest.mark.parametrize(("free", "seen"), [(99, False), (90, True), (85, True), (80, True), (79, False)])
def test_a_later_one_may_have_been_seen_in_part(free: int, seen: bool) -> None:
    one = overlap((0, 1, 2, 3, 90), (1, 4, 6, 8, 80), (0, 7, 9, 10, 70))
    assert one.may_be(0, "free", free) is seen, "between its end and its CPU's next operation"


def test_an_earlier_one_may_not_have_been_seen_yet() -> None:
    under_way = overlap((0, 1, 2, 9, 80), (1, 3, 5, 6, 70))
    assert under_way.may_be(1, "free", 90) and under_way.may_be(1, "free", 100)
    over = overlap((0, 1, 2, 3, 80), (1, 4, 5, 6, 70))
    assert over.may_be(1, "free", 70) and not over.may_be(1, "free", 71), "that one is behind it"


def test_what_is_not_counted_singly_has_the_values_it_had() -> None:
    one = overlap((0, 1, 2, 9, 80), (1, 3, 5, 6, 70))  # boosts 3 and 0, before them 5
    assert all(one.may_be(1, "boost", boost) for boost in (5, 3, 0))
    assert not one.may_be(1, "boost", 4)


def test_its_own_change_is_seen_by_the_operation() -> None:
    alone = overlap((0, 1, 2, 3, 90), (1, 4, 5, 6, 80))
    assert alone.may_be(1, "free", 80) and not alone.may_be(1, "free", 85)


@pytest.mark.parametrize("mode", ["ordered", "irqoff", "free"])
def test_a_differential_may_have_been_folded_before_the_note(mode: str) -> None:
    one = overlap((0, 1, 3, 6, 90), (1, 9, 10, 11, 95), mode=mode, folds={2: 50, 5: 4, 7: -2, 12: 20})
    assert [free for free in range(60, 140) if one.may_be(0, "free", free)] == list(range(90, LATEST[mode] + 1))


def test_who_takes_turns_has_seen_nothing_of_the_next() -> None:
    turns = overlap((0, 1, 2, 3, 90), (1, 4, 5, 6, 80), (0, 7, 8, 9, 70), mode="ordered")
    assert not turns.may_be(0, "free", 80)
    at_will = overlap((0, 1, 2, 3, 90), (1, 4, 5, 6, 80), (0, 7, 8, 9, 70))
    assert at_will.may_be(0, "free", 80)
