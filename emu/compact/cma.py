"""The contiguous memory allocator: which parts of its area are given out (``mm/cma.c`` (5.10.262)).

Pages of the area that nobody has asked for serve movable requests meanwhile.
"""

from emu.compact.contig import EBUSY, EINTR, alloc_contig_pages, alloc_contig_range, free_contig_range
from emu.cpu.workqueue import poll
from emu.zone.gfp import GFP_KERNEL
from emu.zone.mm_types import SLOT_SIZE, CmaArea, slot_at, vm_at
from emu.zone.mmzone import MIGRATE_CMA, Cpu, Machine
from emu.zone.page import NULL
from shm.atomic import cmpxchg, futex_wait, futex_wake, load_acquire, store_release
from shm.core import as_entries, core, entry
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock
from shm.waitqueue import look_again

ANY = 0xFFFFFFFF
WORD_BITS = 32  # of a Slot, so that it stays positive
S_FIND = site("cma_alloc:bitmap lock")
S_CLEAR = site("cma_clear_bitmap:bitmap lock")


@core(inline=True)
def test_bit(m: Machine, cma: CmaArea, bit: int) -> bool:
    """Whether a page of the area is given out."""
    return slot_at(m, cma.bitmap + bit // WORD_BITS * SLOT_SIZE).value >> bit % WORD_BITS & 1 != 0


@core
def change_bitmap(m: Machine, cma: CmaArea, bit: int, count: int, given: int) -> None:
    """``bitmap_set()``, ``bitmap_clear()``; the lock is held."""
    for at in range(bit, bit + count):
        slot = slot_at(m, cma.bitmap + at // WORD_BITS * SLOT_SIZE)
        mask = 1 << at % WORD_BITS
        slot.value = slot.value | mask if given != 0 else slot.value & ~mask


@core
def bitmap_find_next_zero_area_off(m: Machine, cma: CmaArea, start: int, count: int, mask: int, offset: int) -> int:
    """``bitmap_find_next_zero_area_off()``: first bit of ``count`` clear ones from ``start`` on, such that it plus
    ``offset`` is a multiple of ``mask`` + 1; the size of the bitmap: there is none."""
    index = start
    while True:
        while index < cma.count and test_bit(m, cma, index):
            index += 1
        index = (index + offset + mask & ~mask) - offset
        if index + count > cma.count:
            return cma.count
        at = index
        while at < index + count and not test_bit(m, cma, at):
            at += 1
        if at == index + count:
            return index
        index = at + 1


@core(cold=True)
def cma_clear_bitmap(m: Machine, cpu: Cpu, cma: CmaArea, pfn: int, count: int) -> None:
    """``mm/cma.c:cma_clear_bitmap() (5.10)``"""
    spin_lock(cpu.party, cma.bitmap_lock, S_CLEAR)
    change_bitmap(m, cma, pfn - cma.base_pfn, count, 0)
    spin_unlock(cpu.party, cma.bitmap_lock)


@core(cold=True)
def claim(m: Machine, cpu: Cpu, cma: CmaArea, start: int, count: int, mask: int, offset: int) -> int:
    """Find and mark a part of the area that nobody has: its first bit, or -1."""
    spin_lock(cpu.party, cma.bitmap_lock, S_FIND)
    bit = bitmap_find_next_zero_area_off(m, cma, start, count, mask, offset)
    if bit >= cma.count:
        bit = -1
    else:
        change_bitmap(m, cma, bit, count, 1)
    spin_unlock(cpu.party, cma.bitmap_lock)
    return bit


@core(cold=True)
def contig_under_mutex(m: Machine, cpu: Cpu, cma: CmaArea, pfn: int, count: int) -> int:
    """``alloc_contig_range()`` of a claimed part, one at a time in the machine."""
    while True:
        owner = cmpxchg(cma, "cma_mutex", 0, cpu.party.index + 1)
        if owner == 0:
            break
        if load_acquire(m, "stop") != 0:
            return -EINTR
        poll(m, cpu)
        futex_wait(cma, "cma_mutex", owner, ANY, look_again(1_000_000))
    ret = alloc_contig_range(m, cpu, pfn, pfn + count, MIGRATE_CMA, GFP_KERNEL)
    store_release(cma, "cma_mutex", 0)
    futex_wake(cma, "cma_mutex", 1, ANY)
    return ret


@entry
def cma_alloc(m: Machine, cpu: Cpu, count: int, align: int) -> int:
    """``mm/cma.c:cma_alloc() (5.10.262)``: first pfn of ``count`` pages in a row, aligned to order ``align``, or NULL.

    A part that turns out to be busy is left for the next one. Differs from 5.10: a bit for every page
    (``order_per_bit`` 0), and a spinlock guards the bitmap.
    """
    cma = vm_at(m, m.vm).cma
    if count <= 0 or count > cma.count:
        return NULL
    mask = (1 << align) - 1
    offset = cma.base_pfn & mask
    start = 0
    while True:
        bit = claim(m, cpu, cma, start, count, mask, offset)
        if bit < 0:
            return NULL
        pfn = cma.base_pfn + bit
        ret = contig_under_mutex(m, cpu, cma, pfn, count)
        if ret == 0:
            return pfn
        cma_clear_bitmap(m, cpu, cma, pfn, count)
        if ret != -EBUSY:
            return NULL
        start = bit + mask + 1


@entry
def cma_release(m: Machine, cpu: Cpu, pfn: int, count: int) -> bool:
    """``mm/cma.c:cma_release() (5.10)``: false if the pages aren't the area's."""
    cma = vm_at(m, m.vm).cma
    if pfn < cma.base_pfn or count <= 0 or pfn + count > cma.base_pfn + cma.count:
        return False
    free_contig_range(m, cpu, pfn, count)
    cma_clear_bitmap(m, cpu, cma, pfn, count)
    return True


CMA_ENTRIES = as_entries(cma_alloc, cma_release, alloc_contig_range, alloc_contig_pages, free_contig_range)
