"""``emu replay``: a recorded trace on a machine with its own processes."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu.config import MachineConfig, make_config
from emu.cpu.process import Handler
from emu.machine import Machine
from emu.workload import replay_ops as ops
from emu.workload.replay import Plan, plan_replay
from emu.workload.script import HANDLE_SIZE, Handle
from emu.workload.trace import Trace
from emu.zone.board import Board
from emu.zone.snapshot import State, StateError
from shm.loader import Progress
from shm.struct import address_of, record_at, records_at

__all__ = ["DEMO", "Replay", "ReplayReport", "read_state"]

CMD_REPLAY = 6
DATA = Path(__file__).parent / "data"
DEMO = (DATA / "work_numa4.trace.gz", DATA / "work_numa4.before.json.gz")
LEAST_MEMORY = 256 << 20


def _replay(board: Board, index: int) -> int:
    """CMD_REPLAY: ops, handles, results, first, last, ordered."""
    return int(ops.replay_slice(board.m, board.cpu(index), *board.cpu(index).command_args))


def read_state(path: Path) -> State:
    """A state file (``before.json.gz`` of a case, or ``state.json.gz`` of a report)."""
    try:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as file:
            state = json.load(file)
    except FileNotFoundError as err:
        raise StateError(f"{path}: no such file") from err
    except (OSError, EOFError, ValueError) as err:
        raise StateError(f"{path}: not a state: {err}") from err
    if not isinstance(state, dict) or not str(state.get("kernel", "")).startswith("5.10"):
        kernel = state.get("kernel") if isinstance(state, dict) else None
        raise StateError(f"{path}: a state of kernel {kernel}, not of 5.10")
    return state


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did. Counts are of operations."""

    trace: str
    lines: int
    skipped: dict[str, int]
    not_replayed: dict[str, int]
    order: str
    cpus: int
    events: int
    prelude: int
    allocs: int
    failed: int
    frees: int
    frees_without_page: int
    waits: int
    seconds: float
    events_per_second: float


class Replay:
    """A trace, planned for a machine that is then started."""

    def __init__(
        self, trace: Trace, *, order: str = "trace", cpus: int = 0, before: State | None = None,
        values: dict[str, Any] | None = None, record: bool = False, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """``record``: with trace points on."""
        self.trace, self.order = trace, order
        count = cpus or (len(before["cpu_node"]) if before else max(trace.cpus, 1))
        self.plan: Plan = plan_replay(trace, count, known_before=before is not None)
        more = {**(values or {}), "trace": record}
        config = make_config({"cpus": count, "trace": record}, "machine") if before else self._config(count, more)
        tables = len(self.plan.ops) * ops.REPLAY_OP_SIZE + self.plan.handles * HANDLE_SIZE + count * ops.RESULT_SIZE
        handlers: dict[int, Handler] = {CMD_REPLAY: _replay}
        self.machine = Machine(
            config, state=before, script_size=tables + 3 * 4096, handlers=handlers, progress=progress
        )
        self._place()

    def _config(self, cpus: int, values: dict[str, Any]) -> MachineConfig:
        """Enough memory for the peak and half as much again, unless told otherwise."""
        wanted = max(LEAST_MEMORY, self.plan.peak_pages * 4096 * 3 // 2)
        return make_config({"memory": wanted, **values, "cpus": cpus}, "machine")

    def _place(self) -> None:
        m, plan = self.machine.m, self.plan
        base = address_of(m)
        self.ops_at = m.script
        self.handles_at = self.ops_at + -(-len(plan.ops) * ops.REPLAY_OP_SIZE // 64) * 64
        self.results_at = self.handles_at + -(-plan.handles * HANDLE_SIZE // 64) * 64
        records_at(ops.ReplayOp, base + self.ops_at, len(plan.ops))[:] = plan.ops
        records_at(Handle, base + self.handles_at, max(plan.handles, 1))["pfn"] = ops.PENDING

    def results(self) -> list[ops.ReplayResult]:
        """Each CPU's counts, live."""
        base = address_of(self.machine.m) + self.results_at
        return [record_at(ops.ReplayResult, base + i * ops.RESULT_SIZE) for i in range(self.machine.m.nr_cpus)]

    def done(self) -> int:
        """Operations executed so far."""
        return sum(r.done for r in self.results())

    def _run(self, first: int, last: int, ordered: bool, tick: Callable[[], None] | None) -> None:
        cpus = range(self.machine.m.nr_cpus)
        self.machine.m.turn = first
        for i in cpus:
            args = (self.ops_at, self.handles_at, self.results_at, first, last, int(ordered))
            self.machine.post(i, CMD_REPLAY, *args)
        self.machine.wait(cpus, tick=tick)

    def run(self, tick: Callable[[], None] | None = None) -> ReplayReport:
        """Prelude, then the trace. The machine must be started."""
        plan = self.plan
        self._run(0, plan.prelude, True, None)
        for r in self.results():
            r.done = r.allocs = r.frees = r.failed = r.skipped = r.waits = 0
        began = time.perf_counter()
        self._run(plan.prelude, len(plan.ops), self.order == "trace", tick)
        seconds = time.perf_counter() - began
        total = self.results()
        return ReplayReport(
            str(self.trace.path), self.trace.lines, dict(self.trace.skipped), plan.not_replayed, self.order,
            self.machine.m.nr_cpus, plan.events, plan.prelude, sum(r.allocs for r in total),
            sum(r.failed for r in total), sum(r.frees for r in total), sum(r.skipped for r in total),
            sum(r.waits for r in total), seconds,
            plan.events / seconds if seconds else 0.0,
        )  # fmt: skip
