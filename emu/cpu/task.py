"""The current task: NOIO and NOFS scopes, memory cgroup (``include/linux/sched/mm.h``, ``mm/memcontrol.c`` (5.10))."""

from emu.zone.gfp import __GFP_FS, __GFP_IO, PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.sched import Task, task_at
from emu.zone.page import PG_kmemcg, clear_flag, pfn_to_page, set_flag
from shm.atomic import fetch_add
from shm.core import core


@core(inline=True)
def current_gfp_context(task: Task, flags: int) -> int:
    """``include/linux/sched/mm.h:current_gfp_context() (5.10)``: the task's NOIO and NOFS scopes."""
    if task.process_flags & (PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS) != 0:
        if task.process_flags & PF_MEMALLOC_NOIO != 0:
            flags &= ~(__GFP_IO | __GFP_FS)
        else:
            flags &= ~__GFP_FS
    return flags


@core(cold=True)
def __memcg_kmem_charge_page(m: Machine, cpu: Cpu, pfn: int, order: int) -> bool:
    """``mm/memcontrol.c:__memcg_kmem_charge_page() (5.10)``: false when the group is over its limit."""
    which = task_at(m, cpu.current).memcg
    if which == 0:
        return True
    group = m.memcgs[which - 1]
    pages = 1 << order
    if fetch_add(group, "kmem", pages) + pages > group.limit and group.limit != 0:
        fetch_add(group, "kmem", -pages)
        fetch_add(group, "failcnt", 1)
        return False
    page = page_record(m, pfn_to_page(m, pfn))
    page.private = which
    set_flag(page, PG_kmemcg)
    return True


@core(cold=True)
def __memcg_kmem_uncharge_page(m: Machine, pfn: int, order: int) -> None:
    """``mm/memcontrol.c:__memcg_kmem_uncharge_page() (5.10)``"""
    page = page_record(m, pfn_to_page(m, pfn))
    fetch_add(m.memcgs[page.private - 1], "kmem", -(1 << order))
    clear_flag(page, PG_kmemcg)
