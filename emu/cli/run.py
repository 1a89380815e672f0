"""Commands that run something on a machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.again import begin_again_in
from emu.cli.common import (
    Boots,
    Cpus,
    Json,
    Memory,
    Nodes,
    Out,
    Quiet,
    Stoppable,
    Sysctls,
    UsageError,
    app,
    config_of,
    finish,
    log_reports,
    print_result,
)  # fmt: skip
from emu.cli.complete import workloads
from emu.cli.page import PageFile, PageOption, facts_of
from emu.cli.recorded import Record, Recorded

if TYPE_CHECKING:
    from emu.like import Likeness
    from emu.run import WorkloadReport

WORKLOAD_HELP = (
    "What the CPUs do, by turns if several: bulk repeat rand frag pagefault network thp mixed hog filecache "
    "forkstorm orders."
)


@app.command()
def run(
    machine: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A machine.toml; options go on top of it.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="DIR|/proc", help="The machine, and how full, that zoneinfo there describes.")
    ] = None,
    cpus: Cpus = None, memory: Memory = None, node: Nodes = None, sysctl: Sysctls = None, boot: Boots = None,
    workload: Annotated[
        str | None,
        typer.Option(metavar="NAME[,NAME...]", autocompletion=workloads, help=WORKLOAD_HELP),
    ] = None,
    swap: Annotated[str | None, typer.Option(metavar="SIZE", help="Size of the swap device, such as 256M.")] = None,
    fill: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Part of the memory that the workloads together want.")
    ] = None,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds (default 5).")] = None,
    operations: Annotated[
        int | None, typer.Option("--operations", "-n", metavar="N", help="Operations per CPU instead.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Same seed, same operations on each CPU.")] = None,
    lock_stat: Annotated[
        bool, typer.Option("--lock-stat", help="Measure waiting for locks and holding them: proc/lock_stat.")
    ] = False,
    on_death: Annotated[
        str | None,
        typer.Option(metavar="stop|offline", help="When a CPU's process is killed where nothing was half done.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A race of 5.10.262 that this machine has a fix for; repeatable.")
    ] = None,
    unfix: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A race that 5.10.262 has a fix for and this machine lacks; repeatable.")
    ] = None,
    record: Record = None, report: PageOption = None, out: Out = Path("emu-report"), as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Boot a machine and run a workload on all its CPUs."""
    from emu.live import CompileProgress, Screen
    from emu.run import WorkloadRun

    likeness = None
    if like is not None:
        given = {"FILE": machine, "--cpus": cpus, "--mem": memory, "--node": node, "--swap": swap}
        if other := [name for name, value in given.items() if value]:
            raise UsageError(f"--like {like}: without {', '.join(other)}, it says what the machine is")
        likeness = _likeness(like)
        cpus, memory = len(likeness.state["cpu_node"]), str(likeness.managed_pages << 12)
    config = config_of(
        machine,
        cpus,
        memory,
        node,
        sysctl,
        boot,
        workload=workload,
        fill=fill,
        swap=swap,
        duration=duration,
        operations=operations,
        seed=seed,
        lock_stat=lock_stat or None,
        trace=record is not None or None,
        on_death=on_death,
        fix=fix or None,
        unfix=unfix or None,
    )
    page, title = PageFile(report), f"emu run: {config.workload} on {config.cpus} CPUs"
    state = likeness.state if likeness else None
    with Stoppable(), WorkloadRun(config, progress=CompileProgress(quiet or as_json), state=state) as work:
        log_reports(work.machine)
        with Screen(
            work.machine, config.workload, config.operations * config.cpus, work.done, quiet or as_json
        ) as screen:
            tick = page.watch(work.machine, work.parts_by_cpu(), work.failed, screen)
            recorded = Recorded(work.machine, record, config.workload)
            with page.even_if_it_ends(work.machine, title, facts_of(config)), recorded:
                result = work.run(tick=tick)
        lines = [
            (
                f"{config.workload}: {result.ops:,} operations on {config.cpus} CPUs in {result.seconds:.2f} s, "
                f"{result.ops_per_second:,.0f}/s ({result.failed:,} allocations failed)"
            ),
            *reclaimed(result.vmstat, result.killed),
            *(f"offline: {death}" for death in result.deaths),
            *([f"pages in flight in their hands: {result.in_flight}"] if result.deaths else []),
            f"seed: {config.seed}",
        ]
        summary = dataclasses.asdict(result) | page.named
        if bits := config.deviations():
            from emu.race.variant import deviation_words

            summary["deviations"] = deviation_words(bits)
            lines.insert(0, f"differs from 5.10.262: {', '.join(summary['deviations'])}")
        if likeness:
            summary["like"] = {"directory": str(like), "notes": likeness.notes}
            lines = [f"like {like}: {likeness}", *likeness.notes, *lines]
        recorded.report(summary, lines)
        finish(
            summary, lines, work.machine.board, out, as_json,
            f"emu proc buddyinfo --state {out}/state.json.gz",
            lambda wrong: page.write(work.machine, title, facts_of(config), totals(result), wrong),
        )  # fmt: skip


