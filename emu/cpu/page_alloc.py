"""The fast path: ``alloc_pages()`` to ``get_page_from_freelist()`` (``mm/page_alloc.c``, ``mempolicy.c`` (5.10))."""

from emu.cpu.cpuset import __cpuset_node_allowed
from emu.cpu.free import __free_pages
from emu.cpu.mempolicy import MPOL_INTERLEAVE, interleave_nodes, policy_node, policy_nodemask
from emu.cpu.prep import prep_new_page
from emu.cpu.rmqueue import rmqueue
from emu.cpu.task import __memcg_kmem_charge_page, current_gfp_context
from emu.zone.deviations import R37, S1, deviates
from emu.zone.event import WARN_ORDER, trace_mm_page_alloc, warn_on_once
from emu.zone.gfp import (
    __GFP_ACCOUNT, __GFP_HARDWALL, __GFP_KSWAPD_RECLAIM, __GFP_NOWARN, __GFP_THISNODE, __GFP_WRITE, ALLOC_CMA,
    ALLOC_CPUSET, ALLOC_HARDER, ALLOC_NO_WATERMARKS, ALLOC_NOFRAGMENT, ALLOC_WMARK_LOW, ALLOC_WMARK_MASK,
    PF_MEMALLOC_NOCMA, gfp_migratetype, gfp_zone,
)  # fmt: skip
from emu.zone.highatomic import reserve_highatomic_pageblock
from emu.zone.irq import in_interrupt, local_irq_restore, local_irq_save
from emu.zone.alloc_context import NODEMASK_MEMS_ALLOWED, NODES_OF_POLICY, AllocContext
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_MOVABLE, ZONE_NORMAL, Cpu, Machine, Zone, Zonelist, page_record, zone_at, zonelist_at,
)  # fmt: skip
from emu.zone.sched import task_at
from emu.zone.page import NODE_BITS, NODE_SHIFT, NULL, page_zone, pfn_to_page
from emu.zone.vmstat import __inc_numa_state, zone_page_state, zone_page_state_snapshot
from emu.zone.vmstat_items import NR_FREE_PAGES, NUMA_INTERLEAVE_HIT
from emu.zone.watermark import (
    __zone_watermark_ok, __zone_watermark_unusable_free, wmark_pages, zone_has_plenty, zone_watermark_fast,
    zone_watermark_ok,
)  # fmt: skip
from emu.zone.zonelist import next_zones_zonelist, node_zonelist, nodemask_kind, zonelist_zone
from emu.cpu.seams import NODE_RECLAIM_FULL, NODE_RECLAIM_NOSCAN, __alloc_pages_slowpath, node_dirty_ok, node_reclaim
from emu.zone.deferred import deferred_grow_zone
from shm.core import OnStack, core
from shm.point import point, site

S_INTERLEAVE = site("alloc_page_interleave:irqsave")
S_WMARK = site("get_page_from_freelist:read watermark")
alloc_context = OnStack(AllocContext)


@core(inline=True)
def current_alloc_flags(m: Machine, cpu: Cpu, gfp_mask: int, alloc_flags: int) -> int:
    """``mm/page_alloc.c:current_alloc_flags() (5.10)``: movable requests may use CMA, unless the task must not."""
    if m.cma_enabled != 0:
        nocma = task_at(m, cpu.current).process_flags & PF_MEMALLOC_NOCMA != 0
        if not nocma and gfp_migratetype(m.page_group_by_mobility_disabled, gfp_mask) == MIGRATE_MOVABLE:
            alloc_flags |= ALLOC_CMA
    return alloc_flags


@core(inline=True)
def alloc_flags_nofragment(m: Machine, zone: int, gfp_mask: int) -> int:
    """``mm/page_alloc.c:alloc_flags_nofragment() (5.10)``: use a lower zone of the node before mixing pageblocks.

    Only between Normal and DMA32; on a NUMA machine only if this node has a DMA32.
    """
    alloc_flags = gfp_mask & __GFP_KSWAPD_RECLAIM
    if zone == 0:
        return alloc_flags
    z = zone_at(m, zone)
    if z.zid != ZONE_NORMAL:
        return alloc_flags
    if m.nr_online_nodes > 1 and m.nodes[z.node].node_zones[ZONE_NORMAL - 1].present_pages == 0:
        return alloc_flags
    return alloc_flags | ALLOC_NOFRAGMENT


@core(cold=True)
def zone_allows_reclaim(m: Machine, local_zone: Zone, zone: Zone) -> bool:
    """``mm/page_alloc.c:zone_allows_reclaim() (5.10)``: near enough."""
    return m.nodes[local_zone.node].distance[zone.node] <= m.node_reclaim_distance


