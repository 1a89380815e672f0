"""Is a page in the state that a free page must be in? (``mm/page_alloc.c:page_expected_state() (5.10)``)"""

from emu.zone.event import EV_BAD_PAGE, record
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PAGE_FLAGS_CHECK_AT_FREE, PAGE_FLAGS_CHECK_AT_PREP, PAGE_TYPES, PG_hwpoison, PG_kmemcg
from emu.zone.page import clear_flag, pfn_to_page
from shm.core import core
from shm.scan import all_match, matches

BAD_REASONS = (
    "nonzero mapcount",
    "non-NULL mapping",
    "nonzero _refcount",
    "PAGE_FLAGS_CHECK_AT_PREP flag(s) set",
    "PAGE_FLAGS_CHECK_AT_FREE flag(s) set",
    "page still charged to cgroup",
    "corrupted mapping in tail page",
    "PageTail not set",
    "compound_head not consistent",
    "VM_BUG_ON_PAGE(page_ref_count(page) == 0)",
)
BAD_REF_ZERO = 9
_UNUSED = "mapcount=-1 mapping=0 refcount=0"
_AT_PREP = PAGE_FLAGS_CHECK_AT_PREP | PG_hwpoison | PAGE_TYPES | PG_kmemcg
_AT_FREE = PAGE_FLAGS_CHECK_AT_FREE | PAGE_TYPES | PG_kmemcg
NEW_PAGE = f"{_UNUSED} page_flags&{_AT_PREP}=0"
FREE_PAGE = f"{_UNUSED} page_flags&{_AT_FREE}=0"
CLEAN_PAGE = f"{_UNUSED} page_flags&{_AT_FREE | PAGE_FLAGS_CHECK_AT_PREP}=0"  # and no flag is to be cleared
CLEAN_TAIL_PAGE = CLEAN_PAGE.replace("mapping=0", "")


@core(cold=True)
def bad_page(m: Machine, cpu: Cpu, pfn: int, reason: int) -> None:
    """``mm/page_alloc.c:bad_page() (5.10)``: report, and take away what would make it worse (PageBuddy)."""
    page = page_record(m, pfn_to_page(m, pfn))
    fields = (page.refcount & 0xFFFF) | (page.mapcount & 0xFFFF) << 16 | page.mapping << 32
    record(m, cpu, EV_BAD_PAGE, pfn, 0, 0, page.page_flags, reason, fields)
    page.mapcount = -1
    clear_flag(page, PAGE_TYPES)


@core(cold=True)
def bad_reason(page: Page, flags: int, at_prep: int) -> int:
    """``page_bad_reason()``: the last of the kernel's tests that fails."""
    reason = 0
    if page.mapping != 0:
        reason = 1
    if page.refcount != 0:
        reason = 2
    if page.page_flags & flags != 0:
        reason = 3 if at_prep != 0 else 4
    if page.page_flags & PG_kmemcg != 0:
        reason = 5
    return reason


@core(cold=True)
def check_free_page_bad(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``check_free_page_bad()``"""
    bad_page(m, cpu, pfn, bad_reason(page_record(m, pfn_to_page(m, pfn)), PAGE_FLAGS_CHECK_AT_FREE, 0))


@core(inline=True)
def check_free_page(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``check_free_page()``: true if bad."""
    if matches(page_record(m, pfn_to_page(m, pfn)), FREE_PAGE):
        return False
    check_free_page_bad(m, cpu, pfn)
    return True


@core(cold=True)
def check_new_page_bad(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``check_new_page_bad()``: hwpoisoned pages are dropped without a word."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags & PG_hwpoison != 0:
        clear_flag(page, PAGE_TYPES)
        return
    bad_page(m, cpu, pfn, bad_reason(page, PAGE_FLAGS_CHECK_AT_PREP, 1))


@core(inline=True)
def check_new_page(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``check_new_page()``: true if bad."""
    page = page_record(m, pfn_to_page(m, pfn))
    # field by field: the page was just written so, and a wider read would have to wait until that is in the cache
    if (page.mapcount + 1) | page.mapping | page.refcount | (page.page_flags & _AT_PREP) == 0:
        return False
    check_new_page_bad(m, cpu, pfn)
    return True


@core(inline=True)
def check_new_pages(m: Machine, cpu: Cpu, pfn: int, order: int) -> bool:
    """``check_new_pages()``: true if one is bad; the first is reported. All are looked at before any branch."""
    if all_match(page_record(m, pfn_to_page(m, pfn)), 1 << order, NEW_PAGE):
        return False
    return find_bad_new_page(m, cpu, pfn, order)


@core(cold=True)
def find_bad_new_page(m: Machine, cpu: Cpu, pfn: int, order: int) -> bool:
    """The page that :func:`check_new_pages` noticed."""
    for at in range(pfn, pfn + (1 << order)):
        if check_new_page(m, cpu, at):
            return True
    return False
