"""``emu race run`` and ``emu race explore``: look for a schedule that fails; show that there is none."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.again import begin_again_in
from emu.cli.common import Json, Quiet, Stoppable, UsageError, print_result
from emu.cli.race import (
    Budget,
    Fix,
    Full,
    Reports,
    Save,
    Seed,
    Unfix,
    VariantCommand,
    Which,
    check_reports,
    load,
    own_file,
    race,
    seconds_of,
    write_files,
)

if TYPE_CHECKING:
    from emu.race.explore import Result
    from emu.race.hunt import Hunt
    from emu.race.replay import Recording
    from emu.race.scenario import Scenario
    from emu.stress.cluster import ClusterCrew

AUTO = "auto"
FIRST_S = 10.0  # of auto: for all schedules, before a bound is set

Strategy = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto (bounded search with 0, 1 and 2 preemptions, then sampling), exhaustive, random, pct, pos, surw, "
        "robin or dpor.",
    ),
]
Schedules = Annotated[int | None, typer.Option(min=1, max=1 << 60, metavar="N", help="At most so many schedules.")]


@race.command("run", cls=VariantCommand)
def run_race(
    which: Which, fix: Fix = None, unfix: Unfix = None, strategy: Strategy = "auto",
    bound: Annotated[
        int, typer.Option(min=-1, max=4096, metavar="N", help="Preemptions of --strategy exhaustive; -1: any number.")
    ] = -1,
    depth: Annotated[int, typer.Option(min=1, max=17, metavar="N", help="Of --strategy pct: preemptions + 1.")] = 3,
    seed: Seed = 1, budget: Budget = "10s", schedules: Schedules = None, report: Reports = None, out: Save = None,
    full: Full = False, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Look for a schedule that fails (exit status 1).

    By default in the variant that has the race.
    """
    from emu.race.catalogue import find_scenario
    from emu.race.explore import ALL
    from emu.race.hunt import hunt
    from emu.race.plan import STRATEGIES
    from emu.race.players import Players
    from emu.race.variant import chosen

    known = (AUTO, *(name for name in STRATEGIES if name != "replay"))
    if strategy not in known:
        raise UsageError(f"--strategy {strategy}: not one of {', '.join(known)}")
    seconds = seconds_of(budget)
    check_reports(report, out)
    scenario, unfixed, options = chosen(find_scenario(which), fix or (), unfix or (), True)
    if strategy == "dpor":
        begin_again_in("instrumented")
    load(quiet or as_json)
    with Stoppable(), Players(scenario, unfixed) as players:
        found = hunt(
            players, strategy, seed=seed, bound=bound, depth=depth, schedules=schedules or ALL, seconds=seconds
        )
        recording = _recorded(players, found.found)
    options = [*own_file(which), *options]
    lines = [*_heading(scenario, unfixed, found.found, seed), *_searches(found)]
    data: dict[str, Any] = {
        "scenario": scenario.id, "unfixed": unfixed, "seed": seed, "coverage": found.coverage,
        "schedules": found.schedules, "searches": [result.as_dict() for result in found.searches],
    }  # fmt: skip
    if recording is None:
        own = ["--unfix"] if unfixed and scenario.switch else []
        again = shlex.join(["emu", "race", "explore", which, *own, *_others(options)])
        lines.append(f"no failure: {found.coverage}")
        data |= {"found": False, "verdict": {"kind": "ok"}, "next": again}
        print_result(as_json, data, lines, again)
        return
    few = f"{found.preemptions} preemption{'' if found.preemptions == 1 else 's'}"
    few += ", the fewest there are" if found.fewest else ""
    data |= {"preemptions": found.preemptions, "fewest": found.fewest}
    _tell_failure(recording, scenario, options, few, lines, data, (report, out), full, as_json)


