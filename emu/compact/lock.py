"""Locks that compaction takes for a while and lets go of every 32 pages (``mm/compaction.c`` (5.10))."""

from emu.compact.control import CompactControl, dying
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import MIGRATE_ASYNC
from emu.zone.irq import local_irq_restore
from emu.zone.mmzone import Cpu, Machine
from shm.core import core
from shm.spinlock import Spinlock, spin_lock, spin_trylock


@core
def compact_lock_irqsave(m: Machine, cpu: Cpu, lock: Spinlock, cc: CompactControl, where: int) -> int:
    """``mm/compaction.c:compact_lock_irqsave() (5.10)``: the interrupt flags. An asynchronous run that finds the lock
    taken notes that it is contended, so that it ends soon, and waits all the same."""
    flags = cpu.irqs_off
    if cc.mode == MIGRATE_ASYNC and cc.contended == 0:
        cpu.irqs_off = 1
        if spin_trylock(cpu.party, lock, where):
            return flags
        local_irq_restore(m, cpu, flags)
        cc.contended = 1
    cpu.irqs_off = 1
    spin_lock(cpu.party, lock, where)
    return flags


@core
def compact_should_abort(m: Machine, cpu: Cpu, cc: CompactControl) -> bool:
    """``mm/compaction.c:compact_unlock_should_abort() (5.10)`` after the caller has unlocked: a chance for others;
    true if a fatal signal ends the run."""
    if dying(m, cpu):
        cc.contended = 1
        return True
    cond_resched(m, cpu)
    return False
