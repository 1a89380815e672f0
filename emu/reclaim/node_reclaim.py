"""Node reclaim: page cache of the own node rather than memory of another (``mm/vmscan.c`` (5.10)).

``vm.zone_reclaim_mode`` switches it on.
"""

from emu.cpu.seams import NODE_RECLAIM_FULL, NODE_RECLAIM_NOSCAN, node_reclaim
from emu.cpu.task import current_gfp_context
from emu.cpu.workqueue import cond_resched
from emu.reclaim.direct import KEEP, memalloc_noreclaim_restore, memalloc_noreclaim_save
from emu.reclaim.scan_control import (
    PGDAT_RECLAIM_LOCKED, SWAP_CLUSTER_MAX, scan_control, set_task_reclaim_state,
)  # fmt: skip
from emu.reclaim.shrink_node import shrink_node
from emu.zone.event import EV_NODE_RECLAIM_BEGIN, EV_NODE_RECLAIM_END, record
from emu.zone.gfp import __GFP_DIRECT_RECLAIM, PF_MEMALLOC, PF_SWAPWRITE, gfp_zone
from emu.zone.mmzone import CPU_SIZE, Cpu, Machine, Node, cpu_record
from emu.zone.sched import task_at
from emu.zone.vmstat import __count_vm_events, node_page_state
from emu.zone.vmstat_items import (
    NR_ACTIVE_FILE, NR_FILE_DIRTY, NR_FILE_MAPPED, NR_FILE_PAGES, NR_INACTIVE_FILE, NR_SLAB_RECLAIMABLE_B,
    PGSCAN_ZONE_RECLAIM_FAILED,
)  # fmt: skip
from shm.atomic import fetch_and, fetch_or, load_acquire
from shm.core import core, implements
from shm.point import point, site

RECLAIM_ZONE = 1
RECLAIM_WRITE = 2
RECLAIM_UNMAP = 4
NODE_RECLAIM_PRIORITY = 4
S_LOCK = site("node_reclaim:test_and_set PGDAT_RECLAIM_LOCKED")


@core
def node_unmapped_file_pages(node: Node) -> int:
    """``mm/vmscan.c:node_unmapped_file_pages() (5.10)``: tmpfs pages may be mapped and are not on the file lists."""
    file_mapped = node_page_state(node, NR_FILE_MAPPED)
    file_lru = node_page_state(node, NR_INACTIVE_FILE) + node_page_state(node, NR_ACTIVE_FILE)
    return max(file_lru - file_mapped, 0)


@core
def node_pagecache_reclaimable(m: Machine, node: Node) -> int:
    """``mm/vmscan.c:node_pagecache_reclaimable() (5.10)``: page cache that the mode allows to take."""
    if m.node_reclaim_mode & RECLAIM_UNMAP != 0:
        nr_pagecache_reclaimable = node_page_state(node, NR_FILE_PAGES)
    else:
        nr_pagecache_reclaimable = node_unmapped_file_pages(node)
    delta = 0
    if m.node_reclaim_mode & RECLAIM_WRITE == 0:
        delta = node_page_state(node, NR_FILE_DIRTY)
    return nr_pagecache_reclaimable - min(delta, nr_pagecache_reclaimable)


@core
def __node_reclaim(m: Machine, cpu: Cpu, node: Node, gfp_mask: int, order: int) -> bool:
    """``mm/vmscan.c:__node_reclaim() (5.10)``: true if as many pages came free as are wanted."""
    nr_pages = 1 << order
    task = task_at(m, cpu.current)
    sc = scan_control()
    sc.nr_to_reclaim = max(nr_pages, SWAP_CLUSTER_MAX)
    sc.gfp_mask = current_gfp_context(task, gfp_mask)
    sc.order = order
    sc.priority = NODE_RECLAIM_PRIORITY
    sc.may_writepage = 1 if m.node_reclaim_mode & RECLAIM_WRITE != 0 else 0
    sc.may_unmap = 1 if m.node_reclaim_mode & RECLAIM_UNMAP != 0 else 0
    sc.may_swap = 1
    sc.reclaim_idx = gfp_zone(gfp_mask)
    if cpu.trace != 0:
        record(m, cpu, EV_NODE_RECLAIM_BEGIN, -1, order, 0, sc.gfp_mask, node.node_id, 0)
    cond_resched(m, cpu)
    flags = memalloc_noreclaim_save(m, cpu)
    task.process_flags = task.process_flags | PF_SWAPWRITE
    set_task_reclaim_state(m, cpu, sc)
    if node_pagecache_reclaimable(m, node) > node.min_unmapped_pages:
        while sc.priority >= 0 and load_acquire(m, "stop") == 0:
            shrink_node(m, cpu, node, sc)
            if sc.nr_reclaimed >= nr_pages:
                break
            sc.priority -= 1
    task.process_flags = task.process_flags & (KEEP - PF_SWAPWRITE)
    memalloc_noreclaim_restore(m, cpu, flags)
    if cpu.trace != 0:
        record(m, cpu, EV_NODE_RECLAIM_END, -1, order, 0, sc.gfp_mask, sc.nr_reclaimed, 0)
    return sc.nr_reclaimed >= nr_pages


@core
def node_has_cpu(m: Machine, nid: int) -> bool:
    """``node_state(nid, N_CPU)``"""
    for index in range(m.nr_cpus):
        other = cpu_record(m, m.cpus + index * CPU_SIZE)
        if other.node == nid and other.online != 0:
            return True
    return False


@implements(node_reclaim)
def reclaim_own_node(m: Machine, cpu: Cpu, node: Node, gfp_mask: int, order: int) -> int:
    """``mm/vmscan.c:node_reclaim() (5.10)``: NODE_RECLAIM_FULL, not enough to take; _NOSCAN, not here or not now; else
    whether it reclaimed enough. One task at a time, on its own node or one without CPUs."""
    slab = node_page_state(node, NR_SLAB_RECLAIMABLE_B)  # the node's is in pages all the same
    if node_pagecache_reclaimable(m, node) <= node.min_unmapped_pages and slab <= node.min_slab_pages:
        return NODE_RECLAIM_FULL
    task = task_at(m, cpu.current)
    if gfp_mask & __GFP_DIRECT_RECLAIM == 0 or task.process_flags & PF_MEMALLOC != 0:
        return NODE_RECLAIM_NOSCAN
    if node.node_id != cpu.node and node_has_cpu(m, node.node_id):
        return NODE_RECLAIM_NOSCAN
    point(cpu.party, S_LOCK)
    if fetch_or(node, "pgdat_flags", PGDAT_RECLAIM_LOCKED) & PGDAT_RECLAIM_LOCKED != 0:
        return NODE_RECLAIM_NOSCAN
    enough = __node_reclaim(m, cpu, node, gfp_mask, order)
    fetch_and(node, "pgdat_flags", -1 - PGDAT_RECLAIM_LOCKED)
    if not enough:
        __count_vm_events(cpu, PGSCAN_ZONE_RECLAIM_FAILED, 1)
    return 1 if enough else 0
