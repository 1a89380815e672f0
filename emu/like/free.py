"""What /proc/buddyinfo and /proc/pagetypeinfo say of the zones."""

import re
from pathlib import Path

from emu.like.files import LikeError, lines_of, numbers
from emu.like.zoneinfo import ZONE, ZoneFacts
from emu.zone.mmzone import MAX_ORDER, MIGRATE_MOVABLE, ZONE_NAMES

__all__ = ["read_free"]

TYPES = {"Unmovable": 0, "Movable": 1, "Reclaimable": 2, "HighAtomic": 3, "CMA": 1, "Isolate": 1}
"""Migratetype -> the one that stands for it: what contiguous allocations or hotplug have taken is movable here."""
_TYPE = re.compile(r", type +(\w+)")
Zones = dict[tuple[int, str], ZoneFacts]


def read_free(root: Path, zones: list[ZoneFacts]) -> bool:
    """Give the zones their free blocks and pageblocks by type. False: pagetypeinfo can't be read, all is movable."""
    known = {(zone.nid, ZONE_NAMES[zone.zid]): zone for zone in zones}
    _read_buddyinfo(root / "buddyinfo", known)
    try:
        lines = list(lines_of(root / "pagetypeinfo"))
    except (FileNotFoundError, PermissionError):
        return False
    _read_pagetypeinfo(root / "pagetypeinfo", lines, known)
    return True


def _read_buddyinfo(path: Path, known: Zones) -> None:
    """Free blocks by order; all movable until pagetypeinfo says otherwise."""
    seen = set()
    for line, where in lines_of(path):
        if (found := ZONE.match(line)) and (key := (int(found[1]), found[2])) in known:
            for order, blocks in enumerate(numbers(line[found.end() :].split(), MAX_ORDER, where)):
                known[key].free[order][MIGRATE_MOVABLE] = blocks
            seen.add(key)
    for nid, name in known.keys() - seen:
        raise LikeError(f"{path}: no line for node {nid} {name}: cut short?")


def _read_pagetypeinfo(path: Path, lines: list[tuple[str, str]], known: Zones) -> None:
    typed: dict[tuple[int, str], list[list[int]]] = {}
    capped: list[tuple[tuple[int, str], int, int]] = []  # zone, order, type: ``>100000``, so many or more
    names: list[str] = []
    for line, where in lines:
        found = ZONE.match(line)
        if line.startswith("Number of blocks type"):
            names = line.removeprefix("Number of blocks type").split()
        elif not found or (key := (int(found[1]), found[2])) not in known:
            continue
        elif kind := _TYPE.match(line, found.end()):
            free, mt = typed.setdefault(key, [[0] * 4 for _ in range(MAX_ORDER)]), _type(kind[1])
            words = line[kind.end() :].split()
            for order, blocks in enumerate(numbers([word.lstrip(">") for word in words], MAX_ORDER, where)):
                free[order][mt] += blocks
            capped += [(key, order, mt) for order, word in enumerate(words[:MAX_ORDER]) if word.startswith(">")]
        elif names and not known[key].blocks:
            known[key].blocks = [0] * 4
            for name, blocks in zip(names, numbers(line[found.end() :].split(), len(names), where), strict=True):
                known[key].blocks[_type(name)] += blocks
    for key, order, mt in capped:  # buddyinfo has the true sum
        typed[key][order][mt] += max(sum(known[key].free[order]) - sum(typed[key][order]), 0)
    for key, zone in known.items():
        if key not in typed or not zone.blocks:
            raise LikeError(f"{path}: no {'pageblocks' if key in typed else 'free blocks'} of {zone.name}: cut short?")
        zone.free = typed[key]


def _type(name: str) -> int:
    return TYPES.get(name, MIGRATE_MOVABLE)
