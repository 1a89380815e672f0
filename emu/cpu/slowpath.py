"""Everything after the first failure (``mm/page_alloc.c:__alloc_pages_slowpath() (5.10.262)``).

All branches of the slow path's control flow are here; what reclaims, compacts or kills is behind ``emu.cpu.seams``.
When it begins again because memory was moved under it is in ``emu.cpu.cookies``.
"""

from emu.cpu.alloc_flags import __gfp_pfmemalloc_flags, gfp_to_alloc_flags
from emu.cpu.avoidable import count_failure
from emu.cpu.cookies import check_retry, check_retry_zonelist, read_mems_allowed_begin, zonelist_iter_begin
from emu.cpu.page_alloc import current_alloc_flags, get_page_from_freelist
from emu.cpu.seams import (
    COMPACT_DEFERRED, COMPACT_SKIPPED, __alloc_pages_direct_compact, __alloc_pages_may_oom, __alloc_pages_slowpath,
    __perform_reclaim, should_compact_retry, should_reclaim_retry,
)  # fmt: skip
from emu.cpu.warn_alloc import warn_alloc
from emu.cpu.workqueue import cond_resched, drain_all_pages
from emu.zone.deviations import R2, R2B, R23, R28, R36, deviates
from emu.zone.event import (
    EV_SLOWPATH, WARN_ATOMIC_RECLAIM, WARN_NOFAIL_ATOMIC, WARN_NOFAIL_COSTLY, WARN_NOFAIL_MEMALLOC, record,
    warn_on_once,
)  # fmt: skip
from emu.zone.gfp import (
    __GFP_ATOMIC, __GFP_DIRECT_RECLAIM, __GFP_HARDWALL, __GFP_NOFAIL, __GFP_NOMEMALLOC, __GFP_NORETRY,
    __GFP_RETRY_MAYFAIL, __GFP_THISNODE, ALLOC_CPUSET, ALLOC_HARDER, ALLOC_KSWAPD, ALLOC_OOM, PAGE_ALLOC_COSTLY_ORDER,
    PF_MEMALLOC, gfp_compaction_allowed,
)  # fmt: skip
from emu.zone.highatomic import unreserve_highatomic_pageblock
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES, wake_all_kswapds
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import NODEMASK_MEMS_ALLOWED, NODEMASK_NONE, AllocContext
from emu.zone.mmzone import MIGRATE_MOVABLE, Cpu, Machine
from emu.zone.sched import (
    RESTART_ZONELIST, RETRY_COMPACT, RETRY_NOFAIL, RETRY_OOM, RETRY_RECLAIM, task_at, tsk_is_oom_victim,
)  # fmt: skip
from emu.zone.page import NULL
from emu.zone.slow_stat import add_spent, slow_clock
from emu.zone.slow_types import SPENT_COMPACT, SPENT_RECLAIM, SPENT_SLOWPATH
from emu.zone.zonelist import next_zones_zonelist, zonelist_zone
from shm.atomic import clock_ns
from shm.core import OnStack, core, implements
from shm.point import point, point_loop, site
from shm.struct import Struct, i64, struct

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
RETRY = -5
STEP_START = 0
STEP_RETRY = 1
STEP_NOPAGE = 2
STEP_RESTART = 3
FIRST = -1


@struct
class Slowpath(Struct):
    """The local variables of one ``__alloc_pages_slowpath()`` that outlive a pass through ``retry``."""

    cpuset_mems_cookie: int = i64()
    zonelist_iter_cookie: int = i64()
    alloc_flags: int = i64()
    no_progress_loops: int = i64()
    reason: int = i64()  # why it comes through retry: RETRY_*, FIRST


slowpath_locals = OnStack(Slowpath)


@core(cold=True)
def __alloc_pages_direct_reclaim(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext
) -> int:
    """``mm/page_alloc.c:__alloc_pages_direct_reclaim() (5.10)``: reclaim, try; then drain all CPUs and try once more.

    Pages may sit on other CPUs' lists or in highatomic reserves that are larger than they need to be. Without
    9ee493ce0a60 (R23) they are drained for high orders only, and there is no second try.
    """
    since = slow_clock(m)
    ac.did_some_progress = __perform_reclaim(m, cpu, gfp_mask, order, ac)
    add_spent(m, cpu, SPENT_RECLAIM, since)
    if deviates(m, R23) and order != 0:
        drain_all_pages(m, cpu, 0)
    if ac.did_some_progress == 0:
        return NULL
    pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    if pfn == NULL and not deviates(m, R23):
        unreserve_highatomic_pageblock(m, cpu, ac, 0)
        drain_all_pages(m, cpu, 0)
        pfn = get_page_from_freelist(m, cpu, gfp_mask, order, alloc_flags, ac)
    return pfn


