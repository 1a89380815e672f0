"""CPUs that go offline and come back while the machine runs: the parent's side of ``emu.cpu.cpu_hotplug``.

The parent allocates nothing and takes no lock that a CPU could wait for: it notices that a process has ended, asks a
living CPU to take the dead one down, and sees that it is done.
"""

from collections.abc import Callable

from emu.cpu.cpu_hotplug import CPUHP_DEAD, CPUHP_DYING, CPUHP_LEAVING, tell_cpu_dead, vmstat_cpu_online
from emu.cpu.process import STATE_STARTING
from emu.death import Child, clean_party
from emu.zone.board import Board
from shm.atomic import fetch_add, futex_wake, load_acquire, store_release

__all__ = ["Hotplug"]


class Hotplug:
    """Takedowns of a machine's CPUs. ``children`` is the machine's list of processes."""

    def __init__(self, board: Board, children: list[Child]) -> None:
        self.board, self.m, self.children = board, board.m, children
        self.on_offline: Callable[[int], None] | None = None

    def living(self) -> list[Child]:
        """Processes of CPUs that can be asked for something."""
        return [
            c for c in self.children
            if c.status is None and c.index < self.m.nr_cpus and self.board.cpu(c.index).party.state != STATE_STARTING
        ]  # fmt: skip

    def online(self, index: int) -> bool:
        """``cpu_online()``"""
        return index >= self.m.nr_cpus or bool(load_acquire(self.board.cpu(index), "online"))

    def ask_to_leave(self, index: int) -> None:
        """``cpu_down()``: the CPU's process ends when it has done its present slice."""
        cpu = self.board.cpu(index)
        store_release(cpu, "hotplug", CPUHP_LEAVING)
        fetch_add(cpu, "doorbell", 1)
        futex_wake(cpu, "doorbell", 0x7FFFFFFF, 0xFFFFFFFF)

    def leaves(self, index: int) -> bool:
        """Whether a CPU was asked to."""
        return bool(self.board.cpu(index).hotplug == CPUHP_LEAVING)

    def begin(self, child: Child) -> None:
        """Its process has ended: from now on nobody asks anything of this CPU."""
        cpu = self.board.cpu(child.index)
        store_release(cpu.party, "pid", 0)  # the number may be another process's from now on
        store_release(cpu, "online", 0)
        fetch_add(self.m, "nr_online_cpus", -1)
        self.m.cpu_offlines += 1
        store_release(cpu, "hotplug", CPUHP_DYING)

    def step(self) -> None:
        """Get on with all takedowns."""
        for child in [c for c in self.children if c.death is not None]:
            cpu = self.board.cpu(child.index)
            if not child.told:
                child.told = any(tell_cpu_dead(self.m, cpu, other.index) for other in self.living())
            if load_acquire(cpu, "hotplug") == CPUHP_DEAD:
                cpu.result = -1
                store_release(cpu, "answered", cpu.command)
                self.children.remove(child)
                if self.on_offline is not None:
                    self.on_offline(child.index)

    def bring_up(self, index: int) -> None:
        """Its record is ready for a new process; the CPU is online."""
        clean_party(self.m, index)
        vmstat_cpu_online(self.m, self.board.cpu(index))
