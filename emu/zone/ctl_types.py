"""Cpusets, and requests to a running machine: the records (``kernel/cgroup/cpuset.c`` (5.10)).

The table of cpusets is ``Vm.cpusets``; number 0 is the top cpuset. A request is one slot: a client claims it, fills it
in and waits; a process of the machine that is at hand serves it (``emu.reclaim.ctl``).
"""

from shm.struct import Array, Struct, array, i32, i64, struct, u32

CS_MEM_EXCLUSIVE = 1
CS_MEM_HARDWALL = 2
CS_MEMORY_MIGRATE = 4
MAX_CPUSETS = 32
CTL_ARGS = 6


@struct
class Cpuset(Struct):
    """``struct cpuset``: what concerns memory."""

    online: int = i32()
    parent: int = i32()
    cpuset_flags: int = i32()  # CS_*
    nr_tasks: int = i32()
    mems_allowed: int = i64()


@struct
class CtlRequest(Struct):
    """One request to a running machine."""

    client: int = u32()  # pid of the process that has claimed the slot; 0: free
    posted: int = u32()  # grows when a request is there
    served: int = u32()  # the request that was served last
    code: int = i32()  # CTL_* of emu.reclaim.ctl
    args: Array[int] = array(i64, CTL_ARGS)
    result: int = i64()
