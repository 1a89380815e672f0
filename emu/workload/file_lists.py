"""The page cache of a state that a workload begins in: pages of the file lists, which reclaim can take."""

import numpy as np

from emu.mm.filemap import create_file
from emu.mm.vma import file_offset
from emu.workload.own_state import LISTS, fill_list
from emu.zone.lru import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE
from emu.zone.mm_types import AS_FILE, XA_PAGE, Slot, file_record
from emu.zone.mmzone import Machine
from emu.zone.page import ZONE_ID_MASK, PG_active, PG_lru, PG_uptodate
from emu.zone.snapshot import State, mem_map, view

__all__ = ["load_file_lists"]


def load_file_lists(m: Machine, state: State) -> int:
    """Put the pages of a loaded state's file lists on them, as one new file's, clean and mapped by nobody.

    Returns the file's id, 0 if there are none. Pages of the anonymous lists stay in use as they are.
    """
    pages, found = mem_map(m), []
    for lruvec in state.get("lruvecs", []):
        record = m.nodes[lruvec["nid"]].lruvecs[0]
        for lru in (LRU_INACTIVE_FILE, LRU_ACTIVE_FILE):
            pfns = lruvec["lists"][LISTS[lru]][0]
            fill_list(m, record, lru, pfns, pages)
            active = PG_active if lru == LRU_ACTIVE_FILE else 0
            pages["page_flags"][pfns] = pages["page_flags"][pfns] & ZONE_ID_MASK | PG_lru | PG_uptodate | active
            found += pfns
    if not found:
        return 0
    number = create_file(m, AS_FILE, len(found))
    file = file_record(m, file_offset(m, number))
    file.nrpages = len(found)
    view(m, Slot, file.i_pages, len(found))["value"] = np.array(found) << 2 | XA_PAGE
    pages["mapping"][found], pages["index"][found] = number << 2, np.arange(len(found))
    pages["refcount"][found], pages["mapcount"][found], pages["private"][found] = 1, -1, 0
    return int(number)
