"""Page migration (``mm/migrate.c`` (5.10)): isolated pages move to other page frames, their users notice nothing.

Pages to be moved are on a list whose head the caller names; where they go is in a MigrateTarget.
"""

from emu.cpu.page_alloc import __alloc_pages_nodemask
from emu.cpu.workqueue import cond_resched
from emu.mm.isolate_lru import putback_lru_page
from emu.mm.migrate_mapping import move_to_new_page
from emu.mm.movable import PG_isolated, PageMovable, __PageMovable, move_movable_page, putback_movable_page
from emu.mm.page_lock import lock_page, trylock_page, unlock_page
from emu.mm.page_dirty import wait_on_page_writeback
from emu.mm.pagevec import lru_add_drain, lru_add_drain_all, put_page
from emu.mm.rmap import TTU_IGNORE_MLOCK, TTU_MIGRATION, page_mapped, remove_migration_ptes, try_to_unmap
from emu.zone.event import EV_MIGRATE_PAGES, record
from emu.zone.gfp import __GFP_HIGHMEM, PF_MEMALLOC
from emu.zone.list import link_of, list_del
from emu.zone.lru import mod_node_page_state, page_is_file_lru, page_to_nid
from emu.zone.mmzone import ZONE_MOVABLE, Cpu, Machine, page_record, zone_at
from emu.zone.types import ListHead
from emu.zone.page import (
    NULL, PG_active, PG_unevictable, PG_writeback, PageCompound, link_to_pfn, page_zone, pfn_to_page,
)  # fmt: skip
from emu.zone.page_ref import ClearPageFlag, page_count, test_flag
from emu.zone.sched import task_at
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import NR_ISOLATED_ANON, PGMIGRATE_FAIL, PGMIGRATE_SUCCESS
from shm.atomic import load_acquire
from shm.core import core, seam
from shm.struct import Struct, i32, i64, struct

EAGAIN = 11
ENOMEM = 12
EBUSY = 16

MIGRATE_ASYNC = 0
MIGRATE_SYNC_LIGHT = 1
MIGRATE_SYNC = 2

MR_COMPACTION = 0
MR_MEMORY_FAILURE = 1
MR_MEMORY_HOTPLUG = 2
MR_SYSCALL = 3
MR_MEMPOLICY_MBIND = 4
MR_NUMA_MISPLACED = 5
MR_CONTIG_RANGE = 6

TARGET_ALLOC = 0
TARGET_COMPACTION = 1
PASSES = 10
FORCE_AFTER = 2


@struct
class MigrateTarget(Struct):
    """``new_page_t``, ``free_page_t`` and their ``private`` (``struct migration_target_control``)."""

    kind: int = i32()  # TARGET_*
    nid: int = i32()  # -1 (NUMA_NO_NODE): the page's own
    gfp_mask: int = i64()
    nmask: int = i64()  # 0: any node


@seam
def compaction_alloc(m: Machine, cpu: Cpu, target: MigrateTarget) -> int:
    """``mm/compaction.c:compaction_alloc() (5.10)``; its body is in ``emu.compact``."""
    return -1


@seam
def compaction_free(m: Machine, cpu: Cpu, target: MigrateTarget, pfn: int) -> None:
    """``mm/compaction.c:compaction_free() (5.10)``; its body is in ``emu.compact``."""
    return


@core(cold=True)
def migrate_prep(m: Machine, cpu: Cpu) -> None:
    """``mm/migrate.c:migrate_prep() (5.10)``: pages in pagevecs can't be isolated, so all CPUs empty theirs."""
    lru_add_drain_all(m, cpu)


@core
def migrate_prep_local(m: Machine, cpu: Cpu) -> None:
    """``mm/migrate.c:migrate_prep_local() (5.10)``: this CPU's only."""
    lru_add_drain(m, cpu)


@core
def mod_isolated(m: Machine, cpu: Cpu, pfn: int, delta: int) -> None:
    """NR_ISOLATED_ANON or _FILE of the page's node."""
    page = page_record(m, pfn_to_page(m, pfn))
    item = NR_ISOLATED_ANON + 1 if page_is_file_lru(page) else NR_ISOLATED_ANON
    mod_node_page_state(m, cpu, m.nodes[page_to_nid(page)], item, delta)


