"""``emu race``: find, replay, shrink and show races. Here: ``list`` and ``show``, and what the others share."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from emu.cli.common import Json, UsageError, app, print_result
from emu.cli.complete import races
from emu.cli.order import InOrder

if TYPE_CHECKING:
    from emu.race.replay import Recording
    from emu.race.report import Report
    from emu.race.scenario import Scenario
    from emu.race.schedule import Schedule

race = typer.Typer(cls=InOrder, no_args_is_help=True, help="Find, replay, shrink and show races of the page allocator.")
app.add_typer(race, name="race")

Which = Annotated[
    str,
    typer.Argument(
        metavar="ID|FILE", autocompletion=races, help="A race of the catalogue, or FILE.py[:ID] of your own."
    ),
]
Line = Annotated[str, typer.Argument(metavar="SCHEDULE|FILE", help="A schedule, a file with one, or - for stdin.")]
Fix = Annotated[
    list[str] | None,
    typer.Option(
        "--fix", metavar="[ID]", help="The variant without the race; with a name: another race's. Repeatable."
    ),
]
Unfix = Annotated[
    list[str] | None,
    typer.Option("--unfix", metavar="[ID]", help="The variant with it; or with another one. Repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Of the strategies' random numbers.")]
Budget = Annotated[str, typer.Option(metavar="TIME", help="Time: 10s, 500ms, 2m.")]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Write it down: FILE.txt, .json, .html or .pftrace. Repeatable."),
]
Save = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the schedule to this file.")]
Full = Annotated[bool, typer.Option("--full", help="Fold nothing in the diagram.")]
File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="The file of your own that has the schedule's scenario.")
]


class VariantCommand(TyperCommand):
    """A command whose ``--fix`` and ``--unfix`` may stand without a name: the scenario's own race."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give them one where it is missing."""
        from emu.race.variant import OWN

        full: list[str] = []
        for i, arg in enumerate(args):
            following = args[i + 1] if i + 1 < len(args) else "-"
            full += [arg, OWN] if arg in ("--fix", "--unfix") and following.startswith("-") else [arg]
        return super().parse_args(ctx, full)


# --- what the commands share ------------------------------------------------------------------------------------------


def seconds_of(text: str, option: str = "--budget") -> float:
    """Of an option: ``10s``, ``500ms``, ``2m`` or ``10``."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)(ms|s|m|h)?", text.strip())
    seconds = float(found[1]) * {"ms": 0.001, "m": 60.0, "h": 3600.0}.get(found[2], 1.0) if found else 0.0
    if seconds <= 0:
        raise UsageError(f"{option} {text}: not a time such as 10s, 500ms or 2m")
    return seconds


def load(quiet: bool) -> None:
    """Native code, compiled now if it must be."""
    from emu.live import CompileProgress
    from emu.programs import load_all

    load_all(CompileProgress(quiet))


def check_reports(paths: list[Path] | None, save: Path | None = None) -> None:
    """Refuse what can't be written before the work begins."""
    from emu.race.report import PROTOBUF, ending_of

    for path in paths or ():
        if ending_of(str(path)) in PROTOBUF:
            from emu.trace.protobuf import proto

            proto()
    for path in [*(paths or ()), *([save] if save else [])]:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: no such directory")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: exists and is no file")


def write_files(
    recording: Recording, scenario: Scenario, options: list[str], reports: list[Path] | None, save: Path | None
) -> list[str]:
    """The reports and the schedule, each whole or not at all. Returns a line for each."""
    from emu.race.report import Report, ending_of
    from emu.whole import write_whole

    report = Report(recording, scenario, tuple(options))
    lines = []
    for path in reports or ():
        write_whole(path, _rendered(report, ending_of(str(path))))
        lines.append(f"report: {path}")
    if save is not None:
        write_whole(save, recording.schedule + "\n")
        lines.append(f"schedule in: {save}")
    return lines


def _rendered(report: Report, ending: str) -> str | bytes:
    from emu.race.report import PROTOBUF

    if ending not in PROTOBUF:
        return report.render(ending)
    from emu.race.report_timeline import timeline
    from emu.trace.perfetto_tracks import track_packets

    return b"".join(track_packets(timeline(report)["traceEvents"]))


def read_schedule(text: str) -> Schedule:
    """A schedule from the command line, a file or stdin (``-``): the first line that is one."""
    from emu.race.schedule import Schedule, schedule_in

    if text.lstrip().startswith("emu-race/"):
        return Schedule.parse(text)
    where = "stdin" if text == "-" else text
    try:
        content = sys.stdin.read() if text == "-" else Path(text).read_text()
    except (OSError, UnicodeDecodeError) as err:
        why = err.strerror if isinstance(err, OSError) else "not a text file"
        raise UsageError(f"{text[:80]}: {why}; give a schedule (emu-race/1 ...), a file with one, or -") from None
    found = schedule_in(content)
    if found is None:
        raise UsageError(f"{where}: no line of it is a schedule (emu-race/1 ...)")
    return found


def scenario_of(schedule: Schedule, file: Path | None) -> Scenario:
    """The whole scenario that a schedule is one of."""
    from emu.race.catalogue import find_scenario

    return find_scenario(f"{file}:{schedule.scenario}" if file else schedule.scenario)


def own_file(which: str) -> list[str]:
    """What a later command needs to find a scenario that isn't in the catalogue."""
    from emu.race.catalogue import file_of

    path, _ = file_of(which)
    return ["--file", str(path)] if path else []


