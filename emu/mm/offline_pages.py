"""Taking memory away from a zone while the machine runs (``mm/memory_hotplug.c:offline_pages() (5.10.262)``)."""

from emu.cpu.workqueue import cond_resched, drain_all_pages, sleep_on_doorbell_until
from emu.mm.hotplug_lock import (
    HOTPLUG_DONE, HOTPLUG_HOLES, HOTPLUG_MULTIZONE, HOTPLUG_NOTIFIER, HOTPLUG_ISOLATE, HOTPLUG_SIGNAL,
    HOTPLUG_UNMOVABLE, HOTPLUG_PASSES, MEM_GOING_OFFLINE, MEM_OFFLINE, MEM_CANCEL_OFFLINE, S_ISOLATED, ENOENT, EINTR,
    EBUSY, EINVAL, memory_notify, mem_hotplug_begin, mem_hotplug_done, report, aligned,
)  # fmt: skip
from emu.mm.hotplug_zone import remove_pfn_range_from_zone, zone_pcp_reset
from emu.mm.kswapd_run import kswapd_stop
from emu.mm.migrate_range import do_migrate_range, scan_movable_pages
from emu.mm.page_isolation import MEMORY_OFFLINE, start_isolate_page_range, test_pages_isolated, undo_isolate_page_range
from emu.mm.pagevec import lru_add_drain_all
from emu.zone.buddy import buddy_order, del_page_from_free_list
from emu.zone.deviations import R5, deviates
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_ORDER_NR_PAGES, MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, ZONE_NORMAL, Cpu, Machine, Node, Zone, page_record,
    zone_at,
)  # fmt: skip
from emu.zone.online import block_has_hole, pfn_to_online_zone
from emu.zone.page import PG_buddy, pfn_to_page
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.setup import zone_pcp_update
from emu.zone.wmark_init import init_per_zone_wmark_min
from emu.zone.zonelist_build import build_all_zonelists
from shm.atomic import clock_ns, fetch_add, load_acquire
from shm.core import core, entry
from shm.point import point_loop, site

S_TAKE = site("__offline_isolated_pages:lock")
S_PASS = site("offline_pages:pass")


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
