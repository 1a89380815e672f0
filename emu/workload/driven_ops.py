"""Operations of a driven replay: single steps of kernel actions that sleep, or that another CPU can come between.

An allocation is one operation per attempt (``get_page_from_freelist()``), because between two attempts its task may
reclaim, wait, or let others run. What the allocator doesn't decide (which pages are on an LRU list, what compaction
isolates, when kswapd sleeps) arrives as operations too. Importing this module gives ``script.do_driven`` its body.
"""

from emu.cpu.alloc_flags import __gfp_pfmemalloc_flags, gfp_to_alloc_flags
from emu.cpu.cpuset import __cpuset_node_allowed
from emu.cpu.free import S_FREE_UNREF, free_unref_page_prepare
from emu.cpu.page_alloc import (
    alloc_context,
    alloc_flags_nofragment,
    current_alloc_flags,
    get_page_from_freelist,
    prepare_alloc_pages,
)  # fmt: skip
from emu.cpu.pageset import free_unref_page_commit
from emu.cpu.task import current_gfp_context
from emu.workload.script import ENDS, OP_DRIVEN, Op, do_driven, let_go
from emu.zone.alloc_context import NODEMASK_NONE, AllocContext
from emu.zone.event import trace_mm_page_alloc
from emu.zone.gfp import (
    __GFP_DIRECT_RECLAIM,
    __GFP_HARDWALL,
    __GFP_WRITE,
    ALLOC_CPUSET,
    ALLOC_HARDER,
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_WMARK_HIGH,
    ALLOC_WMARK_MASK,
)  # fmt: skip
from emu.zone.highatomic import unreserve_highatomic_pageblock
from emu.zone.irq import in_interrupt, local_irq_restore, local_irq_save, spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.isolation import __isolate_free_page, rotate_free_list
from emu.zone.kswapd_wake import wake_all_kswapds
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Zone, page_record, zone_at
from emu.zone.page import (
    NULL,
    PAGE_MAPPING_FLAGS,
    PAGE_MAPPING_MOVABLE,
    TAIL_MAPPING,
    PageTail,
    PG_buddy,
    PG_lru,
    clear_flag,
    page_zone,
    pfn_to_page,
    set_flag,
)  # fmt: skip
from emu.zone.sched import task_at
from emu.zone.vmstat import zone_page_state
from emu.zone.vmstat_items import NR_FREE_PAGES
from emu.zone.watermark import wmark_pages, zone_watermark_fast
from emu.zone.zonelist import next_zones_zonelist, nodemask_kind, zonelist_zone
from shm.core import core, implements
from shm.point import site

# the task: n = PF_* flags, nodemask = mems_allowed, order = in_interrupt, nid = rt, zid = OOM victim
OP_CONTEXT = OP_DRIVEN
# n = ATTEMPT_*, zid = recorded alloc_flags (-1: unknown), handle = zones (ids) recorded as too low
OP_ATTEMPT = OP_DRIVEN + 1
OP_WAKE = OP_DRIVEN + 2  # wake_all_kswapds() of an allocation's slow path
OP_UNRESERVE = OP_DRIVEN + 3  # zid = even the last block
OP_ISOLATE = OP_DRIVEN + 4
OP_ROTATE = OP_DRIVEN + 5
OP_LRU = OP_DRIVEN + 6  # n of the block's pages in use, from pfn to pfn + handle, are on an LRU list
OP_CUT_BOOST = OP_DRIVEN + 7  # kswapd takes n off the zone's boost
OP_KSWAPD = OP_DRIVEN + 8  # n = KSWAPD_*; handle = order of a request that kswapd has not seen, -1: none
OP_FREE_COMMIT = OP_DRIVEN + 9  # the second half of free_unref_page()
OP_FREE_PREPARE = OP_DRIVEN + 10  # the first half; n = the stamp that the page got + 1, 0: unknown

ATTEMPT_FAST = 0
ATTEMPT_START = 1  # after the restart label
ATTEMPT_RETRY = 2  # after the retry label, and later ones of that round
ATTEMPT_OOM = 3
ATTEMPT_NOFAIL = 4
ATTEMPT_SECOND_PASS = 5  # of a fast one: fragmentation no longer matters

KSWAPD_WAKES = 0
KSWAPD_SLEEPS = 1
KSWAPD_RECLAIMED = 2
KSWAPD_FAILED = 3

