"""Where the allocator calls up: slow path, reclaim, compaction, the OOM killer.

The kernel's call graph is a circle (reclaim allocates). Imports here run one way, so the lower functions call these
seams, and higher rooms give them their bodies. Each body below is what the kernel does when there is nothing to
reclaim, compact or kill.
"""

from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import Cpu, Machine, Node
from shm.core import seam

NODE_RECLAIM_NOSCAN = -2
NODE_RECLAIM_FULL = -1
COMPACT_NOT_SUITABLE_ZONE = 0
COMPACT_SKIPPED = 1
COMPACT_DEFERRED = 2
COMPACT_NO_SUITABLE_PAGE = 3
COMPACT_CONTINUE = 4
COMPACT_COMPLETE = 5
COMPACT_PARTIAL_SKIPPED = 6
COMPACT_CONTENDED = 7
COMPACT_SUCCESS = 8


@seam
def __alloc_pages_slowpath(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__alloc_pages_slowpath() (5.10)``; its body is ``emu.cpu.slowpath``."""
    return -1


@seam
def node_reclaim(m: Machine, cpu: Cpu, node: Node, gfp_mask: int, order: int) -> int:
    """``mm/vmscan.c:node_reclaim() (5.10)``: nothing here is reclaimable, so the node is not worth a scan."""
    return NODE_RECLAIM_FULL


@seam
def node_dirty_ok(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/page-writeback.c:node_dirty_ok() (5.10)``; its body is ``emu.cpu.dirty``."""
    return True


@seam
def __perform_reclaim(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__perform_reclaim() (5.10)``: pages reclaimed. Nothing is on an LRU list: 0."""
    return 0


@seam
def __alloc_pages_direct_compact(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, alloc_flags: int, ac: AllocContext, priority: int
) -> int:
    """``mm/page_alloc.c:__alloc_pages_direct_compact() (5.10)``: a page, or NULL with ``ac.compact_result`` saying
    why. Nothing can be migrated: skipped."""
    ac.compact_result = COMPACT_SKIPPED
    return -1


@seam
def should_reclaim_retry(
    m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext, alloc_flags: int, progress: int, loops: int
) -> bool:
    """``mm/page_alloc.c:should_reclaim_retry() (5.10)``: without anything reclaimable, another round can't help."""
    return False


@seam
def should_compact_retry(m: Machine, cpu: Cpu, ac: AllocContext, order: int, alloc_flags: int) -> bool:
    """``mm/page_alloc.c:should_compact_retry() (5.10)``: by ``ac.compact_result``; counts ``ac.compaction_retries``
    and may raise ``ac.compact_priority`` (a smaller number). Without compaction, no."""
    return False


@seam
def __alloc_pages_may_oom(m: Machine, cpu: Cpu, gfp_mask: int, order: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:__alloc_pages_may_oom() (5.10)``: there is no task to kill, hence no progress."""
    ac.did_some_progress = 0
    return -1