@core
def putback_one(m: Machine, cpu: Cpu, pfn: int) -> None:
    """An isolated page, already off the list, goes back to where it was."""
    page = page_record(m, pfn_to_page(m, pfn))
    if __PageMovable(page):
        putback_movable_page(m, cpu, pfn)
    else:
        mod_isolated(m, cpu, pfn, -1)
        putback_lru_page(m, cpu, pfn)


@core(cold=True)
def putback_movable_pages(m: Machine, cpu: Cpu, head: ListHead) -> None:
    """``mm/migrate.c:putback_movable_pages() (5.10)``: all pages of the list, first one first."""
    end = link_of(m, head)
    link = head.next
    while link != end:
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        link = page.lru.next
        list_del(m, page.lru)
        putback_one(m, cpu, pfn)


@core(cold=True)
def alloc_migration_target(m: Machine, cpu: Cpu, pfn: int, target: MigrateTarget) -> int:
    """``mm/migrate.c:alloc_migration_target() (5.10)``: from the node asked for, or near the page; -1: none."""
    page = page_record(m, pfn_to_page(m, pfn))
    nid = target.nid if target.nid >= 0 else page_to_nid(page)
    gfp_mask = target.gfp_mask
    if zone_at(m, page_zone(m, page)).zid == ZONE_MOVABLE:
        gfp_mask |= __GFP_HIGHMEM
    return __alloc_pages_nodemask(m, cpu, gfp_mask, 0, nid, target.nmask)


@core
def get_new_page(m: Machine, cpu: Cpu, pfn: int, target: MigrateTarget) -> int:
    """``get_new_page()``: as the target says."""
    if target.kind == TARGET_COMPACTION:
        return compaction_alloc(m, cpu, target)
    return alloc_migration_target(m, cpu, pfn, target)


@core
def put_new_page(m: Machine, cpu: Cpu, pfn: int, target: MigrateTarget) -> None:
    """``put_new_page()``: the new page wasn't needed."""
    if target.kind == TARGET_COMPACTION:
        compaction_free(m, cpu, target, pfn)
    else:
        put_page(m, cpu, pfn)


@core
def lock_source(m: Machine, cpu: Cpu, pfn: int, force: int, mode: int) -> int:
    """The page locked and not under writeback: 0, or why not.

    Who reclaims or compacts for its own allocation never waits for a page lock: it may hold that very page.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    if not trylock_page(page):
        if force == 0 or mode == MIGRATE_ASYNC:
            return -EAGAIN
        if task_at(m, cpu.current).process_flags & PF_MEMALLOC != 0:
            return -EAGAIN
        lock_page(m, cpu, pfn)
    if test_flag(page, PG_writeback):
        if mode != MIGRATE_SYNC or force == 0:
            unlock_page(m, cpu, pfn)
            return -EBUSY if mode != MIGRATE_SYNC else -EAGAIN
        wait_on_page_writeback(m, cpu, pfn)
    return 0


@core
def move_unmapped(m: Machine, cpu: Cpu, newpfn: int, pfn: int) -> int:
    """The middle of ``__unmap_and_move()``: migration entries instead of PTEs, the move, PTEs of whoever has it now."""
    page = page_record(m, pfn_to_page(m, pfn))
    rc = -EAGAIN
    was_mapped = page_mapped(page)
    if was_mapped:
        try_to_unmap(m, cpu, pfn, TTU_MIGRATION | TTU_IGNORE_MLOCK)
    if not page_mapped(page):
        rc = move_to_new_page(m, cpu, newpfn, pfn)
    if was_mapped:
        remove_migration_ptes(m, cpu, pfn, newpfn if rc == 0 else pfn)
    return rc


@core
def __unmap_and_move(m: Machine, cpu: Cpu, newpfn: int, pfn: int, force: int, mode: int) -> int:
    """``mm/migrate.c:__unmap_and_move() (5.10)``: 0, -EAGAIN (worth another try) or -EBUSY (not now)."""
    page = page_record(m, pfn_to_page(m, pfn))
    movable = __PageMovable(page)
    rc = lock_source(m, cpu, pfn, force, mode)
    if rc != 0:
        return rc
    rc = -EAGAIN
    if trylock_page(page_record(m, pfn_to_page(m, newpfn))):
        rc = move_movable_page(m, cpu, newpfn, pfn, mode) if movable else move_unmapped(m, cpu, newpfn, pfn)
        unlock_page(m, cpu, newpfn)
    unlock_page(m, cpu, pfn)
    if rc == 0:
        if movable:
            put_page(m, cpu, newpfn)
        else:
            putback_lru_page(m, cpu, newpfn)
    return rc


@core
def freed_meanwhile(m: Machine, cpu: Cpu, pfn: int) -> None:
    """A page of which only isolation's reference is left: nothing to move, its list flags go."""
    page = page_record(m, pfn_to_page(m, pfn))
    ClearPageFlag(page, PG_active)
    ClearPageFlag(page, PG_unevictable)
    if __PageMovable(page):
        lock_page(m, cpu, pfn)
        if not PageMovable(page):
            ClearPageFlag(page, PG_isolated)
        unlock_page(m, cpu, pfn)


