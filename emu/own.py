"""``emu verify --own``: recorded cases on the emulator's own reclaim, compaction and OOM killer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu.config import make_config
from emu.machine import CMD_FREE_RUN, Machine
from emu.verify import SCRIPT_HANDLERS, fill, place, run_ordered, script_bytes
from emu.workload import script as s
from emu.workload.case import Case, load_case
from emu.workload.own import counts_of_kernel, counts_of_ours, own_script, runs_of_kswapd, tasks_of
from emu.workload.own_state import load_lruvecs
from emu.zone.event import Event
from emu.zone.init_vm import vm_of
from emu.zone.sched import RESTART_CPUSET, RESTART_REASONS
from emu.zone.validate import validate
from shm.loader import Progress
from shm.struct import dtype_of

__all__ = ["Own", "has_driver", "markdown", "run_own"]

RING = 1 << 20
COOKIE = RESTART_REASONS[RESTART_CPUSET]


@dataclass(frozen=True)
class Own:
    """What came of one case.

    ``allocs``: allocations of the driver; ``failed_kernel``, ``failed``: those that failed there and here;
    ``disagree``: those that failed in one and not in the other. ``counts``: events by name, (kernel's, ours).
    ``restarts``: slow paths begun again for the cpuset cookie; ``restarts_by``: ours, for every reason.
    ``findings``: invariants that don't hold afterwards.
    """

    case: str
    allocs: int
    failed_kernel: int
    failed: int
    disagree: int
    seconds: float
    counts: dict[str, tuple[int, int]]
    restarts: tuple[int, int]
    restarts_by: dict[str, int]
    findings: tuple[str, ...]

    @property
    def agreement(self) -> float:
        """Share of the allocations with the kernel's outcome."""
        return 1.0 - self.disagree / max(self.allocs, 1)


def has_driver(path: Path) -> bool:
    """Whether a case has operations of its own, or only the trace of what userland did."""
    return (path / "ops.jsonl.gz").exists()


def _restarts_of_kernel(case: Case) -> int:
    """Slow paths that began again within one allocation."""
    inside: dict[int, int] = {}
    again = 0
    for line in case.trace:
        if line.event == "oracle_alloc_enter":
            inside[line.pid] = 0
        elif line.event == "oracle_slowpath" and "step=start" in line.text:
            again += inside.get(line.pid, 0) > 0
            inside[line.pid] = inside.get(line.pid, 0) + 1
    return again


def run_own(
    path: Path, *, paced: bool = True, switches: dict[str, int] | None = None, progress: Progress | None = None
) -> Own:
    """Run a case of a recording driver from its state before, with all daemons running.

    ``paced``: kswapd gets a processor where it got one in the recorded kernel, and the driver waits for it where it had
    to there; otherwise it is left to this host's scheduler. ``switches``: fields of the machine's ``Vm`` such as
    ``no_cpuset_cookie``.
    """
    case = load_case(path)
    paced = paced and case.meta["mode"] != "free"  # there the CPUs had no common order to pace by
    steps = own_script(case, paced)
    handles = 1 + max((step.handle + max(step.n, 1) for step in steps if step.handle >= 0), default=0)
    cpus = len(case.before["cpu_node"])
    machine = Machine(
        make_config({"cpus": cpus}, "case"), state=case.before, ring_capacity=RING,
        script_size=script_bytes(len(steps), handles), handlers=SCRIPT_HANDLERS, progress=progress,
    )  # fmt: skip
    load_lruvecs(machine.m, case.before, tasks_of(case))
    if paced:
        for nid, runs in runs_of_kswapd(case).items():
            vm_of(machine.m).kswapds[nid].paced = runs
    for name, value in (switches or {}).items():
        setattr(vm_of(machine.m), name, value)
    machine.trace(True)
    machine.keep_events = True
    with machine:
        placed = place(machine, len(steps), handles)
        fill(placed, steps)
        began = time.perf_counter()
        if case.meta["mode"] == "free":
            for i in range(cpus):
                machine.post(i, CMD_FREE_RUN, placed.ops_at, placed.handles_at, 0, len(steps))
            machine.wait(range(cpus), tick=machine.pump)
        else:
            run_ordered(machine, placed, len(steps), tick=machine.pump)
        seconds = time.perf_counter() - began
        machine.pump()
        events = np.concatenate(machine.events) if machine.events else np.zeros(0, dtype_of(Event))
        tasks = [machine.board.task(i) for i in range(cpus)]
        restarts = {why: sum(t.restarts_by[n] for t in tasks) for n, why in enumerate(RESTART_REASONS)}
        machine.settle()
        machine.halt()
        lost = machine.lost_events()
        findings = (*validate(machine.m), *([f"{lost} events are lost: the counts are too low"] if lost else []))
    allocs = [i for i, step in enumerate(steps) if step.code == s.OP_ALLOC]
    theirs = np.array([(steps[i].recorded or {})["pfn"] < 0 for i in allocs], bool)
    ours = placed.array["pfn"][allocs] < 0
    kernel, emulator = counts_of_kernel(case), counts_of_ours(events)
    return Own(
        case.name, len(allocs), int(theirs.sum()), int(ours.sum()), int((theirs != ours).sum()), seconds,
        {name: (kernel[name], emulator[name]) for name in kernel},
        (_restarts_of_kernel(case), restarts[COOKIE]), restarts, findings,
    )  # fmt: skip


def markdown(verdicts: list[Own]) -> str:
    """The table of docs/conformance.md: a row for each kind of event, kernel and emulator beside each other."""
    names = list(verdicts[0].counts) if verdicts else []
    head = "| | " + " | ".join(v.case.split("/")[-1] for v in verdicts) + " |"
    rows = [head, "|---" * (len(verdicts) + 1) + "|"]
    rows.append("| allocations | " + " | ".join(f"{v.allocs:,}" for v in verdicts) + " |")
    rows.append("| failed | " + " | ".join(f"{v.failed_kernel} / {v.failed}" for v in verdicts) + " |")
    rows.append("| same outcome | " + " | ".join(f"{v.agreement:.1%}" for v in verdicts) + " |")
    for name in names:
        rows.append(f"| {name} | " + " | ".join("{} / {}".format(*v.counts[name]) for v in verdicts) + " |")
    restarts = " | ".join("{} / {}".format(*v.restarts) for v in verdicts)
    rows.append(f"| restarts by the cpuset cookie | {restarts} |")
    return "\n".join(rows) + "\n"
