"""The swap cache: pages that have a slot on the swap device, too (``mm/swap_state.c``, ``mm/swapfile.c`` (5.10)).

A slot of ``swap_cache`` has the page, or the shadow of one that was written out and freed. A page in the swap cache has
PG_swapcache, its slot in ``private``, and the cache's reference; SWAP_HAS_CACHE in ``swap_map`` goes with it.
``SwapInfo.swap_lock`` stands for the xarray's lock, with interrupts off; lookups take no lock.

Differs from 5.10: swap readahead is by clusters of slots (``swap_cluster_readahead()``), as for rotating devices; the
window by addresses that the kernel uses for solid state isn't there.
"""

from emu.cpu.wait import schedule_timeout_uninterruptible
from emu.mm.alloc import alloc_page
from emu.mm.disk import submit_read
from emu.mm.memcontrol import mem_cgroup_charge
from emu.mm.page_dirty import set_page_dirty
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.pagevec import lru_add_drain, lru_cache_add, put_page
from emu.mm.swapfile import (
    EEXIST, TTRS_ANYWAY, TTRS_FULL, TTRS_UNMAPPED, __swp_swapcount, __try_to_reclaim_swap, get_swap_page,
    put_swap_page, swap_cgroup_record, swapcache_prepare, vm_swap_full,
)  # fmt: skip
from emu.mm.workingset import workingset_refault
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import page_memcg, page_to_nid
from emu.zone.mm_types import (
    PRIVATE_SWAP_MASK, SLOT_SIZE, XA_PAGE, XA_SHADOW, SwapInfo, mm_at, mm_record, slot_at, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import (
    NULL, PG_dirty, PG_locked, PG_readahead, PG_swapbacked, PG_swapcache, PG_workingset, PG_writeback, pfn_to_page,
    set_flag,
)  # fmt: skip
from emu.zone.page_ref import (
    ClearPageFlag, SetPageFlag, TestClearPageFlag, get_page, get_page_unless_zero, put_page_testzero, test_flag,
)  # fmt: skip
from emu.zone.time import NS_PER_JIFFY
from emu.zone.vmstat import __count_vm_events, __mod_node_page_state
from emu.zone.vmstat_items import NR_FILE_PAGES, PSWPIN, SWAP_RA, SWAP_RA_HIT
from shm.atomic import cpu_relax, fetch_add, load_acquire, xchg
from shm.core import core, implements
from shm.point import point, site

S_ADD = site("add_to_swap_cache:lock")
S_DELETE = site("delete_from_swap_cache:lock")
S_LOOKUP = site("find_get_page:read swap cache")


@core(inline=True)
def page_swap_entry(page: Page) -> int:
    """``page_private()`` of a page in the swap cache: its slot."""
    return page.private & PRIVATE_SWAP_MASK


@core(inline=True)
def swap_cache_slot(swap: SwapInfo, entry: int) -> int:
    """Offset of the swap cache's slot of an entry."""
    return swap.swap_cache + entry * SLOT_SIZE


# --- in and out -------------------------------------------------------------------------------------------------------


@core
def add_to_swap_cache(m: Machine, cpu: Cpu, pfn: int, entry: int) -> int:
    """``mm/swap_state.c:add_to_swap_cache() (5.10)`` of a locked page: the shadow that was in the slot, or 0."""
    page = page_record(m, pfn_to_page(m, pfn))
    swap = vm_at(m, m.vm).swap
    slot = slot_at(m, swap_cache_slot(swap, entry))
    get_page(page)
    SetPageFlag(page, PG_swapcache)
    flags = spin_lock_irqsave(cpu, swap.swap_lock, S_ADD)
    shadow = slot.value >> 2 if slot.value & 3 == XA_SHADOW else 0
    page.private = page.private & ~PRIVATE_SWAP_MASK | entry
    slot.value = pfn << 2 | XA_PAGE
    swap.nrpages += 1
    swap.add_total += 1
    __mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_FILE_PAGES, 1)
    spin_unlock_irqrestore(m, cpu, swap.swap_lock, flags)
    return shadow


