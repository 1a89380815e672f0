"""What the kernel would have said when a machine broke, from what lies in its memory."""

from emu.machine import Machine
from emu.zone.init_vm import vm_of
from emu.zone.irq_stat import HITS, irq_stat_of
from emu.zone.list_debug import list_bug_text
from emu.zone.locks import locks_of, party_name
from shm.point import site_name
from shm.symbols import Symbols

__all__ = ["autopsy"]


def autopsy(machine: Machine, symbols: Symbols) -> list[str]:
    """Corrupt lists, locks that are waited for by their holder, and where interrupts came in last."""
    m = machine.m
    said = []
    bug = vm_of(m).list_bug
    if bug.kind:
        said += [list_bug_text(m, bug), "kernel BUG at lib/list_debug.c!"]
    suspects = {child.index for child in machine.children if child.status not in (None, 0)}
    for name, lock in locks_of(m):
        if lock.recursion:
            index = lock.recursion - 1
            party = machine.board.cpu(index).party
            who = f"{party_name(m, index)}/{party.pid}"
            suspects.add(index)
            said += [
                f"BUG: spinlock recursion on CPU#{index}, {who}",
                f" lock: {name}, .owner: {who}, .owner_cpu: {index}, taken at {site_name(lock.site)}",
                f" wanted again {'in an interrupt ' if party.context else ''}at {site_name(party.lock_site)}",
            ]
    for index in sorted(suspects or range(m.nr_cpus)):
        cpu = machine.board.cpu(index)
        stat = irq_stat_of(cpu) if cpu.irq_stat else None
        if stat is not None and stat.nr_hits:
            at = symbols.function(stat.hits[(stat.nr_hits - 1) % HITS])
            said.append(
                f"CPU#{index}: interrupted last in {at}, which had last asked for {site_name(cpu.party.lock_site)}"
            )
    return said
