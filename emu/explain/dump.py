"""Reports of failed allocations as records: the request, the zones, their free lists.

Kernels 4.x to 6.x print them with ``warn_alloc()`` (``page allocation failure``) and ``dump_header()``
(``invoked oom-killer``), both followed by ``show_mem()``. Amounts stay as they are printed: in kB, ``lowmem_reserve``
in pages.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from emu.explain.lines import Line, clean

__all__ = ["ZONE_ORDER", "Dump", "DumpError", "DumpZone", "read_dumps"]

ZONE_ORDER: Final = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")
_NAME = "|".join(sorted(ZONE_ORDER, key=len, reverse=True))
_FAILURE: Final = re.compile(
    r"(?P<comm>.*?): page allocation (?:failure|stalls for \d+ms)[:,.] order:(?P<order>\d+), ?"
    r"mode:(?P<mode>0x[0-9a-f]+)"
    r"(?:\((?P<names>[^)]*)\))?"
)
_OOM: Final = re.compile(
    r"(?P<comm>.*?) invoked oom-killer: gfp_mask=(?P<mode>0x[0-9a-f]+)(?:\((?P<names>[^)]*)\))?, "
    r"(?:nodemask=\S+, )?order=(?P<order>-?\d+), oom_score_adj"
)
_BEGIN: Final = re.compile(r".*?(?:: page allocation (?:failure|stalls)| invoked oom-killer:)")
_NODEMASK: Final = re.compile(r"nodemask=(\(null\)|\d[\d,-]*\d|\d)")
_CPUSET: Final = re.compile(r"cpuset=(?P<cpuset>[^,\s]*)[, ]mems_allowed=(?P<mems>\d[\d,-]*)")
_KERNEL: Final = re.compile(r"(?:[Tt]ainted.*?|Linux version) (\d+\.\d+[\w.+~-]*)")
_ZONE: Final = re.compile(rf"(?:Node (\d+) )?({_NAME}) free:\d+kB ")
_AREAS: Final = re.compile(rf"(?:Node (\d+) )?({_NAME}): \d+\* ?\d+kB ")
_AREA: Final = re.compile(r"(\d+)\* ?(\d+)kB(?: \(([A-Z]*)\))?")
_ITEM: Final = re.compile(r"([a-z_]+):(-?\d+)(?:kB|KB)?(?= |$)")
_RESERVE: Final = re.compile(r"lowmem_reserve\[\]:((?: -?\d+)+)")
_NODE: Final = re.compile(r"Node (\d+) active_anon:")
_HUGE: Final = re.compile(r"Node (\d+) hugepages_total=")
_HIGHMEM: Final = re.compile(r"(\d+) pages HighMem")
_SWAP: Final = re.compile(r"(Free|Total) swap += +(\d+)kB")
_MEMCG: Final = re.compile(
    r"memory: usage \d+kB, limit|Memory cgroup (?:out of memory|stats for)|constraint=CONSTRAINT_MEMCG"
)
_END_OF_ZONE: Final = ("free_cma:", "all_unreclaimable?")
WRAPPED = 8  # lines that a mail program makes of one, at most


class DumpError(ValueError):
    """No report, or half of one: one line."""


@dataclass
class DumpZone:
    """One zone: what is printed about it (kB), its reserve (pages), its free lists by order."""

    nid: int
    name: str
    line: int
    kb: dict[str, int]
    lowmem_reserve: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)


@dataclass
class Dump:
    """One report."""

    line: int
    kind: str  # "failure" or "oom"
    comm: str
    order: int
    mode: int
    names: str
    nodemask: str = ""  # empty: (null)
    cpuset: str = ""
    mems_allowed: str = ""
    kernel: str = ""
    irq: bool = False
    memcg: bool = False
    mem_info: int = 0  # its line
    zones: list[DumpZone] = field(default_factory=list)
    page_kb: int = 4
    highmem: bool = False  # there is any, whether its zone is shown or not
    nodes: set[int] = field(default_factory=set)  # that are mentioned at all
    swap: dict[str, int] = field(default_factory=dict)  # kB free and in total

    def zone(self, nid: int, name: str) -> DumpZone | None:
        """A zone by node and name."""
        return next((z for z in self.zones if z.nid == nid and z.name == name), None)


def read_dumps(lines: Iterable[str]) -> tuple[list[Dump], list[str]]:
    """The reports that are whole, and why the others can't be explained. Neither: :class:`DumpError`."""
    text = clean(lines)
    dumps = list(_split(text))
    problems = {id(d): _problem(d, text[-1].number) for d in dumps}
    good = [d for d in dumps if not problems[id(d)]]
    bad = [f"line {d.line}: {problems[id(d)]}" for d in dumps if problems[id(d)]]
    if dumps:
        return good, bad
    orphan = next((line.number for line in text if line.text.startswith("Mem-Info:")), 0)
    if orphan:
        raise DumpError(f"line {orphan}: Mem-Info, but no request before it that was refused")
    last = text[-1].number if text else 1
    raise DumpError(f"line {last}: no 'page allocation failure' and no 'invoked oom-killer' up to here")


