"""How much of a zone's free memory is of use for an order, over time.

Rows are samples, columns orders: the number of free blocks of each, and then the kernel's index of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from emu.proc.extfrag import fragmentation_index
from emu.proc.extfrag import unusable_free_index as unusable
from emu.zone.mmzone import MAX_ORDER

__all__ = ["extfrag_index", "unusable_free_index"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


def _each(index: Callable[[list[int], int], int], nr_free: Ints) -> Ints:
    return np.array([[index(row, order) for order in range(MAX_ORDER)] for row in nr_free.tolist()], np.int64)


def unusable_free_index(nr_free: Ints) -> Ints:
    """``unusable_free_index()`` of each sample and order, in thousandths."""
    return _each(unusable, nr_free)


def extfrag_index(nr_free: Ints) -> Ints:
    """``__fragmentation_index()`` of each sample and order, in thousandths."""
    return _each(fragmentation_index, nr_free)
