"""References and atomic flags of pages (``include/linux/page_ref.h``, ``page-flags.h`` (5.10)).

A page in the page cache, on a pagevec, mapped or isolated is referenced by each of them. Flags of such a page change
under several owners at once, so they are set atomically here; ``emu.zone.page.set_flag`` is for a page that only its
caller can see.
"""

from emu.zone.mmzone import Page
from shm.atomic import cmpxchg, fetch_add, fetch_and, fetch_or, load_acquire
from shm.core import core

KEEP = (1 << 32) - 1


@core(inline=True)
def page_count(page: Page) -> int:
    """``page_count()`` of a page that is no tail."""
    return load_acquire(page, "refcount")


@core(inline=True)
def get_page(page: Page) -> None:
    """``get_page()``: the caller holds a reference already."""
    fetch_add(page, "refcount", 1)


@core
def get_page_unless_zero(page: Page) -> bool:
    """``get_page_unless_zero()``: a reference to a page that may be on its way out."""
    while True:
        count = load_acquire(page, "refcount")
        if count <= 0:
            return False
        if cmpxchg(page, "refcount", count, count + 1) == count:
            return True


@core(inline=True)
def put_page_testzero(page: Page) -> bool:
    """``put_page_testzero()``: true for the last reference."""
    return fetch_add(page, "refcount", -1) == 1


@core(inline=True)
def page_ref_freeze(page: Page, count: int) -> bool:
    """``page_ref_freeze()``: to 0 if exactly ``count`` references are held, so that nobody can take another."""
    return cmpxchg(page, "refcount", count, 0) == count


@core(inline=True)
def page_ref_unfreeze(page: Page, count: int) -> None:
    """``page_ref_unfreeze()``"""
    fetch_add(page, "refcount", count)


@core(inline=True)
def test_flag(page: Page, flag: int) -> bool:
    """``PageFlag()``"""
    return load_acquire(page, "page_flags") & flag != 0


@core(inline=True)
def SetPageFlag(page: Page, flag: int) -> None:
    """``SetPageFlag()``"""
    fetch_or(page, "page_flags", flag)


@core(inline=True)
def ClearPageFlag(page: Page, flag: int) -> None:
    """``ClearPageFlag()``"""
    fetch_and(page, "page_flags", KEEP - flag)


@core(inline=True)
def TestSetPageFlag(page: Page, flag: int) -> bool:
    """``TestSetPageFlag()``: whether it was set before."""
    return fetch_or(page, "page_flags", flag) & flag != 0


@core(inline=True)
def TestClearPageFlag(page: Page, flag: int) -> bool:
    """``TestClearPageFlag()``: whether it was set before."""
    return fetch_and(page, "page_flags", KEEP - flag) & flag != 0
