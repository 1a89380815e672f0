"""A schedule as one page that needs no network: columns, arrows where the baton goes to somebody else, what each step
wrote at a click; the story and the commits of the race, the command to play it again.

The frame is ``report.html``. Without scripts the page shows all steps, with what they wrote in the tooltips.
"""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu.race.describe import MARKS, STATUS, machine_lines, program_lines, story_lines
from emu.race.diagram import Cell, Fold, columns_of, folded, seat_of, steps_of

if TYPE_CHECKING:
    from emu.race.replay import Seen
    from emu.race.report import Report

__all__ = ["page"]

FRAME = Path(__file__).with_name("report.html")
CALM = ("ends", "end of", "sleeps")


def page(report: "Report") -> str:
    """The page."""
    recording, scenario = report.recording, report.scenario
    parts = {
        "title": _text(report.heading),
        "subtitle": _text(f"{STATUS.get(scenario.status, scenario.status)}."),
        "verdict": _verdict(report),
        "story": "<br>".join(_text(line) for line in story_lines(scenario)),
        "commits": _commits(report),
        "machine": _machine(report),
        "columns": str(len(columns_of(recording, scenario))),
        "nr_steps": str(len(recording.steps)),
        "nr_preemptions": _count(sum(bool(step.preempts) for step in recording.steps), "preemption"),
        "steps": "\n".join(_grid(report)),
        "command": _text(report.command),
        "data": _data(report),
    }
    text = FRAME.read_text()
    head, *rest = text.split("{")
    out = [head]
    for piece in rest:  # only names that are known: the rest are braces of CSS and JavaScript
        name, brace, after = piece.partition("}")
        out.append(parts[name] + after if brace and name in parts else "{" + piece)
    return "".join(out)


def _text(text: str) -> str:
    return html.escape(text)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _verdict(report: "Report") -> str:
    verdict = report.recording.verdict
    if verdict.ok:
        return "This schedule does not fail."
    name = f" {_text(verdict.invariant)}" if verdict.invariant else ""
    return f"<b>{_text(verdict.kind)}</b>{name}<br>" + "<br>".join(_text(part) for part in verdict.text.split("; "))


def _commits(report: "Report") -> str:
    commits = report.scenario.commits
    if not commits:
        return ""
    rows = "".join(
        f'<tr><td><a href="https://git.kernel.org/linus/{_text(c.id)}"><code>{_text(c.id)}</code></a></td>'
        f"<td>{_text(c.subject)}</td><td class=dim>{_text(c.mark)}: {_text(MARKS.get(c.mark, ''))}</td></tr>"
        for c in commits
    )
    return f"<table>{rows}</table>"


def _machine(report: "Report") -> str:
    programs = _table(list(program_lines(report.scenario)))
    rows = [("machine", line) for line in machine_lines(report.scenario)]
    rows += [(i.name, i.sentence) for i in report.scenario.invariants]
    return f"{programs}<details><summary>the machine, and what must hold</summary>{_table(rows)}</details>"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td class=dim>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


# --- the diagram ------------------------------------------------------------------------------------------------------


def _grid(report: "Report") -> Iterator[str]:
    recording, scenario = report.recording, report.scenario
    for i, name in enumerate(columns_of(recording, scenario)):
        yield f'<div class="head" style="grid-column:{i + 1};grid-row:1">{_text(name)}</div>'
    cells = steps_of(recording, scenario)
    function: dict[int, str] = {}
    row = 1
    for number, item in enumerate(folded(recording, scenario)):
        if isinstance(item, Cell):
            row += 1
            yield _step(item, recording.steps[item.index], function, row, None)
            continue
        row += 1
        yield (
            f'<button type="button" class="fold" data-folds="{number}" '
            f'style="grid-column:{item.columns[0] + 1};grid-row:{row}">{_text(_fold_text(item))}</button>'
        )
        for cell in cells[item.first : item.first + max(item.rounds, 1) * item.steps]:
            row += 1
            yield _step(cell, recording.steps[cell.index], function, row, number)
        function.clear()


def _fold_text(fold: Fold) -> str:
    if not fold.rounds:
        return f"... {fold.steps} steps"
    steps = _count(fold.steps, "step")
    return f"... the same {steps} {fold.rounds} more times" + ("" if fold.alike else ", with other numbers")


def _step(cell: Cell, step: "Seen", function: dict[int, str], row: int, fold: int | None) -> str:
    spans = []
    if cell.before:
        spans.append(_span("mark", f"<{cell.before}>"))
        function.pop(cell.column, None)
    for kind, text in cell.lines:
        if kind == "op":
            function.pop(cell.column, None)
        elif kind == "point" and cell.function and function.get(cell.column) != cell.function:
            spans.append(_span("function", f"{cell.function}()"))
            function[cell.column] = cell.function
        spans.append(_span(kind, text))
    if cell.after:
        spans.append(_span("mark calm" if cell.after.startswith(CALM) else "mark", f"<{cell.after}>"))
        if cell.after.startswith("end"):
            function.pop(cell.column, None)
    classes = ["step"]
    classes += ["on-top"] if seat_of(cell.actor) != cell.actor else []
    classes += ["preempts"] if step.preempts else []
    classes += ["folded"] if fold is not None else []
    title = "\n".join([f"{step.actor} {step.point}", *(f"{w.name} {w.old} -> {w.new}" for w in step.writes[:20])])
    in_fold = "" if fold is None else f' data-fold="{fold}"'
    return (
        f'<div class="{" ".join(classes)}" data-step="{cell.index}"{in_fold} title="{_text(title)}" '
        f'style="grid-column:{cell.column + 1};grid-row:{row}">{"".join(spans) or "&nbsp;"}</div>'
    )


def _span(kind: str, text: str) -> str:
    return f'<span class="{kind}">{_text(text)}</span>'


def _data(report: "Report") -> str:
    """What the page's script needs, safe inside of an element."""
    steps = report.as_dict()["steps"]
    text = json.dumps({"steps": steps, "switches": list(_switches(report))}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _switches(report: "Report") -> Iterator[dict[str, Any]]:
    steps = report.recording.steps
    for i in range(1, len(steps)):
        if seat_of(steps[i].actor) != seat_of(steps[i - 1].actor):
            yield {"from": i - 1, "to": i, "preempted": bool(steps[i].preempts)}
