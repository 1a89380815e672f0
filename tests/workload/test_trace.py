"""Traces as ftrace, trace-cmd and perf print them, whole and damaged."""

import functools
import gzip
import operator
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.workload.gfp_text import GFP_MASK, GFP_VALUES, parse_gfp
from emu.workload.trace import EVENT_KINDS, Trace, TraceError, event_dtype, read_trace

DATA = Path(__file__).parent.parent / "data" / "traces"
REAL = DATA / "ftrace-5.10-counter.txt.gz"
WINDOW = ("oracle_mark: what=snap_end a=98", "oracle_mark: what=snap_begin a=97")

ALLOC, FREE, BATCHED, LOCKED, DRAIN, EXTFRAG = range(6)
FREE_LINE = "  sh-1  [000] ....     5.000001: mm_page_free: page=00000000abcd1234 pfn=17 order=2\n"


def events(trace: Trace, *names: str) -> list[tuple[int, ...]]:
    return [tuple(event[name].item() for name in names) for event in trace.events]


def read_text(directory: Path, text: str, between: tuple[str, str] | None = None) -> Trace:
    path = directory / "trace"
    path.write_bytes(text.encode())
    return read_trace(path, between=between)


def assert_counted(trace: Trace) -> None:
    assert len(trace.events) + sum(trace.skipped.values()) == trace.lines


# gfp flags


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", 0),
        ("GFP_KERNEL", 0xCC0),
        ("GFP_KERNEL_ACCOUNT|__GFP_ZERO", 0x400DC0),
        ("GFP_ATOMIC", 0xA20),
        ("GFP_NOWAIT|__GFP_NOWARN", 0x2800),
        ("GFP_NOIO", 0xC00),
        ("GFP_NOFS|__GFP_HIGHMEM|__GFP_NOWARN|__GFP_NORETRY|__GFP_HARDWALL|__GFP_MOVABLE", 0x112C4A),
        ("GFP_USER", 0x100CC0),
        ("GFP_HIGHUSER", 0x100CC2),
        ("GFP_HIGHUSER_MOVABLE", 0x100CCA),
        ("GFP_HIGHUSER_MOVABLE|__GFP_ZERO", 0x100DCA),
        ("GFP_TRANSHUGE_LIGHT", 0x1C20CA),
        ("GFP_TRANSHUGE", 0x1C24CA),
        ("GFP_DMA|__GFP_THISNODE", 0x200001),
        ("GFP_DMA32", 0x4),
        ("__GFP_RECLAIM", 0xC00),
        ("__GFP_WRITE|__GFP_RETRY_MAYFAIL|__GFP_NOFAIL", 0xD000),
        ("GFP_ZERO|GFP_COMP", 0x40100),  # written without underscores
        ("0x152c4a", 0x152C4A),
        ("3520", 0xDC0),
        ("GFP_NOWAIT|0x100", 0x900),
        ("GFP_KERNEL|__GFP_NOLOCKDEP", 0xCC0),
    ],
)
def test_gfp_text_has_its_value_in_5_10(text: str, value: int) -> None:
    assert parse_gfp(text) == (value, ())


def test_gfp_parts_without_meaning_are_left_out_and_named() -> None:
    assert parse_gfp("GFP_KERNEL|__GFP_SKIP_KASAN|0x1000040") == (0xCC0, ("__GFP_SKIP_KASAN", "0x1000000"))
    assert max(GFP_VALUES.values()) <= GFP_MASK == 0x7FFFFF


# The writers


def test_event_dtype_is_compact() -> None:
    assert event_dtype.itemsize == 32
    assert list(EVENT_KINDS.values()) == list(range(6))