@core(cold=True)
def compact_timed(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, priority: int
) -> int:
    """``__alloc_pages_direct_compact()``; nothing is compacted for single pages."""
    since = slow_clock(m) if order != 0 else 0
    pfn = __alloc_pages_direct_compact(m, cpu, gfp_mask, order, alloc_flags, ac, priority)
    add_spent(m, cpu, SPENT_COMPACT, since)
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
def step(m: Machine, cpu: Cpu, which: int, gfp_mask: int, order: int, alloc_flags: int, value: int) -> None:
    """One step of the slow path, for tracing. ``value``: START the cookie; RETRY no_progress_loops and from bit 32 on
    the reason + 1 (RETRY_*); RESTART the reason (RESTART_*)."""
    if cpu.trace != 0:
        record(m, cpu, EV_SLOWPATH, -1, order, which, gfp_mask, alloc_flags, value)


@core(inline=True)
def locals_of(ac: AllocContext, s: Slowpath) -> int:
    """What a pass through ``retry`` depends on besides memory, as one number. A count of passes beyond the most that
    are allowed says no more than that."""
    loops = min(s.no_progress_loops, MAX_RECLAIM_RETRIES + 1) | min(ac.compaction_retries, 31) << 5
    where = ac.compact_priority | ac.nodemask_kind << 2 | ac.preferred << 4
    return loops | where << 10 | s.alloc_flags << 32


@core(cold=True)
def enter_retry(m: Machine, cpu: Cpu, gfp_mask: int, order: int, s: Slowpath) -> None:
    """Count a pass through the ``retry`` label with its reason."""
    task = task_at(m, cpu.current)
    task.retries += 1
    if s.reason >= 0:
        task.retries_by[s.reason] += 1
    step(m, cpu, STEP_RETRY, gfp_mask, order, s.alloc_flags, s.no_progress_loops | (s.reason + 1) << 32)


@core(cold=True)
def has_to_restart(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath, race: int
) -> bool:  # fmt: skip
    """Whether the nodes or zones have changed under this allocation; counted with its reason. ``race``: what the look
    is for here: R2, before it fails or kills (902b62810a57, e47483bca2cc), where zonelists came later and by themselves
    (3d36424b3b58), or R2B, in each round (e05741fb10c3)."""
    reason = -1
    if not deviates(m, race):
        reason = check_retry(m, cpu, s.cpuset_mems_cookie, s.zonelist_iter_cookie, ac)
    elif race == R2 and check_retry_zonelist(m, cpu, s.zonelist_iter_cookie):
        reason = RESTART_ZONELIST
    if reason < 0:
        return False
    task_at(m, cpu.current).restarts_by[reason] += 1
    step(m, cpu, STEP_RESTART, gfp_mask, order, s.alloc_flags, reason)
    return True


