"""Recorded kernel cases: a directory with a state before, operations, a trace and a state after.

:func:`load_case` reads one; :func:`script_of` turns it into the operations that the emulator executes. What others than
the recording driver did meanwhile (kworkers draining, folding, a few allocations) is taken from the trace as operations
of its own; nothing that the allocator decides is.
"""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu.workload import script as s
from emu.zone.snapshot import State

OPS = {
    "a": s.OP_ALLOC, "f": s.OP_FREE, "L": s.OP_FREE_LIST, "d": s.OP_DRAIN_ALL, "l": s.OP_DRAIN_LOCAL,
    "y": s.OP_MIN_FREE, "x": s.OP_SCALE, "z": s.OP_BOOST, "w": s.OP_NOP, "p": s.OP_MEMALLOC, "m": s.OP_MEMPOLICY,
    "c": s.OP_MEMS_ALLOWED, "C": s.OP_FLIP_MEMS, "g": s.OP_NOP, "r": s.OP_FOLD,
}  # fmt: skip
OTHERS_INSIDE = "mwg"  # the driver's own task allocates or sleeps in these: not the operation's doing
KMEM = (
    "mm_page_alloc", "mm_page_free", "mm_page_free_batched", "mm_page_alloc_zone_locked", "mm_page_pcpu_drain",
    "mm_page_alloc_extfrag",
)  # fmt: skip
BEGIN, BEFORE = "oracle_mark: what=snap_begin a=98 ", "oracle_mark: what=snap_end a=98 "
AFTER = "oracle_mark: what=snap_begin a=97 "
_LINE = re.compile(r"\s*(.+)-(\d+)\s+\[(\d+)\]\s+(\S+)\s+(\d+): (\w+): (.*)")
_FIELD = re.compile(r"(\w+)=(\S+)")


class CaseError(ValueError):
    """A directory that isn't a case, or a damaged one: which file, and what is wrong with it."""


@dataclass(frozen=True)
class Line:
    """One event of the recorded trace."""

    seq: int
    task: str
    pid: int
    cpu: int
    flags: str
    event: str
    text: str

    def __getitem__(self, name: str) -> int:
        return int(self.field(name), 0)

    def field(self, name: str) -> str:
        """A field's text."""
        for key, value in _FIELD.findall(self.text):
            if key == name:
                return str(value)
        raise CaseError(f"event {self.seq}: {self.event} without {name}: damaged")


@dataclass(frozen=True)
class Case:
    """One recorded experiment."""

    path: Path
    meta: dict[str, Any]
    before: State
    after: State
    ops: list[dict[str, Any]]
    trace: list[Line]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


def _json(path: Path) -> Any:
    try:
        with gzip.open(path, "rt") as file:
            return json.load(file)
    except FileNotFoundError as err:
        raise CaseError(f"{path}: no such file: not a case directory") from err
    except (OSError, EOFError, ValueError) as err:
        raise CaseError(f"{path}: damaged: {err}") from err


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt") as file:
            yield from file
    except FileNotFoundError as err:
        raise CaseError(f"{path}: no such file: not a case directory") from err
    except (OSError, EOFError, ValueError) as err:
        raise CaseError(f"{path}: damaged: {err}") from err


def _trace(path: Path, before: State) -> list[Line]:
    """The events between the two snapshots, and those during the first one that it hasn't seen."""
    out: list[Line] = []
    inside = False
    for number, text in enumerate(_lines(path), 1):
        if text.startswith("#"):
            continue
        if BEGIN in text:
            inside = True
        elif BEFORE in text:
            out = [line for line in out if _not_yet(before, line)]
        elif AFTER in text:
            return out
        elif inside:
            found = _LINE.match(text)
            if not found:
                raise CaseError(f"{path}:{number}: not an event: {text.strip()[:60]!r}")
            task, pid, cpu, flags, seq, event, rest = found.groups()
            out.append(Line(int(seq), task.strip(), int(pid), int(cpu), flags, event, rest.rstrip()))
    raise CaseError(f"{path}: it ends before the second snapshot: truncated")


def _not_yet(before: State, line: Line) -> bool:
    """Whether a CPU folded a differential after the snapshot had read it. The driver holds off only its own CPU's
    interrupts in some modes, and the other's vmstat worker runs."""
    if line.event != "oracle_vmstat_fold":
        return False
    left = {
        (zone["nid"], zone["zid"], pcp["cpu"], item): diff
        for zone in before["zones"]
        for pcp in zone["pcp"]
        for item, diff in enumerate(pcp["vm_stat_diff"])
    }
    return bool(left.get((line["nid"], line["zid"], line.cpu, line["item"])) == line["v"] != 0)


def load_case(path: Path) -> Case:
    """Read a case directory."""
    meta_file = path / "meta.json"
    try:
        meta = json.loads(meta_file.read_text())
    except OSError as err:
        raise CaseError(f"{meta_file}: {err.strerror}: not a case directory") from err
    except ValueError as err:
        raise CaseError(f"{meta_file}: damaged: {err}") from err
    if not str(meta.get("kernel", "")).startswith("5.10."):
        raise CaseError(f"{meta_file}: recorded from kernel {meta.get('kernel')}, not 5.10")
    ops_file = path / "ops.jsonl.gz"
    ops = [json.loads(line) for line in _lines(ops_file)] if ops_file.exists() else []
    before, after = _json(path / "before.json.gz"), _json(path / "after.json.gz")
    return Case(path, meta, before, after, ops, _trace(path / "trace.txt.gz", before))


# --- operations ---