@core(cold=True)
def below_watermark(
    m: Machine, cpu: Cpu, preferred_zone: Zone, zone: Zone, mark: int, highest_zoneidx: int, gfp_mask: int, order: int,
    alloc_flags: int,
) -> bool:  # fmt: skip
    """What ``get_page_from_freelist()`` does with a zone whose watermark refuses: true, try it all the same.

    S1's remedy: what CPUs have freed and not yet added to the zone's counter is counted too, as it is by
    ``should_reclaim_retry()``, which else sends the request round to be refused again. Before 9282012fc0aa (R37) a zone
    with less free than is reserved for others was not refused: the difference below 0 was compared as unsigned.
    """
    if order == 0 and deviates(m, R37):
        if zone_page_state(zone, NR_FREE_PAGES) < __zone_watermark_unusable_free(m, zone, order, alloc_flags):
            return True
    if deviates(m, S1):
        exact = zone_page_state_snapshot(m, zone, NR_FREE_PAGES)
        if __zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags, exact):
            return True
    if m.deferred_pages != 0 and deferred_grow_zone(m, cpu, zone, order):
        return True
    if alloc_flags & ALLOC_NO_WATERMARKS != 0:
        return True
    if m.node_reclaim_mode == 0:
        return False
    if not zone_allows_reclaim(m, preferred_zone, zone):
        return False
    ret = node_reclaim(m, cpu, m.nodes[zone.node], gfp_mask, order)
    if ret == NODE_RECLAIM_NOSCAN or ret == NODE_RECLAIM_FULL:
        return False
    return zone_watermark_ok(m, zone, order, mark, highest_zoneidx, alloc_flags)


@core
def get_page_from_zones(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, z: int
) -> int:  # fmt: skip
    """:func:`get_page_from_freelist`, from the zoneref ``z`` on: those before it have been tried already."""
    preferred_zone = zone_at(m, zonelist_zone(m, ac, ac.preferred))
    last_node_dirty_limit = -1
    while True:
        no_fallback = alloc_flags & ALLOC_NOFRAGMENT
        retry = False
        while True:
            at = zonelist_zone(m, ac, z)
            if at == 0:
                break
            zone = zone_at(m, at)
            this = z
            z += 1
            if m.cpusets_enabled != 0 and alloc_flags & ALLOC_CPUSET != 0:
                if not __cpuset_node_allowed(m, cpu, zone.node, gfp_mask):
                    z = next_zones_zonelist(m, cpu, ac, z)
                    continue
            if ac.spread_dirty_pages != 0:
                if last_node_dirty_limit == zone.node:
                    z = next_zones_zonelist(m, cpu, ac, z)
                    continue
                if not node_dirty_ok(m, cpu, m.nodes[zone.node]):
                    last_node_dirty_limit = zone.node
                    z = next_zones_zonelist(m, cpu, ac, z)
                    continue
            if no_fallback != 0 and m.nr_online_nodes > 1 and this != ac.preferred:
                # locality is worth more than avoiding fragmentation: before a remote node, fragment at home
                if zone.node != preferred_zone.node:
                    retry = True
                    break
            point(cpu.party, S_WMARK)
            mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK)
            if not zone_watermark_fast(m, zone, order, mark, ac.highest_zoneidx, alloc_flags, gfp_mask):
                if not below_watermark(
                    m, cpu, preferred_zone, zone, mark, ac.highest_zoneidx, gfp_mask, order, alloc_flags
                ):
                    z = next_zones_zonelist(m, cpu, ac, z)
                    continue
            while True:
                pfn = rmqueue(m, cpu, preferred_zone, zone, order, gfp_mask, alloc_flags, ac.migratetype, 0)
                if pfn != NULL or m.deferred_pages == 0 or not deferred_grow_zone(m, cpu, zone, order):
                    break
            if pfn != NULL:
                prep_new_page(m, cpu, pfn, order, gfp_mask, alloc_flags)
                if order != 0 and alloc_flags & ALLOC_HARDER != 0:
                    reserve_highatomic_pageblock(m, cpu, pfn, zone)
                return pfn
            z = next_zones_zonelist(m, cpu, ac, z)
        if not retry and no_fallback == 0:
            return NULL
        alloc_flags &= ~ALLOC_NOFRAGMENT
        z = ac.preferred


