"""What came of a driven replay, against the recording."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.workload import driven_ops as d
from emu.workload import script as s
from emu.workload.case import Case, Step
from emu.workload.compare import Difference, after_differences, unseen_folds
from emu.workload.driven_context import fields_of
from emu.zone.event import EV_BUDDY_FREE, EV_EXTFRAG, EV_WAKEUP_KSWAPD, EV_ZONE_LOCKED
from emu.zone.mmzone import ZONE_NAMES
from emu.zone.snapshot import State
from emu.zone.vmstat_items import NUMA_FOREIGN, NUMA_HIT, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER

__all__ = ["Driven", "compare_driven"]

NODE_FIELDS = ("kswapd_order", "kswapd_highest_zoneidx", "kswapd_waiting", "kswapd_failures")
NOTES = (
    (d.FORCED_FAIL, "the kernel's verdict is too low"), (d.FORCED_PASS, "the kernel's verdict is enough"),
    (d.SKIPPED, "the kernel did not look at a zone"), (d.OTHER_MEMS, "the kernel saw another mems_allowed"),
)  # fmt: skip
NUMA_BY_PREFERRED, NUMA_BY_CPU = (NUMA_HIT, NUMA_MISS, NUMA_FOREIGN), (NUMA_LOCAL, NUMA_OTHER)
NUMA_COUNTED = NUMA_BY_PREFERRED + NUMA_BY_CPU  # not interleave hits: a memory policy counts them, after the allocation
Key = tuple[Any, ...]
Records = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Driven:
    """Pages matched, what differs, and where the kernel read something without a lock at another instant."""

    allocs: int
    matched: int
    verdicts: int  # attempts in which the kernel passed over a zone because of its watermark
    differences: tuple[Difference, ...]
    reads: tuple[Difference, ...]


def compare_driven(
    case: Case, steps: Sequence[Step], ops: Records, ours: State, events: Records | None = None
) -> Driven:
    """Compare executed steps (``ops``: ``Op`` records), the state after, and optionally what was in the event rings.

    Counters of the pages' users, compaction's positions and the ageing of pagesets are not the allocator's.
    """
    differences: list[Difference] = []
    reads: list[Difference] = []
    allocs = matched = verdicts = 0
    for step, op in zip(steps, ops, strict=True):
        name = f"event {step.at}, cpu {step.cpu}"
        if not op["done"]:
            differences.append(Difference(name, "executed", "not executed"))
        elif step.code == d.OP_ATTEMPT:
            allocs += step.pfn >= 0
            matched += step.pfn >= 0 and int(op["pfn"]) == step.pfn
            verdicts += step.handle != 0
            if int(op["pfn"]) != step.pfn:
                differences.append(Difference(f"{name}: pfn of order {step.order}", step.pfn, int(op["pfn"])))
            if op["pcp"]:
                (differences if op["pcp"] & d.WRONG_FLAGS else reads).append(_note(name, step, op))
            if op["done"] == s.ENDS:
                differences.append(Difference("all that follows from this page", "executed", "not executed"))
                return Driven(allocs, matched, verdicts, tuple(differences), tuple(reads))
        elif (read := _read(name, step, op)) is not None:
            reads.append(read)
        else:
            differences += _foreign(name, step, op)
    unsure = int(np.count_nonzero(ops["pcp"][ops["code"] == d.OP_ATTEMPT] & (d.SKIPPED | d.OTHER_MEMS)))
    where = list(_preferred_elsewhere(case.after, ours, unsure))
    kept = NUMA_BY_CPU if where else NUMA_COUNTED
    theirs, mine = _own(case.after, kept), _own(ours, kept)
    differences += after_differences(theirs, mine)
    reads += [*where, *unseen_folds(theirs, mine)]
    if events is not None:
        differences += _sequences(case, events)
        reads += _wakeups(case, events)
    for theirs, mine in zip(case.after["nodes"], ours["nodes"], strict=True):
        for key in NODE_FIELDS:
            if theirs[key] != mine[key]:
                reads.append(Difference(f"node {theirs['nid']}: {key}", theirs[key], mine[key]))
    return Driven(allocs, matched, verdicts, tuple(differences), tuple(reads))


def _note(name: str, step: Step, op: Any) -> Difference:
    """An attempt that would have decided otherwise by what it could read when it ran."""
    what = "; ".join(text for bit, text in NOTES if op["pcp"] & bit) or "alloc_flags"
    recorded = step.recorded or {}
    if op["pcp"] & d.WRONG_FLAGS:
        return Difference(f"{name}: alloc_flags of order {step.order}", hex(step.zid), hex(int(op["freediff"])))
    if op["pcp"] & (d.FORCED_FAIL | d.FORCED_PASS):
        zone = f"node {op['znid']} {ZONE_NAMES[op['rzid']]}"
        ours = f"{zone}: {op['free']} free, mark {op['boost']}"
    else:
        ours = f"mems_allowed {recorded['task'][1]:#x} when it began"
    return Difference(f"{name}: {what}", f"free by zone id {recorded['failed']}", ours)


def _read(name: str, step: Step, op: Any) -> Difference | None:
    """What others read without a lock while a CPU changed it."""
    if step.code == d.OP_FREE_PREPARE and op["pcp"]:
        return Difference(f"{name}: type that the block of page {step.pfn} had", step.n - 1, int(op["free"]))
    if step.code == d.OP_KSWAPD and step.n == d.KSWAPD_WAKES and step.recorded:
        late = int(op["free"]) if op["free"] > step.order else step.handle
        if late in step.recorded["late"]:
            return Difference(f"{name}: kswapd took the order before a request", step.order, late)
    return None


def _foreign(name: str, step: Step, op: Any) -> Iterator[Difference]:
    """What others did and the allocator had a say in."""
    if step.code == d.OP_ISOLATE and int(op["pfn"]) != 1 << step.order:
        yield Difference(f"{name}: pages isolated at {step.pfn}", 1 << step.order, int(op["pfn"]))
    elif step.code == d.OP_ROTATE and int(op["pfn"]) < 0:
        yield Difference(f"{name}: page {step.pfn} whose list is rotated", "free", "not free")
    elif step.code == d.OP_LRU and int(op["pfn"]) != 0:
        yield Difference(f"{name}: pages on an LRU list of block {step.pfn}", step.n, step.n - int(op["pfn"]))
    elif step.code == d.OP_CUT_BOOST and step.recorded and int(op["boost"]) != step.recorded["boost"]:
        yield Difference(f"{name}: boost left", step.recorded["boost"], int(op["boost"]))
    elif step.code == d.OP_KSWAPD and step.n == d.KSWAPD_WAKES and int(op["free"]) != step.order:
        yield Difference(f"{name}: order that kswapd finds", step.order, int(op["free"]))


def _preferred_elsewhere(after: State, ours: State, unsure: int) -> Iterator[Difference]:
    """NUMA hits, misses and foreign ones that can be due to the preferred zones of ``unsure`` attempts, of which the
    trace tells only that ``mems_allowed`` changed meanwhile. Whether a page was local is certain."""
    found = []
    for theirs, mine in zip(after["zones"], ours["zones"], strict=True):
        kernel, here = (
            [z["numa_stat"][i] + sum(pcp["numa_stat_diff"][i] for pcp in z["pcp"]) for i in NUMA_BY_PREFERRED]
            for z in (theirs, mine)
        )
        if kernel != here:
            name = f"node {theirs['nid']} {theirs['name']}: NUMA hits, misses, foreign, by another preferred zone"
            found.append(Difference(name, kernel, here))
    if sum(abs(a - b) for one in found for a, b in zip(one.kernel, one.ours, strict=True)) <= 3 * unsure:
        yield from found


def _own(state: State, numa: tuple[int, ...]) -> State:
    """The state without what the allocator doesn't own, and with some NUMA counters."""
    zones = []
    for zone in state["zones"]:
        own = {key: value for key, value in zone.items() if key != "compact"}
        own["vm_stat"] = zone["vm_stat"][:1]
        own["numa_stat"] = [zone["numa_stat"][i] for i in numa]
        own["pcp"] = [
            {
                **pcp, "vm_stat_diff": pcp["vm_stat_diff"][:1],
                "numa_stat_diff": [pcp["numa_stat_diff"][i] for i in numa],
            }
            for pcp in zone["pcp"]
        ]  # fmt: skip
        own["pageblocks"] = [[*block[:2], 0] for block in zone["pageblocks"]]
        zones.append(own)
    return {**state, "zones": zones}