@dataclass
class Step:
    """An operation at its place in the recorded order. ``recorded`` is the driver's own note of it, if it is one."""

    at: int
    code: int
    cpu: int
    order: int = 0
    gfp: int = 0
    handle: int = -1
    nid: int = -1
    zid: int = 0
    nodemask: int = 0
    n: int = 0
    pfn: int = -1
    recorded: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.nodemask < 0:
            raise CaseError(f"operation {self.at}: nodemask {self.nodemask}: no set of nodes")


def _op_step(at: int, op: dict[str, Any]) -> Step:
    return Step(
        at, OPS[op["op"]], op["cpu"], op.get("order", 0), op.get("gfp", 0), op["h"], op["nid"], 0, op["nodemask"],
        op.get("n", 0), op["pfn"], op,
    )  # fmt: skip


def script_of(case: Case) -> list[Step]:
    """The operations of a driver case (``ops.jsonl``) with what others did in between, in recorded order.

    Where the order of two CPUs' operations is open (mode ``free``, concurrent drains), the first event with interrupts
    off, which is under the zone lock, decides.
    """
    steps: list[Step] = []
    ops = {op["seq"]: op for op in case.ops}
    drains = {op["seq"] for op in case.ops if op["op"] == "d"}
    running: dict[int, tuple[int, int]] = {}  # pid of a driver thread -> operation, place
    foreign = _Foreign(case)
    for line in case.trace:
        if line.event == "oracle_op":
            if line.text.startswith("start"):
                running[line.pid] = (line["seq"], -1)
            else:
                seq, at = running.pop(line.pid)
                if seq not in drains:
                    steps.append(_op_step(line.seq if at < 0 else at, ops[seq]))
        elif line.pid in running and ops[running[line.pid][0]]["op"] not in OTHERS_INSIDE:
            seq, at = running[line.pid]
            if at < 0 and line.flags.startswith("d"):
                running[line.pid] = (seq, line.seq)
        else:
            steps += foreign.take(line)
    steps += foreign.finish()
    steps.sort(key=lambda step: step.at)
    return steps


def listed_frees(trace: list[Line]) -> set[int]:
    """The ``mm_page_free`` events that only prepare a page of ``free_unref_page_list()``: a batched one follows."""
    listed: set[int] = set()
    waiting: set[tuple[int, int]] = set()
    for line in reversed(trace):
        if line.event == "mm_page_free_batched":
            waiting.add((line.pid, line["pfn"]))
        elif line.event == "mm_page_free" and (line.pid, line["pfn"]) in waiting:
            waiting.remove((line.pid, line["pfn"]))
            listed.add(line.seq)
    return listed


class _Foreign:
    """Turns the events of other tasks into operations."""

    def __init__(self, case: Case) -> None:
        self.next_handle = 1 + max((op["h"] for op in case.ops), default=-1)
        self.listed = listed_frees(case.trace)
        self.draining: dict[int, Line] = {}  # cpu -> a drain whose place isn't known yet
        self.entered: dict[int, Line] = {}
        self.folding: dict[int, tuple[int, Step]] = {}  # cpu -> last event of the fold, its step
        self.handles: dict[int, int] = {}  # pfn -> handle

    def handle_of(self, pfn: int) -> int:
        """A handle for a page that somebody else holds."""
        if pfn not in self.handles:
            self.handles[pfn] = self.next_handle
            self.next_handle += 1
        return self.handles[pfn]

    def take(self, line: Line) -> Iterator[Step]:
        """The operations that an event completes."""
        if line.event == "oracle_drain" and line.field("who") == "drain":
            self.draining[line.cpu] = line
        elif line.event in ("oracle_buddy_free", "mm_page_pcpu_drain") and line.cpu in self.draining:
            drain = self.draining.pop(line.cpu)
            yield Step(line.seq, s.OP_DRAIN_ZONE, line.cpu, nid=drain["nid"], zid=drain["zid"])
        elif line.event == "oracle_vmstat_fold":
            yield from self._fold(line)
        elif line.event == "oracle_drain" and line.field("who") == "threshold":
            yield Step(line.seq, s.OP_THRESHOLD, line.cpu, nid=line["nid"], zid=line["zid"], n=line["count"])
        elif line.event == "oracle_alloc_enter":
            self.entered[line.pid] = line
        elif line.event == "mm_page_alloc":
            yield self._alloc(line)
        elif line.event == "mm_page_free":
            code = s.OP_PREPARE if line.seq in self.listed else s.OP_FREE_PFN
            yield Step(line.seq, code, line.cpu, order=line["order"], pfn=line["pfn"])
        elif line.event == "mm_page_free_batched":
            yield Step(line.seq, s.OP_COMMIT, line.cpu, pfn=line["pfn"])

    def _fold(self, line: Line) -> Iterator[Step]:
        last, step = self.folding.get(line.cpu, (-9, None))
        same = step is not None and line.seq - last < 4
        if not same:
            step = Step(line.seq, s.OP_FOLD, line.cpu, n=int(line.task.startswith("kworker")))
            yield step
        assert step is not None
        self.folding[line.cpu] = (line.seq, step)

    def _alloc(self, line: Line) -> Step:
        enter = self.entered.pop(line.pid, None)
        if enter is None:
            raise CaseError(f"event {line.seq}: {line.task} allocates without oracle_alloc_enter")
        pfn = line["pfn"]
        return Step(
            line.seq, s.OP_ALLOC, line.cpu, enter["order"], enter["gfp"], self.handle_of(pfn), enter["nid"], 0,
            enter["nodemask"], 0, pfn,
        )  # fmt: skip

    def finish(self) -> list[Step]:
        """Drains that freed nothing."""
        return [Step(d.seq, s.OP_DRAIN_ZONE, c, nid=d["nid"], zid=d["zid"]) for c, d in self.draining.items()]
