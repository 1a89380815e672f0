"""Requests to a running machine: sysctls, cpusets, policies, memory, signals (``emu ctl``, and the library).

A client fills the slot ``Vm.ctl`` (``emu.reclaim.ctl_client``); a process of the machine that is at hand serves it in
the core, so that what a request does is done by a CPU, under the locks, while all others go on.
"""

from emu.compact.kcompactd import compact_nodes
from emu.cpu.cpuset import (
    cpuset_attach, cpuset_create, cpuset_destroy, cpuset_hotplug, cpuset_own_mems, cpuset_set_flag, cpuset_set_mems,
)  # fmt: skip
from emu.cpu.mempolicy import set_mempolicy_of
from emu.mm.memcontrol import set_memcg_limit
from emu.mm.hotplug_lock import MEM_OFFLINE, MEM_ONLINE, memory_notify
from emu.mm.memory_hotplug import online_pages
from emu.mm.offline_pages import offline_pages
from emu.mm.swapon import swapoff, swapon
from emu.mm.page_writeback import wakeup_flusher_threads
from emu.mm.truncate import drop_pagecache
from emu.reclaim.shrinker import shrink_slab
from emu.reclaim.oom_exit import exit_killed_tasks, kill_task
from emu.zone.event import EV_OOM_SCORE_ADJ, record
from emu.zone.gfp import GFP_KERNEL
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN, TASK_SIZE, task_at
from emu.zone.sysctl import COMPACT_MEMORY, DIRTY_WRITEBACK_CENTISECS, DROP_CACHES, sysctl_action, sysctl_write
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import DROP_SLAB
from shm.atomic import fetch_add, futex_wake, load_acquire, store_release
from shm.core import as_entries, core, entry, implements

__all__ = ["CTL_ENTRIES", "ctl_serve"]

CTL_SYSCTL = 1  # number, index, value
CTL_CPUSET_MEMS = 2  # number of the task, nodes: in a cpuset of its own
CTL_CPUSET_CREATE = 3  # parent
CTL_CPUSET_DESTROY = 4  # cpuset
CTL_CPUSET_SET = 5  # cpuset, nodes
CTL_CPUSET_FLAG = 6  # cpuset, CS_*, on
CTL_CPUSET_ATTACH = 7  # cpuset, number of the task
CTL_MEMPOLICY = 8  # number of the task, mode with its flags, nodes
CTL_OFFLINE = 9  # first pfn, pages
CTL_ONLINE = 10  # first pfn, pages, MMOP_*
CTL_KILL = 11  # number of the task
CTL_OOM_SCORE_ADJ = 12  # number of the task, value
CTL_MEMCG = 13  # number of the cgroup from 1, MEMCG_*, pages
CTL_SWAPON = 14  # pages; 0: all
CTL_SWAPOFF = 15
EINVAL = 22
ESRCH = 3
EPERM = 1
WAKE_ALL = 0x7FFFFFFF
ANY = 0xFFFFFFFF


@core(cold=True)
def drop_slab(m: Machine, cpu: Cpu) -> None:
    """``mm/vmscan.c:drop_slab() (5.10)``: all nodes, until a turn frees no more than ten objects."""
    for nid in range(m.nr_nodes):
        while shrink_slab(m, cpu, GFP_KERNEL, nid, 0, 0) > 10 and load_acquire(m, "stop") == 0:
            pass
    __count_vm_events(cpu, DROP_SLAB, 1)


@implements(sysctl_action)
def act_on_sysctl(m: Machine, cpu: Cpu, which: int, value: int) -> int:
    """``compact_memory``, ``drop_caches``; a new ``dirty_writeback_centisecs`` wakes the flusher."""
    if which == COMPACT_MEMORY:
        compact_nodes(m, cpu)
    elif which == DROP_CACHES:
        if value & 1 != 0:
            drop_pagecache(m, cpu)
        if value & 2 != 0:
            drop_slab(m, cpu)
    elif which == DIRTY_WRITEBACK_CENTISECS and value != 0:
        wakeup_flusher_threads(m, cpu)
    return 0


@implements(memory_notify)
def nodes_changed(m: Machine, cpu: Cpu, action: int, start_pfn: int, nr_pages: int, nid: int) -> int:
    """``cpuset_track_online_nodes()``: the top cpuset is the nodes that have memory."""
    if nid >= 0 and (action == MEM_ONLINE or action == MEM_OFFLINE):
        cpuset_hotplug(m, cpu)
    return 0


