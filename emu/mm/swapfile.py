"""Slots of the swap device (``mm/swapfile.c`` (5.10)).

A swap entry is the number of a slot; slot 0 is the device's header, so 0 is no entry. A slot's byte of ``swap_map``
counts the page table entries (and tmpfs slots) that name it, and SWAP_HAS_CACHE says that the swap cache has it too.

Differs from 5.10:

- there is one device, there from the machine's boot on to its end and rotating, so slots are given out by clusters of
  SWAPFILE_CLUSTER from the lowest free one on (the kernel has another way for solid state, by per-CPU clusters);
- every slot is taken from and given back to the device at once: there are no per-CPU slot caches
  (``mm/swap_slots.c``), which the kernel uses while the device is far from full;
- a slot has at most SWAP_MAP_MAX references (the kernel continues the count in extra pages).
"""

from emu.cpu.workqueue import cond_resched
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import SLOT_SIZE, SWAP_COUNT_SIZE, XA_SHADOW, SwapInfo, slot_at, swap_count_at, vm_at
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import load_acquire, store_release
from shm.core import core, seam
from shm.point import point, site
from shm.spinlock import spin_lock, spin_unlock

SWAPFILE_CLUSTER = 256
LATENCY_LIMIT = 256
SWAP_MAP_MAX = 0x3E
SWAP_MAP_BAD = 0x3F
SWAP_HAS_CACHE = 0x40
TTRS_ANYWAY = 1
TTRS_UNMAPPED = 2
TTRS_FULL = 4
EINVAL = 22
EEXIST = 17
ENOENT = 2
ENOMEM = 12
S_SLOT = site("scan_swap_map_slots:lock")
S_SCAN = site("scan_swap_map_slots:read swap_map")
S_FREE = site("swap_entry_free:lock")
S_DUPLICATE = site("swap_duplicate:lock")
S_SHADOW = site("clear_shadow_from_swap_cache:lock")


@seam
def __try_to_reclaim_swap(m: Machine, cpu: Cpu, offset: int, ttrs_flags: int) -> bool:
    """``mm/swapfile.c:__try_to_reclaim_swap() (5.10)``; its body is ``emu.mm.swap_state``."""
    return False


@core(inline=True)
def swap_slot_count(m: Machine, swap: SwapInfo, offset: int) -> int:
    """A slot's byte of ``swap_map``, read without the lock."""
    return load_acquire(swap_count_at(m, swap.swap_map + offset * SWAP_COUNT_SIZE), "count")


@core(inline=True)
def set_swap_count(m: Machine, swap: SwapInfo, offset: int, count: int) -> None:
    """``WRITE_ONCE(si->swap_map[offset], count)``"""
    store_release(swap_count_at(m, swap.swap_map + offset * SWAP_COUNT_SIZE), "count", count)


@core
def get_nr_swap_pages(m: Machine) -> int:
    """``get_nr_swap_pages()``: free slots."""
    swap = vm_at(m, m.vm).swap
    return swap.pages - swap.inuse_pages


@core
def total_swap_pages(m: Machine) -> int:
    """``total_swap_pages``"""
    return vm_at(m, m.vm).swap.pages


@core
def vm_swap_full(m: Machine) -> bool:
    """``vm_swap_full()``: more than half of the slots are taken, so a page that was read back gives up its slot."""
    return get_nr_swap_pages(m) * 2 < total_swap_pages(m)


# --- taking a slot ----------------------------------------------------------------------------------------------------


@core
def swap_range_alloc(swap: SwapInfo, offset: int) -> None:
    """``mm/swapfile.c:swap_range_alloc() (5.10)`` of one slot."""
    if offset == swap.lowest_bit:
        swap.lowest_bit += 1
    if offset == swap.highest_bit:
        store_release(swap, "highest_bit", swap.highest_bit - 1)
    swap.inuse_pages += 1
    if swap.inuse_pages == swap.pages:
        swap.lowest_bit = swap.pages + 1
        store_release(swap, "highest_bit", 0)


