"""Everything after the first failure (``mm/page_alloc.c:__alloc_pages_slowpath() (5.10.262)``).

All branches of the slow path's control flow are here; what reclaims, compacts or kills is behind ``emu.cpu.seams``.
"""

from emu.cpu.page_alloc import current_alloc_flags, get_page_from_freelist
from emu.cpu.seams import (
    COMPACT_DEFERRED, COMPACT_SKIPPED, __alloc_pages_direct_compact, __alloc_pages_may_oom, __alloc_pages_slowpath,
    __perform_reclaim, should_compact_retry, should_reclaim_retry,
)  # fmt: skip
from emu.cpu.workqueue import cond_resched, drain_all_pages
from emu.zone.event import (
    EV_ALLOC_FAILURE, EV_SLOWPATH, WARN_ATOMIC_RECLAIM, WARN_NOFAIL_ATOMIC, WARN_NOFAIL_COSTLY, WARN_NOFAIL_MEMALLOC,
    record, warn_on_once,
)  # fmt: skip
from emu.zone.gfp import (
    __GFP_ATOMIC, __GFP_DIRECT_RECLAIM, __GFP_HIGH, __GFP_IO, __GFP_KSWAPD_RECLAIM, __GFP_MEMALLOC, __GFP_NOFAIL,
    __GFP_NOMEMALLOC, __GFP_NORETRY, __GFP_NOWARN, __GFP_RETRY_MAYFAIL, __GFP_THISNODE, ALLOC_CPUSET, ALLOC_HARDER,
    ALLOC_KSWAPD, ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_WMARK_MIN, PAGE_ALLOC_COSTLY_ORDER, PF_MEMALLOC,
)  # fmt: skip
from emu.zone.highatomic import unreserve_highatomic_pageblock
from emu.zone.irq import in_interrupt
from emu.zone.kswapd_wake import wake_all_kswapds
from emu.zone.mmzone import MIGRATE_MOVABLE, NODEMASK_NONE, AllocContext, Cpu, Machine
from emu.zone.sched import task_at
from emu.zone.page import NULL
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import ALLOCSTALL
from emu.zone.zonelist import cpuset_nodemask_valid_mems_allowed, next_zones_zonelist, zonelist_zone
from shm.core import core, implements
from shm.point import point, site
from shm.seqcount import read_seqcount_begin, read_seqcount_retry

COMPACT_PRIO_SYNC_LIGHT = 1
COMPACT_PRIO_ASYNC = 2
DEF_COMPACT_PRIORITY = COMPACT_PRIO_SYNC_LIGHT
INIT_COMPACT_PRIORITY = COMPACT_PRIO_ASYNC
S_START = site("__alloc_pages_slowpath:read_mems_allowed_begin")
S_RETRY = site("__alloc_pages_slowpath:retry")
S_NOPAGE = site("__alloc_pages_slowpath:nopage")
FAIL = -2
RESTART = -3
NOPAGE = -4
STEP_START = 0
STEP_RETRY = 1
STEP_NOPAGE = 2


