"""Page migration: who names a page names the new one afterwards, or nothing has changed."""

from dataclasses import replace

import pytest

from emu.mm.migrate import ENOMEM, MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT
from emu.zone.gfp import __GFP_THISNODE, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mm_types import AS_FILE, AS_SHMEM, PTE_MIGRATION, XA_PAGE, Slot
from emu.zone.mmzone import ZONE_DMA32, ZONE_NORMAL
from emu.zone.page import (
    PAGE_MAPPING_MOVABLE,
    PG_active,
    PG_dirty,
    PG_locked,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_uptodate,
    PG_workingset,
    PG_writeback,
)
from emu.zone.vmstat_items import NR_FILE_DIRTY, NR_FILE_PAGES, NR_SHMEM, PGMIGRATE_FAIL, PGMIGRATE_SUCCESS
from shm.struct import record_at
from tests.bench import shape
from tests.compact.world import World, do, to_swap_cache, world
from tests.reclaim.lists import ACTIVE_ANON, INACTIVE_ANON, INACTIVE_FILE, dirty, map_page, requeue, writeback

TWO_NODES = shape([(0, ZONE_DMA32, 1024, 2048), (1, ZONE_NORMAL, 3072, 2048)], (0, 1))


def file_slot(w: World, file: int, index: int) -> int:
    return int(record_at(Slot, w.b.base + w.mapping(file).i_pages + index * 8).value)


def cached(w: World, file: int, index: int) -> int:
    """The page in a file's slot."""
    value = file_slot(w, file, index)
    assert value & 3 == XA_PAGE
    return value >> 2


def counts(w: World) -> tuple[int, int]:
    return w.count(PGMIGRATE_SUCCESS), w.count(PGMIGRATE_FAIL)


def test_anonymous_page() -> None:
    with world() as w:
        w.space()
        old = w.fill_anon(20)[7]
        w.b.page(old).page_flags |= PG_referenced | PG_workingset
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        new = w.mapped_at(7)
        assert new != old and w.anon_owner(new) == (1, 7)
        page = w.b.page(new)
        assert (page.refcount, page.mapcount) == (1, 0)
        assert w.flags(new) & (PG_referenced | PG_workingset | PG_uptodate | PG_swapbacked | PG_locked) == (
            PG_referenced | PG_workingset | PG_uptodate | PG_swapbacked
        )
        assert new in w.on(INACTIVE_ANON) and old not in w.on(INACTIVE_ANON)
        assert w.b.page(old).refcount == 0 and w.b.page(old).mapping == 0
        assert counts(w) == (1, 0)


def test_the_bits_of_a_mapping() -> None:
    """A migration entry keeps whether it may be written; the dirty bit went to the page, and it isn't young."""
    with world() as w:
        w.space()
        old = w.fill_anon(1)[0]
        w.touch(1, 0)
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        new = w.mapped_at(0)
        assert w.pte(1, 0).value & 0xFF == 1 | 8  # present, writable
        assert w.flags(new) & PG_dirty and not w.pte(1, 0).value & PTE_MIGRATION


def test_active_page_stays_active() -> None:
    with world() as w:
        w.space()
        old = w.fill_anon(1)[0]
        w.b.page(old).page_flags |= PG_active
        # as activate_page() would have moved it
        node = w.node()
        requeue(w.m, node.lruvecs[0], ACTIVE_ANON, old)
        zone = w.b.zone()
        lruvec = node.lruvecs[0]
        for lru, delta in ((INACTIVE_ANON, -1), (ACTIVE_ANON, 1)):
            lruvec.lru_zone_size[zone.zid * 5 + lru] += delta
            node.vm_stat[lru].counter += delta
            zone.vm_stat[1 + lru].counter += delta
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        assert w.on(ACTIVE_ANON) == [w.mapped_at(0)]


@pytest.mark.parametrize("kind", [AS_FILE, AS_SHMEM])
def test_page_of_a_file(kind: int) -> None:
    with world() as w:
        file = w.file(64, kind)
        old = w.fill_file(file, 16)[3]
        assert w.migrate([old], MIGRATE_SYNC) == 0
        new = cached(w, file, 3)
        page = w.b.page(new)
        assert new != old and (page.mapping, page.index, page.refcount) == (file << 2, 3, 1)
        assert w.b.page(old).refcount == 0 and w.mapping(file).nrpages == 16


def test_mapped_page_of_a_file() -> None:
    with world() as w:
        file = w.file(64)
        old = w.fill_file(file, 4)[2]
        w.space(1, file=file)
        w.space(2, file=file)
        for mm_id in (1, 2):
            map_page(w.m, w.b.cpu(), mm_id, 2, old)
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        new = w.mapped_at(2, 1)
        assert new == w.mapped_at(2, 2) == cached(w, file, 2) != old
        assert (w.b.page(new).refcount, w.b.page(new).mapcount) == (3, 1)
        assert w.b.page(old).refcount == 0


