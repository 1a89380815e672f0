"""The OOM killer (``mm/oom_kill.c``, ``mm/page_alloc.c:__alloc_pages_may_oom()`` (5.10.262)).

A killed task has a fatal signal pending. One that runs on a CPU sees it at its next look and exits; one that no CPU
runs is a process that sleeps, and whoever notices runs its exit (``emu.reclaim.oom_exit``).

Differs from 5.10: no OOM notifiers, no sysrq, no suspend.
"""

from emu.cpu.avoidable import count_oom
from emu.cpu.page_alloc import get_page_from_freelist
from emu.cpu.seams import __alloc_pages_may_oom
from emu.cpu.slowpath import __alloc_pages_cpuset_fallback
from emu.cpu.wait import schedule_timeout_killable, schedule_timeout_uninterruptible
from emu.reclaim.oom_control import (
    ABORTED, CONSTRAINT_MEMORY_POLICY, CONSTRAINT_NONE, OomControl, constrained_alloc, memory_came_back, mm_of,
    oom_cpuset_eligible, oom_unkillable_task, select_bad_process,
)  # fmt: skip
from emu.reclaim.oom_exit import exit_killed_tasks, reaper_done
from emu.reclaim.oom_report import (
    OOM_BY_ALLOCATING_TASK, OOM_BY_GLOBAL, OOM_BY_MEMCG, OOM_PANIC_COMPULSORY, OOM_PANIC_DEADLOCK,
    OOM_PANIC_SYSTEM_WIDE, OOM_SAYS_EXITING, OOM_SAYS_NO_KILLABLE, OOM_SAYS_PINNED, dump_header, oom_panic, say,
    say_killed, task_number, trace_mark_victim,
)  # fmt: skip
from emu.zone.deviations import R27, R28B, deviates
from emu.zone.event import WARN_NOFAIL_OOM, warn_on_once
from emu.zone.gfp import (
    __GFP_DIRECT_RECLAIM, __GFP_FS, __GFP_HARDWALL, __GFP_NOFAIL, __GFP_RETRY_MAYFAIL, __GFP_THISNODE, ALLOC_CPUSET,
    ALLOC_NO_WATERMARKS, ALLOC_WMARK_HIGH, PAGE_ALLOC_COSTLY_ORDER, PF_EXITING, PF_KTHREAD,
)  # fmt: skip
from emu.zone.mm_types import MMF_OOM_REAP_QUEUED, MMF_OOM_SKIP, MMF_OOM_VICTIM, mm_at, mm_record, vm_at
from emu.zone.alloc_context import NODEMASK_NONE, AllocContext
from emu.zone.mmzone import ZONE_NORMAL, Cpu, Machine
from emu.zone.page import NULL
from emu.zone.ratelimit import ratelimit
from emu.zone.sched import OOM_SCORE_ADJ_MIN, PF_DUMPCORE, Task, fatal_signal_pending, task_at, user_task
from emu.zone.signal import send_sigkill
from emu.zone.slow_stat import add_spent, slow_clock
from emu.zone.slow_types import SPENT_OOM
from emu.zone.time import NS_PER_JIFFY
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import OOM_KILL
from emu.zone.zonelist import nodemask_of
from shm.atomic import address, clock_ns, cmpxchg, fetch_add, fetch_or, load_acquire, store_release
from shm.core import OnStack, core, implements
from shm.point import point, site
from shm.spinlock import spin_lock, spin_unlock
from shm.waitqueue import wake_up

S_OOM_LOCK = site("__alloc_pages_may_oom:mutex_trylock")
S_KILL = site("oom_kill_process:task_lock")
S_SIGNAL = site("__oom_kill_process:task_lock")
S_OWN = site("out_of_memory:mark current")
oom_control = OnStack(OomControl)


