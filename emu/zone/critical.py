"""Sections that no spinlock tells of, and that nobody else can finish (``local_lock()``, ``mmap_lock`` (5.10)).

5.10 does this work with preemption disabled, or holding a sleeping lock. Here a process may be killed in it, and then
it has to be known: its CPU can't be taken offline as if nothing had happened.
"""

from emu.zone.mmzone import Cpu
from shm.atomic import barrier
from shm.core import core


@core(inline=True)
def critical_enter(cpu: Cpu, where: int) -> None:
    """From here on this CPU's work is half done. Sections nest; the outermost one's name is on record."""
    if cpu.critical == 0:
        cpu.critical_site = where
    cpu.critical += 1
    barrier()


@core(inline=True)
def critical_exit(cpu: Cpu) -> None:
    """It is done."""
    barrier()
    cpu.critical -= 1
