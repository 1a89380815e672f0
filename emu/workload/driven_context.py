"""Who does what in a recorded trace, and the allocations that are under way at a moment of it."""

from dataclasses import dataclass, field

from emu.workload import driven_ops as d
from emu.workload.case import CaseError, Line, Step

Context = tuple[int, int, str]  # CPU, pid, column of the trace's flags that says hardirq or softirq


def owner_of(where: Context) -> tuple[int, str]:
    """Whose allocations nest: a task's, on whatever CPU it runs, or those of one kind of interrupt on one CPU."""
    cpu, pid, irq = where
    return (pid if pid and irq == "." else -1 - cpu), irq


class Fields(dict[str, str]):
    """``name=value`` pairs of an event."""

    def __init__(self, line: Line) -> None:
        super().__init__(part.split("=", 1) for part in line.text.split() if "=" in part)
        self._line = line

    def __missing__(self, name: str) -> str:
        raise CaseError(f"event {self._line.seq}: {self._line.event} without {name}: damaged")


def fields_of(line: Line) -> Fields:
    """An event's fields. Raises CaseError where one is asked for that it doesn't have."""
    return Fields(line)


@dataclass
class Attempt:
    """One ``get_page_from_freelist()`` as far as it has got."""

    kind: int
    last: int  # latest event
    cpu: int  # and where it was
    locked: int = -1  # first event under the zone lock
    failed: dict[int, int] = field(default_factory=dict)  # zone id -> free pages that the kernel read
    seen: set[int] = field(default_factory=set)  # zones that failed in this pass
    nofragment: bool = False
    boosted: bool = False
    flags: int = -1
    lru: list[Step] = field(default_factory=list)


@dataclass
class Alloc:
    """One ``__alloc_pages_nodemask()`` in progress."""

    enter: dict[str, str]
    attempt: Attempt
    reclaiming: bool = False  # between attempts: what happens now isn't the allocator's
    hopeless: bool = False  # reclaim and compaction are behind it: it is should_reclaim_retry()'s turn
    rt: bool = False
    kind: int = d.ATTEMPT_FAST  # of its next attempt