def _likeness(directory: Path) -> Likeness:
    from emu.like import like

    return like(directory)


def totals(result: WorkloadReport) -> dict[str, Any]:
    """What a run did, for its page."""
    return {
        "operations": result.ops, "operations per second": round(result.ops_per_second), "allocations": result.allocs,
        "frees": result.frees, "failed": result.failed, "seconds": result.seconds, "processes killed": result.killed,
        "CPUs that went offline": len(result.deaths),
    }  # fmt: skip


def reclaimed(vmstat: dict[str, int], killed: int) -> list[str]:
    """What reclaim, compaction and the OOM killer did, if anything."""
    if not any(name.startswith(("pgscan", "compact_stall", "oom_kill")) for name in vmstat):
        return []
    words = ("allocstall", "pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd", "pgsteal_direct", "pswpin", "pswpout",
             "compact_stall", "compact_success", "pgmigrate_success", "oom_kill")  # fmt: skip
    counts = {word: sum(n for name, n in vmstat.items() if name.startswith(word)) for word in words}
    text = ", ".join(f"{word} {n:,}" for word, n in counts.items() if n)
    return [f"reclaim: {text}", *([f"{killed} processes killed for memory"] if killed else [])]


@app.command()
def replay(
    trace: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text of ftrace, trace-cmd report or perf script; .gz too.")
    ],
    order: Annotated[
        str, typer.Option(metavar="trace|cpu", help="trace: the recorded global order; cpu: every CPU at will.")
    ] = "trace",
    before: Annotated[
        Path | None, typer.Option(metavar="FILE", help="State it began in (before.json.gz of a case).")
    ] = None,
    cpus: Cpus = None, memory: Memory = None, node: Nodes = None, sysctl: Sysctls = None, boot: Boots = None,
    record: Record = None, out: Out = Path("emu-report"), as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run a recorded kernel trace on CPU processes."""
    _replay(
        trace, order, before, cpus, memory, node, sysctl, boot, record, out, as_json, quiet,
        f"emu check {out}/state.json.gz",
    )  # fmt: skip


@app.command()
def demo(out: Out = Path("emu-report"), as_json: Json = False, quiet: Quiet = False) -> None:
    """Replay a bundled trace of a real 5.10 kernel on 4 CPU processes."""
    from emu.replay import DEMO

    _replay(
        DEMO[0], "trace", None, 4, None, ["256M", "256M"], None, None, None, out, as_json, quiet,
        "emu run --cpus 4 --mem 1G",
    )  # fmt: skip


def _replay(
    trace: Path, order: str, before: Path | None, cpus: int | None, memory: str | None, node: list[str] | None,
    sysctl: list[str] | None, boot: list[str] | None, record: Path | None, out: Path, as_json: bool, quiet: bool,
    follow: str,
) -> None:  # fmt: skip
    from emu.live import CompileProgress, Screen, console
    from emu.replay import Replay, read_state
    from emu.workload.trace import read_trace

    if order not in ("trace", "cpu"):
        raise UsageError(f"--order {order}: give trace or cpu")
    if before is not None and (cpus or memory or node or sysctl or boot):
        raise UsageError("--before: the state says what the machine is; give no other machine options")
    state = read_state(before) if before else None
    recorded = read_trace(trace)
    if not (quiet or as_json):
        console.print(f"read {trace.name}: {len(recorded.events):,} events of {recorded.lines:,} lines")
    base = config_of(None, cpus or max(recorded.cpus, 1), memory, node, sysctl, boot)
    given = {"memory": memory, "nodes": node, "sysctl": sysctl, "boot": boot}
    values = {k: v for k, v in base.model_dump().items() if given.get(k)}
    job = Replay(
        recorded, order=order, cpus=0 if before else base.cpus, before=state, values=values, record=record is not None,
        progress=CompileProgress(quiet or as_json),
    )  # fmt: skip
    with Stoppable(), job.machine:
        log_reports(job.machine)
        title = f"replay {trace.name}"
        recording = Recorded(job.machine, record, title)
        with recording, Screen(job.machine, title, job.plan.events, job.done, quiet or as_json) as screen:
            report = job.run(tick=screen)
        skipped = {**report.skipped, **report.not_replayed}
        why = "; ".join(f"{n:,} {reason}" for reason, n in skipped.items() if n) or "none"
        lines = [
            (
                f"replayed {report.events:,} events of {report.lines:,} lines on {report.cpus} CPU processes in "
                f"{report.seconds:.2f} s: {report.events_per_second:,.0f} events/s, {report.order} order"
            ),
            (
                f"{report.allocs:,} allocations ({report.failed:,} failed), {report.frees:,} frees "
                f"({report.frees_without_page:,} without a page here), {report.prelude:,} pages allocated beforehand"
            ),
            f"lines not replayed: {why}",
        ]
        summary = dataclasses.asdict(report)
        recording.report(summary, lines)
        finish(summary, lines, job.machine.board, out, as_json, follow)


@app.command()
def verify(
    cases: Annotated[list[Path], typer.Argument(metavar="DIR", help="Directories of recorded kernel cases.")],
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="OS processes that play the CPUs (default: one each).")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="MODE", help="compiled, checked or interpreted.")] = None,
    untraced: Annotated[bool, typer.Option("--untraced", help="At full speed, without comparing events.")] = False,
    show_reads: Annotated[bool, typer.Option("--reads", help="List the unlocked reads at another instant.")] = False,
    own: Annotated[bool, typer.Option("--own", help="Our own reclaim, compaction, OOM killer: events side by side.")]
    = False,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="With --own: kswapd runs as soon as it is woken.")] = False,
    table: Annotated[bool, typer.Option("--table", help="With --own: print one Markdown table instead.")] = False,
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Compare with a real kernel, bit for bit.

    Pages, lists, counters and events, with recorded cases of 5.10.262.
    """
    if mode:
        _in_mode(mode)
    if own:
        _verify_own(cases, unpaced, table, as_json, quiet)
        return
    if unpaced or table:
        raise UsageError("--unpaced and --table go with --own")
    from emu.live import CompileProgress
    from emu.verify import verify_case

    verdicts = []
    for path in _case_dirs(cases):
        verdict = verify_case(
            path, processes=processes, traced=not untraced, progress=CompileProgress(quiet or as_json)
        )
        verdicts.append(verdict)
        if not as_json:
            word = "match" if verdict.matches else "DIFFERS"
            reads = f", {len(verdict.reads)} unlocked reads at another instant" if verdict.reads else ""
            typer.echo(
                f"{word:8}{verdict.case:32}{verdict.level:11}{verdict.operations:8,} operations "
                f"{verdict.allocs:7,} allocations {verdict.events:9,} events{reads}"
            )
            for difference in verdict.differences[:8]:
                typer.echo(f"    {difference}")
            for read in verdict.reads if show_reads else ():
                typer.echo(f"    (read) {read}")
    bad = [v for v in verdicts if not v.matches]
    texts = [
        {"differences": [str(d) for d in v.differences], "reads": [str(d) for d in v.reads]} for v in verdicts
    ]  # fmt: skip
    data = {"cases": [{**dataclasses.asdict(v), **t} for v, t in zip(verdicts, texts, strict=True)]}
    print_result(as_json, data, [f"{len(verdicts) - len(bad)} of {len(verdicts)} cases match"])
    if bad:
        raise typer.Exit(1)


