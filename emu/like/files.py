"""What /proc/zoneinfo, buddyinfo, pagetypeinfo and their like in /sys say. Kernels from 4.19 on are understood; lines
that mean nothing here are passed over."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emu.zone.mmzone import MAX_CPUS, MAX_NUMNODES, MAX_ORDER, ZONE_NAMES

__all__ = ["LikeError", "ZoneFacts", "cpu_nodes", "read_sysctls", "read_zones", "root_of"]

TYPES = {"Unmovable": 0, "Movable": 1, "Reclaimable": 2, "HighAtomic": 3, "CMA": 1, "Isolate": 1}
"""Migratetype -> the one that stands for it: what contiguous allocations or hotplug have taken is movable here."""
SYSCTLS = (
    "min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor", "percpu_pagelist_fraction",
    "zone_reclaim_mode", "swappiness", "lowmem_reserve_ratio",
)  # fmt: skip
_ZONE = re.compile(r"Node +(\d+), zone +(\w+)")
_FIELD = re.compile(r"(?:pages )?(free|boost|min|low|high|spanned|present|managed) +(\d+)$")
_PROTECTION = re.compile(r"protection: \(([\d, ]+)\)$")
_PCP = re.compile(r"(?:cpu|count|high|batch): *(\d+)$")
_THRESHOLD = re.compile(r"vm stats threshold: (\d+)$")
_START = re.compile(r"start_pfn: +(\d+)$")


class LikeError(ValueError):
    """Files that describe no machine: which, in which line, and why."""


@dataclass
class ZoneFacts:
    """One zone. Pages; ``pcp``: CPU -> count, high, batch; ``free``: blocks by order and type; ``blocks``: pageblocks
    by type, none where pagetypeinfo can't be read."""

    nid: int
    zid: int
    pages: dict[str, int] = field(default_factory=dict)
    protection: tuple[int, ...] = ()
    pcp: dict[int, list[int]] = field(default_factory=dict)
    threshold: int = 0
    start_pfn: int = 0
    free: list[list[int]] = field(default_factory=lambda: [[0] * 4 for _ in range(MAX_ORDER)])
    blocks: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``node 0 DMA32``"""
        return f"node {self.nid} {ZONE_NAMES[self.zid]}"


def root_of(directory: Path) -> Path:
    """The directory with zoneinfo: the one given, or proc in it."""
    for root in (directory, directory / "proc"):
        if (root / "zoneinfo").is_file():
            return root
    raise LikeError(f"{directory}: no zoneinfo there, nor in proc below it")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines without blanks around them, and where each is."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise LikeError(f"{path}: not a text file") from None
    for number, line in enumerate(text.splitlines(), 1):
        yield line.strip(), f"{path}:{number}"


def read_zones(root: Path) -> list[ZoneFacts]:
    """All zones that have memory."""
    zones: dict[tuple[int, int], ZoneFacts] = {}
    zone: ZoneFacts | None = None
    cpu = -1
    for line, where in _lines(root / "zoneinfo"):
        if found := _ZONE.match(line):
            zone = _zone_of(found, zones, where)
        elif zone is None:
            continue
        elif line.startswith("cpu:"):
            cpu = int(line.split()[1])
            zone.pcp[cpu] = []
        elif (found := _PCP.match(line)) and cpu in zone.pcp and len(zone.pcp[cpu]) < 3:
            zone.pcp[cpu].append(int(found[1]))
        elif found := _FIELD.match(line):
            zone.pages.setdefault(found[1], int(found[2]))
        elif found := _PROTECTION.match(line):
            zone.protection = tuple(int(n) for n in found[1].split(","))
        elif found := _THRESHOLD.match(line):
            zone.threshold = max(zone.threshold, int(found[1]))
        elif found := _START.match(line):
            zone.start_pfn = int(found[1])
    path = root / "zoneinfo"
    whole = [zone for zone in zones.values() if zone.pages.get("present")]
    if not whole:
        raise LikeError(f"{path}: no zone with memory in it")
    for zone in whole:
        _check(zone, path)
    _read_buddyinfo(root / "buddyinfo", whole)
    _read_pagetypeinfo(root / "pagetypeinfo", whole)
    return whole


def _zone_of(found: "re.Match[str]", zones: dict[tuple[int, int], ZoneFacts], where: str) -> ZoneFacts:
    nid, name = int(found[1]), found[2]
    if nid >= MAX_NUMNODES:
        raise LikeError(f"{where}: node {nid}, and {MAX_NUMNODES} nodes are the most")
    if name not in ZONE_NAMES:  # HighMem, Device: its fields go nowhere
        return ZoneFacts(nid, 0)
    return zones.setdefault((nid, ZONE_NAMES.index(name)), ZoneFacts(nid, ZONE_NAMES.index(name)))


def _check(zone: ZoneFacts, path: Path) -> None:
    missing = [name for name in ("free", "min", "low", "high", "spanned", "managed") if name not in zone.pages]
    if missing or not zone.pcp or not zone.protection:
        what = ", ".join(missing) or ("pagesets" if zone.protection else "protection")
        raise LikeError(f"{path}: {zone.name} has no {what}: cut short?")
    if any(len(numbers) < 3 for numbers in zone.pcp.values()):
        raise LikeError(f"{path}: {zone.name} has a pageset without count, high and batch")
    if max(zone.pcp) >= MAX_CPUS:
        raise LikeError(f"{path}: cpu {max(zone.pcp)}, and {MAX_CPUS} CPUs are the most")
    p = zone.pages
    if not p["managed"] <= p["present"] <= p["spanned"] or not p["min"] <= p["low"] <= p["high"]:
        raise LikeError(f"{path}: {zone.name} can't be: {p}")


def _numbers(words: list[str], count: int, where: str) -> list[int]:
    """Counts as printed; ``>100000`` is at least that."""
    values = [word.lstrip(">") for word in words]
    if len(values) < count or not all(value.isdigit() for value in values):
        raise LikeError(f"{where}: not {count} numbers: {' '.join(words)[:60]}")
    return [int(value) for value in values[:count]]


def _read_buddyinfo(path: Path, zones: list[ZoneFacts]) -> None:
    """Free blocks by order; all movable until pagetypeinfo says otherwise."""
    known, seen = {(z.nid, ZONE_NAMES[z.zid]): z for z in zones}, set()
    for line, where in _lines(path):
        if (found := _ZONE.match(line)) and (key := (int(found[1]), found[2])) in known:
            for order, blocks in enumerate(_numbers(line[found.end() :].split(), MAX_ORDER, where)):
                known[key].free[order][1] = blocks
            seen.add(key)
    for key in known.keys() - seen:
        raise LikeError(f"{path}: no line for node {key[0]} {key[1]}")


def _read_pagetypeinfo(path: Path, zones: list[ZoneFacts]) -> None:
    """Free blocks by type, and the number of pageblocks of each; a file that only root may read is left out."""
    known = {(z.nid, ZONE_NAMES[z.zid]): z for z in zones}
    try:
        lines = list(_lines(path))
    except (FileNotFoundError, PermissionError):
        return
    names: list[str] = []
    fresh: set[tuple[int, str]] = set()
    for line, where in lines:
        found = _ZONE.match(line)
        if line.startswith("Number of blocks type"):
            names = line.removeprefix("Number of blocks type").split()
        elif not found or (key := (int(found[1]), found[2])) not in known:
            continue
        elif kind := re.match(r", type +(\w+)", line[found.end() :]):
            free = known[key].free
            if key not in fresh:
                fresh.add(key)
                free[:] = [[0] * 4 for _ in range(MAX_ORDER)]
            counts = _numbers(line[found.end() + kind.end() :].split(), MAX_ORDER, where)
            for order, blocks in enumerate(counts):
                free[order][TYPES.get(kind[1], 1)] += blocks
        elif names and not known[key].blocks:
            blocks_of = [0] * 4
            for name, blocks in zip(names, _numbers(line[found.end() :].split(), len(names), where), strict=True):
                blocks_of[TYPES.get(name, 1)] += blocks
            known[key].blocks = blocks_of


def read_sysctls(root: Path) -> dict[str, list[int]]:
    """Those of sys/vm that a state has, as far as they are there."""
    values = {}
    for name in SYSCTLS:
        path = root / "sys" / "vm" / name
        if path.is_file():
            words = path.read_text().split()
            values[name] = _numbers(words, len(words), str(path))
    return values


def cpu_nodes(root: Path, cpus: int, nodes: list[int]) -> list[int]:
    """The node of each CPU: as sys/devices/system/node beside the directory says, else one after the other in turn."""
    found = dict.fromkeys(range(cpus), -1)
    for nid in nodes:
        path = root.parent / "sys" / "devices" / "system" / "node" / f"node{nid}" / "cpulist"
        if path.is_file():
            for part in filter(None, path.read_text().strip().split(",")):
                first, _, last = part.partition("-")
                found |= dict.fromkeys(range(int(first), min(int(last or first), cpus - 1) + 1), nid)
    spread = [nodes[cpu * len(nodes) // cpus] for cpu in range(cpus)]
    return [nid if nid >= 0 else spread[cpu] for cpu, nid in found.items()]
