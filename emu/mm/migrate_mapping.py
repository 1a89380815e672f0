"""A page's place and state move to another page (``mm/migrate.c`` (5.10)). Both pages are locked."""

from emu.zone.irq import irqs_off, local_irq_restore
from emu.zone.lru import page_memcg, page_to_nid
from emu.zone.mm_types import (
    AS_FILE, PRIVATE_MEMCG_SHIFT, PRIVATE_SWAP_MASK, SLOT_SIZE, XA_PAGE, file_at, file_record, slot_at, vm_at,
)  # fmt: skip
from emu.zone.mmzone import PAGE_EXT_SIZE, Cpu, Machine, Page, page_ext_record, page_record, zone_at
from emu.zone.page import (
    PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, PG_active, PG_dirty, PG_error, PG_readahead, PG_referenced, PG_swapbacked,
    PG_swapcache, PG_unevictable, PG_uptodate, PG_workingset, page_zone, page_zone_id, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import (
    ClearPageFlag, SetPageFlag, TestClearPageFlag, get_page, page_count, page_ref_freeze, page_ref_unfreeze, test_flag,
)  # fmt: skip
from emu.zone.vmstat import __mod_node_page_state, __mod_zone_page_state
from emu.zone.vmstat_items import NR_FILE_DIRTY, NR_FILE_PAGES, NR_SHMEM, NR_ZONE_WRITE_PENDING
from shm.atomic import fetch_add, store_release
from shm.core import core
from shm.point import point, site
from shm.spinlock import spin_lock, spin_unlock

EAGAIN = 11
MAPPING_NONE = 0
MAPPING_SWAP = -1  # the swap cache; a file's mapping is its id
KEPT_STATES = PG_error | PG_referenced | PG_uptodate | PG_workingset
S_I_PAGES = site("migrate_page_move_mapping:lock")
S_FREEZE = site("migrate_page_move_mapping:page_ref_freeze")


@core(inline=True)
def PageSwapCache(page: Page) -> bool:
    """``PageSwapCache()``"""
    return page.page_flags & (PG_swapcache | PG_swapbacked) == PG_swapcache | PG_swapbacked


@core(inline=True)
def page_mapping(page: Page) -> int:
    """``mm/util.c:page_mapping() (5.10)``: a file's id, MAPPING_SWAP, or MAPPING_NONE for other anonymous pages."""
    if PageSwapCache(page):
        return MAPPING_SWAP
    if page.mapping & PAGE_MAPPING_ANON != 0:
        return MAPPING_NONE
    return page.mapping >> 2


@core(inline=True)
def slot_of(m: Machine, page: Page, mapping: int) -> int:
    """Offset of the slot that holds a page in its file or in the swap cache."""
    vm = vm_at(m, m.vm)
    if mapping == MAPPING_SWAP:
        return vm.swap.swap_cache + (page.private & PRIVATE_SWAP_MASK) * SLOT_SIZE
    return file_record(m, file_at(m, vm, mapping)).i_pages + page.index * SLOT_SIZE


@core
def take_over(page: Page, new: Page) -> None:
    """Owner, slot and kind of the old page, for the new one; the memory cgroup's share of ``private`` stays."""
    new.index = page.index
    new.mapping = page.mapping
    if page.page_flags & PG_swapbacked != 0:
        SetPageFlag(new, PG_swapbacked)


@core
def account_zones(m: Machine, cpu: Cpu, page: Page, new: Page, mapping: int, dirty: int) -> None:
    """The counters of a page cache page that has moved to another zone; interrupts are off."""
    oldzone, newzone = zone_at(m, page_zone(m, page)), zone_at(m, page_zone(m, new))
    oldnode, newnode = m.nodes[page_to_nid(page)], m.nodes[page_to_nid(new)]
    __mod_node_page_state(m, cpu, oldnode, NR_FILE_PAGES, -1)
    __mod_node_page_state(m, cpu, newnode, NR_FILE_PAGES, 1)
    if page.page_flags & PG_swapbacked != 0 and mapping != MAPPING_SWAP:
        __mod_node_page_state(m, cpu, oldnode, NR_SHMEM, -1)
        __mod_node_page_state(m, cpu, newnode, NR_SHMEM, 1)
    if dirty != 0 and mapping > 0 and file_record(m, file_at(m, vm_at(m, m.vm), mapping)).kind == AS_FILE:
        __mod_node_page_state(m, cpu, oldnode, NR_FILE_DIRTY, -1)
        __mod_zone_page_state(m, cpu, oldzone, NR_ZONE_WRITE_PENDING, -1)
        __mod_node_page_state(m, cpu, newnode, NR_FILE_DIRTY, 1)
        __mod_zone_page_state(m, cpu, newzone, NR_ZONE_WRITE_PENDING, 1)


@core
def replace_in_mapping(m: Machine, cpu: Cpu, newpfn: int, pfn: int, mapping: int) -> int:
    """The locked part of ``migrate_page_move_mapping()``: 1 if the page was dirty, 0 if not, -EAGAIN if in use."""
    page, new = page_record(m, pfn_to_page(m, pfn)), page_record(m, pfn_to_page(m, newpfn))
    slot = slot_at(m, slot_of(m, page, mapping))
    if page_count(page) != 2 or slot.value != pfn << 2 | XA_PAGE:
        return -EAGAIN
    point(cpu.party, S_FREEZE)
    if not page_ref_freeze(page, 2):
        return -EAGAIN
    take_over(page, new)
    get_page(new)
    if mapping == MAPPING_SWAP:
        SetPageFlag(new, PG_swapcache)
        new.private = page.private & PRIVATE_SWAP_MASK
    dirty = 0
    if test_flag(page, PG_dirty):
        ClearPageFlag(page, PG_dirty)
        SetPageFlag(new, PG_dirty)
        dirty = 1
    store_release(slot, "value", newpfn << 2 | XA_PAGE)  # who finds the new page there finds it complete
    page_ref_unfreeze(page, 1)
    return dirty


@core
def migrate_page_move_mapping(m: Machine, cpu: Cpu, newpfn: int, pfn: int) -> int:
    """``mm/migrate.c:migrate_page_move_mapping() (5.10)``: 0, or -EAGAIN while somebody else holds a reference.

    An anonymous page has only isolation's reference left, a page in the page cache or swap cache that of the cache
    too. Differs from 5.10: pages have no buffers (PG_private), so there is never a third reference.
    """
    page, new = page_record(m, pfn_to_page(m, pfn)), page_record(m, pfn_to_page(m, newpfn))
    mapping = page_mapping(page)
    if mapping == MAPPING_NONE:
        if page_count(page) != 1:
            return -EAGAIN
        take_over(page, new)
        return 0
    vm = vm_at(m, m.vm)
    flags = irqs_off(cpu, S_I_PAGES)
    if mapping == MAPPING_SWAP:
        spin_lock(cpu.party, vm.swap.swap_lock, S_I_PAGES)
        dirty = replace_in_mapping(m, cpu, newpfn, pfn, mapping)
        spin_unlock(cpu.party, vm.swap.swap_lock)
    else:
        file = file_record(m, file_at(m, vm, mapping))
        spin_lock(cpu.party, file.i_pages_lock, S_I_PAGES)
        dirty = replace_in_mapping(m, cpu, newpfn, pfn, mapping)
        spin_unlock(cpu.party, file.i_pages_lock)
    if dirty >= 0 and page_zone_id(page) != page_zone_id(new):
        account_zones(m, cpu, page, new, mapping, dirty)
    local_irq_restore(m, cpu, flags)
    return min(dirty, 0)


@core(cold=True)
def copy_page_ext(m: Machine, newpfn: int, pfn: int) -> None:
    """``copy_highpage()`` and ``copy_page_owner()``: what the model knows of a page's content, and who allocated it."""
    ext = page_ext_record(m, m.page_ext + pfn * PAGE_EXT_SIZE)
    new = page_ext_record(m, m.page_ext + newpfn * PAGE_EXT_SIZE)
    new.content = ext.content
    new.order = ext.order
    new.owner_cpu = ext.owner_cpu
    new.gfp = ext.gfp
    new.ts = ext.ts


@core
def mem_cgroup_migrate(m: Machine, page: Page, new: Page) -> None:
    """``mm/memcontrol.c:mem_cgroup_migrate() (5.10)``: the new page is charged beyond any limit; the old one stays
    charged until it is freed."""
    memcg = page_memcg(page)
    if memcg == 0 or page_memcg(new) != 0:
        return
    fetch_add(m.memcgs[memcg - 1], "memory", 1)
    new.private = new.private & PRIVATE_SWAP_MASK | memcg << PRIVATE_MEMCG_SHIFT


@core
def migrate_page_states(m: Machine, cpu: Cpu, newpfn: int, pfn: int) -> None:
    """``mm/migrate.c:migrate_page_states() (5.10)``: flags that describe the content or the place on the LRU."""
    page, new = page_record(m, pfn_to_page(m, pfn)), page_record(m, pfn_to_page(m, newpfn))
    kept = page.page_flags & KEPT_STATES
    if kept != 0:
        SetPageFlag(new, kept)
    if TestClearPageFlag(page, PG_active):
        SetPageFlag(new, PG_active)
    elif TestClearPageFlag(page, PG_unevictable):
        SetPageFlag(new, PG_unevictable)
    if test_flag(page, PG_dirty):
        SetPageFlag(new, PG_dirty)
    if PageSwapCache(page):
        ClearPageFlag(page, PG_swapcache)
    page.private = page.private & ~PRIVATE_SWAP_MASK
    if test_flag(page, PG_readahead):
        SetPageFlag(new, PG_readahead)
    if m.page_ext != 0:
        copy_page_ext(m, newpfn, pfn)
    mem_cgroup_migrate(m, page, new)


@core
def move_to_new_page(m: Machine, cpu: Cpu, newpfn: int, pfn: int) -> int:
    """``mm/migrate.c:move_to_new_page() (5.10)`` for an LRU page: 0 or -EAGAIN.

    Differs from 5.10: every address space here migrates dirty pages as they are (``migrate_page``), as tmpfs, the swap
    cache and the usual disk filesystems do, so nothing is written out for it (``fallback_migrate_page``).
    """
    rc = migrate_page_move_mapping(m, cpu, newpfn, pfn)
    if rc != 0:
        return rc
    migrate_page_states(m, cpu, newpfn, pfn)
    page = page_record(m, pfn_to_page(m, pfn))
    if page.mapping & PAGE_MAPPING_FLAGS == 0:
        page.mapping = 0
    return 0
