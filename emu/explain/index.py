"""How much of a zone's free memory is of use for an order (``mm/vmstat.c`` (5.10))."""

from emu.explain.dump import DumpZone

__all__ = ["fragmentation_index", "in_blocks", "unusable_index"]


def in_blocks(zone: DumpZone, order: int) -> int:
    """Free pages in blocks of an order or more."""
    return sum(count << at for at, count in enumerate(zone.counts) if at >= order)


def fragmentation_index(zone: DumpZone, order: int) -> int | None:
    """``__fragmentation_index()``, in thousandths; None while a block is there, or nothing at all."""
    blocks = sum(zone.counts)
    if not blocks or in_blocks(zone, order):
        return None
    free = sum(count << at for at, count in enumerate(zone.counts))
    return 1000 - (1000 + free * 1000 // (1 << order)) // blocks


def unusable_index(zone: DumpZone, order: int, useless: set[str]) -> float:
    """Share of the free memory that an order can't use: in smaller blocks, or on lists that are ``useless`` alone."""
    free = sum(count << at for at, count in enumerate(zone.counts))
    usable = sum(
        count << at
        for at, (count, letters) in enumerate(zip(zone.counts, zone.letters, strict=True))
        if at >= order and not (letters and set(letters) <= useless)
    )
    return (free - usable) / free if free else 0.0
