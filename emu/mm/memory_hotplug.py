"""Memory that goes offline and online while the machine runs (``mm/memory_hotplug.c`` (5.10.262)).

Memory is handled in blocks of ``Vm.memory_block`` pages. A block is a hole, or plugged in and offline, or online:
:func:`add_memory` and :func:`remove_memory` plug it in and out, :func:`online_pages` and :func:`offline_pages` give it
to a zone and take it away. All return 0 or -errno and report what they did (EV_HOTPLUG).
"""

from emu.cpu.workqueue import cond_resched, drain_all_pages, poll, sleep_on_doorbell_until
from emu.mm.hotplug_zone import (
    MMOP_ONLINE, MMOP_ONLINE_KERNEL, MMOP_ONLINE_MOVABLE, move_pfn_range_to_zone, remove_pfn_range_from_zone,
    zone_for_pfn_range, zone_pcp_reset,
)  # fmt: skip
from emu.mm.migrate_range import do_migrate_range, scan_movable_pages
from emu.mm.page_isolation import (
    MEMORY_OFFLINE, start_isolate_page_range, test_pages_isolated, undo_isolate_page_range,
)  # fmt: skip
from emu.mm.kswapd_run import kswapd_run, kswapd_stop
from emu.mm.pagevec import lru_add_drain_all
from emu.zone.buddy import FPI_TO_TAIL, __free_one_page, buddy_order, del_page_from_free_list
from emu.zone.deviations import R5, deviates
from emu.zone.event import EV_HOTPLUG, record, trace_mm_page_free
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_ISOLATE, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, ZONE_NORMAL, Cpu,
    Machine, Node, Zone, page_record, pageblock_record, zone_at,
)  # fmt: skip
from emu.zone.mmzone import PAGEBLOCK_ORDER
from emu.zone.online import block_bits, block_has_hole, mark_plugged, pfn_to_online_zone, plugged_node
from emu.zone.page import PG_buddy, pfn_to_page
from emu.zone.pageblock import init_head
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.setup import zone_pcp_update
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGFREE
from emu.zone.wmark_init import init_per_zone_wmark_min
from emu.zone.zonelist_build import build_all_zonelists
from shm.atomic import clock_ns, cmpxchg, fetch_add, futex_wait, futex_wake, load_acquire, store_release
from shm.core import as_entries, core, entry, seam
from shm.point import point, point_loop, site
from shm.waitqueue import look_again

ENOENT, EINTR, EBUSY, EEXIST, EINVAL = 2, 4, 16, 17, 22
ANY = 0xFFFFFFFF
# why an operation failed, in the event's order
HOTPLUG_DONE = 0
HOTPLUG_HOLES = 1
HOTPLUG_MULTIZONE = 2
HOTPLUG_NOTIFIER = 3
HOTPLUG_ISOLATE = 4
HOTPLUG_SIGNAL = 5
HOTPLUG_UNMOVABLE = 6
HOTPLUG_PASSES = 7
EVENT_ONLINE = 1 << 62
MEM_ONLINE = 1
MEM_GOING_OFFLINE = 2
MEM_OFFLINE = 4
MEM_GOING_ONLINE = 8
MEM_CANCEL_ONLINE = 16
MEM_CANCEL_OFFLINE = 32
S_LOCK = site("mem_hotplug_begin:lock")
S_TAKE = site("__offline_isolated_pages:lock")
S_ONLINE = site("online_pages_range:lock")
S_ISOLATED = site("offline_pages:nr_isolate_pageblock lock")
S_PASS = site("offline_pages:pass")


@seam
def memory_notify(m: Machine, cpu: Cpu, action: int, start_pfn: int, nr_pages: int, nid: int) -> int:
    """``memory_notify()``: MEM_* of a range; ``nid``: the node that gets its first memory or loses its last, else -1.
    A listener refuses MEM_GOING_* with -errno. Nobody listens: 0."""
    return 0


