"""Reclaim's functions as tests call them: one program for all tests of this room."""

import emu.cpu.cpuset
import emu.reclaim.direct  # noqa: F401  # what the seams stand for
from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.pageset import refresh_cpu_vm_stats
from emu.cpu.seams import __perform_reclaim, should_reclaim_retry
from emu.cpu.seams import node_reclaim as __node_reclaim
from emu.mm.page_cache import delete_from_page_cache
from emu.mm.page_lock import trylock_page, unlock_page
from emu.mm.seams import try_to_free_mem_cgroup_pages
from emu.mm.slab import kmem_cache_alloc, object_get, object_put
from emu.reclaim.balance import balance_pgdat
from emu.reclaim.isolate import free_isolated_list, isolate_lru_pages, isolation, move_pages_to_lru, too_many_isolated
from emu.reclaim.kswapd import (
    kswapd_begin,
    kswapd_round,
    kswapd_try_to_sleep,
    kswapd_work,
    prepare_kswapd_sleep,
)
from emu.reclaim.node_reclaim import node_pagecache_reclaimable
from emu.reclaim.pageout import page_check_references, pageout
from emu.reclaim.scan_control import DEACTIVATE_ANON, DEACTIVATE_FILE, L_PAGES, ScanControl, scan_control, scan_counts
from emu.reclaim.shrink_list import shrink_active_list, shrink_inactive_list
from emu.reclaim.shrink_lruvec import get_scan_count, inactive_is_low, shrink_lruvec
from emu.reclaim.shrink_node import shrink_node, snapshot_refaults
from emu.reclaim.shrinker import do_shrink_slab, shrink_slab, slab_total_scan
from emu.reclaim.throttle import allow_direct_reclaim, throttle_direct_reclaim
from emu.zone.alloc_context import AllocContext
from emu.zone.gfp import GFP_KERNEL
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.kswapd_wake import wakeup_kswapd
from emu.zone.list import INIT_LIST_HEAD
from emu.zone.lru import is_active_lru
from emu.zone.mmzone import Cpu, Lruvec, Machine, Node, page_record
from emu.zone.page import pfn_to_page
from emu.zone.wmark_init import int_sqrt
from emu.zone.zonelist import node_zonelist
from shm.core import OnStack, as_entries, core, entry
from shm.point import site
from tests.bench import _published, word_at
from tests.reclaim.lists import LIST_ENTRIES

MAY_WRITEPAGE, MAY_UNMAP, MAY_SWAP = 1, 2, 4
MAY_ALL = MAY_WRITEPAGE | MAY_UNMAP | MAY_SWAP
S_TEST = site("test:lru_lock")
contexts = OnStack(AllocContext)


@core
def set_up(sc: ScanControl, priority: int, to_reclaim: int, gfp: int, may: int, target: int) -> None:
    """A run over all zones with the rights MAY_*, for a cgroup or (0) the machine."""
    sc.priority = priority
    sc.nr_to_reclaim = to_reclaim
    sc.reclaim_idx = 3
    sc.gfp_mask = gfp
    sc.may_writepage = may & MAY_WRITEPAGE
    sc.may_unmap = may & MAY_UNMAP
    sc.may_swap = may & MAY_SWAP
    sc.target_mem_cgroup = target


@entry
def isolate(m: Machine, cpu: Cpu, lruvec: Lruvec, nr: int, lru: int, reclaim_idx: int, may_unmap: int) -> int:
    """``isolate_lru_pages()`` onto the CPU's first list: pages taken | pages looked at << 32."""
    sc = scan_control()
    found = isolation()
    sc.reclaim_idx = reclaim_idx
    sc.may_unmap = may_unmap
    INIT_LIST_HEAD(m, cpu.scratch[L_PAGES])
    node = m.nodes[lruvec.node]
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_TEST)
    taken = isolate_lru_pages(m, cpu, nr, node, lruvec, L_PAGES, found, sc, lru)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    return taken | found.nr_scanned << 32


@entry
def put_back(m: Machine, cpu: Cpu, node: Node) -> int:
    """``move_pages_to_lru()`` of that list."""
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_TEST)
    moved = move_pages_to_lru(m, cpu, node, L_PAGES, flags)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    return moved


@entry
def plan(
    m: Machine, lruvec: Lruvec, priority: int, reclaim_idx: int, may_swap: int, target: int, tiny: int, trim: int,
    anon_cost: int, file_cost: int,
) -> None:  # fmt: skip
    """``get_scan_count()`` into the first four words of the script area."""
    sc = scan_control()
    sc.priority = priority
    sc.reclaim_idx = reclaim_idx
    sc.may_swap = may_swap
    sc.target_mem_cgroup = target
    sc.file_is_tiny = tiny
    sc.cache_trim_mode = trim
    sc.anon_cost = anon_cost
    sc.file_cost = file_cost
    counts = scan_counts()
    get_scan_count(m, lruvec, sc, counts)
    for lru in range(4):
        word_at(m, m.script + lru * 8).value = counts.nr[lru]


@entry
def shrink(m: Machine, cpu: Cpu, lruvec: Lruvec, lru: int, nr: int, gfp: int, may: int, target: int) -> int:
    """One batch of a list. What was found is in the script area: dirty, unqueued, congested, writeback, immediate,
    file_taken, taken, nr_scanned."""
    sc = scan_control()
    set_up(sc, 12, 32, gfp, may, target)
    reclaimed = 0
    if is_active_lru(lru):
        shrink_active_list(m, cpu, nr, lruvec, sc, lru)
    else:
        reclaimed = shrink_inactive_list(m, cpu, nr, lruvec, sc, lru)
    tell(m, sc)
    return reclaimed


