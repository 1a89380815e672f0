"""A page on its way out and back in: references, compound pages, and the debugging that can be switched on."""

from emu.zone.event import EV_POISON, record
from emu.zone.gfp import __GFP_COMP, __GFP_ZERO, ALLOC_NO_WATERMARKS
from emu.zone.mmzone import (
    PAGE_EXT_SIZE, PD_INIT_ON_ALLOC, PD_INIT_ON_FREE, PD_OWNER, PD_POISON, Cpu, Machine, page_ext_record, page_record,
)  # fmt: skip
from emu.zone.page import pfn_to_page, prep_compound_page
from shm.atomic import clock_ns
from shm.core import core

PAGE_POISON = 0xAA


@core(cold=True)
def alloc_debug(m: Machine, cpu: Cpu, pfn: int, order: int, gfp: int) -> None:
    """``kernel_poison_pages(…, 1)``, ``set_page_owner()`` and zeroing, for every page of the block.

    Poisoning switches init_on_alloc and init_on_free off. Differs from 5.10: a page's content is one byte in its
    ``PageExt``.
    """
    debug = m.page_debug
    if debug & PD_POISON != 0:
        debug &= ~(PD_INIT_ON_ALLOC | PD_INIT_ON_FREE)
    zero = gfp & __GFP_ZERO != 0 or debug & PD_INIT_ON_ALLOC != 0
    for at in range(pfn, pfn + (1 << order)):
        ext = page_ext_record(m, m.page_ext + at * PAGE_EXT_SIZE)
        if m.page_debug & PD_POISON != 0 and ext.content != PAGE_POISON and ext.owner_cpu != 0:
            record(m, cpu, EV_POISON, at, order, 0, gfp, ext.content, 0)
        if zero and debug & PD_INIT_ON_FREE == 0:
            ext.content = 0
        if m.page_debug & PD_OWNER != 0:
            ext.order = order
            ext.gfp = gfp
            ext.ts = clock_ns()
        ext.owner_cpu = cpu.party.index + 1


@core(cold=True)
def free_debug(m: Machine, cpu: Cpu, pfn: int, order: int) -> None:
    """``reset_page_owner()``, init_on_free and ``kernel_poison_pages(…, 0)``."""
    for at in range(pfn, pfn + (1 << order)):
        ext = page_ext_record(m, m.page_ext + at * PAGE_EXT_SIZE)
        ext.order = -1
        ext.owner_cpu = -cpu.party.index - 1
        if m.page_debug & PD_INIT_ON_FREE != 0:
            ext.content = 0
        if m.page_debug & PD_POISON != 0:
            ext.content = PAGE_POISON


@core(inline=True)
def prep_new_page(m: Machine, cpu: Cpu, pfn: int, order: int, gfp_flags: int, alloc_flags: int) -> None:
    """``mm/page_alloc.c:prep_new_page() (5.10)`` with ``post_alloc_hook()``: one reference, no private data.

    ``index`` -1 marks a page from the reserves (pfmemalloc).
    """
    page = page_record(m, pfn_to_page(m, pfn))
    page.private = 0
    page.refcount = 1
    if m.page_debug != 0:
        alloc_debug(m, cpu, pfn, order, gfp_flags)
    if order != 0 and gfp_flags & __GFP_COMP != 0:
        prep_compound_page(m, pfn, order)
    page.index = -1 if alloc_flags & ALLOC_NO_WATERMARKS != 0 else 0