# what an attempt notes in ``pcp`` of its op; the first such verdict's zone, free pages and mark are in znid ... boost
FORCED_FAIL = 1
FORCED_PASS = 2
WRONG_FLAGS = 4
SKIPPED = 8
OTHER_MEMS = 16
OTHER_TYPE = 32
ENOUGH = 1 << 40  # shifts a watermark out of reach
S_ISOLATE = site("driven:isolate")
S_ROTATE = site("driven:rotate")
S_CUT_BOOST = site("driven:boost")


@core
def set_context(m: Machine, cpu: Cpu, op: Op) -> None:
    """OP_CONTEXT"""
    task = task_at(m, cpu.current)
    task.process_flags = op.n
    task.mems_allowed = op.nodemask
    task.rt = op.nid
    task.oom_victim = op.zid
    cpu.irq_nesting = op.order


@core
def slow_context(m: Machine, cpu: Cpu, op: Op, ac: AllocContext) -> None:
    """What the slow path makes of the context that the fast path leaves: its own flags and nodemask."""
    kind = op.n
    ac.alloc_mask = current_gfp_context(task_at(m, cpu.current), op.gfp & m.gfp_allowed_mask)
    ac.spread_dirty_pages = 0
    ac.nodemask_kind = nodemask_kind(op.nodemask)
    ac.alloc_flags = gfp_to_alloc_flags(m, cpu, ac.alloc_mask)
    if kind >= ATTEMPT_RETRY:
        reserve_flags = __gfp_pfmemalloc_flags(m, cpu, ac.alloc_mask)
        if reserve_flags != 0:
            ac.alloc_flags = current_alloc_flags(m, cpu, ac.alloc_mask, reserve_flags)
        if ac.alloc_flags & ALLOC_CPUSET == 0 or reserve_flags != 0:
            ac.nodemask_kind = NODEMASK_NONE
    ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
    if kind == ATTEMPT_OOM:
        ac.alloc_mask = (ac.alloc_mask | __GFP_HARDWALL) & ~__GFP_DIRECT_RECLAIM
        ac.alloc_flags = ALLOC_WMARK_HIGH | ALLOC_CPUSET
    elif kind == ATTEMPT_NOFAIL:
        ac.alloc_flags = ALLOC_HARDER | ALLOC_CPUSET


@core
def judge(m: Machine, cpu: Cpu, op: Op, ac: AllocContext, wanted: int) -> int:
    """Compare the watermark verdicts that an attempt is going to reach with the recorded ones.

    A verdict reads counters that other CPUs change, so the kernel's may come from another instant. That is noted in
    the operation, and the mark is moved for this attempt; returns what :func:`unforce` needs.
    """
    last = -1 if wanted == NULL else page_zone(m, page_record(m, pfn_to_page(m, wanted)))
    forced = 0
    dirty_limit = op.n == ATTEMPT_FAST and op.gfp & __GFP_WRITE != 0
    z = ac.preferred
    while zonelist_zone(m, ac, z) != 0:
        at = zonelist_zone(m, ac, z)
        zone = zone_at(m, at)
        skip = m.cpusets_enabled != 0 and ac.alloc_flags & ALLOC_CPUSET != 0
        if not skip or __cpuset_node_allowed(m, cpu, zone.node, ac.alloc_mask):
            mark = wmark_pages(zone, ac.alloc_flags & ALLOC_WMARK_MASK)
            ok = zone_watermark_fast(m, zone, op.order, mark, ac.highest_zoneidx, ac.alloc_flags, ac.alloc_mask)
            failed = op.handle >> zone.zone_id & 1 != 0
            if failed:
                op.highatomic = zone_page_state(zone, NR_FREE_PAGES)
            if (m.cpusets_enabled != 0 or dirty_limit) and not failed and at != last:
                # not looked at: mems_allowed changed, or the node has too many dirty pages. Or it had no page after
                # all: then refusing it is the same
                if ok:
                    op.pcp |= SKIPPED
                    if z == ac.preferred:
                        ac.preferred = next_zones_zonelist(m, cpu, ac, z + 1)
                    else:
                        forced |= 1 << zone.zone_id
                        zone.lowmem_reserve[ac.highest_zoneidx] += ENOUGH
            elif ok == failed:
                if op.pcp & (FORCED_FAIL | FORCED_PASS) == 0:
                    op.znid = zone.node
                    op.rzid = zone.zid
                    op.free = zone_page_state(zone, NR_FREE_PAGES)
                    op.boost = mark
                op.pcp |= FORCED_FAIL if failed else FORCED_PASS
                forced |= 1 << zone.zone_id
                zone.lowmem_reserve[ac.highest_zoneidx] += ENOUGH if failed else -ENOUGH
        if at == last:
            break
        z = next_zones_zonelist(m, cpu, ac, z + 1)
    return forced