def _kernel_keys(case: Case) -> dict[int, list[tuple[int, Key]]]:
    """Per CPU: place and content of every event under a zone lock."""
    out: dict[int, list[tuple[int, Key]]] = {}
    for line in case.trace:
        if line.event == "oracle_buddy_free":
            names: tuple[str, ...] = ("pfn", "order", "merged_pfn", "merged_order", "mt", "tail")
        elif line.event == "mm_page_alloc_zone_locked":
            names = ("pfn", "order", "migratetype")
        elif line.event == "mm_page_alloc_extfrag":
            names = ("pfn", "alloc_order", "fallback_order", "alloc_migratetype", "fallback_migratetype",
                     "change_ownership")  # fmt: skip
        else:
            continue
        f = fields_of(line)
        out.setdefault(line.cpu, []).append((line.seq, (line.event, *(int(f[n]) for n in names))))
    return out


def _our_key(e: Any) -> Key:
    pfn, order, mt, a, b = int(e["pfn"]), int(e["order"]), int(e["migratetype"]), int(e["a"]), int(e["b"])
    if e["kind"] == EV_BUDDY_FREE:
        return "oracle_buddy_free", a, b & 0xFF, pfn, order, mt, b >> 8
    if e["kind"] == EV_ZONE_LOCKED:
        return "mm_page_alloc_zone_locked", pfn, order, mt
    return "mm_page_alloc_extfrag", pfn, order, a & 0xFF, mt, b, a >> 8


