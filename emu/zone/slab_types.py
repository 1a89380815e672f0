"""Slab caches: what lies in shared memory of them (``include/linux/slub_def.h``, ``mm/slab.h`` (5.10)).

``SlabArea`` lies at ``Vm.slab``; the tables of slabs and of their objects follow it. Objects have no memory of their
own beyond their slab's real pages: an entry here says what the model has to know of one. An object is named by its
number from 1 on; those of a slab are ``OBJECTS_MAX`` numbers in a row.
"""

from emu.zone.mmzone import MAX_NUMNODES
from emu.zone.types import AtomicLong, ListHead
from shm.spinlock_types import Spinlock
from shm.struct import Array, At, Struct, array, embed, fixed, i16, i32, i64, size_of, struct, u8, u16

OBJECTS_MAX = 32  # of a slab
NR_SLAB_CACHES = 6
CACHE_DENTRY = 0
CACHE_INODE = 1
CACHE_RADIX_TREE_NODE = 2
CACHE_TASK_STRUCT = 3
CACHE_KMALLOC_1K = 4
CACHE_KMALLOC_4K = 5
SLAB_CACHE_NAMES = ("dentry", "inode_cache", "radix_tree_node", "task_struct", "kmalloc-1k", "kmalloc-4k")
SLAB_RECLAIM_ACCOUNT = 1  # its pages are reclaimable: grouped with such, counted as such
SLAB_SHRINKER = 2  # unused objects are kept on LRU lists, and a shrinker frees them
# object size, order of a slab, least order, flags
SLAB_CACHE_SHAPES = (
    (192, 0, 0, SLAB_RECLAIM_ACCOUNT | SLAB_SHRINKER),
    (600, 2, 0, SLAB_RECLAIM_ACCOUNT | SLAB_SHRINKER),
    (576, 2, 0, SLAB_RECLAIM_ACCOUNT),
    (9728, 3, 2, 0),
    (1024, 3, 0, 0),
    (4096, 3, 0, 0),
)

OBJECT_USED = 1  # allocated
OBJECT_LRU = 2  # on its cache's LRU list: unused, or used again since
OBJECT_REFERENCED = 4  # it gets a second round


@struct
class SlabObject(Struct):
    """One object of a slab."""

    lru: ListHead = embed(ListHead)
    count: int = u16()  # users; an object without any waits on the LRU list
    state: int = u8()  # OBJECT_*
    next_free: int = u8()  # place in its slab of the next free object + 1


@struct
class Slab(Struct):
    """What ``struct page`` says of a slab."""

    slab_list: ListHead = embed(ListHead)  # on its node's partial list, or the list of unused entries of this table
    pfn: int = i64()  # -1: the entry is unused
    cache: int = i16()
    nid: int = i16()
    order: int = i16()
    objects: int = i16()
    inuse: int = i16()
    freelist: int = i16()  # place of the first free object + 1
    partial: int = i32()  # on the partial list


@struct
class SlabCache(Struct):
    """``struct kmem_cache`` with its ``kmem_cache_node`` and ``list_lru`` of each node."""

    _align_ = 64

    lock: Spinlock = embed(Spinlock)  # list_lock and the list_lru's, interrupts off
    object_size: int = fixed(i32)
    oo_order: int = fixed(i32)
    min_order: int = fixed(i32)
    cache_flags: int = fixed(i32)  # SLAB_*
    min_partial: int = fixed(i32)
    _hole: int = i32()
    nr_slabs: int = i64()
    nr_objects: int = i64()  # in use, unused ones on the LRU lists among them
    partial: Array[ListHead] = array(ListHead, MAX_NUMNODES)
    nr_partial: Array[int] = array(i64, MAX_NUMNODES)
    lru: Array[ListHead] = array(ListHead, MAX_NUMNODES)
    nr_lru: Array[int] = array(i64, MAX_NUMNODES)
    nr_deferred: Array[AtomicLong] = array(AtomicLong, MAX_NUMNODES)  # of the shrinker


@struct
class SlabArea(Struct):
    """All caches, and which entries of the slab table are unused."""

    _align_ = 64

    area_lock: Spinlock = embed(Spinlock)
    nr_slabs: int = fixed(i64)
    slabs: int = fixed(i64)  # offset of Slab[nr_slabs]
    objects: int = fixed(i64)  # offset of SlabObject[nr_slabs * OBJECTS_MAX]
    first_untouched: int = i64()  # entries from here on were never used
    unused: ListHead = embed(ListHead)
    caches: Array[SlabCache] = array(SlabCache, NR_SLAB_CACHES)


SLAB_SIZE = size_of(Slab)
SLAB_OBJECT_SIZE = size_of(SlabObject)
SLAB_AREA_SIZE = size_of(SlabArea)

slab_area_at = At(SlabArea)
slab_at = At(Slab)
slab_object_at = At(SlabObject)


def slab_entries(pages: int) -> int:
    """Slabs that a machine of so many pages has room for: a quarter of its memory if all of them were single pages.

    Entries that were never used take no memory, so there may be many.
    """
    return max(pages // 4, 256)


def slab_area_bytes(pages: int) -> int:
    """Bytes of the area with its tables."""
    return SLAB_AREA_SIZE + slab_entries(pages) * (SLAB_SIZE + OBJECTS_MAX * SLAB_OBJECT_SIZE)
