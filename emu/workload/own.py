"""A recorded case on the emulator's own reclaim, compaction and OOM killer, and its events beside the kernel's.

Only the recording driver's operations are taken from a case, and the state that it began in: LRU lists, pageblocks,
tasks. What kswapd, direct reclaim, compaction and the OOM killer do then is the emulator's own doing, at its own speed.
"""

import gzip
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emu.workload import script as s
from emu.workload.case import OPS, Case, Line, Step
from emu.zone import event as e

__all__ = [
    "COUNTS", "Count", "RecordedTask", "counts_of_kernel", "counts_of_ours", "own_script", "runs_of_kswapd", "tasks_of",
]  # fmt: skip

OWN_OPS = {**OPS, "w": s.OP_MSLEEP, "g": s.OP_WAIT_KSWAPD}
_TASK = re.compile(r"\[\s*(\d+)\]\s+\d+\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(-?\d+)\s+(\S+)")
_KILLED = re.compile(r"Killed process (\d+) .*anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB")


@dataclass(frozen=True)
class RecordedTask:
    """A task of the recorded kernel as an OOM report lists it. Sizes in pages; ``anon`` -1: not told."""

    pid: int
    comm: str
    total_vm: int
    rss: int
    anon: int
    oom_score_adj: int


def own_script(case: Case, paced: bool) -> list[Step]:
    """The driver's operations, in script order. ``paced``: with the places at which kswapd got a processor and was
    done, which the scheduler decided and not memory management."""
    out: list[Step] = []
    gates = _gates(case) if paced else {}
    for op in case.ops:
        out += gates.get(op["seq"], [])
        out.append(
            Step(
                op["seq"], OWN_OPS[op["op"]], op["cpu"], op.get("order", 0), op.get("gfp", 0), op["h"], op["nid"], 0,
                op["nodemask"], op.get("n", 0), op["pfn"], op,
            )
        )  # fmt: skip
    return out


def runs_of_kswapd(case: Case) -> dict[int, int]:
    """How often each node's kswapd ran."""
    wakes = [line["nid"] for line in case.trace if line.event == "mm_vmscan_kswapd_wake"]
    return {nid: wakes.count(nid) for nid in set(wakes)}


def _gates(case: Case) -> dict[int, list[Step]]:
    """By operation: what is done right before it. A run that began while an operation was going on may begin with it;
    one that had ended before an operation began is waited for."""
    out: dict[int, list[Step]] = {}
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    waiting: list[Step] = []  # for what has happened since the last operation began
    stolen: dict[int, int] = {}
    now: dict[str, Any] | None = None
    ops = {op["seq"]: op for op in case.ops}
    for line in case.trace:
        if line.event == "oracle_op" and line.text.startswith("start"):
            now = ops[line["seq"]]
            out.setdefault(now["seq"], []).extend(replace(step, at=now["seq"], cpu=now["cpu"]) for step in waiting)
            waiting = []
        elif line.event == "mm_vmscan_kswapd_wake":
            nid = line["nid"]
            begun[nid] = begun.get(nid, 0) + 1
            stolen[nid] = 0
            place = now or case.ops[0]
            gate = Step(place["seq"], s.OP_KSWAPD_RUNS, place["cpu"], nid=nid, n=begun[nid])
            out.setdefault(place["seq"], []).append(gate)
        elif line.event == "oracle_kswapd":
            nid = line["nid"]
            ended[nid] = ended.get(nid, 0) + 1
            waiting = [step for step in waiting if step.nid != nid]
            waiting.append(Step(line.seq, s.OP_KSWAPD_RAN, 0, nid=nid, n=ended[nid]))
        elif line.event == "mm_vmscan_lru_shrink_inactive" and line.task.startswith("kswapd"):
            nid = line["nid"]
            stolen[nid] = stolen.get(nid, 0) + line["nr_reclaimed"]
            waiting = [step for step in waiting if step.nid != nid]
            done = Step(line.seq, s.OP_KSWAPD_STOLE, 0, nid=nid, n=begun.get(nid, 1), nodemask=stolen[nid])
            waiting.append(done)
    return out


