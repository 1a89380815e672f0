"""tmpfs: files whose pages are swap-backed (``mm/shmem.c`` (5.10)).

A page of tmpfs that is swapped out leaves its swap entry in the file's slot (``XA_SWAP``), and comes back from there.

Differs from 5.10: no huge pages, no limits of a mount, no fallocate.
"""

from emu.mm.alloc import alloc_page
from emu.mm.memcontrol import mem_cgroup_charge
from emu.mm.page_cache import XA_KIND, current_memcg, find_lock_page, store_in_slot
from emu.mm.page_dirty import set_page_dirty, wait_on_page_writeback
from emu.mm.page_lock import lock_page, unlock_page
from emu.mm.pagevec import lru_cache_add, mark_page_accessed, put_page
from emu.mm.swap_state import delete_from_swap_cache, lookup_swap_cache, swapin
from emu.mm.swapfile import free_swap_and_cache, swap_free
from emu.mm.vma import file_offset, file_slot
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import PRIVATE_SWAP_MASK, XA_SWAP, file_record, slot_at, vm_at
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_locked, PG_referenced, PG_swapbacked, PG_swapcache, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag, get_page, test_flag
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGMAJFAULT
from shm.atomic import cmpxchg, load_acquire
from shm.core import core
from shm.point import point, site

SGP_READ = 0
SGP_CACHE = 1
SGP_WRITE = 2
HOLE = -1000
EINTR = 4
EIO = 5
ENOMEM = 12
EEXIST = 17
EINVAL = 22
S_FREE_SWAP = site("shmem_free_swap:i_pages_lock")
S_REPEAT = site("shmem_getpage_gfp:read slot")


@core
def shmem_add_to_page_cache(m: Machine, cpu: Cpu, pfn: int, file: int, index: int, gfp: int, memcg: int) -> int:
    """``mm/shmem.c:shmem_add_to_page_cache() (5.10)``: 0 or -errno. A page from the swap cache is charged already."""
    page = page_record(m, pfn_to_page(m, pfn))
    get_page(page)
    page.mapping = file << 2
    page.index = index
    error = 0
    if not test_flag(page, PG_swapcache):
        error = mem_cgroup_charge(m, cpu, pfn, memcg, gfp)
    if error == 0:
        error = min(store_in_slot(m, cpu, pfn, file, index), 0)
    if error != 0:
        page.mapping = 0
        put_page(m, cpu, pfn)
    return error


@core
def shmem_confirm_swap(m: Machine, file: int, index: int, entry: int) -> bool:
    """``mm/shmem.c:shmem_confirm_swap() (5.10)``: the slot still has this swap entry."""
    return load_acquire(slot_at(m, file_slot(m, file, index)), "value") == entry << 2 | XA_SWAP


