"""Unmapped pages are collected and freed together (``mm/mmu_gather.c`` (5.10)).

The first eight of them fit in the gather itself; for each 510 more a page is allocated without waiting, and where there
is none, what was collected is freed first. Here their pfns lie in a table of the CPU, and those pages are only held.
"""

from emu.cpu.free import SWAP_CLUSTER_MAX, __free_pages
from emu.mm.alloc import alloc_page
from emu.mm.lruvec import lruvec_at, mem_cgroup_page_lruvec
from emu.mm.pagevec import free_page_list, lru_add_drain
from emu.mm.swap_state import free_swap_cache
from emu.zone.gfp import __GFP_NOWARN, GFP_NOWAIT
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD, list_add
from emu.zone.lru import del_page_from_lru_list, page_off_lru, page_to_nid
from emu.zone.mm_types import (
    GATHER_SIZE, MAX_GATHER_BATCH, MAX_GATHER_BATCH_COUNT, MMU_GATHER_BUNDLE, gather_pages, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_lru, PG_waiters, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, put_page_testzero, test_flag
from shm.core import OnStack, core
from shm.point import site
from shm.struct import Struct, i64, struct

NO_NODE = -1
S_RELEASE = site("release_pages:lru_lock of a batch")


@struct
class MmuGather(Struct):
    """``struct mmu_gather``"""

    nr: int = i64()
    room: int = i64()  # pages that fit without another batch
    batch_count: int = i64()
    gathered: int = i64()  # offset of the CPU's GatherPages


mmu_gather = OnStack(MmuGather)


@core
def tlb_gather_mmu(m: Machine, cpu: Cpu, tlb: MmuGather) -> None:
    """``tlb_gather_mmu()``: a CPU unmaps one range at a time, so it has one table."""
    tlb.gathered = vm_at(m, m.vm).gathers + cpu.party.index * GATHER_SIZE
    tlb.nr = 0
    tlb.room = MMU_GATHER_BUNDLE
    tlb.batch_count = 0


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
    """``mm/swap.c:release_pages() (5.10)`` of one batch: the ``lru_lock`` is given up after every 32 pages."""
    INIT_LIST_HEAD(m, cpu.batch)
    locked = NO_NODE
    lock_batch = 0
    flags = 0
    for i in range(start, end):
        page = page_record(m, pfn_to_page(m, gather_pages(m, tlb.gathered).pages[i]))
        if locked != NO_NODE:
            lock_batch += 1
            if lock_batch == SWAP_CLUSTER_MAX:
                spin_unlock_irqrestore(m, cpu, m.nodes[locked].lru_lock, flags)
                locked = NO_NODE
        if not put_page_testzero(page):
            continue
        if test_flag(page, PG_lru):
            nid = page_to_nid(page)
            if nid != locked:
                if locked != NO_NODE:
                    spin_unlock_irqrestore(m, cpu, m.nodes[locked].lru_lock, flags)
                locked = nid
                lock_batch = 0
                flags = spin_lock_irqsave(cpu, m.nodes[nid].lru_lock, S_RELEASE)
            node = m.nodes[nid]
            lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
            ClearPageFlag(page, PG_lru)
            del_page_from_lru_list(m, cpu, page, node, lruvec, page_off_lru(page))
        ClearPageFlag(page, PG_waiters)
        list_add(m, page.lru, cpu.batch)
    if locked != NO_NODE:
        spin_unlock_irqrestore(m, cpu, m.nodes[locked].lru_lock, flags)
    free_page_list(m, cpu)


@core
def tlb_flush_mmu(m: Machine, cpu: Cpu, tlb: MmuGather) -> None:
    """``mm/mmu_gather.c:tlb_flush_mmu() (5.10)``: free what was collected, batch by batch; pages that only the swap
    cache
    still holds leave it (``free_pages_and_swap_cache()``)."""
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
