"""Spreading pages that will be written over the nodes (``mm/page-writeback.c`` (5.10))."""

from emu.cpu.seams import node_dirty_ok
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, Node
from emu.zone.sched import task_at
from emu.zone.vmstat import node_page_state, zone_page_state
from emu.zone.vmstat_items import NR_FILE_DIRTY, NR_ACTIVE_FILE, NR_FREE_PAGES, NR_INACTIVE_FILE, NR_WRITEBACK
from shm.core import core, implements

UINT_MAX = 0xFFFFFFFF


@core(cold=True)
def node_dirtyable_memory(node: Node) -> int:
    """``mm/page-writeback.c:node_dirtyable_memory() (5.10)``: free pages beyond the reserves, and the page cache."""
    nr_pages = 0
    for i in range(MAX_NR_ZONES):
        if node.node_zones[i].present_pages != 0:
            nr_pages += zone_page_state(node.node_zones[i], NR_FREE_PAGES)
    nr_pages -= min(nr_pages, node.totalreserve_pages)
    return nr_pages + node_page_state(node, NR_INACTIVE_FILE) + node_page_state(node, NR_ACTIVE_FILE)


@core(cold=True)
def node_dirty_limit(m: Machine, cpu: Cpu, node: Node) -> int:
    """``mm/page-writeback.c:node_dirty_limit() (5.10)``: ``vm.dirty_ratio`` of that, a quarter more for rt tasks.

    Differs from 5.10: there is no ``vm.dirty_bytes``.
    """
    dirty = m.vm_dirty_ratio * node_dirtyable_memory(node) // 100
    if task_at(m, cpu.current).rt != 0:
        dirty += dirty // 4
    return min(dirty, UINT_MAX)


@implements(node_dirty_ok)
def __node_dirty_ok(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/page-writeback.c:node_dirty_ok() (5.10)``: the node's dirty pages are within its limit."""
    dirty = node_page_state(node, NR_FILE_DIRTY) + node_page_state(node, NR_WRITEBACK)
    return dirty <= node_dirty_limit(m, cpu, node)
