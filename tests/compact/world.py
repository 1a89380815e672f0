"""Memory for compaction to work on, and its functions as entries. Pages are made as in ``tests.reclaim.lists``."""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emu.compact import defer, frag, kcompactd, skip, suitable
from emu.compact.control import FREEPAGES, compact_control
from emu.compact.direct import compact_zone_order
from emu.compact.fast_free import fast_isolate_freepages
from emu.compact.isolate_free import release_freepages, split_map_pages
from emu.compact.kcompactd import kcompactd_do_work
from emu.compact.skip import reset_isolation_suitable
from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import __alloc_pages_nodemask, alloc_context, prepare_alloc_pages
from emu.cpu.pageset import drain_local_pages
from emu.cpu.seams import __alloc_pages_direct_compact, should_compact_retry
from emu.mm.isolate_lru import isolate_lru_page
from emu.mm.migrate import (
    MR_SYSCALL,
    TARGET_ALLOC,
    MigrateTarget,
    migrate_pages,
    mod_isolated,
    putback_movable_pages,
)  # fmt: skip
from emu.mm.movable import isolate_movable_page
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.pagevec import put_page
from emu.mm.rmap_walk import page_remove_rmap
from emu.mm.swap_state import add_to_swap
from emu.mm.vma import add_mm_counter, mm_offset
from emu.zone.boot import Shape
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.kswapd_wake import wakeup_kcompactd
from emu.zone.list import INIT_LIST_HEAD, list_add_tail
from emu.zone.mm_types import MM_ANONPAGES, PTE_PRESENT, PTE_SHIFT, mm_record
from emu.zone.mmzone import Cpu, Machine, Node, Zone, page_record
from emu.zone.page import PAGE_MAPPING_ANON, PG_lru, pfn_to_page
from emu.zone.vmstat_items import NR_ISOLATED_ANON, NR_LRU_BASE
from shm.atomic import address
from shm.core import OnStack, as_entries, entry
from tests.bench import _published, bench, one_zone, word_at
from tests.reclaim.lists import LIST_ENTRIES, Lists

HEAD = 14
migrate_target = OnStack(MigrateTarget)


@entry
def migrate_list(m: Machine, cpu: Cpu, count: int, mode: int, nid: int, gfp: int) -> int:
    """Isolate the pages named in the script area and migrate them to other pages of a node; what's left is put back.
    Returns what ``migrate_pages()`` did, or -100 - i if page i couldn't be isolated."""
    head = cpu.scratch[HEAD]
    INIT_LIST_HEAD(m, head)
    for i in range(count):
        pfn = word_at(m, m.script + i * 8).value
        page = page_record(m, pfn_to_page(m, pfn))
        if page.mapping & 3 == 2:
            if isolate_movable_page(m, cpu, pfn, 0) != 0:
                return -100 - i
        else:
            if isolate_lru_page(m, cpu, pfn) != 0:
                return -100 - i
            mod_isolated(m, cpu, pfn, 1)
        list_add_tail(m, page.lru, head)
    target = migrate_target()
    target.kind = TARGET_ALLOC
    target.nid = nid
    target.gfp_mask = gfp
    rc = migrate_pages(m, cpu, head, target, mode, MR_SYSCALL)
    putback_movable_pages(m, cpu, head)
    return rc


@entry
def direct_compact(m: Machine, cpu: Cpu, gfp: int, order: int, alloc_flags: int, prio: int) -> int:
    """What the slow path does to compact for an allocation: a pfn or -1."""
    ac = alloc_context()
    prepare_alloc_pages(m, cpu, gfp, order, cpu.node, 0, ac)
    return __alloc_pages_direct_compact(m, cpu, gfp, order, alloc_flags, ac, prio)


@entry
def retry(m: Machine, cpu: Cpu, order: int, result: int, prio: int, retries: int) -> int:
    """``should_compact_retry()``: the answer, and the priority << 8 and retries << 16 that it leaves."""
    ac = alloc_context()
    prepare_alloc_pages(m, cpu, GFP_KERNEL, order, cpu.node, 0, ac)
    ac.compact_result = result
    ac.compact_priority = prio
    ac.compaction_retries = retries
    again = should_compact_retry(m, cpu, ac, order, 0)
    return (1 if again else 0) | ac.compact_priority << 8 | ac.compaction_retries << 16


@entry
def zone_order(m: Machine, cpu: Cpu, zone: Zone, order: int, prio: int) -> int:
    """``compact_zone_order()`` for movable memory."""
    return compact_zone_order(m, cpu, zone, order, GFP_KERNEL | 8, prio, 0, 3)


@entry
def fast_search(m: Machine, cpu: Cpu, zone: Zone, order: int, migrate_pfn: int, free_pfn: int) -> int:
    """Pages that ``fast_isolate_freepages()`` finds with the scanners at two places; they are free again then."""
    freepages = cpu.scratch[FREEPAGES]
    INIT_LIST_HEAD(m, freepages)
    cc = compact_control()
    cc.zone = address(zone) - address(m)
    cc.order = order
    cc.search_order = order
    cc.mode = 1
    cc.nr_migratepages = 1
    cc.migrate_pfn = migrate_pfn
    cc.free_pfn = free_pfn
    fast_isolate_freepages(m, cpu, cc)
    split_map_pages(m, cpu, freepages)
    release_freepages(m, cpu, freepages)
    return cc.nr_freepages


@entry
def capture_by_free(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int, wanted: int) -> int:
    """Free a block while the current task compacts for ``wanted``: the page captured, or -1."""
    cpu.capture_page = 0
    cpu.capture_order = wanted
    cpu.capture = address(zone) - address(m)
    __free_pages(m, cpu, pfn, order)
    cpu.capture = 0
    return cpu.capture_page - 1


