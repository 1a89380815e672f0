"""Single operations that a library user asks a CPU for."""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import __alloc_pages_nodemask, alloc_pages
from emu.zone.mmzone import Cpu, Machine
from shm.core import as_entries, entry

__all__ = ["COMMAND_ENTRIES", "alloc_command", "free_command"]


@entry
def alloc_command(m: Machine, cpu: Cpu) -> int:
    """Allocate: gfp, order, node (-1: the task's policy), nodemask are the command's arguments."""
    args = cpu.command_args
    if args[2] < 0:
        return alloc_pages(m, cpu, args[0], args[1])
    return __alloc_pages_nodemask(m, cpu, args[0], args[1], args[2], args[3])


@entry
def free_command(m: Machine, cpu: Cpu) -> int:
    """Free: pfn, order."""
    __free_pages(m, cpu, cpu.command_args[0], cpu.command_args[1])
    return 0


COMMAND_ENTRIES = as_entries(alloc_command, free_command)