@core(cold=True)
def unforce(m: Machine, forced: int, highest_zoneidx: int) -> None:
    """Marks back to where they were."""
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if forced >> zone.zone_id & 1 != 0:
                reserve = zone.lowmem_reserve[highest_zoneidx]
                zone.lowmem_reserve[highest_zoneidx] = reserve + (ENOUGH if reserve < 0 else -ENOUGH)


@core
def mems_of_another_instant(m: Machine, cpu: Cpu, op: Op, wanted: int) -> None:
    """``mems_allowed`` is read at every zoneref while a cpuset may change it.

    At some time it held the nodes of the page and of the zones that were looked at.
    """
    task = task_at(m, cpu.current)
    nodes = 0
    if wanted != NULL:
        nodes = 1 << zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, wanted)))).node
    for nid in range(m.nr_nodes):
        if op.handle >> nid * MAX_NR_ZONES & ((1 << MAX_NR_ZONES) - 1) != 0:
            nodes |= 1 << nid
    if nodes & ~task.mems_allowed != 0 and not in_interrupt(cpu):
        task.mems_allowed = task.mems_allowed | nodes
        op.pcp |= OTHER_MEMS


@core
def do_attempt(m: Machine, cpu: Cpu, op: Op, wanted: int) -> None:
    """OP_ATTEMPT"""
    ac = alloc_context()
    gfp = op.gfp & m.gfp_allowed_mask
    op.pcp = 0
    mems_allowed = task_at(m, cpu.current).mems_allowed
    if m.cpusets_enabled != 0:
        mems_of_another_instant(m, cpu, op, wanted)
    prepare_alloc_pages(m, cpu, gfp, op.order, op.nid, op.nodemask, ac)
    if op.n == ATTEMPT_FAST or op.n == ATTEMPT_SECOND_PASS:
        nofragment = alloc_flags_nofragment(m, zonelist_zone(m, ac, ac.preferred), gfp)
        ac.alloc_flags |= nofragment if op.n == ATTEMPT_FAST else nofragment & ~ALLOC_NOFRAGMENT
        ac.spread_dirty_pages = 0
    else:
        slow_context(m, cpu, op, ac)
    op.freediff = ac.alloc_flags
    if op.zid >= 0 and op.zid != ac.alloc_flags:
        op.pcp |= WRONG_FLAGS
    forced = 0
    if ac.alloc_flags & ALLOC_NO_WATERMARKS == 0:
        forced = judge(m, cpu, op, ac, wanted)
    op.pfn = get_page_from_freelist(m, cpu, ac.alloc_mask, op.order, ac.alloc_flags, ac)
    if op.pfn != wanted:
        op.done = ENDS  # the pages that the trace frees from here on are not those that were taken here
    if forced != 0:
        unforce(m, forced, ac.highest_zoneidx)
    task_at(m, cpu.current).mems_allowed = mems_allowed
    if op.pfn != NULL:
        trace_mm_page_alloc(m, cpu, op.pfn, op.order, ac.alloc_mask, ac.migratetype)


@core
def do_wake(m: Machine, cpu: Cpu, op: Op) -> None:
    """OP_WAKE, OP_UNRESERVE"""
    ac = alloc_context()
    prepare_alloc_pages(m, cpu, op.gfp & m.gfp_allowed_mask, op.order, op.nid, op.nodemask, ac)
    slow_context(m, cpu, op, ac)
    if op.code == OP_UNRESERVE:
        unreserve_highatomic_pageblock(m, cpu, ac, op.zid)
    elif gfp_to_alloc_flags(m, cpu, ac.alloc_mask) & ALLOC_KSWAPD != 0:
        wake_all_kswapds(m, cpu, op.order, ac.alloc_mask, ac)


@core
def isolate(m: Machine, cpu: Cpu, op: Op, pfn: int) -> None:
    """OP_ISOLATE, with what ``split_map_pages()`` does next: every page gets its own reference."""
    page = page_record(m, pfn_to_page(m, pfn))
    zone = zone_at(m, page_zone(m, page))
    flags = spin_lock_irqsave(cpu, zone.lock, S_ISOLATE)
    if page.page_flags & PG_buddy != 0 and page.private == op.order:
        op.pfn = __isolate_free_page(m, cpu, zone, pfn, op.order)
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)
    for at in range(pfn, pfn + op.pfn):
        page_record(m, pfn_to_page(m, at)).refcount = 1


