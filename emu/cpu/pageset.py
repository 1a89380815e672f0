"""Per-cpu page lists (``mm/page_alloc.c`` (5.10)).

Interrupts are off around every use: an interrupt on this CPU allocates and frees through the same lists.
"""

from emu.zone.bad_page import check_free_page, check_new_page
from emu.zone.buddy import FPI_NONE, __free_one_page, free_one_page_captured, rmqueue_traced
from emu.zone.deviations import R3, R4, R13, R24, R38, deviates
from emu.zone.event import trace_mm_page_pcpu_drain
from emu.zone.fallback import __rmqueue
from emu.zone.gfp import ALLOC_HARDER, ALLOC_OOM
from emu.zone.irq import S_ALLOC_PCP, irqs_off, local_irq_restore, local_irq_save
from emu.zone.list import link_of, list_add, list_del, list_empty
from emu.zone.mmzone import (
    MAX_NR_ZONES, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, PAGE_SIZE_OF,
    PD_CHECK, Cpu, Machine, Pageset, Zone, page_record, pageset_at, zone_at,
)  # fmt: skip
from emu.zone.types import list_head_at
from emu.zone.page import NULL, link_to_page, link_to_pfn, page_zone, pfn_to_page
from emu.zone.pageblock import get_pfnblock_migratetype
from emu.zone.vmstat import (
    __count_vm_events, __mod_zone_page_state, fold_node, fold_zone, this_cpu_pageset, zone_statistics,
)  # fmt: skip
from emu.zone.vmstat_items import NR_FREE_CMA_PAGES, NR_FREE_PAGES, PGALLOC, PGFREE
from emu.zone.watermark import pages_above_mark
from shm.atomic import prefetch, read_once
from shm.core import core
from shm.point import point, point_loop, site
from shm.spinlock import spin_lock, spin_unlock

PAGES_AHEAD = 16
S_BULK = site("rmqueue_bulk:lock")
S_REFILLED = site("rmqueue_bulk:refilled, not counted")
S_TAKE = site("__rmqueue_pcplist:take first page")
S_BATCH = site("free_unref_page_commit:read pcp.batch")
S_EMPTY = site("free_pcppages_bulk:list is empty")
S_FREE_BULK = site("free_pcppages_bulk:lock")
S_FREE_ONE = site("free_one_page:lock")
S_DRAIN = site("drain_pages_zone:irqsave")
S_REFRESH = site("refresh_cpu_vm_stats:irqs off")
S_EXPIRE = site("drain_zone_pages:irqsave")


