"""Memory policies of tasks (``mm/mempolicy.c`` (5.10)).

Differs from 5.10: tasks have policies, parts of an address space have not.
"""

from emu.zone.event import WARN_BIND_THISNODE, warn_on_once
from emu.zone.gfp import __GFP_THISNODE, gfp_zone
from emu.zone.mmzone import MAX_NUMNODES, ZONE_MOVABLE, Cpu, Machine
from emu.zone.nodemask import (
    first_node, movable_only_nodes, node_remap, nodes_fold, nodes_onto, nodes_remap, nodes_weight, online_mask,
)  # fmt: skip
from emu.zone.sched import Mempolicy, Task, task_at
from emu.zone.zonelist import cpuset_nodemask_valid_mems_allowed
from shm.core import core
from shm.seqcount import write_seqcount_begin, write_seqcount_end
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

MPOL_DEFAULT = 0
MPOL_PREFERRED = 1
MPOL_BIND = 2
MPOL_INTERLEAVE = 3
MPOL_LOCAL = 4
MPOL_F_LOCAL = 2
MPOL_F_RELATIVE_NODES = 1 << 14
MPOL_F_STATIC_NODES = 1 << 15
MPOL_MODE_FLAGS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES
EINVAL = 22
S_SET = site("do_set_mempolicy:task_lock")


@core(cold=True)
def apply_policy_zone(m: Machine, nodes: int, zone: int) -> bool:
    """``mm/mempolicy.c:apply_policy_zone() (5.10)``: the policy is for the highest zones; nodes with movable memory
    only can bind nothing else."""
    return zone >= (ZONE_MOVABLE if movable_only_nodes(m, nodes) else m.policy_zone)


@core(cold=True)
def policy_nodemask(m: Machine, cpu: Cpu, gfp: int) -> int:
    """``mm/mempolicy.c:policy_nodemask() (5.10)``: the bind mask, unless the request wants lower zones; 0: none."""
    task = task_at(m, cpu.current)
    pol = task.mempolicy
    if task.has_policy == 0 or pol.mode != MPOL_BIND:
        return 0
    nodes = pol.nodes
    if not apply_policy_zone(m, nodes, gfp_zone(gfp)) or not cpuset_nodemask_valid_mems_allowed(m, cpu, nodes):
        return 0
    return nodes


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
def mempolicy_nodemask_intersects(task: Task, mask: int) -> bool:
    """``mm/mempolicy.c:mempolicy_nodemask_intersects() (5.10)``: may the task have memory on these nodes?

    A preferred node is only that: the task's memory may be anywhere. ``mask`` 0: no mask.
    """
    if mask == 0 or task.has_policy == 0 or task.mempolicy.mode == MPOL_PREFERRED:
        return True
    return task.mempolicy.nodes & mask != 0


@core(cold=True)
def mpol_relative_nodemask(orig: int, rel: int) -> int:
    """``mm/mempolicy.c:mpol_relative_nodemask() (5.10)``: bit n stands for the n-th allowed node, going round."""
    return nodes_onto(nodes_fold(orig, nodes_weight(rel)), rel)


@core(cold=True)
def mpol_rebind_nodemask(pol: Mempolicy, nodes: int) -> None:
    """``mm/mempolicy.c:mpol_rebind_nodemask() (5.10)``, of bind and interleave."""
    if pol.policy_flags & MPOL_F_STATIC_NODES != 0:
        tmp = pol.user_nodemask & nodes
    elif pol.policy_flags & MPOL_F_RELATIVE_NODES != 0:
        tmp = mpol_relative_nodemask(pol.user_nodemask, nodes)
    else:
        tmp = nodes_remap(pol.nodes, pol.cpuset_mems_allowed, nodes)
        pol.cpuset_mems_allowed = nodes
    if tmp == 0:
        tmp = nodes
    pol.nodes = tmp


@core(cold=True)
def mpol_rebind_preferred(pol: Mempolicy, nodes: int) -> None:
    """``mm/mempolicy.c:mpol_rebind_preferred() (5.10)``"""
    if pol.policy_flags & MPOL_F_STATIC_NODES != 0:
        node = first_node(pol.user_nodemask)
        if nodes >> node & 1 != 0:
            pol.preferred_node = node
            pol.policy_flags = pol.policy_flags & ~MPOL_F_LOCAL
        else:
            pol.policy_flags = pol.policy_flags | MPOL_F_LOCAL
    elif pol.policy_flags & MPOL_F_RELATIVE_NODES != 0:
        pol.preferred_node = first_node(mpol_relative_nodemask(pol.user_nodemask, nodes))
    elif pol.policy_flags & MPOL_F_LOCAL == 0:
        pol.preferred_node = node_remap(pol.preferred_node, pol.cpuset_mems_allowed, nodes)
        pol.cpuset_mems_allowed = nodes


