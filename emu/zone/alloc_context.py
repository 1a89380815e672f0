"""What one allocation looks for (``mm/internal.h:struct alloc_context`` (5.10))."""

from shm.struct import Struct, i32, i64, struct


@struct
class AllocContext(Struct):
    """``struct alloc_context``: what one allocation looks for."""

    zonelist: int = i64()  # offset
    nodemask: int = i64()
    nodemask_kind: int = i32()  # NODEMASK_NONE, _GIVEN, _MEMS_ALLOWED or _POLICY
    preferred: int = i32()  # index of the preferred zoneref
    migratetype: int = i32()
    highest_zoneidx: int = i32()
    spread_dirty_pages: int = i32()
    did_some_progress: int = i32()  # result of direct reclaim and of the OOM killer
    compact_result: int = i32()  # result of direct compaction
    compact_priority: int = i32()
    compaction_retries: int = i32()
    alloc_mask: int = i64()  # the gfp_t really used
    alloc_flags: int = i64()


NODEMASK_NONE, NODEMASK_GIVEN = 0, 1
NODEMASK_MEMS_ALLOWED = 2  # the task's mems_allowed, read again at every zoneref as 5.10 does
NODEMASK_POLICY = 3  # those of the task's MPOL_BIND: 5.10 has a pointer to them, so they are read again too
NODES_OF_POLICY = -1  # stands for that pointer where a nodemask is handed over
