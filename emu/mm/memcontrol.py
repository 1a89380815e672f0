"""Memory cgroups: what a group's pages on the LRU lists may take (``mm/memcontrol.c``, ``mm/page_counter.c`` (5.10)).

A page carries its group in ``page.private`` from its charge until it is freed. A group is named by its index + 1, the
root by 0; the root is not charged. Kernel memory (``Memcg.kmem``) is charged by the page allocator itself.

Differs from 5.10: groups have no children and no soft limits, and swap isn't limited (``memory.swap.max``). CPUs keep
no stock of charges, so the counter is what pages have; and nobody throttles a group beyond ``memory.high`` but its own
tasks, in :func:`mem_cgroup_handle_over_high`.
"""

from emu.cpu.wait import schedule_timeout_killable
from emu.mm.seams import OOM_SUCCESS, mem_cgroup_oom, mem_cgroup_out_of_memory, try_to_free_mem_cgroup_pages
from emu.mm.swapfile import lookup_swap_cgroup_id
from emu.zone.gfp import (
    __GFP_ATOMIC, __GFP_DIRECT_RECLAIM, __GFP_NOFAIL, __GFP_NORETRY, __GFP_RETRY_MAYFAIL, GFP_KERNEL,
    PAGE_ALLOC_COSTLY_ORDER, PF_EXITING, PF_MEMALLOC,
)  # fmt: skip
from emu.zone.irq import in_interrupt
from emu.zone.lru import page_memcg
from emu.zone.mm_types import PRIVATE_MEMCG_SHIFT, PRIVATE_SWAP_MASK
from emu.zone.memcg_types import MAX_MEMCGS, Memcg
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PG_head, PG_kmemcg, PG_swapbacked, PG_swapcache, compound_order, page_to_pfn, pfn_to_page
from emu.zone.sched import Task, task_at
from emu.zone.time import HZ, NS_PER_JIFFY
from shm.atomic import fetch_add, load_acquire, xchg
from shm.core import core, entry
from shm.point import point, site

MAX_RECLAIM_RETRIES = 16
MEMCG_CHARGE_BATCH = 32
SWAP_CLUSTER_MAX = 32
MEMCG_DELAY_PRECISION_SHIFT = 20
MEMCG_DELAY_SCALING_SHIFT = 14
MEMCG_MAX_HIGH_DELAY_JIFFIES = 2 * HZ
ENOMEM = 12
EINVAL = 22
EBUSY = 16
FORCE = 1  # what failed_charge() says
RETRY = 2
# what set_memcg_limit() sets
MEMCG_MAX = 0  # memory.max
MEMCG_HIGH = 1  # memory.high
MEMCG_KMEM = 2  # memory.kmem.limit_in_bytes
S_CHARGE = site("try_charge:page_counter_try_charge")
S_UNCHARGE = site("mem_cgroup_uncharge:page_counter_uncharge")
S_SET_MAX = site("memory_max_write:xchg")


@core
def page_counter_try_charge(group: Memcg, nr_pages: int) -> bool:
    """``mm/page_counter.c:page_counter_try_charge() (5.10)``: charge first, take it back if that was too much."""
    new = fetch_add(group, "memory", nr_pages) + nr_pages
    limit = load_acquire(group, "memory_max")
    if limit != 0 and new > limit:
        fetch_add(group, "memory", -nr_pages)
        group.memory_failcnt += 1
        return False
    return True


@core
def mem_cgroup_margin(group: Memcg) -> int:
    """``mm/memcontrol.c:mem_cgroup_margin() (5.10)``: pages that can be charged now."""
    limit = load_acquire(group, "memory_max")
    if limit == 0:
        return 1 << 40
    return max(limit - load_acquire(group, "memory"), 0)


@core(inline=True)
def task_is_dying(task: Task) -> bool:
    """``task_is_dying()``"""
    return task.oom_victim != 0 or load_acquire(task, "fatal_signal") != 0 or task.process_flags & PF_EXITING != 0


@core
def oom_charge(m: Machine, cpu: Cpu, memcg: int, gfp: int, order: int, passed_oom: int) -> int:
    """The end of ``try_charge()``'s patience: RETRY after a kill, FORCE for ``__GFP_NOFAIL``, or -ENOMEM."""
    if gfp & __GFP_RETRY_MAYFAIL != 0:
        return FORCE if gfp & __GFP_NOFAIL != 0 else -ENOMEM
    if gfp & __GFP_NOFAIL != 0:
        return FORCE
    if passed_oom != 0 and task_is_dying(task_at(m, cpu.current)):
        return -ENOMEM
    return RETRY if mem_cgroup_oom(m, cpu, memcg, gfp, order) == OOM_SUCCESS else -ENOMEM


@core
def may_reclaim_charge(m: Machine, cpu: Cpu, gfp: int) -> int:
    """Whether ``try_charge()`` may reclaim (RETRY), charges beyond the limit (FORCE), or fails."""
    task = task_at(m, cpu.current)
    if gfp & __GFP_ATOMIC != 0 or task.process_flags & PF_MEMALLOC != 0:
        return FORCE
    if gfp & __GFP_DIRECT_RECLAIM == 0:
        return FORCE if gfp & __GFP_NOFAIL != 0 else -ENOMEM
    return RETRY


