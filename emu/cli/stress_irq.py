"""``emu stress irq``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu.cli.again import begin_again_in
from emu.cli.common import Boots, Cpus, Json, Memory, Quiet, Sysctls, UsageError, config_of, print_result
from emu.cli.page import PageFile, PageOption, facts_of
from emu.cli.stress import stress

if TYPE_CHECKING:
    from emu.run import WorkloadRun
    from emu.stress.irq import IrqReport
    from emu.stress.unsafe import UnsafeReport


@stress.command()
def irq(
    cpus: Cpus = 2, memory: Memory = "256M", sysctl: Sysctls = None, boot: Boots = None,
    workload: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="What the tasks do meanwhile (as in emu run).")
    ] = "mixed",
    duration: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds.")] = 3.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the workload and of the interrupts' times.")] = 1,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=N", help="KIND=N: N net, timer or ipi interrupts a second on each CPU.")
    ] = None,
    unsafe: Annotated[
        str, typer.Option(metavar="NAME", help="no-irqsave: switching interrupts off has no effect.")
    ] = "",
    report: PageOption = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Interrupt CPUs that allocate, at any instruction.

    How long interrupts are off, and whether the pcp lists stay whole.

    With --unsafe no-irqsave they don't: the corruption and the self-deadlock happen and are reported (exit status 1).
    """
    from emu.stress.irq import RATES, UNSAFE, stress_irq
    from emu.stress.unsafe import stress_unsafe

    if unsafe and unsafe not in UNSAFE:
        raise UsageError(f"--unsafe {unsafe}: not one of {', '.join(UNSAFE)}")
    if report and unsafe:
        raise UsageError("--report: is of one machine; --unsafe breaks several")
    rates = {**RATES, **dict(_rate(text, RATES) for text in rate or ())}
    config = config_of(None, cpus, memory, None, sysctl, boot, workload=workload, duration=duration, seed=seed)
    if unsafe:  # corrupt lists are noticed in checked mode only
        begin_again_in("checked")
    told = (lambda _: None) if quiet or as_json else (lambda text: typer.echo(text, err=True))
    if unsafe:
        broken = stress_unsafe(config, rates=rates, unsafe=unsafe, told=told)
        print_result(as_json, broken.as_dict(), _unsafe_lines(broken), "emu stress irq    # with it")
        raise typer.Exit(1 if broken.examples else 0)
    page, said = PageFile(report), list[str]()

    def watch(work: WorkloadRun) -> Callable[[], None] | None:
        return page.watch(work.machine, work.parts_by_cpu(), work.failed)

    def after(work: WorkloadRun, found: IrqReport) -> None:
        title = f"emu stress irq: {config.workload} on {config.cpus} CPUs"
        wrong = [*found.problems, *([f"{found.lost_pages} pages lost"] if found.lost_pages else [])]
        ended = found.broken[-1] if found.broken else ""
        said.extend(page.write(work.machine, title, facts_of(config), totals(found), wrong, ended=ended))

    found = stress_irq(config, rates=rates, told=told, watch=watch, after=after)
    follow = "emu stress irq --unsafe no-irqsave    # what local_irq_save() is for"
    print_result(as_json, found.as_dict() | page.named, [*_lines(found), *said], follow)
    if not found.consistent:
        raise typer.Exit(1)


def totals(report: IrqReport) -> dict[str, Any]:
    """What came in, for the page."""
    off = report.irqs_off
    return {
        "operations": report.ops, "seconds": report.seconds, "interrupts that came in": report.delivered,
        "deferred, since they were off": report.deferred, "ticks": report.ticks, "packets": report.packets,
        "packets dropped": report.dropped, "interrupts off, p99 (ns)": off.p99, "longest (ns)": off.longest,
        "at": report.longest_at, "pages lost": report.lost_pages,
    } | {f"landed in {name}": n for name, n in report.landed.items()}  # fmt: skip


def _rate(text: str, known: dict[str, float]) -> tuple[str, float]:
    kind, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if kind not in known or not 0 <= number <= 1e6:
        raise UsageError(f"--rate {text}: give {'=N, '.join(known)}=N with N from 0 to 1000000")
    return kind, number


def _lines(report: IrqReport) -> list[str]:
    sent = ", ".join(f"{n:,} {kind}" for kind, n in report.sent.items())
    lines = [
        f"seed {report.config['seed']}, {report.config['cpus']} CPUs, {report.config['workload']}, mode {report.mode}",
        f"operations     {report.ops:,}" + (f", {report.ops_per_second / 1e6:.2f} M/s" if report.seconds else ""),
        f"raised         {sent}",
        f"came in        {report.signals:,} signals, {report.deferred:,} of them while interrupts were off (deferred)",
        (
            f"handled        {report.delivered:,} entries, {report.ticks:,} ticks, {report.packets:,} packets, "
            f"{report.dropped:,} dropped"
        ),
    ]
    off = report.irqs_off
    if off.count:
        lines.append(
            f"irqs off       {off.count:,} times, p50 {off.p50:,} ns, p99 {off.p99:,} ns, p99.9 {off.p999:,} ns, "
            f"longest {off.longest:,} ns at {report.longest_at}"
        )
    if report.landed:
        lines.append("landed in      " + ", ".join(f"{name} {n}" for name, n in report.landed.items()))
    if report.broken:
        return [*lines, "the machine broke:", *(f"  {line}" for text in report.broken for line in text.splitlines())]
    lines.append(f"lost pages     {report.lost_pages}")
    return [*lines, "validate       " + ("clean" if not report.problems else f"{len(report.problems)} problems"),
            *(f"  {problem}" for problem in report.problems[:20])]  # fmt: skip


def _unsafe_lines(report: UnsafeReport) -> list[str]:
    kinds = ", ".join(f"{kind} {n}" for kind, n in report.kinds.items())
    lines = [f"seed {report.config['seed']}, UNSAFE: {report.unsafe}, {report.attempts} machines: {kinds}"]
    for kind, one in report.examples.items():
        lines += ["", f"{kind} (seed {one.config['seed']}, {one.config['workload']}, {one.delivered:,} interrupts):"]
        lines += [f"  {line}" for text in one.broken or one.problems[:5] for line in text.splitlines()]
    return lines
