"""Read the text of the kernel's page allocator trace events into one numpy array.

Three writers are understood, for kernels 5.10 to 6.x and plain or gzipped: ftrace's `trace` file, `trace-cmd report`
(also with -l, -t, -R and --ts-diff) and `perf script` (with or without call chains).
"""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emu.workload.gfp_text import parse_gfp

EVENT_KINDS: Final[dict[str, int]] = {
    "mm_page_alloc": 0,
    "mm_page_free": 1,
    "mm_page_free_batched": 2,
    "mm_page_alloc_zone_locked": 3,
    "mm_page_pcpu_drain": 4,
    "mm_page_alloc_extfrag": 5,
}
"""Event name -> the `kind` of an event."""

event_dtype = np.dtype(
    [
        ("ts", "i8"),  # ns; the bare count where the trace clock is one (counter, x86-tsc)
        ("pfn", "i8"),  # -1: no page, the allocation failed
        ("gfp", "u4"),  # gfp_t of 5.10; 0 for events that print none
        ("task", "i4"),  # index into Trace.tasks
        ("cpu", "i2"),
        ("kind", "u1"),  # a value of EVENT_KINDS
        ("order", "u1"),  # extfrag: alloc_order
        ("migratetype", "i1"),  # extfrag: alloc_migratetype; -1 for events that print none
        ("fallback_order", "i1"),  # extfrag only, else -1
        ("fallback_migratetype", "i1"),  # extfrag only, else -1
        ("flag", "u1"),  # extfrag: change_ownership; zone_locked: percpu_refill; else 0
    ],
    align=True,
)


class TraceError(ValueError):
    """A file that cannot be read as a trace; the message is one line naming the file and what is wrong with it."""


@dataclass(frozen=True)
class Trace:
    """The page allocator events of one trace file, in file order."""

    path: Path
    dialect: str
    """Who wrote the text: "ftrace", "trace-cmd" or "perf"."""
    events: NDArray[np.void]
    """Array of event_dtype."""
    tasks: tuple[str, ...]
    """Names "comm-pid" in order of appearance; the pid is the thread's."""
    lines: int
    """Lines in the file: len(events) + the sum of `skipped`."""
    skipped: dict[str, int]
    """Reason -> lines that gave no event for that reason."""
    cpus: int
    """One more than the highest cpu number of an event."""
    truncated: bool
    """The last line has no newline; it may be cut short, so it was skipped."""
    unknown_gfp: dict[str, int] = field(default_factory=dict)
    """Part of gfp_flags without a meaning in 5.10 -> events that had it (the rest of their flags is kept)."""


_CHUNK: Final = 1 << 20
_MAX_LINE: Final = 1 << 16

# A form of a number: its pattern (any count of them, a line each), base and unit. Every count and time fits an i8.
_Form = tuple[re.Pattern[str], int, int]


def _form(pattern: str, base: int = 10, unit: int = 1) -> _Form:
    return re.compile(rf"(?:(?:{pattern})\n)*+", re.ASCII), base, unit


_TIMES: Final = (_form(r"\d{1,18}"), _form(r"[0-8]?\d{1,9}\.\d{6}", unit=1000), _form(r"[0-8]?\d{1,9}\.\d{9}"))
_PFNS: Final = (_form(r"\d{1,18}|18446744073709551615"), _form(r"0x(?:[\da-f]{1,15}|f{16})", base=16))
_NOT_A_NUMBER: Final = -2

# What stands before an event's own text. ftrace and trace-cmd write "comm-pid", perf "comm pid" or "comm pid/tid". A
# comm may hold spaces, dashes and colons, so it ends before the first thing that looks like the columns after it.
_HEAD: Final = re.compile(
    r" *(?:\S+: {2,})?"  # the buffer or file, where a report covers several
    r"(?P<comm>\S.{0,63}?)(?:-(?P<pid>\d+)(?: +\([ \d-]+\))?|(?<! ) +(?:\d+/ *)?(?P<tid>\d+))"
    r" +(?:\[(?P<cpu>\d{1,4})\](?: +[^\s:]{4,7})?|(?P<latency_cpu>\d{1,4})[^\s\d:][^\s:]{3,5})"
    r" +(?P<time>\d+(?:\.(?:\d{6}|\d{9}))?): ",
    re.ASCII,
)
# A name may follow trace-cmd's time difference or perf's period, and its subsystem.
_NAME: Final = re.compile(r" *(?:\(\+\d+\) +|\d+ +)?(?:kmem:)?(\w+)", re.ASCII)
_FIELD: Final = re.compile(r"(\w+)=(\S+)", re.ASCII)