@core(cold=True)
def mem_hotplug_begin(m: Machine, cpu: Cpu) -> bool:
    """``mem_hotplug_begin()``: one operation at a time; false if the machine is stopped meanwhile."""
    vm = vm_at(m, m.vm)
    point(cpu.party, S_LOCK)
    while True:
        owner = cmpxchg(vm, "mem_hotplug_lock", 0, cpu.party.index + 1)
        if owner == 0:
            return True
        if load_acquire(m, "stop") != 0:
            return False
        poll(m, cpu)
        futex_wait(vm, "mem_hotplug_lock", owner, ANY, look_again(1_000_000))


@core(cold=True)
def mem_hotplug_done(m: Machine) -> None:
    """``mem_hotplug_done()``"""
    vm = vm_at(m, m.vm)
    store_release(vm, "mem_hotplug_lock", 0)
    futex_wake(vm, "mem_hotplug_lock", 1, ANY)


@core(cold=True)
def report(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online: int, why: int, page: int) -> None:
    """What was done or why not; ``page``: the one in the way, or -1."""
    record(m, cpu, EV_HOTPLUG, page, why, 0, 0, start_pfn, nr_pages | online)


@core
def aligned(m: Machine, start_pfn: int, nr_pages: int) -> bool:
    """Whole memory blocks inside the memory map."""
    unit = vm_at(m, m.vm).memory_block
    if start_pfn < 0 or nr_pages <= 0 or start_pfn + nr_pages > m.max_pfn:
        return False
    return (start_pfn | nr_pages) & (unit - 1) == 0


# --- plugging in and out ----------------------------------------------------------------------------------------------


