"""Which nodes a task may use (``kernel/cgroup/cpuset.c`` (5.10), the memory side, as of cgroup v1).

The table is ``Vm.cpusets``; a cpuset's number stands for its directory, 0 is the top one. Functions that change
cpusets may be called while the tasks in them allocate: the allocator sees a task's mask change by its sequence count.

Differs from 5.10: CPUs of cpusets are not modelled; pages already allocated stay where they are when a cpuset moves,
also with ``memory_migrate``, which only is remembered.
"""

from emu.cpu.mempolicy import mpol_rebind_task
from emu.cpu.workqueue import cond_resched
from emu.zone.ctl_types import (
    CS_MEM_EXCLUSIVE, CS_MEM_HARDWALL, CS_MEMORY_MIGRATE, MAX_CPUSETS, Cpuset,
)  # fmt: skip
from emu.zone.deviations import R7B, deviates
from emu.zone.gfp import __GFP_HARDWALL
from emu.zone.irq import in_interrupt, local_irq_restore, local_irq_save
from emu.zone.kswapd_wake import cpuset_zone_allowed
from emu.zone.mm_types import Vm, vm_at
from emu.zone.mmzone import Cpu, Machine, Zone
from emu.zone.nodemask import movable_only_nodes, online_mask
from emu.zone.sched import PF_EXITING, TASK_SIZE, Task, task_at, tsk_is_oom_victim
from shm.atomic import cmpxchg, fetch_add, store_release
from shm.core import core, implements
from shm.point import point, site
from shm.seqcount import write_seqcount_begin, write_seqcount_end
from shm.spinlock import spin_lock, spin_unlock

EACCES = 13
EBUSY = 16
EINVAL = 22
ENODEV = 19
ENOENT = 2
ENOSPC = 28
S_MUTEX = site("cpuset_mutex:trylock")
S_TASK_LOCK = site("cpuset_change_task_nodemask:task_lock")
S_IRQ = site("cpuset_change_task_nodemask:local_irq_disable")
S_UNION = site("cpuset_change_task_nodemask:write union")
S_REBIND = site("cpuset_change_task_nodemask:rebind policy")
S_NEW = site("cpuset_change_task_nodemask:write mems_allowed")
S_END = site("cpuset_change_task_nodemask:write_seqcount_end")


@core(cold=True)
def nearest_hardwall_ancestor(vm: Vm, cs: int) -> int:
    """``kernel/cgroup/cpuset.c:nearest_hardwall_ancestor() (5.10)``: number of a cpuset."""
    for _ in range(MAX_CPUSETS):
        cpuset = vm.cpusets[cs]
        if cpuset.cpuset_flags & (CS_MEM_EXCLUSIVE | CS_MEM_HARDWALL) != 0 or cpuset.parent < 0:
            break
        cs = cpuset.parent
    return cs


@core(cold=True)
def __cpuset_node_allowed(m: Machine, cpu: Cpu, nid: int, gfp_mask: int) -> bool:
    """``kernel/cgroup/cpuset.c:__cpuset_node_allowed() (5.10)``: hardwalled requests stay in mems_allowed, others in
    the nearest cpuset above that is a wall."""
    task = task_at(m, cpu.current)
    if in_interrupt(cpu) or task.mems_allowed >> nid & 1 != 0 or tsk_is_oom_victim(task):
        return True
    if gfp_mask & __GFP_HARDWALL != 0:
        return False
    if task.process_flags & PF_EXITING != 0:
        return True
    vm = vm_at(m, m.vm)
    return vm.cpusets[nearest_hardwall_ancestor(vm, task.cpuset)].mems_allowed >> nid & 1 != 0


@implements(cpuset_zone_allowed)
def __cpuset_zone_allowed(m: Machine, cpu: Cpu, zone: Zone, gfp: int) -> bool:
    """``cpuset_zone_allowed()``: always, until the first cpuset exists."""
    if m.cpusets_enabled == 0:
        return True
    return __cpuset_node_allowed(m, cpu, zone.node, gfp)