@race.command("explore", cls=VariantCommand)
def explore_race(
    which: Which, fix: Fix = None, unfix: Unfix = None,
    bound: Annotated[
        int | None, typer.Option(min=0, max=4096, metavar="N", help="All schedules with at most so many preemptions.")
    ] = None,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="All, for the whole budget.")] = False,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="dpor (one schedule of each kind; one worker), exhaustive (every one), or auto: dpor, unless --bound, "
            "--jobs or --executor is given; where it takes more than 10 s, within a bound.",
        ),
    ] = AUTO,
    jobs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Workers, each with processes of its own on a core.")
    ] = 1,
    executor: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local:N", help="A cluster of dask.distributed instead (extra 'cluster')."),
    ] = None,
    seed: Seed = 1, budget: Budget = "10m", report: Reports = None, out: Save = None, full: Full = False,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Play all schedules: if none fails, none can.

    By default as 5.10.262 has it.

    Of schedules that differ in the order of steps that don't conflict, one is played. Where that is still too much, all
    with at most two preemptions are, or as many as the scenario says.
    """
    from emu.race.catalogue import find_scenario
    from emu.race.exhaust import BOUND, exhaust
    from emu.race.players import Players
    from emu.race.spread import CLUSTER_SLICE_S, SLICE_S, spread
    from emu.race.variant import chosen, own_variant

    if exhaustive and bound is not None:
        raise UsageError("--exhaustive and --bound: give one of them")
    if strategy not in (AUTO, "exhaustive", "dpor"):
        raise UsageError(f"--strategy {strategy}: not one of {AUTO}, exhaustive, dpor")
    if strategy == "dpor" and (bound is not None or jobs > 1):
        raise UsageError("--strategy dpor: without --bound and --jobs; it has no bound and one worker")
    if executor and (strategy == "dpor" or jobs > 1):
        raise UsageError(f"--executor {executor}: without --jobs, and not for --strategy dpor, which has one worker")
    reduced = strategy == "dpor" or (strategy == AUTO and bound is None and jobs == 1 and not executor)
    seconds = seconds_of(budget)
    check_reports(report, out)
    whole = find_scenario(which)
    scenario, unfixed, options = chosen(whole, fix or (), unfix or (), own_variant(whole))
    most = -1 if exhaustive else bound if bound is not None else scenario.bound or (BOUND if reduced else -1)
    if reduced:
        begin_again_in("instrumented")
    load(quiet or as_json)
    with Stoppable():
        if reduced:
            first_s = seconds if exhaustive or strategy == "dpor" else min(FIRST_S, seconds / 2)
            result = exhaust(scenario, unfixed, seed=seed, first_s=first_s, seconds=seconds)
        else:
            with _crew(executor, which, fix, unfix, unfixed) as crew:
                result = spread(
                    scenario, jobs=jobs, crew=crew, unfixed=unfixed, strategy="exhaustive", bound=most, seed=seed,
                    seconds=seconds, slice_s=CLUSTER_SLICE_S if crew else SLICE_S,
                )  # fmt: skip
        recording = None
        if result.found:
            with Players(scenario, unfixed) as players:
                recording = _recorded(players, result)
    options = [*own_file(which), *options]
    covered = "depth first" if result.found else result.coverage
    line = _line(covered, result.schedules, result.seconds)
    line += "  one of each kind" if result.coverage == "exhaustive" and result.strategy == "dpor" else ""
    lines = [*_heading(scenario, unfixed, result, seed), line]
    data: dict[str, Any] = {**result.as_dict(), "found": result.found, "jobs": jobs}
    if recording is None:
        incomplete = result.coverage.startswith("sampled")
        within = f" with at most {most} preemption{'' if most == 1 else 's'}" if "bounded" in result.coverage else ""
        lines.append(f"no failure in what was played in {budget}" if incomplete else f"no schedule{within} fails")
        less = ["--bound", str(max(bound - 1, 0) if bound is not None else BOUND)]
        what = ["explore", which, *less] if incomplete else ["run", which]
        again = shlex.join(["emu", "race", *what, *_others(options)])
        print_result(as_json, {**data, "next": again}, lines, again)
        return
    _tell_failure(recording, scenario, options, "", lines, data, (report, out), full, as_json)


def _others(options: list[str]) -> list[str]:
    """The switches of other races among the options of a replay."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for option, value in pairs if option != "--file" for word in (option, value)]


@contextmanager
def _crew(
    executor: str | None, which: str, fix: list[str] | None, unfix: list[str] | None, unfixed: bool
) -> Iterator[ClusterCrew | None]:
    """Workers of a cluster, if one is given."""
    if not executor:
        yield None
        return
    from emu.race.catalogue import file_of
    from emu.stress.cluster import ClusterCrew, cluster

    path, name = file_of(which)
    where = f"{path.absolute()}:{name}".removesuffix(":") if path else which
    values = {"which": where, "fix": fix or [], "unfix": unfix or [], "unfixed": unfixed}
    with cluster(executor) as (distributed, client):
        yield ClusterCrew(distributed, client, executor, values)


def _recorded(players: Any, found: Result | None) -> Recording | None:
    """The failure, played once more step by step."""
    from emu.race.players import Players
    from emu.race.replay import record

    if found is None or found.schedule is None:
        return None
    if found.verdict.kind in ("crash", "hang"):  # these players are gone
        with Players(players.scenario, players.unfixed) as fresh:
            recording = record(fresh, found.schedule)
        if recording.verdict.kind != found.verdict.kind:
            once = f"{found.verdict.text}: once, and not when the same schedule was played again"
            recording.verdict = replace(found.verdict, text=once)
        return recording
    return record(players, found.schedule)


def _heading(scenario: Scenario, unfixed: bool, result: Result | None, seed: int) -> list[str]:
    from emu.race.variant import deviation_words, variant_words

    also = "".join(f", {word}" for word in deviation_words(scenario.tuning.deviations))
    return [f"{scenario.id} ({variant_words(scenario, unfixed)}{also}): {scenario.title}", f"seed {seed}"]


def _line(what: str, schedules: int, seconds: float) -> str:
    return f"  {what:16} {schedules:10,} schedules  {seconds:7.2f} s  {schedules / max(seconds, 1e-9):9,.0f}/s"


def _searches(found: Hunt) -> list[str]:
    return [_line(what, schedules, seconds) for what, schedules, seconds in found.summed()]


def _tell_failure(
    recording: Recording, scenario: Scenario, options: list[str], few: str, lines: list[str], data: dict[str, Any],
    files: tuple[Any, Any], full: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print what was found, and end with status 1."""
    from emu.race.report import Report

    report = Report(recording, scenario, tuple(options))
    lines += [f"found: {recording.verdict}" + (f" ({few})" if few else ""), f"schedule: {recording.schedule}", ""]
    lines += report.body(full=full)
    lines += ["", *write_files(recording, scenario, options, *files), f"replay: {report.command}"]
    follow = shlex.join(["emu", "race", "minimize", recording.schedule, *options])
    data |= {
        "found": True, "verdict": recording.verdict.as_dict(), "schedule": recording.schedule,
        "recording": report.as_dict(), "replay": report.command, "next": follow,
    }  # fmt: skip
    print_result(as_json, data, lines, follow)
    raise typer.Exit(1)
