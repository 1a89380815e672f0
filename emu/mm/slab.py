"""Slab caches and their shrinkers (``mm/slub.c``, ``mm/list_lru.c``, ``fs/dcache.c`` (5.10)).

A cache takes real pages for its slabs. Objects of a cache with a shrinker (``dentry``, ``inode_cache``) that nobody
uses any more stay on the node's LRU list until reclaim scans them: one that was used again since gets a second round.
A slab's pages are freed with its last object.

Differs from 5.10: CPUs have no slabs of their own, so objects come from the node's partial list at once. A shrinker
has one cache, where a superblock's has dentries and inodes; they don't depend on each other. Objects aren't charged to
memory cgroups, and no cache shares its slabs with another of its size.
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.zone.gfp import (
    __GFP_COMP, __GFP_DIRECT_RECLAIM, __GFP_NOFAIL, __GFP_NOMEMALLOC, __GFP_NORETRY, __GFP_NOWARN, __GFP_RECLAIM,
    __GFP_RECLAIMABLE,
)  # fmt: skip
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import list_add, list_add_tail, list_del, list_empty, list_move_tail
from emu.zone.lru import mod_node_page_state, page_to_nid
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_slab, clear_flag, pfn_to_page, set_flag
from emu.zone.sched import task_at
from emu.zone.slab_types import (
    OBJECT_LRU, OBJECT_REFERENCED, OBJECT_USED, OBJECTS_MAX, SLAB_OBJECT_SIZE, SLAB_RECLAIM_ACCOUNT,
    SLAB_SHRINKER, SLAB_SIZE, Slab, SlabArea, SlabCache, SlabObject, slab_area_at, slab_at, slab_object_at,
)  # fmt: skip
from emu.zone.vmstat_items import NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B
from shm.atomic import fetch_add
from shm.core import core, entry
from shm.point import point, site

__all__ = [
    "count_objects", "kmem_cache_alloc", "kmem_cache_free", "object_get", "object_put",
    "scan_objects",
]  # fmt: skip

PAGE_SIZE = 4096
NO_SLAB = -1
S_ALLOC = site("kmem_cache_alloc:list_lock")
S_FREE = site("kmem_cache_free:list_lock")
S_NEW = site("new_slab:list_lock")
S_ENTRY = site("allocate_slab:table lock")
S_LRU = site("list_lru_add:lock")
S_SCAN = site("list_lru_walk:lock")
S_COUNT = site("list_lru_count:read nr_items")


@core(inline=True)
def slab_object(m: Machine, area: SlabArea, obj: int) -> int:
    """Offset of an object's entry."""
    return area.objects + (obj - 1) * SLAB_OBJECT_SIZE


@core(inline=True)
def slab_of(area: SlabArea, obj: int) -> int:
    """Offset of the slab that an object is of."""
    return area.slabs + (obj - 1) // OBJECTS_MAX * SLAB_SIZE


@core(inline=True)
def first_object(area: SlabArea, slab: int) -> int:
    """The number of a slab's first object; the slab by offset."""
    return (slab - area.slabs) // SLAB_SIZE * OBJECTS_MAX + 1


# --- slabs ------------------------------------------------------------------------------------------------------------


@core
def take_entry(m: Machine, cpu: Cpu, area: SlabArea) -> int:
    """An unused entry of the slab table (its offset), NO_SLAB when there is none."""
    found = NO_SLAB
    flags = spin_lock_irqsave(cpu, area.area_lock, S_ENTRY)
    if not list_empty(m, area.unused):
        found = area.unused.next << 2
        list_del(m, slab_at(m, found).slab_list)
    elif area.first_untouched < area.nr_slabs:
        found = area.slabs + area.first_untouched * SLAB_SIZE
        area.first_untouched += 1
    spin_unlock_irqrestore(m, cpu, area.area_lock, flags)
    return found


@core
def give_entry(m: Machine, cpu: Cpu, area: SlabArea, at: int) -> None:
    """The entry is unused again."""
    slab = slab_at(m, at)
    flags = spin_lock_irqsave(cpu, area.area_lock, S_ENTRY)
    slab.pfn = NULL
    list_add(m, slab.slab_list, area.unused)
    spin_unlock_irqrestore(m, cpu, area.area_lock, flags)