@core(cold=True)
def cpuset_lock(m: Machine, cpu: Cpu) -> bool:
    """``cpuset_mutex``; false when the machine is being stopped."""
    point(cpu.party, S_MUTEX)
    while cmpxchg(vm_at(m, m.vm), "cpuset_mutex", 0, cpu.party.index + 1) != 0:
        if not cond_resched(m, cpu):
            return False
    return True


@core(cold=True)
def cpuset_unlock(m: Machine) -> None:
    """The end of :func:`cpuset_lock`."""
    store_release(vm_at(m, m.vm), "cpuset_mutex", 0)


@core(cold=True)
def cpuset_change_task_nodemask(m: Machine, cpu: Cpu, task: Task, newmems: int) -> None:
    """``kernel/cgroup/cpuset.c:cpuset_change_task_nodemask() (5.10)``: at no time is the task left without a node.

    Old and new nodes together first, so that a reader sees some nodes whatever it reads; then the policy, then the
    new nodes alone. Readers that looked in between learn it from the sequence. Interrupts are off, since one that
    allocates in this task's name waits for the sequence to become even; before db751fe3ea68 (R7b) they were not.
    """
    spin_lock(cpu.party, task.alloc_lock, S_TASK_LOCK)
    flags = cpu.party.irqs_off if deviates(m, R7B) else local_irq_save(cpu, S_IRQ)
    write_seqcount_begin(task.mems_allowed_seq)
    point(cpu.party, S_UNION)
    store_release(task, "mems_allowed", task.mems_allowed | newmems)
    point(cpu.party, S_REBIND)
    mpol_rebind_task(task, newmems)
    point(cpu.party, S_NEW)
    store_release(task, "mems_allowed", newmems)
    point(cpu.party, S_END)
    write_seqcount_end(task.mems_allowed_seq)
    local_irq_restore(m, cpu, flags)
    spin_unlock(cpu.party, task.alloc_lock)


@core(cold=True)
def effective_mems(m: Machine, vm: Vm, cs: int) -> int:
    """``guarantee_online_mems()``: the cpuset's nodes that have memory, or those of the nearest above that has any."""
    online = online_mask(m)
    for _ in range(MAX_CPUSETS):
        cpuset = vm.cpusets[cs]
        if cpuset.mems_allowed & online != 0 or cpuset.parent < 0:
            break
        cs = cpuset.parent
    return vm.cpusets[cs].mems_allowed & online


@core(cold=True)
def update_tasks_nodemask(m: Machine, cpu: Cpu, cs: int) -> None:
    """``kernel/cgroup/cpuset.c:update_tasks_nodemask() (5.10)``: all tasks of a cpuset move."""
    vm = vm_at(m, m.vm)
    newmems = effective_mems(m, vm, cs)
    for i in range(m.nr_tasks):
        task = task_at(m, m.tasks + i * TASK_SIZE)
        if task.cpuset == cs:
            cpuset_change_task_nodemask(m, cpu, task, newmems)


@core(cold=True)
def validate_change(vm: Vm, cs: int, mems: int, flags: int) -> int:
    """``kernel/cgroup/cpuset.c:validate_change() (5.10)``: what the tree has to say to a cpuset's new nodes and flags.

    Children must stay inside (EBUSY), it must stay inside its parent (EACCES), exclusive ones don't overlap with
    siblings (EINVAL), and tasks need memory (ENOSPC).
    """
    cur = vm.cpusets[cs]
    for i in range(MAX_CPUSETS):
        child = vm.cpusets[i]
        if child.online != 0 and child.parent == cs:
            if child.mems_allowed & ~mems != 0 or child.cpuset_flags & CS_MEM_EXCLUSIVE & ~flags != 0:
                return -EBUSY
    if cur.parent < 0:
        return 0
    parent = vm.cpusets[cur.parent]
    if mems & ~parent.mems_allowed != 0 or flags & CS_MEM_EXCLUSIVE & ~parent.cpuset_flags != 0:
        return -EACCES
    for i in range(MAX_CPUSETS):
        other = vm.cpusets[i]
        if other.online != 0 and other.parent == cur.parent and i != cs:
            if (flags | other.cpuset_flags) & CS_MEM_EXCLUSIVE != 0 and mems & other.mems_allowed != 0:
                return -EINVAL
    if cur.nr_tasks != 0 and cur.mems_allowed != 0 and mems == 0:
        return -ENOSPC
    return 0