@core(cold=True)
def charge_slowly(m: Machine, cpu: Cpu, memcg: int, gfp: int, order: int) -> int:
    """``try_charge()`` from its first failure on: 0, FORCE or -ENOMEM. Reclaims from the group MAX_RECLAIM_RETRIES
    times and more while that has success, then asks its OOM killer."""
    group = m.memcgs[memcg - 1]
    nr_pages = 1 << order
    nr_retries = MAX_RECLAIM_RETRIES
    passed_oom = 0
    drained = 0
    verdict = may_reclaim_charge(m, cpu, gfp)
    while verdict == RETRY and load_acquire(m, "stop") == 0:
        reclaimed = try_to_free_mem_cgroup_pages(m, cpu, memcg, nr_pages, gfp, 1)
        if mem_cgroup_margin(group) < nr_pages and drained != 0:
            if gfp & __GFP_NORETRY != 0:
                return FORCE if gfp & __GFP_NOFAIL != 0 else -ENOMEM
            if reclaimed == 0 or order > PAGE_ALLOC_COSTLY_ORDER:
                nr_retries -= 1
                if nr_retries < 0:
                    verdict = oom_charge(m, cpu, memcg, gfp, order, passed_oom)
                    passed_oom = 1
                    nr_retries = MAX_RECLAIM_RETRIES
        elif mem_cgroup_margin(group) < nr_pages:
            drained = 1  # drain_all_stock(): there are no stocks, but one more try
        if verdict == RETRY:
            point(cpu.party, S_CHARGE)
            if page_counter_try_charge(group, nr_pages):
                return 0
            verdict = may_reclaim_charge(m, cpu, gfp)
    return verdict if verdict != RETRY else -ENOMEM


@core
def try_charge(m: Machine, cpu: Cpu, memcg: int, gfp: int, order: int) -> int:
    """``mm/memcontrol.c:try_charge() (5.10)``: 0 or -ENOMEM."""
    group = m.memcgs[memcg - 1]
    nr_pages = 1 << order
    point(cpu.party, S_CHARGE)
    if not page_counter_try_charge(group, nr_pages):
        slow = charge_slowly(m, cpu, memcg, gfp, order)
        if slow < 0:
            return slow
        if slow == FORCE:
            fetch_add(group, "memory", nr_pages)
            return 0
    high = load_acquire(group, "memory_high")
    if high != 0 and load_acquire(group, "memory") > high and not in_interrupt(cpu):
        task_at(m, cpu.current).memcg_nr_pages_over_high += nr_pages
    return 0


@core(inline=True)
def commit_charge(page: Page, memcg: int) -> None:
    """``commit_charge()``: the page says who pays; its swap bits stay."""
    page.private = page.private & PRIVATE_SWAP_MASK | memcg << PRIVATE_MEMCG_SHIFT


@core
def mem_cgroup_charge(m: Machine, cpu: Cpu, pfn: int, memcg: int, gfp: int) -> int:
    """``mm/memcontrol.c:mem_cgroup_charge() (5.10)``: 0 or -ENOMEM. A page that is read back from swap is charged to
    the group that swapped it out."""
    page = page_record(m, pfn_to_page(m, pfn))
    if page.page_flags & (PG_swapcache | PG_swapbacked) == PG_swapcache | PG_swapbacked:
        if page_memcg(page) != 0:
            return 0
        owner = lookup_swap_cgroup_id(m, page.private & PRIVATE_SWAP_MASK)
        if owner != 0:
            memcg = owner
    if memcg == 0:
        return 0
    err = try_charge(m, cpu, memcg, gfp, compound_order(m, pfn))
    if err == 0:
        commit_charge(page, memcg)
    return err


@core(cold=True)
def uncharge_page(m: Machine, cpu: Cpu, page: Page) -> None:
    """:func:`mem_cgroup_uncharge` of a page that was charged."""
    nr_pages = 1
    if page.page_flags & PG_head != 0:
        nr_pages = 1 << compound_order(m, page_to_pfn(m, page))
    point(cpu.party, S_UNCHARGE)
    fetch_add(m.memcgs[page_memcg(page) - 1], "memory", -nr_pages)
    page.private = page.private & PRIVATE_SWAP_MASK


@core(inline=True)
def mem_cgroup_uncharge(m: Machine, cpu: Cpu, page: Page) -> None:
    """``mm/memcontrol.c:mem_cgroup_uncharge() (5.10)``: of a page that is being freed."""
    if page_memcg(page) > 0 and page.page_flags & PG_kmemcg == 0:
        uncharge_page(m, cpu, page)


# --- memory.high ------------------------------------------------------------------------------------------------------


