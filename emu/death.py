"""What it means that a process of a machine has ended: who it was, what it held, and whether the others can go on.

A killed process may have left anything half done. Where that is, is on record: the word of every spinlock names its
holder, sleeping locks name their owner, and a CPU's record says whether it had interrupts off, ran an interrupt,
reclaimed or compacted, or was in a section that nobody else can finish. If none of it is so, its per-cpu state is
whole, and its CPU can be taken offline.
"""

import os
import signal
import time
from dataclasses import dataclass, field

from emu.zone.gfp import PF_MEMALLOC
from emu.zone.init import EXIT_OWNER_DEAD, party_of
from emu.zone.locks import locks_of, mutexes_of, party_name
from emu.zone.mmzone import Machine
from emu.zone.sched import TASK_SIZE, Task
from shm.point import site_name
from shm.spinlock_types import holder_of, wait_position
from shm.struct import address_of, record_at

__all__ = ["Child", "Death", "clean_party", "examine", "waits_for"]


@dataclass(frozen=True)
class Death:
    """A process that has ended, and the state it left.

    ``locks``: spinlocks it held, each with the call site where it had taken it; ``mutexes``: sleeping locks it owned;
    ``inside``: where it was in a section that nobody else can finish; ``command``: what it did that others count on.
    """

    name: str
    index: int
    pid: int
    how: str
    locks: tuple[tuple[str, str], ...] = ()
    mutexes: tuple[str, ...] = ()
    inside: str = ""
    irqs_off: bool = False
    in_interrupt: bool = False
    reclaiming: bool = False
    command: str = ""
    is_cpu: bool = True
    waited: bool = False  # it waited for a lock whose holder had died, and ended for that

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the machine can't go on without it; empty: it can."""
        return (
            *(f"it held {name}" for name, _ in self.locks), *(f"it owned {name}" for name in self.mutexes),
            *(["interrupts were off"] if self.irqs_off else ()),
            *(["it ran an interrupt"] if self.in_interrupt else ()),
            *(["it was reclaiming or compacting"] if self.reclaiming else ()),
            *([f"it was inside {self.inside}"] if self.inside else ()),
            *([f"others count on its {self.command}"] if self.command else ()),
            *([] if self.is_cpu else ["there is no other one"]), *(["its lock is broken"] if self.waited else ()),
        )  # fmt: skip

    @property
    def fatal(self) -> bool:
        """Whether what it left may be half done."""
        return bool(self.reasons)

    def __str__(self) -> str:
        held = [f"{name}, taken at {where}" for name, where in self.locks] + [f"{name}" for name in self.mutexes]
        more = ", in an interrupt" * self.in_interrupt + ", reclaiming or compacting" * self.reclaiming
        more += f", inside {self.inside}" if self.inside else ""
        irqs = "irqs off" if self.irqs_off else "irqs on"
        return f"{self.name} (pid {self.pid}) {self.how}, holding {' and '.join(held) or 'no lock'}, {irqs}{more}"


@dataclass
class Child:
    """One process of the machine."""

    name: str
    index: int
    pid: int
    status: int | None = None
    heartbeat: int = -1
    since: float = field(default_factory=time.monotonic)
    death: Death | None = None
    told: bool = False  # a living CPU was asked to take it down


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number < signal.SIGRTMIN else f"SIGRTMIN+{number - signal.SIGRTMIN}"


def examine(m: Machine, child: Child, harmless: frozenset[int] = frozenset()) -> Death:
    """What the shared memory says of a process that has ended. ``harmless``: commands that nobody counts on."""
    cpu, mine = party_of(m, child.index), child.index + 1
    party = cpu.party
    code = os.waitstatus_to_exitcode(child.status or 0)
    task = record_at(Task, address_of(m) + cpu.current)
    busy = cpu.answered != cpu.command and cpu.command_code not in harmless
    return Death(
        child.name, child.index, child.pid,
        f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}",
        locks=tuple(
            (name, site_name(lock.site or party.lock_site)) for name, lock in locks_of(m) if holder_of(lock) == mine
        ),
        mutexes=tuple(name for name, owner in mutexes_of(m) if owner == mine),
        inside=site_name(cpu.critical_site) if cpu.critical else "",
        irqs_off=bool(party.irqs_off), in_interrupt=bool(party.context or cpu.irq_nesting),
        reclaiming=bool(task.process_flags & PF_MEMALLOC or cpu.capture),
        command=f"command {cpu.command_code}" if busy else "",
        is_cpu=child.index < m.nr_cpus, waited=code == EXIT_OWNER_DEAD,
    )  # fmt: skip


def waits_for(m: Machine, index: int) -> str:
    """What a process that makes no progress waits for."""
    party = party_of(m, index).party
    wait = party.waits[party.context]
    if not wait.lock:
        return f"last seen at {site_name(party.last_site or party.lock_site)}"
    for name, lock in locks_of(m):
        if address_of(lock) - address_of(m) - m.cpus == wait_position(wait):
            holder = "nobody"
            if holder_of(lock):
                holder = f"{party_name(m, holder_of(lock) - 1)} from {site_name(lock.site)}"
            return f"waiting at {site_name(wait.site)} for {name}, held by {holder}"
    return f"waiting at {site_name(wait.site)}"


def clean_party(m: Machine, index: int) -> None:
    """A CPU's record as it was at boot, for a new process: what the old one was doing is over.

    Its tickets in the queues of locks must have been skipped (``leave_lock_queues()``).
    """
    cpu = party_of(m, index)
    party = cpu.party
    party.pid = party.irqs_off = party.context = party.state = 0
    party.nr_locks = party.lock_site = party.last_site = 0
    for context, wait in enumerate(party.waits):
        party.nr_held[context] = 0
        wait.lock = wait.ticket = wait.site = wait.parked = 0
    cpu.irq_pending = cpu.irq_nesting = cpu.softirq = 0
    cpu.capture = cpu.capture_page = cpu.asleep = 0
    cpu.critical = cpu.critical_site = 0
    cpu.answered = cpu.command
    cpu.current = m.tasks + index * TASK_SIZE
    party.dead = 0
