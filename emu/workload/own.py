"""A recorded case on the emulator's own reclaim, compaction and OOM killer, and its events beside the kernel's.

Only the recording driver's operations are taken from a case, and the state that it began in: LRU lists, pageblocks,
tasks. What kswapd, direct reclaim, compaction and the OOM killer do then is the emulator's own doing, at its own speed.
"""

import gzip
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.workload import script as s
from emu.workload.case import OPS, Case, Line, Step
from emu.zone import event as e

__all__ = ["COUNTS", "Count", "Dying", "counts_of_kernel", "counts_of_ours", "own_script", "tasks_of"]

OWN_OPS = {**OPS, "w": s.OP_MSLEEP, "g": s.OP_WAIT_KSWAPD}
_TASK = re.compile(r"\[\s*(\d+)\]\s+\d+\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(-?\d+)\s+(\S+)")
_KILLED = re.compile(r"Killed process (\d+) .*anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB")


@dataclass(frozen=True)
class Dying:
    """A task of the recorded kernel as an OOM report lists it. Sizes in pages; ``anon`` -1: not told."""

    pid: int
    comm: str
    total_vm: int
    rss: int
    anon: int
    oom_score_adj: int


def own_script(case: Case) -> list[Step]:
    """The driver's operations, in script order."""
    return [
        Step(
            op["seq"], OWN_OPS[op["op"]], op["cpu"], op.get("order", 0), op.get("gfp", 0), op["h"], op["nid"], 0,
            op["nodemask"], op.get("n", 0), op["pfn"], op,
        )
        for op in case.ops
    ]  # fmt: skip


def tasks_of(case: Case) -> list[Dying]:
    """The tasks that held memory, from the case's first OOM report; none: no report names any."""
    path = case.path / "dmesg.txt.gz"
    if not path.exists():
        return []
    with gzip.open(path, "rt", errors="replace") as file:
        lines = file.read().splitlines()
    killed = {int(m[1]): int(m[2]) >> 2 for m in map(_KILLED.search, lines) if m}
    found: list[Dying] = []
    inside = False
    for line in lines:
        if "Tasks state (memory values in pages)" in line:
            inside = True
        elif inside and "oom-kill:constraint" in line:
            break
        elif inside and (m := _TASK.search(line)):
            pid = int(m[1])
            found.append(Dying(pid, m[7], int(m[2]), int(m[3]), killed.get(pid, -1), int(m[6])))
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