@entry
def add_memory(m: Machine, cpu: Cpu, nid: int, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:add_memory() (5.10)``: 0; -EINVAL (no whole blocks, no such node) or -EEXIST (not a hole).

    The memory is offline. Differs from 5.10: the memory map has had room for it since boot, so nothing is allocated.
    """
    if not aligned(m, start_pfn, nr_pages) or nid < 0 or nid >= m.nr_nodes:
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    ret = 0
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if block_bits(m, pfn) != 0 or pfn_to_online_zone(m, pfn) != 0:
            ret = -EEXIST
    if ret == 0:
        for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
            mark_plugged(m, pfn, nid)
    mem_hotplug_done(m)
    return ret


@entry
def remove_memory(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:remove_memory() (5.10)``: 0; -EINVAL, or -EBUSY if a part is online or not there."""
    if not aligned(m, start_pfn, nr_pages):
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    ret = 0
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if plugged_node(m, pfn) < 0:
            ret = -EBUSY
    if ret == 0:
        for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
            pageblock_record(m, m.pageblocks + (pfn >> PAGEBLOCK_ORDER)).bits = 0
    mem_hotplug_done(m)
    return ret


# --- offline ----------------------------------------------------------------------------------------------------------


@core
def test_pages_in_a_zone(m: Machine, start_pfn: int, end_pfn: int) -> int:
    """``mm/memory_hotplug.c:test_pages_in_a_zone() (5.10)``: offset of the one zone that has all of it, or 0."""
    zone = pfn_to_online_zone(m, start_pfn)
    for pfn in range(start_pfn, end_pfn, MAX_ORDER_NR_PAGES):
        if pfn_to_online_zone(m, pfn) != zone:
            return 0
    return zone


@core
def kernel_pages(node: Node) -> int:
    """Present pages of the zones up to Normal: what makes the node one of N_NORMAL_MEMORY."""
    pages = 0
    for zid in range(ZONE_NORMAL + 1):
        pages += node.node_zones[zid].present_pages
    return pages


@core
def last_kernel_memory(m: Machine, zone: Zone, nr_pages: int) -> bool:
    """Whether no zone that the kernel itself may use would keep memory, on any node."""
    if zone.zid > ZONE_NORMAL:
        return False
    left = -nr_pages
    for nid in range(m.nr_nodes):
        left += kernel_pages(m.nodes[nid])
    return left <= 0


@core(cold=True)
def wait_a_little(cpu: Cpu) -> None:
    """A millisecond, or until there is something to do here."""
    sleep_on_doorbell_until(cpu, load_acquire(cpu, "doorbell"), clock_ns() + 1_000_000)


@core(cold=True)
def empty_range(m: Machine, cpu: Cpu, zone_offset: int, start_pfn: int, end_pfn: int) -> int:
    """The loop of ``offline_pages()``: HOTPLUG_DONE when all pages of the isolated range are free, or why it gave up.

    Differs from 5.10: gives up after ``Vm.offline_passes`` passes that leave something behind, where the kernel goes on
    until a signal comes; and waits a millisecond after each, since whoever holds a page may have no processor.

    Race R5: a page that was stamped before its block was isolated may reach its pcp list after the lists were drained.
    Without draining again (968318261221) it stays there, and this goes on for ever.
    """
    passes = 0
    pfn = start_pfn
    while True:
        most = vm_at(m, m.vm).offline_passes
        point_loop(cpu.party, S_PASS, pfn + (passes << 40) if most != 0 else pfn)
        if fatal_signal_pending(task_at(m, cpu.current)) or not cond_resched(m, cpu):
            return HOTPLUG_SIGNAL
        if most != 0 and passes >= most:
            return HOTPLUG_PASSES
        passes += 1
        lru_add_drain_all(m, cpu)
        pfn = scan_movable_pages(m, pfn, end_pfn)
        if pfn >= 0:
            if do_migrate_range(m, cpu, pfn, end_pfn) != 0:
                wait_a_little(cpu)
            continue
        if pfn != -ENOENT:
            return HOTPLUG_UNMOVABLE
        if test_pages_isolated(m, cpu, start_pfn, end_pfn, MEMORY_OFFLINE) == 0:
            return HOTPLUG_DONE
        if not deviates(m, R5):
            drain_all_pages(m, cpu, zone_offset)
        wait_a_little(cpu)
        pfn = start_pfn


@core(cold=True)
def __offline_isolated_pages(m: Machine, cpu: Cpu, zone: Zone, start_pfn: int, end_pfn: int) -> None:
    """``mm/page_alloc.c:__offline_isolated_pages() (5.10)``: free pages leave the lists; poisoned ones, and those that
    their driver gave up, are on none. The blocks no longer count as isolated.

    NR_FREE_PAGES stays as it is: isolated pages weren't in it.
    """
    flags = spin_lock_irqsave(cpu, zone.lock, S_TAKE)
    pfn = start_pfn
    while pfn < end_pfn:
        page = page_record(m, pfn_to_page(m, pfn))
        if page.page_flags & PG_buddy == 0:
            pfn += 1
            continue
        order = buddy_order(page)
        del_page_from_free_list(m, zone, page, order)
        pfn += 1 << order
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    flags = spin_lock_irqsave(cpu, zone.lock, S_ISOLATED)
    zone.nr_isolate_pageblock -= (end_pfn - start_pfn) // PAGEBLOCK_NR_PAGES
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core(cold=True)
def account_offline(m: Machine, cpu: Cpu, zone: Zone, nr_pages: int) -> None:
    """Everything that depends on how much memory there is, with so much less; an emptied zone leaves the zonelists."""
    node = m.nodes[zone.node]
    fetch_add(zone, "managed_pages", -nr_pages)
    zone.present_pages -= nr_pages
    node.node_present_pages -= nr_pages
    init_per_zone_wmark_min(m, cpu)
    if zone.present_pages == 0:
        zone_pcp_reset(m, zone)
        build_all_zonelists(m, cpu)
    else:
        zone_pcp_update(m, cpu, zone)


@core(cold=True)
def cancel_offline(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, last: int, why: int) -> None:
    """``failed_removal_isolated``: the blocks become movable again, as they were or not."""
    undo_isolate_page_range(m, cpu, start_pfn, start_pfn + nr_pages, MIGRATE_MOVABLE)
    memory_notify(m, cpu, MEM_CANCEL_OFFLINE, start_pfn, nr_pages, last)
    report(m, cpu, start_pfn, nr_pages, 0, why, -1)


@core(cold=True)
def offline_range(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int) -> int:
    """:func:`offline_pages` under ``mem_hotplug_lock``."""
    end_pfn = start_pfn + nr_pages
    for pfn in range(start_pfn, end_pfn, PAGEBLOCK_NR_PAGES):
        if block_has_hole(m, pfn):
            report(m, cpu, start_pfn, nr_pages, 0, HOTPLUG_HOLES, pfn)
            return -EINVAL
    zone_offset = test_pages_in_a_zone(m, start_pfn, end_pfn)
    if zone_offset == 0:
        report(m, cpu, start_pfn, nr_pages, 0, HOTPLUG_MULTIZONE, -1)
        return -EINVAL
    zone = zone_at(m, zone_offset)
    ret = start_isolate_page_range(m, cpu, start_pfn, end_pfn, MIGRATE_MOVABLE, MEMORY_OFFLINE)
    if ret != 0:
        report(m, cpu, start_pfn, nr_pages, 0, HOTPLUG_ISOLATE, ret - 1 if ret > 0 else -1)
        return -EBUSY
    last = zone.node if nr_pages >= m.nodes[zone.node].node_present_pages else -1
    ret = -EBUSY
    if not last_kernel_memory(m, zone, nr_pages):
        ret = memory_notify(m, cpu, MEM_GOING_OFFLINE, start_pfn, nr_pages, last)
    if ret < 0:
        cancel_offline(m, cpu, start_pfn, nr_pages, last, HOTPLUG_NOTIFIER)
        return ret
    why = empty_range(m, cpu, zone_offset, start_pfn, end_pfn)
    if why != HOTPLUG_DONE:
        cancel_offline(m, cpu, start_pfn, nr_pages, last, why)
        return -EINTR if why == HOTPLUG_SIGNAL else -EBUSY
    __offline_isolated_pages(m, cpu, zone, start_pfn, end_pfn)
    account_offline(m, cpu, zone, nr_pages)
    if last >= 0:
        kswapd_stop(m, cpu, last)
    memory_notify(m, cpu, MEM_OFFLINE, start_pfn, nr_pages, last)
    remove_pfn_range_from_zone(m, cpu, zone_offset, start_pfn, nr_pages)
    report(m, cpu, start_pfn, nr_pages, 0, HOTPLUG_DONE, -1)
    return 0


@entry
def offline_pages(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int) -> int:
    """``mm/memory_hotplug.c:offline_pages() (5.10.262)``: 0; -EINVAL (no whole blocks, a hole, several zones), -EBUSY
    (something can't be moved) or -EINTR. When it fails, all is as before, but that pages may have moved and that the
    blocks are movable ones.

    Differs from 5.10: the last memory that the kernel itself may use is refused as by a notifier. In the kernel
    unmovable pages see to that; here there may be none. The kswapd and kcompactd of a node without memory sleep on,
    since nobody wakes them. The ratelimit of dirtying pages doesn't depend on the size of memory.
    """
    if not aligned(m, start_pfn, nr_pages):
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    ret = offline_range(m, cpu, start_pfn, nr_pages)
    mem_hotplug_done(m)
    return ret


# --- online -----------------------------------------------------------------------------------------------------------


@core(cold=True)
def online_pages_range(m: Machine, cpu: Cpu, zone: Zone, start_pfn: int, nr_pages: int) -> None:
    """``mm/memory_hotplug.c:online_pages_range() (5.10)`` with ``generic_online_page()``: free blocks of the largest
    order, to the tails of the isolated list."""
    for pfn in range(start_pfn, start_pfn + nr_pages, MAX_ORDER_NR_PAGES):
        fetch_add(zone, "managed_pages", MAX_ORDER_NR_PAGES)
        init_head(m, zone, pfn)
        trace_mm_page_free(m, cpu, pfn, MAX_ORDER - 1)
        flags = spin_lock_irqsave(cpu, zone.lock, S_ONLINE)
        __count_vm_events(cpu, PGFREE, MAX_ORDER_NR_PAGES)
        __free_one_page(m, cpu, pfn, zone, MAX_ORDER - 1, MIGRATE_ISOLATE, FPI_TO_TAIL)
        spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    vm_at(m, m.vm).pgfree_surplus += nr_pages


@core(cold=True)
def kcompactd_run(m: Machine, nid: int) -> None:
    """``mm/compaction.c:kcompactd_run() (5.10)``: what it begins with."""
    node = m.nodes[nid]
    node.kcompactd_max_order = 0
    node.kcompactd_highest_zoneidx = node.nr_zones - 1


@core(cold=True)
def online_range(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online_type: int, nid: int) -> int:
    """:func:`online_pages` under ``mem_hotplug_lock``."""
    node = m.nodes[nid]
    zone_offset = zone_for_pfn_range(m, online_type, nid, start_pfn, nr_pages)
    zone = zone_at(m, zone_offset)
    first = nid if node.node_present_pages == 0 else -1
    ret = memory_notify(m, cpu, MEM_GOING_ONLINE, start_pfn, nr_pages, first)
    if ret < 0:
        memory_notify(m, cpu, MEM_CANCEL_ONLINE, start_pfn, nr_pages, first)
        report(m, cpu, start_pfn, nr_pages, EVENT_ONLINE, HOTPLUG_NOTIFIER, -1)
        return ret
    move_pfn_range_to_zone(m, cpu, zone_offset, start_pfn, nr_pages)
    flags = spin_lock_irqsave(cpu, zone.lock, S_ISOLATED)
    zone.nr_isolate_pageblock += nr_pages // PAGEBLOCK_NR_PAGES
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    was_empty = zone.present_pages == 0
    online_pages_range(m, cpu, zone, start_pfn, nr_pages)
    zone.present_pages += nr_pages
    node.node_present_pages += nr_pages
    if was_empty:
        build_all_zonelists(m, cpu)
    zone_pcp_update(m, cpu, zone)
    undo_isolate_page_range(m, cpu, start_pfn, start_pfn + nr_pages, MIGRATE_MOVABLE)
    init_per_zone_wmark_min(m, cpu)
    if first >= 0:
        kswapd_run(m, cpu, nid)
        kcompactd_run(m, nid)
    memory_notify(m, cpu, MEM_ONLINE, start_pfn, nr_pages, first)
    report(m, cpu, start_pfn, nr_pages, EVENT_ONLINE, HOTPLUG_DONE, -1)
    return 0


@entry
def online_pages(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online_type: int) -> int:
    """``mm/memory_hotplug.c:online_pages() (5.10.262)``: memory that is plugged in goes to a zone of its node, as
    MMOP_ONLINE, MMOP_ONLINE_KERNEL or MMOP_ONLINE_MOVABLE says. 0, or -EINVAL if it isn't there or not offline.

    Its blocks stay isolated until the zone is in the zonelists. Differs from 5.10: the notifiers are asked before the
    zone spans the range.
    """
    if not aligned(m, start_pfn, nr_pages) or online_type < MMOP_ONLINE or online_type > MMOP_ONLINE_MOVABLE:
        return -EINVAL
    if not mem_hotplug_begin(m, cpu):
        return -EINTR
    nid = plugged_node(m, start_pfn)
    for pfn in range(start_pfn, start_pfn + nr_pages, PAGEBLOCK_NR_PAGES):
        if plugged_node(m, pfn) != nid:
            nid = -1
    ret = -EINVAL
    if nid >= 0:
        ret = online_range(m, cpu, start_pfn, nr_pages, online_type, nid)
    mem_hotplug_done(m)
    return ret


HOTPLUG_ENTRIES = as_entries(add_memory, remove_memory, offline_pages, online_pages)
__all__ = [
    "HOTPLUG_ENTRIES", "MMOP_ONLINE", "MMOP_ONLINE_KERNEL", "MMOP_ONLINE_MOVABLE", "add_memory", "memory_notify",
    "offline_pages", "online_pages", "remove_memory",
]  # fmt: skip
