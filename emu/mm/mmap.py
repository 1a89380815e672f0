"""Address spaces and their areas (``mm/mmap.c``, ``kernel/fork.c`` (5.10)).

Differs from 5.10: an address space has up to eight areas, which are neither merged nor kept in a tree; the caller says
where an area lies. There is no mmap_lock: only its own task changes an address space's areas, and whoever else looks
for a page goes by the page table entry, under ``page_table_lock``.
"""

from emu.mm.mmu_gather import mmu_gather, tlb_finish_mmu, tlb_gather_mmu
from emu.mm.munlock import munlock_vma_pages_range
from emu.mm.page_table import free_pgtables
from emu.mm.pagevec import lru_add_drain
from emu.mm.vma import file_offset, mm_offset
from emu.mm.zap import ANY_FILE, unmap_page_range
from emu.zone.mm_types import AS_NONE, MAX_VMAS, VM_LOCKED, AddressSpace, Mm, Vma, file_record, mm_record, vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import task_at, user_task
from shm.atomic import cmpxchg, load_acquire, store_release
from shm.core import core, entry
from shm.struct import At, Struct, i32, offset_of, struct

I_MMAP_SLOTS = 64
EINVAL = 22
ENOMEM = 12
NO_VMA = -1
I_MMAP_AT = offset_of(AddressSpace, "i_mmap")


@struct
class MapEntry(Struct):
    """One entry of ``AddressSpace.i_mmap``, to be changed atomically."""

    entry: int = i32()


map_entry_at = At(MapEntry)


@core
def mm_init(m: Machine, mm: Mm, k: int, memcg: int) -> None:
    """``kernel/fork.c:mm_init() (5.10)``: an empty address space."""
    mm.owner = user_task(m, k)
    mm.nr_slots = vm_at(m, m.vm).mm_slots
    mm.total_vm = 0
    mm.locked_vm = 0
    mm.nr_vmas = 0
    mm.hiwater_rss = 0
    mm.memcg = memcg
    store_release(mm, "mm_flags", 0)


@entry
def mm_create(m: Machine, cpu: Cpu, k: int, memcg: int) -> int:
    """A new address space for user task ``k``, which lives from now on: its id, or 0 if that task has one already.
    ``memcg``: index + 1 of the memory cgroup that pays, 0: the root."""
    if k < 0 or k >= vm_at(m, m.vm).nr_mms:
        return 0
    mm = mm_record(m, mm_offset(m, k + 1))
    task = task_at(m, user_task(m, k))
    if load_acquire(task, "alive") != 0 or load_acquire(task, "oom_mm") != 0:
        return 0  # alive, or the oom_reaper still looks at what it had
    if cmpxchg(mm, "mm_users", 0, 1) != 0:
        return 0
    mm_init(m, mm, k, memcg)
    task.process_flags = 0
    task.oom_victim = 0
    task.memcg = memcg
    task.mm = k + 1
    task.dying = 0
    task.nr_dirtied = 0
    store_release(task, "fatal_signal", 0)
    store_release(task, "alive", 1)
    return k + 1


# --- areas ------------------------------------------------------------------------------------------------------------


@core
def free_vma_slot(mm: Mm) -> int:
    """A number for a new area, or -1."""
    for i in range(MAX_VMAS):
        if i >= mm.nr_vmas or mm.vmas[i].end == 0:
            return i
    return NO_VMA


@core
def range_is_free(mm: Mm, start: int, end: int) -> bool:
    """Whether no area lies in ``[start, end)``."""
    for i in range(mm.nr_vmas):
        vma = mm.vmas[i]
        if vma.end != 0 and vma.start < end and vma.end > start:
            return False
    return True


@core
def i_mmap_entry(m: Machine, file: int, i: int) -> int:
    """Offset of one entry of a file's ``i_mmap``."""
    return file_offset(m, file) + I_MMAP_AT + i * 4