@core
def spend_ration(m: Machine, cpu: Cpu, ration: int) -> int:
    """``latency_ration``: what is left after another slot. When it is used up, others have the processor first, and
    there is a new one; -1: the machine stops."""
    if ration > 0:
        return ration - 1
    return LATENCY_LIMIT if cond_resched(m, cpu) else -1


@core
def next_free_slot(m: Machine, cpu: Cpu, swap: SwapInfo, offset: int, end: int) -> int:
    """The first slot of ``[offset, end)`` that is free, or has nothing but a page in the swap cache while swap is
    full; -1: none. Not locked: what is found may be gone."""
    full = vm_swap_full(m)
    ration = LATENCY_LIMIT
    while offset < end:
        point(cpu.party, S_SCAN)
        count = swap_slot_count(m, swap, offset)
        if count == 0 or (full and count == SWAP_HAS_CACHE):
            return offset
        offset += 1
        ration = spend_ration(m, cpu, ration)
        if ration < 0:
            return -1
    return -1


@core
def find_free_cluster(m: Machine, cpu: Cpu, swap: SwapInfo) -> int:
    """First slot of the first run of SWAPFILE_CLUSTER free slots, from the lowest free slot on; -1: none. Not
    locked."""
    offset = swap.lowest_bit
    last = offset + SWAPFILE_CLUSTER - 1
    ration = LATENCY_LIMIT
    while last <= load_acquire(swap, "highest_bit"):
        if swap_slot_count(m, swap, offset) != 0:
            last = offset + SWAPFILE_CLUSTER
        elif offset == last:
            return offset - (SWAPFILE_CLUSTER - 1)
        offset += 1
        ration = spend_ration(m, cpu, ration)
        if ration < 0:
            return -1
    return -1


@core
def start_cluster(m: Machine, cpu: Cpu, swap: SwapInfo) -> int:
    """Where ``scan_swap_map_slots()`` begins: ``cluster_next``, or a new cluster when the last is used up. The lock
    is held, and dropped while a new cluster is looked for."""
    left = swap.cluster_nr
    swap.cluster_nr = left - 1
    if left != 0:
        return swap.cluster_next
    if swap.pages - swap.inuse_pages < SWAPFILE_CLUSTER:
        swap.cluster_nr = SWAPFILE_CLUSTER - 1
        return swap.cluster_next
    base = swap.lowest_bit
    spin_unlock(cpu.party, swap.si_lock)
    offset = find_free_cluster(m, cpu, swap)
    spin_lock(cpu.party, swap.si_lock, S_SLOT)
    swap.cluster_nr = SWAPFILE_CLUSTER - 1
    if offset < 0:
        return base
    swap.cluster_next = offset
    return offset


@core
def scan_swap_map_slots(m: Machine, cpu: Cpu, swap: SwapInfo, usage: int) -> int:
    """``mm/swapfile.c:scan_swap_map_slots() (5.10)`` for one slot: its number, or 0. The lock is held.

    From ``cluster_next`` up to the highest free slot, then from the lowest up to where it began. With more than half
    of swap taken a slot that only the swap cache uses is taken back on the way.
    """
    scan_base = start_cluster(m, cpu, swap)
    offset = scan_base
    wrapped = 0
    while swap.highest_bit != 0:
        if wrapped == 0 and offset > swap.highest_bit:
            scan_base = swap.lowest_bit
            offset = scan_base
        count = swap_slot_count(m, swap, offset)
        if count == 0:
            set_swap_count(m, swap, offset, usage)
            swap_range_alloc(swap, offset)
            swap.cluster_next = offset + 1
            return offset
        freed = False
        spin_unlock(cpu.party, swap.si_lock)
        if count == SWAP_HAS_CACHE and vm_swap_full(m):
            freed = __try_to_reclaim_swap(m, cpu, offset, TTRS_ANYWAY)
        if not freed:
            found = -1
            if wrapped == 0:
                found = next_free_slot(m, cpu, swap, offset + 1, load_acquire(swap, "highest_bit") + 1)
                if found < 0:
                    wrapped = 1
                    offset = swap.lowest_bit - 1
            if found < 0:
                found = next_free_slot(m, cpu, swap, offset + 1, scan_base)
            offset = found
        spin_lock(cpu.party, swap.si_lock, S_SLOT)
        if offset < 0:
            return 0
    return 0