@core
def move_from_swap(m: Machine, cpu: Cpu, pfn: int, file: int, index: int, entry: int, sgp: int) -> int:
    """The second half of ``shmem_swapin_page()``: the locked page goes from the swap cache into the file."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not test_flag(page, PG_swapcache) or page.private & PRIVATE_SWAP_MASK != entry:
        return -EEXIST
    if not shmem_confirm_swap(m, file, index, entry):
        return -EEXIST
    if not test_flag(page, PG_uptodate):
        return -EIO
    wait_on_page_writeback(m, cpu, pfn)
    error = shmem_add_to_page_cache(m, cpu, pfn, file, index, GFP_KERNEL, current_memcg(m, cpu))
    if error != 0:
        return error
    if sgp == SGP_WRITE:
        mark_page_accessed(m, cpu, pfn)
    delete_from_swap_cache(m, cpu, pfn)
    set_page_dirty(m, cpu, pfn)
    swap_free(m, cpu, entry)
    return 0


@core
def shmem_swapin_page(m: Machine, cpu: Cpu, file: int, index: int, entry: int, sgp: int, fault: int) -> int:
    """``mm/shmem.c:shmem_swapin_page() (5.10)``: the page, locked and referenced, or -errno; -EEXIST: look again."""
    if fault != 0 and lookup_swap_cache(m, entry) == NULL:
        __count_vm_events(cpu, PGMAJFAULT, 1)
    pfn = swapin(m, cpu, entry, 0, 0)
    if pfn == NULL:
        return -ENOMEM if shmem_confirm_swap(m, file, index, entry) else -EEXIST
    if not lock_page(m, cpu, pfn):
        put_page(m, cpu, pfn)
        return -EINTR
    error = move_from_swap(m, cpu, pfn, file, index, entry, sgp)
    if error != 0:
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        return error if shmem_confirm_swap(m, file, index, entry) else -EEXIST
    return pfn


@core
def shmem_new_page(m: Machine, cpu: Cpu, file: int, index: int, sgp: int, memcg: int) -> int:
    """A zeroed page for an empty slot: locked and referenced, or -errno."""
    pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
    if pfn == NULL:
        return -ENOMEM
    page = page_record(m, pfn_to_page(m, pfn))
    SetPageFlag(page, PG_locked | PG_swapbacked | (PG_referenced if sgp == SGP_WRITE else 0))
    error = shmem_add_to_page_cache(m, cpu, pfn, file, index, GFP_KERNEL, memcg)
    if error != 0:
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        return error
    lru_cache_add(m, cpu, pfn)
    return pfn


@core
def shmem_get_once(m: Machine, cpu: Cpu, file: int, index: int, sgp: int, fault: int, memcg: int) -> int:
    """One pass of ``shmem_getpage_gfp()``: the page, locked and referenced; -errno; -EEXIST: another pass; HOLE for
    SGP_READ."""
    value = load_acquire(slot_at(m, file_slot(m, file, index)), "value")
    if value & XA_KIND == XA_SWAP:
        return shmem_swapin_page(m, cpu, file, index, value >> 2, sgp, fault)
    pfn = find_lock_page(m, cpu, file, index)
    if pfn == NULL:
        if load_acquire(m, "stop") != 0:
            return -EINTR
        return HOLE if sgp == SGP_READ else shmem_new_page(m, cpu, file, index, sgp, memcg)
    if sgp == SGP_WRITE:
        mark_page_accessed(m, cpu, pfn)
    return pfn


@core
def shmem_getpage(m: Machine, cpu: Cpu, file: int, index: int, sgp: int, fault: int, memcg: int) -> int:
    """``mm/shmem.c:shmem_getpage_gfp() (5.10)``: the page of a slot, locked and referenced, or -errno; for SGP_READ
    HOLE where there is none. ``fault``: on behalf of a page fault, with the cgroup of its address space."""
    if index < 0 or index >= vm_at(m, m.vm).file_slots:
        return -EINVAL
    if sgp <= SGP_CACHE and index >= file_record(m, file_offset(m, file)).nr_slots:
        return -EINVAL
    pfn = -EEXIST
    while pfn == -EEXIST:
        point(cpu.party, S_REPEAT)
        pfn = shmem_get_once(m, cpu, file, index, sgp, fault, memcg)
    if pfn >= 0 and sgp != SGP_WRITE:
        SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    return pfn


@core
def shmem_file_read(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``mm/shmem.c:shmem_file_read_iter() (5.10)`` of one page: 0 or -errno. A hole is read as zeroes."""
    if fatal_signal_pending(task_at(m, cpu.current)):
        return -EINTR
    pfn = shmem_getpage(m, cpu, file, index, SGP_READ, 0, current_memcg(m, cpu))
    if pfn == HOLE or pfn == -EINVAL:
        return 0
    if pfn < 0:
        return pfn
    unlock_page(m, cpu, pfn)
    mark_page_accessed(m, cpu, pfn)
    put_page(m, cpu, pfn)
    return 0


@core
def shmem_file_write(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``shmem_write_begin()`` and ``shmem_write_end()`` of one whole page: 0 or -errno."""
    if fatal_signal_pending(task_at(m, cpu.current)):
        return -EINTR
    pfn = shmem_getpage(m, cpu, file, index, SGP_WRITE, 0, current_memcg(m, cpu))
    if pfn < 0:
        return pfn
    mapping = file_record(m, file_offset(m, file))
    if index >= mapping.nr_slots:
        mapping.nr_slots = index + 1
    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    set_page_dirty(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)
    return 0


@core
def shmem_free_swap(m: Machine, cpu: Cpu, file: int, index: int) -> bool:
    """``mm/shmem.c:shmem_free_swap() (5.10)``: a swapped-out page of a file that is truncated."""
    slot = slot_at(m, file_slot(m, file, index))
    mapping = file_record(m, file_offset(m, file))
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_FREE_SWAP)
    value = load_acquire(slot, "value")
    freed = value & XA_KIND == XA_SWAP and cmpxchg(slot, "value", value, 0) == value
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    if freed:
        free_swap_and_cache(m, cpu, value >> 2)
    return freed
