"""How much of a zone's free memory is of use for an order, from its free blocks (``mm/vmstat.c`` (5.10)).

Rows are samples, columns orders: the number of free blocks of each.
"""

from typing import Any

import numpy as np

from emu.zone.mmzone import MAX_ORDER

__all__ = ["extfrag_index", "unusable_free_index"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
_SIZES = 1 << np.arange(MAX_ORDER)


def _suitable(nr_free: Ints) -> Ints:
    """Free pages in blocks of an order or more."""
    return np.cumsum((nr_free * _SIZES)[:, ::-1], axis=1)[:, ::-1]


def unusable_free_index(nr_free: Ints) -> Ints:
    """``unusable_free_index()``: 0, all free pages are in blocks large enough, to 1000, none is. Of each sample and
    order."""
    suitable = _suitable(nr_free)
    free = suitable[:, :1]
    return np.where(free == 0, 1000, (free - suitable) * 1000 // np.maximum(free, 1))


def extfrag_index(nr_free: Ints) -> Ints:
    """``__fragmentation_index()``: -1000, a block is there; else from 0, memory is short, to 1000, it is in pieces."""
    suitable = _suitable(nr_free)
    free, blocks = suitable[:, :1], nr_free.sum(axis=1, keepdims=True)
    index = 1000 - (1000 + free * 1000 // _SIZES) // np.maximum(blocks, 1)
    return np.where(blocks == 0, 0, np.where(suitable > 0, -1000, index))
