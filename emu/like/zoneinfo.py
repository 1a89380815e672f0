"""What /proc/zoneinfo says. Kernels from 4.19 on are understood; lines that mean nothing here are passed over."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from emu.like.files import LikeError, lines_of, number
from emu.zone.mmzone import MAX_CPUS, MAX_NUMNODES, MAX_ORDER, ZONE_NAMES

__all__ = ["ZONE", "ZoneFacts", "read_zoneinfo"]

MOST_PFN = 1 << 26  # 256 GiB: beyond, the tables of what is where would be larger than the machine is worth
MOST_THRESHOLD = 125  # a differential of a vmstat counter has 8 bits: calculate_normal_threshold()
MOST_PCP = 1 << 24
ZONE = re.compile(r"Node +(\d+), zone +(\w+)", re.ASCII)
_PAGES = re.compile(
    r"(?:pages )?(free|boost|min|low|high|spanned|present|managed|nr_zone_(?:in)?active_file) +(\d+)$", re.ASCII
)
_PROTECTION = re.compile(r"protection: \((.*)\)$")
_CPU = re.compile(r"cpu: *(\d+)$", re.ASCII)
_PCP = re.compile(r"(?:count|high|batch): *(\d+)$", re.ASCII)
_THRESHOLD = re.compile(r"vm stats threshold: *(\d+)$", re.ASCII)
_START = re.compile(r"start_pfn: *(\d+)$", re.ASCII)


@dataclass
class ZoneFacts:
    """One zone. ``where``: the line it begins in; ``pages``: sizes, watermarks and counters; ``pcp``: CPU -> count,
    high, batch; ``free``: blocks by order and type; ``blocks``: pageblocks by type, none where pagetypeinfo can't be
    read."""

    nid: int
    zid: int
    where: str
    pages: dict[str, int] = field(default_factory=dict)
    protection: tuple[int, ...] = ()
    pcp: dict[int, list[int]] = field(default_factory=dict)
    threshold: int = 0
    start_pfn: int = -1
    free: list[list[int]] = field(default_factory=lambda: [[0] * 4 for _ in range(MAX_ORDER)])
    blocks: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``node 0 DMA32``"""
        return f"node {self.nid} {ZONE_NAMES[self.zid]}"

    @property
    def end_pfn(self) -> int:
        """One past its last page."""
        return self.start_pfn + self.pages["spanned"]


def read_zoneinfo(path: Path) -> list[ZoneFacts]:
    """All zones that have memory."""
    zones: dict[tuple[int, int], ZoneFacts] = {}
    zone: ZoneFacts | None = None
    for line, where in lines_of(path):
        if found := ZONE.match(line):
            zone = _zone_of(found, zones, where)
        elif zone is not None:
            _take(zone, line, where)
    whole = [zone for zone in zones.values() if zone.pages.get("present")]
    if not whole:
        raise LikeError(f"{path}: no zone with memory in it")
    for zone in whole:
        _check(zone)
    by_pfn = sorted(whole, key=lambda zone: zone.start_pfn)
    for lower, upper in pairwise(by_pfn):
        if lower.end_pfn > upper.start_pfn:
            raise LikeError(f"{upper.where}: {upper.name} begins at pfn {upper.start_pfn}, inside {lower.name}")
    return whole


def _zone_of(found: "re.Match[str]", zones: dict[tuple[int, int], ZoneFacts], where: str) -> ZoneFacts:
    nid, name = number(found[1], where), found[2]
    if nid >= MAX_NUMNODES:
        raise LikeError(f"{where}: node {nid}, and {MAX_NUMNODES} nodes are the most")
    if name not in ZONE_NAMES:  # HighMem, Device: its fields go nowhere
        return ZoneFacts(nid, 0, where)
    return zones.setdefault((nid, ZONE_NAMES.index(name)), ZoneFacts(nid, ZONE_NAMES.index(name), where))


def _take(zone: ZoneFacts, line: str, where: str) -> None:
    """One line of a zone."""
    if found := _CPU.match(line):
        zone.pcp[number(found[1], where)] = []
    elif (found := _PCP.match(line)) and zone.pcp:
        last = zone.pcp[next(reversed(zone.pcp))]
        if len(last) < 3:
            last.append(min(number(found[1], where), MOST_PCP))
    elif found := _PAGES.match(line):
        zone.pages.setdefault(found[1], number(found[2], where))
    elif found := _PROTECTION.match(line):
        zone.protection = tuple(number(word.strip(), where) for word in found[1].split(","))
    elif found := _THRESHOLD.match(line):
        zone.threshold = min(max(zone.threshold, number(found[1], where)), MOST_THRESHOLD)
    elif found := _START.match(line):
        zone.start_pfn = number(found[1], where)


def _check(zone: ZoneFacts) -> None:
    missing = [name for name in ("free", "min", "low", "high", "spanned", "managed") if name not in zone.pages]
    missing += ["protection"] * (not zone.protection) + ["pagesets"] * (not zone.pcp)
    missing += ["start_pfn"] * (zone.start_pfn < 0)
    if missing:
        raise LikeError(f"{zone.where}: {zone.name} has no {', '.join(missing)}: cut short?")
    if any(len(values) < 3 for values in zone.pcp.values()):
        raise LikeError(f"{zone.where}: {zone.name} has a pageset without count, high and batch")
    if max(zone.pcp) >= MAX_CPUS:
        raise LikeError(f"{zone.where}: cpu {max(zone.pcp)}, and {MAX_CPUS} CPUs are the most")
    p = zone.pages
    sizes, marks = [p[n] for n in ("managed", "present", "spanned")], [p[n] for n in ("min", "low", "high")]
    if sizes != sorted(sizes):
        raise LikeError(f"{zone.where}: {zone.name} can't have managed {sizes[0]}, present {sizes[1]}, "
                        f"spanned {sizes[2]} pages")  # fmt: skip
    if [p.get("boost", 0), *marks] != sorted([p.get("boost", 0), *marks]):
        raise LikeError(f"{zone.where}: {zone.name} can't have watermarks {marks} with boost {p.get('boost', 0)}")
    if zone.end_pfn > MOST_PFN:
        raise LikeError(f"{zone.where}: {zone.name} ends at {zone.end_pfn >> 18} GiB; up to {MOST_PFN >> 18} GiB "
                        "can be copied")  # fmt: skip