def test_page_in_the_swap_cache() -> None:
    of = shape([(0, ZONE_NORMAL, 1024, 4096)])
    with world(replace(of, swap=256)) as w:
        w.space()
        old = w.fill_anon(4)[1]
        assert to_swap_cache(w.m, w.b.cpu(), old)
        entry = w.b.page(old).private
        assert entry and w.migrate([old], MIGRATE_ASYNC) == 0
        new = w.mapped_at(1)
        page = w.b.page(new)
        assert w.flags(new) & PG_swapcache and not w.flags(old) & PG_swapcache
        assert (page.private, page.refcount) == (entry, 2)
        assert record_at(Slot, w.b.base + w.swap.swap_cache + entry * 8).value == new << 2 | XA_PAGE
        assert w.b.page(old).refcount == 0


def test_other_node_counts_the_page() -> None:
    with world(TWO_NODES) as w:
        file = w.file(64, AS_FILE)
        tmpfs = w.file(64, AS_SHMEM)
        old = w.fill_file(file, 8)[5]
        other = w.fill_file(tmpfs, 8)[5]
        dirty(w.m, w.b.cpu(), old)
        before = [w.node_state(item, nid) for nid in (0, 1) for item in (NR_FILE_PAGES, NR_FILE_DIRTY, NR_SHMEM)]
        assert w.migrate([old, other], MIGRATE_SYNC, nid=1, gfp=GFP_HIGHUSER_MOVABLE | __GFP_THISNODE) == 0
        after = [w.node_state(item, nid) for nid in (0, 1) for item in (NR_FILE_PAGES, NR_FILE_DIRTY, NR_SHMEM)]
        assert [b - a for a, b in zip(before, after, strict=True)] == [-2, -1, -1, 2, 1, 1]
        new = cached(w, file, 5)
        assert new >= 3072 and w.flags(new) & PG_dirty
        for nid in (0, 1):
            assert len(w.on(INACTIVE_FILE, nid=nid)) == w.sizes(nid=nid)[INACTIVE_FILE]


def unchanged(w: World, slot: int, old: int) -> None:
    assert w.mapped_at(slot) == old and old in w.on(INACTIVE_ANON)
    assert not w.flags(old) & PG_locked and w.b.page(old).mapcount == 0


def test_pinned_page_stays() -> None:
    with world() as w:
        w.space()
        pfns = w.fill_anon(8)
        w.b.page(pfns[3]).refcount += 1
        free = w.b.nr_free_now()
        assert w.migrate(pfns[2:5], MIGRATE_SYNC) == 1
        unchanged(w, 3, pfns[3])
        assert w.b.page(pfns[3]).refcount == 2 and counts(w) == (2, 1)
        w.b.drain()
        assert w.b.nr_free_now() >= free  # the page that it should have got isn't lost
        w.b.page(pfns[3]).refcount -= 1


def test_locked_page_is_left_alone_by_async() -> None:
    with world() as w:
        w.space()
        old = w.fill_anon(8)[3]
        assert do.lock(w.b.page(old))
        assert w.migrate([old], MIGRATE_ASYNC) == 1
        assert w.flags(old) & PG_locked
        do.unlock(w.m, w.b.cpu(), old)
        unchanged(w, 3, old)
        assert w.migrate([old], MIGRATE_ASYNC) == 0


@pytest.mark.parametrize("mode", [MIGRATE_ASYNC, MIGRATE_SYNC_LIGHT])
def test_page_under_writeback_stays(mode: int) -> None:
    with world() as w:
        file = w.file(16)
        old = w.fill_file(file, 4)[1]
        do.lock(w.b.page(old))
        writeback(w.m, w.b.cpu(), old)
        do.unlock(w.m, w.b.cpu(), old)
        assert w.flags(old) & PG_writeback
        assert w.migrate([old], mode) == 1
        assert cached(w, file, 1) == old and old in w.on(INACTIVE_FILE)
        assert counts(w) == (0, 1)
        w.b.strict = False


def test_no_memory_for_the_new_page() -> None:
    with world() as w:
        w.space()
        pfns = w.fill_anon(8)
        held = w.b.take_all()
        assert w.migrate(pfns[:4], MIGRATE_SYNC, gfp=0x2000) == -ENOMEM
        for slot in range(4):
            unchanged(w, slot, pfns[slot])
        assert counts(w) == (0, 1)
        for pfn in held:
            w.b.free(pfn)


def test_memory_cgroup_pays_for_both_until_the_old_page_is_free() -> None:
    with world() as w:
        w.space(1, memcg=1)
        old = w.fill_anon(4)[2]
        assert w.m.memcgs[0].memory == 4
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        new = w.mapped_at(2)
        assert w.b.page(new).private >> 26 == 1 and w.m.memcgs[0].memory == 4
        assert new in w.on(INACTIVE_ANON, memcg=1)


def test_movable_page_of_a_driver() -> None:
    """A balloon's page: on no LRU list, its driver's reference moves along."""
    with world() as w:
        old = w.b.alloc(0, GFP_KERNEL)
        page = w.b.page(old)
        page.mapping, page.index = 9 << 2 | PAGE_MAPPING_MOVABLE, 77
        assert w.migrate([old], MIGRATE_ASYNC) == 0
        w.b.drain()
        assert w.b.page(old).refcount == 0
        found = [p for p in range(1024, 1024 + 4096) if w.b.page(p).mapping == 9 << 2 | PAGE_MAPPING_MOVABLE]
        assert len(found) == 1 and found[0] != old
        assert (w.b.page(found[0]).index, w.b.page(found[0]).refcount) == (77, 1)
        assert counts(w) == (1, 0)
        w.b.free(found[0])