@core
def get_swap_page(m: Machine, cpu: Cpu) -> int:
    """``mm/swap_slots.c:get_swap_page() (5.10)`` through ``get_swap_pages()``: a slot that the swap cache will have,
    or 0 when none is free. The caller notes whose page it is (:func:`swap_cgroup_record`)."""
    swap = vm_at(m, m.vm).swap
    if swap.pages - swap.inuse_pages <= 0:
        return 0
    spin_lock(cpu.party, swap.si_lock, S_SLOT)
    offset = scan_swap_map_slots(m, cpu, swap, SWAP_HAS_CACHE)
    spin_unlock(cpu.party, swap.si_lock)
    return offset


@core(inline=True)
def swap_cgroup_record(m: Machine, entry: int, memcg: int) -> None:
    """``mm/swap_cgroup.c:swap_cgroup_record() (5.10)``: the memory cgroup that will be charged when it is read back."""
    swap_count_at(m, vm_at(m, m.vm).swap.swap_map + entry * SWAP_COUNT_SIZE).memcg = memcg


@core(inline=True)
def lookup_swap_cgroup_id(m: Machine, entry: int) -> int:
    """``mm/swap_cgroup.c:lookup_swap_cgroup_id() (5.10)``: index + 1, 0: the root."""
    return swap_count_at(m, vm_at(m, m.vm).swap.swap_map + entry * SWAP_COUNT_SIZE).memcg


# --- references of a slot ---------------------------------------------------------------------------------------------


@core
def clear_shadow_from_swap_cache(m: Machine, cpu: Cpu, swap: SwapInfo, offset: int) -> None:
    """``mm/swap_state.c:clear_shadow_from_swap_cache() (5.10)`` of one slot."""
    slot = slot_at(m, swap.swap_cache + offset * SLOT_SIZE)
    flags = spin_lock_irqsave(cpu, swap.swap_lock, S_SHADOW)
    if slot.value & 3 == XA_SHADOW:
        slot.value = 0
    spin_unlock_irqrestore(m, cpu, swap.swap_lock, flags)


@core
def swap_entry_free(m: Machine, cpu: Cpu, swap: SwapInfo, offset: int) -> None:
    """``mm/swapfile.c:swap_entry_free() (5.10)`` with ``swap_range_free()``: nobody uses the slot any more. The lock
    is held."""
    swap_cgroup_record(m, offset, 0)
    clear_shadow_from_swap_cache(m, cpu, swap, offset)
    set_swap_count(m, swap, offset, 0)
    if offset < swap.lowest_bit:
        swap.lowest_bit = offset
    if offset > swap.highest_bit:
        store_release(swap, "highest_bit", offset)
    swap.inuse_pages -= 1


@core
def __swap_entry_free(m: Machine, cpu: Cpu, entry: int, usage: int) -> int:
    """``mm/swapfile.c:__swap_entry_free() (5.10)``: drop a reference (``usage`` 1) or the swap cache's
    (SWAP_HAS_CACHE), and free the slot with the last. Returns what is left in ``swap_map``."""
    swap = vm_at(m, m.vm).swap
    spin_lock(cpu.party, swap.si_lock, S_FREE)
    count = swap_slot_count(m, swap, entry)
    cached = count & SWAP_HAS_CACHE
    count &= SWAP_MAP_BAD
    if usage == SWAP_HAS_CACHE:
        cached = 0
    elif 0 < count <= SWAP_MAP_MAX:
        count -= 1
    left = count | cached
    if left == 0:
        swap_entry_free(m, cpu, swap, entry)
    else:
        set_swap_count(m, swap, entry, left)
    spin_unlock(cpu.party, swap.si_lock)
    return left


