"""The current task: cpuset, memory policy, memory cgroup (``mm/mempolicy.c``, ``kernel/cgroup/cpuset.c`` (5.10))."""

from emu.zone.event import WARN_BIND_THISNODE, warn_on_once
from emu.zone.gfp import (
    __GFP_FS, __GFP_HARDWALL, __GFP_IO, __GFP_THISNODE, PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO, gfp_zone,
)  # fmt: skip
from emu.zone.irq import in_interrupt
from emu.zone.kswapd_wake import cpuset_zone_allowed
from emu.zone.mmzone import MAX_NUMNODES, Cpu, Machine, Zone, page_record
from emu.zone.sched import Task, task_at
from emu.zone.page import PG_kmemcg, clear_flag, pfn_to_page, set_flag
from emu.zone.zonelist import cpuset_nodemask_valid_mems_allowed
from shm.atomic import fetch_add
from shm.core import core, implements

MPOL_DEFAULT = 0
MPOL_PREFERRED = 1
MPOL_BIND = 2
MPOL_INTERLEAVE = 3
MPOL_LOCAL = 4
MPOL_F_LOCAL = 2
EINVAL = 22


@core
def online_mask(m: Machine) -> int:
    """Nodes with memory: ``node_states[N_MEMORY]``."""
    mask = 0
    for nid in range(m.nr_nodes):
        if m.nodes[nid].node_present_pages != 0:
            mask |= 1 << nid
    return mask


@core(cold=True)
def __cpuset_node_allowed(m: Machine, cpu: Cpu, nid: int, gfp_mask: int) -> bool:
    """``kernel/cgroup/cpuset.c:__cpuset_node_allowed() (5.10)``: hardwalled requests stay in mems_allowed.

    Differs from 5.10: there is one cpuset level, so a request without ``__GFP_HARDWALL`` finds the root cpuset as its
    nearest hardwall ancestor, which allows every node.
    """
    task = task_at(m, cpu.current)
    if in_interrupt(cpu) or task.mems_allowed >> nid & 1 != 0 or task.oom_victim != 0:
        return True
    return gfp_mask & __GFP_HARDWALL == 0


@implements(cpuset_zone_allowed)
def __cpuset_zone_allowed(m: Machine, cpu: Cpu, zone: Zone, gfp: int) -> bool:
    """``cpuset_zone_allowed()``: always, until the first cpuset exists."""
    if m.cpusets_enabled == 0:
        return True
    return __cpuset_node_allowed(m, cpu, zone.node, gfp)


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
def policy_nodemask(m: Machine, cpu: Cpu, gfp: int) -> int:
    """``mm/mempolicy.c:policy_nodemask() (5.10)``: the bind mask, unless the request wants lower zones; 0: none."""
    task = task_at(m, cpu.current)
    pol = task.mempolicy
    if task.has_policy == 0 or pol.mode != MPOL_BIND or gfp_zone(gfp) < m.policy_zone:
        return 0
    if not cpuset_nodemask_valid_mems_allowed(m, cpu, pol.nodes):
        return 0
    return pol.nodes


@core(cold=True)
def policy_node(m: Machine, cpu: Cpu, gfp: int, order: int) -> int:
    """``mm/mempolicy.c:policy_node() (5.10)``"""
    task = task_at(m, cpu.current)
    pol = task.mempolicy
    if task.has_policy != 0:
        if pol.mode == MPOL_PREFERRED and pol.policy_flags & MPOL_F_LOCAL == 0:
            return pol.preferred_node
        if pol.mode == MPOL_BIND and gfp & __GFP_THISNODE != 0:
            warn_on_once(m, cpu, WARN_BIND_THISNODE, gfp, order)
    return cpu.node


@core(cold=True)
def interleave_nodes(task: Task) -> int:
    """``mm/mempolicy.c:interleave_nodes() (5.10)``: the next node of the policy after the last one used."""
    nid = task.il_prev
    for _ in range(MAX_NUMNODES):
        nid = (nid + 1) % MAX_NUMNODES
        if task.mempolicy.nodes >> nid & 1 != 0:
            task.il_prev = nid
            return nid
    return 0


@core(cold=True)
def do_set_mempolicy(m: Machine, cpu: Cpu, mode: int, nodes: int) -> int:
    """``mm/mempolicy.c:do_set_mempolicy() (5.10)`` without mode flags: 0 or -EINVAL."""
    task = task_at(m, cpu.current)
    if mode == MPOL_DEFAULT:
        if nodes != 0:
            return -EINVAL
        task.has_policy = 0
        return 0
    local = 0
    if mode == MPOL_LOCAL:
        if nodes != 0:
            return -EINVAL
        mode = MPOL_PREFERRED
    elif mode < 0 or mode > MPOL_LOCAL or (nodes == 0 and mode != MPOL_PREFERRED):
        return -EINVAL
    allowed = nodes & task.mems_allowed & online_mask(m)
    if nodes == 0:
        local = MPOL_F_LOCAL
    elif allowed == 0:
        return -EINVAL
    first = 0
    while local == 0 and allowed >> first & 1 == 0:
        first += 1
    task.mempolicy.mode = mode
    task.mempolicy.policy_flags = local
    task.mempolicy.preferred_node = first
    task.mempolicy.nodes = allowed
    task.has_policy = 1
    if mode == MPOL_INTERLEAVE:
        task.il_prev = MAX_NUMNODES - 1
    return 0


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
