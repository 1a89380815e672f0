"""Slab caches: real pages for objects, counters in pages, and shrinkers that free whole slabs only."""

import pytest

from emu.zone.gfp import __GFP_NOWARN, GFP_KERNEL, GFP_NOWAIT
from emu.zone.page import PG_slab
from emu.zone.slab_types import (
    CACHE_DENTRY,
    CACHE_INODE,
    CACHE_KMALLOC_1K,
    CACHE_KMALLOC_4K,
    CACHE_TASK_STRUCT,
    NR_SLAB_CACHES,
    SLAB_CACHE_NAMES,
    SLAB_CACHE_SHAPES,
    SLAB_RECLAIM_ACCOUNT,
)  # fmt: skip
from emu.zone.vmstat_items import NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B
from tests.bench import one_zone, two_nodes
from tests.mm.iobench import IoBench, iobench

PER_SLAB = 4096 // 192


def objects(b: IoBench, cache: int, count: int, gfp: int = GFP_KERNEL, cpu: int = 0) -> list[int]:
    return [b.call("kmem_cache_alloc", cache, gfp, cpu=cpu) for _ in range(count)]


def free(b: IoBench, objs: list[int]) -> None:
    for obj in objs:
        b.call("kmem_cache_free", obj)


@pytest.mark.parametrize("cache", range(NR_SLAB_CACHES), ids=SLAB_CACHE_NAMES)
def test_a_slab_has_real_pages_until_its_last_object_is_freed(cache: int) -> None:
    size, order, _, flags = SLAB_CACHE_SHAPES[cache]
    item = NR_SLAB_RECLAIMABLE_B if flags & SLAB_RECLAIM_ACCOUNT else NR_SLAB_UNRECLAIMABLE_B
    with iobench() as b:
        b.area().caches[cache].min_partial = 0
        per_slab = min((4096 << order) // size, 32)
        objs = objects(b, cache, per_slab + 1)
        assert len(set(objs)) == per_slab + 1
        assert b.stat(item) == 2 << order
        assert b.block(b.slab(objs[0]).pfn).bits & 7 == (2 if flags & SLAB_RECLAIM_ACCOUNT else 0)
        assert b.flags(b.slab(objs[0]).pfn) & PG_slab
        free(b, objs[1:per_slab])
        assert b.stat(item) == 2 << order
        free(b, objs[:1])
        assert b.stat(item) == 1 << order
        assert b.task().reclaimed_slab == 1 << order
        free(b, objs[per_slab:])
        assert b.stat(item) == 0


def test_free_objects_are_used_before_new_pages() -> None:
    with iobench() as b:
        objs = objects(b, CACHE_DENTRY, 2 * PER_SLAB)
        assert b.area().caches[CACHE_DENTRY].nr_slabs == 2
        free(b, [objs[5], objs[30]])
        again = objects(b, CACHE_DENTRY, 2)
        assert sorted(again) == sorted([objs[5], objs[30]])
        assert b.area().caches[CACHE_DENTRY].nr_slabs == 2
        free(b, objs)


def test_a_few_empty_slabs_are_kept() -> None:
    with iobench() as b:
        cache = b.area().caches[CACHE_DENTRY]
        assert cache.min_partial == 5  # 5.10: ilog2(192) / 2, and at least 5
        objs = objects(b, CACHE_DENTRY, 8 * PER_SLAB)
        free(b, objs)
        # one that becomes empty counts itself among those on the list
        assert (cache.nr_slabs, cache.nr_partial[0], cache.nr_objects) == (4, 4, 0)
        assert b.stat(NR_SLAB_RECLAIMABLE_B) == 4


def test_without_memory_there_is_no_object() -> None:
    with iobench() as b:
        b.take_all()
        assert b.call("kmem_cache_alloc", CACHE_KMALLOC_1K, GFP_NOWAIT | __GFP_NOWARN) == 0
        assert b.area().first_untouched == 1
        assert b.findings() == []


def test_smaller_slabs_when_memory_is_in_pieces() -> None:
    with iobench(one_zone(4096)) as b:
        taken = b.take_all()
        for pfn in sorted(taken)[:2048:2]:
            b.free(pfn)
        b.drain()
        obj = b.call("kmem_cache_alloc", CACHE_KMALLOC_1K, GFP_KERNEL | __GFP_NOWARN)
        assert (b.slab(obj).order, b.slab(obj).objects) == (0, 4)
        # a task_struct needs three pages in a row
        assert b.call("kmem_cache_alloc", CACHE_TASK_STRUCT, GFP_KERNEL | __GFP_NOWARN) == 0
        free(b, [obj])


def test_objects_come_from_the_cpus_node() -> None:
    with iobench(two_nodes(cpus=2)) as b:
        near, far = objects(b, CACHE_DENTRY, 3, cpu=0), objects(b, CACHE_DENTRY, 3, cpu=1)
        assert [b.slab(o).nid for o in near + far] == [0] * 3 + [1] * 3
        assert (b.stat(NR_SLAB_RECLAIMABLE_B, 0), b.stat(NR_SLAB_RECLAIMABLE_B, 1)) == (1, 1)
        for obj in far:
            b.call("object_put", obj)
        assert (b.ask("count_objects", CACHE_DENTRY, 0), b.ask("count_objects", CACHE_DENTRY, 1)) == (0, 3)
        free(b, near + far)


def test_unused_objects_wait_and_the_oldest_goes_first() -> None:
    with iobench() as b:
        objs = objects(b, CACHE_DENTRY, 6)
        for obj in objs:
            b.call("object_put", obj)
        assert b.ask("count_objects", CACHE_DENTRY, 0) == 6
        assert b.call("scan_objects", CACHE_DENTRY, 0, 2) == 2
        assert b.area().caches[CACHE_DENTRY].nr_objects == 4
        assert not b.call("object_get", objs[0])  # gone
        assert b.call("object_get", objs[2])
        b.call("object_put", objs[2])
        assert b.call("scan_objects", CACHE_DENTRY, 0, 100) == 3  # objs[2] has another round
        assert b.ask("count_objects", CACHE_DENTRY, 0) == 1
        assert b.call("scan_objects", CACHE_DENTRY, 0, 100) == 1


def test_objects_in_use_leave_the_list_unharmed() -> None:
    with iobench() as b:
        objs = objects(b, CACHE_INODE, 3)
        for obj in objs:
            b.call("object_put", obj)
        assert b.call("object_get", objs[1])
        assert b.call("scan_objects", CACHE_INODE, 0, 100) == 3  # two freed, one off the list
        assert (b.ask("count_objects", CACHE_INODE, 0), b.area().caches[CACHE_INODE].nr_objects) == (0, 1)
        b.call("object_put", objs[1])
        assert b.ask("count_objects", CACHE_INODE, 0) == 1
        free(b, [objs[1]])


def test_pages_come_free_only_with_whole_slabs() -> None:
    with iobench() as b:
        b.area().caches[CACHE_DENTRY].min_partial = 0
        objs = objects(b, CACHE_DENTRY, 10 * PER_SLAB)
        kept = objs[::PER_SLAB]  # one of each slab is in use
        for obj in objs:
            if obj not in kept:
                b.call("object_put", obj)
        assert b.call("scan_objects", CACHE_DENTRY, 0, 10_000) == 10 * (PER_SLAB - 1)
        assert b.stat(NR_SLAB_RECLAIMABLE_B) == 10
        for obj in kept[:4]:
            b.call("object_put", obj)
        assert b.call("scan_objects", CACHE_DENTRY, 0, 10_000) == 4
        assert b.stat(NR_SLAB_RECLAIMABLE_B) == 6
        free(b, kept[4:])


def test_pressure_weighs_the_count() -> None:
    with iobench() as b:
        objs = objects(b, CACHE_DENTRY, 7)
        for obj in objs:
            b.call("object_put", obj)
        for pressure, count in ((100, 7), (50, 3), (0, 0), (1000, 70)):
            b.vm.vfs_cache_pressure = pressure
            assert b.ask("count_objects", CACHE_DENTRY, 0) == count
        free(b, objs)


def test_without_a_shrinker_the_last_user_frees() -> None:
    with iobench() as b:
        obj = b.call("kmem_cache_alloc", CACHE_KMALLOC_4K, GFP_KERNEL)
        assert b.call("object_get", obj)
        b.call("object_put", obj)
        assert b.area().caches[CACHE_KMALLOC_4K].nr_objects == 1
        b.call("object_put", obj)
        assert b.area().caches[CACHE_KMALLOC_4K].nr_objects == 0


def test_the_table_of_slabs_has_an_end() -> None:
    with iobench() as b:
        b.area().first_untouched = b.area().nr_slabs = 2  # never used, but gone
        for at in range(2):
            slab = b.slab(at * 32 + 1)
            slab.pfn = -1
        assert b.call("kmem_cache_alloc", CACHE_DENTRY, GFP_KERNEL) == 0