def tasks_of(case: Case) -> list[RecordedTask]:
    """The tasks that held memory, from the case's first OOM report; none: no report names any."""
    path = case.path / "dmesg.txt.gz"
    if not path.exists():
        return []
    with gzip.open(path, "rt", errors="replace") as file:
        lines = file.read().splitlines()
    killed = {int(m[1]): int(m[2]) >> 2 for m in map(_KILLED.search, lines) if m}
    found: list[RecordedTask] = []
    inside = False
    for line in lines:
        if "Tasks state (memory values in pages)" in line:
            inside = True
        elif inside and "oom-kill:constraint" in line:
            break
        elif inside and (m := _TASK.search(line)):
            pid = int(m[1])
            found.append(RecordedTask(pid, m[7], int(m[2]), int(m[3]), killed.get(pid, -1), int(m[6])))
    return found


@dataclass(frozen=True)
class Count:
    """One row of the table: how it is counted in a recorded trace and in the emulator's events."""

    name: str
    kernel: Callable[[Iterable[Line]], int]
    ours: Callable[[np.ndarray[Any, Any]], int]


def _events(name: str, kind: int) -> Count:
    return Count(
        name.removeprefix("mm_").removeprefix("vmscan_"),
        lambda lines: sum(line.event == name for line in lines),
        lambda events: int(np.count_nonzero(events["kind"] == kind)),
    )


def _summed(label: str, name: str, field: str, kind: int) -> Count:
    return Count(
        label,
        lambda lines: sum(line[field] for line in lines if line.event == name),
        lambda events: int(events["a"][events["kind"] == kind].sum()),
    )


def _slowpath(label: str, step: str, which: int) -> Count:
    return Count(
        label,
        lambda lines: sum(line.event == "oracle_slowpath" and f"step={step}" in line.text for line in lines),
        lambda events: int(np.count_nonzero((events["kind"] == e.EV_SLOWPATH) & (events["migratetype"] == which))),
    )


def _boosts(label: str, up: bool) -> Count:
    def kernel(lines: Iterable[Line]) -> int:
        return sum((line["new"] > line["old"]) is up for line in lines if line.event == "oracle_boost")

    def ours(events: np.ndarray[Any, Any]) -> int:
        b = events["b"][events["kind"] == e.EV_BOOST]
        return int(np.count_nonzero(((b >> 32) > (b & 0xFFFFFFFF)) == up))

    return Count(label, kernel, ours)


COUNTS: Sequence[Count] = (
    _events("mm_vmscan_wakeup_kswapd", e.EV_WAKEUP_KSWAPD),
    _events("mm_vmscan_kswapd_wake", e.EV_KSWAPD_WAKE),
    _events("mm_vmscan_kswapd_sleep", e.EV_KSWAPD_SLEEP),
    _summed("pages reclaimed by kswapd", "oracle_kswapd", "a", e.EV_BALANCE_PGDAT),
    _events("mm_vmscan_direct_reclaim_begin", e.EV_DIRECT_RECLAIM_BEGIN),
    _summed("pages reclaimed directly", "mm_vmscan_direct_reclaim_end", "nr_reclaimed", e.EV_DIRECT_RECLAIM_END),
    _events("reclaim_retry_zone", e.EV_RECLAIM_RETRY),
    _events("mm_compaction_try_to_compact_pages", e.EV_TRY_TO_COMPACT_PAGES),
    _events("mm_compaction_begin", e.EV_COMPACTION_BEGIN),
    _events("mm_compaction_kcompactd_wake", e.EV_KCOMPACTD_WAKE),
    _boosts("boosts", True),
    _boosts("boosts taken back", False),
    _events("mark_victim", e.EV_MARK_VICTIM),
)


def counts_of_kernel(case: Case) -> dict[str, int]:
    """The kernel's events in a case."""
    return {count.name: count.kernel(case.trace) for count in COUNTS}


def counts_of_ours(events: np.ndarray[Any, Any]) -> dict[str, int]:
    """The emulator's."""
    return {count.name: count.ours(events) for count in COUNTS}
