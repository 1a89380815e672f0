"""Pagevecs: pages on their way to the LRU lists and between them, fifteen at a time (``mm/swap.c`` (5.10)).

A pagevec is its CPU's own; only the lists are shared, under the node's ``lru_lock``. Other rooms above hold lists of
pages of their own in ``Cpu.scratch``: ``Cpu.batch`` is the argument of :func:`free_page_list` and of
``free_unref_page_list()``, empty between them, and most functions here may use it.
"""

from emu.cpu.cpu_hotplug import lru_add_drain_cpu
from emu.cpu.free import SWAP_CLUSTER_MAX, __free_pages_ok, free_unref_page, free_unref_page_list
from emu.cpu.workqueue import WORK_LRU_ADD_DRAIN, cpu_at, cpu_online, flush_work, lru_add_drain_work, queue_work_on
from emu.mm.lruvec import lru_note_cost, lru_note_cost_page, lruvec_at, mem_cgroup_lruvec, mem_cgroup_page_lruvec
from emu.mm.memcontrol import mem_cgroup_uncharge
from emu.mm.pagevec_move import MOVE_ACTIVATE, MOVE_ADD, MOVE_DEACTIVATE_FILE, MOVE_TAIL, move_page
from emu.mm.workingset import workingset_activation
from emu.zone.buddy import FPI_NONE
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.irq import local_irq_restore, local_irq_save, spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.list import INIT_LIST_HEAD, link_of, list_add
from emu.zone.lru import del_page_from_lru_list, mod_zone_page_state, page_off_lru, page_to_nid
from emu.zone.mm_types import VM_LOCKED
from emu.zone.mmzone import PAGEVEC_SIZE, Cpu, Machine, Page, Pagevec, cpu_record, page_record, zone_at
from emu.zone.page import (
    PG_active, PG_dirty, PG_head, PG_locked, PG_lru, PG_mlocked, PG_referenced, PG_unevictable, PG_waiters,
    compound_order, link_to_pfn, page_zone, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import (
    ClearPageFlag, SetPageFlag, TestSetPageFlag, get_page, get_page_unless_zero, put_page_testzero, test_flag,
)  # fmt: skip
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import NR_MLOCK, PGROTATED, UNEVICTABLE_PGMLOCKED
from shm.atomic import load_acquire
from shm.core import OnStack, core, implements
from shm.point import point, site
from shm.struct import Struct, i64, struct

__all__ = [
    "PAGEVEC_ACTIVATE", "PAGEVEC_DEACTIVATE_FILE", "PAGEVEC_LRU_ADD", "PAGEVEC_ROTATE", "activate_page",
    "begin_release", "deactivate_file_page", "end_release", "free_page_list", "held_lock", "lru_add_drain",
    "lru_add_drain_all", "lru_cache_add", "lru_cache_add_inactive_or_unevictable", "lru_note_cost",
    "lru_note_cost_page", "lruvec_at", "mark_page_accessed", "mem_cgroup_lruvec", "mem_cgroup_page_lruvec",
    "pagevec_release", "put_page", "release_page", "release_pages", "rotate_reclaimable_page",
]  # fmt: skip

# which of Cpu.pagevecs, in the order in which a drain empties them
PAGEVEC_LRU_ADD = 0
PAGEVEC_ROTATE = 1
PAGEVEC_DEACTIVATE_FILE = 2
PAGEVEC_ACTIVATE = 3
NR_PAGEVECS = 4
assert (PAGEVEC_LRU_ADD, PAGEVEC_ROTATE) == (MOVE_ADD, MOVE_TAIL)
assert (PAGEVEC_DEACTIVATE_FILE, PAGEVEC_ACTIVATE) == (MOVE_DEACTIVATE_FILE, MOVE_ACTIVATE)
NO_NODE = -1
S_MOVE = site("pagevec_lru_move_fn:lru_lock")
S_RELEASE = site("release_pages:lru_lock")
S_PUT_LRU = site("__page_cache_release:lru_lock")
S_PUT = site("put_page:put_page_testzero")
S_LRU_PVECS = site("lru_pvecs.lock:local_lock")
S_ROTATE = site("rotate_reclaimable_page:irqsave")
S_SEE_PAGEVEC = site("lru_add_drain_all:read pagevec.nr")


@struct
class HeldLock(Struct):
    """The ``lru_lock`` that ``release_pages()`` holds while pages of one node follow each other."""

    nid: int = i64()  # NO_NODE: none
    flags: int = i64()
    pages: int = i64()  # looked at since it was taken


held_lock = OnStack(HeldLock)


# --- the last reference -----------------------------------------------------------------------------------------------


@core(cold=True)
def __page_cache_release(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:__page_cache_release() (5.10)``: nobody holds the page; off its LRU list."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_lru):
        node = m.nodes[page_to_nid(page)]
        flags = spin_lock_irqsave(cpu, node.lru_lock, S_PUT_LRU)
        lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
        ClearPageFlag(page, PG_lru)
        del_page_from_lru_list(m, cpu, page, node, lruvec, page_off_lru(page))
        spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    ClearPageFlag(page, PG_waiters)


@core(cold=True)
def __put_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:__put_page() (5.10)``: free what nobody holds any more, a compound page as a whole."""
    page = page_record(m, pfn_to_page(m, pfn))
    __page_cache_release(m, cpu, pfn)
    mem_cgroup_uncharge(m, cpu, page)
    if page.page_flags & PG_head != 0:
        __free_pages_ok(m, cpu, pfn, compound_order(m, pfn), FPI_NONE)
    else:
        free_unref_page(m, cpu, pfn)


@core(inline=True)
def put_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``put_page()`` of a page that is no tail."""
    point(cpu.party, S_PUT)
    if put_page_testzero(page_record(m, pfn_to_page(m, pfn))):
        __put_page(m, cpu, pfn)


@core(cold=True)
def free_page_list(m: Machine, cpu: Cpu) -> None:
    """``mem_cgroup_uncharge_list()`` and ``free_unref_page_list()`` of the pages on ``cpu.batch``, which is empty then.

    They have no reference, and are on no LRU list.
    """
    head = cpu.batch
    last = link_of(m, head)
    link = head.next
    while link != last:
        page = page_record(m, pfn_to_page(m, link_to_pfn(m, link)))
        link = page.lru.next
        mem_cgroup_uncharge(m, cpu, page)
    free_unref_page_list(m, cpu)
    INIT_LIST_HEAD(m, head)


@core
def begin_release(m: Machine, cpu: Cpu, held: HeldLock) -> None:
    """The beginning of ``release_pages()``: nothing to free, no ``lru_lock`` held."""
    INIT_LIST_HEAD(m, cpu.batch)
    held.nid = NO_NODE


@core
def unlock_held(m: Machine, cpu: Cpu, held: HeldLock) -> None:
    """Give the ``lru_lock`` up, if one is held."""
    if held.nid != NO_NODE:
        spin_unlock_irqrestore(m, cpu, m.nodes[held.nid].lru_lock, held.flags)
        held.nid = NO_NODE


@core
def release_page(m: Machine, cpu: Cpu, page: Page, held: HeldLock) -> None:
    """One page of ``release_pages()``: its last reference takes it off its LRU list and puts it on ``cpu.batch``. The
    ``lru_lock`` stays held for pages of the same node, up to SWAP_CLUSTER_MAX of them."""
    if held.nid != NO_NODE:
        held.pages += 1
        if held.pages == SWAP_CLUSTER_MAX:
            unlock_held(m, cpu, held)
    if not put_page_testzero(page):
        return
    if test_flag(page, PG_lru):
        nid = page_to_nid(page)
        if nid != held.nid:
            unlock_held(m, cpu, held)
            held.pages = 0
            held.flags = spin_lock_irqsave(cpu, m.nodes[nid].lru_lock, S_RELEASE)
            held.nid = nid
        node = m.nodes[nid]
        lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
        ClearPageFlag(page, PG_lru)
        del_page_from_lru_list(m, cpu, page, node, lruvec, page_off_lru(page))
    ClearPageFlag(page, PG_waiters)
    list_add(m, page.lru, cpu.batch)


@core
def end_release(m: Machine, cpu: Cpu, held: HeldLock) -> None:
    """The end of ``release_pages()``: what was nobody else's is freed together, the last first."""
    unlock_held(m, cpu, held)
    if cpu.batch.next != link_of(m, cpu.batch):
        free_page_list(m, cpu)


@core(cold=True)
def release_pages(m: Machine, cpu: Cpu, pvec: Pagevec) -> None:
    """``mm/swap.c:release_pages() (5.10)``: the references of a pagevec, which is empty then. It has no compound
    pages."""
    held = held_lock()
    begin_release(m, cpu, held)
    for i in range(pvec.nr):
        release_page(m, cpu, page_record(m, pfn_to_page(m, pvec.pages[i])), held)
    pvec.nr = 0
    end_release(m, cpu, held)


# --- pagevecs ---------------------------------------------------------------------------------------------------------


@core(cold=True)
def pagevec_lru_move_fn(m: Machine, cpu: Cpu, pvec: Pagevec, which: int) -> None:
    """``mm/swap.c:pagevec_lru_move_fn() (5.10)``: do with a pagevec's pages what it is for, then release them."""
    locked = NO_NODE
    flags = 0
    moved = 0
    for i in range(pvec.nr):
        pfn = pvec.pages[i]
        page = page_record(m, pfn_to_page(m, pfn))
        nid = page_to_nid(page)
        if nid != locked:
            if locked != NO_NODE:
                spin_unlock_irqrestore(m, cpu, m.nodes[locked].lru_lock, flags)
            locked = nid
            flags = spin_lock_irqsave(cpu, m.nodes[nid].lru_lock, S_MOVE)
        node = m.nodes[nid]
        moved += move_page(m, cpu, which, page, node, lruvec_at(m, mem_cgroup_page_lruvec(m, node, page)))
    if locked != NO_NODE:
        spin_unlock_irqrestore(m, cpu, m.nodes[locked].lru_lock, flags)
    release_pages(m, cpu, pvec)
    if which == PAGEVEC_ROTATE:
        __count_vm_events(cpu, PGROTATED, moved)


@core(inline=True)
def pagevec_add(m: Machine, cpu: Cpu, which: int, pfn: int) -> None:
    """``pagevec_add()``, and what a full pagevec is for. The reference is the pagevec's now."""
    pvec = cpu.pagevecs[which]
    critical_enter(cpu, S_LRU_PVECS)
    pvec.pages[pvec.nr] = pfn
    pvec.nr += 1
    if pvec.nr == PAGEVEC_SIZE:
        pagevec_lru_move_fn(m, cpu, pvec, which)
    critical_exit(cpu)


@core
def lru_cache_add(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:lru_cache_add() (5.10)``: which list is decided when the pagevec is drained."""
    get_page(page_record(m, pfn_to_page(m, pfn)))
    pagevec_add(m, cpu, PAGEVEC_LRU_ADD, pfn)


@core
def lru_cache_add_inactive_or_unevictable(m: Machine, cpu: Cpu, pfn: int, vm_flags: int) -> None:
    """``mm/swap.c:lru_cache_add_inactive_or_unevictable() (5.10)``: a page that was mapped for the first time."""
    page = page_record(m, pfn_to_page(m, pfn))
    if vm_flags & VM_LOCKED != 0 and not TestSetPageFlag(page, PG_mlocked):
        mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_MLOCK, 1)
        __count_vm_events(cpu, UNEVICTABLE_PGMLOCKED, 1)
    lru_cache_add(m, cpu, pfn)


@core(cold=True)
def rotate_reclaimable_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:rotate_reclaimable_page() (5.10)``: written out for reclaim, so it is the next to be looked at."""
    page = page_record(m, pfn_to_page(m, pfn))
    if load_acquire(page, "page_flags") & (PG_locked | PG_dirty | PG_unevictable | PG_lru) != PG_lru:
        return
    get_page(page)
    flags = local_irq_save(cpu, S_ROTATE)
    pagevec_add(m, cpu, PAGEVEC_ROTATE, pfn)
    local_irq_restore(m, cpu, flags)


@core
def activate_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:activate_page() (5.10)``"""
    page = page_record(m, pfn_to_page(m, pfn))
    if load_acquire(page, "page_flags") & (PG_lru | PG_active | PG_unevictable) == PG_lru:
        get_page(page)
        pagevec_add(m, cpu, PAGEVEC_ACTIVATE, pfn)


@core(cold=True)
def __lru_cache_activate_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:__lru_cache_activate_page() (5.10)``: active from the start, if it waits in this CPU's pagevec."""
    pvec = cpu.pagevecs[PAGEVEC_LRU_ADD]
    i = pvec.nr - 1
    while i >= 0:
        if pvec.pages[i] == pfn:
            SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_active)
            return
        i -= 1


@core
def mark_page_accessed(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:mark_page_accessed() (5.10)``: referenced the first time, active the second."""
    page = page_record(m, pfn_to_page(m, pfn))
    flags = load_acquire(page, "page_flags")
    if flags & PG_referenced == 0:
        SetPageFlag(page, PG_referenced)
    elif flags & (PG_unevictable | PG_active) == 0:
        if flags & PG_lru != 0:
            activate_page(m, cpu, pfn)
        else:
            __lru_cache_activate_page(m, cpu, pfn)
        ClearPageFlag(page, PG_referenced)
        workingset_activation(m, cpu, pfn)


@core(cold=True)
def deactivate_file_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/swap.c:deactivate_file_page() (5.10)``: a page that invalidation could not drop."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not test_flag(page, PG_unevictable) and get_page_unless_zero(page):
        pagevec_add(m, cpu, PAGEVEC_DEACTIVATE_FILE, pfn)


# --- draining ---------------------------------------------------------------------------------------------------------


@core
def drain_pagevecs(m: Machine, cpu: Cpu, owner: Cpu) -> None:
    """``lru_add_drain_cpu()``: empty the pagevecs of a CPU, this one or a dead one."""
    critical_enter(cpu, S_LRU_PVECS)
    for which in range(NR_PAGEVECS):
        pvec = owner.pagevecs[which]
        if pvec.nr != 0:
            if which == PAGEVEC_ROTATE:
                flags = local_irq_save(cpu, S_ROTATE)
                pagevec_lru_move_fn(m, cpu, pvec, which)
                local_irq_restore(m, cpu, flags)
            else:
                pagevec_lru_move_fn(m, cpu, pvec, which)
    critical_exit(cpu)


@core
def lru_add_drain(m: Machine, cpu: Cpu) -> None:
    """``mm/swap.c:lru_add_drain() (5.10)``: empty this CPU's pagevecs."""
    drain_pagevecs(m, cpu, cpu)


@implements(lru_add_drain_cpu)
def drain_dead_pagevecs(m: Machine, cpu: Cpu, dead: Cpu) -> None:
    """``mm/swap.c:lru_add_drain_cpu() (5.10)`` of a CPU that doesn't run any more."""
    drain_pagevecs(m, cpu, dead)


@core(cold=True)
def pagevec_release(m: Machine, cpu: Cpu, pvec: Pagevec) -> None:
    """``mm/swap.c:__pagevec_release() (5.10)``: pages that wait in this CPU's pagevecs could not be freed otherwise.

    Differs from 5.10: every release drains, where a pagevec that is used again drains for its first one only.
    """
    lru_add_drain(m, cpu)
    release_pages(m, cpu, pvec)


@implements(lru_add_drain_work)
def lru_add_drain_per_cpu(m: Machine, cpu: Cpu) -> None:
    """``mm/swap.c:lru_add_drain_per_cpu() (5.10)``"""
    lru_add_drain(m, cpu)


@core(cold=True)
def has_pagevecs(m: Machine, index: int) -> bool:
    """Whether a CPU has pages in any pagevec; read without a lock."""
    other = cpu_record(m, cpu_at(m, index))
    for which in range(NR_PAGEVECS):
        if load_acquire(other.pagevecs[which], "nr") != 0:
            return True
    return False


@core(cold=True)
def lru_add_drain_all(m: Machine, cpu: Cpu) -> None:
    """``mm/swap.c:lru_add_drain_all() (5.10)``: every CPU that has pages in its pagevecs drains them itself, and we
    wait for it.

    Differs from 5.10: two of them at once both do the work, where the kernel's second leaves if a third came.
    """
    point(cpu.party, S_SEE_PAGEVEC)
    for index in range(m.nr_cpus):
        if index != cpu.party.index and cpu_online(m, index) and has_pagevecs(m, index):
            queue_work_on(m, cpu, index, WORK_LRU_ADD_DRAIN, 0)
    lru_add_drain(m, cpu)
    for index in range(m.nr_cpus):
        if index != cpu.party.index:
            flush_work(m, cpu, index)