@core
def rotate(m: Machine, cpu: Cpu, op: Op, pfn: int) -> None:
    """OP_ROTATE. The kernel's loops may end on the list head itself: then there is no such page."""
    op.pfn = 0
    if pfn < 0 or pfn >= m.max_pfn:
        return
    zone = zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn))))
    flags = spin_lock_irqsave(cpu, zone.lock, S_ROTATE)
    op.pfn = 1 if rotate_free_list(m, zone, pfn, op.n) else -1
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core
def mark_lru(m: Machine, op: Op, start: int) -> None:
    """OP_LRU: single pages first, then tails of compound pages; ``pfn`` returns how many are missing."""
    left = op.n
    for at in range(start, start + op.handle):
        page = page_record(m, pfn_to_page(m, at))
        if page.page_flags & PG_buddy != 0:
            continue
        clear_flag(page, PG_lru)
        if page.mapping & PAGE_MAPPING_FLAGS == PAGE_MAPPING_MOVABLE:
            page.mapping = 0
        if left > 0 and page.refcount > 0:
            set_flag(page, PG_lru)
            left -= 1
    for at in range(start, start + op.handle):
        page = page_record(m, pfn_to_page(m, at))
        if page.page_flags & PG_buddy != 0 or page.refcount > 0:
            continue
        if left > 0 and (page.mapping == TAIL_MAPPING or PageTail(page)):
            set_flag(page, PG_lru)
            left -= 1
    op.pfn = left


@core
def cut_boost(m: Machine, cpu: Cpu, op: Op, zone: Zone) -> None:
    """OP_CUT_BOOST: the end of ``balance_pgdat()``; ``boost`` returns what is left."""
    flags = spin_lock_irqsave(cpu, zone.lock, S_CUT_BOOST)
    zone.watermark_boost -= min(zone.watermark_boost, op.n)
    op.boost = zone.watermark_boost
    spin_unlock_irqrestore(m, cpu, zone.lock, flags)


@core
def kswapd(m: Machine, op: Op) -> None:
    """OP_KSWAPD: what kswapd itself does to its node's fields. ``free`` returns the order it found.

    Where that is more than the kernel's found, the larger request came after it had looked, and is still there.
    """
    node = m.nodes[op.nid]
    if op.n == KSWAPD_WAKES:
        op.free = node.kswapd_order
        if op.free <= op.order:
            node.kswapd_order = max(op.handle, 0)
            if op.handle < 0:
                node.kswapd_highest_zoneidx = MAX_NR_ZONES
        node.kswapd_wait.state = 0
    elif op.n == KSWAPD_SLEEPS:
        node.kswapd_wait.state = 1
    elif op.n == KSWAPD_RECLAIMED:
        node.kswapd_failures = 0
    else:
        node.kswapd_failures += 1


@core
def free_prepare(m: Machine, cpu: Cpu, op: Op, pfn: int) -> None:
    """OP_FREE_PREPARE. The pageblock's type is read without a lock: where the kernel is known to have read another
    one, the page gets that. ``free`` returns what was read here."""
    let_go(m, pfn, 0, 0)
    free_unref_page_prepare(m, cpu, pfn)
    page = page_record(m, pfn_to_page(m, pfn))
    op.free = page.index
    op.pcp = 0
    if op.n != 0 and page.index != op.n - 1:
        page.index = op.n - 1
        op.pcp = OTHER_TYPE


@core
def free_commit(m: Machine, cpu: Cpu, pfn: int) -> None:
    """OP_FREE_COMMIT"""
    flags = local_irq_save(cpu, S_FREE_UNREF)
    free_unref_page_commit(m, cpu, pfn)
    local_irq_restore(m, cpu, flags)


@implements(do_driven)
def do_driven_op(m: Machine, cpu: Cpu, op: Op, given: int) -> None:
    """Execute one operation of this module."""
    code = op.code
    if code == OP_ATTEMPT:
        do_attempt(m, cpu, op, given)
    elif code == OP_FREE_PREPARE:
        free_prepare(m, cpu, op, given)
    elif code == OP_FREE_COMMIT:
        free_commit(m, cpu, given)
    elif code == OP_CONTEXT:
        set_context(m, cpu, op)
    elif code in (OP_WAKE, OP_UNRESERVE):
        do_wake(m, cpu, op)
    elif code == OP_ISOLATE:
        isolate(m, cpu, op, given)
    elif code == OP_ROTATE:
        rotate(m, cpu, op, given)
    elif code == OP_LRU:
        mark_lru(m, op, given)
    elif code == OP_CUT_BOOST:
        cut_boost(m, cpu, op, m.nodes[op.nid].node_zones[op.zid])
    elif code == OP_KSWAPD:
        kswapd(m, op)