@core(cold=True)
def from_highatomic(m: Machine, cpu: Cpu, zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int:
    """Nothing else is free. 281dd25c1a01 (R38) gives of the highatomic reserve to those whose watermark counts on it:
    atomic requests, real-time tasks and OOM victims. 5.10 keeps it for the first two's larger blocks."""
    if not deviates(m, R38) or alloc_flags & (ALLOC_HARDER | ALLOC_OOM) == 0:
        return NULL
    return rmqueue_traced(m, cpu, zone, order, MIGRATE_HIGHATOMIC, migratetype)


@core(cold=True)
def rmqueue_bulk(m: Machine, cpu: Cpu, zone: Zone, pset: Pageset, migratetype: int, alloc_flags: int) -> int:
    """``mm/page_alloc.c:rmqueue_bulk() (5.10)`` for order 0: up to ``batch`` pages to the tail of the pcp list.

    Returns the pages listed. NR_FREE_PAGES drops once, by all that left the free lists.
    """
    head = pset.lists[migratetype]
    last = head.prev
    alloced = 0
    taken = 0
    batch = pset.batch
    spin_lock(cpu.party, zone.lock, S_BULK)
    if deviates(m, R24):  # the watermark was looked at without the lock: others may have been there meanwhile
        batch = min(batch, pages_above_mark(m, zone, alloc_flags))
    for _ in range(batch):
        pfn = __rmqueue(m, cpu, zone, 0, migratetype, alloc_flags)
        if pfn == NULL and taken == 0:
            pfn = from_highatomic(m, cpu, zone, 0, migratetype, alloc_flags)
        if pfn == NULL:
            break
        taken += 1
        # blocks are taken apart from their start, so these are the pages that expand() will list next
        prefetch(page_record(m, pfn_to_page(m, pfn + PAGES_AHEAD)))
        if check_new_page(m, cpu, pfn):
            continue
        page = page_record(m, pfn_to_page(m, pfn))
        here = link_of(m, page.lru)
        page.lru.prev = last
        list_head_at(m, last << 2).next = here
        last = here
        alloced += 1
        if page.index == MIGRATE_CMA:
            __mod_zone_page_state(m, cpu, zone, NR_FREE_CMA_PAGES, -1)
    list_head_at(m, last << 2).next = link_of(m, head)
    head.prev = last
    __mod_zone_page_state(m, cpu, zone, NR_FREE_PAGES, -taken)
    spin_unlock(cpu.party, zone.lock)
    point(cpu.party, S_REFILLED)
    return alloced


@core(inline=True)
def __rmqueue_pcplist(
    m: Machine, cpu: Cpu, zone: Zone, pset: Pageset, migratetype: int, alloc_flags: int, plain: int
) -> int:
    """``__rmqueue_pcplist()``: the first page of the list, refilled if it is empty; NULL: nothing to be had.

    ``plain`` is a constant: plain requests are none in scheduled mode. Race R18: with interrupts on, one of them takes
    the page that was found here.
    """
    head = pset.lists[migratetype]
    while True:
        if list_empty(m, head):
            pset.count += rmqueue_bulk(m, cpu, zone, pset, migratetype, alloc_flags)
            if list_empty(m, head):
                return NULL
        link = head.next
        if plain == 0 and cpu.party.irqs_off == 0:
            point(cpu.party, S_TAKE)
        list_del(m, page_record(m, link_to_page(m, link)).lru)
        pfn = link_to_pfn(m, link)
        pset.count -= 1
        if m.page_debug & PD_CHECK == 0 or not check_new_page(m, cpu, pfn):
            return pfn


@core(inline=True)
def rmqueue_pcplist(
    m: Machine, cpu: Cpu, preferred_zone: Zone, zone: Zone, migratetype: int, alloc_flags: int, plain: int
) -> int:
    """``mm/page_alloc.c:rmqueue_pcplist() (5.10)``"""
    flags = local_irq_save(cpu, S_ALLOC_PCP)
    pset = pageset_at(m, this_cpu_pageset(m, cpu, zone))
    pfn = __rmqueue_pcplist(m, cpu, zone, pset, migratetype, alloc_flags, plain)
    if pfn != NULL:
        __count_vm_events(cpu, PGALLOC + zone.zid, 1)
        zone_statistics(m, cpu, preferred_zone, zone)
    local_irq_restore(m, cpu, flags)
    return pfn


@core(inline=True)
def types_are_stale(m: Machine, zone: Zone) -> bool:
    """Whether who holds the zone lock has to look again at the type of a page's block, which was read without it.

    Race R4: 5.10 looks again while blocks are isolated (ad53f92eb416, 51bb1a4093cc); without that, pages of isolated
    blocks can be allocated. (What counts as free goes by the list, as in 5.10; the old kernel went by the block for
    pages of pcp lists.) Race R3: 5.10 doesn't otherwise, so a block that was stolen meanwhile gets its page on
    another type's list; later kernels always do (55612e80e722).
    """
    return (zone.nr_isolate_pageblock != 0 and not deviates(m, R4)) or deviates(m, R3)


@core(cold=True)
def free_pcppages_bulk(m: Machine, cpu: Cpu, zone: Zone, count: int, pset: Pageset) -> None:
    """``mm/page_alloc.c:free_pcppages_bulk() (5.10)``: ``count`` pages back to the buddy lists, oldest first.

    Round robin over the migratetypes, taking more at a time the more empty lists were met, and all that is left when
    only one list has pages. Pages are collected before the zone lock is taken.

    Race R13: ``count`` is the batch size, which may have grown since the caller found the lists too long. Without the
    limit (88e8ac11d2ea) this looks for ever for pages that aren't there, with interrupts off.
    """
    migratetype = 0
    batch_free = 0
    prefetched = 0
    bulk = link_of(m, cpu.bulk)
    last = bulk  # of the pages on their way out, chained by next alone
    if not deviates(m, R13):
        count = min(pset.count, count)
    left = pset.count - count
    batch = pset.batch
    while count > 0:
        while True:
            batch_free += 1
            migratetype += 1
            if migratetype == MIGRATE_PCPTYPES:
                migratetype = 0
            if not list_empty(m, pset.lists[migratetype]):
                break
            if deviates(m, R13):
                point_loop(cpu.party, S_EMPTY, migratetype | min(batch_free, MIGRATE_PCPTYPES + 1) << 2 | count << 8)
        head = pset.lists[migratetype]
        if batch_free == MIGRATE_PCPTYPES:
            batch_free = count
        link = head.prev
        while True:
            page = page_record(m, link_to_page(m, link))
            before = page.lru.prev
            if not check_free_page(m, cpu, link_to_pfn(m, link)):
                list_head_at(m, last << 2).next = link
                last = link
                if prefetched < batch:
                    prefetch(page_record(m, link_to_page(m, link) ^ PAGE_SIZE_OF))  # the buddy
                prefetched += 1
            link = before
            count -= 1
            batch_free -= 1
            if count == 0 or batch_free == 0 or link == link_of(m, head):
                break
        head.prev = link
        list_head_at(m, link << 2).next = link_of(m, head)
    list_head_at(m, last << 2).next = bulk
    pset.count = left
    spin_lock(cpu.party, zone.lock, S_FREE_BULK)
    reread = types_are_stale(m, zone)
    if cpu.capture != 0:
        free_bulk_captured(m, cpu, zone)
    link = cpu.bulk.next
    while link != bulk:
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        link = page.lru.next
        mt = page.index
        if reread:
            mt = get_pfnblock_migratetype(m, pfn)
        __free_one_page(m, cpu, pfn, zone, 0, mt, FPI_NONE)
        trace_mm_page_pcpu_drain(m, cpu, pfn, 0, mt)
    spin_unlock(cpu.party, zone.lock)


@core(cold=True)
def free_bulk_captured(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """The end of ``free_pcppages_bulk()`` while the current task compacts and may capture a block: the pages chained
    behind ``cpu.bulk``, which is empty then."""
    bulk = link_of(m, cpu.bulk)
    while cpu.bulk.next != bulk:
        pfn = link_to_pfn(m, cpu.bulk.next)
        page = page_record(m, pfn_to_page(m, pfn))
        cpu.bulk.next = page.lru.next
        mt = get_pfnblock_migratetype(m, pfn) if types_are_stale(m, zone) else page.index
        free_one_page_captured(m, cpu, pfn, zone, 0, mt, FPI_NONE)
        trace_mm_page_pcpu_drain(m, cpu, pfn, 0, mt)


@core(cold=True)
def free_one_page(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int, migratetype: int, fpi_flags: int) -> None:
    """``mm/page_alloc.c:free_one_page() (5.10)``: straight to the buddy lists; isolation is looked at again."""
    spin_lock(cpu.party, zone.lock, S_FREE_ONE)
    if types_are_stale(m, zone) or (migratetype == MIGRATE_ISOLATE and not deviates(m, R4)):
        migratetype = get_pfnblock_migratetype(m, pfn)
    if cpu.capture != 0:
        free_one_page_captured(m, cpu, pfn, zone, order, migratetype, fpi_flags)
    else:
        __free_one_page(m, cpu, pfn, zone, order, migratetype, fpi_flags)
    spin_unlock(cpu.party, zone.lock)


@core(inline=True)
def free_pcp_batch(m: Machine, cpu: Cpu, zone: Zone, pset: Pageset) -> None:
    """A list is full. Its sizes may change at any time."""
    point(cpu.party, S_BATCH)
    free_pcppages_bulk(m, cpu, zone, read_once(pset, "batch"), pset)


@core(inline=True)
def free_unref_page_commit(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/page_alloc.c:free_unref_page_commit() (5.10)``: to the head of the pcp list; a batch goes when it is full.

    HIGHATOMIC and CMA pages travel on the movable list, isolated ones go straight back.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    zone = zone_at(m, page_zone(m, page))
    migratetype = page.index
    __count_vm_events(cpu, PGFREE, 1)
    if migratetype >= MIGRATE_PCPTYPES:
        if migratetype == MIGRATE_ISOLATE:
            free_one_page(m, cpu, zone, pfn, 0, migratetype, FPI_NONE)
            return
        migratetype = MIGRATE_MOVABLE
    pset = pageset_at(m, this_cpu_pageset(m, cpu, zone))
    list_add(m, page.lru, pset.lists[migratetype])
    pset.count += 1
    if pset.count >= pset.high:
        free_pcp_batch(m, cpu, zone, pset)


@core(cold=True)
def drain_pages_zone(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """``mm/page_alloc.c:drain_pages_zone() (5.10)`` for this CPU."""
    flags = local_irq_save(cpu, S_DRAIN)
    pset = pageset_at(m, this_cpu_pageset(m, cpu, zone))
    if pset.count != 0:
        free_pcppages_bulk(m, cpu, zone, pset.count, pset)
    local_irq_restore(m, cpu, flags)


@core(cold=True)
def drain_local_pages(m: Machine, cpu: Cpu, zone: int) -> None:
    """``drain_local_pages()``: one zone (its offset), or all (0)."""
    if zone != 0:
        drain_pages_zone(m, cpu, zone_at(m, zone))
        return
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            z = m.nodes[nid].node_zones[zid]
            if z.present_pages != 0:
                drain_pages_zone(m, cpu, z)


@core(cold=True)
def drain_zone_pages(m: Machine, cpu: Cpu, zone: Zone) -> None:
    """``mm/page_alloc.c:drain_zone_pages() (5.10)``: one batch of an expired remote pageset."""
    flags = local_irq_save(cpu, S_EXPIRE)
    pset = pageset_at(m, this_cpu_pageset(m, cpu, zone))
    to_drain = min(pset.count, read_once(pset, "batch"))
    if to_drain > 0:
        free_pcppages_bulk(m, cpu, zone, to_drain, pset)
    local_irq_restore(m, cpu, flags)


@core(cold=True)
def refresh_cpu_vm_stats(m: Machine, cpu: Cpu, do_pagesets: int) -> int:
    """``mm/vmstat.c:refresh_cpu_vm_stats() (5.10)``: fold this CPU's counters; with ``do_pagesets`` also age the
    pagesets of remote zones, which are drained when they have been quiet for three rounds."""
    changes = 0
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.present_pages == 0:
                continue
            flags = irqs_off(cpu, S_REFRESH)  # the kernel exchanges each counter in one instruction
            changes += fold_zone(m, cpu, zone)
            local_irq_restore(m, cpu, flags)
            pset = pageset_at(m, this_cpu_pageset(m, cpu, zone))
            if do_pagesets == 0 or pset.expire == 0 or pset.count == 0:
                continue
            if zone.node == cpu.node:
                pset.expire = 0
                continue
            pset.expire -= 1
            if pset.expire == 0 and pset.count != 0:
                drain_zone_pages(m, cpu, zone)
                changes += 1
    for nid in range(m.nr_nodes):
        flags = irqs_off(cpu, S_REFRESH)
        changes += fold_node(m, cpu, m.nodes[nid])
        local_irq_restore(m, cpu, flags)
    return changes