@core(cold=True)
def is_user_task(m: Machine, number: int) -> bool:
    """Whether a task is a process with a place for an address space, no CPU's and no daemon's."""
    return m.nr_parties < number < m.nr_tasks


@core(cold=True)
def set_oom_score_adj(m: Machine, cpu: Cpu, number: int, value: int) -> int:
    """``/proc/PID/oom_score_adj``"""
    if value < OOM_SCORE_ADJ_MIN or value > OOM_SCORE_ADJ_MAX:
        return -EINVAL
    task_at(m, m.tasks + number * TASK_SIZE).oom_score_adj = value
    if cpu.trace != 0:
        record(m, cpu, EV_OOM_SCORE_ADJ, -1, 0, 0, 0, number, value)
    return 0


@core(cold=True)
def send_kill(m: Machine, cpu: Cpu, number: int) -> int:
    """``kill -KILL`` of a process; one that no CPU runs exits here."""
    if not is_user_task(m, number) or task_at(m, m.tasks + number * TASK_SIZE).tgid == 1:
        return -EPERM
    if not kill_task(m, number - m.nr_parties - 1):
        return -ESRCH
    exit_killed_tasks(m, cpu)
    return 0


@core(cold=True)
def serve_cpuset(m: Machine, cpu: Cpu, code: int, a: int, b: int, c: int) -> int:
    """CTL_CPUSET_*"""
    if code == CTL_CPUSET_CREATE:
        return cpuset_create(m, cpu, a)
    if code == CTL_CPUSET_DESTROY:
        return cpuset_destroy(m, cpu, a)
    if code == CTL_CPUSET_SET:
        return cpuset_set_mems(m, cpu, a, b)
    if code == CTL_CPUSET_FLAG:
        return cpuset_set_flag(m, cpu, a, b, c)
    return cpuset_attach(m, cpu, a, b)


@core(cold=True)
def serve_task(m: Machine, cpu: Cpu, code: int, number: int, b: int, c: int) -> int:
    """What is asked of one task."""
    if number < 0 or number >= m.nr_tasks or number == m.nr_parties:
        return -ESRCH
    if code == CTL_CPUSET_MEMS:
        return cpuset_own_mems(m, cpu, number, b)
    if code == CTL_MEMPOLICY:
        return set_mempolicy_of(m, cpu, task_at(m, m.tasks + number * TASK_SIZE), b, c)
    if code == CTL_KILL:
        return send_kill(m, cpu, number)
    return set_oom_score_adj(m, cpu, number, b)


@entry
def ctl_do(m: Machine, cpu: Cpu, code: int, a: int, b: int, c: int) -> int:
    """Do a request on this CPU: its result, or an errno below 0."""
    if code == CTL_SYSCTL:
        return sysctl_write(m, cpu, a, b, c)
    if code == CTL_OFFLINE:
        return offline_pages(m, cpu, a, b)
    if code == CTL_ONLINE:
        return online_pages(m, cpu, a, b, c)
    if code == CTL_MEMCG:
        return set_memcg_limit(m, cpu, a, b, c)
    if code == CTL_SWAPON:
        return swapon(m, cpu, a)
    if code == CTL_SWAPOFF:
        return swapoff(m, cpu)
    if code >= CTL_CPUSET_CREATE and code <= CTL_CPUSET_ATTACH:
        return serve_cpuset(m, cpu, code, a, b, c)
    if code < CTL_SYSCTL or code > CTL_OOM_SCORE_ADJ:
        return -EINVAL
    return serve_task(m, cpu, code, a, b, c)


@entry
def ctl_serve(m: Machine, cpu: Cpu) -> bool:
    """Serve the request that waits, if one does; by one process of the machine only."""
    slot = vm_at(m, m.vm).ctl
    posted = load_acquire(slot, "posted")
    if posted == slot.served:
        return False
    slot.result = ctl_do(m, cpu, slot.code, slot.args[0], slot.args[1], slot.args[2])
    store_release(slot, "served", posted)
    fetch_add(cpu.party, "heartbeat", 1)
    futex_wake(slot, "served", WAKE_ALL, ANY)
    return True


CTL_ENTRIES = as_entries(ctl_do, ctl_serve)
