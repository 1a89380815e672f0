"""Unmapped pages are collected and freed together (``mm/mmu_gather.c`` (5.10)).

The first eight of them fit in the gather itself; for each 510 more a page is allocated without waiting, and where there
is none, what was collected is freed first. Here their pfns lie in a table of the CPU, and those pages are only held.
"""

from emu.cpu.free import __free_pages
from emu.mm.alloc import alloc_page
from emu.mm.pagevec import begin_release, end_release, held_lock, lru_add_drain, release_page
from emu.mm.swap_state import free_swap_cache
from emu.zone.gfp import __GFP_NOWARN, GFP_NOWAIT
from emu.zone.mm_types import (
    GATHER_SIZE, MAX_GATHER_BATCH, MAX_GATHER_BATCH_COUNT, MMU_GATHER_BUNDLE, gather_pages, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, pfn_to_page
from shm.core import OnStack, core
from shm.struct import Struct, i64, struct


@struct
class MmuGather(Struct):
    """``struct mmu_gather``"""

    nr: int = i64()
    room: int = i64()  # pages that fit without another batch
    batch_count: int = i64()
    gathered: int = i64()  # offset of the CPU's GatherPages
    force_flush: int = i64()  # a dirty mapping of a file was cleared: free what there is once the page table is done


mmu_gather = OnStack(MmuGather)


@core
def tlb_gather_mmu(m: Machine, cpu: Cpu, tlb: MmuGather) -> None:
    """``tlb_gather_mmu()``: a CPU unmaps one range at a time, so it has one table."""
    tlb.gathered = vm_at(m, m.vm).gathers + cpu.party.index * GATHER_SIZE
    tlb.nr = 0
    tlb.room = MMU_GATHER_BUNDLE
    tlb.batch_count = 0
    tlb.force_flush = 0


@core
def tlb_next_batch(m: Machine, cpu: Cpu, tlb: MmuGather) -> bool:
    """``mm/mmu_gather.c:tlb_next_batch() (5.10)``: room for more; one that was there before a flush is used again."""
    used = (tlb.room - MMU_GATHER_BUNDLE) // MAX_GATHER_BATCH
    if used == tlb.batch_count:
        if tlb.batch_count == MAX_GATHER_BATCH_COUNT:
            return False
        pfn = alloc_page(m, cpu, GFP_NOWAIT | __GFP_NOWARN)
        if pfn == NULL:
            return False
        gather_pages(m, tlb.gathered).batches[tlb.batch_count] = pfn
        tlb.batch_count += 1
    tlb.room += MAX_GATHER_BATCH
    return True


@core
def tlb_remove_page(m: Machine, cpu: Cpu, tlb: MmuGather, pfn: int) -> bool:
    """``__tlb_remove_page()``: its reference is the gather's now; true: flush before the next."""
    gather_pages(m, tlb.gathered).pages[tlb.nr] = pfn
    tlb.nr += 1
    return tlb.nr == tlb.room and not tlb_next_batch(m, cpu, tlb)


@core
def release_batch(m: Machine, cpu: Cpu, tlb: MmuGather, start: int, end: int) -> None:
    """``mm/swap.c:release_pages() (5.10)`` of one batch."""
    held = held_lock()
    begin_release(m, cpu, held)
    for i in range(start, end):
        release_page(m, cpu, page_record(m, pfn_to_page(m, gather_pages(m, tlb.gathered).pages[i])), held)
    end_release(m, cpu, held)


@core
def tlb_flush_mmu(m: Machine, cpu: Cpu, tlb: MmuGather) -> None:
    """``mm/mmu_gather.c:tlb_flush_mmu() (5.10)``: free what was collected, batch by batch; pages that only the swap
    cache still holds leave it (``free_pages_and_swap_cache()``)."""
    start = 0
    end = MMU_GATHER_BUNDLE
    while start < tlb.nr:
        end = min(end, tlb.nr)
        lru_add_drain(m, cpu)
        for i in range(start, end):
            free_swap_cache(m, cpu, gather_pages(m, tlb.gathered).pages[i])
        release_batch(m, cpu, tlb, start, end)
        start = end
        end += MAX_GATHER_BATCH
    tlb.nr = 0
    tlb.room = MMU_GATHER_BUNDLE


@core
def tlb_finish_mmu(m: Machine, cpu: Cpu, tlb: MmuGather) -> None:
    """``mm/mmu_gather.c:tlb_finish_mmu() (5.10)``"""
    tlb_flush_mmu(m, cpu, tlb)
    for i in range(tlb.batch_count):
        __free_pages(m, cpu, gather_pages(m, tlb.gathered).batches[i], 0)
    tlb.batch_count = 0
