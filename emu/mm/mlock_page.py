"""Single pages becoming unevictable and evictable again (``mm/mlock.c`` (5.10))."""

from emu.mm.isolate_lru import isolate_lru_page, putback_lru_page
from emu.zone.lru import mod_zone_page_state
from emu.zone.mmzone import Cpu, Machine, page_record, zone_at
from emu.zone.page import PG_mlocked, PG_unevictable, page_zone, pfn_to_page
from emu.zone.page_ref import TestClearPageFlag, TestSetPageFlag, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import NR_MLOCK, UNEVICTABLE_PGCLEARED, UNEVICTABLE_PGMLOCKED, UNEVICTABLE_PGSTRANDED
from shm.core import core


@core(cold=True)
def clear_page_mlock(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/mlock.c:clear_page_mlock() (5.10)``: the last mapping of a page went away while it was mlocked."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not TestClearPageFlag(page, PG_mlocked):
        return
    mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_MLOCK, -1)
    __count_vm_events(cpu, UNEVICTABLE_PGCLEARED, 1)
    if isolate_lru_page(m, cpu, pfn) == 0:
        putback_lru_page(m, cpu, pfn)
    elif test_flag(page, PG_unevictable):
        __count_vm_events(cpu, UNEVICTABLE_PGSTRANDED, 1)


@core(cold=True)
def mlock_vma_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/mlock.c:mlock_vma_page() (5.10)``: a page in a locked area; it goes to the unevictable list. Page locked."""
    page = page_record(m, pfn_to_page(m, pfn))
    if TestSetPageFlag(page, PG_mlocked):
        return
    mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_MLOCK, 1)
    __count_vm_events(cpu, UNEVICTABLE_PGMLOCKED, 1)
    if isolate_lru_page(m, cpu, pfn) == 0:
        putback_lru_page(m, cpu, pfn)
