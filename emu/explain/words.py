"""Amounts and names as sentences have them."""

from emu.explain.decide import Explanation
from emu.explain.dump import DumpZone

__all__ = ["LISTS", "blocks_of", "both", "kb", "zone_name"]

LISTS = {"U": "Unmovable", "M": "Movable", "E": "Reclaimable", "H": "HighAtomic", "C": "CMA", "I": "Isolate"}


def both(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def kb(amount: int) -> str:
    """``12,345 kB``"""
    return f"{amount:,} kB"


def zone_name(found: Explanation, zone: DumpZone) -> str:
    """``Node 0 DMA32``, or without the node where there is one."""
    many = len(found.dump.nodes) > 1
    return f"Node {zone.nid} {zone.name}" if many else zone.name


def blocks_of(zone: DumpZone) -> str:
    """The largest free blocks: ``3 of order 5``."""
    for order in reversed(range(len(zone.counts))):
        if zone.counts[order]:
            return f"{zone.counts[order]} of order {order}"
    return "none at all"