@core(cold=True)
def update_nodemask(m: Machine, cpu: Cpu, cs: int, mems: int) -> int:
    """``kernel/cgroup/cpuset.c:update_nodemask() (5.10)``: 0 or an errno below 0. ``cpuset_mutex`` is held."""
    vm = vm_at(m, m.vm)
    cpuset = vm.cpusets[cs]
    if cs == 0:
        return -EACCES
    if mems & ~vm.cpusets[0].mems_allowed != 0:
        return -EINVAL
    if cpuset.mems_allowed == mems:
        return 0
    err = validate_change(vm, cs, mems, cpuset.cpuset_flags)
    if err != 0:
        return err
    if movable_only_nodes(m, mems):
        vm.cpusets_insane_config = 1
    cpuset.mems_allowed = mems
    update_tasks_nodemask(m, cpu, cs)
    return 0


@core(cold=True)
def cpuset_set_mems(m: Machine, cpu: Cpu, cs: int, mems: int) -> int:
    """Write ``cpuset.mems``."""
    if cs < 0 or cs >= MAX_CPUSETS or vm_at(m, m.vm).cpusets[cs].online == 0:
        return -ENODEV
    if not cpuset_lock(m, cpu):
        return -EBUSY
    err = update_nodemask(m, cpu, cs, mems)
    cpuset_unlock(m)
    return err


@core(cold=True)
def cpuset_set_flag(m: Machine, cpu: Cpu, cs: int, flag: int, on: int) -> int:
    """``kernel/cgroup/cpuset.c:update_flag() (5.10)``: write ``cpuset.mem_exclusive``, ``mem_hardwall`` or
    ``memory_migrate``."""
    vm = vm_at(m, m.vm)
    if cs < 0 or cs >= MAX_CPUSETS or vm.cpusets[cs].online == 0:
        return -ENODEV
    if flag != CS_MEM_EXCLUSIVE and flag != CS_MEM_HARDWALL and flag != CS_MEMORY_MIGRATE:
        return -EINVAL
    if not cpuset_lock(m, cpu):
        return -EBUSY
    cpuset = vm.cpusets[cs]
    flags = cpuset.cpuset_flags | flag if on != 0 else cpuset.cpuset_flags & ~flag
    err = validate_change(vm, cs, cpuset.mems_allowed, flags)
    if err == 0:
        cpuset.cpuset_flags = flags
    cpuset_unlock(m)
    return err


@core(cold=True)
def init_cpuset(cpuset: Cpuset, parent: int) -> None:
    """A cpuset as ``mkdir`` leaves it: without memory."""
    cpuset.parent = parent
    cpuset.cpuset_flags = 0
    cpuset.nr_tasks = 0
    cpuset.mems_allowed = 0
    store_release(cpuset, "online", 1)


@core(cold=True)
def cpuset_create(m: Machine, cpu: Cpu, parent: int) -> int:
    """``cpuset_css_online()``: a cpuset below another one; its number, or an errno below 0."""
    vm = vm_at(m, m.vm)
    if parent < 0 or parent >= MAX_CPUSETS or vm.cpusets[parent].online == 0:
        return -ENODEV
    if not cpuset_lock(m, cpu):
        return -EBUSY
    made = -ENOSPC
    for i in range(1, MAX_CPUSETS):
        if vm.cpusets[i].online == 0:
            init_cpuset(vm.cpusets[i], parent)
            fetch_add(m, "cpusets_enabled", 1)
            made = i
            break
    cpuset_unlock(m)
    return made


