"""Making the pages of an area evictable again (``mm/mlock.c`` (5.10))."""

from emu.cpu.workqueue import cond_resched
from emu.mm.isolate_lru import putback_lru_page
from emu.mm.page_lock import lock_page, unlock_page
from emu.mm.pagevec import lru_add_drain, lruvec_at, mem_cgroup_page_lruvec, put_page
from emu.mm.rmap import page_mapcount, try_to_munlock
from emu.mm.vma import mm_offset, pte_offset
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import del_page_from_lru_list, mod_zone_page_state, page_lru, page_to_nid
from emu.zone.mm_types import PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, VM_LOCKED, Vma, mm_record, slot_at
from emu.zone.mmzone import Cpu, Machine, page_record, zone_at
from emu.zone.page import NULL, PG_lru, PG_mlocked, PG_unevictable, page_zone, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, TestClearPageFlag, get_page, test_flag
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import NR_MLOCK, UNEVICTABLE_PGMUNLOCKED, UNEVICTABLE_PGSTRANDED
from shm.atomic import load_acquire
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

S_MUNLOCK = site("munlock_vma_page:lru_lock")
S_FOLLOW = site("follow_page_pte:page_table_lock")
KEEP = (1 << 32) - 1


@core(cold=True)
def munlock_vma_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/mlock.c:munlock_vma_page() (5.10)``: the page is locked. One that is isolated by somebody else is put on the
    right list by them."""
    page = page_record(m, pfn_to_page(m, pfn))
    node = m.nodes[page_to_nid(page)]
    isolated = False
    flags = spin_lock_irqsave(cpu, node.lru_lock, S_MUNLOCK)
    cleared = TestClearPageFlag(page, PG_mlocked)
    if cleared:
        mod_zone_page_state(m, cpu, zone_at(m, page_zone(m, page)), NR_MLOCK, -1)
        isolated = test_flag(page, PG_lru)
        if isolated:
            get_page(page)
            ClearPageFlag(page, PG_lru)
            lruvec = lruvec_at(m, mem_cgroup_page_lruvec(m, node, page))
            del_page_from_lru_list(m, cpu, page, node, lruvec, page_lru(page))
        else:
            stranded = test_flag(page, PG_unevictable)
            __count_vm_events(cpu, UNEVICTABLE_PGSTRANDED if stranded else UNEVICTABLE_PGMUNLOCKED, 1)
    spin_unlock_irqrestore(m, cpu, node.lru_lock, flags)
    if isolated:
        if page_mapcount(page) > 1:
            try_to_munlock(m, cpu, pfn)
        if not test_flag(page, PG_mlocked):
            __count_vm_events(cpu, UNEVICTABLE_PGMUNLOCKED, 1)
        putback_lru_page(m, cpu, pfn)


@core
def follow_page(m: Machine, cpu: Cpu, mm_id: int, slot: int) -> int:
    """``follow_page(FOLL_GET)``: the page that is mapped in a slot, with a reference, or -1."""
    mm = mm_record(m, mm_offset(m, mm_id))
    pfn = NULL
    spin_lock(cpu.party, mm.page_table_lock, S_FOLLOW)
    pte = load_acquire(slot_at(m, pte_offset(mm, slot)), "value")
    if pte & (PTE_PRESENT | PTE_SPECIAL) == PTE_PRESENT:
        pfn = pte >> PTE_SHIFT
        get_page(page_record(m, pfn_to_page(m, pfn)))
    spin_unlock(cpu.party, mm.page_table_lock)
    return pfn


@core
def munlock_vma_pages_range(m: Machine, cpu: Cpu, mm_id: int, vma: Vma, start: int, end: int) -> None:
    """``mm/mlock.c:munlock_vma_pages_range() (5.10)``: the area isn't locked any more; page by page.

    Differs from 5.10: pages are not taken fifteen at a time (``__munlock_pagevec()``), so the ``lru_lock`` is taken for
    each.
    """
    vma.vm_flags = vma.vm_flags & (KEEP - VM_LOCKED)
    lru_add_drain(m, cpu)
    for slot in range(start, end):
        pfn = follow_page(m, cpu, mm_id, slot)
        if pfn != NULL:
            if lock_page(m, cpu, pfn):
                munlock_vma_page(m, cpu, pfn)
                unlock_page(m, cpu, pfn)
            put_page(m, cpu, pfn)
        if slot & 511 == 511:
            cond_resched(m, cpu)
