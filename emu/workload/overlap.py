"""What an operation's note may hold when others were at work before it was taken."""

from collections.abc import Iterator, Sequence
from typing import Any

from emu.workload.case import Case, Step

__all__ = ["Overlap"]

NEVER = 1 << 62


class Overlap:
    """The values that a zone's counters had around each operation.

    Operations are executed one after another here. In the kernel they overlap where CPUs run at will (mode ``free``):
    one that was placed earlier may not have changed its counter yet, and one that was placed later may have. The note
    of an operation is taken after its last event and before its CPU begins the next one, or anybody if they take turns.
    In every mode others' differentials may be folded meanwhile.
    """

    def __init__(self, case: Case, steps: Sequence[Step], ops: Any) -> None:
        self._ops = ops
        begun, ended = _times(case)
        seqs = [(step.at, step.recorded["seq"] if step.recorded else -1) for step in steps]
        self._begun = [begun.get(seq, at) for at, seq in seqs]
        self._ended = [ended.get(seq, at) for at, seq in seqs]
        self._noted = [NEVER] * len(steps)  # at the latest
        at_will = case.meta["mode"] == "free"
        following: dict[int, int] = {}  # CPU, or 0 for all -> when the next operation begins
        for i in reversed(range(len(steps))):
            if steps[i].recorded:
                cpu = steps[i].cpu if at_will else 0
                self._noted[i] = following.get(cpu, NEVER)
                following[cpu] = self._begun[i]
        self._placed = [step.at for step in steps]
        self._folds = [
            (line.seq, (line["nid"], line["zid"]), line["v"])
            for line in case.trace
            if line.event == "oracle_vmstat_fold" and line["item"] == 0
        ]
        self._first = {
            (zone["nid"], zone["zid"]): {
                "free": zone["vm_stat"][0], "boost": zone["watermark_boost"],
                "highatomic": zone["nr_reserved_highatomic"], "zone_flags": zone["flags"],
            }
            for zone in case.before["zones"]
        }  # fmt: skip

    def may_be(self, at: int, field: str, value: int) -> bool:
        """Whether a note may hold this value. Free pages are counted singly, so any number in between may be seen."""
        values = list(self._values(at, field))
        if field != "free":
            return value in values
        zone, folded = (self._ops[at].znid, self._ops[at].rzid), self._ops[at].free
        for seq, where, pages in self._folds:
            if where == zone and self._placed[at] < seq < self._noted[at]:
                folded += pages
                values.append(folded)
        return min(values) <= value <= max(values)

    def _values(self, at: int, field: str) -> Iterator[int]:
        """What the zone's field was after an operation and those that overlap with it, and before if others had begun
        earlier."""
        first = next((i for i in range(at) if self._ended[i] > self._begun[at]), at)
        last = max(i for i, begun in enumerate(self._begun) if begun < self._noted[at])
        zone = self._ops[at].znid, self._ops[at].rzid
        same = [i for i in range(last + 1) if (self._ops[i].znid, self._ops[i].rzid) == zone]
        if first < at:
            before = [i for i in same if i < first][-1:]
            yield getattr(self._ops[before[0]], field) if before else self._first[zone][field]
        for i in same:
            if i >= first:
                yield getattr(self._ops[i], field)


def _times(case: Case) -> tuple[dict[int, int], dict[int, int]]:
    """Operation -> its first and its last event."""
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    for line in case.trace:
        if line.event == "oracle_op":
            (begun if line.text.startswith("start") else ended)[line["seq"]] = line.seq
    return begun, ended