@core(cold=True)
def cpuset_destroy(m: Machine, cpu: Cpu, cs: int) -> int:
    """``cpuset_css_offline()``: ``rmdir`` of a cpuset without tasks and children."""
    vm = vm_at(m, m.vm)
    if cs <= 0 or cs >= MAX_CPUSETS or vm.cpusets[cs].online == 0:
        return -ENODEV
    if not cpuset_lock(m, cpu):
        return -EBUSY
    err = -EBUSY if vm.cpusets[cs].nr_tasks != 0 else 0
    for i in range(MAX_CPUSETS):
        if vm.cpusets[i].online != 0 and vm.cpusets[i].parent == cs:
            err = -EBUSY
    if err == 0:
        vm.cpusets[cs].online = 0
        fetch_add(m, "cpusets_enabled", -1)
    cpuset_unlock(m)
    return err


@core(cold=True)
def cpuset_attach(m: Machine, cpu: Cpu, cs: int, which: int) -> int:
    """``cpuset_can_attach()`` and ``cpuset_attach()``: a task (by its number) moves; ENOSPC if there is no memory."""
    vm = vm_at(m, m.vm)
    if cs < 0 or cs >= MAX_CPUSETS or vm.cpusets[cs].online == 0 or which < 0 or which >= m.nr_tasks:
        return -ENODEV
    if not cpuset_lock(m, cpu):
        return -EBUSY
    err = -ENOSPC
    if vm.cpusets[cs].mems_allowed != 0:
        err = 0
        task = task_at(m, m.tasks + which * TASK_SIZE)
        vm.cpusets[task.cpuset].nr_tasks -= 1
        vm.cpusets[cs].nr_tasks += 1
        task.cpuset = cs
        cpuset_change_task_nodemask(m, cpu, task, effective_mems(m, vm, cs))
    cpuset_unlock(m)
    return err


@core(cold=True)
def cpuset_own_mems(m: Machine, cpu: Cpu, which: int, mems: int) -> int:
    """Nodes for one task: the cpuset that it is in, unless that is the top one, which no write changes; then a new
    one below it."""
    cs = task_at(m, m.tasks + which * TASK_SIZE).cpuset
    if cs != 0:
        return cpuset_set_mems(m, cpu, cs, mems)
    cs = cpuset_create(m, cpu, 0)
    if cs < 0:
        return cs
    err = cpuset_set_mems(m, cpu, cs, mems)
    if err == 0:
        err = cpuset_attach(m, cpu, cs, which)
    if err != 0:
        cpuset_destroy(m, cpu, cs)
    return err


@core(cold=True)
def leave_empty_cpuset(m: Machine, cpu: Cpu, cs: int) -> None:
    """``remove_tasks_in_empty_cpuset()``: its tasks go to the nearest cpuset above that has memory."""
    vm = vm_at(m, m.vm)
    above = cs
    while above != 0 and vm.cpusets[above].mems_allowed == 0:
        above = vm.cpusets[above].parent
    for i in range(m.nr_tasks):
        task = task_at(m, m.tasks + i * TASK_SIZE)
        if task.cpuset == cs:
            task.cpuset = above
            vm.cpusets[cs].nr_tasks -= 1
            vm.cpusets[above].nr_tasks += 1
            cpuset_change_task_nodemask(m, cpu, task, effective_mems(m, vm, above))


@core(cold=True)
def cpuset_hotplug(m: Machine, cpu: Cpu) -> None:
    """``kernel/cgroup/cpuset.c:cpuset_hotplug_workfn() (5.10)``, v1: nodes that lost their memory leave all cpusets;
    only the top one gets them back."""
    vm = vm_at(m, m.vm)
    online = online_mask(m)
    if not cpuset_lock(m, cpu):
        return
    if vm.cpusets[0].mems_allowed != online:
        vm.cpusets[0].mems_allowed = online
        update_tasks_nodemask(m, cpu, 0)
        for cs in range(1, MAX_CPUSETS):
            cpuset = vm.cpusets[cs]
            if cpuset.online != 0 and cpuset.mems_allowed & ~online != 0:
                cpuset.mems_allowed = cpuset.mems_allowed & online
                if cpuset.mems_allowed == 0:
                    leave_empty_cpuset(m, cpu, cs)
                else:
                    update_tasks_nodemask(m, cpu, cs)
                    if movable_only_nodes(m, cpuset.mems_allowed):
                        vm.cpusets_insane_config = 1
    cpuset_unlock(m)
