"""One batch of an inactive or of an active list (``mm/vmscan.c`` (5.10))."""

from emu.cpu.wait import schedule_timeout_uninterruptible
from emu.cpu.workqueue import cond_resched
from emu.mm.page_writeback import wakeup_flusher_threads
from emu.mm.lruvec import lru_note_cost
from emu.mm.pagevec import lru_add_drain
from emu.mm.pagevec_move import page_evictable
from emu.mm.rmap_walk import page_referenced_unlocked
from emu.mm.isolate_lru import putback_lru_page
from emu.reclaim.isolate import (
    free_isolated_list, isolate_lru_pages, isolation, last_of, move_pages_to_lru, too_many_isolated,
)  # fmt: skip
from emu.reclaim.scan_control import (
    L_ACTIVE, L_INACTIVE, L_PAGES, SWAP_CLUSTER_MAX, ReclaimStat, ScanControl, cgroup_reclaim, current_is_kswapd,
    reclaim_stat,
)  # fmt: skip
from emu.reclaim.shrink_page_list import shrink_page_list
from emu.zone.event import EV_LRU_SHRINK_ACTIVE, EV_LRU_SHRINK_INACTIVE, record
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD, list_add, list_del, list_empty, list_splice
from emu.zone.lru import is_file_lru, page_is_file_lru
from emu.zone.mm_types import VM_EXEC
from emu.zone.mmzone import Cpu, Lruvec, Machine, Node, page_record
from emu.zone.page import PG_active, PG_workingset, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag
from emu.zone.sched import fatal_signal_pending, task_at
from emu.zone.slow_stat import add_spent, slow_clock
from emu.zone.slow_types import SPENT_ISOLATED
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import __count_vm_events, __mod_node_page_state
from emu.zone.vmstat_items import (
    NR_ISOLATED_ANON, PGDEACTIVATE, PGREFILL, PGSCAN_ANON, PGSCAN_DIRECT, PGSCAN_KSWAPD, PGSTEAL_ANON, PGSTEAL_DIRECT,
    PGSTEAL_KSWAPD,
)  # fmt: skip
from shm.core import core
from shm.point import site

S_ISOLATE = site("shrink_inactive_list:isolate lock")
S_PUTBACK = site("shrink_inactive_list:putback lock")
S_ISOLATE_ACTIVE = site("shrink_active_list:isolate lock")
S_PUTBACK_ACTIVE = site("shrink_active_list:putback lock")


@core(cold=True)
def trace_shrink_inactive(
    m: Machine, cpu: Cpu, nid: int, nr_scanned: int, nr_reclaimed: int, stat: ReclaimStat, priority: int, file: int
) -> None:
    """``mm_vmscan_lru_shrink_inactive``; what was found, six bits each (at most 32 pages), is above ``b``'s 20 bits."""
    if cpu.trace != 0:
        seen = stat.nr_dirty | stat.nr_writeback << 6 | stat.nr_congested << 12 | stat.nr_immediate << 18
        seen |= stat.nr_activate[0] << 24 | stat.nr_activate[1] << 30 | stat.nr_ref_keep << 36
        b = nid | priority << 8 | file << 16 | seen << 20
        record(m, cpu, EV_LRU_SHRINK_INACTIVE, -1, 0, stat.nr_unmap_fail, 0, nr_scanned | nr_reclaimed << 32, b)


@core
def wait_for_isolated(m: Machine, cpu: Cpu, node: Node, file: int, sc: ScanControl) -> int:
    """The beginning of ``shrink_inactive_list()``: -1 to go on; else what it returns, after one wait of 100 ms."""
    stalled = False
    while too_many_isolated(m, cpu, node, file, sc):
        if stalled:
            return 0
        since = slow_clock(m)
        schedule_timeout_uninterruptible(m, cpu, 100 * NS_PER_MS)
        add_spent(m, cpu, SPENT_ISOLATED, since)
        stalled = True
        if fatal_signal_pending(task_at(m, cpu.current)):
            return SWAP_CLUSTER_MAX
    return -1


@core
def isolate_inactive(
    m: Machine, cpu: Cpu, nr_to_scan: int, node: Node, lruvec: Lruvec, sc: ScanControl, lru: int
) -> int:
    """Take a batch off an inactive list and count it: pages taken | pages looked at << 32."""
    found = isolation()
    file = 1 if is_file_lru(lru) else 0
    INIT_LIST_HEAD(m, cpu.scratch[L_PAGES])
    lru_add_drain(m, cpu)
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_ISOLATE)
    nr_taken = isolate_lru_pages(m, cpu, nr_to_scan, node, lruvec, L_PAGES, found, sc, lru)
    __mod_node_page_state(m, cpu, node, NR_ISOLATED_ANON + file, nr_taken)
    if not cgroup_reclaim(sc):
        item = PGSCAN_KSWAPD if current_is_kswapd(m, cpu) else PGSCAN_DIRECT
        __count_vm_events(cpu, item, found.nr_scanned)
    __count_vm_events(cpu, PGSCAN_ANON + file, found.nr_scanned)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    return nr_taken | found.nr_scanned << 32