@core(cold=True)
def mark_oom_victim(m: Machine, cpu: Cpu, task: Task) -> None:
    """``mm/oom_kill.c:mark_oom_victim() (5.10)``: from now on it may use the reserves (TIF_MEMDIE).

    Its address space is remembered beyond its exit (``signal->oom_mm``), under ``oom_lock``.
    """
    if cmpxchg(task, "oom_victim", 0, 1) != 0:
        return
    mm = mm_record(m, mm_of(m, task.mm))
    if cmpxchg(task, "oom_mm", 0, task.mm) == 0:
        fetch_or(mm, "mm_flags", MMF_OOM_VICTIM)
    fetch_add(vm_at(m, m.vm).oom_victims, "counter", 1)
    trace_mark_victim(m, cpu, task, mm)


@core(cold=True)
def claim_reaping(m: Machine, task: Task) -> bool:
    """``test_and_set_bit(MMF_OOM_REAP_QUEUED)``, while the task still has its address space; false if it was set. From
    now on ``oom_mm`` stays until the reaper is done with it."""
    mm = mm_record(m, mm_at(m, vm_at(m, m.vm), task.oom_mm))
    return fetch_or(mm, "mm_flags", MMF_OOM_REAP_QUEUED) & MMF_OOM_REAP_QUEUED == 0


@core(cold=True)
def queue_oom_reaper(m: Machine, task: Task) -> None:
    """``mm/oom_kill.c:queue_oom_reaper() (5.10.262)``: the reaper comes in 2 s, if the victim isn't gone by then.

    The timer is a time in the task; the reaper's process looks for those that are due.
    """
    vm = vm_at(m, m.vm)
    store_release(task, "oom_reaper_expires", clock_ns() + vm.oom_reaper_delay_ns)
    wake_up(vm.oom_reaper_wait)  # not to reap: to see how long it may sleep


@core
def __task_will_free_mem(task: Task) -> bool:
    """``mm/oom_kill.c:__task_will_free_mem() (5.10)``: it is on its way out, and writes no core dump, which may take
    long."""
    if task.process_flags & PF_DUMPCORE != 0:
        return False
    return fatal_signal_pending(task) or task.process_flags & PF_EXITING != 0


@core(cold=True)
def task_will_free_mem(m: Machine, task: Task) -> bool:
    """``mm/oom_kill.c:task_will_free_mem() (5.10)``: so are all that share its address space."""
    if task.mm == 0 or not __task_will_free_mem(task):
        return False
    mm = mm_record(m, mm_of(m, task.mm))
    if load_acquire(mm, "mm_flags") & MMF_OOM_SKIP != 0:
        return False
    if load_acquire(mm, "mm_users") <= 1:
        return True
    for k in range(vm_at(m, m.vm).nr_mms):
        other = task_at(m, user_task(m, k))
        if other.mm == task.mm and not __task_will_free_mem(other):
            return False
    return True


@core(cold=True)
def kill_sharers(m: Machine, cpu: Cpu, victim: Task, shared: int) -> bool:
    """The victim's address space goes, so all that use it die; true when it may be reaped."""
    can_oom_reap = True
    for k in range(vm_at(m, m.vm).nr_mms):
        p = task_at(m, user_task(m, k))
        if p.mm != shared or address(p) == address(victim):
            continue
        if p.tgid == 1:
            can_oom_reap = False
            fetch_or(mm_record(m, mm_at(m, vm_at(m, m.vm), shared)), "mm_flags", MMF_OOM_SKIP)
            say(m, cpu, OOM_SAYS_PINNED, task_number(m, victim), task_number(m, p))
        elif p.process_flags & PF_KTHREAD == 0:
            send_sigkill(m, p)
    return can_oom_reap


