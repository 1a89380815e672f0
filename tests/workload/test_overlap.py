"""What one operation may have seen of another that was under way."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from emu.workload import script as s
from emu.workload.case import Case, Line, Step
from emu.workload.overlap import Overlap


def overlap(*ops: tuple[int, int, int, int, int]) -> Overlap:
    """Operations (CPU, first event, place, last event, free pages after it) on a zone of 100 free pages."""
    trace, steps, done = [], [], []
    for seq, (cpu, begun, at, ended, free) in enumerate(ops):
        trace += [
            Line(place, "oracle", cpu, cpu, "....", "oracle_op", f"{what} seq={seq} op=a h=0 pfn=0")
            for place, what in ((begun, "start"), (ended, "end"))
        ]
        steps.append(Step(at, s.OP_ALLOC, cpu, recorded={"seq": seq}))
        done.append(SimpleNamespace(znid=0, rzid=1, free=free, boost=free % 7))
    zone = {"nid": 0, "zid": 1, "vm_stat": [100], "watermark_boost": 5, "nr_reserved_highatomic": 0, "flags": 0}
    return Overlap(Case(Path(), {}, {"zones": [zone]}, {}, [], trace), steps, done)


@pytest.mark.parametrize(("free", "seen"), [(99, False), (90, True), (85, True), (80, True), (79, False)])
def test_a_later_one_may_have_been_seen_in_part(free: int, seen: bool) -> None:
    one = overlap((0, 1, 2, 3, 90), (1, 4, 6, 8, 80), (0, 7, 9, 10, 70))
    assert one.may_be(0, "free", free) is (seen or free == 99), "between its end and its CPU's next operation"
    assert one.may_be(0, "free", 69) is False


def test_an_earlier_one_may_not_have_been_seen_yet() -> None:
    under_way = overlap((0, 1, 2, 9, 80), (1, 3, 5, 6, 70))
    assert under_way.may_be(1, "free", 90) and under_way.may_be(1, "free", 100)
    over = overlap((0, 1, 2, 3, 80), (1, 4, 5, 6, 70))
    assert over.may_be(1, "free", 80) and not over.may_be(1, "free", 81)


def test_what_is_not_counted_singly_has_the_values_it_had() -> None:
    one = overlap((0, 1, 2, 9, 80), (1, 3, 5, 6, 70))  # boosts 3 and 0, before them 5
    assert all(one.may_be(1, "boost", boost) for boost in (5, 3, 0))
    assert not one.may_be(1, "boost", 4)
