"""Looking into an address space: its areas, its page table entries, its counters (``mm/mmap.c``, ``include/linux/mm.h``
(5.10))."""

from emu.zone.mm_types import (
    MM_FILEPAGES, MM_SHMEMPAGES, SLOT_SIZE, Mm, file_at, file_record, mm_at, mm_record, slot_at, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Machine, Page
from emu.zone.page import PG_swapbacked
from shm.atomic import fetch_add, load_acquire
from shm.core import core

PLACE_SHIFT = 40  # a place: mm id << PLACE_SHIFT | slot
PLACE_MASK = (1 << PLACE_SHIFT) - 1


@core(inline=True)
def mm_offset(m: Machine, mm_id: int) -> int:
    """Offset of an address space by its id."""
    return mm_at(m, vm_at(m, m.vm), mm_id)


@core(inline=True)
def file_offset(m: Machine, file: int) -> int:
    """Offset of a file by its id."""
    return file_at(m, vm_at(m, m.vm), file)


@core(inline=True)
def pte_offset(mm: Mm, slot: int) -> int:
    """Offset of the page table entry of a slot."""
    return mm.pgd + slot * SLOT_SIZE


@core(inline=True)
def file_slot(m: Machine, file: int, index: int) -> int:
    """Offset of a file's slot."""
    return file_record(m, file_offset(m, file)).i_pages + index * SLOT_SIZE


@core
def find_vma(mm: Mm, slot: int) -> int:
    """``find_vma()`` that contains the slot: its number, or -1."""
    for i in range(mm.nr_vmas):
        if mm.vmas[i].start <= slot < mm.vmas[i].end:
            return i
    return -1


@core
def vma_flags(mm: Mm, slot: int) -> int:
    """The flags of the area that a slot lies in."""
    i = find_vma(mm, slot)
    return mm.vmas[i].vm_flags if i >= 0 else 0


@core(inline=True)
def add_mm_counter(mm: Mm, member: int, value: int) -> None:
    """``add_mm_counter()``: ``MM_*``."""
    fetch_add(mm.rss_stat[member], "counter", value)


@core(inline=True)
def get_mm_counter(mm: Mm, member: int) -> int:
    """``get_mm_counter()``: never negative."""
    x = load_acquire(mm.rss_stat[member], "counter")
    return x if x > 0 else 0


@core(inline=True)
def mm_counter_file(page: Page) -> int:
    """``mm_counter_file()``: which counter a page of a file counts in."""
    return MM_SHMEMPAGES if page.page_flags & PG_swapbacked != 0 else MM_FILEPAGES


@core
def rmap_places(m: Machine, mapping: int) -> int:
    """How many places may map a page with this ``page.mapping``; :func:`rmap_place` says where."""
    if mapping & 3 == 1:
        return 1
    if mapping & 3 != 0 or mapping == 0:
        return 0
    return file_record(m, file_offset(m, mapping >> 2)).nr_mmaps


@core
def rmap_place(m: Machine, mapping: int, index: int, which: int) -> int:
    """One place that may map slot ``index`` of the owner of a page, as mm id and slot; -1: this one doesn't.

    Nothing is locked: the page table entry there, under its lock, is what counts. An area keeps its number as long as
    it exists, and a mapping its place in ``i_mmap``.
    """
    if mapping & 3 == 1:
        return (mapping >> 2) << PLACE_SHIFT | index
    entry = file_record(m, file_offset(m, mapping >> 2)).i_mmap[which]
    if entry == 0:
        return -1
    vma = mm_record(m, mm_offset(m, entry >> 8)).vmas[entry & 255]
    slot = vma.start + index - vma.pgoff
    if vma.file != mapping >> 2 or slot < vma.start or slot >= vma.end:
        return -1
    return (entry >> 8) << PLACE_SHIFT | slot


@core(inline=True)
def place_mm(m: Machine, place: int) -> int:
    """Offset of the address space of a place."""
    return mm_offset(m, place >> PLACE_SHIFT)


@core(inline=True)
def place_pte(m: Machine, place: int) -> int:
    """Offset of the page table entry of a place."""
    return pte_offset(mm_record(m, place_mm(m, place)), place & PLACE_MASK)


@core
def pte_of(m: Machine, mm_id: int, slot: int) -> int:
    """A page table entry as it is now, read without a lock."""
    return load_acquire(slot_at(m, pte_offset(mm_record(m, mm_offset(m, mm_id)), slot)), "value")