def test_ftrace_with_tgid_irq_column_and_hex_pfn() -> None:
    trace = read_trace(DATA / "ftrace-6.x-tgid.txt")
    assert trace.dialect == "ftrace"
    assert (trace.path, trace.cpus, trace.truncated) == (DATA / "ftrace-6.x-tgid.txt", 2, False)
    assert trace.tasks == ("bash-5056", "Web Content-7 w-812", "tmux: server-77", "<idle>-0", "<...>-4242")
    assert events(trace, "ts", "kind", "pfn", "order", "migratetype", "task", "cpu") == [
        (1176_233578_000, LOCKED, 0x136A40, 6, 0, 0, 1),
        (1176_233600_000, ALLOC, 0x136A40, 6, 0, 0, 1),
        (1176_233700_000, FREE, 0x1098A9, 0, -1, 1, 0),
        (1176_233701_000, BATCHED, 0x1098A9, 0, -1, 2, 0),
        (1176_233702_000, DRAIN, 0x1098A9, 3, 2, 3, 0),
        (1176_233704_000, ALLOC, -1, 9, 1, 4, 1),
        (1176_233705_000, ALLOC, 0x1098AB, 0, 0, 4, 1),
        (1176_233706_000, EXTFRAG, 0x136800, 1, 2, 4, 1),
    ]
    assert trace.events["gfp"].tolist() == [0, 0x409C0, 0, 0, 0, 0x1D20CA, 0x100CCA, 0]
    assert events(trace, "fallback_order", "fallback_migratetype", "flag")[-2:] == [(-1, -1, 0), (9, 1, 1)]
    assert trace.unknown_gfp == {"__GFP_SKIP_KASAN": 1, "__GFP_ZEROTAGS": 1}
    # The unparsable one is an alloc without its flags.
    assert trace.skipped == {"comment": 13, "lost events marker": 1, "callchain": 3, "other event": 1, "unparsable": 1}
    assert_counted(trace)


def test_trace_cmd_report_in_its_formats() -> None:
    trace = read_trace(DATA / "trace-cmd.txt")
    assert trace.dialect == "trace-cmd"
    assert trace.tasks == ("bash-5222", "ls-5228")
    assert events(trace, "ts", "kind", "pfn", "order", "gfp", "flag", "task", "cpu") == [
        (1199_292791_000, ALLOC, 0x103C4D, 0, 0x440DC0, 0, 0, 1),
        (1199_292993_000, FREE, 0x120759, 0, 0, 0, 0, 1),
        (1199_292994_000, BATCHED, 0x120759, 0, 0, 0, 0, 1),
        (1199_315478_000, LOCKED, 0x1086AA, 0, 0, 1, 1, 0),
        (1199_315480_000, ALLOC, -1, 4, 0x152C4A, 0, 1, 0),
        (1199_315481_000, ALLOC, -1, 4, 0xDC0, 0, 1, 0),
        (1199_315482_000, ALLOC, 0x10980B, 0, 0x440DC0, 0, 1, 0),
        (1199_315483_000, FREE, 0x10980B, 0, 0, 0, 1, 0),
        (1199_315484_000, FREE, 0x10980C, 0, 0, 0, 1, 0),
        (1199_315485_000, FREE, 0x10980D, 0, 0, 0, 1, 1),
    ]
    assert trace.skipped == {"comment": 1, "lost events marker": 1, "callchain": 3, "other event": 1}
    assert_counted(trace)


def test_perf_script_with_tid_or_pid_and_tid() -> None:
    trace = read_trace(DATA / "perf.txt")
    assert trace.dialect == "perf"
    assert trace.tasks == ("sh-5060", "Web 9-5061", "swapper-0")
    assert events(trace, "ts", "kind", "pfn", "order", "gfp", "flag", "task", "cpu") == [
        (1173_384064_000, ALLOC, 0x10980B, 0, 0x440DC0, 0, 0, 0),
        (1173_384161_000, FREE, 0x119AA5, 0, 0, 0, 0, 0),
        (1173_385091_000, LOCKED, 0x109278, 2, 0, 1, 0, 0),
        (1173_385091_145, ALLOC, 1534487, 0, 0x100CCA, 0, 1, 1),
        (1173_385092_000, DRAIN, 0x109278, 0, 0, 0, 2, 1),
    ]
    assert trace.skipped == {"comment": 4, "other event": 1, "lost events marker": 1}
    assert_counted(trace)