@core
def account_slab_page(m: Machine, cpu: Cpu, cache: SlabCache, pfn: int, pages: int) -> None:
    """``mm/slab.h:account_slab_page() (5.10)``: callers give bytes there, and the counters keep pages all the same."""
    item = NR_SLAB_RECLAIMABLE_B if cache.cache_flags & SLAB_RECLAIM_ACCOUNT != 0 else NR_SLAB_UNRECLAIMABLE_B
    node = m.nodes[page_to_nid(page_record(m, pfn_to_page(m, pfn)))]
    mod_node_page_state(m, cpu, node, item, pages)


@core(cold=True)
def slab_pages(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``mm/slub.c:alloc_slab_page() (5.10)``: pages of one compound page, or NULL."""
    return alloc_pages(m, cpu, gfp | __GFP_COMP if order != 0 else gfp, order)


@core
def allocate_slab_pages(m: Machine, cpu: Cpu, cache: SlabCache, gfp: int) -> int:
    """The pages of ``mm/slub.c:allocate_slab() (5.10)``: pfn | order << 48. The cache's order is tried without effort
    first, then its least; NULL: no memory."""
    flags = gfp
    if cache.cache_flags & SLAB_RECLAIM_ACCOUNT != 0:
        flags |= __GFP_RECLAIMABLE
    order = cache.oo_order
    alloc_gfp = (flags | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_NOFAIL
    if alloc_gfp & __GFP_DIRECT_RECLAIM != 0 and order > cache.min_order:
        alloc_gfp = (alloc_gfp | __GFP_NOMEMALLOC) & ~__GFP_RECLAIM
    pfn = slab_pages(m, cpu, alloc_gfp, order)
    if pfn == NULL:
        order = cache.min_order
        pfn = slab_pages(m, cpu, flags, order)
    return NULL if pfn == NULL else pfn | order << 48


@core
def fill_slab(m: Machine, area: SlabArea, at: int, which: int, pfn: int, order: int, objects: int) -> None:
    """The entry of a new slab: all objects free, in a row."""
    slab = slab_at(m, at)
    slab.pfn = pfn
    slab.cache = which
    slab.nid = page_to_nid(page_record(m, pfn_to_page(m, pfn)))
    slab.order = order
    slab.objects = objects
    slab.inuse = 0
    slab.partial = 0
    slab.freelist = 1
    first = first_object(area, at)
    for i in range(objects):
        entry = slab_object_at(m, slab_object(m, area, first + i))
        entry.state = 0
        entry.count = 0
        entry.next_free = i + 2 if i + 1 < objects else 0


@core
def allocate_slab(m: Machine, cpu: Cpu, area: SlabArea, which: int, gfp: int) -> int:
    """``mm/slub.c:allocate_slab() (5.10)``: a new slab (its offset), on no list yet; NO_SLAB without memory."""
    cache = area.caches[which]
    at = take_entry(m, cpu, area)
    if at == NO_SLAB:
        return NO_SLAB
    found = allocate_slab_pages(m, cpu, cache, gfp)
    if found == NULL:
        give_entry(m, cpu, area, at)
        return NO_SLAB
    pfn = found & ((1 << 48) - 1)
    order = found >> 48
    set_flag(page_record(m, pfn_to_page(m, pfn)), PG_slab)
    account_slab_page(m, cpu, cache, pfn, 1 << order)
    fill_slab(m, area, at, which, pfn, order, min((PAGE_SIZE << order) // cache.object_size, OBJECTS_MAX))
    fetch_add(cache, "nr_slabs", 1)
    return at


@core
def discard_slab(m: Machine, cpu: Cpu, area: SlabArea, at: int) -> None:
    """``mm/slub.c:__free_slab() (5.10)``: an empty slab that is on no list gives its pages back. The task that did it
    gets the credit (``reclaim_state``)."""
    slab = slab_at(m, at)
    cache = area.caches[slab.cache]
    pages = 1 << slab.order
    account_slab_page(m, cpu, cache, slab.pfn, -pages)
    clear_flag(page_record(m, pfn_to_page(m, slab.pfn)), PG_slab)
    task_at(m, cpu.current).reclaimed_slab += pages
    fetch_add(cache, "nr_slabs", -1)
    __free_pages(m, cpu, slab.pfn, slab.order)
    give_entry(m, cpu, area, at)


# --- objects ----------------------------------------------------------------------------------------------------------


@core
def add_partial(m: Machine, cache: SlabCache, slab: Slab, tail: int) -> None:
    """``mm/slub.c:__add_partial() (5.10)``"""
    slab.partial = 1
    cache.nr_partial[slab.nid] += 1
    if tail != 0:
        list_add_tail(m, slab.slab_list, cache.partial[slab.nid])
    else:
        list_add(m, slab.slab_list, cache.partial[slab.nid])


@core
def remove_partial(m: Machine, cache: SlabCache, slab: Slab) -> None:
    """``mm/slub.c:remove_partial() (5.10)``"""
    slab.partial = 0
    cache.nr_partial[slab.nid] -= 1
    list_del(m, slab.slab_list)


@core
def take_object(m: Machine, area: SlabArea, cache: SlabCache, at: int) -> int:
    """The first free object of a slab; a full slab leaves the partial list."""
    slab = slab_at(m, at)
    obj = first_object(area, at) + slab.freelist - 1
    entry = slab_object_at(m, slab_object(m, area, obj))
    slab.freelist = entry.next_free
    slab.inuse += 1
    entry.state = OBJECT_USED
    entry.count = 1
    cache.nr_objects += 1
    if slab.freelist == 0 and slab.partial != 0:
        remove_partial(m, cache, slab)
    elif slab.freelist != 0 and slab.partial == 0:
        add_partial(m, cache, slab, 0)
    return obj


@core
def get_partial(m: Machine, cache: SlabCache, nid: int) -> int:
    """A slab with free objects, of this node; NO_SLAB: none."""
    head = cache.partial[nid]
    return NO_SLAB if list_empty(m, head) else head.next << 2


@entry
def kmem_cache_alloc(m: Machine, cpu: Cpu, which: int, gfp: int) -> int:
    """``mm/slub.c:kmem_cache_alloc() (5.10)``: an object of a cache, with one user; 0: no memory."""
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    cache = area.caches[which]
    flags = spin_lock_irqsave(cpu, cache.lock, S_ALLOC)
    at = get_partial(m, cache, cpu.node)
    obj = 0 if at == NO_SLAB else take_object(m, area, cache, at)
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    if obj != 0:
        return obj
    at = allocate_slab(m, cpu, area, which, gfp)
    if at == NO_SLAB:
        return 0
    flags = spin_lock_irqsave(cpu, cache.lock, S_NEW)
    obj = take_object(m, area, cache, at)
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    return obj


@core
def put_object(m: Machine, area: SlabArea, cache: SlabCache, obj: int) -> int:
    """``mm/slub.c:__slab_free() (5.10)`` under the lock: the offset of its slab if that is empty now and not wanted any
    more (the node has ``min_partial`` others), else NO_SLAB."""
    at = slab_of(area, obj)
    slab = slab_at(m, at)
    entry = slab_object_at(m, slab_object(m, area, obj))
    entry.state = 0
    entry.count = 0
    entry.next_free = slab.freelist
    slab.freelist = obj - first_object(area, at) + 1
    slab.inuse -= 1
    cache.nr_objects -= 1
    if slab.inuse == 0 and cache.nr_partial[slab.nid] >= cache.min_partial:
        if slab.partial != 0:
            remove_partial(m, cache, slab)
        return at
    if slab.partial == 0:
        add_partial(m, cache, slab, 1)
    return NO_SLAB


@core
def lru_del(m: Machine, cache: SlabCache, entry: SlabObject, nid: int) -> None:
    """``mm/list_lru.c:list_lru_isolate() (5.10)``"""
    list_del(m, entry.lru)
    entry.state = entry.state & ~(OBJECT_LRU | OBJECT_REFERENCED)
    cache.nr_lru[nid] -= 1


@entry
def kmem_cache_free(m: Machine, cpu: Cpu, obj: int) -> None:
    """``mm/slub.c:kmem_cache_free() (5.10)``: the object is gone, whoever used it and wherever it waited."""
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    slab = slab_at(m, slab_of(area, obj))
    cache = area.caches[slab.cache]
    entry = slab_object_at(m, slab_object(m, area, obj))
    flags = spin_lock_irqsave(cpu, cache.lock, S_FREE)
    if entry.state & OBJECT_LRU != 0:
        lru_del(m, cache, entry, slab.nid)
    empty = put_object(m, area, cache, obj)
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    if empty != NO_SLAB:
        discard_slab(m, cpu, area, empty)


@entry
def object_get(m: Machine, cpu: Cpu, obj: int) -> bool:
    """``lockref_get_not_dead()`` of a lookup: one more user; false if the object has been freed. An unused object stays
    on the LRU list until a scan finds it in use."""
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    cache = area.caches[slab_at(m, slab_of(area, obj)).cache]
    entry = slab_object_at(m, slab_object(m, area, obj))
    flags = spin_lock_irqsave(cpu, cache.lock, S_LRU)
    alive = entry.state & OBJECT_USED != 0
    if alive:
        entry.count += 1
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    return alive


@entry
def object_put(m: Machine, cpu: Cpu, obj: int) -> None:
    """``fs/dcache.c:dput() (5.10)``: one user less. The last one leaves the object on the LRU list; when it is there
    still, it was used again and gets a second round. Without a shrinker it is freed."""
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    slab = slab_at(m, slab_of(area, obj))
    cache = area.caches[slab.cache]
    entry = slab_object_at(m, slab_object(m, area, obj))
    flags = spin_lock_irqsave(cpu, cache.lock, S_LRU)
    entry.count -= 1
    empty = NO_SLAB
    if entry.count != 0:
        pass
    elif cache.cache_flags & SLAB_SHRINKER == 0:
        empty = put_object(m, area, cache, obj)
    elif entry.state & OBJECT_LRU == 0:
        entry.state = entry.state | OBJECT_LRU
        list_add_tail(m, entry.lru, cache.lru[slab.nid])
        cache.nr_lru[slab.nid] += 1
    else:
        entry.state = entry.state | OBJECT_REFERENCED
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    if empty != NO_SLAB:
        discard_slab(m, cpu, area, empty)


# --- shrinkers --------------------------------------------------------------------------------------------------------


@core
def count_objects(m: Machine, which: int, nid: int) -> int:
    """``fs/super.c:super_cache_count() (5.10)`` of one cache: what a node's LRU list has, weighted by
    ``vm.vfs_cache_pressure``."""
    vm = vm_at(m, m.vm)
    count = slab_area_at(m, vm.slab).caches[which].nr_lru[nid]
    # mult_frac(): without overflow
    return count // 100 * vm.vfs_cache_pressure + count % 100 * vm.vfs_cache_pressure // 100


@core
def isolate_object(m: Machine, cpu: Cpu, area: SlabArea, cache: SlabCache, nid: int) -> int:
    """``fs/dcache.c:dentry_lru_isolate() (5.10)`` of the oldest object: 0: it is referenced, and goes round once more;
    1: it is in use, off the list; 2: freed; -1: the list is empty."""
    flags = spin_lock_irqsave(cpu, cache.lock, S_SCAN)
    head = cache.lru[nid]
    verdict = -1
    empty = NO_SLAB
    if not list_empty(m, head):
        at = head.next << 2
        entry = slab_object_at(m, at)
        if entry.count != 0:
            lru_del(m, cache, entry, nid)
            verdict = 1
        elif entry.state & OBJECT_REFERENCED != 0:
            entry.state = entry.state & ~OBJECT_REFERENCED
            list_move_tail(m, entry.lru, head)
            verdict = 0
        else:
            lru_del(m, cache, entry, nid)
            empty = put_object(m, area, cache, (at - area.objects) // SLAB_OBJECT_SIZE + 1)
            verdict = 2
    spin_unlock_irqrestore(m, cpu, cache.lock, flags)
    if empty != NO_SLAB:
        discard_slab(m, cpu, area, empty)
    return verdict


@core
def scan_objects(m: Machine, cpu: Cpu, which: int, nid: int, nr_to_scan: int) -> int:
    """``fs/dcache.c:prune_dcache_sb() (5.10)``: look at so many unused objects of a node, oldest first. Returns how
    many left the list; pages are freed only with the last object of a slab."""
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    cache = area.caches[which]
    freed = 0
    point(cpu.party, S_COUNT)
    for _ in range(min(nr_to_scan, cache.nr_lru[nid])):
        verdict = isolate_object(m, cpu, area, cache, nid)
        if verdict < 0:
            break
        if verdict != 0:
            freed += 1
    return freed
