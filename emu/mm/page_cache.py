"""The page cache: pages in the slots of a file (``mm/filemap.c`` (5.10)).

A slot is read without a lock and written under the file's ``i_pages_lock`` with interrupts off. The page cache holds
one reference on each of its pages.
"""

from emu.mm.alloc import alloc_page
from emu.mm.memcontrol import mem_cgroup_charge, mem_cgroup_uncharge
from emu.mm.page_dirty import account_page_cleaned, writeback_file
from emu.mm.page_lock import lock_page, unlock_page
from emu.mm.pagevec import lru_cache_add, put_page
from emu.mm.vma import file_offset, file_slot
from emu.mm.workingset import workingset_refault
from emu.zone.gfp import __GFP_WRITE
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import mod_node_page_state, page_to_nid
from emu.zone.mm_types import AS_FILE, XA_PAGE, XA_SHADOW, XA_SWAP, file_record, slot_at
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_dirty, PG_locked, PG_swapbacked, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, get_page, get_page_unless_zero, test_flag
from emu.zone.sched import task_at
from emu.zone.vmstat_items import NR_FILE_PAGES, NR_SHMEM
from shm.atomic import load_acquire, store_release
from shm.core import core
from shm.point import point, site

XA_KIND = 3  # the low bits of a slot
ENOMEM = 12
EEXIST = 17
S_FIND = site("find_get_entry:read slot")
S_ADD = site("__add_to_page_cache_locked:i_pages_lock")
S_DELETE = site("delete_from_page_cache:i_pages_lock")


@core(inline=True)
def current_memcg(m: Machine, cpu: Cpu) -> int:
    """The memory cgroup that the current task's pages are charged to."""
    return task_at(m, cpu.current).memcg


@core
def find_get_page(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``find_get_page()``: the page in a slot with a reference, or -1. The slot is looked at again afterwards: the page
    may have been freed, and be another's, in between."""
    offset = file_slot(m, file, index)
    while True:
        value = load_acquire(slot_at(m, offset), "value")
        if value & XA_KIND != XA_PAGE:
            return NULL
        pfn = value >> 2
        point(cpu.party, S_FIND)
        if get_page_unless_zero(page_record(m, pfn_to_page(m, pfn))):
            if load_acquire(slot_at(m, offset), "value") == value:
                return pfn
            put_page(m, cpu, pfn)


@core
def store_in_slot(m: Machine, cpu: Cpu, pfn: int, file: int, index: int) -> int:
    """The part of ``__add_to_page_cache_locked()`` under the lock: the shadow that was in the slot (0: none), or
    -EEXIST."""
    mapping = file_record(m, file_offset(m, file))
    slot = slot_at(m, file_slot(m, file, index))
    page = page_record(m, pfn_to_page(m, pfn))
    node = m.nodes[page_to_nid(page)]
    result = -EEXIST
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_ADD)
    old = load_acquire(slot, "value")
    if old & XA_KIND != XA_PAGE:
        store_release(slot, "value", pfn << 2 | XA_PAGE)
        if old & XA_KIND == XA_SHADOW:
            mapping.nrexceptional -= 1
        mapping.nrpages += 1
        mod_node_page_state(m, cpu, node, NR_FILE_PAGES, 1)
        if test_flag(page, PG_swapbacked):
            mod_node_page_state(m, cpu, node, NR_SHMEM, 1)
        result = old >> 2 if old & XA_KIND == XA_SHADOW else 0
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    return result


@core
def add_to_page_cache_locked(m: Machine, cpu: Cpu, pfn: int, file: int, index: int, gfp: int) -> int:
    """``mm/filemap.c:__add_to_page_cache_locked() (5.10)``: the shadow of the slot's former page (0: none), or -errno.
    The page is locked; the page cache takes a reference of its own."""
    page = page_record(m, pfn_to_page(m, pfn))
    get_page(page)
    page.mapping = file << 2
    page.index = index
    result = mem_cgroup_charge(m, cpu, pfn, current_memcg(m, cpu), gfp)
    if result == 0:
        result = store_in_slot(m, cpu, pfn, file, index)
        if result < 0:
            mem_cgroup_uncharge(m, cpu, page)
    if result < 0:
        page.mapping = 0
        put_page(m, cpu, pfn)
    return result


