"""What a machine reports while it runs: failed allocations, the OOM killer, warnings; each with its text and time."""

from dataclasses import dataclass
from typing import Any

from emu.machine import Machine
from emu.zone.event import (
    EV_ALLOC_FAILURE,
    EV_OOM_KILL,
    EV_OOM_KILLED,
    EV_OOM_MESSAGE,
    EV_OOM_REAPED,
    EV_OOM_SUMMARY,
    EV_OOM_TASK,
)  # fmt: skip
from emu.zone.report import render

__all__ = ["Incident", "Incidents"]

MOST = 200  # that are kept; further ones are counted
OOM_LINES = (EV_OOM_TASK, EV_OOM_SUMMARY, EV_OOM_KILLED, EV_OOM_REAPED, EV_OOM_MESSAGE)
KINDS = {EV_ALLOC_FAILURE: "failure", EV_OOM_KILL: "oom"}


@dataclass
class Incident:
    """One report in the kernel's words."""

    at: int  # CLOCK_MONOTONIC ns
    kind: str  # "failure", "oom" or "report"
    cpu: int
    text: str


class Incidents:
    """Keeps a machine's reports; whoever was told of them before still is."""

    def __init__(self, machine: Machine) -> None:
        self.kept: list[Incident] = []
        self.left_out = 0
        self._m, self._told_before = machine.m, machine.on_report
        machine.on_report = self._told

    def _told(self, event: Any) -> None:
        if self._told_before is not None:
            self._told_before(event)
        kind, cpu = int(event["kind"]), int(event["cpu"])
        if kind in OOM_LINES and (before := self._last_oom(cpu)):
            before.text += render(event, self._m)
        elif len(self.kept) >= MOST:
            self.left_out += 1
        else:
            self.kept.append(Incident(int(event["ts"]), KINDS.get(kind, "report"), cpu, render(event, self._m)))

    def _last_oom(self, cpu: int) -> Incident | None:
        """The report that a line of the OOM killer's belongs to: its own CPU's, or for the reaper the last one."""
        ours = [one for one in self.kept if one.kind == "oom" and (one.cpu == cpu or cpu >= self._m.nr_cpus)]
        return ours[-1] if ours else None
