"""What must be equal between a machine and a recorded kernel, and where they first differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.workload import script as s
from emu.workload.case import KMEM, Case, Line, Step
from emu.zone.event import KINDS
from emu.zone.snapshot import State

__all__ = ["Difference", "after_differences", "event_differences", "result_differences"]

# what the allocator doesn't own: the users' counters of a node, the vmstat worker's rounds that change nothing and
# leave no trace, the text of page maps (free blocks are compared as lists)
NOT_COMPARED = ("expire", "jiffies", "kernel", "version", "hz", "ns", "cpus_possible", "nr_swap_pages", "lruvecs")
OP_FIELDS = {
    "znid": "znid", "zid": "rzid", "free": "free", "freediff": "freediff", "pcp": "pcp", "boost": "boost",
    "hra": "highatomic", "zflags": "zone_flags",
}  # fmt: skip
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


def result_differences(steps: Sequence[Step], ops: Any) -> Iterator[Difference]:
    """Every operation's page and what its zone looked like right after it."""
    for at, step in enumerate(steps):
        op, noted = ops[at], step.recorded
        if noted is None:
            if step.code == s.OP_ALLOC and op.pfn != step.pfn:
                yield Difference(f"event {step.at}: foreign allocation's pfn", step.pfn, op.pfn)
            continue
        name = f"op {noted['seq']} ({noted['op']}, cpu {step.cpu}, order {step.order}, gfp {step.gfp:#x})"
        if not op.done:
            yield Difference(name, "executed", "not executed")
        elif step.code in (s.OP_ALLOC, s.OP_FREE, s.OP_MEMPOLICY) and op.pfn != noted["pfn"]:
            yield Difference(f"{name}: pfn", noted["pfn"], op.pfn)
        elif "znid" in noted:
            for theirs, mine in OP_FIELDS.items():
                if noted[theirs] != getattr(op, mine):
                    yield Difference(f"{name}: {theirs}", noted[theirs], getattr(op, mine))


def after_differences(after: State, ours: State) -> Iterator[Difference]:
    """The complete state after the operations."""
    for name in EVENTS_OF_OURS:
        yield from _compare(f"vm_events.{name}", after["vm_events"][name], ours["vm_events"][name])
    yield from _compare("totalreserve_pages", after["totalreserve_pages"], ours["totalreserve_pages"])
    yield from _compare("sysctl", after["sysctl"], ours["sysctl"])
    mine = {(z["nid"], z["zid"]): z for z in ours["zones"]}
    for zone in after["zones"]:
        name = f"node {zone['nid']} {zone['name']}"
        for key, value in zone.items():
            if key == "pageblocks":
                yield from _blocks(name, value, mine[zone["nid"], zone["zid"]][key])
            else:
                yield from _compare(f"{name}: {key}", value, mine[zone["nid"], zone["zid"]][key])


def _blocks(name: str, kernel: list[list[Any]], ours: list[list[Any]]) -> Iterator[Difference]:
    for theirs, mine in zip(kernel, ours, strict=True):
        yield from _compare(f"{name}: pageblock {theirs[0]} [pfn, type, skip]", theirs[:3], mine[:3])


def _compare(where: str, kernel: Any, ours: Any) -> Iterator[Difference]:
    if isinstance(kernel, dict):
        for key, value in kernel.items():
            if key not in NOT_COMPARED:
                yield from _compare(f"{where}.{key}", value, ours[key])
    elif isinstance(kernel, list) and kernel and isinstance(kernel[0], dict | list) and len(kernel) == len(ours):
        for at, (a, b) in enumerate(zip(kernel, ours, strict=True)):
            yield from _compare(f"{where}[{at}]", a, b)
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
    """The sequence of kmem events; only the first difference, the rest follows from it."""
    kernel = [_theirs(line) for line in case.trace if line.event in KMEM]
    wanted = np.isin(events["kind"], [KINDS.index(name) for name in KMEM])
    ours = [_mine(event) for event in np.sort(events[wanted], order="seq")]
    for at, (a, b) in enumerate(zip(kernel, ours, strict=False)):
        if a != b:
            yield Difference(f"kmem event {at}", a, b)
            return
    if len(kernel) != len(ours):
        yield Difference("number of kmem events", len(kernel), len(ours))