# Only trace-cmd pads event names and writes pointers with 0x.
_TRACE_CMD: Final = re.compile(r"kmem:mm_page_|mm_page_\w+: (?: |\[FAILED|page=0x)", re.ASCII)
_LINE_REASONS: Final = {
    "blank": re.compile(r"\s*$", re.ASCII),
    "comment": re.compile(r"\s*(?:#|version *= *\d|cpus=\d|CPU \d+ is empty|CPU:\d+ \[SUBBUFFER START\])", re.ASCII),
    "lost events marker": re.compile(r"\s*CPU:\d+ \[.*EVENTS.*\]", re.ASCII),
    "callchain": re.compile(r"\t *[\da-f]+ |\s+(?:[\da-f]{4,16} |\S+\+0x[\da-f]+)|\s*=> ", re.ASCII),
}
_BINARY: Final = {
    b"\x17\x08Dtracing": "a binary trace.dat: give the text that `trace-cmd report` prints",
    b"PERFILE2": "a binary perf.data: give the text that `perf script` prints",
    b"\x87\xa6format\xademu recording": "a recording: give the text that `emu trace convert --to ftrace` makes of it",
}

# The shape of an event is what its text says apart from page and pfn; few distinct ones occur. This is no event's.
_SHAPE: Final = {"kind": 255, "order": 0, "migratetype": -1, "gfp": 0, "flag": 0}
_SHAPE.update(fallback_order=-1, fallback_migratetype=-1)
_SHAPE_DTYPE: Final = np.dtype([(name, event_dtype[name]) for name in _SHAPE])
# What the text of each kind of event calls the fields of a shape; "?" marks one that may be missing, as 0.
_BLOCK: Final = {"order": "order", "migratetype": "migratetype"}
_FALLBACK: Final = {"fallback_order": "fallback_order", "fallback_migratetype": "fallback_migratetype"}
_SHAPE_FIELDS: Final[dict[int, dict[str, str]]] = {
    EVENT_KINDS["mm_page_alloc"]: _BLOCK,
    EVENT_KINDS["mm_page_free"]: {"order": "order"},
    EVENT_KINDS["mm_page_free_batched"]: {"order": "order?"},
    EVENT_KINDS["mm_page_alloc_zone_locked"]: _BLOCK | {"flag": "percpu_refill?"},
    EVENT_KINDS["mm_page_pcpu_drain"]: _BLOCK,
    EVENT_KINDS["mm_page_alloc_extfrag"]: _FALLBACK
    | {"order": "alloc_order", "migratetype": "alloc_migratetype", "flag": "change_ownership?"},
}


