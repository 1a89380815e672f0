"""How long the free lists are: counted by walking them, as ``/proc/pagetypeinfo`` does, but without a lock."""

import numpy as np

from emu.zone.list import link_of
from emu.zone.mmzone import MAX_ORDER, MIGRATE_TYPES, Machine, Zone
from emu.zone.types import ListHead, list_head_at
from shm import loader
from shm.core import as_entries, core, entry
from shm.struct import Array, Struct, array, i64, record_at, struct

__all__ = ["MOST", "free_blocks", "load_free_blocks"]

MOST = (
    100_000  # entries of a list that are counted: mm/vmstat.c:pagetypeinfo_showfree_print() (5.10) has this limit too
)


@struct
class Lengths(Struct):
    """Entries of the lists of a zone, by order and migratetype."""

    counts: Array[int] = array(i64, MAX_ORDER * MIGRATE_TYPES)


@core
def length_of_moving_list(m: Machine, head: ListHead) -> int:
    """Entries of a list that others may change meanwhile: what is no page ends it, and who strays onto another list
    comes to an end there or at :data:`MOST`."""
    end = link_of(m, head)
    link = head.next
    entries = 0
    while link != end and entries < MOST and m.mem_map_link <= link < m.mem_map_link + (m.max_pfn << 3):
        entries += 1
        link = list_head_at(m, link << 2).next
    return entries


@entry
def count_free_blocks(m: Machine, zone: Zone, lengths: Lengths) -> None:
    """All free lists of a zone."""
    for order in range(MAX_ORDER):
        for mt in range(MIGRATE_TYPES):
            lengths.counts[order * MIGRATE_TYPES + mt] = length_of_moving_list(m, zone.free_area[order].free_list[mt])


_ENTRIES = as_entries(count_free_blocks)


def load_free_blocks() -> None:
    """Native code for :func:`free_blocks`."""
    loader.load(_ENTRIES)


def free_blocks(m: Machine, zone: Zone) -> tuple[tuple[int, ...], ...]:
    """Free blocks of a zone, ``[order][migratetype]``."""
    table = np.zeros((MAX_ORDER, MIGRATE_TYPES), np.int64)
    count_free_blocks(m, zone, record_at(Lengths, table.ctypes.data))
    return tuple(tuple(int(n) for n in row) for row in table)