def test_perf_call_chains_are_skipped() -> None:
    trace = read_trace(DATA / "perf-callchain.txt")
    assert events(trace, "kind", "pfn") == [(ALLOC, 0x10922E), (FREE, 0x159899)]
    assert trace.skipped == {"callchain": 4, "blank": 2}
    assert_counted(trace)


def test_real_trace_of_5_10_with_a_counter_for_a_clock() -> None:
    trace = read_trace(REAL)
    text = gzip.decompress(REAL.read_bytes()).decode()
    assert trace.dialect == "ftrace"
    assert (trace.lines, trace.cpus, trace.skipped) == (2133, 2, {"comment": 11, "other event": 725})
    for name, kind in EVENT_KINDS.items():
        assert np.count_nonzero(trace.events["kind"] == kind) == text.count(f": {name}: ") > 0
    assert trace.unknown_gfp == {}
    assert trace.events["ts"].tolist() == [int(ts) for ts in re.findall(r" (\d+): mm_page_", text)]
    pfns = re.findall(r": mm_page_.* page=(\S+) pfn=(\d+) ", text)
    assert trace.events["pfn"].tolist() == [int(pfn) if int(page, 16) else -1 for page, pfn in pfns]
    assert np.count_nonzero(trace.events["pfn"] == -1) == 1
    # An allocation of order 0 that took the zone lock refilled a per-cpu list.
    locked = trace.events[trace.events["kind"] == LOCKED]
    assert ((locked["order"] == 0) == locked["flag"]).all()
    assert_counted(trace)


def test_window_keeps_what_is_between_two_marks() -> None:
    whole, inside = read_trace(REAL), read_trace(REAL, between=WINDOW)
    assert inside.lines == whole.lines
    assert inside.skipped["outside window"] == 13 + 16
    assert inside.events["ts"].min() > 4
    assert inside.events["ts"].max() < 584416
    assert_counted(inside)


# Odd and damaged texts


def test_marks_count_only_in_order(tmp_path: Path) -> None:
    lines = ["end", "start", FREE_LINE.strip(), "start", FREE_LINE.strip(), "end", FREE_LINE.strip(), "end", "start"]
    trace = read_text(tmp_path, "\n".join(lines) + "\n", between=("start", "end"))
    assert len(trace.events) == 2
    assert trace.skipped == {"outside window": 6, "unparsable": 1}
    assert trace.lines == 9


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("sh-1 [000] ....  7: ", (7, 0)),
        ("sh-1 [000] 7: ", (7, 0)),
        ("sh-1 [012] d..1  18.000001: ", (18_000_001_000, 12)),
        ("  sh-1     (  123) [000] dNh2.1  18.000000001: ", (18_000_000_001, 0)),
        ("sh-1  [003]   123456789012345678: ", (123456789012345678, 3)),
        ("sh 1 [1023] 8999999999.999999: ", (8_999_999_999_999_999_000, 1023)),
    ],
)
def test_columns_before_the_event(tmp_path: Path, head: str, expected: tuple[int, int]) -> None:
    trace = read_text(tmp_path, head + "mm_page_free: page=0 pfn=1 order=0\n")
    assert events(trace, "ts", "cpu") == [expected]
    assert trace.tasks == ("sh-1",)


