"""Whom to kill: the constraint of a failed allocation, and the badness of tasks (``mm/oom_kill.c`` (5.10)).

Differs from 5.10: a task is a process of one thread; tasks are looked at by number, not by age.
"""

from emu.cpu.mempolicy import mempolicy_nodemask_intersects
from emu.zone.gfp import __GFP_HARDWALL, __GFP_THISNODE, PF_KTHREAD, gfp_zone
from emu.zone.kswapd_wake import cpuset_zone_allowed
from emu.zone.mm_types import (
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, MMF_OOM_SKIP, Mm, mm_at, mm_record, vm_at,
)  # fmt: skip
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, zone_at, zonelist_at
from emu.zone.nodemask import online_mask
from emu.zone.sched import OOM_SCORE_ADJ_MIN, Task, task_at, user_task
from emu.zone.watermark import high_wmark_pages, zone_watermark_ok
from shm.atomic import load_acquire
from shm.core import core
from shm.struct import Struct, i32, i64, struct

CONSTRAINT_NONE = 0
CONSTRAINT_CPUSET = 1
CONSTRAINT_MEMORY_POLICY = 2
CONSTRAINT_MEMCG = 3
LONG_MIN = -(1 << 62)
LONG_MAX = 1 << 62
ABORTED = -1
SYSRQ_ORDER = -1


@struct
class OomControl(Struct):
    """``struct oom_control``"""

    zonelist: int = i64()  # offset; 0: none
    nodemask: int = i64()  # 0: none
    memcg: int = i32()  # index + 1; 0: not a memory cgroup's
    gfp_mask: int = i64()
    order: int = i32()  # -1: asked for by sysrq
    totalpages: int = i64()
    chosen: int = i64()  # offset of a task; 0: none, ABORTED: a victim is still on its way out
    chosen_points: int = i64()
    constraint: int = i32()  # CONSTRAINT_*


@core
def mm_of(m: Machine, mm_id: int) -> int:
    """Offset of a task's address space; it must have one."""
    return mm_at(m, vm_at(m, m.vm), mm_id)


@core
def get_mm_counter(mm: Mm, member: int) -> int:
    """``get_mm_counter()``: never below 0."""
    return max(load_acquire(mm.rss_stat[member], "counter"), 0)


@core
def get_mm_rss(mm: Mm) -> int:
    """``get_mm_rss()``"""
    return get_mm_counter(mm, MM_FILEPAGES) + get_mm_counter(mm, MM_ANONPAGES) + get_mm_counter(mm, MM_SHMEMPAGES)


@core
def oom_unkillable_task(task: Task) -> bool:
    """``mm/oom_kill.c:oom_unkillable_task() (5.10)``: init and kernel threads."""
    return task.tgid == 1 or task.process_flags & PF_KTHREAD != 0


@core
def oom_cpuset_eligible(m: Machine, cpu: Cpu, task: Task, oc: OomControl) -> bool:
    """``mm/oom_kill.c:oom_cpuset_eligible() (5.10)``: might killing it help this allocation?"""
    if oc.memcg != 0:
        return True
    if oc.nodemask != 0:
        return mempolicy_nodemask_intersects(task, oc.nodemask)
    return task_at(m, cpu.current).mems_allowed & task.mems_allowed != 0


