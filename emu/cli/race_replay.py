"""``emu race replay`` and ``emu race minimize``: a schedule again, and with less."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.common import Json, Quiet, Stoppable, UsageError, print_result
from emu.cli.race import (
    Budget,
    File,
    Fix,
    Full,
    Line,
    Reports,
    Save,
    Unfix,
    VariantCommand,
    check_reports,
    load,
    race,
    read_schedule,
    scenario_of,
    seconds_of,
    write_files,
)

if TYPE_CHECKING:
    from emu.race.scenario import Scenario
    from emu.race.schedule import Schedule


@race.command("replay", cls=VariantCommand)
def replay_race(
    schedule: Line, times: Annotated[int, typer.Option(min=1, metavar="N", help="Play it so often and compare.")] = 1,
    file: File = None, fix: Fix = None, unfix: Unfix = None, report: Reports = None, full: Full = False,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Play a schedule again, and say how it ends.

    Exit status 1: it fails.

    What can't be played as it is written is refused with the point at which it went otherwise (exit status 2).
    """
    from emu.race.again import play_again
    from emu.race.players import Players
    from emu.race.replay import record
    from emu.race.report import Report
    from emu.race.schedule import reduced

    check_reports(report)
    line = read_schedule(schedule)
    whole, options = _with_others(line, file, fix, unfix)
    scenario = reduced(whole, line.dropped)
    load(quiet or as_json)
    with Stoppable(), Players(scenario, line.unfixed) as players:
        again = play_again(players, line, times)
        recording = record(players, line) if again.alive else None
    if recording is None:
        with Stoppable(), Players(scenario, line.unfixed) as players:
            recording = record(players, line)
    written = Report(recording, scenario, tuple(options))
    lines = [written.heading, f"seed {line.seed}", "", *written.body(full=full), ""]
    lines += [str(again), *write_files(recording, scenario, options, report, None)]
    follow = shlex.join(["emu", "race", "minimize", recording.schedule, *options])
    if recording.verdict.ok:
        follow = shlex.join(["emu", "race", "run", f"{file}:{scenario.id}" if file else scenario.id])
    data: dict[str, Any] = {
        **written.as_dict(), "seed": line.seed, "times": again.times, "identical": again.identical, "log": again.log,
        "memory": again.memory, "next": follow,
    }  # fmt: skip
    print_result(as_json, data, lines, follow)
    if not recording.verdict.ok or not again.identical:
        raise typer.Exit(1)


@race.command("minimize", cls=VariantCommand)
def minimize_race(
    schedule: Line, budget: Budget = "60s", file: File = None, fix: Fix = None, unfix: Unfix = None,
    report: Reports = None, out: Save = None, full: Full = False, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Shrink a schedule that fails.

    Fewer preemptions, then fewer actors, then fewer operations.
    """
    from emu.race.minimize import minimize
    from emu.race.report import Report

    seconds = seconds_of(budget)
    check_reports(report, out)
    line = read_schedule(schedule)
    whole, options = _with_others(line, file, fix, unfix)
    load(quiet or as_json)
    told = (lambda _: None) if quiet or as_json else (lambda text: typer.echo(f"  {text}", err=True))
    with Stoppable():
        least = minimize(whole, line, seconds=seconds, told=told)
    before, after = len(line.switches), len(least.schedule.switches)
    few = f"{least.preemptions} preemption{'' if least.preemptions == 1 else 's'}"
    proven = "bounded search finds none with fewer" if least.proven else "there may be one with fewer"
    written = Report(least.recording, least.scenario, tuple(options))
    lines = [
        written.heading,
        f"seed {line.seed}: {before} switches before, {after} now; {few}; {proven}",
        *([f"without {', '.join(least.schedule.dropped)}"] if least.schedule.dropped else []),
        f"{least.tries:,} tries in {least.seconds:.1f} s",
        f"schedule: {least.schedule}", "", *written.body(full=full), "",
        *write_files(least.recording, least.scenario, options, report, out),
    ]  # fmt: skip
    data = {
        **written.as_dict(), "seed": line.seed, "switches": after, "switches_before": before,
        "preemptions": least.preemptions, "proven": least.proven, "dropped": list(least.schedule.dropped),
        "tries": least.tries, "seconds": least.seconds, "next": written.command,
    }  # fmt: skip
    print_result(as_json, data, lines, written.command)


def _with_others(
    line: Schedule, file: Path | None, fix: list[str] | None, unfix: list[str] | None
) -> tuple[Scenario, list[str]]:
    """The whole scenario of a schedule, on a machine that differs in other races as well, and the options that say
    so."""
    from emu.race.variant import chosen

    scenario, unfixed, options = chosen(scenario_of(line, file), fix or (), unfix or (), line.unfixed)
    if unfixed != line.unfixed:
        raise UsageError(f"the schedule is one of {'unfixed' if line.unfixed else 'fixed'}: it can't be the other")
    return scenario, [*(["--file", str(file)] if file else []), *options]
