"""What would have helped an allocation that failed, looked up when it fails (``nopage``), while somebody measures.

Free pages on the pcp lists of other CPUs, pages on the own CPU's, free pages in the highatomic reserve: none of them is
given to this request, although a drain or another rule would do it. The lists are read without locks: what another CPU
does meanwhile may be seen half done, so on a busy machine a verdict is as old as the look. At rest it is exact.
"""

from emu.cpu.cpuset import __cpuset_node_allowed
from emu.zone.gfp import (
    __GFP_ATOMIC, ALLOC_CMA, ALLOC_CPUSET, ALLOC_HARDER, ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_WMARK_MASK,
)  # fmt: skip
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import link_of, list_empty
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import (
    MAX_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_PCPTYPES, PAGESET_SIZE, WMARK_MIN, Cpu,
    Machine, Pageset, Zone, page_record, pageset_at, zone_at,
)  # fmt: skip
from emu.zone.types import list_head_at
from emu.zone.page import PAGE_TYPES, PG_buddy, PageTail, link_to_page, link_to_pfn, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype
from emu.zone.sched import task_at
from emu.zone.slow_types import FAILED_AVOIDABLE, FAILED_DAEMON, FAILED_LATE, FAILED_OWN, FAILED_RESERVE
from emu.zone.vmstat import zone_page_state
from emu.zone.vmstat_items import NR_FREE_PAGES
from emu.zone.watermark import __zone_watermark_ok, wmark_pages
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.core import OnStack, core
from shm.point import site
from shm.struct import Struct, i64, struct

S_RESERVE = site("count_failure:lock")
LONGEST = 1 << 14  # pages of a pcp list that are looked at: a list that changes meanwhile may have no end
LATE, AVOIDABLE, OWN, DAEMON, RESERVE = (
    1 << FAILED_LATE, 1 << FAILED_AVOIDABLE, 1 << FAILED_OWN, 1 << FAILED_DAEMON, 1 << FAILED_RESERVE,
)  # fmt: skip


@struct
class Relief(Struct):
    """What the pcp lists of some CPUs would bring a request if they were drained."""

    pages: int = i64()  # that would then count as free
    usable: int = i64()  # of them, those that this request may be given, split off or merged
    complete: int = i64()  # usable ones whose aligned block of the order is all free or on pcp lists
    listed: int = i64()  # all pages on the lists


reliefs = OnStack(Relief)


@core(cold=True)
def may_be_given(mt: int, order: int, alloc_flags: int) -> bool:
    """Whether ``rmqueue()`` takes from the free lists of a type; of all but these it falls back to one another."""
    if mt == MIGRATE_HIGHATOMIC:
        return order > 0 and alloc_flags & ALLOC_HARDER != 0
    if mt == MIGRATE_CMA:
        return alloc_flags & ALLOC_CMA != 0
    return mt < MIGRATE_PCPTYPES


@core(cold=True)
def on_pcp_list(m: Machine, zone: Zone, pfn: int) -> bool:
    """A free page that is in no buddy list and whose neighbours in some list point back at it."""
    if pfn < zone.zone_start_pfn or pfn >= zone.zone_start_pfn + zone.spanned_pages:
        return False
    page = page_record(m, pfn_to_page(m, pfn))
    if page.refcount != 0 or page.page_flags & PAGE_TYPES != 0 or PageTail(page):
        return False
    here = link_of(m, page.lru)
    after = page.lru.next
    before = page.lru.prev
    if (max(after, before) << 2) + 8 > m.segment_size:
        return False
    return list_head_at(m, after << 2).prev == here and list_head_at(m, before << 2).next == here


@core(cold=True)
def completes_block(m: Machine, zone: Zone, pfn: int, order: int, alloc_flags: int) -> bool:
    """Whether all of the aligned block around a page of a pcp list is free or on pcp lists: drained, it merges."""
    at = pfn & -(1 << order)
    end = at + (1 << order)
    if at < zone.zone_start_pfn or end > zone.zone_start_pfn + zone.spanned_pages:
        return False
    while at < end:
        if not may_be_given(get_pfnblock_migratetype(m, at), order, alloc_flags):
            return False
        page = page_record(m, pfn_to_page(m, at))
        if page.page_flags & PG_buddy != 0:
            at += 1 << (page.private & 15)
        elif on_pcp_list(m, zone, at):
            at += 1
        else:
            return False
    return True


