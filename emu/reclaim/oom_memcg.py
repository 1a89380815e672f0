"""OOM of a memory cgroup (``mm/memcontrol.c:mem_cgroup_oom() (5.10)``).

Differs from 5.10: the kill cannot be left to user space (``memory.oom_control`` of v1), and no group is killed whole.
"""

from emu.cpu.workqueue import cond_resched
from emu.mm.memcontrol import mem_cgroup_margin, task_is_dying
from emu.mm.seams import OOM_FAILED, OOM_SKIPPED, OOM_SUCCESS, mem_cgroup_oom, mem_cgroup_out_of_memory
from emu.reclaim.oom_exit import exit_killed_tasks
from emu.reclaim.oom_kill import oom_control, out_of_memory
from emu.zone.gfp import PAGE_ALLOC_COSTLY_ORDER
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import fatal_signal_pending, task_at
from shm.atomic import cmpxchg, store_release
from shm.core import core, implements
from shm.point import point, site

S_OOM_LOCK = site("mem_cgroup_out_of_memory:mutex_lock_killable")


@core(cold=True)
def oom_lock_killable(m: Machine, cpu: Cpu) -> bool:
    """``mutex_lock_killable(&oom_lock)``; false for a killed task, or when the machine is being stopped."""
    vm = vm_at(m, m.vm)
    point(cpu.party, S_OOM_LOCK)
    while cmpxchg(vm, "oom_lock", 0, cpu.party.index + 1) != 0:
        if fatal_signal_pending(task_at(m, cpu.current)) or not cond_resched(m, cpu):
            return False
    return True


@implements(mem_cgroup_out_of_memory)
def memcg_out_of_memory(m: Machine, cpu: Cpu, memcg: int, gfp_mask: int, order: int) -> bool:
    """``mm/memcontrol.c:mem_cgroup_out_of_memory() (5.10)``: kill a task of the group, unless others made room."""
    if not oom_lock_killable(m, cpu):
        return True
    freed = True
    if mem_cgroup_margin(m.memcgs[memcg - 1]) < 1 << order and not task_is_dying(task_at(m, cpu.current)):
        oc = oom_control()
        oc.memcg = memcg
        oc.gfp_mask = gfp_mask
        oc.order = order
        freed = out_of_memory(m, cpu, oc)
    store_release(vm_at(m, m.vm), "oom_lock", 0)
    if freed:
        exit_killed_tasks(m, cpu)
    return freed


@implements(mem_cgroup_oom)
def memcg_oom(m: Machine, cpu: Cpu, memcg: int, gfp_mask: int, order: int) -> int:
    """``mm/memcontrol.c:mem_cgroup_oom() (5.10)``: OOM_*. Large requests kill nobody."""
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return OOM_SKIPPED
    return OOM_SUCCESS if mem_cgroup_out_of_memory(m, cpu, memcg, gfp_mask, order) else OOM_FAILED
