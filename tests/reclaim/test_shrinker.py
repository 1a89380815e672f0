"""How many objects of a cache are looked at, and what is deferred."""

import random

from emu.zone.gfp import GFP_KERNEL, GFP_NOFS
from emu.zone.slab_types import CACHE_DENTRY, CACHE_INODE, SlabArea, SlabCache
from emu.zone.vmstat_items import NR_SLAB_RECLAIMABLE_B, SLABS_SCANNED
from shm.struct import record_at
from tests.bench import scaled
from tests.reclaim.entries import (
    kmem_cache_alloc,
    object_get,
    object_put,
    reclaim_directly,
    shrink_cache,
    shrink_caches,
    total_scan,
)  # fmt: skip
from tests.reclaim.lists import Lists

BATCH = 1024


def cache(lists: Lists, which: int = CACHE_DENTRY) -> SlabCache:
    return record_at(SlabArea, lists.b.base + lists.vm.slab).caches[which]


def unused(lists: Lists, count: int, which: int = CACHE_DENTRY) -> list[int]:
    """Objects that nobody uses any more."""
    made = [int(kmem_cache_alloc(lists.m, lists.b.cpu(), which, GFP_KERNEL)) for _ in range(count)]
    assert all(made)
    for obj in made:
        object_put(lists.m, lists.b.cpu(), obj)
    return made


def run(lists: Lists, priority: int, gfp: int = GFP_KERNEL, which: int = CACHE_DENTRY) -> int:
    return int(shrink_cache(lists.m, lists.b.cpu(), gfp, 0, which, priority))


def test_total_scan(lists: Lists) -> None:
    rng = random.Random(8)
    for _ in range(scaled(3000)):
        freeable, nr, priority = rng.randint(1, 100_000), rng.choice([0, 5, 10_000, 10**7]), rng.randint(0, 12)
        delta = (freeable >> priority) * 4 // 2
        wanted = nr + delta
        if delta < freeable // 4:
            wanted = min(wanted, freeable // 2)
        assert total_scan(nr, delta, freeable) == min(wanted, 2 * freeable)


def test_small_portions_are_deferred_until_they_make_a_batch(lists: Lists) -> None:
    unused(lists, 3000)
    of = cache(lists)
    assert run(lists, 4) == 0, "374 of 3000: less than a batch"
    assert of.nr_deferred[0].counter == 374 and lists.count(SLABS_SCANNED) == 0
    assert run(lists, 4) == 0
    assert of.nr_deferred[0].counter == 748
    assert run(lists, 4) == BATCH
    assert of.nr_deferred[0].counter == 3 * 374 - BATCH
    assert lists.count(SLABS_SCANNED) == BATCH and of.nr_lru[0] == 3000 - BATCH


def test_a_small_cache_is_emptied_when_memory_is_tight(lists: Lists) -> None:
    unused(lists, 100)
    assert run(lists, 3) == 0
    assert run(lists, 0) == 100
    assert cache(lists).nr_lru[0] == 0
    assert run(lists, 0) == 0


def test_without_fs_all_is_deferred(lists: Lists) -> None:
    unused(lists, 100)
    assert run(lists, 0, GFP_NOFS) == 0
    assert cache(lists).nr_lru[0] == 100
    assert cache(lists).nr_deferred[0].counter == 200


def test_objects_used_again_get_a_second_round(lists: Lists) -> None:
    made = unused(lists, 100)
    for obj in made[:50]:
        assert object_get(lists.m, lists.b.cpu(), obj)
        object_put(lists.m, lists.b.cpu(), obj)
    assert run(lists, 1) == 50, "as many are looked at as there are, half of them for the first time"
    assert run(lists, 0) == 50


def test_reclaimed_slab_pages_count(lists: Lists) -> None:
    unused(lists, 2000)
    unused(lists, 500, CACHE_INODE)
    before = lists.node_state(NR_SLAB_RECLAIMABLE_B)
    assert before > 100
    assert reclaim_directly(lists.m, lists.b.cpu(), 0, GFP_KERNEL, 0) >= 32
    assert lists.node_state(NR_SLAB_RECLAIMABLE_B) < before


def test_cgroups_have_no_caches(lists: Lists) -> None:
    unused(lists, 100)
    assert shrink_caches(lists.m, lists.b.cpu(), GFP_KERNEL, 0, 1, 0) == 0
    assert shrink_caches(lists.m, lists.b.cpu(), GFP_KERNEL, 0, 0, 0) == 100
