"""Looks are spread over the run however long it is; phases are seen at looks and in between."""

from types import SimpleNamespace
from typing import Any

import pytest

from emu.html import sample
from emu.html.phases import Phases
from emu.html.sample import SHARE, Thinned
from shm.waitqueue import WaitQueue

MS = 1_000_000


class Clock:
    """``time``, moved by hand."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now

    thread_time_ns = monotonic_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(sample, "time", made)
    return made


@pytest.mark.parametrize("ticks", [5, 60, 100, 5000])
def test_looks_are_few_and_evenly_spread(clock: Clock, ticks: int) -> None:
    looks = Thinned[int](50, 10 * MS)
    for _ in range(ticks):
        if looks.due(clock.now):
            looks.take(lambda: clock.now)
        clock.now += 10 * MS
    assert len(looks.items) == ticks if ticks <= 50 else 25 <= len(looks.items) <= 50
    gaps = {b - a for a, b in zip(looks.items, looks.items[1:], strict=False)}
    assert looks.items[0] == 0 and len(gaps) == 1
    assert clock.now - looks.items[-1] <= 2 * gaps.pop()


def test_a_look_that_takes_long_is_followed_by_a_long_pause(clock: Clock) -> None:
    looks = Thinned[int](50, 10 * MS)

    def slow() -> int:
        clock.now += 100 * MS
        return clock.now

    looks.take(slow)
    assert not looks.due(100 * MS + SHARE * 100 * MS - 1)
    assert looks.due(100 * MS + SHARE * 100 * MS)


def queue(queued: int, wakes: int) -> int:
    return queued | wakes << 32


def test_phases() -> None:
    node: Any = SimpleNamespace(node_id=0, kswapd_wait=WaitQueue(queue(1, 5)), kcompactd_wait=WaitQueue(queue(1, 0)))
    phases = Phases(SimpleNamespace(nodes=[node], nr_nodes=1))  # type: ignore[arg-type]
    looks = [(10, 1, 5), (20, 0, 6), (30, 0, 6), (40, 1, 6), (50, 1, 6), (60, 1, 8), (70, 0, 9)]
    for now, queued, wakes in looks:
        node.kswapd_wait.state = queue(queued, wakes)
        phases.look(now)
    # awake from 20 to 40; woken and asleep again between 50 and 60; awake at the end
    assert phases.spans() == {"kswapd0": [(20, 40), (50, 60), (70, 70)], "kcompactd0": []}
    assert phases.wakes() == {"kswapd0": 4, "kcompactd0": 0}
