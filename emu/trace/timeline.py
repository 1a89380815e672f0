"""What takes time, as slices on a track for each task: waits for locks and their holds, reclaim, compaction, daemons.

Made of pairs of trace events, in the form of Chrome's trace events (JSON): times are in µs.
"""

from collections.abc import Iterator
from typing import Any

from emu.trace.stream import Stream

__all__ = ["PROCESS", "timeline"]

PROCESS = 1
SPANS = {  # what an event begins, what ends it, and what that is called
    "mm_vmscan_direct_reclaim_begin": ("mm_vmscan_direct_reclaim_end", "direct reclaim"),
    "mm_vmscan_memcg_reclaim_begin": ("mm_vmscan_memcg_reclaim_end", "memcg reclaim"),
    "mm_vmscan_node_reclaim_begin": ("mm_vmscan_node_reclaim_end", "node reclaim"),
    "mm_shrink_slab_start": ("mm_shrink_slab_end", "shrink slab"),
    "mm_compaction_begin": ("mm_compaction_end", "compaction"),
    "mm_vmscan_kswapd_wake": ("mm_vmscan_kswapd_sleep", "kswapd awake"),
    "mm_compaction_kcompactd_wake": ("mm_compaction_kcompactd_sleep", "kcompactd awake"),
}
ENDS = dict(SPANS.values())
BEGINS = {begin: name for begin, (_, name) in SPANS.items()}
LOCKS = ("lock_contended", "lock_acquired", "lock_release")

TraceEvent = dict[str, Any]
Task = tuple[int, int]
"""The CPU and the pid: one task may run on several, and daemons run on their own."""


def timeline(stream: Stream) -> list[TraceEvent]:
    """Names of the tracks, then the slices as they end. What has no begin or no end is left out."""
    tracks: dict[tuple[Task, str], int] = {}
    slices: list[TraceEvent] = []
    for task, lock, name, begin, end, args in _spans(stream):
        tid = tracks.setdefault((task, lock), len(tracks) + 1)
        slices.append({
            "ph": "X", "pid": PROCESS, "tid": tid, "ts": begin / 1000, "dur": (end - begin) / 1000, "name": name,
            "cat": "lock" if lock else "mm", "args": args,
        })  # fmt: skip
    return [*_names(stream, tracks), *slices]


def _names(stream: Stream, tracks: dict[tuple[Task, str], int]) -> Iterator[TraceEvent]:
    """Of the process and of each track, which stand in the order of CPUs."""
    yield {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": "emu"}}
    for place, ((cpu, pid), lock) in enumerate(sorted(tracks)):
        of = {"ph": "M", "pid": PROCESS, "tid": tracks[(cpu, pid), lock]}
        name = " ".join(filter(None, (f"CPU{cpu}", stream.comms.get(pid, str(pid)), lock)))
        yield {**of, "name": "thread_name", "args": {"name": name}}
        yield {**of, "name": "thread_sort_index", "args": {"sort_index": place + 1}}


def _spans(stream: Stream) -> Iterator[tuple[Task, str, str, int, int, dict[str, Any]]]:
    """Task, name of the lock or nothing, what it is, begin and end in ns, and what the event at the end says."""
    ts, cpu, pid = stream.ts.tolist(), stream.cpu.tolist(), stream.pid.tolist()
    since: dict[tuple[Task, str], int] = {}
    for i, kind, args in _interesting(stream):
        task = (cpu[i], pid[i])
        if kind in BEGINS:
            since[task, BEGINS[kind]] = ts[i]
        elif kind in ENDS:
            begin = since.pop((task, ENDS[kind]), None)
            if begin is not None:
                yield task, "", ENDS[kind], begin, ts[i], args
        else:
            lock, address = args["name"], args["lockdep_addr"]
            waits, holds = f"wait {address}", f"hold {address}"
            ends, begins = {"lock_contended": ("", waits), "lock_acquired": (waits, holds)}.get(kind, (holds, ""))
            begin = since.pop((task, ends), None)
            if begin is not None:
                yield task, lock, f"{ends.partition(' ')[0]} {lock}", begin, ts[i], {"lock": f"{address:#x}"}
            if begins:
                since[task, begins] = ts[i]


def _interesting(stream: Stream) -> list[tuple[int, str, dict[str, Any]]]:
    """Place, type and fields of each event that begins or ends something, in the order of time."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for batch in stream.batches:
        kind = batch.type.name
        if kind in BEGINS or kind in ENDS or kind in LOCKS:
            names = [field.name for field in batch.type.fields]
            found += [
                (i, kind, dict(zip(names, row, strict=True)))
                for i, row in zip(batch.index.tolist(), batch.fields(), strict=True)
            ]
    return sorted(found, key=lambda each: each[0])
