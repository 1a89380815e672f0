"""The page: what a run was, how it went, what failed and why, in one file that needs no network.

``page.html`` is the frame; the style sheet and the scripts beside it are put inside. A content security policy forbids
the page all requests.
"""

import html
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emu.html.data import in_script, packed, plain
from emu.html.recorder import Recording

__all__ = ["SCRIPTS", "Explained", "Page", "render"]

HERE = Path(__file__).parent
SCRIPTS = ("data.js", "plots.js", "timeline.js", "map.js", "fragmentation.js", "failures.js", "locks.js", "main.js")


@dataclass(frozen=True)
class Explained:
    """A report explained: the verdict in a sentence, and all of it line by line."""

    verdict: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Page:
    """What a page is made of, beside the recording."""

    title: str
    command: Sequence[str]  # that does the same again
    machine: Mapping[str, Any]  # as it was configured
    totals: Mapping[str, Any]
    slowpath: Mapping[str, Any]  # of emu.zone.task_stats.slowpath_total
    locks: Sequence[Mapping[str, Any]]
    problems: Sequence[str]  # that validation found
    explain: Callable[[str], Explained | None] = field(repr=False)  # a report's text
    ended: str = ""  # what broke the run off: a panic, a CPU that died


def render(page: Page, recording: Recording) -> str:
    """The whole document."""
    from plotly.offline import get_plotlyjs

    data = plain(recording)
    for incident in data["incidents"]:
        found = page.explain(incident["text"]) if incident["kind"] in ("failure", "oom") else None
        incident["verdict"] = found.verdict if found else ""
        incident["lines"] = list(found.lines) if found else []
    data |= {"slowpath": page.slowpath, "locks": page.locks}
    parts = {
        "title": html.escape(page.title),
        "command": html.escape(shlex.join(page.command)),
        "verdict": _verdict(page),
        "machine": _facts("The machine", page.machine),
        "totals": _facts("What was done", page.totals),
        "style": (HERE / "page.css").read_text(),
        "plotly": get_plotlyjs(),
        "script": "\n".join((HERE / name).read_text() for name in SCRIPTS),
        "data": in_script(data),
        "frames": packed(frame for _, frame in recording.frames),
    }
    head, *rest = (HERE / "page.html").read_text().split("{{")
    out = [head]
    for piece in rest:
        name, _, after = piece.partition("}}")
        out += [parts[name], after]
    return "".join(out)


def _verdict(page: Page) -> str:
    if page.ended:
        return f'<p class="bad">The machine ended before its time: {html.escape(page.ended)}</p>'
    if not page.problems:
        return '<p class="good">validate: clean. All invariants of the allocator hold at the end.</p>'
    items = "".join(f"<li>{html.escape(problem)}</li>" for problem in page.problems[:50])
    return f'<div class="bad"><p>validate: {len(page.problems)} problems</p><ul>{items}</ul></div>'


def _facts(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(_said(value))}</td></tr>'
        for name, value in values.items()
    )
    return f'<div><h3>{title}</h3><table class="facts">{rows}</table></div>'


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