@core(cold=True)
def type_when_drained(m: Machine, zone: Zone, pfn: int) -> int:
    """The list that ``free_pcppages_bulk()`` puts a page on."""
    if zone.nr_isolate_pageblock != 0:
        return get_pfnblock_migratetype(m, pfn)
    return page_record(m, pfn_to_page(m, pfn)).index


@core(cold=True)
def add_pageset(m: Machine, zone: Zone, pset: Pageset, order: int, alloc_flags: int, r: Relief) -> None:
    """Add what one CPU's lists would bring."""
    r.listed += pset.count
    for which in range(MIGRATE_PCPTYPES):
        head = link_of(m, pset.lists[which])
        link = pset.lists[which].next
        left = LONGEST
        while link != head and left > 0 and on_pcp_list(m, zone, link_to_pfn(m, link)):
            pfn = link_to_pfn(m, link)
            mt = type_when_drained(m, zone, pfn)
            if mt != MIGRATE_ISOLATE and (mt != MIGRATE_CMA or alloc_flags & ALLOC_CMA != 0):
                r.pages += 1
            if may_be_given(mt, order, alloc_flags):
                r.usable += 1
                if order != 0 and r.complete == 0 and completes_block(m, zone, pfn, order, alloc_flags):
                    r.complete = 1
            link = page_record(m, link_to_page(m, link)).lru.next
            left -= 1


@core(cold=True)
def has_block(m: Machine, zone: Zone, order: int, alloc_flags: int) -> bool:
    """Whether a free list that ``rmqueue()`` takes from has a block for the request."""
    for at in range(order, MAX_ORDER):
        for mt in range(MIGRATE_ISOLATE):
            if may_be_given(mt, order, alloc_flags) and not list_empty(m, zone.free_area[at].free_list[mt]):
                return True
    return False


@core(cold=True)
def passes(
    m: Machine, zone: Zone, order: int, highest_zoneidx: int, gfp_mask: int, alloc_flags: int, more: int
) -> bool:  # fmt: skip
    """The part of ``zone_watermark_fast()`` that compares numbers, with ``more`` free pages than there are."""
    if alloc_flags & ALLOC_NO_WATERMARKS != 0:
        return True
    which = alloc_flags & ALLOC_WMARK_MASK
    mark = wmark_pages(zone, which)
    if order == 0 and gfp_mask & __GFP_ATOMIC != 0 and which == WMARK_MIN:
        mark = zone.watermark[WMARK_MIN]  # without the boost
    free_pages = zone_page_state(zone, NR_FREE_PAGES) + more - ((1 << order) - 1)
    return __zone_watermark_ok(m, zone, 0, mark, highest_zoneidx, alloc_flags, free_pages)


@core(cold=True)
def reserve_free(m: Machine, cpu: Cpu, zone: Zone) -> int:
    """Free pages in the highatomic reserve, counted under the zone lock."""
    pages = 0
    flags = spin_lock_irqsave(cpu, zone.lock, S_RESERVE)
    for order in range(MAX_ORDER):
        head = zone.free_area[order].free_list[MIGRATE_HIGHATOMIC]
        link = head.next
        while link != link_of(m, head):
            pages += 1 << order
            link = list_head_at(m, link << 2).next
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    return pages


@core(cold=True)
def reserve_helps(
    m: Machine, zone: Zone, order: int, highest_zoneidx: int, gfp_mask: int, alloc_flags: int, free: int
) -> bool:  # fmt: skip
    """Whether the request would have been served if the reserve had been free memory like any other."""
    held = zone.nr_reserved_highatomic if alloc_flags & (ALLOC_HARDER | ALLOC_OOM) == 0 else 0
    if not passes(m, zone, order, highest_zoneidx, gfp_mask, alloc_flags, held):
        return False
    if held != 0 and has_block(m, zone, order, alloc_flags):
        return True  # only the sum was in the way
    for at in range(order, MAX_ORDER):
        if free != 0 and not list_empty(m, zone.free_area[at].free_list[MIGRATE_HIGHATOMIC]):
            return True
    return False


