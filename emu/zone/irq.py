"""Interrupts of a CPU, and locks taken with them off (``include/linux/spinlock.h``, ``irqflags.h`` (5.10)).

A CPU's interrupts are a pending mask in its record. They are delivered, and run to completion, when interrupts are
switched on again and at poll points; an interrupt source may also send the CPU's process a signal, and then they come
in between any two instructions (``emu.cpu.irq_signal``). What they do is the business of ``emu.cpu.irq``, behind the
seam :func:`do_IRQ`.
"""

from emu.zone.irq_stat import add_irqs_off, irq_stat_at
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import barrier, clock_ns
from shm.core import core, seam
from shm.point import MEASURED, NO_IRQSAVE, SCHEDULED, schedule_point, site
from shm.spinlock import spin_lock, spin_trylock, spin_unlock
from shm.spinlock_types import Spinlock

IRQ_MEASURE = 1 << 31  # among the pending bits: no interrupt, but a reason to look at the clock
# where a page is taken from the pcp lists, or put there
S_ALLOC_PCP = site("rmqueue_pcplist:irqsave")
S_FREE_PCP = site("free_unref_page:irqsave")


@seam
def do_IRQ(m: Machine, cpu: Cpu) -> None:
    """Run the handlers of all pending interrupts. Without handlers they are acknowledged and counted."""
    cpu.irq_pending = cpu.irq_pending & IRQ_MEASURE
    cpu.irq_entries += 1


@core(cold=True)
def irqs_go_off(cpu: Cpu, where: int) -> int:
    """Interrupts will be off from here on, which is looked at: what the flag becomes, 1 unless ``NO_IRQSAVE``.

    In scheduled mode that one is race R18 and concerns the pcp lists alone, where a single page is allocated or freed:
    they had a protection of their own that interrupts got past, as a spin_trylock() on one CPU is (038a102535eb), while
    the locks kept interrupts off. Lists of pages and drains (``free_unref_page_list()``, ``drain_pages_zone()``,
    ``drain_zone_pages()``) keep them off there, too: one pair that isn't safe shows the race.
    """
    me = cpu.party
    if me.scheduled & MEASURED != 0 and me.irqs_off == 0 and cpu.irq_stat != 0:
        stat = irq_stat_at(cpu, cpu.irq_stat)
        stat.site = where
        stat.since = clock_ns()
    if me.scheduled & NO_IRQSAVE == 0:
        return 1
    if me.scheduled & SCHEDULED != 0 and where != S_ALLOC_PCP and where != S_FREE_PCP:
        return 1
    return me.irqs_off


@core(inline=True)
def irqs_off(cpu: Cpu, where: int) -> int:
    """Interrupts off without a scheduling point; one is about to follow."""
    me = cpu.party
    off = 1
    if me.scheduled != 0:
        off = irqs_go_off(cpu, where)
    flags = me.irqs_off
    me.irqs_off = off
    barrier()
    return flags


@core(inline=True)
def local_irq_save(cpu: Cpu, where: int) -> int:
    """``local_irq_save()``: interrupts off; hand the returned flags back to :func:`local_irq_restore`."""
    me = cpu.party
    off = 1
    if me.scheduled != 0:
        schedule_point(me, where)
        off = irqs_go_off(cpu, where)
    flags = me.irqs_off
    me.irqs_off = off
    barrier()
    return flags


@core(inline=True)
def local_irq_restore(m: Machine, cpu: Cpu, flags: int) -> None:
    """``local_irq_restore()``: as they were; pending interrupts come in now if that is on."""
    barrier()
    cpu.party.irqs_off = flags
    barrier()
    if cpu.irq_pending != 0:
        irqs_come_in(m, cpu)


@core(cold=True)
def irqs_come_in(m: Machine, cpu: Cpu) -> None:
    """What is pending is handled, unless interrupts are still off."""
    me = cpu.party
    if me.irqs_off != 0:
        return
    if cpu.irq_stat != 0:
        me.irqs_off = 1  # the books are kept in peace; what comes meanwhile is pending
        barrier()
        add_irqs_off(cpu)
        barrier()
        me.irqs_off = 0
        barrier()
    if cpu.irq_pending & ~IRQ_MEASURE != 0:
        do_IRQ(m, cpu)


@core(inline=True)
def spin_lock_irqsave(cpu: Cpu, lock: Spinlock, where: int) -> int:
    """``spin_lock_irqsave()``"""
    flags = irqs_off(cpu, where)
    spin_lock(cpu.party, lock, where)
    return flags


@core(inline=True)
def spin_trylock_irqsave(m: Machine, cpu: Cpu, lock: Spinlock, where: int) -> int:
    """``spin_trylock_irqsave()``: the flags, or -1 when somebody has it."""
    flags = irqs_off(cpu, where)
    if spin_trylock(cpu.party, lock, where):
        return flags
    local_irq_restore(m, cpu, flags)
    return -1


@core(inline=True)
def spin_unlock_irqrestore(m: Machine, cpu: Cpu, lock: Spinlock, flags: int) -> None:
    """``spin_unlock_irqrestore()``"""
    spin_unlock(cpu.party, lock)
    local_irq_restore(m, cpu, flags)


@core(inline=True)
def in_interrupt(cpu: Cpu) -> bool:
    """``in_interrupt()``"""
    return cpu.irq_nesting != 0 or cpu.softirq != 0