@core
def oom_badness(m: Machine, task: Task, totalpages: int) -> int:
    """``mm/oom_kill.c:oom_badness() (5.10)``: rss, swap and page tables in pages, and ``oom_score_adj`` as thousandths
    of all pages; LONG_MIN for those that must not be killed."""
    mm_id = load_acquire(task, "mm")  # gone from one moment to the next, if it exits
    if oom_unkillable_task(task) or mm_id == 0:
        return LONG_MIN
    mm = mm_record(m, mm_of(m, mm_id))
    adj = task.oom_score_adj
    if adj == OOM_SCORE_ADJ_MIN or load_acquire(mm, "mm_flags") & MMF_OOM_SKIP != 0:
        return LONG_MIN
    points = get_mm_rss(mm) + get_mm_counter(mm, MM_SWAPENTS) + mm.nr_page_tables
    return points + adj * (totalpages // 1000)


@core
def mem_cgroup_get_max(m: Machine, memcg: int) -> int:
    """``mm/memcontrol.c:mem_cgroup_get_max() (5.10)``: memory and, unless it isn't used, swap."""
    most = m.memcgs[memcg - 1].memory_max
    if m.swappiness != 0:
        most += vm_at(m, m.vm).swap.pages
    return most


@core
def totalram_pages(m: Machine) -> int:
    """``totalram_pages()``"""
    pages = 0
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            pages += m.nodes[nid].node_zones[zid].managed_pages
    return pages


@core
def present_pages_of(m: Machine, nodes: int) -> int:
    """``node_present_pages()`` of all nodes of a mask."""
    pages = 0
    for nid in range(m.nr_nodes):
        if nodes >> nid & 1 != 0:
            pages += m.nodes[nid].node_present_pages
    return pages


@core
def is_cpuset_limited(m: Machine, cpu: Cpu, oc: OomControl) -> bool:
    """Whether the cpuset closes a zone that the request could otherwise use."""
    zonelist = zonelist_at(m, oc.zonelist)
    highest_zoneidx = gfp_zone(oc.gfp_mask)
    limited = False
    z = 0
    while zonelist.zonerefs[z].zone != 0:
        ref = zonelist.zonerefs[z]
        if ref.zone_idx <= highest_zoneidx and (oc.nodemask == 0 or oc.nodemask >> ref.node & 1 != 0):
            if not cpuset_zone_allowed(m, cpu, zone_at(m, ref.zone), oc.gfp_mask):
                limited = True
        z += 1
    return limited


@core(cold=True)
def memory_came_back(m: Machine, cpu: Cpu, oc: OomControl) -> bool:
    """R28b's remedy: the last look at the last moment, whether a zone that the request may use is above its high
    watermark."""
    if oc.memcg != 0 or oc.zonelist == 0:
        return False
    zonelist = zonelist_at(m, oc.zonelist)
    highest_zoneidx = gfp_zone(oc.gfp_mask)
    z = 0
    while zonelist.zonerefs[z].zone != 0:
        ref = zonelist.zonerefs[z]
        if ref.zone_idx <= highest_zoneidx and (oc.nodemask == 0 or oc.nodemask >> ref.node & 1 != 0):
            zone = zone_at(m, ref.zone)
            if cpuset_zone_allowed(m, cpu, zone, oc.gfp_mask | __GFP_HARDWALL):
                if zone_watermark_ok(m, zone, oc.order, high_wmark_pages(zone), highest_zoneidx, 0):
                    return True
        z += 1
    return False


@core
def constrained_alloc(m: Machine, cpu: Cpu, oc: OomControl) -> int:
    """``mm/oom_kill.c:constrained_alloc() (5.10)``: what kept the allocation in; also sets ``oc.totalpages``."""
    swap = vm_at(m, m.vm).swap.pages
    if oc.memcg != 0:
        oc.totalpages = max(mem_cgroup_get_max(m, oc.memcg), 1)
        return CONSTRAINT_MEMCG
    oc.totalpages = totalram_pages(m) + swap
    if oc.zonelist == 0 or oc.gfp_mask & __GFP_THISNODE != 0:
        return CONSTRAINT_NONE
    if oc.nodemask != 0 and online_mask(m) & ~oc.nodemask != 0:
        oc.totalpages = swap + present_pages_of(m, oc.nodemask)
        return CONSTRAINT_MEMORY_POLICY
    if is_cpuset_limited(m, cpu, oc):
        oc.totalpages = swap + present_pages_of(m, task_at(m, cpu.current).mems_allowed)
        return CONSTRAINT_CPUSET
    return CONSTRAINT_NONE


@core
def oom_evaluate_task(m: Machine, cpu: Cpu, at: int, oc: OomControl) -> bool:
    """``mm/oom_kill.c:oom_evaluate_task() (5.10)``: the worst so far is kept; true ends the search.

    A victim whose memory is still to come ends it: one kill at a time.
    """
    task = task_at(m, at)
    if oom_unkillable_task(task) or not oom_cpuset_eligible(m, cpu, task, oc):
        return False
    if oc.order != SYSRQ_ORDER and task.oom_mm != 0:
        oom_mm = mm_record(m, mm_at(m, vm_at(m, m.vm), task.oom_mm))
        if load_acquire(oom_mm, "mm_flags") & MMF_OOM_SKIP != 0:
            return False
        oc.chosen = ABORTED
        return True
    points = LONG_MAX
    if task.oom_flag_origin == 0:
        points = oom_badness(m, task, oc.totalpages)
        if points == LONG_MIN or points < oc.chosen_points:
            return False
    oc.chosen = at
    oc.chosen_points = points
    return False


@core
def is_candidate(task: Task, oc: OomControl) -> bool:
    """Whether the search comes by a task: all that live, or those of the memory cgroup."""
    return load_acquire(task, "alive") != 0 and (oc.memcg == 0 or task.memcg == oc.memcg)


@core
def select_bad_process(m: Machine, cpu: Cpu, oc: OomControl) -> None:
    """``mm/oom_kill.c:select_bad_process() (5.10)``: leaves it in ``oc.chosen``; of equals the last one."""
    oc.chosen_points = LONG_MIN
    for k in range(vm_at(m, m.vm).nr_mms):
        at = user_task(m, k)
        if is_candidate(task_at(m, at), oc) and oom_evaluate_task(m, cpu, at, oc):
            return
