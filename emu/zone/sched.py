"""Tasks (``include/linux/sched.h`` (5.10)), as far as memory management looks at them.

The first tasks belong to the CPUs and daemons, one each; user tasks with address spaces come after them.
"""

from emu.zone.mmzone import Machine
from emu.zone.slow_types import SlowCost
from shm.atomic import load_acquire
from shm.core import core
from shm.seqcount import Seqcount
from shm.spinlock_types import Spinlock
from shm.struct import Array, At, Struct, array, embed, i32, i64, size_of, struct, u32

PF_EXITING = 0x4
PF_DUMPCORE = 0x200
OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000

# Why the slow path went back to retry, and to restart: Task.retries_by, restarts_by
RETRY_RECLAIM = 0
RETRY_COMPACT = 1
RETRY_OOM = 2
RETRY_NOFAIL = 3
RETRY_REASONS = ("reclaim", "compact", "oom", "nofail")
RESTART_NODEMASK = 0
RESTART_CPUSET = 1
RESTART_ZONELIST = 2
RESTART_REASONS = ("nodemask", "cpuset cookie", "zonelist cookie")


@struct
class Mempolicy(Struct):
    """``struct mempolicy``"""

    mode: int = i32()
    policy_flags: int = i32()  # MPOL_F_*
    preferred_node: int = i32()
    _hole: int = i32()
    nodes: int = i64()
    user_nodemask: int = i64()  # as given, for MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES
    cpuset_mems_allowed: int = i64()  # else: mems_allowed that `nodes` is relative to


@struct
class Task(Struct):
    """``struct task_struct``"""

    _align_ = 64

    pid: int = i32()
    process_flags: int = u32()  # PF_*
    mems_allowed: int = i64()
    mems_allowed_seq: Seqcount = embed(Seqcount)
    il_prev: int = i32()
    mempolicy: Mempolicy = embed(Mempolicy)
    has_policy: int = i32()
    rt: int = i32()  # real-time scheduling policy
    oom_victim: int = i32()  # TIF_MEMDIE
    memcg: int = i32()  # index + 1 of its memory cgroup; 0: none
    retries: int = i64()  # passes through retry
    mm: int = i32()  # number + 1 of its address space; 0: a kernel thread
    oom_score_adj: int = i32()
    fatal_signal: int = u32()  # SIGKILL is pending
    comm: int = i32()  # number of its name in emu.zone.mm_types.COMMS
    tgid: int = i32()
    alive: int = i32()
    nr_dirtied: int = i32()  # pages dirtied since the last balance_dirty_pages()
    reclaimed_slab: int = i64()  # reclaim_state: slab pages that it has freed
    nr_dirtied_pause: int = i32()  # how many of them make it look at the limits again
    memcg_nr_pages_over_high: int = i32()
    dirty_paused_when: int = i64()  # jiffies
    cpuset: int = i32()  # number of its cpuset; 0: the top one
    oom_mm: int = i32()  # signal->oom_mm: the address space it had when it was chosen
    oom_flag_origin: int = i32()  # to be killed first
    dying: int = u32()  # somebody runs its do_exit()
    throttled: int = u32()  # node + 1 on whose pfmemalloc_wait it is; 0: none
    oom_reaper_expires: int = i64()  # CLOCK_MONOTONIC ns when the reaper is told; 0: its timer isn't set
    retries_by: Array[int] = array(i64, 4)  # RETRY_*
    restarts_by: Array[int] = array(i64, 3)  # RESTART_*
    slowpaths: int = i64()  # times it entered the slow path
    task_struct: int = i32()  # the slab object that it is; 0: none
    alloc_lock: Spinlock = embed(Spinlock)  # task_lock()
    slow: SlowCost = embed(SlowCost)


TASK_SIZE = size_of(Task)
task_at = At(Task)


@core(inline=True)
def fatal_signal_pending(task: Task) -> bool:
    """``fatal_signal_pending()``"""
    return load_acquire(task, "fatal_signal") != 0


@core(inline=True)
def tsk_is_oom_victim(task: Task) -> bool:
    """``tsk_is_oom_victim()``: chosen by the OOM killer, until the task is gone."""
    return task.oom_mm != 0 or task.oom_victim != 0


@core(inline=True)
def user_task(m: Machine, which: int) -> int:
    """Offset of a user task."""
    return m.tasks + (m.nr_parties + 1 + which) * TASK_SIZE
