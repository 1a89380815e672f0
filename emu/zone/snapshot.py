"""Looking into a machine's memory: views of its tables, its lists, and what its state is called as plain data.

The shape of a ``State`` is that of the recorded kernel cases (``before.json``): a machine's state can be compared with
a real kernel's, printed as /proc files, stored (:mod:`emu.zone.state_out`), and loaded into a machine of the same
geometry (:mod:`emu.zone.state_in`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from emu.zone.mmzone import (
    MAX_NR_ZONES, MAX_ORDER, PAGEBLOCK_ORDER, PAGESET_SIZE, Machine, Page, PageBlock, Pageset, Zone,
)  # fmt: skip
from emu.zone.types import ListHead
from shm.struct import Struct, address_of, record_at, records_at

State = dict[str, Any]


INDEX_BEFORE = 0xB4  # ``page.index`` of a page in use that nobody here allocated: it was so in the loaded state


class StateError(ValueError):
    """A state that can't be loaded: what is wrong with it, in one line."""


def view(m: Machine, kind: type[Struct], offset: int, count: int) -> np.ndarray[Any, Any]:
    """A numpy view of ``count`` records at an offset of the segment."""
    return records_at(kind, address_of(m) + offset, count)


def mem_map(m: Machine) -> np.ndarray[Any, Any]:
    """All struct pages, by pfn."""
    return view(m, Page, m.mem_map, m.max_pfn)


def pageblocks(m: Machine) -> np.ndarray[Any, Any]:
    """All pageblocks' bits, by pfn >> 9."""
    return view(m, PageBlock, m.pageblocks, m.max_pfn >> PAGEBLOCK_ORDER)["bits"]


def pageset_of(m: Machine, zone: Zone, index: int) -> Pageset:
    """A party's pageset of a zone."""
    return record_at(Pageset, address_of(m) + zone.pageset + index * PAGESET_SIZE)


def walk(m: Machine, head: ListHead, limit: int) -> Iterator[int]:
    """pfns on a list, head first. Stops with an error where a list is longer than the zone has pages."""
    base = address_of(m)
    here = (address_of(head) - base) >> 2
    link = head.next
    seen = 0
    while link != here:
        if seen > limit or not 0 <= (link - m.mem_map_link) >> 3 < m.max_pfn:
            raise StateError(f"list at offset {here << 2:#x} is corrupt after {seen} entries (link {link:#x})")
        yield (link - m.mem_map_link) >> 3
        link = ListHead.from_address(base + (link << 2)).next
        seen += 1


def walk_running(m: Machine, head: ListHead, limit: int) -> list[int]:
    """``walk()`` in a running machine, whose lists change under it: it begins again when it loses its way."""
    for _ in range(100):
        try:
            return list(walk(m, head, limit))
        except StateError:
            continue
    raise StateError("the lists change too fast to be walked: try again when the machine is idle")


def list_count(m: Machine, head: ListHead, limit: int) -> int:
    """Entries on a list of a running machine."""
    return len(walk_running(m, head, limit))


def nr_free_pages(m: Machine) -> int:
    """Pages on free lists and pcp lists, by the lists' own counts."""
    found = 0
    for zone in (m.nodes[nid].node_zones[zid] for nid in range(m.nr_nodes) for zid in range(MAX_NR_ZONES)):
        found += sum(zone.free_area[order].nr_free << order for order in range(MAX_ORDER))
        found += sum(pageset_of(m, zone, index).count for index in range(m.nr_parties))
    return int(found)
