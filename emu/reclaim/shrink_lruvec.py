"""How much of each LRU list is looked at, and doing it (``mm/vmscan.c`` (5.10.262))."""

from emu.cpu.workqueue import cond_resched
from emu.mm.lruvec import lruvec_page_state
from emu.mm.swapfile import get_nr_swap_pages, total_swap_pages
from emu.reclaim.scan_control import (
    DEF_PRIORITY, SWAP_CLUSTER_MAX, ScanControl, ScanCounts, cgroup_reclaim, current_is_kswapd, scan_counts,
)  # fmt: skip
from emu.reclaim.shrink_list import shrink_active_list, shrink_inactive_list
from emu.zone.lru import (
    LRU_ACTIVE, LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_BASE, LRU_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE,
    is_active_lru, is_file_lru, lruvec_lru_size,
)  # fmt: skip
from emu.zone.mmzone import PAGE_SHIFT, Cpu, Lruvec, Machine
from emu.zone.wmark_init import int_sqrt
from shm.core import core

NR_EVICTABLE = 4
SCAN_EQUAL = 0
SCAN_FRACT = 1
SCAN_ANON = 2
SCAN_FILE = 3


@core
def inactive_is_low(m: Machine, lruvec: Lruvec, inactive_lru: int) -> bool:
    """``mm/vmscan.c:inactive_is_low() (5.10)``: the active list is larger than its share, sqrt(10 * GiB) to 1."""
    inactive = lruvec_page_state(m, lruvec, inactive_lru)
    active = lruvec_page_state(m, lruvec, inactive_lru + LRU_ACTIVE)
    gb = (inactive + active) >> (30 - PAGE_SHIFT)
    inactive_ratio = int_sqrt(10 * gb) if gb != 0 else 1
    return inactive * inactive_ratio < active


@core
def scan_balance(m: Machine, sc: ScanControl, swappiness: int) -> int:
    """The first half of ``get_scan_count()``: which kinds of pages to look at, SCAN_*."""
    if sc.may_swap == 0 or get_nr_swap_pages(m) <= 0:
        return SCAN_FILE
    if cgroup_reclaim(sc) and swappiness == 0:
        return SCAN_FILE
    if sc.priority == 0 and swappiness != 0:
        return SCAN_EQUAL
    if sc.file_is_tiny != 0:
        return SCAN_ANON
    if sc.cache_trim_mode != 0:
        return SCAN_FILE
    return SCAN_FRACT


@core
def fraction(weight: int, cost: int, total_cost: int) -> int:
    """Share of the pressure for anonymous or file pages: their weight by the swappiness, and more the cheaper they were
    to reclaim.

    Each kind's cost counts with the total on top, so that neither gets less than a third.
    """
    return weight * (3 * total_cost + 1) // (total_cost + cost + 1)


@core
def get_scan_count(m: Machine, lruvec: Lruvec, sc: ScanControl, counts: ScanCounts) -> None:
    """``mm/vmscan.c:get_scan_count() (5.10.262)``: pages of each list to look at in this pass.

    Differs from 5.10: cgroups have one swappiness and no limit of swap, no memory.min and memory.low, and aren't
    removed while they have pages.
    """
    swappiness = m.swappiness
    balance = scan_balance(m, sc, swappiness)
    total_cost = sc.anon_cost + sc.file_cost
    ap = fraction(swappiness, sc.anon_cost, total_cost)
    fp = fraction(200 - swappiness, sc.file_cost, total_cost)
    for lru in range(NR_EVICTABLE):
        file = 1 if is_file_lru(lru) else 0
        scan = lruvec_lru_size(lruvec, lru, sc.reclaim_idx) >> sc.priority
        if balance == SCAN_FRACT:
            scan = scan * (fp if file == 1 else ap) // (ap + fp)
        elif balance != SCAN_EQUAL and (balance == SCAN_FILE) != (file == 1):
            scan = 0
        counts.nr[lru] = scan
        counts.targets[lru] = scan


@core
def shrink_list(m: Machine, cpu: Cpu, lru: int, nr_to_scan: int, lruvec: Lruvec, sc: ScanControl) -> int:
    """``mm/vmscan.c:shrink_list() (5.10)``: pages reclaimed."""
    if not is_active_lru(lru):
        return shrink_inactive_list(m, cpu, nr_to_scan, lruvec, sc, lru)
    if sc.may_deactivate & (2 if is_file_lru(lru) else 1) != 0:
        shrink_active_list(m, cpu, nr_to_scan, lruvec, sc, lru)
    else:
        sc.skipped_deactivate = 1
    return 0


@core
def scan_less(counts: ScanCounts, lru: int, percentage: int) -> None:
    """Cut a list's plan to the percentage that the other kind has got of its own."""
    nr_scanned = counts.targets[lru] - counts.nr[lru]
    left = counts.targets[lru] * (100 - percentage) // 100
    counts.nr[lru] = left - min(left, nr_scanned)


@core
def stop_smaller(counts: ScanCounts) -> bool:
    """Enough is reclaimed: leave the kind of pages that has less to go, and adjust the other's plan. False when one
    of them is done already."""
    nr_file = counts.nr[LRU_INACTIVE_FILE] + counts.nr[LRU_ACTIVE_FILE]
    nr_anon = counts.nr[LRU_INACTIVE_ANON] + counts.nr[LRU_ACTIVE_ANON]
    if nr_file == 0 or nr_anon == 0:
        return False
    if nr_file > nr_anon:
        lru = LRU_BASE
        left = nr_anon
    else:
        lru = LRU_FILE
        left = nr_file
    percentage = left * 100 // (counts.targets[lru] + counts.targets[lru + LRU_ACTIVE] + 1)
    counts.nr[lru] = 0
    counts.nr[lru + LRU_ACTIVE] = 0
    other = LRU_BASE if lru == LRU_FILE else LRU_FILE
    scan_less(counts, other, percentage)
    scan_less(counts, other + LRU_ACTIVE, percentage)
    return True


@core
def shrink_lruvec(m: Machine, cpu: Cpu, lruvec: Lruvec, sc: ScanControl) -> None:
    """``mm/vmscan.c:shrink_lruvec() (5.10.262)``: batches from each list in turn until all plans are done, or enough
    is reclaimed.

    Direct reclaim's first pass over the machine goes through with its plan: kswapd isn't keeping up. Ends when the
    machine is stopped.
    """
    counts = scan_counts()
    get_scan_count(m, lruvec, sc, counts)
    nr = counts.nr
    nr_reclaimed = 0
    proportional = not cgroup_reclaim(sc) and not current_is_kswapd(m, cpu) and sc.priority == DEF_PRIORITY
    while nr[LRU_INACTIVE_ANON] != 0 or nr[LRU_ACTIVE_FILE] != 0 or nr[LRU_INACTIVE_FILE] != 0:
        for lru in range(NR_EVICTABLE):
            if nr[lru] != 0:
                nr_to_scan = min(nr[lru], SWAP_CLUSTER_MAX)
                nr[lru] -= nr_to_scan
                nr_reclaimed += shrink_list(m, cpu, lru, nr_to_scan, lruvec, sc)
        if not cond_resched(m, cpu):
            break
        if nr_reclaimed < sc.nr_to_reclaim or proportional:
            continue
        if not stop_smaller(counts):
            break
    sc.nr_reclaimed += nr_reclaimed
    if total_swap_pages(m) != 0 and inactive_is_low(m, lruvec, LRU_INACTIVE_ANON):
        shrink_active_list(m, cpu, SWAP_CLUSTER_MAX, lruvec, sc, LRU_ACTIVE_ANON)
