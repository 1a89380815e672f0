"""Locks that compaction takes for a while and lets go of every 32 pages (``mm/compaction.c`` (5.10))."""

from emu.compact.control import CompactControl, dying
from emu.cpu.workqueue import cond_resched
from emu.mm.migrate import MIGRATE_ASYNC
from emu.zone.irq import spin_lock_irqsave, spin_trylock_irqsave
from emu.zone.mmzone import Cpu, Machine
from shm.core import core
from shm.spinlock_types import Spinlock


@core
def compact_lock_irqsave(m: Machine, cpu: Cpu, lock: Spinlock, cc: CompactControl, where: int) -> int:
    """``mm/compaction.c:compact_lock_irqsave() (5.10)``: the interrupt flags. An asynchronous run that finds the lock
    taken notes that it is contended, so that it ends soon, and waits all the same."""
    if cc.mode == MIGRATE_ASYNC and cc.contended == 0:
        flags = spin_trylock_irqsave(m, cpu, lock, where)
        if flags >= 0:
            return flags
        cc.contended = 1
    return spin_lock_irqsave(cpu, lock, where)


@core
def compact_should_abort(m: Machine, cpu: Cpu, cc: CompactControl) -> bool:
    """``mm/compaction.c:compact_unlock_should_abort() (5.10)`` after the caller has unlocked: a chance for others;
    true if a fatal signal ends the run."""
    if dying(m, cpu):
        cc.contended = 1
        return True
    cond_resched(m, cpu)
    return False