def _sequences(case: Case, events: Records) -> Iterator[Difference]:
    """Each CPU's takes, steals and merges, in order: the first difference of a CPU."""
    kernel = _kernel_keys(case)
    locked = np.sort(events[np.isin(events["kind"], (EV_BUDDY_FREE, EV_ZONE_LOCKED, EV_EXTFRAG))], order="seq")
    for cpu, theirs in kernel.items():
        mine = [_our_key(e) for e in locked[locked["cpu"] == cpu]]
        for (seq, key), other in zip(theirs, mine, strict=False):
            if key != other:
                yield Difference(f"event {seq}, cpu {cpu}: under the zone lock", key, other)
                break
        else:
            if len(theirs) != len(mine):
                yield Difference(f"cpu {cpu}: events under the zone lock", len(theirs), len(mine))


def _wakeups(case: Case, events: Records) -> Iterator[Difference]:
    """How often each CPU woke each node's kswapd."""
    kernel = Counter(
        (line.cpu, int(fields_of(line)["nid"])) for line in case.trace if line.event == "mm_vmscan_wakeup_kswapd"
    )
    woke = events[events["kind"] == EV_WAKEUP_KSWAPD]
    ours = Counter((int(e["cpu"]), int(e["a"])) for e in woke)
    for cpu, nid in sorted(kernel.keys() | ours.keys()):
        if kernel[cpu, nid] != ours[cpu, nid]:
            yield Difference(f"cpu {cpu}: wake-ups of kswapd{nid}", kernel[cpu, nid], ours[cpu, nid])