def _verify_own(paths: list[Path], unpaced: bool, table: bool, as_json: bool, quiet: bool) -> None:
    """Each case on the emulator's own reclaim; exit status 1 if an invariant broke."""
    from emu.live import CompileProgress
    from emu.own import has_driver, markdown, run_own

    verdicts = []
    for path in _case_dirs(paths):
        if not has_driver(path):
            if not (as_json or quiet or table):
                typer.echo(f"{path.name}: recorded from userland, there are no operations to run on their own")
            continue
        verdict = run_own(path, paced=not unpaced, progress=CompileProgress(quiet or as_json))
        verdicts.append(verdict)
        if not (as_json or table):
            typer.echo(
                f"{verdict.case}: {verdict.allocs:,} allocations, {verdict.failed_kernel:,} failed in the kernel, "
                f"{verdict.failed:,} here; {verdict.agreement:.1%} with the same outcome"
            )
            for name, (kernel, ours) in verdict.counts.items():
                if kernel or ours:
                    typer.echo(f"    {name:<36}{kernel:>8,}{ours:>8,}")
            for finding in verdict.findings:
                typer.echo(f"    {finding}")
    if not verdicts:
        raise UsageError("no case there was recorded by a driver: --own needs operations (ops.jsonl.gz)")
    bad = sum(bool(v.findings) for v in verdicts)
    state = "are broken" if bad else "hold"
    last = f"{len(verdicts)} cases, the kernel's counts left, ours right; invariants {state}"
    lines = [markdown(verdicts).rstrip(), *(f"{v.case}: {finding}" for v in verdicts for finding in v.findings)]
    print_result(as_json, {"cases": [dataclasses.asdict(v) for v in verdicts]}, lines if table else [last])
    if bad:
        raise typer.Exit(1)


def _case_dirs(paths: list[Path]) -> list[Path]:
    """Case directories, also below directories of cases."""
    found: list[Path] = []
    for path in paths:
        below = sorted(p.parent for p in path.rglob("meta.json")) if path.is_dir() else []
        if not below:
            raise UsageError(f"{path}: no recorded case (no meta.json) there")
        found += below
    return found


def _in_mode(mode: str) -> None:
    """Modes are chosen at import: begin again with the right environment."""
    from shm.core import MODES

    if mode not in MODES:
        raise UsageError(f"--mode {mode}: give {', '.join(MODES)}")
    begin_again_in(mode)
