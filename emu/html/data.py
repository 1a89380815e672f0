"""A recording as the plain data that lies in the page: JSON, and the map's frames packed."""

import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from emu.html.counts import OWNERS
from emu.html.fragmentation import extfrag_index, unusable_free_index
from emu.html.memory_map import PLANES, Frame, MemoryMap
from emu.html.recorder import Recording
from emu.html.sample import Sample
from emu.trace.page_owner import has_page_owner
from emu.zone.init import zones_of
from emu.zone.mmzone import MAX_ORDER, MIGRATETYPE_NAMES, PAGEBLOCK_NR_PAGES, ZONE_NAMES
from emu.zone.report import comm
from emu.zone.vmstat_items import VM_EVENT_NAMES

__all__ = ["in_script", "packed", "plain", "unpacked"]

MARKED = {
    "direct reclaim": ("allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable"),
    "direct compaction": ("compact_stall",), "OOM kill": ("oom_kill",),
}  # fmt: skip


def plain(recording: Recording) -> dict[str, Any]:
    """All but the frames. Times are seconds since the first sample."""
    samples, began = recording.samples, recording.began

    def seconds(ns: int) -> float:
        return round((ns - began) / 1e9, 6)

    return {
        "t": [seconds(sample.at) for sample in samples],
        "zones": [_zone(recording.memory, i, samples) for i in range(len(samples[0].free))],
        "marks": _marks(samples),
        "spans": {
            name: [[seconds(a), seconds(b)] for a, b in spans if b > began] for name, spans in recording.spans.items()
        },
        "wakes": recording.wakes,
        "events": _events(samples),
        "incidents": [
            {"t": seconds(one.at), "kind": one.kind, "cpu": one.cpu, "text": one.text} for one in recording.incidents
        ],
        "left_out": recording.left_out,
        "map": _map(recording, seconds),
        "looking": round(recording.looking / max(samples[-1].at - began, 1), 5),
    }  # fmt: skip


def _zone(memory: MemoryMap, at: int, samples: list[Sample]) -> dict[str, Any]:
    zone = zones_of(memory.m)[at]
    nr_free = np.array([sample.nr_free[at] for sample in samples], np.int64)
    low, mid, high = zip(*(sample.marks[at] for sample in samples), strict=True)
    return {
        "name": f"Node {zone.node} {ZONE_NAMES[zone.zid]}", "managed": int(zone.managed_pages),
        "free": [sample.free[at] for sample in samples], "min": low, "low": mid, "high": high,
        "boost": [sample.boost[at] for sample in samples], "pcp": [sample.pcp[at] for sample in samples],
        "nr_free": nr_free.tolist(), "unusable": unusable_free_index(nr_free).tolist(),
        "extfrag": extfrag_index(nr_free).tolist(),
    }  # fmt: skip


def _marks(samples: list[Sample]) -> dict[str, list[int]]:
    """How often something happened between each sample and the one before."""
    counts = {name: [int(sum(s.events[_number(e)] for e in events)) for s in samples]
              for name, events in MARKED.items()}  # fmt: skip
    counts["failed allocation"] = [sample.failed for sample in samples]
    return {name: [0, *np.diff(total).tolist()] for name, total in counts.items()}


def _number(event: str) -> int:
    return VM_EVENT_NAMES.index(event)


def _events(samples: list[Sample]) -> dict[str, int]:
    """/proc/vmstat's events during the recording, those that happened."""
    delta = samples[-1].events - samples[0].events
    return {name: int(n) for name, n in zip(VM_EVENT_NAMES, delta, strict=True) if n}


def _map(recording: Recording, seconds: Any) -> dict[str, Any]:
    memory = recording.memory
    return {
        "t": [seconds(at) for at, _ in recording.frames], "cells": memory.nr_cells, "per_cell": memory.per_cell,
        "planes": list(PLANES), "owners": list(OWNERS), "orders": MAX_ORDER, "types": list(MIGRATETYPE_NAMES),
        "pageblock": PAGEBLOCK_NR_PAGES, "page_owner": has_page_owner(memory.m),
        "parties": [f"CPU {i}" if i < memory.m.nr_cpus else comm(memory.m, i) for i in range(memory.m.nr_parties)],
        "zones": [
            {"name": z.name, "first": z.first, "count": z.count, "block": z.block, "blocks": z.blocks}
            for z in memory.zones
        ],
    }  # fmt: skip


def packed(frames: Iterable[Frame]) -> str:
    """Frames as base64 of deflated little-endian 16-bit numbers: for each frame, for each plane, its cells."""
    planes = [np.ascontiguousarray(frame.T, "<u2").tobytes() for frame in frames]
    return base64.b64encode(zlib.compress(b"".join(planes), 6)).decode()


def unpacked(text: str, cells: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The reverse: by frame, cell and plane."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2")
    return numbers.reshape(-1, len(PLANES), cells).transpose(0, 2, 1)


def in_script(data: Any) -> str:
    """JSON that is safe inside of an element."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
