"""Allocating pages for users of memory: one call, so that the fast path isn't repeated in all of them."""

from emu.cpu.page_alloc import alloc_pages
from emu.zone.mmzone import Cpu, Machine
from shm.core import core


@core(cold=True)
def alloc_page(m: Machine, cpu: Cpu, gfp: int) -> int:
    """``alloc_page()``: a pfn, or -1."""
    return alloc_pages(m, cpu, gfp, 0)
