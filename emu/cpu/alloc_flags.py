"""How far below the watermarks a request may go that the fast path failed: ALLOC_* of its flags and context."""

from emu.cpu.page_alloc import current_alloc_flags
from emu.zone.gfp import (
    __GFP_ATOMIC, __GFP_HIGH, __GFP_KSWAPD_RECLAIM, __GFP_MEMALLOC, __GFP_NOMEMALLOC, ALLOC_CPUSET, ALLOC_HARDER,
    ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_WMARK_MIN, PF_MEMALLOC,
)  # fmt: skip
from emu.zone.irq import in_interrupt
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import task_at, tsk_is_oom_victim
from shm.core import core


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
        if tsk_is_oom_victim(task):
            return ALLOC_OOM
    return 0
