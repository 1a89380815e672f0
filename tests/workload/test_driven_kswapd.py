"""kswapd takes what it is asked for a little before its event says so."""

from emu.workload import driven_ops as d
from emu.workload.case import Line, Step
from emu.workload.driven_kswapd import Kswapds

BEFORE = {"nodes": [{"nid": 0, "kswapd_waiting": 1}]}


class Recorded:
    """Events of one kswapd, by their numbers."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.kswapds = Kswapds(BEFORE, self.steps)

    def line(self, seq: int, text: str = "nid=0") -> Line:
        return Line(seq, "x", 1, 0, "....", "x", text)

    def asked(self, seq: int, order: int) -> None:
        self.kswapds.asked(self.line(seq), order)

    def woken(self, seq: int) -> None:
        self.kswapds.woken(self.line(seq), seq)

    def wakes(self, seq: int, order: int) -> Step:
        self.kswapds.wakes(self.line(seq, f"nid=0 order={order}"))
        return self.steps[-1]

    def balanced(self, seq: int, reclaimed: int = 1) -> None:
        self.kswapds.balanced(self.line(seq, f"nid=0 a={reclaimed} b=0"))


def late(step: Step) -> set[int]:
    assert step.recorded is not None
    return set(step.recorded["late"])


def test_what_comes_after_the_wake_up_may_be_late() -> None:
    r = Recorded()
    r.asked(1, 2)
    r.woken(2)
    r.asked(3, 3)
    assert late(r.wakes(5, 2)) == {3}


def test_a_request_that_was_left_over_is_taken_the_next_time() -> None:
    r = Recorded()
    r.asked(1, 2)
    r.woken(2)
    r.asked(3, 2)
    first = r.wakes(5, 2)
    r.balanced(7)
    r.woken(9)
    assert r.wakes(11, 2) and first.handle == 2, "nobody has asked for it since"


def test_what_has_been_asked_for_since_is_not_left_over() -> None:
    r = Recorded()
    r.woken(2)
    r.asked(3, 2)
    first = r.wakes(5, 0)
    r.balanced(7)
    r.asked(8, 2)
    r.woken(9)
    assert r.wakes(11, 2) and first.handle == -1


def test_an_order_that_nobody_asked_for_is_not_explained() -> None:
    r = Recorded()
    r.woken(2)
    first = r.wakes(5, 0)
    r.balanced(7)
    assert late(r.wakes(11, 4)) == set() and first.handle == -1


def test_a_failure_is_counted_and_kswapd_lies_down() -> None:
    r = Recorded()
    r.balanced(7, reclaimed=0)
    assert [step.n for step in r.steps] == [d.KSWAPD_FAILED, d.KSWAPD_SLEEPS]


def test_who_is_woken_had_been_on_its_queue() -> None:
    r = Recorded()
    r.wakes(5, 0)
    r.kswapds.woken(r.line(9), 8)
    assert (r.steps[-1].n, r.steps[-1].at) == (d.KSWAPD_SLEEPS, 7)
