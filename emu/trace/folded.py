"""Folded stacks, for flamegraph.pl and speedscope: a line ``frame;frame;frame weight`` for each distinct stack."""

from collections import Counter
from collections.abc import Iterator

from emu.cpu.slowpath import STEP_RESTART, STEP_RETRY
from emu.trace.recording import Recording
from emu.trace.types.lock import lock_name
from emu.trace.types.own import REASONS, reason
from emu.zone.event import EV_SLOWPATH

__all__ = ["lock_waits", "retries"]

FUNCTIONS = {  # where the slow path decides to go round again, by the reason
    "reclaim": "should_reclaim_retry", "compact": "should_compact_retry", "oom": "__alloc_pages_may_oom",
    "nofail": "__alloc_pages_slowpath", "nodemask": "check_retry_cpuset",
    "cpuset_cookie": "check_retry_cpuset", "zonelist_cookie": "check_retry_zonelist",
}  # fmt: skip


def lock_waits(recording: Recording) -> Iterator[bytes]:
    """Waits for locks: CPU, function, lock; ns."""
    waits: Counter[str] = Counter()
    held = recording.holds[recording.holds["waited"] >= 0]
    columns = (held[name].tolist() for name in ("cpu", "site", "lock_class", "waited"))
    for cpu, site, lock_class, waited in zip(*columns, strict=True):
        function = recording.facts.sites.get(site, f"site {site:#x}").partition(":")[0]
        waits[f"cpu{cpu};{function};{lock_name(lock_class)}"] += waited
    yield from _lines(waits)


def retries(recording: Recording) -> Iterator[bytes]:
    """Rounds of the slow path: task, order, function that asked for it, reason; how often."""
    rows = recording.events[recording.events["kind"] == EV_SLOWPATH]
    rows = rows[(rows["migratetype"] == STEP_RETRY) | (rows["migratetype"] == STEP_RESTART)]
    rounds: Counter[str] = Counter()
    tasks = recording.facts.comms(rows["task"]).tolist()
    for task, order, why in zip(tasks, rows["order"].tolist(), reason(rows, recording.facts).tolist(), strict=True):
        if why:
            word = REASONS.get(why, str(why))
            rounds[f"{task.decode()};order {order};{FUNCTIONS.get(word, '?')};{word}"] += 1
    yield from _lines(rounds)


def _lines(stacks: Counter[str]) -> Iterator[bytes]:
    for stack, weight in sorted(stacks.items()):
        yield f"{stack} {weight}\n".encode()