@core
def i_mmap_insert(m: Machine, file: int, entry: int) -> bool:
    """``__vma_link_file()``: the file knows of the mapping; false if it has too many. Somebody may walk them
    meanwhile."""
    mapping = file_record(m, file_offset(m, file))
    for i in range(I_MMAP_SLOTS):
        if cmpxchg(map_entry_at(m, i_mmap_entry(m, file, i)), "entry", 0, entry) == 0:
            nr = load_acquire(mapping, "nr_mmaps")
            while nr <= i:
                cmpxchg(mapping, "nr_mmaps", nr, i + 1)
                nr = load_acquire(mapping, "nr_mmaps")
            return True
    return False


@core
def i_mmap_remove(m: Machine, file: int, entry: int) -> None:
    """``__remove_shared_vm_struct()``: other mappings keep their places."""
    for i in range(file_record(m, file_offset(m, file)).nr_mmaps):
        cmpxchg(map_entry_at(m, i_mmap_entry(m, file, i)), "entry", entry, 0)


@core
def mapping_mapped(m: Machine, file: int) -> bool:
    """``mapping_mapped()``: some area maps the file."""
    for i in range(file_record(m, file_offset(m, file)).nr_mmaps):
        if load_acquire(map_entry_at(m, i_mmap_entry(m, file, i)), "entry") != 0:
            return True
    return False


@core
def set_vma(mm: Mm, which: int, start: int, end: int, file: int, vm_flags: int, pgoff: int) -> None:
    """Fill in an area; others find it complete, since ``end`` is written last."""
    vma = mm.vmas[which]
    vma.start = start
    vma.pgoff = pgoff
    vma.vm_flags = vm_flags
    vma.file = file
    store_release(vma, "end", end)
    if which >= mm.nr_vmas:
        store_release(mm, "nr_vmas", which + 1)


@core
def mmap(m: Machine, mm_id: int, start: int, nr_pages: int, file: int, vm_flags: int, pgoff: int) -> int:
    """``mm/mmap.c:mmap_region() (5.10)``: an area over slots ``[start, start + nr_pages)`` of anonymous memory
    (``file`` 0) or of a file from its slot ``pgoff`` on: 0, -EINVAL for a place that is taken or beyond the end,
    -ENOMEM for an area too many."""
    mm = mm_record(m, mm_offset(m, mm_id))
    vm = vm_at(m, m.vm)
    end = start + nr_pages
    if start < 0 or nr_pages <= 0 or end > mm.nr_slots or not range_is_free(mm, start, end):
        return -EINVAL
    if file < 0 or file > vm.nr_files or pgoff < 0:
        return -EINVAL
    if file != 0 and (pgoff + nr_pages > vm.file_slots or file_record(m, file_offset(m, file)).kind == AS_NONE):
        return -EINVAL
    which = free_vma_slot(mm)
    if which == NO_VMA:
        return -ENOMEM
    if file != 0 and not i_mmap_insert(m, file, mm_id << 8 | which):
        return -ENOMEM
    set_vma(mm, which, start, end, file, vm_flags, pgoff)
    mm.total_vm += nr_pages
    if vm_flags & VM_LOCKED != 0:
        mm.locked_vm += nr_pages
    return 0


@core
def remove_vma(m: Machine, mm_id: int, which: int) -> None:
    """``mm/mmap.c:remove_vma() (5.10)``: an area whose pages are gone."""
    mm = mm_record(m, mm_offset(m, mm_id))
    file = mm.vmas[which].file
    set_vma(mm, which, 0, 0, 0, 0, 0)
    if file != 0:
        i_mmap_remove(m, file, mm_id << 8 | which)


