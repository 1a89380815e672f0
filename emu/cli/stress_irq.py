"""``emu stress irq``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.again import begin_again_in
from emu.cli.common import Boots, Cpus, Json, Memory, Quiet, Sysctls, UsageError, config_of, print_result
from emu.cli.stress import stress

if TYPE_CHECKING:
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
    as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Interrupt CPUs that allocate, at any instruction.

    How long interrupts are off, and whether the pcp lists stay whole.

    With --unsafe no-irqsave they don't: the corruption and the self-deadlock happen and are reported (exit status 1).
    """
    from emu.stress.irq import RATES, UNSAFE, stress_irq
    from emu.stress.unsafe import stress_unsafe

    if unsafe and unsafe not in UNSAFE:
        raise UsageError(f"--unsafe {unsafe}: not one of {', '.join(UNSAFE)}")
    rates = {**RATES, **dict(_rate(text, RATES) for text in rate or ())}
    config = config_of(None, cpus, memory, None, sysctl, boot, workload=workload, duration=duration, seed=seed)
    if unsafe:  # corrupt lists are noticed in checked mode only
        begin_again_in("checked")
    told = (lambda _: None) if quiet or as_json else (lambda text: typer.echo(text, err=True))
    if unsafe:
        broken = stress_unsafe(config, rates=rates, unsafe=unsafe, told=told)
        print_result(as_json, broken.as_dict(), _unsafe_lines(broken), "emu stress irq    # with it")
        raise typer.Exit(1 if broken.examples else 0)
    report = stress_irq(config, rates=rates, told=told)
    follow = "emu stress irq --unsafe no-irqsave    # what local_irq_save() is for"
    print_result(as_json, report.as_dict(), _lines(report), follow)
    if not report.consistent:
        raise typer.Exit(1)


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
