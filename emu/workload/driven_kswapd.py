"""What the kswapds of a recorded kernel did to their nodes, as operations."""

from typing import Any

from emu.workload import driven_ops as d
from emu.workload.case import Line, Step
from emu.workload.driven_context import fields_of
from emu.zone.snapshot import State

__all__ = ["Kswapds"]


class Kswapds:
    """Adds kswapd's steps to those of a case.

    kswapd takes the order that it is asked for a little before its event says which: a request that comes in between
    it hasn't seen, and that stays.
    """

    def __init__(self, before: State, steps: list[Step]) -> None:
        self._steps = steps
        self._queued = {n["nid"]: bool(n["kswapd_waiting"]) for n in before["nodes"]}  # on its wait queue
        self._seen = dict.fromkeys(self._queued, -1)  # node -> kswapd's last event, or the last that woke it
        self._took: dict[int, Step] = {}  # node -> when it last took an order
        self._asked: list[tuple[int, int]] = []  # event, order

    def _step(self, line: Line, what: int, nid: int, order: int = 0, **recorded: Any) -> Step:
        self._seen[nid] = line.seq
        self._steps.append(Step(line.seq, d.OP_KSWAPD, line.cpu, order, nid=nid, n=what, recorded=recorded or None))
        return self._steps[-1]

    def asked(self, line: Line, order: int) -> None:
        """A slow path asks all kswapds for blocks of an order."""
        self._asked.append((line.seq, order))

    def wakes(self, line: Line) -> None:
        """kswapd goes to work (``mm_vmscan_kswapd_wake``)."""
        f = fields_of(line)
        nid, order = int(f["nid"]), int(f["order"])
        before = self._took.get(nid)
        if before is not None and before.recorded is not None:
            since = max((asked for seq, asked in self._asked if seq > before.at), default=0)
            if order > since and order in before.recorded["late"]:
                before.handle = order  # nobody has asked for it since: it was left over
        late = {asked for seq, asked in self._asked if seq > self._seen[nid]}
        self._took[nid] = self._step(line, d.KSWAPD_WAKES, nid, order, late=late)
        self._queued[nid] = False

    def sleeps(self, line: Line) -> Step:
        """kswapd lies down on its queue."""
        nid = int(fields_of(line)["nid"])
        self._queued[nid] = True
        return self._step(line, d.KSWAPD_SLEEPS, nid)

    def balanced(self, line: Line) -> Step:
        """kswapd has balanced its node, or failed to, and lies down (``oracle_kswapd``): the step in which it does."""
        f = fields_of(line)
        self._step(line, d.KSWAPD_RECLAIMED if int(f["a"]) else d.KSWAPD_FAILED, int(f["nid"]))
        return self.sleeps(line)

    def woken(self, line: Line, at: int) -> None:
        """A wake-up takes kswapd off its queue. Woken from its short nap it queues once more before it goes to work:
        that was before ``at``."""
        nid = int(fields_of(line)["nid"])
        if not self._queued[nid]:
            self._steps.append(Step(at - 1, d.OP_KSWAPD, line.cpu, nid=nid, n=d.KSWAPD_SLEEPS))
        self._queued[nid] = False
        self._seen[nid] = line.seq