@entry
def shrink_whole(m: Machine, cpu: Cpu, lruvec: Lruvec, priority: int, to_reclaim: int, target: int) -> int:
    """``shrink_lruvec()`` with all rights; what was found as in :func:`shrink`."""
    sc = scan_control()
    set_up(sc, priority, to_reclaim, GFP_KERNEL, MAY_ALL, target)
    sc.may_deactivate = DEACTIVATE_ANON | DEACTIVATE_FILE
    shrink_lruvec(m, cpu, lruvec, sc)
    tell(m, sc)
    return sc.nr_reclaimed


@entry
def shrink_a_node(m: Machine, cpu: Cpu, node: Node, priority: int, to_reclaim: int, order: int, target: int) -> int:
    """``shrink_node()`` with all rights; words: those of :func:`shrink`, then may_deactivate, cache_trim_mode,
    file_is_tiny."""
    sc = scan_control()
    set_up(sc, priority, to_reclaim, GFP_KERNEL, MAY_ALL, target)
    sc.order = order
    shrink_node(m, cpu, node, sc)
    tell(m, sc)
    return sc.nr_reclaimed


@core
def tell(m: Machine, sc: ScanControl) -> None:
    """What a scan_control has counted."""
    word_at(m, m.script).value = sc.nr.dirty
    word_at(m, m.script + 8).value = sc.nr.unqueued_dirty
    word_at(m, m.script + 16).value = sc.nr.congested
    word_at(m, m.script + 24).value = sc.nr.writeback
    word_at(m, m.script + 32).value = sc.nr.immediate
    word_at(m, m.script + 40).value = sc.nr.file_taken
    word_at(m, m.script + 48).value = sc.nr.taken
    word_at(m, m.script + 56).value = sc.nr_scanned
    word_at(m, m.script + 64).value = sc.may_deactivate
    word_at(m, m.script + 72).value = sc.cache_trim_mode
    word_at(m, m.script + 80).value = sc.file_is_tiny


@entry
def reclaim_directly(m: Machine, cpu: Cpu, nid: int, gfp: int, order: int) -> int:
    """``__perform_reclaim()`` over a node's zonelist."""
    ac = contexts()
    ac.zonelist = node_zonelist(m, nid, gfp)
    ac.highest_zoneidx = 2
    return __perform_reclaim(m, cpu, gfp, order, ac)


@entry
def throttle(m: Machine, cpu: Cpu, nid: int, gfp: int) -> bool:
    """``throttle_direct_reclaim()``"""
    sc = scan_control()
    sc.gfp_mask = gfp
    sc.reclaim_idx = 2
    sc.zones.zonelist = node_zonelist(m, nid, gfp)
    sc.zones.highest_zoneidx = 2
    return throttle_direct_reclaim(m, cpu, sc)


@entry
def retry(m: Machine, cpu: Cpu, nid: int, gfp: int, order: int, progress: int, loops: int) -> bool:
    """``should_reclaim_retry()``"""
    ac = contexts()
    ac.zonelist = node_zonelist(m, nid, gfp)
    ac.highest_zoneidx = 2
    ac.migratetype = 1
    return should_reclaim_retry(m, cpu, gfp, order, ac, 0, progress, loops)


@entry
def isolated_too_many(m: Machine, cpu: Cpu, node: Node, file: int, gfp: int) -> bool:
    """``too_many_isolated()``"""
    sc = scan_control()
    sc.gfp_mask = gfp
    return too_many_isolated(m, cpu, node, file, sc)


@entry
def references(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``page_check_references()``"""
    return page_check_references(m, cpu, pfn, scan_control())


@entry
def lock(m: Machine, pfn: int) -> bool:
    """``trylock_page()``"""
    return trylock_page(page_record(m, pfn_to_page(m, pfn)))


@entry
def reclaim_cgroup(m: Machine, cpu: Cpu, memcg: int, nr_pages: int, gfp: int, may_swap: int) -> int:
    """``try_to_free_mem_cgroup_pages()``"""
    return try_to_free_mem_cgroup_pages(m, cpu, memcg, nr_pages, gfp, may_swap)


@entry
def node_reclaim(m: Machine, cpu: Cpu, node: Node, gfp: int, order: int) -> int:
    """``node_reclaim()``"""
    return __node_reclaim(m, cpu, node, gfp, order)


delete_cached = _published(delete_from_page_cache)
free_rest = _published(free_isolated_list)
alloc = _published(alloc_pages)
free_page = _published(__free_pages)
refresh = _published(refresh_cpu_vm_stats)
total_scan = _published(slab_total_scan)
wake = _published(wakeup_kswapd)
unlock = _published(unlock_page)
write_out = _published(pageout)
balance = _published(balance_pgdat)
may_sleep = _published(prepare_kswapd_sleep)
try_to_sleep = _published(kswapd_try_to_sleep)
begin = _published(kswapd_begin)
work = _published(kswapd_work)
allowed = _published(allow_direct_reclaim)
reclaimable = _published(node_pagecache_reclaimable)
shrink_cache = _published(do_shrink_slab)
shrink_caches = _published(shrink_slab)
root = _published(int_sqrt)
is_low = _published(inactive_is_low)
snapshot = _published(snapshot_refaults)

ENTRIES = [
    *LIST_ENTRIES, isolate, put_back, plan, shrink, shrink_whole, shrink_a_node, reclaim_directly, throttle, retry,
    isolated_too_many, references, lock, write_out, balance, may_sleep, try_to_sleep, begin, work, allowed,
    node_reclaim, reclaimable, delete_cached, free_rest, alloc, free_page, wake, unlock, shrink_cache, shrink_caches,
    root, is_low, refresh, total_scan, snapshot, reclaim_cgroup,
    *as_entries(kmem_cache_alloc, kswapd_round, object_get, object_put),
]  # fmt: skip