# --- list -------------------------------------------------------------------------------------------------------------


@race.command("list")
def list_races(as_json: Json = False) -> None:
    """List all races that can be played, and if 5.10.262 has them.

    Open: the race is there. Fixed: --unfix takes the fix out.
    """
    from emu.race.catalogue import catalogue
    from emu.race.scenario import OPEN

    width = max(shutil.get_terminal_size((120, 24)).columns, 90)
    rows, lines = [], [f"{'race':6}{'5.10.262':10}{'what goes wrong':17}{'preempt.':>8}  {'commit':17}title"]
    for one in catalogue().values():
        commits = [commit.id for commit in one.commits]
        rows.append({
            "id": one.id, "title": one.title, "status": one.status, "kind": one.kind, "preemptions": one.preemptions,
            "switch": one.switch, "commits": commits, "tags": list(one.tags),
        })  # fmt: skip
        status = one.status.upper() if one.status == OPEN else one.status
        fixes = f"{commits[0]}{f' +{len(commits) - 1}' if len(commits) > 1 else ''}" if commits else "none"
        head = f"{one.id:6}{status:10}{one.kind:17}{one.preemptions:8}  {fixes:17}"
        lines += textwrap.wrap(one.title, width, initial_indent=head, subsequent_indent=" " * len(head))
    nr_open = sum(row["status"] == OPEN for row in rows)
    lines += [
        "",
        f"{len(rows)} races, {nr_open} of them open in 5.10.262; preempt.: the fewest preemptions that show it",
    ]
    print_result(as_json, {"races": rows, "next": "emu race show R8"}, lines, "emu race show R8")


# --- show -------------------------------------------------------------------------------------------------------------


@race.command("show")
def show_race(
    which: Which,
    source: Annotated[bool, typer.Option("--source", help="A Python file with this scenario, to change and run.")]
    = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Tell a race's story.

    With its commits, machine and programs.
    """
    from emu.race.catalogue import file_of, find_scenario

    scenario = find_scenario(which)
    if source:
        from emu.race.source import source_of

        path, _ = file_of(which)
        typer.echo(path.read_text() if path else source_of(scenario), nl=False)
        return
    follow = f"emu race run {which}"
    print_result(as_json, {**_as_dict(scenario), "next": follow}, list(_show_lines(scenario)), follow)


def _as_dict(scenario: Scenario) -> dict[str, Any]:
    from emu.race.describe import MARKS, machine_lines, program_lines, story_lines

    return {
        "id": scenario.id, "title": scenario.title, "story": story_lines(scenario), "status": scenario.status,
        "kind": scenario.kind, "preemptions": scenario.preemptions, "switch": scenario.switch,
        "bound": scenario.bound, "tags": list(scenario.tags),
        "commits": [
            {"id": c.id, "subject": c.subject, "mark": c.mark, "means": MARKS.get(c.mark, "")}
            for c in scenario.commits
        ],
        "machine": list(machine_lines(scenario)),
        "programs": {name: str(text) for name, text in program_lines(scenario)},
        "invariants": [
            {"name": i.name, "sentence": i.sentence, "always": i.always} for i in scenario.invariants
        ],
    }  # fmt: skip


def _show_lines(scenario: Scenario) -> Any:
    from emu.race.describe import MARKS, STATUS, machine_lines, program_lines, story_lines

    width = max(shutil.get_terminal_size((120, 24)).columns, 60)

    def block(head: str, text: str) -> list[str]:
        return textwrap.wrap(text, width, initial_indent=f"  {head:13} ", subsequent_indent=" " * 16)

    yield from textwrap.wrap(f"{scenario.id}: {scenario.title}", width)
    yield from textwrap.wrap(f"{STATUS.get(scenario.status, scenario.status)}.", width)
    yield ""
    yield from (f"  {line}" for line in story_lines(scenario))
    yield ""
    if scenario.commits:
        yield "commits"
        for commit in scenario.commits:
            yield from block(commit.id, f"{commit.subject} [{commit.mark}]")
        for mark in dict.fromkeys(commit.mark for commit in scenario.commits):
            yield f"  {f'[{mark}]':13} {MARKS.get(mark, 'not said')}"
    yield "machine"
    for line in machine_lines(scenario):
        yield f"  {line}"
    yield "who does what"
    for name, text in program_lines(scenario):
        yield from block(name, text)
    yield "must hold" + (" (at every step: *)" if any(i.always for i in scenario.invariants) else "")
    for one in scenario.invariants:
        yield from textwrap.wrap(
            f"{one.name}{'*' if one.always else ''}: {one.sentence}", width, initial_indent="  ",
            subsequent_indent=" " * 4,
        )  # fmt: skip
    yield "switch"
    yield f"  {_switch_words(scenario)}"
    fewest = f"{scenario.preemptions} preemption{'' if scenario.preemptions == 1 else 's'}"
    yield f"goes wrong: {scenario.kind}, with {fewest} at least"


def _switch_words(scenario: Scenario) -> str:
    if not scenario.switch:
        return "none: the model has one variant of this code"
    if scenario.status == "open":
        return f"--fix {scenario.switch} puts a fix in that 5.10.262 hasn't; --unfix is as 5.10.262 has it"
    if scenario.status == "planted":
        return f"--unfix {scenario.switch} plants it; --fix is as 5.10.262 has it"
    return f"--unfix {scenario.switch} takes the fix out; --fix is as 5.10.262 has it"
