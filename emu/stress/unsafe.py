"""``emu stress irq --unsafe no-irqsave``: what ``local_irq_save()`` is for.

Switching interrupts off has no effect, and machine after machine breaks: an interrupt takes the very page that the task
below it is about to take off a pcp list, or wants the ``zone->lock`` that the task holds. Checked mode notices a
corrupt list at once, as CONFIG_DEBUG_LIST does, and every machine is opened and looked at.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emu.config import MachineConfig
from emu.programs import load_all
from emu.stress.irq import RATES, IrqReport, stress_irq

__all__ = ["KINDS", "UnsafeReport", "kind_of", "stress_unsafe"]

KINDS = {
    "list corruption": ("list_add corruption", "list_del corruption", "list_add double add"),
    "spinlock recursion": ("BUG: spinlock recursion",),
    "lockup": ("soft lockup",),
    "bad page": ("BUG: Bad page state",),
}
OTHER, QUIET = "other", "nothing noticed"
# each attempt's tasks do one of these: single pages through the pcp lists, or everything
WORKLOADS = ("repeat", "mixed", "bulk")
ATTEMPT_S = 3.0  # enough for some ten thousand interrupts


@dataclass(frozen=True)
class UnsafeReport:
    """How machines broke, and the first of each kind."""

    config: dict[str, Any]
    rates: dict[str, float]
    unsafe: str
    seconds: float
    attempts: int
    kinds: dict[str, int]
    examples: dict[str, IrqReport]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def kind_of(report: IrqReport) -> str:
    """What broke first."""
    for text in report.broken:
        for kind, marks in KINDS.items():
            if any(mark in text for mark in marks):
                return kind
    if report.problems or report.lost_pages:
        return "list corruption"
    return OTHER if report.broken else QUIET


def stress_unsafe(
    config: MachineConfig, *, rates: Mapping[str, float] = RATES, unsafe: str = "no-irqsave",
    enough: int = len(KINDS), told: Callable[[str], None] = lambda _: None,
) -> UnsafeReport:  # fmt: skip
    """Break machines, each with its own seed, until ``config.duration`` is over or ``enough`` kinds have been seen."""
    load_all()  # compiling takes no time from the attempts
    began = time.monotonic()
    kinds: Counter[str] = Counter()
    examples: dict[str, IrqReport] = {}
    attempts = 0
    while attempts == 0 or (time.monotonic() - began < config.duration and len(examples) < enough):
        changed = {"seed": config.seed + attempts, "workload": WORKLOADS[attempts % len(WORKLOADS)]}
        trial = config.model_copy(update={**changed, "duration": min(ATTEMPT_S, config.duration)})
        report = stress_irq(trial, rates=rates, unsafe=unsafe)
        kind = kind_of(report)
        kinds[kind] += 1
        if kind not in (OTHER, QUIET):
            examples.setdefault(kind, report)
        attempts += 1
        told(f"seed {trial.seed}, {trial.workload}: {kind} after {report.delivered} interrupts")
    return UnsafeReport(
        config.model_dump(mode="json"), dict(rates), unsafe, time.monotonic() - began, attempts, dict(kinds), examples
    )