def _problem(dump: Dump, last: int) -> str:
    if dump.memcg:
        return "the limit of a memory cgroup was hit: no zone refused anything"
    if dump.order < 0:
        return "the OOM killer was called by hand (SysRq f): nothing was refused"
    if not dump.mem_info:
        return f"no Mem-Info follows up to line {last}: the report was suppressed or is cut off"
    if not dump.zones:
        return f"no zones follow the Mem-Info of line {dump.mem_info}: the report is cut off"
    for zone in dump.zones:
        what = "lowmem_reserve[]" if not zone.lowmem_reserve else "free lists" if not zone.counts else ""
        if what:
            return f"zone {zone.name} of line {zone.line} has no {what}: the report is cut off"
        if not {"min", "low", "high"} <= zone.kb.keys():
            return f"zone {zone.name} of line {zone.line} has no watermarks: the report is cut off"
    return ""


def _split(text: list[Line]) -> Iterator[Dump]:
    dump, kernel, at = None, "", 0
    while at < len(text):
        begin = _BEGIN.match(text[at].text)
        if begin:
            if dump:
                yield dump
            dump, at = _header(text, at)
            dump.kernel = kernel
            continue
        line = text[at].text
        if line.endswith("ainted") and at + 1 < len(text):  # wrapped before the version
            line += " " + text[at + 1].text
        if found := _KERNEL.search(line):
            kernel = found[1]
            if dump and not dump.mem_info:
                dump.kernel = kernel
        if dump:
            at = _line(dump, text, at)
        else:
            at += 1
    if dump:
        yield dump


def _header(text: list[Line], at: int) -> tuple[Dump, int]:
    first, joined = text[at], ""
    for used in range(WRAPPED):
        if at + used == len(text):
            break
        joined += (" " if used else "") + text[at + used].text
        kind, found = "failure", _FAILURE.match(joined)
        if not found:
            kind, found = "oom", _OOM.match(joined)
        if found and joined.endswith(",") and at + used + 1 < len(text):  # wrapped before the nodemask
            joined += " " + text[at + used + 1].text
            used += 1
        if found:
            dump = Dump(
                first.number, kind, found["comm"].rsplit("] ", 1)[-1], int(found["order"]), int(found["mode"], 16),
                found["names"] or "",
            )  # fmt: skip
            _masks(dump, joined)
            return dump, at + used + 1
    raise DumpError(f"line {first.number}: this report of a refused request is not in the form that 4.x to 6.x have")


def _masks(dump: Dump, text: str) -> None:
    if found := _NODEMASK.search(text):
        dump.nodemask = "" if found[1] == "(null)" else found[1]
    if found := _CPUSET.search(text):
        dump.cpuset, dump.mems_allowed = found["cpuset"], found["mems"].rstrip(",")


