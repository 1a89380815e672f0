"""Where the lower files of this room call up.

The kernel's calls run in circles here: cleaning a page asks rmap to clean its page table entries, and rmap dirties
pages; charging a page reclaims, and reclaim runs over charged pages. Imports run one way, so the lower file calls a
seam.
"""

from emu.zone.mmzone import Cpu, Machine
from shm.core import seam

# enum oom_status (mm/memcontrol.c)
OOM_SUCCESS = 0
OOM_FAILED = 1
OOM_ASYNC = 2
OOM_SKIPPED = 3


@seam
def page_mkclean(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/rmap.c:page_mkclean() (5.10)``: page table entries that were dirty or writable and no longer are. Nothing
    maps the page: 0."""
    return 0


@seam
def try_to_free_mem_cgroup_pages(m: Machine, cpu: Cpu, memcg: int, nr_pages: int, gfp_mask: int, may_swap: int) -> int:
    """``mm/vmscan.c:try_to_free_mem_cgroup_pages() (5.10)``: pages reclaimed from one memory cgroup (index + 1).
    Nothing is on an LRU list: 0."""
    return 0


@seam
def mem_cgroup_oom(m: Machine, cpu: Cpu, memcg: int, gfp_mask: int, order: int) -> int:
    """``mm/memcontrol.c:mem_cgroup_oom() (5.10)``: OOM_*. There is no task to kill."""
    return OOM_FAILED


@seam
def mem_cgroup_out_of_memory(m: Machine, cpu: Cpu, memcg: int, gfp_mask: int, order: int) -> bool:
    """``mm/memcontrol.c:mem_cgroup_out_of_memory() (5.10)``: whether a task of the group was killed."""
    return False
