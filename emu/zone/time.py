"""Time (``include/linux/jiffies.h`` (5.10)): nanoseconds of CLOCK_MONOTONIC, and jiffies since the machine's boot."""

from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Machine
from shm.atomic import clock_ns
from shm.core import core

HZ = 250
NS_PER_JIFFY = 1_000_000_000 // HZ
NS_PER_MS = 1_000_000


@core
def jiffies(m: Machine) -> int:
    """``jiffies``: those of the recorded or booted state, and those since."""
    return m.jiffies + (clock_ns() - vm_at(m, m.vm).boot_ns) // NS_PER_JIFFY
