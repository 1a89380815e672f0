"""``emu stress irq``: interrupts against allocation, on the same CPUs and the same pcp lists.

An interrupt source signals the CPUs' processes, so interrupts come in between any two instructions. They allocate and
free packets with GFP_ATOMIC, tick, and give the pcp lists back (as ``drain_all_pages()`` did by interrupt up to 4.10),
while the tasks below them allocate and free. Afterwards every page must be where it belongs: nothing lost, no list
torn. With ``unsafe`` switching interrupts off has no effect (:mod:`emu.stress.unsafe`).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from emu.config import MachineConfig, make_config
from emu.cpu.irq import interrupt, net_stop
from emu.machine import MachineError
from emu.run import WorkloadRun
from emu.stress.autopsy import autopsy
from emu.stress.histogram import LatencySummary, summary_of
from emu.stress.irq_source import InterruptSource
from emu.zone.irq import IRQ_MEASURE
from emu.zone.irq_stat import HITS, IrqStat, irq_stat_of
from emu.zone.mmzone import Cpu
from emu.zone.report import render
from emu.zone.snapshot import nr_free_pages
from emu.zone.validate import validate
from shm.atomic import fetch_or, load_acquire
from shm.core import INTERPRETED, MODE, Entry
from shm.point import MEASURED, NO_IRQSAVE, site_name
from shm.symbols import Symbols

__all__ = ["RATES", "UNSAFE", "IrqReport", "stress_irq"]

# per second and CPU; interpreted, a handler takes a hundred times as long
RATES = {"net": 20.0, "timer": 2.0, "ipi": 1.0} if INTERPRETED else {"net": 2000.0, "timer": 250.0, "ipi": 50.0}
UNSAFE = ("no-irqsave",)
TOP = 12
END_S = 5.0
Watch = Callable[[WorkloadRun], Callable[[], None] | None]
UNSAFE_LOCKUP_S = 20.0 if INTERPRETED else 2.0


@dataclass(frozen=True)
class IrqReport:
    """What came in where, for how long interrupts were off, and whether everything is in its place."""

    config: dict[str, Any]
    rates: dict[str, float]
    unsafe: str
    mode: str
    seconds: float
    ops: int
    ops_per_second: float
    sent: dict[str, int]
    signals: int  # that reached a CPU
    deferred: int  # and found interrupts off: delivered when they went on again
    delivered: int  # entries of the handler; what is raised twice before it is delivered comes once
    ticks: int
    packets: int
    dropped: int
    irqs_off: LatencySummary
    longest_at: str
    landed: dict[str, int]  # the interrupted functions of the last interrupts
    lost_pages: int
    problems: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what the kernel would have said

    @property
    def consistent(self) -> bool:
        """Nothing lost, nothing torn."""
        return not self.broken and not self.problems and self.lost_pages == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "consistent": self.consistent}


def stress_irq(
    config: MachineConfig | None = None, *, rates: Mapping[str, float] = RATES, unsafe: str = "",
    told: Callable[[str], None] = lambda _: None, watch: Watch = lambda _: None,
    after: Callable[[WorkloadRun, IrqReport], None] = lambda *_: None,
) -> IrqReport:  # fmt: skip
    """Run a workload under interrupts. ``unsafe`` wants checked mode, where corrupt lists are noticed at once.

    ``watch`` gets the run before it begins and returns what is to be called meanwhile; ``after`` gets it, and the
    report, while the machine's memory is still there.
    """
    config = config or make_config({"cpus": 2, "memory": "256M", "duration": 3.0}, "stress irq")
    config = config.model_copy(update={"irq_stat": True})
    if unsafe and unsafe not in UNSAFE:
        raise ValueError(f"unsafe {unsafe}: not one of {', '.join(UNSAFE)}")
    broken: list[str] = []
    with WorkloadRun(config) as work:
        board, m = work.machine.board, work.machine.m
        free = nr_free_pages(m)
        work.machine.on_report = lambda event: broken.append(render(event, m).rstrip())
        cpus = [board.cpu(i) for i in range(m.nr_cpus)]
        stats = [irq_stat_of(cpu) for cpu in cpus]
        for cpu in cpus:
            cpu.party.scheduled |= MEASURED | (NO_IRQSAVE if unsafe else 0)
            fetch_or(cpu, "irq_pending", IRQ_MEASURE)
        told(f"{len(cpus)} CPUs, interrupts per second on each: {_rates(rates)}")
        ops, seconds = 0, 0.0
        problems: list[str] = []
        symbols = Symbols.of(_entry(interrupt))
        if config.workload == "repeat":  # what it holds is taken in peace
            work.post(sum(config.node_bytes()) >> 12)
        if unsafe:
            work.machine.soft_lockup_s = UNSAFE_LOCKUP_S
        tick = watch(work)
        with InterruptSource(m, rates, config.seed) as source:
            try:
                done = work.run(tick)
                ops, seconds = done.ops, done.seconds
            except MachineError as err:
                broken += [*autopsy(work.machine, symbols), str(err)]
                ops = work.done()
            sent = source.sent()
        if not broken:
            _let_handlers_end(cpus)
            for cpu in cpus:
                net_stop(m, cpu)
                cpu.irq_pending &= ~IRQ_MEASURE
            work.machine.settle()
            problems = validate(m)
        lost = free - nr_free_pages(m) if not broken else 0
        longest = max(stats, key=lambda s: s.time.longest)
        report = IrqReport(
            config.model_dump(mode="json"), dict(rates), unsafe, MODE, seconds, ops, ops / seconds if seconds else 0.0,
            sent, sum(s.signals for s in stats), sum(s.deferred for s in stats), sum(c.irq_entries for c in cpus),
            sum(c.ticks for c in cpus), sum(c.rx_next for c in cpus), sum(c.rx_dropped for c in cpus),
            summary_of([s.histogram for s in stats]), site_name(longest.longest_site), _landed(stats, symbols), lost,
            problems, broken,
        )  # fmt: skip
        after(work, report)
        return report


def _let_handlers_end(cpus: list[Cpu]) -> None:
    """A process that had no processor takes its last interrupts late: not while its receive ring is emptied."""
    until = time.monotonic() + END_S
    while time.monotonic() < until:
        if all(load_acquire(cpu, "irq_pending") & ~IRQ_MEASURE == 0 and cpu.party.irqs_off == 0 for cpu in cpus):
            return
        time.sleep(0.001)


def _entry(function: Any) -> Entry:
    assert isinstance(function, Entry)
    return function


def _rates(rates: Mapping[str, float]) -> str:
    return ", ".join(f"{rate:g} {kind}" for kind, rate in rates.items())


def _landed(stats: list[IrqStat], symbols: Symbols) -> dict[str, int]:
    """Interrupted functions, the most frequent first."""
    hits = Counter(
        symbols.function(stat.hits[i]).partition("+")[0] for stat in stats for i in range(min(stat.nr_hits, HITS))
    )
    return dict(hits.most_common(TOP))