class _Parser:
    """Turns blocks of whole lines into arrays of events and counts the lines that hold none.

    Most of a line's text was seen before in another line, so a line is only cut at fixed marks, and each distinct
    piece is examined once.
    """

    def __init__(self) -> None:
        self.blocks: list[NDArray[np.void]] = []
        self.skipped: Counter[str] = Counter()
        self.unknown_gfp: Counter[str] = Counter()
        self.tasks: dict[str, int] = {}
        self.dialect = ""
        self._perf = False
        self._origins: dict[str, int] = {}  # text before a timestamp -> task << 16 | cpu
        self._kinds: dict[str, int] = {}
        self._shapes: dict[tuple[int, str], int] = {}
        self._shape_rows: list[tuple[int, ...]] = []
        self._unknown_gfp: dict[int, tuple[str, ...]] = {}

    def feed(self, text: str) -> None:
        origins, shapes, kinds = self._origins, self._shapes, self._kinds
        origin: list[int] = []
        time: list[str] = []
        shape: list[int] = []
        page: list[str] = []
        pfn: list[str] = []
        for line in text.split("\n")[:-1]:
            parts = line.split(": ", 2)
            source, _, when = parts[0].rpartition(" ")
            task_cpu = origins.get(source)
            if task_cpu is None or len(parts) == 1:
                head = None if line.startswith("\t") else _HEAD.match(line)
                if head is None:
                    self.skipped[_line_reason(line)] += 1
                    continue
                source = line[: head.start("time") - 1]
                task_cpu = origins[source] if source in origins else self._add_origin(source, head)
                when = head["time"]
                parts = ["", *line[head.end() :].split(": ", 1)]
            kind = kinds.get(parts[1])
            if kind is None:
                kind = _kind(parts[1])
                if kind is None:
                    self.skipped[_event_reason(parts[1])] += 1
                    continue
                kinds[parts[1]] = kind
            pointer, _, details = parts[-1].partition("pfn=")
            number, _, details = details.partition(" ")
            origin.append(task_cpu)
            time.append(when)
            key = kind, details
            shape.append(shapes[key] if key in shapes else self._add_shape(key))
            page.append(pointer)
            pfn.append(number)
        if origin:
            if not self.dialect:
                self.dialect = "perf" if self._perf else "trace-cmd" if _TRACE_CMD.search(text) else "ftrace"
            self._store(np.array(origin), _numbers(time, _TIMES), np.array(shape), _page_numbers(pfn, page))

    def _store(
        self, origin: NDArray[np.int64], ts: NDArray[np.int64], shape: NDArray[np.int64], pfn: NDArray[np.int64]
    ) -> None:
        rows = np.array(self._shape_rows, _SHAPE_DTYPE)[shape]
        events = np.empty(len(shape), event_dtype)
        events["ts"] = ts
        events["pfn"] = pfn
        events["task"] = origin >> 16
        events["cpu"] = origin & 0xFFFF
        for name in _SHAPE:
            events[name] = rows[name]
        valid = (rows["kind"] != _SHAPE["kind"]) & (ts != _NOT_A_NUMBER) & (pfn != _NOT_A_NUMBER)
        if not valid.all():
            self.skipped["unparsable"] += int(np.count_nonzero(~valid))
            events, shape = events[valid], shape[valid]
        self.blocks.append(events)
        for number, names in self._unknown_gfp.items():
            for name in names:
                self.unknown_gfp[name] += int(np.count_nonzero(shape == number))

    def _add_origin(self, source: str, head: re.Match[str]) -> int:
        self._perf = head["tid"] is not None
        task = self.tasks.setdefault(f"{head['comm']}-{head['pid'] or head['tid']}", len(self.tasks))
        self._origins[source] = task_cpu = task << 16 | int(head["cpu"] or head["latency_cpu"])
        return task_cpu

    def _add_shape(self, key: tuple[int, str]) -> int:
        self._shapes[key] = number = len(self._shapes)
        row, self._unknown_gfp[number] = _shape(*key)
        self._shape_rows.append(row)
        return number


def _kind(text: str) -> int | None:
    if "mm_page_" not in text:
        return None
    name = _NAME.fullmatch(text)
    return EVENT_KINDS.get(name[1]) if name else None


