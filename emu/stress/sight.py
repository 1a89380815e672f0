"""What shared memory says of a CPU whose process doesn't move, read without the code that judges the dead.

``emu stress kill`` stops a process, looks, and kills it; what it has seen is compared with the verdict afterwards.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from emu.zone.init import party_of, zones_of
from emu.zone.init_vm import vm_of
from emu.zone.locks import locks_of
from emu.zone.mmzone import Machine
from emu.zone.sched import Task
from shm.point import site_name
from shm.struct import address_of, record_at

__all__ = ["KINDS", "Sight", "freeze", "glance", "look", "process_state"]

HOLDER_BITS = 0xFFFF
RECLAIMS = 0x800  # PF_MEMALLOC
KINDS = ("holds a lock", "waits for a lock", "in an interrupt", "irqs off", "reclaims", "owns a mutex",
         "critical section", "runs", "idle")  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """A CPU's process as it was seen."""

    locks: tuple[tuple[str, str], ...]  # held: name, call site
    owns: int  # sleeping locks
    irqs_off: bool
    interrupt: bool
    reclaims: bool
    critical: bool
    waits: bool
    busy: bool

    @property
    def kind(self) -> str:
        """One of KINDS, the first that is so."""
        facts = (bool(self.locks), self.waits, self.interrupt, self.irqs_off, self.reclaims, self.owns > 0,
                 self.critical, self.busy)  # fmt: skip
        return KINDS[facts.index(True)] if True in facts else KINDS[-1]

    @property
    def fatal(self) -> bool:
        """Whether a machine must be stopped if this process is gone."""
        unsafe = self.irqs_off or self.interrupt or self.reclaims or self.critical
        return unsafe or self.owns > 0 or bool(self.locks)


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat; Z as well if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def freeze(pid: int) -> bool:
    """SIGSTOP, and wait until it has stopped; false if it has ended."""
    os.kill(pid, signal.SIGSTOP)
    while (state := process_state(pid)) not in "TZX":
        time.sleep(0)
    return state == "T"


def glance(m: Machine, index: int, aim: str) -> bool:
    """Whether a frozen CPU is what is looked for: a quick look at the likely places."""
    cpu = party_of(m, index)
    if aim == "holds a lock":
        return any(zone.lock.word & HOLDER_BITS == index + 1 for zone in zones_of(m))
    if aim == "in an interrupt":
        return bool(cpu.party.context)
    if aim == "irqs off":
        return bool(cpu.party.irqs_off) and not glance(m, index, "holds a lock") and not cpu.party.context
    if aim == "waits for a lock":
        return any(wait.lock for wait in cpu.party.waits) and not glance(m, index, "holds a lock")
    if aim == "runs":
        return not cpu.party.irqs_off and not any(wait.lock for wait in cpu.party.waits)
    return True


def look(m: Machine, index: int) -> Sight:
    """All of it."""
    cpu = party_of(m, index)
    me, vm = index + 1, vm_of(m)
    party = cpu.party
    task = record_at(Task, address_of(m) + cpu.current)
    words = (m.drain_busy, vm.cma.cma_mutex, vm.oom_lock, vm.cpuset_mutex, vm.mem_hotplug_lock, vm.nopage_rs.lock,
             vm.oom_rs.lock)  # fmt: skip
    return Sight(
        tuple(
            (name, site_name(lock.site or party.lock_site))
            for name, lock in locks_of(m)
            if lock.word & HOLDER_BITS == me
        ),
        sum(word == me for word in words),
        party.irqs_off != 0,
        party.context != 0 or cpu.irq_nesting != 0,
        task.process_flags & RECLAIMS != 0 or cpu.capture != 0,
        cpu.critical != 0,
        any(wait.lock for wait in party.waits),
        cpu.command != cpu.answered,
    )
