"""Movable pages that are on no LRU list (``mm/compaction.c``, ``migrate.c``, ``balloon_compaction.c`` (5.10)).

``mapping`` of such a page is its driver's number << 2 | PAGE_MAPPING_MOVABLE, or PAGE_MAPPING_MOVABLE alone once the
driver has let go of it. What the driver does when a page is isolated, moved and put back is behind three seams; their
bodies here are those of a driver that keeps nothing but the page itself, such as a balloon's.
"""

from emu.mm.page_lock import lock_page, trylock_page, unlock_page
from emu.mm.pagevec import put_page
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PAGE_MAPPING_FLAGS, PAGE_MAPPING_MOVABLE, PG_reclaim, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, get_page, get_page_unless_zero, test_flag
from shm.core import core, seam

EBUSY = 16
PG_isolated = PG_reclaim  # the same bit, as in the kernel: of a page that is on no LRU list


@seam
def isolate_page(m: Machine, cpu: Cpu, pfn: int, mode: int) -> bool:
    """``address_space_operations.isolate_page``: the driver takes the page off its own list, or refuses."""
    return True


@seam
def migratepage(m: Machine, cpu: Cpu, newpfn: int, pfn: int, mode: int) -> int:
    """``address_space_operations.migratepage``: 0 or -errno. The driver's reference moves to the new page."""
    page = page_record(m, pfn_to_page(m, pfn))
    new = page_record(m, pfn_to_page(m, newpfn))
    get_page(new)
    new.mapping = page.mapping
    new.index = page.index
    page.mapping = PAGE_MAPPING_MOVABLE
    put_page(m, cpu, pfn)
    return 0


@seam
def putback_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``address_space_operations.putback_page``: back onto the driver's list, of which this one has none."""
    return


@core(inline=True)
def __PageMovable(page: Page) -> bool:
    """``__PageMovable()``: by the mapping's low bits; without the page lock that may be wrong."""
    return page.mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE


@core(inline=True)
def PageMovable(page: Page) -> bool:
    """``mm/compaction.c:PageMovable() (5.10)``: the driver still owns it; the page is locked."""
    return page.mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE and page.mapping != PAGE_MAPPING_MOVABLE


@core(cold=True)
def isolate_movable_page(m: Machine, cpu: Cpu, pfn: int, mode: int) -> int:
    """``mm/migrate.c:isolate_movable_page() (5.10)``: 0 with a reference and PG_isolated, or -EBUSY."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not get_page_unless_zero(page):
        return -EBUSY
    if __PageMovable(page) and trylock_page(page):
        isolated = False
        if PageMovable(page) and not test_flag(page, PG_isolated):
            isolated = isolate_page(m, cpu, pfn, mode) != 0
        if isolated:
            SetPageFlag(page, PG_isolated)
        unlock_page(m, cpu, pfn)
        if isolated:
            return 0
    put_page(m, cpu, pfn)
    return -EBUSY


@core(cold=True)
def putback_movable_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/migrate.c:putback_movable_page() (5.10)`` under the page lock, unless the driver has let go of the page
    meanwhile; drops isolation's reference."""
    page = page_record(m, pfn_to_page(m, pfn))
    lock_page(m, cpu, pfn)
    if PageMovable(page):
        putback_page(m, cpu, pfn)
    ClearPageFlag(page, PG_isolated)
    unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)


@core(cold=True)
def move_movable_page(m: Machine, cpu: Cpu, newpfn: int, pfn: int, mode: int) -> int:
    """``mm/migrate.c:move_to_new_page() (5.10)`` for a page on no LRU list: 0 also when it was let go meanwhile."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not PageMovable(page):
        ClearPageFlag(page, PG_isolated)
        return 0
    rc = migratepage(m, cpu, newpfn, pfn, mode)
    if rc == 0:
        ClearPageFlag(page, PG_isolated)
    return rc
