"""Memory cgroups as records (``include/linux/memcontrol.h`` (5.10))."""

from shm.struct import Struct, i64, struct

MAX_MEMCGS = 8


@struct
class Memcg(Struct):
    """``struct mem_cgroup``: its page counters, in pages. The root is not among ``Machine.memcgs``."""

    kmem: int = i64()
    limit: int = i64()  # of kmem; 0: no limit
    failcnt: int = i64()
    memory: int = i64()  # pages on LRU lists charged to it
    memory_high: int = i64()  # 0: none
    memory_max: int = i64()  # 0: none
    memory_failcnt: int = i64()
    oom_kills: int = i64()