@core(cold=True)
def __oom_kill_process(m: Machine, cpu: Cpu, victim: Task, oc: OomControl, why: int) -> None:
    """``mm/oom_kill.c:__oom_kill_process() (5.10)``: SIGKILL first, then the reserves. With R28b's remedy nobody is
    killed if memory has come back since the victim was chosen."""
    spin_lock(cpu.party, victim.alloc_lock, S_SIGNAL)
    shared = victim.mm
    if shared == 0:
        spin_unlock(cpu.party, victim.alloc_lock)
        say(m, cpu, OOM_SAYS_EXITING, task_number(m, victim), why)
        return
    if deviates(m, R28B) and memory_came_back(m, cpu, oc):
        spin_unlock(cpu.party, victim.alloc_lock)
        return
    __count_vm_events(cpu, OOM_KILL, 1)
    if victim.memcg != 0:
        fetch_add(m.memcgs[victim.memcg - 1], "oom_kills", 1)
    send_sigkill(m, victim)
    mark_oom_victim(m, cpu, victim)
    say_killed(m, cpu, why, victim, mm_record(m, mm_of(m, shared)))
    claimed = claim_reaping(m, victim)
    spin_unlock(cpu.party, victim.alloc_lock)
    can_oom_reap = kill_sharers(m, cpu, victim, shared)
    if claimed and can_oom_reap:
        queue_oom_reaper(m, victim)
    elif claimed:
        reaper_done(m, victim)


@core(cold=True)
def let_die(m: Machine, cpu: Cpu, task: Task, where: int) -> bool:
    """A task that is dying anyway gets the reserves, so that it can; false when it isn't."""
    spin_lock(cpu.party, task.alloc_lock, where)
    dying = task_will_free_mem(m, task)
    if dying:
        mark_oom_victim(m, cpu, task)
        if claim_reaping(m, task):
            queue_oom_reaper(m, task)
    spin_unlock(cpu.party, task.alloc_lock)
    return dying


@core(cold=True)
def oom_kill_process(m: Machine, cpu: Cpu, oc: OomControl, why: int) -> None:
    """``mm/oom_kill.c:oom_kill_process() (5.10)``. Memory cgroups are not killed as groups."""
    victim = task_at(m, oc.chosen)
    if let_die(m, cpu, victim, S_KILL):
        return
    if ratelimit(cpu, vm_at(m, m.vm).oom_rs):
        dump_header(m, cpu, oc, oc.chosen)
    __oom_kill_process(m, cpu, victim, oc, why)


@core(cold=True)
def check_panic_on_oom(m: Machine, cpu: Cpu, oc: OomControl) -> bool:
    """``mm/oom_kill.c:check_panic_on_oom() (5.10)``: 1 only where nothing constrained the allocation, 2 always."""
    wanted = vm_at(m, m.vm).panic_on_oom
    if wanted == 0 or (wanted != 2 and oc.constraint != CONSTRAINT_NONE) or oc.order < 0:
        return False
    dump_header(m, cpu, oc, 0)
    oom_panic(m, cpu, OOM_PANIC_COMPULSORY if wanted == 2 else OOM_PANIC_SYSTEM_WIDE)
    return True


@core(cold=True)
def kills_allocating_task(m: Machine, cpu: Cpu, oc: OomControl) -> bool:
    """``vm.oom_kill_allocating_task``, where the running task can be killed."""
    if oc.memcg != 0 or vm_at(m, m.vm).oom_kill_allocating_task == 0:
        return False
    task = task_at(m, cpu.current)
    if task.mm == 0 or oom_unkillable_task(task) or not oom_cpuset_eligible(m, cpu, task, oc):
        return False
    return task.oom_score_adj != OOM_SCORE_ADJ_MIN


