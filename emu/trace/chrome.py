"""A recording as Chrome's trace events (JSON): ui.perfetto.dev, chrome://tracing, speedscope.

One process; a track for each task on its CPU, one for each lock it waits for or holds, one for its slow path. Slices
are what takes time, instants what went wrong; counters are the pages allocated of each zone. Times are in µs.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from emu.cpu.slowpath import STEP_NOPAGE, STEP_RESTART, STEP_RETRY, STEP_START
from emu.trace.counters import counters
from emu.trace.event_type import Rows
from emu.trace.events import EVENTS
from emu.trace.facts import Facts
from emu.trace.from_recording import stream_of
from emu.trace.recording import Recording
from emu.trace.stream import Stream
from emu.trace.timeline import PROCESS, timeline
from emu.trace.types.own import REASONS, reason
from emu.zone.event import (
    EV_ALLOC,
    EV_ALLOC_FAILURE,
    EV_BAD_PAGE,
    EV_MARK_VICTIM,
    EV_OOM_KILL,
    EV_OOM_PANIC,
    EV_POISON,
    EV_SLOWPATH,
    EV_WARN,
)  # fmt: skip
from emu.zone.gfp_names import gfp_names

__all__ = ["chrome_json", "failures", "slow_paths", "trace_events"]

FIRST_TRACK = 1 << 20  # of those that are made here
FAILURES = (EV_ALLOC_FAILURE, EV_WARN, EV_BAD_PAGE, EV_POISON, EV_OOM_KILL, EV_MARK_VICTIM, EV_OOM_PANIC)
LINES = 1024  # events of a part

TraceEvent = dict[str, Any]


def chrome_json(recording: Recording, systems: Iterable[str] | None = None) -> Iterator[bytes]:
    """The file in parts, an event a line."""
    events = trace_events(recording, stream_of(recording, systems), systems)
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    about = {"workload": recording.workload, "seed": recording.seed, "lost": recording.lost}
    yield f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about)},"traceEvents":[\n'.encode()
    for at in range(0, len(lines), LINES):
        more = ",\n" if at + LINES < len(lines) else "\n"
        yield (",\n".join(lines[at : at + LINES]) + more).encode()
    yield b"]}\n"


def trace_events(recording: Recording, stream: Stream, systems: Iterable[str] | None = None) -> list[TraceEvent]:
    """What takes time, what went wrong, and how many pages are allocated. ``stream``: of the same systems."""
    slow = slow_paths(recording) if systems is None or "emu" in systems else []
    return [*timeline(stream), *slow, *failures(recording), *counters(stream, recording.facts.zones)]


def slow_paths(recording: Recording) -> list[TraceEvent]:
    """Each way through ``__alloc_pages_slowpath()``, with its retries and their reasons: from its start to the page, or
    to ``nopage``. One that lost its end is left out."""
    kinds = recording.events["kind"]
    steps = recording.events[(kinds == EV_SLOWPATH) | (kinds == EV_ALLOC)]
    reasons = np.where(steps["kind"] == EV_SLOWPATH, reason(steps, recording.facts), 0)
    under_way: dict[tuple[int, int, int], tuple[int, list[str]]] = {}  # begin, and why it came round again
    tracks: dict[tuple[int, int], int] = {}
    slices = []
    columns = (steps[name].tolist() for name in ("ts", "cpu", "task", "irq", "kind", "migratetype", "pfn"))
    for i, (ts, cpu, task, irq, kind, step, pfn) in enumerate(zip(*columns, strict=True)):
        key = (cpu, task, irq >> 1)
        if kind == EV_SLOWPATH and step == STEP_START:
            under_way[key] = (ts, [])
        elif kind == EV_SLOWPATH and step in (STEP_RETRY, STEP_RESTART):
            if reasons[i] and key in under_way:
                under_way[key][1].append(REASONS[int(reasons[i])])
        elif key in under_way and (kind == EV_ALLOC or step == STEP_NOPAGE):
            begin, why = under_way.pop(key)
            args = {
                "order": int(steps["order"][i]), "gfp_flags": gfp_names(int(steps["gfp"][i])), "retries": len(why),
                "reasons": " ".join(why), "got": "a page" if kind == EV_ALLOC and pfn >= 0 else "nothing",
            }  # fmt: skip
            track = tracks.setdefault((cpu, task), FIRST_TRACK + len(tracks))
            slices.append({
                "ph": "X", "pid": PROCESS, "tid": track, "ts": begin / 1000, "dur": (ts - begin) / 1000,
                "name": "slow path", "cat": "mm", "args": args,
            })  # fmt: skip
    names = (
        {"ph": "M", "pid": PROCESS, "tid": track, "name": "thread_name",
         "args": {"name": f"CPU{cpu} {_comm(recording.facts, task)} slow path"}}
        for (cpu, task), track in tracks.items()
    )  # fmt: skip
    return [*names, *slices]


def failures(recording: Recording) -> list[TraceEvent]:
    """What went wrong, as instants of the whole process."""
    rows: Rows = recording.events
    these = rows[np.isin(rows["kind"], FAILURES) | ((rows["kind"] == EV_ALLOC) & (rows["pfn"] < 0))]
    found = []
    for row in these:
        type_ = EVENTS[int(row["kind"])]
        name = "allocation failed" if int(row["kind"]) == EV_ALLOC else type_.name
        task = _comm(recording.facts, int(row["task"]))
        args = {"cpu": int(row["cpu"]), "task": task, "text": type_.text(row, recording.facts)}
        found.append(
            {"ph": "i", "s": "p", "pid": PROCESS, "tid": 0, "ts": int(row["ts"]) / 1000, "name": name, "args": args}
        )
    return found


def _comm(facts: Facts, task: int) -> str:
    return facts.tasks[task].comm if 0 <= task < len(facts.tasks) else "<...>"