def _line(dump: Dump, text: list[Line], at: int) -> int:
    """Take one record of a report; where the next one begins."""
    line = text[at].text
    if not dump.mem_info:
        dump.irq |= line.startswith("<IRQ>")
        dump.memcg |= _MEMCG.search(line) is not None
        if line.startswith("Mem-Info:"):
            dump.mem_info = text[at].number
        elif not dump.mems_allowed and _CPUSET.search(line):  # 4.19 and before: a line of its own
            _masks(dump, line)
        return at + 1
    if _ZONE.match(line):
        return _zone_line(dump, text, at)
    if _AREAS.match(line):
        return _areas_line(dump, text, at)
    if (found := _RESERVE.match(line)) and dump.zones and not dump.zones[-1].lowmem_reserve:
        dump.zones[-1].lowmem_reserve = [int(pages) for pages in found[1].split()]
    elif found := _NODE.match(line) or _HUGE.match(line):
        dump.nodes.add(int(found[1]))
    elif found := _SWAP.match(line):
        dump.swap[found[1].lower()] = int(found[2])
    elif found := _HIGHMEM.match(line):
        dump.highmem = found[1] != "0"
    elif line.startswith("oom-kill:") and dump.kind == "oom":
        _masks(dump, line)
        dump.memcg |= _MEMCG.search(line) is not None
    elif dump.kind == "oom" and line.startswith("Memory cgroup out of memory"):
        dump.memcg = True
    return at + 1


def _join(text: list[Line], at: int, ends: tuple[str, ...]) -> tuple[str, int]:
    """A record that mail may have broken over several lines: up to one of its last words."""
    joined = text[at].text
    for used in range(1, WRAPPED):
        if any(end in joined for end in ends) or at + used == len(text):
            return joined, at + used
        following = text[at + used].text
        if _ZONE.match(following) or _AREAS.match(following) or _RESERVE.match(following) or _BEGIN.match(following):
            return joined, at + used
        joined += " " + following
    return joined, at + 1


def _zone_line(dump: Dump, text: list[Line], at: int) -> int:
    joined, after = _join(text, at, _END_OF_ZONE)
    head = _ZONE.match(joined)
    assert head is not None
    items = {name: int(value) for name, value in _ITEM.findall(joined)}
    zone = DumpZone(int(head[1] or 0), head[2], text[at].number, items)
    if found := _RESERVE.search(joined):
        zone.lowmem_reserve = [int(pages) for pages in found[1].split()]
    dump.zones.append(zone)
    dump.nodes.add(zone.nid)
    return after


def _areas_line(dump: Dump, text: list[Line], at: int) -> int:
    joined, after = _join(text, at, (" = ",))
    if joined.endswith("="):
        joined, after = f"{joined} {text[after].text}" if after < len(text) else joined, after + 1
    head, total = _AREAS.match(joined), re.search(r" = (\d+)kB", joined)
    assert head is not None
    zone = dump.zone(int(head[1] or 0), head[2])
    if zone is None or zone.counts:
        return after
    if total is None:
        raise DumpError(f"line {text[at].number}: the free lists of zone {zone.name} are cut off")
    areas = _AREA.findall(joined[: total.start()])
    sizes = [int(size) for _, size, _ in areas]
    if any(size != sizes[0] << order for order, size in enumerate(sizes)):
        raise DumpError(f"line {text[at].number}: the free lists of zone {zone.name} are not in order")
    adds_up = sum(int(count) * int(size) for count, size, _ in areas)
    if adds_up != int(total[1]):
        raise DumpError(
            f"line {text[at].number}: the free lists of zone {zone.name} add up to {adds_up} kB, not to {total[1]} kB"
        )
    dump.page_kb = sizes[0]
    zone.counts = [int(count) for count, _, _ in areas]
    zone.letters = [letters for _, _, letters in areas]
    return after