@core
def __delete_from_swap_cache(m: Machine, cpu: Cpu, pfn: int, shadow: int) -> None:
    """``mm/swap_state.c:__delete_from_swap_cache() (5.10)``: out of the cache, a shadow (or 0) in its place. The page
    is locked and ``swap_lock`` is held with interrupts off; slot and reference are still the caller's to drop."""
    page = page_record(m, pfn_to_page(m, pfn))
    swap = vm_at(m, m.vm).swap
    slot = slot_at(m, swap_cache_slot(swap, page_swap_entry(page)))
    slot.value = shadow << 2 | XA_SHADOW if shadow != 0 else 0
    page.private = page.private & ~PRIVATE_SWAP_MASK
    ClearPageFlag(page, PG_swapcache)
    swap.nrpages -= 1
    swap.del_total += 1
    __mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], NR_FILE_PAGES, -1)


@core
def delete_from_swap_cache(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap_state.c:delete_from_swap_cache() (5.10)``: the page gives up its slot. The caller holds a reference
    beyond the cache's, and the page lock."""
    page = page_record(m, pfn_to_page(m, pfn))
    swap = vm_at(m, m.vm).swap
    entry = page_swap_entry(page)
    flags = spin_lock_irqsave(cpu, swap.swap_lock, S_DELETE)
    __delete_from_swap_cache(m, cpu, pfn, 0)
    spin_unlock_irqrestore(m, cpu, swap.swap_lock, flags)
    put_swap_page(m, cpu, entry)
    put_page_testzero(page)


@core
def add_to_swap(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/swap_state.c:add_to_swap() (5.10)``: a slot for a locked anonymous page; it is dirty now. False without
    a free slot."""
    entry = get_swap_page(m, cpu)
    if entry == 0:
        return False
    swap_cgroup_record(m, entry, page_memcg(page_record(m, pfn_to_page(m, pfn))))
    add_to_swap_cache(m, cpu, pfn, entry)
    set_page_dirty(m, cpu, pfn)
    return True


@core
def try_to_free_swap(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/swapfile.c:try_to_free_swap() (5.10)``: a locked page whose slot no page table names gives it up, and is
    dirty then: nothing else has its contents."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not test_flag(page, PG_swapcache) or test_flag(page, PG_writeback):
        return False
    if __swp_swapcount(m, page_swap_entry(page)) != 0:
        return False
    delete_from_swap_cache(m, cpu, pfn)
    SetPageFlag(page, PG_dirty)
    return True


@core
def reuse_swap_page(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``mm/swapfile.c:reuse_swap_page() (5.10)``: whether a locked page is its one mapper's alone, so that it may be
    written without a copy; it leaves the swap cache on the way, unless it is being written out."""
    page = page_record(m, pfn_to_page(m, pfn))
    count = page.mapcount + 1
    if not test_flag(page, PG_swapcache):
        return count <= 1
    count += __swp_swapcount(m, page_swap_entry(page))
    if count == 1 and not test_flag(page, PG_writeback):
        delete_from_swap_cache(m, cpu, pfn)
        SetPageFlag(page, PG_dirty)
    return count <= 1


@core
def free_swap_cache(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap_state.c:free_swap_cache() (5.10)``: on unmapping, the last user's page gives up its slot."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_swapcache) and page.mapcount < 0 and trylock_page(page):
        try_to_free_swap(m, cpu, pfn)
        unlock_page(m, cpu, pfn)


@implements(__try_to_reclaim_swap)
def reclaim_swap(m: Machine, cpu: Cpu, offset: int, ttrs_flags: int) -> bool:
    """``mm/swapfile.c:__try_to_reclaim_swap() (5.10)``: a slot that only the swap cache uses is freed. TTRS_ANYWAY:
    whatever its page is for; TTRS_UNMAPPED: if it isn't mapped; TTRS_FULL: if swap is getting full."""
    pfn = find_get_swap_page(m, cpu, offset)
    if pfn == NULL:
        return False
    page = page_record(m, pfn_to_page(m, pfn))
    freed = False
    if trylock_page(page):
        wanted = ttrs_flags & TTRS_ANYWAY != 0 or (ttrs_flags & TTRS_UNMAPPED != 0 and page.mapcount < 0)
        wanted = wanted or (ttrs_flags & TTRS_FULL != 0 and vm_swap_full(m))
        if wanted and page_swap_entry(page) == offset:
            freed = try_to_free_swap(m, cpu, pfn)
        unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)
    return freed


# --- lookups ----------------------------------------------------------------------------------------------------------


@core
def find_get_swap_page(m: Machine, cpu: Cpu, entry: int) -> int:
    """``find_get_page()`` in the swap cache: the page with a reference, or NULL."""
    slot = slot_at(m, swap_cache_slot(vm_at(m, m.vm).swap, entry))
    while True:
        point(cpu.party, S_LOOKUP)
        value = load_acquire(slot, "value")
        if value & 3 != XA_PAGE:
            return NULL
        if get_page_unless_zero(page_record(m, pfn_to_page(m, value >> 2))):
            if load_acquire(slot, "value") == value:
                return value >> 2
            put_page(m, cpu, value >> 2)
        cpu_relax()


@core
def lookup_swap_cache(m: Machine, entry: int) -> int:
    """Which page the swap cache has for an entry at the moment, or NULL: without a reference, so it says only whether
    a fault is a major one."""
    value = load_acquire(slot_at(m, swap_cache_slot(vm_at(m, m.vm).swap, entry)), "value")
    return value >> 2 if value & 3 == XA_PAGE else NULL


@core
def note_swap_hit(m: Machine, cpu: Cpu, pfn: int) -> None:
    """What ``mm/swap_state.c:lookup_swap_cache() (5.10)`` counts: a page that was read ahead is wanted now."""
    if TestClearPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_readahead):
        __count_vm_events(cpu, SWAP_RA_HIT, 1)
        fetch_add(vm_at(m, m.vm).swap.ra_hits, "counter", 1)


# --- reading ----------------------------------------------------------------------------------------------------------


@core
def new_swap_page(m: Machine, cpu: Cpu, pfn: int, entry: int, memcg: int) -> bool:
    """The second half of ``__read_swap_cache_async()``: a new page for a slot that is ours to read. Locked, charged,
    in the swap cache and on its way to the LRU lists; false, and freed, when its group is over the limit."""
    page = page_record(m, pfn_to_page(m, pfn))
    set_flag(page, PG_locked | PG_swapbacked)
    shadow = add_to_swap_cache(m, cpu, pfn, entry)
    if mem_cgroup_charge(m, cpu, pfn, memcg, GFP_HIGHUSER_MOVABLE) != 0:
        delete_from_swap_cache(m, cpu, pfn)
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        return False
    if shadow != 0:
        workingset_refault(m, cpu, pfn, shadow)
    SetPageFlag(page, PG_workingset)
    lru_cache_add(m, cpu, pfn)
    return True


@core
def __read_swap_cache_async(m: Machine, cpu: Cpu, entry: int, memcg: int) -> int:
    """``mm/swap_state.c:__read_swap_cache_async() (5.10)``: the page of a slot with a reference: pfn << 1, | 1 if it is
    new and locked, to be read by the caller. NULL: the slot is unused, or there is no memory."""
    while True:
        pfn = find_get_swap_page(m, cpu, entry)
        if pfn != NULL:
            return pfn << 1
        if __swp_swapcount(m, entry) == 0:
            return NULL
        pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
        if pfn == NULL:
            return NULL
        err = swapcache_prepare(m, cpu, entry)
        if err == 0:
            break
        put_page(m, cpu, pfn)
        if err != -EEXIST or load_acquire(m, "stop") != 0:
            return NULL
        # somebody else is between marking the slot and filling the cache
        schedule_timeout_uninterruptible(m, cpu, NS_PER_JIFFY)
    if not new_swap_page(m, cpu, pfn, entry, memcg):
        return NULL
    return pfn << 1 | 1


@core
def swap_readpage(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/page_io.c:swap_readpage() (5.10)``: read a locked page of the swap cache; it is unlocked when done."""
    __count_vm_events(cpu, PSWPIN, 1)
    submit_read(m, cpu, pfn, 0)


@core
def __swapin_nr_pages(prev_offset: int, offset: int, hits: int, max_pages: int, prev_win: int) -> int:
    """``mm/swap_state.c:__swapin_nr_pages() (5.10)``: the next window by the hits of the last: a power of two that
    grows with them; none at all, unless the slot is next to the one before; never less than half the last window."""
    pages = hits + 2
    if pages == 2:
        if offset != prev_offset + 1 and offset != prev_offset - 1:
            pages = 1
    else:
        roundup = 4
        while roundup < pages:
            roundup <<= 1
        pages = roundup
    return max(min(pages, max_pages), prev_win // 2)


@core
def swapin_nr_pages(m: Machine, offset: int) -> int:
    """``mm/swap_state.c:swapin_nr_pages() (5.10)``: ``1 << vm.page-cluster`` at most."""
    vm = vm_at(m, m.vm)
    max_pages = 1 << vm.page_cluster
    if max_pages <= 1:
        return 1
    hits = xchg(vm.swap.ra_hits, "counter", 0)
    pages = __swapin_nr_pages(vm.swap.ra_prev_offset, offset, hits, max_pages, vm.swap.ra_last_pages)
    if hits == 0:
        vm.swap.ra_prev_offset = offset
    vm.swap.ra_last_pages = pages
    return pages


@core
def read_swap_around(m: Machine, cpu: Cpu, entry: int, memcg: int, mask: int) -> None:
    """The loop of ``swap_cluster_readahead()``: the aligned window of slots around an entry, in order."""
    offset = max(entry & ~mask, 1)
    last = min(entry | mask, vm_at(m, m.vm).swap.pages)
    while offset <= last:
        found = __read_swap_cache_async(m, cpu, offset, memcg)
        if found != NULL:
            pfn = found >> 1
            if found & 1 != 0:
                swap_readpage(m, cpu, pfn)
                if offset != entry:
                    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_readahead)
                    __count_vm_events(cpu, SWAP_RA, 1)
            put_page(m, cpu, pfn)
        offset += 1
    lru_add_drain(m, cpu)


@core
def swap_cluster_readahead(m: Machine, cpu: Cpu, entry: int, memcg: int) -> int:
    """``mm/swap_state.c:swap_cluster_readahead() (5.10)``: the entry's page with a reference, others of its cluster on
    their way; NULL as :func:`__read_swap_cache_async`."""
    mask = swapin_nr_pages(m, entry) - 1
    if mask != 0:
        read_swap_around(m, cpu, entry, memcg, mask)
    found = __read_swap_cache_async(m, cpu, entry, memcg)
    if found == NULL:
        return NULL
    if found & 1 != 0:
        swap_readpage(m, cpu, found >> 1)
    return found >> 1


@core
def swapin(m: Machine, cpu: Cpu, entry: int, mm_id: int, slot: int) -> int:
    """``lookup_swap_cache()`` and, if need be, ``mm/swap_state.c:swapin_readahead() (5.10)``: the entry's page with a
    reference, locked while it is being read; NULL: no memory, or the entry is no longer in use. ``mm_id`` 0: tmpfs."""
    vm = vm_at(m, m.vm)
    pfn = find_get_swap_page(m, cpu, entry)
    vm.swap.find_total += 1
    if pfn != NULL:
        vm.swap.find_success += 1
        note_swap_hit(m, cpu, pfn)
        return pfn
    memcg = 0
    if mm_id != 0:
        memcg = mm_record(m, mm_at(m, vm, mm_id)).memcg
    return swap_cluster_readahead(m, cpu, entry, memcg)
