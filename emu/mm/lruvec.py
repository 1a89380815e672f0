"""Which lruvec a page belongs to, and what its lists cost (``include/linux/memcontrol.h``, ``mm/swap.c`` (5.10))."""

from emu.zone.lru import (
    LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, lruvec_lru_size, page_is_file_lru,
    page_memcg, page_to_nid,
)  # fmt: skip
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Lruvec, Machine, Node, Page, page_record
from emu.zone.page import pfn_to_page
from emu.zone.vmstat import node_page_state
from emu.zone.vmstat_items import NR_LRU_BASE
from shm.atomic import address
from shm.core import core
from shm.struct import At

lruvec_at = At(Lruvec)


@core(inline=True)
def mem_cgroup_lruvec(m: Machine, node: Node, memcg: int) -> int:
    """``mem_cgroup_lruvec()``: offset of a cgroup's (index + 1; 0: the root's) lruvec on a node."""
    return address(node.lruvecs[memcg]) - address(m)


@core(inline=True)
def mem_cgroup_page_lruvec(m: Machine, node: Node, page: Page) -> int:
    """``mem_cgroup_page_lruvec()``: offset of the lruvec that a page's LRU list is in."""
    return mem_cgroup_lruvec(m, node, page_memcg(page))


@core
def lruvec_page_state(m: Machine, lruvec: Lruvec, lru: int) -> int:
    """``lruvec_page_state()`` of a list: pages on it.

    Differs from 5.10: a cgroup's number is exact, where the kernel's lags behind by up to 32 pages for each CPU; the
    root's, which contains all cgroups, is the node's.
    """
    if lruvec.memcg == 0:
        return node_page_state(m.nodes[lruvec.node], NR_LRU_BASE + lru)
    return lruvec_lru_size(lruvec, lru, MAX_NR_ZONES - 1)


@core
def note_cost(m: Machine, lruvec: Lruvec, file: int, nr_pages: int) -> None:
    """One lruvec's part of :func:`lru_note_cost`: a floating average, halved when it outgrows a quarter of the
    lists."""
    if file != 0:
        lruvec.file_cost += nr_pages
    else:
        lruvec.anon_cost += nr_pages
    size = lruvec_page_state(m, lruvec, LRU_INACTIVE_ANON) + lruvec_page_state(m, lruvec, LRU_ACTIVE_ANON)
    size += lruvec_page_state(m, lruvec, LRU_INACTIVE_FILE) + lruvec_page_state(m, lruvec, LRU_ACTIVE_FILE)
    if lruvec.file_cost + lruvec.anon_cost > size // 4:
        lruvec.file_cost = lruvec.file_cost >> 1
        lruvec.anon_cost = lruvec.anon_cost >> 1


@core
def lru_note_cost(m: Machine, cpu: Cpu, lruvec: Lruvec, file: int, nr_pages: int) -> None:
    """``mm/swap.c:lru_note_cost() (5.10)``: for a cgroup and its parent, the root. ``lru_lock`` is held."""
    note_cost(m, lruvec, file, nr_pages)
    if lruvec.memcg != 0:
        note_cost(m, m.nodes[lruvec.node].lruvecs[0], file, nr_pages)


@core
def lru_note_cost_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:lru_note_cost_page() (5.10)``"""
    page = page_record(m, pfn_to_page(m, pfn))
    lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, m.nodes[page_to_nid(page)], page))
    lru_note_cost(m, cpu, lruvec, 1 if page_is_file_lru(page) else 0, 1)