@pytest.mark.parametrize(
    ("pointer", "pfn", "expected"),
    [
        ("0000000000000000", "0", -1),
        ("(null)", "0", -1),
        ("(nil)", "0x0", -1),
        ("0x0", "0x0", -1),
        ("00000000abcd1234", "0", 0),
        ("(____ptrval____)", "0x1234", 0x1234),
        ("ffffea0000109ec0", "18446744073709551615", -1),
        ("0xffffffff", "0xffffffffffffffff", -1),
    ],
)
def test_failed_allocation_has_no_pfn(tmp_path: Path, pointer: str, pfn: str, expected: int) -> None:
    gfp = "order=0 migratetype=0 gfp_flags=GFP_KERNEL"
    trace = read_text(tmp_path, f"sh-1 [000] .... 5: mm_page_alloc: page={pointer} pfn={pfn} {gfp}\n")
    assert trace.events["pfn"].tolist() == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "sh-1 [000] .... 5: mm_page_free: page=1 pfn=17",
        "sh-1 [000] .... 5: mm_page_free: page=1 pfn=x17 order=0",
        "sh-1 [000] .... 5: mm_page_free: page=1 order=0",
        "sh-1 [000] .... 5: mm_page_free: page=1 pfn=17 order=99",
        "sh-1 [000] .... 5: mm_page_free: page=1 pfn=17 order=-1",
        "sh-1 [000] .... 5: mm_page_pcpu_drain: page=1 pfn=17 order=0 migratetype=many",
        "sh-1 [000] .... 1234567890123456789012: mm_page_free: page=1 pfn=17 order=0",
        "sh-1 [000] .... 5:",
        "sh-1 [000] .... 5",
        "sh-1 [00",
        "what is this",
    ],
)
def test_damaged_line_is_counted(tmp_path: Path, line: str) -> None:
    trace = read_text(tmp_path, f"sh-1 [000] .... 4: mm_page_free: page=1 pfn=3 order=0\n{line}\n")
    assert events(trace, "ts", "pfn") == [(4, 3)]
    assert trace.skipped == {"unparsable": 1}


def test_half_last_line_is_skipped(tmp_path: Path) -> None:
    trace = read_text(tmp_path, 2 * FREE_LINE + FREE_LINE[:-2])
    assert (len(trace.events), trace.lines, trace.truncated) == (2, 3, True)
    assert trace.skipped == {"truncated line": 1}


def test_windows_line_ends(tmp_path: Path) -> None:
    assert events(read_text(tmp_path, FREE_LINE.replace("\n", "\r\n") * 2), "order") == [(2,), (2,)]


def test_task_name_in_utf8(tmp_path: Path) -> None:
    assert read_text(tmp_path, FREE_LINE.replace("sh-1", "h\u00e9-1")).tasks == ("h\u00e9-1",)


def test_text_longer_than_a_block_keeps_every_line(tmp_path: Path) -> None:
    text = "".join(FREE_LINE.replace("pfn=17", f"pfn={pfn}") for pfn in range(40_000))
    assert read_text(tmp_path, text).events["pfn"].tolist() == list(range(40_000))
    assert read_text(tmp_path, text, between=("=50 ", "=39950 ")).events["pfn"].tolist() == list(range(51, 39_950))


def test_gzip_is_known_by_content(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_bytes(gzip.compress(FREE_LINE.encode()))
    assert len(read_trace(path).events) == len(read_trace(str(path)).events) == 1


NOT_TRACES = {
    "the file is empty": b"",
    "the file is empty ": gzip.compress(b""),
    "line 2: not text (a NUL byte)": FREE_LINE.encode() + b"sh-1\0\n",
    "a binary trace.dat: give the text that `trace-cmd report` prints": b"\x17\x08Dtracing6\0",
    "a binary perf.data: give the text that `perf script` prints": b"PERFILE2\0\0",
    "line 2: longer than 65536 bytes, not a trace": FREE_LINE.encode() + b"x" * 70_000,
    "not a kernel trace: no line is an event (lines: 1 blank, 2 unparsable)": b"Dear reader,\n\nbye\n",
    "not a kernel trace: no line is an event (lines: none)": b"half",
    "no kmem:mm_page_* event (lines: 1 other event)": b"sh-1 [000] .... 5: sched_switch: a=1\n",
    "line 1 or later: the gzip data is cut short": gzip.compress(FREE_LINE.encode())[:-6],
    "damaged gzip data": gzip.compress(FREE_LINE.encode())[:-6] + b"abcdef",
}


@pytest.mark.parametrize("what", NOT_TRACES)
def test_what_is_no_trace_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "some file"
    path.write_bytes(NOT_TRACES[what])
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert what.strip() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gzip_cut_after_many_lines_says_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "trace.gz"
    path.write_bytes(gzip.compress(FREE_LINE.encode() * 30_000, mtime=0)[:-6])
    with pytest.raises(TraceError, match=r"line \d{5} or later: the gzip data is cut short"):
        read_trace(path)


@pytest.mark.parametrize(
    ("between", "what"),
    [
        (("nowhere", "order"), "no line contains 'nowhere'"),
        (("order", "nowhere"), "no line contains 'nowhere'"),
        (("start", "end"), "not a kernel trace: no line is an event between 'start' and 'end' (lines: none)"),
    ],
)
def test_window_must_exist_and_hold_events(tmp_path: Path, between: tuple[str, str], what: str) -> None:
    with pytest.raises(TraceError, match=re.escape(what)):
        read_text(tmp_path, FREE_LINE + "start\nend\n", between=between)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "none")


