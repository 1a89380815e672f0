"""What must be equal between a machine and a recorded kernel, and where they first differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.workload import script as s
from emu.workload.case import KMEM, Case, Line, Step
from emu.workload.overlap import Overlap
from emu.zone.event import KINDS
from emu.zone.snapshot import State

__all__ = ["Difference", "after_differences", "event_differences", "result_differences", "unseen_folds"]

# what the allocator doesn't own: the users' counters of a node, the vmstat worker's rounds that change nothing and
# leave no trace, the text of page maps (free blocks are compared as lists)
NOT_COMPARED = ("expire", "jiffies", "kernel", "version", "hz", "ns", "cpus_possible", "nr_swap_pages", "lruvecs")
LOCKED = ("mm_page_alloc_zone_locked", "mm_page_pcpu_drain", "mm_page_alloc_extfrag")
OP_FIELDS = {
    "znid": "znid", "zid": "rzid", "free": "free", "freediff": "freediff", "pcp": "pcp", "boost": "boost",
    "hra": "highatomic", "zflags": "zone_flags",
}  # fmt: skip
SHARED = ("free", "boost", "hra", "zflags")  # other CPUs change them
EVENTS_OF_OURS = ("pgfree", "pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgalloc_movable")


@dataclass(frozen=True)
class Difference:
    """One value that isn't the kernel's."""

    where: str
    kernel: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.where}: kernel {_short(self.kernel)}, ours {_short(self.ours)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def result_differences(case: Case, steps: Sequence[Step], ops: Any) -> tuple[list[Difference], list[Difference]]:
    """Every operation's page and what its zone looked like right after it: what differs, and what was read meanwhile.

    The notes are taken without the zone lock, so that others may have changed a counter since (:class:`Overlap`).
    """
    differences: list[Difference] = []
    reads: list[Difference] = []
    overlap = Overlap(case, steps, ops)
    for at, step in enumerate(steps):
        op, noted = ops[at], step.recorded
        if noted is None:
            if step.code == s.OP_ALLOC and op.pfn != step.pfn:
                differences.append(Difference(f"event {step.at}: foreign allocation's pfn", step.pfn, op.pfn))
            continue
        name = f"op {noted['seq']} ({noted['op']}, cpu {step.cpu}, order {step.order}, gfp {step.gfp:#x})"
        if not op.done:
            differences.append(Difference(name, "executed", "not executed"))
        elif step.code in (s.OP_ALLOC, s.OP_FREE, s.OP_MEMPOLICY) and op.pfn != noted["pfn"]:
            differences.append(Difference(f"{name}: pfn", noted["pfn"], op.pfn))
        elif "znid" in noted:
            for theirs, mine in OP_FIELDS.items():
                if noted[theirs] != getattr(op, mine):
                    seen = theirs in SHARED and overlap.may_be(at, mine, noted[theirs])
                    (reads if seen else differences).append(
                        Difference(f"{name}: {theirs}", noted[theirs], getattr(op, mine))
                    )
    return differences, reads


def after_differences(after: State, ours: State) -> Iterator[Difference]:
    """The complete state after the operations, but for :func:`unseen_folds`."""
    for name in EVENTS_OF_OURS:
        yield from _compare(f"vm_events.{name}", after["vm_events"][name], ours["vm_events"][name])
    yield from _compare("totalreserve_pages", after["totalreserve_pages"], ours["totalreserve_pages"])
    yield from _compare("sysctl", after["sysctl"], ours["sysctl"])
    for zone, mine in _zones(after, ours):
        name = f"node {zone['nid']} {zone['name']}"
        left_out = ("numa_stat", "numa_stat_diff") if _folded_unseen(zone, mine) else ()
        for key, value in zone.items():
            if key == "pageblocks":
                yield from _blocks(name, value, mine[key])
            elif key not in left_out:
                yield from _compare(f"{name}: {key}", value, mine[key], left_out)


def unseen_folds(after: State, ours: State) -> Iterator[Difference]:
    """NUMA counters that the kernel had folded and we had not.

    Each round of the vmstat worker folds a CPU's NUMA differentials, but what says that there was a round are the other
    counters that it folds. One that finds none of those leaves no trace; nothing but these counters is different then.
    """
    for zone, mine in _zones(after, ours):
        if _folded_unseen(zone, mine):
            name = f"node {zone['nid']} {zone['name']}: numa_stat, folded in a round that left no trace"
            yield Difference(name, zone["numa_stat"], mine["numa_stat"])


def _zones(after: State, ours: State) -> Iterator[tuple[State, State]]:
    mine = {(z["nid"], z["zid"]): z for z in ours["zones"]}
    return ((zone, mine[zone["nid"], zone["zid"]]) for zone in after["zones"])


def _folded_unseen(zone: State, mine: State) -> bool:
    """Whether all that is missing in the zone's NUMA counters is in its CPUs' differentials."""
    missing = np.subtract(zone["numa_stat"], mine["numa_stat"])
    kept = [
        np.subtract(ours["numa_stat_diff"], theirs["numa_stat_diff"])
        for ours, theirs in zip(mine["pcp"], zone["pcp"], strict=True)
    ]
    return bool(missing.any() and (np.array(kept) >= 0).all() and (np.sum(kept, axis=0) == missing).all())


def _blocks(name: str, kernel: list[list[Any]], ours: list[list[Any]]) -> Iterator[Difference]:
    for theirs, mine in zip(kernel, ours, strict=True):
        yield from _compare(f"{name}: pageblock {theirs[0]} [pfn, type, skip]", theirs[:3], mine[:3])


def _compare(where: str, kernel: Any, ours: Any, left_out: Sequence[str] = ()) -> Iterator[Difference]:
    if isinstance(kernel, dict):
        for key, value in kernel.items():
            if key not in NOT_COMPARED and key not in left_out:
                yield from _compare(f"{where}.{key}", value, ours[key], left_out)
    elif isinstance(kernel, list) and kernel and isinstance(kernel[0], dict | list) and len(kernel) == len(ours):
        for at, (a, b) in enumerate(zip(kernel, ours, strict=True)):
            yield from _compare(f"{where}[{at}]", a, b, left_out)
    elif kernel != ours:
        yield Difference(where, kernel, ours)


def _theirs(line: Line) -> tuple[Any, ...]:
    if line.event == "mm_page_alloc_extfrag":
        names = (
            "pfn",
            "alloc_order",
            "fallback_order",
            "alloc_migratetype",
            "fallback_migratetype",
            "change_ownership",
        )
        return (line.event, *(line[n] for n in names))
    pfn = line["pfn"]
    if line.event == "mm_page_alloc" and set(line.field("page")) == {"0"}:
        pfn = -1
    common = (line.event, pfn, line["order"])
    return common if line.event.startswith("mm_page_free") else (*common, line["migratetype"])


def _mine(event: Any) -> tuple[Any, ...]:
    name = KINDS[event["kind"]]
    order, migratetype, a = int(event["order"]), int(event["migratetype"]), int(event["a"])
    if name == "mm_page_alloc_extfrag":
        return (name, int(event["pfn"]), order, a & 0xFF, migratetype, int(event["b"]), a >> 8)
    common = (name, int(event["pfn"]), order)
    return common if name.startswith("mm_page_free") else (*common, migratetype)


def event_differences(case: Case, events: np.ndarray[Any, Any]) -> Iterator[Difference]:
    """The sequence of kmem events; only the first difference, the rest follows from it.

    Where operations overlap (mode ``free``) an operation's events lie among another CPU's, wherever its lock is not
    held: each CPU's sequence is the kernel's, and that of what happens under the zone locks.
    """
    kernel = [(line.cpu, _theirs(line)) for line in case.trace if line.event in KMEM]
    wanted = np.isin(events["kind"], [KINDS.index(name) for name in KMEM])
    ours = [(int(event["cpu"]), _mine(event)) for event in np.sort(events[wanted], order="seq")]
    if case.meta["mode"] != "free":
        yield from _first_difference("", kernel, ours, lambda cpu, key: True)
        return
    for number in range(len(case.before["cpu_node"])):
        yield from _first_difference(f", cpu {number}", kernel, ours, lambda cpu, key, number=number: cpu == number)
    for zone in case.before["zones"]:
        pfns = range(zone["start_pfn"], zone["start_pfn"] + zone["spanned"])
        name = f" under zone->lock of node {zone['nid']} {zone['name']}"
        yield from _first_difference(
            name, kernel, ours, lambda cpu, key, pfns=pfns: key[0] in LOCKED and key[1] in pfns
        )


Event = tuple[int, tuple[Any, ...]]  # CPU; name, pfn and what else there is


def _first_difference(
    name: str, kernel: list[Event], ours: list[Event], wanted: Callable[..., bool]
) -> Iterator[Difference]:
    theirs, mine = ([key for cpu, key in found if wanted(cpu, key)] for found in (kernel, ours))
    for at, (a, b) in enumerate(zip(theirs, mine, strict=False)):
        if a != b:
            yield Difference(f"kmem event {at}{name}", a, b)
            return
    if len(theirs) != len(mine):
        yield Difference(f"number of kmem events{name}", len(theirs), len(mine))
