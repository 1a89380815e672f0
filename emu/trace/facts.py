"""What must be known of a machine to make sense of its events, which hold numbers only."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emu.zone.mmzone import MAX_NR_ZONES

__all__ = ["NOTHING_KNOWN", "Facts", "TaskFacts", "ZoneFacts"]

TASK_COMM_LEN = 16


@dataclass(frozen=True)
class TaskFacts:
    """A task or a process of the machine: its name and its pid."""

    comm: str
    pid: int


@dataclass(frozen=True)
class ZoneFacts:
    """Where a zone lies: ``start_pfn`` and how many pfns from there on, holes and all."""

    nid: int
    zid: int
    start_pfn: int
    spanned: int


@dataclass(frozen=True)
class Facts:
    """``parties``: the CPUs' processes, then the daemons'; ``tasks``: by their numbers, those of the parties first."""

    nr_cpus: int = 1
    cpu_node: tuple[int, ...] = (0,)
    zones: tuple[ZoneFacts, ...] = ()
    parties: tuple[TaskFacts, ...] = ()
    tasks: tuple[TaskFacts, ...] = ()
    sites: dict[int, str] = field(default_factory=dict)  # names of places in the code, by their numbers
    config: dict[str, object] = field(default_factory=dict)

    def pids(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pids of tasks; a task that isn't known has its number."""
        pids = np.array([task.pid for task in self.tasks] or [0], np.int64)
        known = (numbers >= 0) & (numbers < len(self.tasks))
        return np.where(known, pids[np.where(known, numbers, 0)], numbers)

    def comms(self, numbers: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """The names of tasks, as ``task->comm`` holds them; one that isn't known is ``<...>``, as in ftrace."""
        comms = np.array([task.comm.encode() for task in self.tasks] or [b""], f"S{TASK_COMM_LEN - 1}")
        known = (numbers >= 0) & (numbers < len(self.tasks))
        return np.where(known, comms[np.where(known, numbers, 0)], np.array(b"<...>", comms.dtype))

    def zone_starts(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first pfns of zones, given as ``zone_id``; 0 for one that isn't known."""
        return self._by_zone({_zone_id(zone): zone.start_pfn for zone in self.zones}, ids)

    def zone_ends(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pfns behind zones."""
        return self._by_zone({_zone_id(zone): zone.start_pfn + zone.spanned for zone in self.zones}, ids)

    @staticmethod
    def _by_zone(values: dict[int, int], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        table = np.zeros(256, np.int64)  # an event has eight bits for a zone_id
        for zone_id, value in values.items():
            table[zone_id] = value
        return table[ids]


NOTHING_KNOWN = Facts()


def _zone_id(zone: ZoneFacts) -> int:
    return zone.nid * MAX_NR_ZONES + zone.zid
