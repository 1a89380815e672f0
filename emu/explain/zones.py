"""Which zones a kernel has, and which of them a request may use.

A report shows populated zones only, but ``lowmem_reserve[]`` has a column for every zone that the kernel was built
with, and which column a request reads follows from its mask. So the columns are given names here: the ones that
explain all rows of a report.
"""

from itertools import combinations

from emu.explain.dump import ZONE_ORDER, Dump

__all__ = ["gfp_zone", "node_set", "zone_columns"]

_OPTIONAL = ("DMA", "DMA32", "Device", "HighMem")  # Normal and Movable are always there


def zone_columns(dump: Dump) -> tuple[str, ...]:
    """The kernel's zones in the order of ``lowmem_reserve[]``."""
    shown = {zone.name for zone in dump.zones}
    width = max(len(zone.lowmem_reserve) for zone in dump.zones)
    candidates = []
    for size in range(len(_OPTIONAL) + 1):
        for extra in combinations(_OPTIONAL, size):
            names = shown | {"Normal", "Movable", *extra}
            columns = tuple(name for name in ZONE_ORDER if name in names)
            if columns not in candidates:
                candidates.append(columns)
    same = sorted((c for c in candidates if len(c) == width), key=lambda c: ("HighMem" in c) != dump.highmem)
    fitting = [c for c in same if _fits(dump, c)]
    return (fitting or same or [tuple(n for n in ZONE_ORDER if n in shown | {"Normal", "Movable"})])[0]


def _fits(dump: Dump, columns: tuple[str, ...]) -> bool:
    """Whether each row is zero up to its own zone, and grows only where a zone has memory."""
    if "HighMem" in columns and "DMA32" in columns:
        return False  # one is for 32 bits, the other for 64
    for zone in dump.zones:
        row, own = zone.lowmem_reserve, columns.index(zone.name)
        if any(row[: own + 1]):
            return False
        populated = {z.name for z in dump.zones if z.nid == zone.nid and z.kb.get("managed", 1)} | {"Device"}
        if dump.highmem:
            populated |= {"HighMem", "Movable"}
        for at in range(own + 1, len(row)):
            grows = row[at] > row[at - 1]
            if grows and columns[at] not in populated:
                return False
    return True


def gfp_zone(flags: frozenset[str], columns: tuple[str, ...]) -> int:
    """``gfp_zone()``: column of the highest zone that the mask allows."""
    name = "Normal"
    if "DMA" in flags:
        name = "DMA"
    elif "DMA32" in flags:
        name = "DMA32"
    elif {"HIGHMEM", "MOVABLE"} <= flags:
        name = "Movable"
    elif "HIGHMEM" in flags:
        name = "HighMem"
    return columns.index(name if name in columns else "Normal")


def node_set(text: str) -> set[int]:
    """``0-1,4`` as numbers."""
    nodes: set[int] = set()
    for run in text.split(",") if text else ():
        first, _, last = run.partition("-")
        nodes |= set(range(int(first), int(last or first) + 1))
    return nodes
