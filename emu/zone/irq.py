"""Interrupts of a CPU, and locks taken with them off (``include/linux/spinlock.h``, ``irqflags.h`` (5.10)).

A CPU's interrupts are a pending mask in its record. They are delivered, and run to completion, when interrupts are
switched on again and at poll points. What they do is the business of ``emu.cpu.irq``, behind the seam :func:`do_IRQ`.
"""

from emu.zone.mmzone import Cpu, Machine
from shm.core import core, seam
from shm.point import point
from shm.spinlock import Spinlock, spin_lock, spin_unlock


@seam
def do_IRQ(m: Machine, cpu: Cpu) -> None:
    """Run the handlers of all pending interrupts. Without handlers they are acknowledged and counted."""
    cpu.irq_pending = 0
    cpu.irq_entries += 1


@core(inline=True)
def local_irq_save(cpu: Cpu, where: int) -> int:
    """``local_irq_save()``: interrupts off; hand the returned flags back to :func:`local_irq_restore`."""
    point(cpu.party, where)
    flags = cpu.irqs_off
    cpu.irqs_off = 1
    return flags


@core(inline=True)
def local_irq_restore(m: Machine, cpu: Cpu, flags: int) -> None:
    """``local_irq_restore()``: as they were; pending interrupts come in now if that is on."""
    cpu.irqs_off = flags
    if cpu.irq_pending != 0:
        irqs_come_in(m, cpu)


@core(cold=True)
def irqs_come_in(m: Machine, cpu: Cpu) -> None:
    """What is pending is handled, unless interrupts are still off."""
    if cpu.irqs_off == 0:
        do_IRQ(m, cpu)


@core(inline=True)
def spin_lock_irqsave(cpu: Cpu, lock: Spinlock, where: int) -> int:
    """``spin_lock_irqsave()``"""
    flags = cpu.irqs_off
    cpu.irqs_off = 1
    spin_lock(cpu.party, lock, where)
    return flags


@core(inline=True)
def spin_unlock_irqrestore(m: Machine, cpu: Cpu, lock: Spinlock, flags: int) -> None:
    """``spin_unlock_irqrestore()``"""
    spin_unlock(cpu.party, lock)
    local_irq_restore(m, cpu, flags)


@core(inline=True)
def in_interrupt(cpu: Cpu) -> bool:
    """``in_interrupt()``"""
    return cpu.irq_nesting != 0 or cpu.softirq != 0