@core(cold=True)
def must_not_fail(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """The ``__GFP_NOFAIL`` part of ``nopage``: a page, RETRY, or FAIL since nobody may wait."""
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0:
        warn_on_once(m, cpu, WARN_NOFAIL_ATOMIC, gfp_mask, order)
        return FAIL
    if task_at(m, cpu.current).process_flags & PF_MEMALLOC != 0:
        warn_on_once(m, cpu, WARN_NOFAIL_MEMALLOC, gfp_mask, order)
    if order > PAGE_ALLOC_COSTLY_ORDER:
        warn_on_once(m, cpu, WARN_NOFAIL_COSTLY, gfp_mask, order)
    pfn = __alloc_pages_cpuset_fallback(m, cpu, gfp_mask, order, ALLOC_HARDER, ac)
    if pfn != NULL:
        return pfn
    if not cond_resched(m, cpu):
        return FAIL
    return RETRY


@core(cold=True)
def nopage(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath) -> int:
    """The ``nopage`` label: a page after all, RESTART, RETRY or FAIL."""
    point(cpu.party, S_NOPAGE)
    step(m, cpu, STEP_NOPAGE, gfp_mask, order, 0, 0)
    if has_to_restart(m, cpu, gfp_mask, order, ac, s, R2):
        return RESTART
    if gfp_mask & __GFP_NOFAIL == 0:
        return FAIL
    s.reason = RETRY_NOFAIL
    return must_not_fail(m, cpu, gfp_mask, order, ac)


@core(cold=True)
def try_with_reserves(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath) -> int:
    """The attempt that each pass begins with; who may use the reserves also leaves cpuset and policy behind."""
    if s.alloc_flags & ALLOC_KSWAPD != 0:
        wake_all_kswapds(m, cpu, order, gfp_mask, ac)
    reserve_flags = __gfp_pfmemalloc_flags(m, cpu, gfp_mask)
    if reserve_flags != 0:
        s.alloc_flags = current_alloc_flags(m, cpu, gfp_mask, reserve_flags)
    ac.alloc_flags = s.alloc_flags
    if s.alloc_flags & ALLOC_CPUSET == 0 or reserve_flags != 0:
        ac.nodemask_kind = NODEMASK_NONE
        ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
    return get_page_from_freelist(m, cpu, gfp_mask, order, s.alloc_flags, ac)


@core(cold=True)
def is_worth_retrying(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath, progress: int
) -> bool:
    """What reclaim and compaction have to say about another pass."""
    if progress > 0 and order <= PAGE_ALLOC_COSTLY_ORDER:
        s.no_progress_loops = 0
    else:
        s.no_progress_loops += 1
    if should_reclaim_retry(m, cpu, gfp_mask, order, ac, s.alloc_flags, progress, s.no_progress_loops):
        s.reason = RETRY_RECLAIM
        return True
    if progress > 0 and gfp_compaction_allowed(m, gfp_mask):
        if should_compact_retry(m, cpu, ac, order, s.alloc_flags):
            s.reason = RETRY_COMPACT
            return True
    return False


@core(cold=True)
def kill_for(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath) -> int:
    """The last resort of a pass: a pfn, RETRY or NOPAGE."""
    pfn = __alloc_pages_may_oom(m, cpu, gfp_mask, order, ac)
    if pfn != NULL:
        return pfn
    if tsk_is_oom_victim(task_at(m, cpu.current)):
        # c288983dddf7 (R28): a victim may fail only after it has tried the reserves that it was given
        if s.alloc_flags & ALLOC_OOM != 0 or gfp_mask & __GFP_NOMEMALLOC != 0 or deviates(m, R28):
            return NOPAGE
    if ac.did_some_progress == 0:
        return NOPAGE
    s.no_progress_loops = 0
    s.reason = RETRY_OOM
    return RETRY


@core(cold=True)
def slowpath_round(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath) -> int:
    """One pass from the ``retry`` label on: a pfn, RETRY, RESTART or NOPAGE."""
    point_loop(cpu.party, S_RETRY, locals_of(ac, s))
    enter_retry(m, cpu, gfp_mask, order, s)
    if has_to_restart(m, cpu, gfp_mask, order, ac, s, R2B):
        return RESTART
    pfn = try_with_reserves(m, cpu, gfp_mask, order, ac, s)
    if pfn != NULL:
        return pfn
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0 or task_at(m, cpu.current).process_flags & PF_MEMALLOC != 0:
        return NOPAGE
    pfn = __alloc_pages_direct_reclaim(m, cpu, gfp_mask, order, s.alloc_flags, ac)
    if pfn != NULL:
        return pfn
    progress = ac.did_some_progress
    pfn = compact_timed(m, cpu, gfp_mask, order, s.alloc_flags, ac, ac.compact_priority)
    if pfn != NULL:
        return pfn
    if gfp_mask & __GFP_NORETRY != 0:
        return NOPAGE
    may_fail = gfp_mask & __GFP_RETRY_MAYFAIL != 0
    if order > PAGE_ALLOC_COSTLY_ORDER and not (may_fail and gfp_compaction_allowed(m, gfp_mask)):
        return NOPAGE
    if is_worth_retrying(m, cpu, gfp_mask, order, ac, s, progress):
        return RETRY
    if has_to_restart(m, cpu, gfp_mask, order, ac, s, R2):
        return RESTART
    return kill_for(m, cpu, gfp_mask, order, ac, s)


@core(cold=True)
def compact_first(m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext) -> int:
    """Compaction before reclaim, for costly orders and for unmovable blocks: a pfn, NULL to go on, or NOPAGE."""
    costly_order = order > PAGE_ALLOC_COSTLY_ORDER
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0 or not gfp_compaction_allowed(m, gfp_mask):
        return NULL
    if not costly_order and (order == 0 or ac.migratetype == MIGRATE_MOVABLE):
        return NULL
    if __gfp_pfmemalloc_flags(m, cpu, gfp_mask) != 0:
        return NULL
    pfn = compact_timed(m, cpu, gfp_mask, order, alloc_flags, ac, INIT_COMPACT_PRIORITY)
    if pfn == NULL and costly_order and gfp_mask & __GFP_NORETRY != 0:
        if ac.compact_result == COMPACT_SKIPPED or ac.compact_result == COMPACT_DEFERRED:
            return NOPAGE
        if gfp_mask & __GFP_THISNODE != 0:
            return NOPAGE
        ac.compact_priority = INIT_COMPACT_PRIORITY  # go on, but keep to asynchronous compaction
    return pfn


@core(cold=True)
def nowhere_to_go(m: Machine, cpu: Cpu, gfp_mask: int, ac: AllocContext) -> bool:
    """No zone fits: of the nodemask, or (``cpusets_insane_config()``) of a cpuset that has movable memory only.

    Without 8ca1b5a49885 (R36) the latter isn't asked, and the request goes on to kill one task after another.
    """
    ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
    if zonelist_zone(m, ac, ac.preferred) == 0:
        return True
    if vm_at(m, m.vm).cpusets_insane_config == 0 or gfp_mask & __GFP_HARDWALL == 0 or deviates(m, R36):
        return False
    kind = ac.nodemask_kind
    ac.nodemask_kind = NODEMASK_MEMS_ALLOWED
    z = next_zones_zonelist(m, cpu, ac, 0)
    ac.nodemask_kind = kind
    return zonelist_zone(m, ac, z) == 0


@core(cold=True)
def slowpath_begin(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, s: Slowpath) -> int:
    """From the ``restart`` label to ``retry``: a pfn, NULL to go on, or NOPAGE."""
    ac.compaction_retries = 0
    s.no_progress_loops = 0
    s.reason = FIRST
    ac.compact_priority = DEF_COMPACT_PRIORITY
    ac.compact_result = COMPACT_SKIPPED
    point_loop(cpu.party, S_START, ac.nodemask_kind)
    s.cpuset_mems_cookie = read_mems_allowed_begin(m, cpu)
    s.zonelist_iter_cookie = zonelist_iter_begin(m, cpu)
    s.alloc_flags = gfp_to_alloc_flags(m, cpu, gfp_mask)
    ac.alloc_flags = s.alloc_flags
    step(m, cpu, STEP_START, gfp_mask, order, s.alloc_flags, s.cpuset_mems_cookie)
    if nowhere_to_go(m, cpu, gfp_mask, ac):
        return NOPAGE
    if s.alloc_flags & ALLOC_KSWAPD != 0:
        wake_all_kswapds(m, cpu, order, gfp_mask, ac)
    pfn = get_page_from_freelist(m, cpu, gfp_mask, order, s.alloc_flags, ac)
    if pfn != NULL:
        return pfn
    return compact_first(m, cpu, gfp_mask, order, s.alloc_flags, ac)


@core(cold=True)
def slowpath_until_done(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """All of ``__alloc_pages_slowpath()``."""
    if gfp_mask & (__GFP_ATOMIC | __GFP_DIRECT_RECLAIM) == __GFP_ATOMIC | __GFP_DIRECT_RECLAIM:
        warn_on_once(m, cpu, WARN_ATOMIC_RECLAIM, gfp_mask, order)
        gfp_mask &= ~__GFP_ATOMIC
    s = slowpath_locals()
    task_at(m, cpu.current).slowpaths += 1
    result = RESTART
    while True:
        if result == RESTART:
            result = slowpath_begin(m, cpu, gfp_mask, order, ac, s)
        if result == RETRY and not cond_resched(m, cpu):
            result = NOPAGE
        if result == NULL or result == RETRY:
            result = slowpath_round(m, cpu, gfp_mask, order, ac, s)
        if result == NOPAGE:
            result = nopage(m, cpu, gfp_mask, order, ac, s)
        if result >= 0:
            return result
        if result == FAIL:
            count_failure(m, cpu, gfp_mask, order, ac, s.alloc_flags)
            warn_alloc(m, cpu, gfp_mask, order, ac)
            return NULL


@implements(__alloc_pages_slowpath)
def slowpath(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__alloc_pages_slowpath() (5.10.262)``: a pfn, or -1 after warn_alloc().

    What reclaim allocates in between is part of the time. Differs from 5.10: when the machine is stopped nobody
    retries, and ``__GFP_NOFAIL`` gives up.
    """
    since = slow_clock(m)
    if since == 0:
        return slowpath_until_done(m, cpu, gfp_mask, order, ac)
    cost = task_at(m, cpu.current).slow
    before = cost.spent[SPENT_SLOWPATH]
    pfn = slowpath_until_done(m, cpu, gfp_mask, order, ac)
    cost.spent[SPENT_SLOWPATH] = before + clock_ns() - since
    cost.times[SPENT_SLOWPATH] += 1
    return pfn
