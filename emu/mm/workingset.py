"""Refaults: is a page that comes back part of the working set (``mm/workingset.c`` (5.10))?

Eviction leaves a shadow in the page's slot: the age of its lruvec then. When the page is read again, the lruvec's age
now says how many more pages of room would have kept it.

Differs from 5.10: shadows are in the slots of a file, which take no pages of their own, so there are no shadow nodes to
count (``workingset_nodes``) and to shrink.
"""

from emu.mm.lruvec import lru_note_cost_page, lruvec_at, lruvec_page_state, mem_cgroup_lruvec, mem_cgroup_page_lruvec
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import (
    LRU_ACTIVE_ANON, LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, mod_node_page_state, page_is_file_lru,
    page_memcg, page_to_nid,
)  # fmt: skip
from emu.zone.mm_types import vm_at
from emu.zone.memcg_types import MAX_MEMCGS
from emu.zone.mmzone import Cpu, Lruvec, Machine, page_record
from emu.zone.page import PG_active, PG_workingset, pfn_to_page
from emu.zone.page_ref import SetPageFlag, test_flag
from emu.zone.vmstat_items import WORKINGSET_ACTIVATE_BASE, WORKINGSET_REFAULT_BASE, WORKINGSET_RESTORE_BASE
from shm.atomic import fetch_add, load_acquire
from shm.core import core
from shm.point import site

NODES_SHIFT = 6
MEM_CGROUP_ID_SHIFT = 16
# 64 bits less: one of the xarray value, 1 + nodes + cgroup; two more so that a slot's two low bits fit
EVICTION_MASK = (1 << (64 - 1 - 1 - NODES_SHIFT - MEM_CGROUP_ID_SHIFT - 2)) - 1
S_REFAULT = site("workingset_refault:lru_lock")


@core
def pack_shadow(memcgid: int, nid: int, eviction: int, workingset: int) -> int:
    """``mm/workingset.c:pack_shadow() (5.10)``: never 0, since the root's cgroup id is 1."""
    shadow = (eviction & EVICTION_MASK) << MEM_CGROUP_ID_SHIFT | memcgid + 1
    return (shadow << NODES_SHIFT | nid) << 1 | workingset


@core
def workingset_age_nonresident(m: Machine, lruvec: Lruvec, nr_pages: int) -> None:
    """``mm/workingset.c:workingset_age_nonresident() (5.10)``: a cgroup's and its parent's age grow."""
    fetch_add(lruvec.nonresident_age, "counter", nr_pages)
    if lruvec.memcg != 0:
        fetch_add(m.nodes[lruvec.node].lruvecs[0].nonresident_age, "counter", nr_pages)


@core
def workingset_eviction(m: Machine, cpu: Cpu, pfn: int, target_memcg: int) -> int:
    """``mm/workingset.c:workingset_eviction() (5.10)``: the shadow for a page's slot. The page is locked and isolated.

    ``target_memcg``: the cgroup whose limit is being enforced (index + 1), 0: the machine is short of memory.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    nid = page_to_nid(page)
    lruvec = lruvec_at(m, mem_cgroup_lruvec(m, m.nodes[nid], target_memcg))
    workingset_age_nonresident(m, lruvec, 1)
    eviction = load_acquire(lruvec.nonresident_age, "counter")
    return pack_shadow(target_memcg, nid, eviction, 1 if test_flag(page, PG_workingset) else 0)


@core
def workingset_size(m: Machine, lruvec: Lruvec, file: int) -> int:
    """The pages that a refaulting page competes with: those of the other kinds, anonymous ones only with swap.

    Differs from 5.10: a cgroup has no limit of swap of its own.
    """
    size = lruvec_page_state(m, lruvec, LRU_ACTIVE_FILE)
    if file == 0:
        size += lruvec_page_state(m, lruvec, LRU_INACTIVE_FILE)
    swap = vm_at(m, m.vm).swap
    if swap.pages - swap.inuse_pages > 0:
        size += lruvec_page_state(m, lruvec, LRU_ACTIVE_ANON)
        if file != 0:
            size += lruvec_page_state(m, lruvec, LRU_INACTIVE_ANON)
    return size


@core
def workingset_refault(m: Machine, cpu: Cpu, pfn: int, shadow: int) -> None:
    """``mm/workingset.c:workingset_refault() (5.10)``: the page becomes active if it would have stayed with all the
    memory that the working set has. It is charged already, and not yet on a list."""
    page = page_record(m, pfn_to_page(m, pfn))
    file = 1 if page_is_file_lru(page) else 0
    workingset = shadow & 1
    nid = shadow >> 1 & ((1 << NODES_SHIFT) - 1)
    memcg = (shadow >> (1 + NODES_SHIFT) & ((1 << MEM_CGROUP_ID_SHIFT) - 1)) - 1
    eviction = shadow >> (1 + NODES_SHIFT + MEM_CGROUP_ID_SHIFT)
    if nid >= m.nr_nodes or memcg > MAX_MEMCGS:
        return
    node = m.nodes[nid]
    evicted = lruvec_at(m, mem_cgroup_lruvec(m, node, memcg))
    distance = (load_acquire(evicted.nonresident_age, "counter") - eviction) & EVICTION_MASK
    mod_node_page_state(m, cpu, node, WORKINGSET_REFAULT_BASE + file, 1)
    if distance > workingset_size(m, evicted, file):
        return
    SetPageFlag(page, PG_active)
    workingset_age_nonresident(m, lruvec_at(m, mem_cgroup_lruvec(m, node, page_memcg(page))), 1)
    mod_node_page_state(m, cpu, node, WORKINGSET_ACTIVATE_BASE + file, 1)
    fetch_add(node.lruvecs[page_memcg(page)].workingset_activate[file], "counter", 1)
    if workingset != 0:
        SetPageFlag(page, PG_workingset)
        here = m.nodes[page_to_nid(page)]
        flags = spin_lock_irqsave(cpu, here.lru_lock, S_REFAULT)
        lru_note_cost_page(m, cpu, pfn)
        spin_unlock_irqrestore(m, cpu, here.lru_lock, flags)
        mod_node_page_state(m, cpu, node, WORKINGSET_RESTORE_BASE + file, 1)


@core
def workingset_activation(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/workingset.c:workingset_activation() (5.10)``: an activation ages what is not in memory."""
    page = page_record(m, pfn_to_page(m, pfn))
    node = m.nodes[page_to_nid(page)]
    workingset_age_nonresident(m, lruvec_at(m, mem_cgroup_page_lruvec(m, node, page)), 1)
