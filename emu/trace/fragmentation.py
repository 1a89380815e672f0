"""A recording as the data that plot-fragmentation draws (mcgrof/plot-fragmentation, fragmentation_visualizer.py).

Fallbacks to other migratetypes, and how compaction of zones ended. What its tracker guesses as a fragmentation index
isn't there: an event doesn't tell it.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from emu.trace.recording import Recording
from emu.trace.types.compaction import COMPACT_RESULTS
from emu.zone.event import EV_COMPACTION_END, EV_COMPACTION_FINISHED, EV_EXTFRAG
from emu.zone.mmzone import MAX_NR_ZONES, MIGRATETYPE_NAMES, ZONE_NAMES

__all__ = ["plot_fragmentation"]

KINDS = (EV_EXTFRAG, EV_COMPACTION_END, EV_COMPACTION_FINISHED)
SUCCESS = COMPACT_RESULTS.index("success")


def plot_fragmentation(recording: Recording) -> Iterator[bytes]:
    """The file."""
    rows = recording.events
    began = int(rows["ts"][0]) if len(rows) else 0
    events = []
    orders: dict[tuple[int, int], int] = {}  # of what a task's compaction was asked for, which its end doesn't say
    for row in rows[np.isin(rows["kind"], KINDS)]:
        who = (int(row["cpu"]), int(row["task"]))
        if row["kind"] == EV_COMPACTION_FINISHED:
            orders[who] = int(row["order"])
            continue
        task = recording.facts.tasks[who[1]] if 0 <= who[1] < len(recording.facts.tasks) else None
        common = {
            "timestamp": (int(row["ts"]) - began) / 1e9, "pid": task.pid if task else who[1],
            "comm": task.comm if task else "<...>",
        }  # fmt: skip
        events.append(common | (_fallback(row) if row["kind"] == EV_EXTFRAG else _compacted(row, orders.pop(who, 0))))
    data = {
        "metadata": {
            "start_time": began / 1e9, "end_time": began / 1e9 + recording.seconds, "duration": recording.seconds,
            "total_events": len(events), "kernel_version": "emu 5.10",
        },
        "events": events, "statistics": _statistics(events),
    }  # fmt: skip
    yield f"{json.dumps(data, indent=1)}\n".encode()


def _fallback(row: Any) -> dict[str, Any]:
    """``mm_page_alloc_extfrag``: a steal leaves the pageblock to its owner, a claim takes it over."""
    return {
        "event_type": "extfrag", "order": int(row["order"]), "fallback_order": int(row["a"]) & 0xFF,
        "migrate_from": MIGRATETYPE_NAMES[int(row["b"])].upper(),
        "migrate_to": MIGRATETYPE_NAMES[int(row["migratetype"])].upper(), "is_steal": int(row["a"]) >> 8 == 0,
    }  # fmt: skip


def _compacted(row: Any, order: int) -> dict[str, Any]:
    """``mm_compaction_end``"""
    zone_id, status = int(row["b"]) >> 8 & 0xFF, int(row["b"]) >> 16 & 0xFF
    return {
        "event_type": "compaction_success" if status == SUCCESS else "compaction_failure", "order": order,
        "zone": ZONE_NAMES[zone_id % MAX_NR_ZONES], "node": zone_id // MAX_NR_ZONES,
    }  # fmt: skip


def _statistics(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by order, as the tracker adds them up."""
    extfrag: dict[str, int] = {}
    compaction: dict[str, dict[str, int]] = {}
    for event in events:
        order, kind = str(event["order"]), event["event_type"]
        if kind == "extfrag":
            extfrag[order] = extfrag.get(order, 0) + 1
        else:
            compaction.setdefault(order, {"success": 0, "failure": 0})[kind.removeprefix("compaction_")] += 1
    return {"extfrag": extfrag, "compaction": compaction}