@core(cold=True)
def relief_of(m: Machine, zone: Zone, first: int, end: int, without: int, order: int, flags: int, r: Relief) -> None:
    """What draining the parties from ``first`` to ``end``, all but one, would bring."""
    for index in range(first, end):
        pset = pageset_at(m, zone.pageset + index * PAGESET_SIZE)
        if index != without and pset.count != 0:
            add_pageset(m, zone, pset, order, flags, r)


@core(cold=True)
def would_do(
    m: Machine, zone: Zone, order: int, idx: int, gfp_mask: int, flags: int, r: Relief, more: int
) -> bool:  # fmt: skip
    """Whether these pages, and ``more`` that are drained with them, would have served the request."""
    if r.usable == 0 or not passes(m, zone, order, idx, gfp_mask, flags, r.pages + more):
        return False
    return order == 0 or r.complete != 0 or has_block(m, zone, order, flags)


@core(cold=True)
def remedies(m: Machine, cpu: Cpu, zone: Zone, order: int, idx: int, gfp_mask: int, alloc_flags: int) -> int:
    """What would have helped in one zone: a bit for each FAILED_*."""
    if passes(m, zone, order, idx, gfp_mask, alloc_flags, 0) and has_block(m, zone, order, alloc_flags):
        return LATE
    found = 0
    me = cpu.party.index
    own = reliefs()
    relief_of(m, zone, me, me + 1, -1, order, alloc_flags, own)
    if would_do(m, zone, order, idx, gfp_mask, alloc_flags, own, 0):
        found |= OWN
    others = reliefs()
    relief_of(m, zone, 0, m.nr_cpus, me, order, alloc_flags, others)
    if would_do(m, zone, order, idx, gfp_mask, alloc_flags, others, own.pages):
        found |= AVOIDABLE
    cost = task_at(m, cpu.current).slow
    cost.pcp_pages += others.listed
    if found & AVOIDABLE == 0:
        relief_of(m, zone, m.nr_cpus, m.nr_parties, me, order, alloc_flags, others)
        if found == 0 and would_do(m, zone, order, idx, gfp_mask, alloc_flags, others, own.pages):
            found |= DAEMON
    free = reserve_free(m, cpu, zone) if zone.nr_reserved_highatomic != 0 else 0
    cost.reserve_pages += free
    if reserve_helps(m, zone, order, idx, gfp_mask, alloc_flags, free):
        found |= RESERVE
    return found


@core(cold=True)
def may_look_at(m: Machine, cpu: Cpu, zone: Zone, gfp_mask: int, alloc_flags: int) -> bool:
    """Whether the task's cpuset leaves the zone to the request."""
    if m.cpusets_enabled == 0 or alloc_flags & ALLOC_CPUSET == 0:
        return True
    return __cpuset_node_allowed(m, cpu, zone.node, gfp_mask)


@core(cold=True)
def count_oom(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> None:
    """A request goes to the OOM killer: note a zone that has what it asks for by now."""
    if vm_at(m, m.vm).slow_stat.measured == 0:
        return
    cost = task_at(m, cpu.current).slow
    cost.oom_zone = 0
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        z = next_zones_zonelist(m, cpu, ac, z + 1)
        if not may_look_at(m, cpu, zone, gfp_mask, ac.alloc_flags):
            continue
        if passes(m, zone, order, ac.highest_zoneidx, gfp_mask, ac.alloc_flags, 0):
            if has_block(m, zone, order, ac.alloc_flags):
                cost.oom_zone = zone.zone_id + 1


@core(cold=True)
def count_failure(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, alloc_flags: int) -> None:
    """An allocation fails: count it with all that would have helped. Too late is only what no zone had in time."""
    if vm_at(m, m.vm).slow_stat.measured == 0:
        return
    cost = task_at(m, cpu.current).slow
    cost.failures += 1
    found = 0
    z = next_zones_zonelist(m, cpu, ac, 0)
    while zonelist_zone(m, ac, z) != 0:
        zone = zone_at(m, zonelist_zone(m, ac, z))
        z = next_zones_zonelist(m, cpu, ac, z + 1)
        if not may_look_at(m, cpu, zone, gfp_mask, alloc_flags):
            continue
        found |= remedies(m, cpu, zone, order, ac.highest_zoneidx, gfp_mask, alloc_flags)
    if found & LATE != 0:
        found = LATE
    for which in range(FAILED_RESERVE + 1):
        if found >> which & 1 != 0:
            cost.failed_for[which] += 1
