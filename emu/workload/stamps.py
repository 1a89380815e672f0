"""The migratetypes that freed pages were stamped with.

``free_unref_page_prepare()`` reads the type of a page's pageblock without a lock, while another CPU may be stealing the
block. The trace has no event for the read, but it tells what came of it: a page goes back to the free list that its
stamp says (``mm_page_pcpu_drain``), or is handed out again from that type's pcp list, or is still on one at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from emu.workload.case import Case
from emu.workload.driven_context import Context, fields_of
from emu.zone.mmzone import MIGRATE_MOVABLE, PAGEBLOCK_ORDER

__all__ = ["stamps"]

NEVER = 1 << 62


@dataclass(frozen=True)
class _Change:
    """A pageblock gets a type: not before this event, and before the next one of who does it."""

    begun: int
    done: int
    migratetype: int


@dataclass(frozen=True)
class _Free:
    """A page is freed: its stamp is read between two events."""

    seq: int
    end: int
    pfn: int
    stamp: int


def stamps(case: Case) -> dict[int, int]:
    """``mm_page_free`` event -> the stamp, where it is known and the block can have had that type at the time."""
    frees, changes = _read(case)
    first = {block[0] >> PAGEBLOCK_ORDER: block[1] for zone in case.before["zones"] for block in zone["pageblocks"]}
    found = {}
    for free in frees:
        block = free.pfn >> PAGEBLOCK_ORDER
        if free.stamp in _types(first.get(block, -1), changes.get(block, []), free):
            found[free.seq] = free.stamp
    return found


def _types(first: int, changes: list[_Change], free: _Free) -> Iterator[int]:
    """The types that a block may have had when the stamp was read."""
    migratetype, since = first, -1
    for change in changes:
        if since < free.end and change.done > free.seq:
            yield migratetype
        migratetype, since = change.migratetype, change.begun
    if since < free.end:
        yield migratetype


def _read(case: Case) -> tuple[list[_Free], dict[int, list[_Change]]]:
    """Backwards, as what comes of a free is told later: the frees whose stamps are known; all changes, by block."""
    fate = {
        pfn: stamp
        for zone in case.after["zones"]
        for pcp in zone["pcp"]
        for pfns, marks in zip(pcp["lists"], pcp["stamps"], strict=True)
        for pfn, stamp in zip(pfns, marks, strict=True)
    }
    following: dict[Context, int] = {}
    frees: list[_Free] = []
    changes: dict[int, list[_Change]] = {}
    for line in reversed(case.trace):
        where = (line.cpu, line.pid, line.flags[2])
        end = following.get(where, NEVER)
        following[where] = line.seq
        if line.event == "mm_page_pcpu_drain":
            f = fields_of(line)
            fate[int(f["pfn"])] = int(f["migratetype"])
        elif line.event == "mm_page_alloc":
            f = fields_of(line)
            migratetype = int(f["migratetype"])
            fate[int(f["pfn"])] = migratetype if migratetype != MIGRATE_MOVABLE else -1  # HIGHATOMIC is there as well
        elif line.event == "mm_page_free":
            pfn = int(fields_of(line)["pfn"])
            stamp = fate.pop(pfn, -1)
            if stamp >= 0:
                frees.append(_Free(line.seq, end, pfn, stamp))
        elif line.event == "oracle_pageblock":
            f = fields_of(line)
            changes.setdefault(int(f["pfn"]) >> PAGEBLOCK_ORDER, []).append(_Change(line.seq, end, int(f["mt"])))
    return frees, {block: found[::-1] for block, found in changes.items()}