@core
def swap_free(m: Machine, cpu: Cpu, entry: int) -> None:
    """``mm/swapfile.c:swap_free() (5.10)``: a page table entry no longer names the slot."""
    __swap_entry_free(m, cpu, entry, 1)


@core
def put_swap_page(m: Machine, cpu: Cpu, entry: int) -> None:
    """``mm/swapfile.c:put_swap_page() (5.10)``: the swap cache no longer has the slot."""
    __swap_entry_free(m, cpu, entry, SWAP_HAS_CACHE)


@core
def free_swap_and_cache(m: Machine, cpu: Cpu, entry: int) -> None:
    """``mm/swapfile.c:free_swap_and_cache() (5.10)``: as :func:`swap_free`, for an entry whose contents nobody wants
    any more: an unused page of it goes out of the swap cache."""
    if __swap_entry_free(m, cpu, entry, 1) == SWAP_HAS_CACHE:
        __try_to_reclaim_swap(m, cpu, entry, TTRS_UNMAPPED | TTRS_FULL)


@core
def __swap_duplicate(m: Machine, cpu: Cpu, entry: int, usage: int) -> int:
    """``mm/swapfile.c:__swap_duplicate() (5.10)``: one more reference, or the swap cache's: 0, -EINVAL for no slot of
    the device, -ENOENT for one that nobody uses, -EEXIST when the swap cache has it, -ENOMEM beyond SWAP_MAP_MAX."""
    swap = vm_at(m, m.vm).swap
    if entry <= 0 or entry > swap.pages:
        return -EINVAL
    spin_lock(cpu.party, swap.si_lock, S_DUPLICATE)
    count = swap_slot_count(m, swap, entry)
    err = 0
    if count == 0:
        err = -ENOENT
    elif usage == SWAP_HAS_CACHE:
        if count & SWAP_HAS_CACHE != 0:
            err = -EEXIST
    elif count & SWAP_MAP_BAD >= SWAP_MAP_MAX:
        err = -ENOMEM
    if err == 0:
        set_swap_count(m, swap, entry, count | usage if usage == SWAP_HAS_CACHE else count + usage)
    spin_unlock(cpu.party, swap.si_lock)
    return err


@core
def swap_duplicate(m: Machine, cpu: Cpu, entry: int) -> int:
    """``mm/swapfile.c:swap_duplicate() (5.10)``: 0 or an error."""
    return __swap_duplicate(m, cpu, entry, 1)


@core
def swapcache_prepare(m: Machine, cpu: Cpu, entry: int) -> int:
    """``mm/swapfile.c:swapcache_prepare() (5.10)``: the caller will put a page for it into the swap cache."""
    return __swap_duplicate(m, cpu, entry, SWAP_HAS_CACHE)


@core
def swap_shmem_alloc(m: Machine, cpu: Cpu, entry: int) -> None:
    """``mm/swapfile.c:swap_shmem_alloc() (5.10)``: a tmpfs slot names it.

    Differs from 5.10: the count is 1, not SWAP_MAP_SHMEM, which exists only so that it isn't continued.
    """
    __swap_duplicate(m, cpu, entry, 1)


@core
def __swp_swapcount(m: Machine, entry: int) -> int:
    """``mm/swapfile.c:__swp_swapcount() (5.10)``: references of page tables and tmpfs; 0 for no slot of the device."""
    swap = vm_at(m, m.vm).swap
    if entry <= 0 or entry > swap.pages:
        return 0
    return swap_slot_count(m, swap, entry) & SWAP_MAP_BAD
