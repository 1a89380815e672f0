"""Tasks (``include/linux/sched.h`` (5.10)), as far as memory management looks at them.

The first tasks belong to the CPUs and daemons, one each; user tasks with address spaces come after them.
"""

from emu.zone.mmzone import Machine
from shm.core import core
from shm.seqcount import Seqcount
from shm.struct import At, Struct, embed, i32, i64, size_of, struct, u32

PF_EXITING = 0x4
OOM_SCORE_ADJ_MIN = -1000
OOM_SCORE_ADJ_MAX = 1000


@struct
class Mempolicy(Struct):
    """``struct mempolicy``"""

    mode: int = i32()
    policy_flags: int = i32()
    preferred_node: int = i32()
    _hole: int = i32()
    nodes: int = i64()


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
    cookie_retries: int = i64()  # passes through restart because of the cpuset cookie
    retries: int = i64()  # passes through retry
    mm: int = i32()  # number + 1 of its address space; 0: a kernel thread
    oom_score_adj: int = i32()
    fatal_signal: int = u32()  # SIGKILL is pending
    comm: int = i32()  # number of its name in emu.zone.mm_types.COMMS
    tgid: int = i32()
    alive: int = i32()
    memcg_in_oom: int = i32()
    nr_dirtied: int = i32()  # pages dirtied since the last balance_dirty_pages()


TASK_SIZE = size_of(Task)
task_at = At(Task)


@core(inline=True)
def fatal_signal_pending(task: Task) -> bool:
    """``fatal_signal_pending()``"""
    return task.fatal_signal != 0


@core(inline=True)
def user_task(m: Machine, which: int) -> int:
    """Offset of a user task."""
    return m.tasks + (m.nr_parties + 1 + which) * TASK_SIZE
