"""The report of a schedule that fails: text in the style of a kernel commit message, JSON, a page, a timeline.

One :class:`Report` is made from a recording; the kind of file is told by the ending of its name.
"""

import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from emu.race.describe import story_lines
from emu.race.diagram import Line, columns_of, diagram
from emu.race.fields import Namer
from emu.race.replay import Recording
from emu.race.scenario import Scenario, ScenarioError
from emu.race.variant import variant_words

__all__ = ["ENDINGS", "PROTOBUF", "Report", "ending_of", "replay_command"]

PROTOBUF = (".pftrace", ".perfetto-trace")  # the timeline as emu.trace.perfetto_tracks writes it
ENDINGS = (".txt", ".json", ".html", *PROTOBUF, ".perfetto-trace.json", ".trace.json")
LEAST = 36  # characters that lines of a column should have
NBSP = "\xa0"
INDENT = {"function": 0, "op": 0, "point": 2, "mark": 2, "fold": 2, "result": 2, "value": 4}


def replay_command(schedule: str, options: Sequence[str] = ()) -> str:
    """``emu race replay 'emu-race/1 ...'``"""
    return shlex.join(["emu", "race", "replay", schedule, *options])


def ending_of(name: str) -> str:
    """Which kind of report a file is to have. Raises ScenarioError if it isn't one."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if PurePath(name).name.endswith(ending):
            return ending
    raise ScenarioError(f"{name}: a report's name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


@dataclass(frozen=True)
class Report:
    """A recorded schedule, to be shown. ``options``: what the command that replays it needs besides the schedule."""

    recording: Recording
    scenario: Scenario
    options: tuple[str, ...] = field(default=())

    @property
    def command(self) -> str:
        """The exact command that replays it."""
        return replay_command(self.recording.schedule, self.options)

    @property
    def heading(self) -> str:
        """The scenario, its variant and its title."""
        return f"{self.scenario.id} ({variant_words(self.scenario, self.recording.unfixed)}): {self.scenario.title}"

    def render(self, ending: str) -> str:
        """The whole file, of those that are text."""
        if ending == ".txt":
            return self.text() + "\n"
        if ending == ".json":
            return json.dumps(self.as_dict(), indent=1) + "\n"
        if ending == ".html":
            from emu.race.report_html import page

            return page(self)
        from emu.race.report_timeline import timeline

        return json.dumps(timeline(self)) + "\n"

    # --- JSON ---------------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        scenario = self.scenario
        return {
            **self.recording.as_dict(),
            "columns": columns_of(self.recording, scenario),
            "story": story_lines(scenario), "status": scenario.status, "switch": scenario.switch,
            "commits": [{"id": c.id, "subject": c.subject, "mark": c.mark} for c in scenario.commits],
            "replay": self.command,
        }  # fmt: skip

    # --- text ---------------------------------------------------------------------------------------------------------

    def text(self, width: int | None = None, full: bool = False) -> str:
        """Columns side by side, what is broken, the command to replay it. ``width``: of the terminal if not given;
        ``full``: nothing is folded."""
        return "\n".join(self.lines(width or shutil.get_terminal_size((120, 24)).columns, full))

    def lines(self, width: int, full: bool = False) -> Iterator[str]:
        """The lines of :meth:`text`."""
        yield from textwrap.wrap(self.heading, width)
        yield ""
        yield from self.body(width, full)
        yield ""
        yield f"replay: {self.command}"  # in one piece, to be copied

    def body(self, width: int | None = None, full: bool = False) -> Iterator[str]:
        """The columns and what is broken."""
        width = width or shutil.get_terminal_size((120, 24)).columns
        names = columns_of(self.recording, self.scenario)
        yield from side_by_side(names, diagram(self.recording, self.scenario, full), width)
        yield ""
        yield from self.verdict_lines(width)

    def verdict_lines(self, width: int = 120) -> Iterator[str]:
        """What is broken; of a deadlock, a line for each who waits."""
        verdict = self.recording.verdict
        if verdict.ok:
            yield "ok: this schedule does not fail"
            return
        parts = [verdict.text]
        if verdict.kind in ("deadlock", "lost wake-up"):
            parts = [self._waiting(part) for part in verdict.text.split("; ")]
        where = f" after the last step of {verdict.who}" if verdict.invariant and verdict.who else ""
        name = f" {verdict.invariant}{where}" if verdict.invariant else ""
        yield f"{verdict.kind}:{name}"
        for part in parts:
            yield from textwrap.wrap(part, width, initial_indent="  ", subsequent_indent="    ")

    def _waiting(self, text: str) -> str:
        """``cpu0 waits for zone lock, held by cpu1``"""
        who, _, what = text.partition(" ")
        return f"{who} {Namer(self.scenario).waiting(what, who)}"


def column_title(name: str) -> str:
    """``CPU0`` as in commit messages; daemons by their names."""
    return name.upper() if name.startswith("cpu") else name


def side_by_side(names: Sequence[str], lines: Sequence[Line], width: int) -> Iterator[str]:
    """Lines in columns. Where the terminal is too narrow for as many, they begin closer to one another and may reach
    into the columns on their right: only one of them has something to say at a time."""
    each = width // max(len(names), 1)
    if each < LEAST and len(names) > 1:
        each = max((width - LEAST) // (len(names) - 1), 1)
        ends = [width] * len(names)
    else:
        ends = [each * (i + 1) - 2 for i in range(len(names))]
    starts = [each * i for i in range(len(names))]
    yield from _header(names, starts)
    for line in lines:
        start = starts[line.column]
        indent = " " * (start + INDENT[line.kind])
        text = re.sub(r" (->|=) |(?<=page) (?=\d)", lambda found: found[0].replace(" ", NBSP), line.text)
        end = max(ends[line.column], start + 24)
        if len(indent) + len(text) > end:
            text = text.replace("|", " | ")  # flags, where a line may break
        for part in textwrap.wrap(
            text, end, initial_indent=indent, subsequent_indent=indent + "    ",
            break_long_words=False, break_on_hyphens=False,
        ):  # fmt: skip
            yield part.replace(NBSP, " ")


def _header(names: Sequence[str], starts: Sequence[int]) -> Iterator[str]:
    """One line; where titles would run into one another, one each."""
    titles = [column_title(name) for name in names]
    if any(start + len(title) >= after for start, title, after in zip(starts, titles, starts[1:], strict=False)):
        yield from (" " * start + title for start, title in zip(starts, titles, strict=True))
        return
    text = ""
    for title, start in zip(titles, starts, strict=True):
        text = f"{text:<{start}}{title}"
    yield text
