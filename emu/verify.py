"""``emu verify``: recorded kernel cases on a machine with real processes, compared bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emu.config import make_config
from emu.cpu.process import Handler
from emu.machine import CMD_FREE_RUN, CMD_ORDERED, Machine
from emu.workload import script as s
from emu.workload import script_run
from emu.workload.case import Case, Step, load_case, script_of
from emu.workload.compare import (
    Difference,
    after_differences,
    event_differences,
    result_differences,
    unseen_folds,
)
from emu.workload.driven import driven_script
from emu.workload.driven_check import compare_driven
from emu.zone.board import Board
from emu.zone.event import Event
from shm.loader import Progress
from shm.struct import address_of, dtype_of, records_at

OTHERS_TAKE_PART = ("mm_vmscan_kswapd_wake", "mm_vmscan_direct_reclaim_begin", "mm_compaction_begin")


@dataclass(frozen=True)
class Verdict:
    """What came of one case.

    ``level``: ``operations`` (nothing is taken from the trace but what other tasks did) or ``driven`` (what reclaim,
    compaction and userland did comes from the trace). ``reads``: where the kernel read something without a lock at
    another instant, with both values; they are no differences.
    """

    case: str
    level: str
    operations: int
    allocs: int
    seconds: float
    events: int
    differences: tuple[Difference, ...] = field(default=())
    reads: tuple[Difference, ...] = field(default=())

    @property
    def matches(self) -> bool:
        return not self.differences


def _ordered(board: Board, index: int) -> int:
    """CMD_ORDERED: ops, handles, first, last, procs, mine."""
    return int(script_run.run_ordered(board.m, board.cpu(index), *board.cpu(index).command_args[:6]))


def _free_run(board: Board, index: int) -> int:
    """CMD_FREE_RUN: ops, handles, first, last."""
    return int(script_run.run_free(board.m, board.cpu(index), *board.cpu(index).command_args[:4]))


HANDLED = (s.OP_ALLOC, s.OP_FREE, s.OP_FREE_LIST)
SCRIPT_HANDLERS: dict[int, Handler] = {CMD_ORDERED: _ordered, CMD_FREE_RUN: _free_run}


def script_bytes(operations: int, handles: int) -> int:
    """Size of the script area for so many operations and handles."""
    return operations * s.OP_SIZE + handles * s.HANDLE_SIZE + 4096


@dataclass(frozen=True)
class Placed:
    """A script in a machine's script area."""

    ops: Any  # ctypes array of Op
    array: np.ndarray[Any, Any]  # the same memory
    handles: np.ndarray[Any, Any]
    ops_at: int
    handles_at: int


def place(machine: Machine, operations: int, handles: int) -> Placed:
    """Room for a script; handles empty."""
    m, base = machine.m, address_of(machine.m)
    handles_at = m.script + -(-operations * s.OP_SIZE // 64) * 64
    ops = (s.Op * operations).from_address(base + m.script)
    table = records_at(s.Handle, base + handles_at, handles)
    table["pfn"] = -1
    array = records_at(s.Op, base + m.script, operations)
    return Placed(ops, array, table, m.script, handles_at)


def fill(placed: Placed, steps: Sequence[Step]) -> None:
    for name in ("code", "cpu", "order", "gfp", "handle", "nid", "zid", "nodemask", "n", "pfn"):
        placed.array[name] = [getattr(step, name) for step in steps]


def run_ordered(machine: Machine, placed: Placed, count: int, tick: Callable[[], None] | None = None) -> None:
    """Execute a placed script in its order on the machine's processes."""
    procs = machine.processes
    machine.m.turn = 0
    for i in range(procs):
        machine.post(machine.party(i), CMD_ORDERED, placed.ops_at, placed.handles_at, 0, count, procs, i)
    machine.wait([machine.party(i) for i in range(procs)], tick=tick)


def is_driven(case: Case) -> bool:
    """Whether reclaim, compaction or userland take part, so that the trace must say what they did."""
    return not case.ops or any(case.meta["events"].get(name) for name in OTHERS_TAKE_PART)


def verify_case(
    path: Path, *, processes: int | None = None, traced: bool = True, progress: Progress | None = None
) -> Verdict:
    """Run a recorded case on real processes and compare everything with the kernel's record.

    Untraced, the events can't be compared, but the allocator runs the way it does at full speed.
    """
    case = load_case(path)
    driven = is_driven(case)
    steps = driven_script(case) if driven else script_of(case)
    cpus = len(case.before["cpu_node"])
    if processes is not None and processes > cpus:
        processes -= processes % cpus  # each CPU is played by equally many
    handles = 1 + max((step.handle + max(step.n, 1) for step in steps if step.code in HANDLED), default=0)
    ring = 1 << max(14, (2 * len(case.trace)).bit_length())  # untouched memory costs nothing
    machine = Machine(
        make_config({"cpus": cpus}, "case"), state=case.before, daemons=False, ring_capacity=ring,
        script_size=script_bytes(len(steps), handles), handlers=SCRIPT_HANDLERS, progress=progress,
        processes=processes,
    )  # fmt: skip
    with machine:
        machine.trace(traced)
        placed, seconds, events = _execute(machine, case, steps, handles)
        ours = machine.state()
        lost = machine.lost_events()
        if driven:
            found = compare_driven(case, steps, placed.array, ours, events if traced and not lost else None)
            differences, reads, allocs = list(found.differences), list(found.reads), found.allocs
        else:
            differences, reads = result_differences(case, steps, placed.ops)
            differences += after_differences(case.after, ours)
            reads += unseen_folds(case.after, ours)
            allocs = sum(step.code == s.OP_ALLOC for step in steps)
            if traced and not lost:
                differences += event_differences(case, events)
    if lost:
        differences.append(Difference("kmem events", "all", f"{lost} lost"))
    level = "driven" if driven else "operations"
    return Verdict(case.name, level, len(steps), allocs, seconds, len(events), tuple(differences), tuple(reads))


def _execute(
    machine: Machine, case: Case, steps: Sequence[Step], handles: int
) -> tuple[Placed, float, np.ndarray[Any, Any]]:
    """The steps on the machine's processes: what they left, the seconds it took, all events."""
    if case.meta["mode"] == "stop":  # the caller is the stopper thread, a real-time task
        for i in range(machine.m.nr_cpus):
            machine.board.task(i).rt = 1
    placed = place(machine, len(steps), handles)
    fill(placed, steps)
    machine.keep_events = True
    began = time.perf_counter()
    run_ordered(machine, placed, len(steps))
    seconds = time.perf_counter() - began
    machine.pump()
    return placed, seconds, np.concatenate(machine.events) if machine.events else np.zeros(0, dtype_of(Event))
