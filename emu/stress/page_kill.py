"""``emu stress kill --report``: who was killed doing what, how soon it was noticed, and what was wrong."""

from dataclasses import asdict

from emu.stress.document import colors, document, figure, listing, table
from emu.stress.kill import KillReport

__all__ = ["page"]


def page(report: KillReport) -> str:
    """The whole document."""
    victims = figure("What the victims were doing", "", "kills")
    victims.add_bar(x=list(report.kinds), y=list(report.kinds.values()), marker_color=colors(1)[0])
    steps = {
        "end until noticed": report.detection, "kill until the CPU was offline": report.takedown,
        "a new machine until its CPUs ran": report.restart,
    }  # fmt: skip
    times = figure("How long it took", "share of the kills", "ms", yaxis_type="log", xaxis_type="category")
    for (name, spread), color in zip(steps.items(), colors(len(steps)), strict=True):
        line = {"color": color}
        times.add_scatter(x=list(spread), y=list(spread.values()), mode="lines+markers", name=name, line=line)
    at_end = f"{report.stopped:,} machines were stopped, {report.offlined:,} CPUs taken offline and brought back"
    about = f"{report.kills:,} kills in {report.seconds:,.0f} s, seed {report.seed}. {at_end}. Times are of this host."
    found = (
        ("noticed late", report.late), ("wrong verdicts", report.wrong), ("invariants broken", report.unclean),
        ("left behind", report.left),
    )  # fmt: skip
    findings = [listing(name, texts) for name, texts in found]
    good = "<p>All deaths were noticed in time and judged rightly; nothing is left.</p>" if report.ok else ""
    held = table(("held at its death", "kills"), ((name, f"{n:,}") for name, n in report.locks.items()))
    locks = held if report.locks else ""
    config = {name: getattr(report, name) for name in ("kills", "cpus", "memory", "workload", "seed")}
    return document(
        f"emu stress kill: {report.workload} on {report.cpus} CPUs", about, [good, *findings, locks], [victims, times],
        [], config, ("kills", asdict(report) | {"ok": report.ok}),
    )  # fmt: skip