@core(inline=True)
def get_page_from_freelist(m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:get_page_from_freelist() (5.10)``: the first zone that may be used and has a block."""
    return get_page_from_zones(m, cpu, gfp_mask, order, alloc_flags, ac, ac.preferred)


@core(inline=True)
def prepare_alloc_pages(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, preferred_nid: int, nodemask: int, ac: AllocContext
) -> None:
    """``mm/page_alloc.c:prepare_alloc_pages() (5.10)``: fills the context, with ``alloc_mask`` and ``alloc_flags``."""
    ac.highest_zoneidx = gfp_zone(gfp_mask)
    ac.zonelist = node_zonelist(m, preferred_nid, gfp_mask)
    ac.nodemask = nodemask
    ac.nodemask_kind = nodemask_kind(nodemask)
    ac.migratetype = gfp_migratetype(m.page_group_by_mobility_disabled, gfp_mask)
    ac.alloc_mask = gfp_mask
    ac.alloc_flags = ALLOC_WMARK_LOW
    if m.cpusets_enabled != 0:
        ac.alloc_mask |= __GFP_HARDWALL
        if not in_interrupt(cpu) and nodemask == 0:
            ac.nodemask_kind = NODEMASK_MEMS_ALLOWED
        else:
            ac.alloc_flags |= ALLOC_CPUSET
    ac.alloc_flags = current_alloc_flags(m, cpu, gfp_mask, ac.alloc_flags)
    ac.spread_dirty_pages = gfp_mask & __GFP_WRITE
    ac.preferred = next_zones_zonelist(m, cpu, ac, 0)


@core(cold=True)
def order_too_large(m: Machine, cpu: Cpu, gfp_mask: int, order: int) -> None:
    """``WARN_ON_ONCE(!(gfp_mask & __GFP_NOWARN))`` for an order that can't be."""
    if gfp_mask & __GFP_NOWARN == 0:
        warn_on_once(m, cpu, WARN_ORDER, gfp_mask, min(order, 255))


@core(cold=True)
def alloc_slow(m: Machine, cpu: Cpu, gfp_mask: int, order: int, nodemask: int, ac: AllocContext) -> int:
    """The second half of ``__alloc_pages_nodemask()``: scoped constraints, the original nodemask, the slow path."""
    ac.alloc_mask = current_gfp_context(task_at(m, cpu.current), gfp_mask)
    ac.spread_dirty_pages = 0
    ac.nodemask = nodemask
    ac.nodemask_kind = nodemask_kind(nodemask)
    return __alloc_pages_slowpath(m, cpu, ac.alloc_mask, order, ac)


@core
def alloc_pages_from(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, preferred_nid: int, nodemask: int, z: int
) -> int:  # fmt: skip
    """All of ``__alloc_pages_nodemask()`` but its order limit. ``z``: the zonerefs before it have been tried."""
    ac = alloc_context()
    prepare_alloc_pages(m, cpu, gfp_mask, order, preferred_nid, nodemask, ac)
    ac.alloc_flags |= alloc_flags_nofragment(m, zonelist_zone(m, ac, ac.preferred), gfp_mask)
    z = next_zones_zonelist(m, cpu, ac, max(z, ac.preferred))
    pfn = get_page_from_zones(m, cpu, ac.alloc_mask, order, ac.alloc_flags, ac, z)
    if pfn == NULL:
        pfn = alloc_slow(m, cpu, gfp_mask, order, nodemask, ac)
    if m.memcg_kmem_enabled != 0 and gfp_mask & __GFP_ACCOUNT != 0 and pfn != NULL:
        if not __memcg_kmem_charge_page(m, cpu, pfn, order):
            __free_pages(m, cpu, pfn, order)
            pfn = NULL
    trace_mm_page_alloc(m, cpu, pfn, order, ac.alloc_mask, ac.migratetype)
    return pfn


@core(inline=True)
def is_plain(m: Machine, cpu: Cpu, gfp_mask: int) -> bool:
    """Whether nothing that is rarely switched on has a say in this request or wants to know of it."""
    if gfp_mask & (__GFP_WRITE | __GFP_ACCOUNT) != 0 or m.cpusets_enabled != 0 or m.cma_enabled != 0:
        return False
    return m.deferred_pages == 0 and m.page_debug == 0 and cpu.trace == 0 and cpu.party.scheduled == 0


@core(inline=True)
def above_low(m: Machine, zone: Zone, highest_zoneidx: int) -> bool:
    """``zone_watermark_fast()`` of a plain request of order 0."""
    mark = wmark_pages(zone, ALLOC_WMARK_LOW)
    return zone_has_plenty(m, zone, mark, highest_zoneidx, ALLOC_WMARK_LOW, zone_page_state(zone, NR_FREE_PAGES))


@core(cold=True)
def lower_zone(m: Machine, zonelist: Zonelist, z: int, highest_zoneidx: int) -> int:
    """The zoneref after ``z`` that :func:`quick_page` may use, or what it returns: other nodes have rules of their
    own, and so has reclaim in the zone."""
    if m.nr_online_nodes > 1 or m.node_reclaim_mode != 0:
        return -2 - z
    z += 1
    while zonelist.zonerefs[z].zone != 0:
        if above_low(m, zone_at(m, zonelist.zonerefs[z].zone), highest_zoneidx):
            return z
        z += 1
    return -2 - z


@core(inline=True)
def quick_page(m: Machine, cpu: Cpu, gfp_mask: int, preferred_nid: int) -> int:
    """``get_page_from_freelist()`` in a straight line, for plain requests of order 0: a pfn, or -2 - z when the
    zonerefs before z have been tried and the rest is for :func:`get_page_from_zones`.

    That is nearly every allocation; on its own it needs a third of the instructions.
    """
    highest_zoneidx = gfp_zone(gfp_mask)
    zonelist = zonelist_at(m, node_zonelist(m, preferred_nid, gfp_mask))
    z = 0
    while zonelist.zonerefs[z].zone_idx > highest_zoneidx:
        z += 1
    preferred = zonelist.zonerefs[z].zone
    if preferred == 0:
        return -2 - z
    at = preferred
    if not above_low(m, zone_at(m, at), highest_zoneidx):
        z = lower_zone(m, zonelist, z, highest_zoneidx)
        if z < 0:
            return z
        at = zonelist.zonerefs[z].zone
    zone = zone_at(m, at)
    alloc_flags = ALLOC_WMARK_LOW | alloc_flags_nofragment(m, preferred, gfp_mask)
    migratetype = gfp_migratetype(m.page_group_by_mobility_disabled, gfp_mask)
    # the statistics ask for the preferred zone's node, which this one has too
    pfn = rmqueue(m, cpu, zone, zone, 0, gfp_mask, alloc_flags, migratetype, 1)
    if pfn == NULL:
        return -3 - z
    prep_new_page(m, cpu, pfn, 0, gfp_mask, alloc_flags)
    return pfn


@core(inline=True)
def __alloc_pages_nodemask(m: Machine, cpu: Cpu, gfp_mask: int, order: int, preferred_nid: int, nodemask: int) -> int:
    """``mm/page_alloc.c:__alloc_pages_nodemask() (5.10)``: the heart of the zoned buddy allocator.

    ``nodemask`` 0 is NULL, NODES_OF_POLICY points at the task's policy. Returns a pfn, or -1 (NULL).
    """
    if order >= MAX_ORDER:
        order_too_large(m, cpu, gfp_mask, order)
        return NULL
    gfp_mask &= m.gfp_allowed_mask
    z = 0
    if order == 0 and nodemask == 0 and is_plain(m, cpu, gfp_mask):
        pfn = quick_page(m, cpu, gfp_mask, preferred_nid)
        if pfn >= 0:
            return pfn
        z = -2 - pfn
    return alloc_pages_from(m, cpu, gfp_mask, order, preferred_nid, nodemask, z)


@core(cold=True)
def alloc_page_interleave(m: Machine, cpu: Cpu, gfp: int, order: int, nid: int) -> int:
    """``mm/mempolicy.c:alloc_page_interleave() (5.10)``"""
    pfn = __alloc_pages_nodemask(m, cpu, gfp, order, nid, 0)
    if pfn == NULL or m.numa_stat_enabled == 0:
        return pfn
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags >> NODE_SHIFT & ((1 << NODE_BITS) - 1) == nid:
        flags = local_irq_save(cpu, S_INTERLEAVE)
        __inc_numa_state(m, cpu, zone_at(m, page_zone(m, page)), NUMA_INTERLEAVE_HIT)
        local_irq_restore(m, cpu, flags)
    return pfn


@core(cold=True)
def alloc_pages_policy(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``alloc_pages_current()`` for a task that has a memory policy of its own."""
    task = task_at(m, cpu.current)
    if task.mempolicy.mode == MPOL_INTERLEAVE:
        return alloc_page_interleave(m, cpu, gfp, order, interleave_nodes(task))
    nid = policy_node(m, cpu, gfp, order)
    bound = NODES_OF_POLICY if policy_nodemask(m, cpu, gfp) != 0 else 0
    return __alloc_pages_nodemask(m, cpu, gfp, order, nid, bound)


@core(inline=True)
def alloc_pages(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``mm/mempolicy.c:alloc_pages_current() (5.10)``: the task's policy decides, except in interrupts and for
    ``__GFP_THISNODE``; without one the local node is preferred."""
    if task_at(m, cpu.current).has_policy != 0 and gfp & __GFP_THISNODE == 0 and not in_interrupt(cpu):
        return alloc_pages_policy(m, cpu, gfp, order)
    return __alloc_pages_nodemask(m, cpu, gfp, order, cpu.node, 0)