@core(cold=True)
def gfp_to_alloc_flags(m: Machine, cpu: Cpu, gfp_mask: int) -> int:
    """``mm/page_alloc.c:gfp_to_alloc_flags() (5.10)``: min watermark, and how far below it the request may go."""
    task = task_at(m, cpu.current)
    alloc_flags = ALLOC_WMARK_MIN | ALLOC_CPUSET | gfp_mask & (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
    if gfp_mask & __GFP_ATOMIC != 0:
        if gfp_mask & __GFP_NOMEMALLOC == 0:
            alloc_flags |= ALLOC_HARDER
        alloc_flags &= ~ALLOC_CPUSET
    elif task.rt != 0 and not in_interrupt(cpu):
        alloc_flags |= ALLOC_HARDER
    return current_alloc_flags(m, cpu, gfp_mask, alloc_flags)


@core(cold=True)
def __gfp_pfmemalloc_flags(m: Machine, cpu: Cpu, gfp_mask: int) -> int:
    """``mm/page_alloc.c:__gfp_pfmemalloc_flags() (5.10)``: may this context use the reserves?"""
    if gfp_mask & __GFP_NOMEMALLOC != 0:
        return 0
    if gfp_mask & __GFP_MEMALLOC != 0:
        return ALLOC_NO_WATERMARKS
    task = task_at(m, cpu.current)
    memalloc = task.process_flags & PF_MEMALLOC != 0
    if cpu.softirq != 0 and memalloc:
        return ALLOC_NO_WATERMARKS
    if not in_interrupt(cpu):
        if memalloc:
            return ALLOC_NO_WATERMARKS
        if task.oom_victim != 0:
            return ALLOC_OOM
    return 0


@core(cold=True)
def check_retry_cpuset(m: Machine, cpu: Cpu, cookie: int, ac: AllocContext) -> bool:
    """``mm/page_alloc.c:check_retry_cpuset() (5.10)``: the cpuset or policy mask changed while we looked."""
    if m.cpusets_enabled == 0:
        return False
    if ac.nodemask_kind != NODEMASK_NONE and not cpuset_nodemask_valid_mems_allowed(m, cpu, ac.nodemask):
        ac.nodemask_kind = NODEMASK_NONE
        return True
    return read_seqcount_retry(task_at(m, cpu.current).mems_allowed_seq, cookie)


@core(cold=True)
def read_mems_allowed_begin(m: Machine, cpu: Cpu) -> int:
    """``read_mems_allowed_begin()``: 0 until the first cpuset exists."""
    if m.cpusets_enabled == 0:
        return 0
    return read_seqcount_begin(task_at(m, cpu.current).mems_allowed_seq)


@core(cold=True)
def __alloc_pages_direct_reclaim(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext
) -> int:
    """``mm/page_alloc.c:__alloc_pages_direct_reclaim() (5.10)``: reclaim, try; then drain all CPUs and try once more.

    Pages may sit on other CPUs' lists or in highatomic reserves that are larger than they need to be.
    """
    __count_vm_events(cpu, ALLOCSTALL + min(ac.highest_zoneidx, 3), 1)
    ac.did_some_progress = __perform_reclaim(m, cpu, gfp_mask, order, ac)
    if ac.did_some_progress == 0:
        return NULL
    pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    if pfn == NULL:
        unreserve_highatomic_pageblock(m, cpu, ac, 0)
        drain_all_pages(m, cpu, 0)
        pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    return pfn


@core(cold=True)
def __alloc_pages_cpuset_fallback(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext
) -> int:
    """``mm/page_alloc.c:__alloc_pages_cpuset_fallback() (5.10)``: within the cpuset, then anywhere."""
    pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags | ALLOC_CPUSET, ac)
    if pfn == NULL:
        pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    return pfn


