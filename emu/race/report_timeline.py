"""A schedule as a timeline for ui.perfetto.dev or chrome://tracing: trace events, as in their JSON.

Time is the number of the step, 1000 ns each: nothing else is sure about it. A track per actor - an interrupt has its
own below that of its CPU - with slices for the function and, in it, the step. A preemption is an arrow from the step
after which an actor could have gone on to the one that went instead, and an instant.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emu.race.diagram import Cell, columns_of, seat_of, steps_of

if TYPE_CHECKING:
    from emu.race.report import Report

__all__ = ["timeline"]

PID = 1
STEP_US = 1.0

Event = dict[str, Any]


def timeline(report: "Report") -> dict[str, Any]:
    """A trace in Chrome's format."""
    recording = report.recording
    cells = steps_of(recording, report.scenario)
    actors = _actors(report)
    tracks = {name: i + 1 for i, name in enumerate(actors)}
    events: list[Event] = [
        {"ph": "M", "pid": PID, "name": "process_name", "args": {"name": f"{recording.scenario}: {recording.title}"}},
        {"ph": "M", "pid": PID, "name": "process_labels", "args": {"labels": report.command}},
    ]
    for name, tid in tracks.items():
        events.append({"ph": "M", "pid": PID, "tid": tid, "name": "thread_name", "args": {"name": name}})
        events.append({"ph": "M", "pid": PID, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}})
    events += _slices(cells, tracks, report)
    events += _switches(tracks, report)
    if not recording.verdict.ok:
        verdict = recording.verdict
        who = verdict.who if verdict.who in tracks else next(iter(tracks), "")
        events.append(
            {
                "ph": "i", "s": "g", "pid": PID, "tid": tracks.get(who, 1), "ts": len(cells) * STEP_US,
                "name": f"{verdict.kind}: {verdict.invariant or verdict.text}", "cat": "verdict",
                "args": {"text": verdict.text},
            }
        )  # fmt: skip
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"schedule": recording.schedule, "replay": report.command, "verdict": str(recording.verdict)},
    }


def _actors(report: "Report") -> list[str]:
    """Columns, each followed by what runs on top of it."""
    seen = dict.fromkeys(step.actor for step in report.recording.steps)
    out = []
    for column in columns_of(report.recording, report.scenario):
        out += [column, *(name for name in seen if name != column and seat_of(name) == column)]
    return out


def _slices(cells: list[Cell], tracks: dict[str, int], report: "Report") -> Iterator[Event]:
    """Runs of one function, and the steps in them."""
    at = 0
    while at < len(cells):
        first, end = cells[at], at + 1
        while end < len(cells) and (cells[end].actor, cells[end].function) == (first.actor, first.function):
            end += 1
        if first.function:
            yield _slice(first.function, "function", tracks[first.actor], at, end - at, {})
        for cell in cells[at:end]:
            step = report.recording.steps[cell.index]
            what = step.point.partition(":")[2] or _first_word(cell)
            args: dict[str, Any] = {"step": cell.index, "point": step.point, "could run": ", ".join(step.enabled)}
            args |= {"lines": [text for _, text in cell.lines]}
            args |= {f"write {w.name}": f"{w.old} -> {w.new}" for w in step.writes}
            if cell.after:
                args["then"] = cell.after
            yield _slice(what, "step", tracks[cell.actor], cell.index, 1, args)
        at = end


def _first_word(cell: Cell) -> str:
    return next((text for _, text in cell.lines), "step")


def _slice(name: str, category: str, tid: int, step: int, steps: int, args: dict[str, Any]) -> Event:
    return {
        "ph": "X", "pid": PID, "tid": tid, "ts": step * STEP_US, "dur": steps * STEP_US, "name": name, "cat": category,
        "args": args,
    }  # fmt: skip


def _switches(tracks: dict[str, int], report: "Report") -> Iterator[Event]:
    """An arrow and an instant for each preemption."""
    steps = report.recording.steps
    last: dict[str, int] = {}
    for i, step in enumerate(steps):
        if step.preempts:
            on_top = re.match(r"irq|work", step.actor) and seat_of(step.actor) == seat_of(step.preempts)
            name = "interrupted" if on_top else "preempted"
            common = {"pid": PID, "cat": "preemption", "name": name, "id": i}
            if step.preempts in last:
                before = (last[step.preempts] + 0.9) * STEP_US
                yield {"ph": "s", "tid": tracks[step.preempts], "ts": before, **common}
                yield {"ph": "f", "bp": "e", "tid": tracks[step.actor], "ts": (i + 0.1) * STEP_US, **common}
            yield {
                "ph": "i", "s": "t", "tid": tracks[step.preempts], "ts": i * STEP_US, "pid": PID, "cat": "preemption",
                "name": f"{name} by {step.actor}",
            }  # fmt: skip
        last[step.actor] = i