@core
def split_vma(m: Machine, mm_id: int, which: int, slot: int) -> int:
    """``mm/mmap.c:__split_vma() (5.10)``: the part from ``slot`` on becomes an area of its own: its number, or -1."""
    mm = mm_record(m, mm_offset(m, mm_id))
    vma = mm.vmas[which]
    new = free_vma_slot(mm)
    if new == NO_VMA:
        return NO_VMA
    if vma.file != 0 and not i_mmap_insert(m, vma.file, mm_id << 8 | new):
        return NO_VMA
    pgoff = vma.pgoff + slot - vma.start
    set_vma(mm, new, slot, vma.end, vma.file, vma.vm_flags, pgoff)
    set_vma(mm, which, vma.start, slot, vma.file, vma.vm_flags, vma.pgoff)
    return new


@core
def isolate_range(m: Machine, mm_id: int, start: int, end: int) -> bool:
    """Split areas so that none crosses ``start`` or ``end``; false without room for the parts."""
    mm = mm_record(m, mm_offset(m, mm_id))
    for which in range(MAX_VMAS):
        vma = mm.vmas[which]
        if which < mm.nr_vmas and vma.start < start < vma.end and split_vma(m, mm_id, which, start) < 0:
            return False
    for which in range(MAX_VMAS):
        vma = mm.vmas[which]
        if which < mm.nr_vmas and vma.start < end < vma.end and split_vma(m, mm_id, which, end) < 0:
            return False
    return True


@core
def next_vma(mm: Mm, slot: int, end: int) -> int:
    """The number of the area with the lowest start in ``[slot, end)``, or -1: areas in the order of their places."""
    best = NO_VMA
    for i in range(mm.nr_vmas):
        vma = mm.vmas[i]
        if vma.end != 0 and slot <= vma.start < end and (best < 0 or vma.start < mm.vmas[best].start):
            best = i
    return best


@core
def unlock_area(m: Machine, cpu: Cpu, mm: Mm, mm_id: int, vma: Vma) -> None:
    """``munlock_vma_pages_all()`` of an area that is locked."""
    if vma.vm_flags & VM_LOCKED != 0:
        mm.locked_vm -= vma.end - vma.start
        munlock_vma_pages_range(m, cpu, mm_id, vma, vma.start, vma.end)


@core
def unmap_region(m: Machine, cpu: Cpu, mm_id: int, start: int, end: int) -> None:
    """``mm/mmap.c:unmap_region() (5.10)``: the areas in ``[start, end)`` lose their pages, then go with the page tables
    that nobody else needs; all pages are freed together."""
    mm = mm_record(m, mm_offset(m, mm_id))
    tlb = mmu_gather()
    lru_add_drain(m, cpu)
    tlb_gather_mmu(m, cpu, tlb)
    which = next_vma(mm, start, end)
    while which >= 0:
        vma = mm.vmas[which]
        unmap_page_range(m, cpu, mm_id, vma.start, vma.end, ANY_FILE, tlb)
        which = next_vma(mm, vma.start + 1, end)
    which = next_vma(mm, start, end)
    while which >= 0:
        vma = mm.vmas[which]
        at = vma.start
        mm.total_vm -= vma.end - vma.start
        remove_vma(m, mm_id, which)
        which = next_vma(mm, at, end)
    free_pgtables(m, cpu, mm_id, start, end, tlb)
    tlb_finish_mmu(m, cpu, tlb)


@core
def munmap(m: Machine, cpu: Cpu, mm_id: int, start: int, nr_pages: int) -> int:
    """``mm/mmap.c:__do_munmap() (5.10)``: 0, -EINVAL, or -ENOMEM if an area would have to be split and there is no room
    for another."""
    mm = mm_record(m, mm_offset(m, mm_id))
    end = start + nr_pages
    if start < 0 or nr_pages <= 0 or end > mm.nr_slots:
        return -EINVAL
    if not isolate_range(m, mm_id, start, end):
        return -ENOMEM
    which = next_vma(mm, start, end)
    while which >= 0:
        unlock_area(m, cpu, mm, mm_id, mm.vmas[which])
        which = next_vma(mm, mm.vmas[which].start + 1, end)
    unmap_region(m, cpu, mm_id, start, end)
    return 0