@entry
def wake_kcompactd(m: Machine, cpu: Cpu, node: Node, order: int, highest_zoneidx: int) -> None:
    """``wakeup_kcompactd()``"""
    wakeup_kcompactd(m, cpu, node, order, highest_zoneidx)


@entry
def to_swap_cache(m: Machine, cpu: Cpu, pfn: int) -> int:
    """Give a page a swap slot."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not trylock_page(page):
        return 0
    done = add_to_swap(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    return 1 if done else 0


PUBLISHED = {
    name: _published(getattr(module, name))
    for module, names in (
        (defer, "compaction_defer_reset compaction_deferred compaction_restarting defer_compaction"),
        (frag, "extfrag_for_order fragmentation_index fragmentation_score_node fragmentation_score_zone"),
        (suitable, "__compaction_suitable compaction_suitable zone_reclaimable_pages"),
        (skip, "reset_isolation_suitable"),
        (kcompactd, "kcompactd_do_work kcompactd_node_suitable proactive_round"),
    )
    for name in names.split()
}
do = types.SimpleNamespace(**PUBLISHED, lock=_published(trylock_page), unlock=_published(unlock_page),
                           put=_published(put_page))  # fmt: skip
ENTRIES = [
    *vars(do).values(), *LIST_ENTRIES, migrate_list, direct_compact, retry, zone_order, fast_search, capture_by_free,
    to_swap_cache, wake_kcompactd, kcompactd.compact_node, kcompactd.compact_nodes, kcompactd.kcompactd_round,
]  # fmt: skip


class World(Lists):
    """A bench whose memory is in pieces."""

    def anon_owner(self, pfn: int) -> tuple[int, int]:
        """Address space and slot of an anonymous page."""
        page = self.b.page(pfn)
        assert page.mapping & PAGE_MAPPING_ANON
        return page.mapping >> 2, page.index

    def mapped_at(self, slot: int, mm_id: int = 1) -> int:
        """The page that a slot of an address space maps."""
        value = self.pte(mm_id, slot).value
        assert value & PTE_PRESENT
        return int(value >> PTE_SHIFT)

    def checkerboard(self, keep: int = 2, at: int = 1, mm_id: int = 1) -> list[int]:
        """All memory as anonymous pages, and all but every ``keep``-th frame freed: the slots of those that stay."""
        self.space(mm_id)
        count = self.b.nr_free_now() - self.spare()
        pfns = self.fill_anon(count, mm_id)
        stay = [slot for slot, pfn in enumerate(pfns) if pfn % keep == at]
        for slot, pfn in enumerate(pfns):
            if pfn % keep != at:
                self.drop(slot, pfn, mm_id)
        self.b.drain()
        return stay

    def spare(self) -> int:
        """Free pages that the watermarks want, and page tables."""
        zone = self.b.zone()
        return int(zone.watermark[2]) + 64

    def drop(self, slot: int, pfn: int, mm_id: int = 1) -> None:
        """Unmap an anonymous page, which frees it."""
        self.pte(mm_id, slot).value = 0
        unmap_anon(self.m, self.b.cpu(), mm_id, pfn)

    def migrate(self, pfns: list[int], mode: int, nid: int = 0, gfp: int = GFP_HIGHUSER_MOVABLE, cpu: int = 0) -> int:
        self.b.words()[: len(pfns)] = pfns
        rc = int(migrate_list(self.m, self.b.cpu(cpu), len(pfns), mode, nid, gfp))
        self.drain(cpu)
        return rc

    def links_are_sound(self) -> None:
        """Every LRU page is on the list that its flags name, and lists and counters agree."""
        for lru in range(5):
            total = 0
            for memcg in range(3):
                pfns = self.on(lru, memcg)
                assert all(self.flags(pfn) & PG_lru for pfn in pfns)
                assert len(pfns) == self.sizes(memcg)[lru]
                total += len(pfns)
            assert total == self.node_state(NR_LRU_BASE + lru)
        for item in (NR_ISOLATED_ANON, NR_ISOLATED_ANON + 1):
            assert self.node_state(item) == 0


@entry
def unmap_anon(m: Machine, cpu: Cpu, mm_id: int, pfn: int) -> None:
    """What unmapping does to the page of a slot that is empty already."""
    add_mm_counter(mm_record(m, mm_offset(m, mm_id)), MM_ANONPAGES, -1)
    page_remove_rmap(m, cpu, pfn)
    put_page(m, cpu, pfn)


@entry
def allocate(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """One of the driver's allocations."""
    return __alloc_pages_nodemask(m, cpu, gfp, order, 0, 0)


@entry
def kswapd_sleeps(m: Machine, cpu: Cpu, node: Node) -> None:
    """What kswapd does for compaction before it sleeps."""
    reset_isolation_suitable(m, cpu, node)


@entry
def kcompactd_works(m: Machine, cpu: Cpu, node: Node) -> None:
    """kcompactd, woken."""
    kcompactd_do_work(m, cpu, node)


@entry
def drain(m: Machine, cpu: Cpu) -> None:
    """A CPU's part of ``drain_all_pages()``."""
    drain_local_pages(m, cpu, 0)


ENTRIES += [unmap_anon, *as_entries(allocate, kswapd_sleeps, kcompactd_works, drain)]


@contextmanager
def world(of: Shape | None = None, **tuning: Any) -> Iterator[World]:
    """A machine on the bench with compaction; it has to be valid in the end."""
    with bench(of or one_zone(4096), **{"watermark_boost_factor": 0, **tuning}) as b:
        w = World(b)
        yield w
        w.drain()
        w.links_are_sound()
