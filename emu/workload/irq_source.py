"""An interrupt controller: raises interrupts on all CPUs at given rates, each with a signal to the CPU's process."""

from emu.cpu.irq import IRQ_IPI, IRQ_NET, IRQ_TIMER, raise_irq
from emu.cpu.workqueue import cpu_at
from emu.zone.mmzone import MAX_CPUS, Cpu, Machine, cpu_record
from shm.atomic import clock_ns, futex_wait, load_acquire, process_signal
from shm.core import as_entries, core, entry
from shm.struct import Array, Struct, array, i32, i64, struct, u32

__all__ = ["IRQ_KINDS", "IRQ_SOURCE_ENTRIES", "IrqSource", "raise_interrupts"]

IRQ_KINDS = {"net": IRQ_NET, "timer": IRQ_TIMER, "ipi": IRQ_IPI}
NR_KINDS = len(IRQ_KINDS)
BITS = tuple(IRQ_KINDS.values())
SLEEP_NS = 200_000  # less than that is not worth a sleep


@struct
class IrqSource(Struct):
    """Rates, and what has been sent. It belongs to the source's process; others may read it."""

    signal: int = i32()
    bell: int = u32()  # nobody rings it: to sleep on
    random: int = i64()  # xorshift state, never 0
    interval: Array[int] = array(i64, NR_KINDS)  # mean ns between two on one CPU; 0: none
    sent: Array[int] = array(i64, NR_KINDS)
    due: Array[int] = array(i64, NR_KINDS * MAX_CPUS)


@core
def next_interval(source: IrqSource, mean: int) -> int:
    """Between nothing and twice the mean, so that sources don't fall into step with what they interrupt."""
    x = source.random
    x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
    x ^= x >> 7
    x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
    source.random = x
    return (x >> 11) % (2 * mean)


@core
def raise_due(m: Machine, source: IrqSource, cpu: Cpu, now: int) -> int:
    """What is due on a CPU. Returns when the next one is."""
    soonest = now + 1_000_000_000
    bits = 0
    for kind in range(NR_KINDS):
        mean = source.interval[kind]
        if mean != 0:
            at = kind * MAX_CPUS + cpu.party.index
            if source.due[at] <= now:
                bits |= BITS[kind]
                source.sent[kind] += 1
                source.due[at] = now + next_interval(source, mean)
            soonest = min(soonest, source.due[at])
    if bits != 0:
        raise_irq(cpu, bits)
        if cpu.party.pid != 0 and load_acquire(cpu.party, "dead") == 0:
            process_signal(cpu.party.pid, source.signal)
    return soonest


@entry
def raise_interrupts(m: Machine, source: IrqSource, until_ns: int) -> None:
    """Interrupt until CLOCK_MONOTONIC reaches ``until_ns`` or the machine stops."""
    now = clock_ns()
    while now < until_ns and load_acquire(m, "stop") == 0:
        soonest = until_ns
        for index in range(m.nr_cpus):
            soonest = min(soonest, raise_due(m, source, cpu_record(m, cpu_at(m, index)), now))
        if soonest - now > SLEEP_NS:
            futex_wait(source, "bell", 0, 0xFFFFFFFF, soonest)
        now = clock_ns()


IRQ_SOURCE_ENTRIES = as_entries(raise_interrupts)