@core(cold=True)
def mpol_rebind_task(task: Task, nodes: int) -> None:
    """``mm/mempolicy.c:mpol_rebind_task() (5.10)``: the policy moves along with the task's cpuset."""
    pol = task.mempolicy
    if task.has_policy == 0:
        return
    moves = pol.policy_flags & (MPOL_MODE_FLAGS | MPOL_F_LOCAL) == 0
    if moves and pol.cpuset_mems_allowed == nodes:
        return
    if pol.mode == MPOL_PREFERRED:
        mpol_rebind_preferred(pol, nodes)
    else:
        mpol_rebind_nodemask(pol, nodes)


@core(cold=True)
def mpol_check(mode: int, flags: int, nodes: int) -> int:
    """The checks of ``kernel_set_mempolicy()`` and ``mpol_new()``: 0 or -EINVAL."""
    if mode < 0 or mode > MPOL_LOCAL or flags == MPOL_MODE_FLAGS:
        return -EINVAL
    if mode == MPOL_DEFAULT:
        return -EINVAL if nodes != 0 else 0
    if mode == MPOL_PREFERRED:
        return -EINVAL if nodes == 0 and flags != 0 else 0
    if mode == MPOL_LOCAL:
        return -EINVAL if nodes != 0 or flags != 0 else 0
    return -EINVAL if nodes == 0 else 0


@core(cold=True)
def mpol_allowed_nodes(m: Machine, task: Task, flags: int, nodes: int) -> int:
    """``mpol_set_nodemask()``: what the given nodes mean within the task's cpuset."""
    mask = task.mems_allowed & online_mask(m)
    if flags & MPOL_F_RELATIVE_NODES != 0:
        return mpol_relative_nodemask(nodes, mask)
    return nodes & mask


@core(cold=True)
def set_mempolicy_of(m: Machine, cpu: Cpu, task: Task, mode: int, nodes: int) -> int:
    """``mm/mempolicy.c:do_set_mempolicy() (5.10)`` for any task: 0 or -EINVAL. ``mode`` includes MPOL_F_*_NODES.

    Differs from 5.10: a task may get its policy from others, so the new one appears under the task's mems_allowed
    sequence, and an allocation that looked meanwhile begins again.
    """
    flags = mode & MPOL_MODE_FLAGS
    mode = mode & ~MPOL_MODE_FLAGS
    if mpol_check(mode, flags, nodes) != 0:
        return -EINVAL
    allowed = mpol_allowed_nodes(m, task, flags, nodes)
    if nodes != 0 and allowed == 0:
        return -EINVAL
    if mode == MPOL_LOCAL:
        mode = MPOL_PREFERRED
    if mode == MPOL_PREFERRED and nodes == 0:
        flags |= MPOL_F_LOCAL
    spin_lock(cpu.party, task.alloc_lock, S_SET)
    write_seqcount_begin(task.mems_allowed_seq)
    if mode != MPOL_DEFAULT:
        pol = task.mempolicy
        pol.mode = mode
        pol.policy_flags = flags
        pol.preferred_node = first_node(allowed) if allowed != 0 else 0
        pol.nodes = allowed
        pol.user_nodemask = nodes
        pol.cpuset_mems_allowed = task.mems_allowed
        if mode == MPOL_INTERLEAVE:
            task.il_prev = MAX_NUMNODES - 1
    task.has_policy = 1 if mode != MPOL_DEFAULT else 0
    write_seqcount_end(task.mems_allowed_seq)
    spin_unlock(cpu.party, task.alloc_lock)
    return 0


@core(cold=True)
def do_set_mempolicy(m: Machine, cpu: Cpu, mode: int, nodes: int) -> int:
    """``mm/mempolicy.c:do_set_mempolicy() (5.10)`` for the running task."""
    return set_mempolicy_of(m, cpu, task_at(m, cpu.current), mode, nodes)