def _shape(kind: int, details: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the shape of an event and its unknown gfp flags; no event's shape if a field is missing or wild."""
    text = dict(_FIELD.findall(details))
    shape = _SHAPE | {"kind": kind}
    unknown: tuple[str, ...] = ()
    try:
        for name, label in _SHAPE_FIELDS[kind].items():
            shape[name] = int(text.get(label[:-1], "0") if label.endswith("?") else text[label], 0)
            if not (-1 if name.endswith("migratetype") else 0) <= shape[name] < 64:
                raise ValueError(name)
        if kind == EVENT_KINDS["mm_page_alloc"]:
            shape["gfp"], unknown = parse_gfp(text["gfp_flags"])
    except (KeyError, ValueError):
        return tuple(_SHAPE.values()), ()
    return tuple(shape.values()), unknown


def _numbers(texts: list[str], forms: tuple[_Form, ...]) -> NDArray[np.int64]:
    """Return the values of `texts` (seconds as ns), _NOT_A_NUMBER for one in no form."""
    joined = "\n".join(texts) + "\n"
    for pattern, base, unit in forms:
        if pattern.fullmatch(joined):
            if base == 16:
                values = np.array([int(text, 16) for text in texts], np.uint64)
            else:
                values = np.fromstring(joined.replace(".", ""), np.uint64, sep="\n")
            return values.view(np.int64) * unit
    if len(texts) == 1:
        return np.array([_NOT_A_NUMBER], np.int64)
    return np.concatenate([_numbers([text], forms) for text in texts])


def _page_numbers(texts: list[str], pages: list[str]) -> NDArray[np.int64]:
    """Return the pfns: -1 for a failed allocation, _NOT_A_NUMBER for what is none."""
    pfn = _numbers(texts, _PFNS)
    # A failed allocation prints pfn 0 and a null page; a raw record keeps the kernel's -1 itself.
    for at in np.flatnonzero(pfn == 0):
        pointer = pages[at].partition("page=")[2].strip()
        if pointer and pointer.strip("0x") in ("", "(null)", "(nil)"):
            pfn[at] = -1
    return pfn


def _event_reason(event: str) -> str:
    if event.startswith(("<stack trace", "<user stack trace", "kernel_stack", "user_stack")):
        return "callchain"
    return "lost events marker" if event.startswith("PERF_RECORD_LOST") else "other event"


def _line_reason(line: str) -> str:
    return next((reason for reason, pattern in _LINE_REASONS.items() if pattern.match(line)), "unparsable")


class _Window:
    """Keeps the lines after the first holding `start` and before the next holding `end`."""

    def __init__(self, start: str, end: str) -> None:
        self.outside = 0
        self.missing = [start, end]

    def cut(self, text: str) -> str:
        """Return the part of `text` (whole lines) inside the window and count the lines outside."""
        start, end = 0, len(text)
        if len(self.missing) == 2:
            start = self._find_mark(text, 0)[1]
        if len(self.missing) == 1:
            end = self._find_mark(text, start)[0]
        elif not self.missing:
            end = start
        self.outside += text.count("\n", 0, start) + text.count("\n", end)
        return text[start:end]

    def _find_mark(self, text: str, start: int) -> tuple[int, int]:
        """Return the bounds of the line with the next mark, of the end of `text` if it is not there."""
        at = text.find(self.missing[0].encode().decode("latin-1"), start)
        if at < 0:
            return len(text), len(text)
        del self.missing[0]
        return text.rfind("\n", 0, at) + 1, text.find("\n", at) + 1


def _blocks(file: BufferedIOBase, path: Path) -> Iterator[str]:
    """Yield the text in blocks of whole lines; only the last block may end without a newline."""
    lines, rest = 0, b""
    try:
        while data := file.read(_CHUNK):
            if not lines and not rest:
                for magic, what in _BINARY.items():
                    if data.startswith(magic):
                        raise TraceError(f"{path}: {what}")
            data = rest + data
            if b"\0" in data:
                line = lines + data.count(b"\n", 0, data.index(b"\0")) + 1
                raise TraceError(f"{path}: line {line}: not text (a NUL byte)")
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            # Every byte is one character in latin-1, so decoding cannot fail.
            text = data[:cut].decode("latin-1").replace("\r\n", "\n")
            lines += text.count("\n")
            if len(rest) > _MAX_LINE:
                raise TraceError(f"{path}: line {lines + 1}: longer than {_MAX_LINE} bytes, not a trace")
            if text:
                yield text
    except EOFError:
        raise TraceError(f"{path}: line {lines + 1} or later: the gzip data is cut short") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(f"{path}: line {lines + 1} or later: damaged gzip data ({error})") from None
    if rest:
        yield rest.decode("latin-1")


def read_trace(path: str | Path, *, between: tuple[str, str] | None = None) -> Trace:
    """Read the page allocator events of the trace at `path` (gzip is recognised by content, not by name).

    `between=(start, end)` keeps only the lines after the first that contains `start` and before the next that
    contains `end`; the others are skipped as "outside window". Both must occur.
    Raises TraceError for a file that is empty, no text, no trace, damaged or without page allocator events (in the
    window), OSError if the file cannot be read.
    """
    path = Path(path)
    parser = _Parser()
    window = None if between is None else _Window(*between)
    lines = 0
    truncated = False
    with path.open("rb") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"
        for text in _blocks(gzip.GzipFile(fileobj=raw) if gzipped else raw, path):
            if not text.endswith("\n"):
                truncated = True
                break
            lines += text.count("\n")
            parser.feed(text if window is None else window.cut(text))

    if not lines and not truncated:
        raise TraceError(f"{path}: the file is empty")
    if window is not None and window.missing:
        raise TraceError(f"{path}: no line contains {window.missing[0]!r}")
    skipped = parser.skipped
    if not any(map(len, parser.blocks)):
        what = "no kmem:mm_page_* event" if skipped["other event"] else "not a kernel trace: no line is an event"
        where = f" between {' and '.join(map(repr, between))}" if between else ""
        lines_found = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        raise TraceError(f"{path}: {what}{where} (lines: {lines_found or 'none'})")

    skipped["outside window"] = window.outside if window else 0
    skipped["truncated line"] = int(truncated)
    events = np.concatenate(parser.blocks)
    return Trace(
        path=path,
        dialect=parser.dialect,
        events=events,
        tasks=tuple(name.encode("latin-1").decode("utf-8", "replace") for name in parser.tasks),
        lines=lines + truncated,
        skipped=dict(+skipped),
        cpus=int(events["cpu"].max()) + 1,
        truncated=truncated,
        unknown_gfp=dict(+parser.unknown_gfp),
    )