@core
def unmap_and_move(m: Machine, cpu: Cpu, pfn: int, target: MigrateTarget, force: int, mode: int) -> int:
    """``mm/migrate.c:unmap_and_move() (5.10)``: 0, -ENOMEM without a new page, -EAGAIN (the page stays on the list),
    or another error (it is put back).

    Differs from 5.10: compound pages on the LRU are put back instead of moved or split.
    """
    page = page_record(m, pfn_to_page(m, pfn))
    rc = 0
    newpfn = NULL
    if page_count(page) == 1:
        freed_meanwhile(m, cpu, pfn)
    elif PageCompound(page):
        rc = -EBUSY
    else:
        newpfn = get_new_page(m, cpu, pfn, target)
        if newpfn == NULL:
            return -ENOMEM
        rc = __unmap_and_move(m, cpu, newpfn, pfn, force, mode)
    if rc == 0:
        list_del(m, page.lru)
        if not __PageMovable(page):
            mod_isolated(m, cpu, pfn, -1)
        put_page(m, cpu, pfn)
        return 0
    if rc != -EAGAIN:
        list_del(m, page.lru)
        putback_one(m, cpu, pfn)
    if newpfn != NULL:
        put_new_page(m, cpu, newpfn, target)
    return rc


@core
def migrate_pages(m: Machine, cpu: Cpu, head: ListHead, target: MigrateTarget, mode: int, reason: int) -> int:
    """``mm/migrate.c:migrate_pages() (5.10)``: pages that were not migrated, or -ENOMEM when a new page was wanting.

    Up to ten passes over the list; from the fourth on it may wait. The caller puts back what is left if the result
    isn't 0. Differs from 5.10: ends early when the machine is stopped; PF_SWAPWRITE doesn't exist since nothing is
    written out.
    """
    end = link_of(m, head)
    nr_failed = 0
    nr_succeeded = 0
    retry = 1
    rc = 0
    attempt = 0
    while attempt < PASSES and retry != 0 and rc != -ENOMEM and load_acquire(m, "stop") == 0:
        retry = 0
        link = head.next
        while link != end and rc != -ENOMEM:
            pfn = link_to_pfn(m, link)
            link = page_record(m, pfn_to_page(m, pfn)).lru.next
            cond_resched(m, cpu)
            rc = unmap_and_move(m, cpu, pfn, target, 1 if attempt > FORCE_AFTER else 0, mode)
            if rc == 0:
                nr_succeeded += 1
            elif rc == -EAGAIN:
                retry += 1
            else:
                nr_failed += 1
        attempt += 1
    if rc != -ENOMEM:
        nr_failed += retry
    __count_vm_events(cpu, PGMIGRATE_SUCCESS, nr_succeeded)
    __count_vm_events(cpu, PGMIGRATE_FAIL, nr_failed)
    if cpu.trace != 0:
        record(m, cpu, EV_MIGRATE_PAGES, -1, 0, 0, 0, nr_succeeded | nr_failed << 32, mode | reason << 8)
    return rc if rc == -ENOMEM else nr_failed