@core
def putback_inactive(
    m: Machine, cpu: Cpu, node: Node, lruvec: Lruvec, sc: ScanControl, stat: ReclaimStat, file: int, nr_taken: int,
    nr_reclaimed: int,
) -> None:  # fmt: skip
    """What was not reclaimed goes back to its list, and the batch is counted."""
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_PUTBACK)
    move_pages_to_lru(m, cpu, node, L_PAGES, flags)
    __mod_node_page_state(m, cpu, node, NR_ISOLATED_ANON + file, -nr_taken)
    lru_note_cost(m, cpu, lruvec, file, stat.nr_pageout)
    if not cgroup_reclaim(sc):
        item = PGSTEAL_KSWAPD if current_is_kswapd(m, cpu) else PGSTEAL_DIRECT
        __count_vm_events(cpu, item, nr_reclaimed)
    __count_vm_events(cpu, PGSTEAL_ANON + file, nr_reclaimed)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    free_isolated_list(m, cpu, L_PAGES)


@core
def shrink_inactive_list(m: Machine, cpu: Cpu, nr_to_scan: int, lruvec: Lruvec, sc: ScanControl, lru: int) -> int:
    """``mm/vmscan.c:shrink_inactive_list() (5.10)``: pages reclaimed of a batch from the tail of an inactive list.

    Differs from 5.10: cgroups have no vm events of their own, here and in :func:`shrink_active_list`.
    """
    file = 1 if is_file_lru(lru) else 0
    node = m.nodes[lruvec.node]
    answer = wait_for_isolated(m, cpu, node, file, sc)
    if answer >= 0:
        return answer
    counts = isolate_inactive(m, cpu, nr_to_scan, node, lruvec, sc, lru)
    nr_taken = counts & 0xFFFFFFFF
    if nr_taken == 0:
        return 0
    stat = reclaim_stat()
    nr_reclaimed = shrink_page_list(m, cpu, L_PAGES, node, sc, stat, 0)
    putback_inactive(m, cpu, node, lruvec, sc, stat, file, nr_taken, nr_reclaimed)
    if stat.nr_unqueued_dirty == nr_taken:
        wakeup_flusher_threads(m, cpu)
    sc.nr.dirty += stat.nr_dirty
    sc.nr.congested += stat.nr_congested
    sc.nr.unqueued_dirty += stat.nr_unqueued_dirty
    sc.nr.writeback += stat.nr_writeback
    sc.nr.immediate += stat.nr_immediate
    sc.nr.taken += nr_taken
    if file != 0:
        sc.nr.file_taken += nr_taken
    trace_shrink_inactive(m, cpu, lruvec.node, counts >> 32, nr_reclaimed, stat, sc.priority, file)
    return nr_reclaimed


@core
def deactivate_pages(m: Machine, cpu: Cpu) -> int:
    """Sort the isolated active pages: those of executables that were used stay active, the others lose PG_active.
    Returns how many were used. Pages that became unevictable are put back at once."""
    nr_rotated = 0
    INIT_LIST_HEAD(m, cpu.scratch[L_ACTIVE])
    INIT_LIST_HEAD(m, cpu.scratch[L_INACTIVE])
    while not list_empty(m, cpu.scratch[L_PAGES]):
        cond_resched(m, cpu)
        pfn = last_of(m, cpu.scratch[L_PAGES])
        page = page_record(m, pfn_to_page(m, pfn))
        list_del(m, page.lru)
        if not page_evictable(page):
            putback_lru_page(m, cpu, pfn)
            continue
        found = page_referenced_unlocked(m, cpu, pfn)
        if found & 0xFFFFFFFF != 0 and found >> 32 & VM_EXEC != 0 and page_is_file_lru(page):
            nr_rotated += 1
            list_add(m, page.lru, cpu.scratch[L_ACTIVE])
            continue
        ClearPageFlag(page, PG_active)
        SetPageFlag(page, PG_workingset)
        list_add(m, page.lru, cpu.scratch[L_INACTIVE])
    return nr_rotated


@core
def shrink_active_list(m: Machine, cpu: Cpu, nr_to_scan: int, lruvec: Lruvec, sc: ScanControl, lru: int) -> None:
    """``mm/vmscan.c:shrink_active_list() (5.10)``: a batch from an active list's tail to the inactive list."""
    file = 1 if is_file_lru(lru) else 0
    node = m.nodes[lruvec.node]
    found = isolation()
    INIT_LIST_HEAD(m, cpu.scratch[L_PAGES])
    lru_add_drain(m, cpu)
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_ISOLATE_ACTIVE)
    nr_taken = isolate_lru_pages(m, cpu, nr_to_scan, node, lruvec, L_PAGES, found, sc, lru)
    __mod_node_page_state(m, cpu, node, NR_ISOLATED_ANON + file, nr_taken)
    if not cgroup_reclaim(sc):
        __count_vm_events(cpu, PGREFILL, found.nr_scanned)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    nr_rotated = deactivate_pages(m, cpu)
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_PUTBACK_ACTIVE)
    nr_activate = move_pages_to_lru(m, cpu, node, L_ACTIVE, flags)
    nr_deactivate = move_pages_to_lru(m, cpu, node, L_INACTIVE, flags)
    list_splice(m, cpu.scratch[L_INACTIVE], cpu.scratch[L_ACTIVE])
    __count_vm_events(cpu, PGDEACTIVATE, nr_deactivate)
    __mod_node_page_state(m, cpu, node, NR_ISOLATED_ANON + file, -nr_taken)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    free_isolated_list(m, cpu, L_ACTIVE)
    if cpu.trace != 0:
        b = lruvec.node | sc.priority << 8 | file << 16 | nr_activate << 20 | nr_rotated << 26
        record(m, cpu, EV_LRU_SHRINK_ACTIVE, -1, 0, 0, 0, nr_taken | nr_deactivate << 32, b)