@core(cold=True)
def out_of_memory(m: Machine, cpu: Cpu, oc: OomControl) -> bool:
    """``mm/oom_kill.c:out_of_memory() (5.10)``: true when memory is on its way. The caller holds ``oom_lock``."""
    vm = vm_at(m, m.vm)
    if vm.oom_killer_disabled != 0 or vm.panicked != 0:  # who goes on after panic() only finishes what it began
        return False
    if let_die(m, cpu, task_at(m, cpu.current), S_OWN):
        return True
    if oc.gfp_mask != 0 and oc.gfp_mask & __GFP_FS == 0 and oc.memcg == 0:
        return True
    oc.constraint = constrained_alloc(m, cpu, oc)
    if oc.constraint != CONSTRAINT_MEMORY_POLICY:
        oc.nodemask = 0
    if check_panic_on_oom(m, cpu, oc):
        return False
    if kills_allocating_task(m, cpu, oc):
        oc.chosen = cpu.current
        oom_kill_process(m, cpu, oc, OOM_BY_ALLOCATING_TASK)
        return True
    select_bad_process(m, cpu, oc)
    if oc.chosen == 0:
        dump_header(m, cpu, oc, 0)
        say(m, cpu, OOM_SAYS_NO_KILLABLE, 0, 0)
        if oc.order >= 0 and oc.memcg == 0:
            oom_panic(m, cpu, OOM_PANIC_DEADLOCK)
        return False
    if oc.chosen != ABORTED:
        oom_kill_process(m, cpu, oc, OOM_BY_MEMCG if oc.memcg != 0 else OOM_BY_GLOBAL)
        if deviates(m, R27):
            # before 9bfe5ded054b: time for the victim to exit, while all others take oom_lock being held for progress
            schedule_timeout_killable(m, cpu, NS_PER_JIFFY)
    return True


@core(cold=True)
def may_kill(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> bool:
    """Whether killing somebody can help this request, and nobody has a better idea."""
    if task_at(m, cpu.current).process_flags & PF_DUMPCORE != 0 or order > PAGE_ALLOC_COSTLY_ORDER:
        return False
    return gfp_mask & (__GFP_RETRY_MAYFAIL | __GFP_THISNODE) == 0 and ac.highest_zoneidx >= ZONE_NORMAL


@core(cold=True)
def kill_under_lock(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """What ``__alloc_pages_may_oom()`` does holding ``oom_lock``: one look above the high watermark, then a kill."""
    look = (gfp_mask | __GFP_HARDWALL) & ~__GFP_DIRECT_RECLAIM
    pfn = get_page_from_freelist(m, cpu, look, order, ALLOC_WMARK_HIGH | ALLOC_CPUSET, ac)
    if pfn != NULL or not may_kill(m, cpu, gfp_mask, order, ac):
        return pfn
    oc = oom_control()
    oc.zonelist = ac.zonelist
    oc.nodemask = nodemask_of(m, cpu, ac) if ac.nodemask_kind != NODEMASK_NONE else 0
    oc.gfp_mask = gfp_mask
    oc.order = order
    killed = out_of_memory(m, cpu, oc)
    if not killed and gfp_mask & __GFP_NOFAIL != 0:
        warn_on_once(m, cpu, WARN_NOFAIL_OOM, gfp_mask, order)
        killed = True
    if killed:
        ac.did_some_progress = 1
        if gfp_mask & __GFP_NOFAIL != 0:
            return __alloc_pages_cpuset_fallback(m, cpu, gfp_mask, order, ALLOC_NO_WATERMARKS, ac)
    return NULL


@implements(__alloc_pages_may_oom)
def alloc_pages_may_oom(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__alloc_pages_may_oom() (5.10.262)``: a pfn, or NULL with ``ac.did_some_progress``.

    When others are at it already they are given a jiffy's time. A victim that no CPU runs exits here, as it would on
    any CPU while this task goes round its loop.
    """
    ac.did_some_progress = 0
    vm = vm_at(m, m.vm)
    count_oom(m, cpu, gfp_mask, order, ac)
    point(cpu.party, S_OOM_LOCK)
    if cmpxchg(vm, "oom_lock", 0, cpu.party.index + 1) != 0:
        ac.did_some_progress = 1
        since = slow_clock(m)
        schedule_timeout_uninterruptible(m, cpu, NS_PER_JIFFY)
        add_spent(m, cpu, SPENT_OOM, since)
        return NULL
    pfn = kill_under_lock(m, cpu, gfp_mask, order, ac)
    store_release(vm, "oom_lock", 0)
    if pfn == NULL and ac.did_some_progress != 0:
        exit_killed_tasks(m, cpu)
    return pfn
