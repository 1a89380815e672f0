"""Emptying a contiguous range: clean page cache is dropped instead of being moved (``mm/vmscan.c`` (5.10))."""

from emu.compact.contig import reclaim_clean_pages
from emu.reclaim.shrink_page_list import reclaim_clean_pages_from_list
from emu.zone.mmzone import Cpu, Machine, Zone
from shm.core import implements


@implements(reclaim_clean_pages)
def drop_clean_pages(m: Machine, cpu: Cpu, zone: Zone, which: int) -> int:
    """``mm/vmscan.c:reclaim_clean_pages_from_list() (5.10)``, for ``__alloc_contig_migrate_range()``."""
    return reclaim_clean_pages_from_list(m, cpu, zone, which)