@core
def calculate_high_delay(group: Memcg, nr_pages: int) -> int:
    """``mm/memcontrol.c:calculate_overage() (5.10)`` and ``calculate_high_delay()``: jiffies that a task owes for
    ``nr_pages`` charged beyond ``memory.high``; it grows with the square of the overage."""
    usage = load_acquire(group, "memory")
    high = load_acquire(group, "memory_high")
    if high == 0 or usage <= high:
        return 0
    overage = ((usage - high) << MEMCG_DELAY_PRECISION_SHIFT) // max(high, 1)
    # beyond this the product no longer fits, and the delay is the longest anyway
    overage = min(overage, 1 << 27)
    penalty = overage * overage * HZ
    penalty = penalty >> MEMCG_DELAY_PRECISION_SHIFT >> MEMCG_DELAY_SCALING_SHIFT
    return penalty * nr_pages // MEMCG_CHARGE_BATCH


@core
def mem_cgroup_handle_over_high(m: Machine, cpu: Cpu) -> None:
    """``mm/memcontrol.c:mem_cgroup_handle_over_high() (5.10)``: on its way back to user space a task that charged
    beyond ``memory.high`` reclaims as much, and sleeps if that doesn't help."""
    task = task_at(m, cpu.current)
    nr_pages = task.memcg_nr_pages_over_high
    if nr_pages == 0 or task.memcg == 0:
        return
    task.memcg_nr_pages_over_high = 0
    group = m.memcgs[task.memcg - 1]
    nr_retries = MAX_RECLAIM_RETRIES
    want = nr_pages
    while load_acquire(m, "stop") == 0:
        reclaimed = 0
        if load_acquire(group, "memory") > load_acquire(group, "memory_high"):
            reclaimed = try_to_free_mem_cgroup_pages(m, cpu, task.memcg, want, GFP_KERNEL, 1)
        penalty = min(calculate_high_delay(group, nr_pages), MEMCG_MAX_HIGH_DELAY_JIFFIES)
        if penalty <= HZ // 100:
            return
        if reclaimed == 0:
            nr_retries -= 1
            if nr_retries < 0:
                schedule_timeout_killable(m, cpu, penalty * NS_PER_JIFFY)
                return
        want = SWAP_CLUSTER_MAX


# --- setting limits ---------------------------------------------------------------------------------------------------


@core
def memory_max_write(m: Machine, cpu: Cpu, memcg: int, limit: int) -> None:
    """``mm/memcontrol.c:memory_max_write() (5.10)``: the limit holds at once; what the group has beyond it is
    reclaimed, and when that fails its tasks are killed."""
    group = m.memcgs[memcg - 1]
    point(cpu.party, S_SET_MAX)
    xchg(group, "memory_max", limit)
    nr_reclaims = MAX_RECLAIM_RETRIES
    while limit != 0 and load_acquire(m, "stop") == 0:
        over = load_acquire(group, "memory") - limit
        if over <= 0 or load_acquire(task_at(m, cpu.current), "fatal_signal") != 0:
            return
        if nr_reclaims > 0:
            if try_to_free_mem_cgroup_pages(m, cpu, memcg, over, GFP_KERNEL, 1) == 0:
                nr_reclaims -= 1
        elif not mem_cgroup_out_of_memory(m, cpu, memcg, GFP_KERNEL, 0):
            return


@core
def memory_high_write(m: Machine, cpu: Cpu, memcg: int, high: int) -> None:
    """``mm/memcontrol.c:memory_high_write() (5.10)``: reclaims what is beyond it, as far as that goes."""
    group = m.memcgs[memcg - 1]
    xchg(group, "memory_high", high)
    nr_retries = MAX_RECLAIM_RETRIES
    while high != 0 and load_acquire(m, "stop") == 0:
        over = load_acquire(group, "memory") - high
        if over <= 0 or load_acquire(task_at(m, cpu.current), "fatal_signal") != 0:
            return
        if try_to_free_mem_cgroup_pages(m, cpu, memcg, over, GFP_KERNEL, 1) == 0:
            nr_retries -= 1
            if nr_retries < 0:
                return


@entry
def set_memcg_limit(m: Machine, cpu: Cpu, memcg: int, what: int, pages: int) -> int:
    """Write a group's ``memory.max``, ``memory.high`` or ``memory.kmem.limit_in_bytes`` (MEMCG_*), in pages; 0: none.

    -EINVAL for what is no group, no limit or no size; -EBUSY when a limit of kernel memory is below its use: kernel
    memory isn't reclaimed (``page_counter_set_max()``).
    """
    if memcg < 1 or memcg > MAX_MEMCGS or pages < 0:
        return -EINVAL
    if what == MEMCG_MAX:
        memory_max_write(m, cpu, memcg, pages)
    elif what == MEMCG_HIGH:
        memory_high_write(m, cpu, memcg, pages)
    elif what == MEMCG_KMEM:
        group = m.memcgs[memcg - 1]
        if pages != 0 and load_acquire(group, "kmem") > pages:
            return -EBUSY
        xchg(group, "limit", pages)
    else:
        return -EINVAL
    return 0