# Any trace


class Event(NamedTuple):
    comm: str
    pid: int
    cpu: int
    us: int
    kind: str
    pfn: int
    order: int
    migratetype: int
    gfp: tuple[str, ...]

    def line(self) -> str:
        origin = f"{self.comm:>16}-{self.pid:<7} [{self.cpu:03}] d..1 {self.us // 10**6:5}.{self.us % 10**6:06}"
        pointer = f"page={0 if self.pfn < 0 else self.pfn + 1:016x} pfn={max(self.pfn, 0)} order={self.order}"
        rest = "" if "free" in self.kind else f" migratetype={self.migratetype}"
        if self.kind == "mm_page_alloc":
            rest += f" gfp_flags={'|'.join(self.gfp) or 'none'}"
        if self.kind == "mm_page_alloc_zone_locked":
            rest += f" percpu_refill={int(self.order == 0)}"
        return f"{origin}: {self.kind}: {pointer}{rest}"


comms = st.text("abz019 -_:/<>.[]()", min_size=1, max_size=15).map(str.strip).filter(bool)
page_events = st.builds(
    Event,
    comm=comms.filter(lambda comm: not re.search(r"[-\s]\d+\s*[\[(]|\d\s+\d|\s\d|: {2}", comm)),
    pid=st.integers(0, 4_194_304),
    cpu=st.integers(0, 8191),
    us=st.integers(0, 10**15),
    kind=st.sampled_from([name for name in EVENT_KINDS if name != "mm_page_alloc_extfrag"]),
    pfn=st.integers(-1, 2**52),
    order=st.integers(0, 10),
    migratetype=st.integers(0, 5),
    gfp=st.lists(st.sampled_from(sorted(set(GFP_VALUES) - {"none"})), max_size=4).map(tuple),
)


@pytest.mark.slow
@given(st.lists(page_events, min_size=1, max_size=8))
def test_what_ftrace_prints_is_read_back(tmp_path_factory: pytest.TempPathFactory, written: list[Event]) -> None:
    trace = read_text(tmp_path_factory.getbasetemp(), "".join(f"{event.line()}\n" for event in written))
    assert trace.dialect == "ftrace"
    assert not trace.skipped
    for read, event in zip(trace.events, written, strict=True):
        assert trace.tasks[read["task"]] == f"{event.comm}-{event.pid}"
        assert (read["ts"], read["cpu"], read["kind"]) == (event.us * 1000, event.cpu, EVENT_KINDS[event.kind])
        assert (read["pfn"], read["order"]) == (event.pfn, event.order)
        assert read["migratetype"] == (-1 if "free" in event.kind else event.migratetype)
        gfp = event.gfp if event.kind == "mm_page_alloc" else ()
        assert read["gfp"] == functools.reduce(operator.or_, (GFP_VALUES[name] for name in gfp), 0)


pieces = st.sampled_from(
    [
        *("sh-1", " ", "  ", "[000]", "....", "5.000001", "7", ": ", ":", "mm_page_free", "mm_page_alloc", "kmem:"),
        *("page=0", "(nil)", "pfn=", "0x1f", "order=0", "\t", "=> f", "#", "cpus=2", "CPU:1 [LOST EVENTS]", "\n"),
        *("\r", "\u00e9"),
    ]
)


@pytest.mark.slow
@given(st.lists(pieces, max_size=30).map("".join))
def test_every_line_of_any_text_is_counted(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    trace = read_text(tmp_path_factory.getbasetemp(), FREE_LINE + text)
    assert trace.lines == len((FREE_LINE + text).removesuffix("\n").split("\n"))
    assert_counted(trace)
