"""/sys/kernel/debug/extfrag: how much of the free memory is of use for each order (``mm/vmstat.c`` (5.10))."""

from collections.abc import Callable

from emu.proc.state import State, populated_zones

__all__ = ("fragmentation_index", "render_extfrag", "render_unusable", "unusable_free_index")


def _free_pages(nr_free: list[int], from_order: int = 0) -> int:
    return sum(blocks << order for order, blocks in enumerate(nr_free) if order >= from_order)


def unusable_free_index(nr_free: list[int], order: int) -> int:
    """``unusable_free_index()``: 0, all free pages are in blocks large enough, to 1000, none is."""
    free = _free_pages(nr_free)
    return 1000 if not free else (free - _free_pages(nr_free, order)) * 1000 // free


def fragmentation_index(nr_free: list[int], order: int) -> int:
    """``__fragmentation_index()``: -1000, a block is there; else from 0, memory is short, to 1000, it is in pieces."""
    blocks = sum(nr_free)
    if not blocks:
        return 0
    if any(nr_free[order:]):
        return -1000
    return 1000 - (1000 + _free_pages(nr_free) * 1000 // (1 << order)) // blocks


def _thousandths(index: int) -> str:
    """``%d.%03d`` of the quotient and the remainder, both with C's sign: -1000 is ``-1.000``."""
    quotient = abs(index) // 1000 * (-1 if index < 0 else 1)
    remainder = abs(index) % 1000 * (-1 if index < 0 else 1)
    return f"{quotient}.{remainder:03d}"


def _render(state: State, index: Callable[[list[int], int], int]) -> str:
    lines = []
    for zone in (zone for node in state["nodes"] for zone in populated_zones(state, node["nid"])):
        nr_free = [int(area["nr_free"]) for area in zone["free_area"]]
        values = "".join(f"{_thousandths(index(nr_free, order))} " for order in range(state["max_order"]))
        lines.append(f"Node {zone['nid']}, zone {zone['name']:>8} {values}\n")
    return "".join(lines)


def render_unusable(state: State) -> str:
    """``unusable_index``"""
    return _render(state, unusable_free_index)


def render_extfrag(state: State) -> str:
    """``extfrag_index``"""
    return _render(state, fragmentation_index)
