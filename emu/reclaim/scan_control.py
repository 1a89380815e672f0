"""What one run of reclaim wants, may do, and has done (``struct scan_control`` of ``mm/vmscan.c`` (5.10))."""

from emu.zone.gfp import PF_KSWAPD
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import NR_LRU_LISTS, Cpu, Machine
from emu.zone.sched import task_at
from shm.core import OnStack, core
from shm.struct import Array, Struct, array, embed, i64, struct

SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12
DEACTIVATE_ANON = 1
DEACTIVATE_FILE = 2
PGDAT_DIRTY = 1  # bits of Node.pgdat_flags
PGDAT_WRITEBACK = 2
PGDAT_RECLAIM_LOCKED = 4
LRUVEC_CONGESTED = 1  # of Lruvec.lruvec_flags

# Which of the CPU's list heads reclaim uses for what
L_PAGES = 0  # what was isolated
L_ACTIVE = 1
L_INACTIVE = 2
L_SKIPPED = 3
L_RETURN = 4  # pages that shrink_page_list() does not free
L_FREE = 5
L_PUT = 6  # pages whose last reference was isolation's
L_CLEAN = 7  # clean pages of reclaim_clean_pages_from_list()


@struct
class Scanned(Struct):
    """``scan_control.nr``: what the lists of a node were like, summed over one ``shrink_node()``."""

    dirty: int = i64()
    unqueued_dirty: int = i64()
    congested: int = i64()
    writeback: int = i64()
    immediate: int = i64()
    file_taken: int = i64()
    taken: int = i64()


@struct
class ScanControl(Struct):
    """``struct scan_control``

    ``zones`` has the zonelist and the nodemask of direct reclaim; ``reclaimed_slab`` is what the task had freed when
    its ``reclaim_state`` was last looked at.
    """

    nr_to_reclaim: int = i64()
    target_mem_cgroup: int = i64()  # index + 1 of the cgroup at its limit; 0: the machine is short of memory
    anon_cost: int = i64()
    file_cost: int = i64()
    may_deactivate: int = i64()  # DEACTIVATE_*
    force_deactivate: int = i64()
    skipped_deactivate: int = i64()
    may_writepage: int = i64()
    may_unmap: int = i64()
    may_swap: int = i64()
    compaction_ready: int = i64()
    cache_trim_mode: int = i64()
    file_is_tiny: int = i64()
    order: int = i64()
    priority: int = i64()
    reclaim_idx: int = i64()
    gfp_mask: int = i64()
    nr_scanned: int = i64()
    nr_reclaimed: int = i64()
    reclaimed_slab: int = i64()
    nr: Scanned = embed(Scanned)
    zones: AllocContext = embed(AllocContext)


@struct
class ReclaimStat(Struct):
    """``struct reclaim_stat``: what ``shrink_page_list()`` found."""

    nr_dirty: int = i64()
    nr_unqueued_dirty: int = i64()
    nr_congested: int = i64()
    nr_writeback: int = i64()
    nr_immediate: int = i64()
    nr_pageout: int = i64()
    nr_activate: Array[int] = array(i64, 2)
    nr_ref_keep: int = i64()
    nr_unmap_fail: int = i64()


@struct
class ScanCounts(Struct):
    """How many pages of each list to look at: what is left, and what was planned."""

    nr: Array[int] = array(i64, NR_LRU_LISTS)
    targets: Array[int] = array(i64, NR_LRU_LISTS)


scan_control = OnStack(ScanControl)
reclaim_stat = OnStack(ReclaimStat)
scan_counts = OnStack(ScanCounts)


@core(inline=True)
def current_is_kswapd(m: Machine, cpu: Cpu) -> bool:
    """``current_is_kswapd()``"""
    return task_at(m, cpu.current).process_flags & PF_KSWAPD != 0


@core(inline=True)
def cgroup_reclaim(sc: ScanControl) -> bool:
    """``cgroup_reclaim()``: for the limit of one memory cgroup."""
    return sc.target_mem_cgroup != 0


@core(inline=True)
def writeback_throttling_sane(m: Machine, sc: ScanControl) -> bool:
    """``mm/vmscan.c:writeback_throttling_sane() (5.10)``: ``balance_dirty_pages()`` holds back whoever dirties these
    pages. It knows cgroups only in their second version."""
    return not cgroup_reclaim(sc) or vm_at(m, m.vm).legacy_memcg == 0


@core
def set_task_reclaim_state(m: Machine, cpu: Cpu, sc: ScanControl) -> None:
    """``mm/vmscan.c:set_task_reclaim_state() (5.10)``: slab pages that the task frees count from here on."""
    sc.reclaimed_slab = task_at(m, cpu.current).reclaimed_slab


@core
def take_reclaimed_slab(m: Machine, cpu: Cpu, sc: ScanControl) -> None:
    """The slab pages freed since the last look are reclaimed pages too."""
    now = task_at(m, cpu.current).reclaimed_slab
    sc.nr_reclaimed += now - sc.reclaimed_slab
    sc.reclaimed_slab = now