@core(cold=True)
def warn_alloc(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> None:
    """``mm/page_alloc.c:warn_alloc() (5.10)``: the report's text is made by whoever reads the ring."""
    if gfp_mask & __GFP_NOWARN == 0:
        nodemask = ac.nodemask if ac.nodemask_kind != NODEMASK_NONE else 0
        record(m, cpu, EV_ALLOC_FAILURE, -1, order, ac.migratetype, gfp_mask, nodemask, ac.highest_zoneidx)


@core(cold=True)
def step(m: Machine, cpu: Cpu, which: int, gfp_mask: int, order: int, alloc_flags: int, value: int) -> None:
    """One step of the slow path, for tracing and the task's retry counters."""
    task = task_at(m, cpu.current)
    if which == STEP_RETRY:
        task.retries += 1
    if cpu.trace != 0:
        record(m, cpu, EV_SLOWPATH, -1, order, which, gfp_mask, alloc_flags, value)


@core(cold=True)
def must_not_fail(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """The ``__GFP_NOFAIL`` part of ``nopage``: a page, NULL to retry, or FAIL since nobody may wait."""
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0:
        warn_on_once(m, cpu, WARN_NOFAIL_ATOMIC, gfp_mask, order)
        return FAIL
    if task_at(m, cpu.current).process_flags & PF_MEMALLOC != 0:
        warn_on_once(m, cpu, WARN_NOFAIL_MEMALLOC, gfp_mask, order)
    if order > PAGE_ALLOC_COSTLY_ORDER:
        warn_on_once(m, cpu, WARN_NOFAIL_COSTLY, gfp_mask, order)
    pfn = __alloc_pages_cpuset_fallback(m, cpu, gfp_mask, order, ALLOC_HARDER, ac)
    if pfn == NULL and not cond_resched(m, cpu):
        return FAIL
    return pfn


@core(cold=True)
def slowpath_rounds(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, cookie: int, priority: int
) -> int:
    """From the ``retry`` label to ``nopage``: a pfn, RESTART or NOPAGE."""
    can_direct_reclaim = gfp_mask & __GFP_DIRECT_RECLAIM != 0
    can_compact = gfp_mask & __GFP_IO != 0
    costly_order = order > PAGE_ALLOC_COSTLY_ORDER
    no_progress_loops = 0
    compaction_retries = 0
    while True:
        point(cpu.party, S_RETRY)
        step(m, cpu, STEP_RETRY, gfp_mask, order, alloc_flags, no_progress_loops)
        if check_retry_cpuset(m, cpu, cookie, ac):
            return RESTART
        if alloc_flags & ALLOC_KSWAPD != 0:
            wake_all_kswapds(m, cpu, order, gfp_mask, ac)
        reserve_flags = __gfp_pfmemalloc_flags(m, cpu, gfp_mask)
        if reserve_flags != 0:
            alloc_flags = current_alloc_flags(m, cpu, gfp_mask, reserve_flags)
        ac.alloc_flags = alloc_flags
        if alloc_flags & ALLOC_CPUSET == 0 or reserve_flags != 0:
            ac.nodemask_kind = NODEMASK_NONE
            ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
        pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
        if pfn != NULL:
            return pfn
        if not can_direct_reclaim or task_at(m, cpu.current).process_flags & PF_MEMALLOC != 0:
            return NOPAGE
        pfn = __alloc_pages_direct_reclaim(m, cpu, gfp_mask, order, alloc_flags, ac)
        if pfn != NULL:
            return pfn
        progress = ac.did_some_progress
        pfn = __alloc_pages_direct_compact(m, cpu, gfp_mask, order, alloc_flags, ac, priority)
        if pfn != NULL:
            return pfn
        if gfp_mask & __GFP_NORETRY != 0:
            return NOPAGE
        if costly_order and (not can_compact or gfp_mask & __GFP_RETRY_MAYFAIL == 0):
            return NOPAGE
        if progress > 0 and order <= PAGE_ALLOC_COSTLY_ORDER:
            no_progress_loops = 0
        else:
            no_progress_loops += 1
        if should_reclaim_retry(m, cpu, gfp_mask, order, ac, alloc_flags, progress, no_progress_loops):
            continue
        if progress > 0 and can_compact:
            compaction_retries += 1
            if should_compact_retry(m, cpu, ac, order, alloc_flags, priority, compaction_retries):
                continue
        if check_retry_cpuset(m, cpu, cookie, ac):
            return RESTART
        pfn = __alloc_pages_may_oom(m, cpu, gfp_mask, order, ac)
        if pfn != NULL:
            return pfn
        if task_at(m, cpu.current).oom_victim != 0:
            if alloc_flags & ALLOC_OOM != 0 or gfp_mask & __GFP_NOMEMALLOC != 0:
                return NOPAGE
        if ac.did_some_progress == 0:
            return NOPAGE
        no_progress_loops = 0


@core(cold=True)
def compact_first(m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext) -> int:
    """Compaction before reclaim, for costly orders and for unmovable blocks: a pfn, NULL to go on, or NOPAGE."""
    costly_order = order > PAGE_ALLOC_COSTLY_ORDER
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0 or gfp_mask & __GFP_IO == 0:
        return NULL
    if not costly_order and (order == 0 or ac.migratetype == MIGRATE_MOVABLE):
        return NULL
    if __gfp_pfmemalloc_flags(m, cpu, gfp_mask) != 0:
        return NULL
    pfn = __alloc_pages_direct_compact(m, cpu, gfp_mask, order, alloc_flags, ac, INIT_COMPACT_PRIORITY)
    if pfn == NULL and costly_order and gfp_mask & __GFP_NORETRY != 0:
        if ac.compact_result == COMPACT_SKIPPED or ac.compact_result == COMPACT_DEFERRED:
            return NOPAGE
        if gfp_mask & __GFP_THISNODE != 0:
            return NOPAGE
        ac.compact_result = -1  # go on, but keep to asynchronous compaction
    return pfn


@core(cold=True)
def slowpath_once(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, cookie: int) -> int:
    """From the ``restart`` label on: a pfn, RESTART or NOPAGE."""
    ac.compact_result = COMPACT_SKIPPED
    alloc_flags = gfp_to_alloc_flags(m, cpu, gfp_mask)
    ac.alloc_flags = alloc_flags
    step(m, cpu, STEP_START, gfp_mask, order, alloc_flags, cookie)
    ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
    if zonelist_zone(m, ac, ac.preferred) == 0:
        return NOPAGE
    if alloc_flags & ALLOC_KSWAPD != 0:
        wake_all_kswapds(m, cpu, order, gfp_mask, ac)
    pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    if pfn != NULL:
        return pfn
    pfn = compact_first(m, cpu, gfp_mask, order, alloc_flags, ac)
    if pfn != NULL:
        return pfn
    priority = DEF_COMPACT_PRIORITY
    if ac.compact_result == -1:
        priority = INIT_COMPACT_PRIORITY
    return slowpath_rounds(m, cpu, gfp_mask, order, alloc_flags, ac, cookie, priority)


@implements(__alloc_pages_slowpath)
def slowpath(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__alloc_pages_slowpath() (5.10.262)``: a pfn, or -1 after warn_alloc().

    Differs from 5.10: ``cpusets_insane_config()`` is never true (no movable-only nodes in a cpuset), and the zonelist
    cookie is 0 as it is without CONFIG_MEMORY_HOTREMOVE. ``__GFP_NOFAIL`` gives up when the machine is stopped.
    """
    if gfp_mask & (__GFP_ATOMIC | __GFP_DIRECT_RECLAIM) == __GFP_ATOMIC | __GFP_DIRECT_RECLAIM:
        warn_on_once(m, cpu, WARN_ATOMIC_RECLAIM, gfp_mask, order)
        gfp_mask &= ~__GFP_ATOMIC
    while True:
        point(cpu.party, S_START)
        cookie = read_mems_allowed_begin(m, cpu)
        pfn = slowpath_once(m, cpu, gfp_mask, order, ac, cookie)
        while pfn == NOPAGE:
            point(cpu.party, S_NOPAGE)
            step(m, cpu, STEP_NOPAGE, gfp_mask, order, 0, 0)
            if check_retry_cpuset(m, cpu, cookie, ac):
                pfn = RESTART
            elif gfp_mask & __GFP_NOFAIL == 0:
                pfn = FAIL
            else:
                pfn = must_not_fail(m, cpu, gfp_mask, order, ac)
                if pfn == NULL:
                    pfn = slowpath_rounds(m, cpu, gfp_mask, order, ac.alloc_flags, ac, cookie, DEF_COMPACT_PRIORITY)
        if pfn >= 0:
            return pfn
        if pfn == FAIL:
            warn_alloc(m, cpu, gfp_mask, order, ac)
            return NULL
        task_at(m, cpu.current).cookie_retries += 1
