"""How long a CPU has its interrupts off, and where interrupts come in (``CONFIG_IRQSOFF_TRACER`` (5.10)).

Only machines booted with ``irq_stat`` have these records, and only while measuring is on are they written.
"""

from emu.zone.mmzone import Cpu
from shm.atomic import clock_ns
from shm.core import core
from shm.lockstat import Histogram, LockTime, add_time, bucket
from shm.struct import Array, At, Struct, address_of, array, embed, i64, record_at, size_of, struct, u32

HITS = 1024


@struct
class IrqStat(Struct):
    """One CPU's. Written by it alone."""

    since: int = i64()  # CLOCK_MONOTONIC ns when interrupts went off; 0: they are on, or nobody measures
    site: int = u32()
    longest_site: int = u32()
    time: LockTime = embed(LockTime)
    signals: int = i64()  # signals that came
    deferred: int = i64()  # while interrupts were off: delivered when they went on again
    hits: Array[int] = array(i64, HITS)  # the instructions that the last ones interrupted, [n % HITS]
    nr_hits: int = i64()
    histogram: Histogram = embed(Histogram)


irq_stat_at = At(IrqStat)
IRQ_STAT_SIZE = size_of(IrqStat)


@core(cold=True)
def add_irqs_off(cpu: Cpu) -> None:
    """They are on again."""
    stat = irq_stat_at(cpu, cpu.irq_stat)
    if stat.since == 0:
        return
    spent = clock_ns() - stat.since
    stat.since = 0
    if spent > stat.time.longest:
        stat.longest_site = stat.site
    add_time(stat.time, spent)
    stat.histogram.counts[bucket(spent)] += 1


def irq_stat_of(cpu: Cpu) -> IrqStat:
    """A CPU's record."""
    return record_at(IrqStat, address_of(cpu) + cpu.irq_stat)
