"""Which type a page was stamped with when it was freed, from a trace that doesn't say so."""

from pathlib import Path

import pytest

from emu.workload.case import Case, Line
from emu.workload.stamps import stamps

FREED, OTHER = 1000, 1001  # pages of pageblock 1
KSWAPD, THIEF = (25, 1), (50, 0)  # pid, CPU


def line(seq: int, who: tuple[int, int], event: str, text: str) -> Line:
    pid, cpu = who
    return Line(seq, "task", pid, cpu, "....", event, text)


def found(*trace: Line, left: int = -1) -> dict[int, int]:
    """The stamps. Block 1 was Movable before; ``left``: the stamp of ``FREED``, which is on a pcp list at the end."""
    before = {"zones": [{"pageblocks": [[0, 0, 0, ""], [512, 1, 0, ""]]}]}
    pcp = {"lists": [[FREED] if left >= 0 else []], "stamps": [[left] if left >= 0 else []]}
    return stamps(Case(Path(), {}, before, {"zones": [{"pcp": [pcp]}]}, [], list(trace)))


def free(seq: int) -> Line:
    return line(seq, KSWAPD, "mm_page_free", f"page=ffff pfn={FREED} order=0")


def drained(seq: int, stamp: int) -> Line:
    return line(seq, KSWAPD, "mm_page_pcpu_drain", f"page=ffff pfn={FREED} order=0 migratetype={stamp}")


def stolen(seq: int, by: int) -> Line:
    return line(seq, THIEF, "oracle_pageblock", f"pfn={FREED + 20} mt={by}")


def allocated(seq: int, migratetype: int) -> Line:
    return line(seq, KSWAPD, "mm_page_alloc", f"page=ffff pfn={FREED} order=0 migratetype={migratetype} gfp_flags=0")


def test_a_drained_page_shows_its_stamp() -> None:
    assert found(free(10), drained(30, 1)) == {10: 1}


def test_a_page_handed_out_again_was_on_the_list_of_that_type() -> None:
    assert found(stolen(5, 2), free(10), allocated(30, 2)) == {10: 2}
    assert found(free(10), allocated(30, 1)) == {}, "a HIGHATOMIC page would be on that list as well"


def test_a_page_still_on_a_list_has_its_stamp() -> None:
    assert found(free(10), left=1) == {10: 1}


def test_the_last_free_counts() -> None:
    trace = (free(10), drained(20, 1), stolen(30, 2), line(31, THIEF, "x", ""), free(40), drained(50, 2))
    assert found(*trace) == {10: 1, 40: 2}


@pytest.mark.parametrize("stamp", [1, 2])
def test_either_type_may_be_read_while_the_block_is_stolen(stamp: int) -> None:
    """The type is set after the thief's event; the stamp is read after the event of the free."""
    during = (free(10), stolen(12, 2), line(14, KSWAPD, "x", ""), line(16, THIEF, "x", ""), drained(30, stamp))
    assert found(*during) == {10: stamp}
    between = (stolen(8, 2), free(10), line(12, THIEF, "x", ""), line(14, KSWAPD, "x", ""), drained(30, stamp))
    assert found(*between) == {10: stamp}


def test_a_type_that_the_block_did_not_have_is_no_excuse() -> None:
    before = (free(10), line(12, KSWAPD, "x", ""), stolen(14, 2), drained(30, 2))
    after = (stolen(5, 2), line(8, THIEF, "x", ""), free(10), line(12, KSWAPD, "x", ""), drained(30, 1))
    assert found(*before) == found(*after) == found(free(10), drained(30, 3)) == {}