@core
def add_to_page_cache_lru(m: Machine, cpu: Cpu, pfn: int, file: int, index: int, gfp: int) -> int:
    """``mm/filemap.c:add_to_page_cache_lru() (5.10)``: 0, the page locked and on its way to the LRU, or -errno."""
    page = page_record(m, pfn_to_page(m, pfn))
    SetPageFlag(page, PG_locked)
    shadow = add_to_page_cache_locked(m, cpu, pfn, file, index, gfp)
    if shadow < 0:
        ClearPageFlag(page, PG_locked)
        return shadow
    if shadow != 0 and gfp & __GFP_WRITE == 0:
        workingset_refault(m, cpu, pfn, shadow)
    lru_cache_add(m, cpu, pfn)
    return 0


@core
def __delete_from_page_cache(m: Machine, cpu: Cpu, pfn: int, shadow: int) -> None:
    """``mm/filemap.c:__delete_from_page_cache() (5.10)``: ``i_pages_lock`` is held; the page cache's reference is the
    caller's now."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = page.mapping >> 2
    mapping = file_record(m, file_offset(m, file))
    node = m.nodes[page_to_nid(page)]
    mod_node_page_state(m, cpu, node, NR_FILE_PAGES, -1)
    if test_flag(page, PG_swapbacked):
        mod_node_page_state(m, cpu, node, NR_SHMEM, -1)
    if test_flag(page, PG_dirty) and writeback_file(m, page) != 0:
        account_page_cleaned(m, cpu, page, file)
    value = shadow << 2 | XA_SHADOW if shadow != 0 else 0
    store_release(slot_at(m, file_slot(m, file, page.index)), "value", value)
    page.mapping = 0
    if shadow != 0:
        mapping.nrexceptional += 1
    mapping.nrpages -= 1


@core
def delete_from_page_cache(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/filemap.c:delete_from_page_cache() (5.10)``: the page is locked and referenced by the caller."""
    page = page_record(m, pfn_to_page(m, pfn))
    mapping = file_record(m, file_offset(m, page.mapping >> 2))
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_DELETE)
    __delete_from_page_cache(m, cpu, pfn, 0)
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    put_page(m, cpu, pfn)


@core
def find_lock_page(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """``find_lock_page()``: the page in a slot, locked and referenced, or -1. A page that left the file while it was
    waited for is not it."""
    while True:
        pfn = find_get_page(m, cpu, file, index)
        if pfn == NULL:
            return NULL
        if not lock_page(m, cpu, pfn):
            put_page(m, cpu, pfn)
            return NULL
        if page_record(m, pfn_to_page(m, pfn)).mapping == file << 2:
            return pfn
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)


@core
def find_or_create_page(m: Machine, cpu: Cpu, file: int, index: int, gfp: int, write: int) -> int:
    """``pagecache_get_page(FGP_LOCK | FGP_CREAT)``: locked and referenced, new and not uptodate where there was none;
    -1 without memory. ``write``: FGP_WRITE."""
    if write != 0 and file_record(m, file_offset(m, file)).kind == AS_FILE:
        gfp |= __GFP_WRITE
    while load_acquire(m, "stop") == 0:
        pfn = find_lock_page(m, cpu, file, index)
        if pfn != NULL:
            return pfn
        pfn = alloc_page(m, cpu, gfp)
        if pfn == NULL:
            return NULL
        error = add_to_page_cache_lru(m, cpu, pfn, file, index, gfp)
        if error == 0:
            return pfn
        put_page(m, cpu, pfn)
        if error != -EEXIST:
            return NULL
    return NULL


@core
def clear_exceptional_entry(m: Machine, cpu: Cpu, file: int, index: int) -> None:
    """``mm/truncate.c:clear_shadow_entry() (5.10)``: a shadow goes; a swap entry of tmpfs is its own business."""
    mapping = file_record(m, file_offset(m, file))
    slot = slot_at(m, file_slot(m, file, index))
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_DELETE)
    value = load_acquire(slot, "value")
    if value & XA_KIND == XA_SHADOW:
        store_release(slot, "value", 0)
        mapping.nrexceptional -= 1
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)


@core
def next_entry(m: Machine, file: int, index: int, end: int) -> int:
    """The first slot from ``index`` on that isn't empty, -1 if there is none before ``end``. Read without a lock."""
    last = min(end, file_record(m, file_offset(m, file)).nr_slots)
    while index < last:
        if load_acquire(slot_at(m, file_slot(m, file, index)), "value") != 0:
            return index
        index += 1
    return -1


assert XA_SWAP == XA_KIND
