"""The LRU pages of a recorded state get owners, and go on the LRU lists.

A state says of each page which list it is on, in order, and whether it is referenced, dirty, under writeback and
mapped; not by whom. The owners made up here fit what the emulator needs to reclaim and to migrate the pages:

- anonymous pages are those of the inactive anonymous lists that are mapped: slots of one address space, or of several
  when the tasks are known (from an OOM report), one page table entry each;
- other pages of the anonymous lists are a tmpfs file's: in the recorded guests the root filesystem, of which the
  running programs' text is active and mapped;
- pages of the file lists are those of one file on disk.

Mapped pages of files belong to the first address space. Pages of page tables are taken from those that the state has.
Writeback is not continued: its pages are clean here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emu.workload.own import RecordedTask
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE,
    AS_FILE,
    AS_SHMEM,
    COMMS,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SIZE,
    PTE_DIRTY,
    PTE_FILE,
    PTE_PRESENT,
    PTE_SHIFT,
    PTE_WRITE,
    PTE_YOUNG,
    PTRS_PER_PTE,
    VM_EXEC,
    VM_WRITE,
    XA_PAGE,
    AddressSpace,
    Mm,
    Slot,
    Vm,
)  # fmt: skip
from emu.zone.mmzone import NR_LRU_LISTS, Lruvec, Machine
from emu.zone.page import (
    PAGE_MAPPING_ANON,
    ZONE_ID_MASK,
    PG_active,
    PG_dirty,
    PG_lru,
    PG_referenced,
    PG_swapbacked,
    PG_table,
    PG_unevictable,
    PG_uptodate,
)  # fmt: skip
from emu.zone.sched import Task, user_task
from emu.zone.snapshot import State, StateError, mem_map, view
from emu.zone.state_in import _list_in
from shm.struct import address_of, record_at

__all__ = ["LISTS", "fill_list", "load_lruvecs"]

LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
REFERENCED, DIRTY, MAPPED = 1, 2, 4
TMPFS, DISK = 1, 2  # file ids
VM_READAHEAD_PAGES = 32
OTOOL = (RecordedTask(2000, "otool", 0, 0, -1, 0),)
Pages = np.ndarray[Any, Any]


@dataclass
class _Owned:
    """pfns with their flags, in the order of the lists."""

    pfns: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)

    def add(self, pfn: int, bits: int) -> None:
        self.pfns.append(pfn)
        self.bits.append(bits)

    def mapped_first(self) -> "_Owned":
        order = sorted(range(len(self.pfns)), key=lambda i: not self.bits[i] & MAPPED)
        return _Owned([self.pfns[i] for i in order], [self.bits[i] for i in order])

    @property
    def mapped(self) -> int:
        return sum(1 for bits in self.bits if bits & MAPPED)


def load_lruvecs(m: Machine, state: State, tasks: Sequence[RecordedTask] = ()) -> None:
    """Put the state's LRU pages on the lists of a machine that :func:`emu.zone.state_in.load_state` has loaded.

    ``tasks``: who has the anonymous memory; without them one task, otool, has it all.
    """
    pages = mem_map(m)
    anon, tmpfs, disk = _Owned(), _Owned(), _Owned()
    for lruvec in state.get("lruvecs", []):
        record = m.nodes[lruvec["nid"]].lruvecs[0]  # memory cgroups of the recorded guests have no limits: all in one
        record.anon_cost, record.file_cost = lruvec["anon_cost"], lruvec["file_cost"]
        record.nonresident_age.counter = lruvec["nonresident_age"]
        for lru, name in enumerate(LISTS):
            pfns, flags = lruvec["lists"][name]
            if len(pfns) != len(flags):
                raise StateError(f"lruvec {name}: {len(pfns)} pages with {len(flags)} flags")
            fill_list(m, record, lru, pfns, pages)
            for pfn, digit in zip(pfns, flags, strict=True):
                bits = int(digit, 16)
                _flag_page(pages, pfn, lru, bits)
                is_anon = bits & MAPPED and not lru & 1
                (disk if lru in (2, 3) else anon if is_anon else tmpfs).add(pfn, bits)
    tasks = tasks or OTOOL
    _give_to_tasks(m, pages, anon, tasks)
    for number, kind, owned in ((TMPFS, AS_SHMEM, tmpfs), (DISK, AS_FILE, disk)):
        _give_to_file(m, pages, number, kind, owned.mapped_first())
    _give_tables(m, pages, len(tasks))


def fill_list(m: Machine, lruvec: Lruvec, lru: int, pfns: list[int], pages: Pages) -> None:
    """Put pages on an LRU list, in order, and count them by zone."""
    _list_in(m, lruvec.lists[lru], pfns, pages)
    zids = (pages["page_flags"][pfns] & 3).astype(np.int64) if pfns else np.zeros(0, np.int64)
    for zid, count in enumerate(np.bincount(zids, minlength=4)):
        lruvec.lru_zone_size[zid * NR_LRU_LISTS + lru] = int(count)


def _flag_page(pages: Pages, pfn: int, lru: int, bits: int) -> None:
    flags = int(pages["page_flags"][pfn]) & ZONE_ID_MASK | PG_lru | PG_uptodate
    flags |= PG_swapbacked if lru in (0, 1) else 0
    flags |= PG_active if lru in (1, 3) else 0
    flags |= PG_unevictable if lru == 4 else 0
    flags |= PG_referenced if bits & REFERENCED else 0
    flags |= PG_dirty if bits & DIRTY else 0
    page = pages[pfn]
    page["page_flags"], page["refcount"], page["mapcount"], page["private"] = flags, 1, -1, 0


def _vm(m: Machine) -> Vm:
    return record_at(Vm, address_of(m) + m.vm)


def _mm(m: Machine, mm_id: int) -> Mm:
    return record_at(Mm, address_of(m) + _vm(m).mms + (mm_id - 1) * MM_SIZE)


def _file(m: Machine, number: int) -> AddressSpace:
    return record_at(AddressSpace, address_of(m) + _vm(m).files + (number - 1) * ADDRESS_SPACE_SIZE)


def _pte(pfn: int, bits: int, more: int) -> int:
    young = PTE_YOUNG if bits & REFERENCED else 0
    return pfn << PTE_SHIFT | PTE_PRESENT | young | more


def _shares(tasks: Sequence[RecordedTask], pages: int) -> Iterator[tuple[RecordedTask, int]]:
    """How many of the pages each task has: what the report says, the rest the last one's."""
    for task in tasks[:-1]:
        take = min(task.anon if task.anon >= 0 else task.rss, pages)
        pages -= take
        yield task, take
    yield tasks[-1], pages


def _give_to_tasks(m: Machine, pages: Pages, anon: _Owned, tasks: Sequence[RecordedTask]) -> None:
    at = 0
    for k, (who, count) in enumerate(_shares(tasks, len(anon.pfns))):
        mm, mm_id = _mm(m, k + 1), k + 1
        task = record_at(Task, address_of(m) + user_task(m, k))
        task.pid = task.tgid = who.pid
        task.mm, task.alive, task.oom_score_adj = mm_id, 1, who.oom_score_adj
        task.comm = COMMS.index(who.comm) if who.comm in COMMS else COMMS.index("user")
        mm.mm_users, mm.owner, mm.nr_slots = 1, user_task(m, k), _vm(m).mm_slots
        mm.total_vm = max(who.total_vm, count)
        slots = view(m, Slot, mm.pgd, mm.nr_slots)["value"]
        for slot, i in enumerate(range(at, at + count)):
            pfn = anon.pfns[i]
            slots[slot] = _pte(pfn, anon.bits[i], PTE_WRITE | PTE_DIRTY)
            pages["mapping"][pfn], pages["index"][pfn] = mm_id << 2 | PAGE_MAPPING_ANON, slot
            pages["mapcount"][pfn] = 0
        mm.rss_stat[MM_ANONPAGES].counter = count
        _add_vma(mm, count, 0, VM_WRITE)
        at += count


def _add_vma(mm: Mm, pages: int, file: int, flags: int) -> int:
    """A further area behind those there are; its first slot."""
    vma = mm.vmas[mm.nr_vmas]
    vma.start = mm.vmas[mm.nr_vmas - 1].end if mm.nr_vmas else 0
    vma.end, vma.file, vma.vm_flags, vma.pgoff = vma.start + pages, file, flags, 0
    mm.nr_vmas += 1
    return int(vma.start)


def _give_to_file(m: Machine, pages: Pages, number: int, kind: int, owned: _Owned) -> None:
    file, mm = _file(m, number), _mm(m, 1)
    count, mapped = len(owned.pfns), owned.mapped
    file.kind, file.nr_slots, file.nrpages, file.nr_mmaps = kind, count, count, 0
    file.ra_pages, file.prev_pos = VM_READAHEAD_PAGES, -1
    slots = view(m, Slot, file.i_pages, max(count, 1))["value"]
    for index, pfn in enumerate(owned.pfns):
        slots[index] = pfn << 2 | XA_PAGE
        pages["mapping"][pfn], pages["index"][pfn] = number << 2, index
        if index < mapped:
            pages["mapcount"][pfn], pages["refcount"][pfn] = 0, 2
    if mapped == 0:
        return
    file.i_mmap[0], file.nr_mmaps = 1 << 8 | mm.nr_vmas, 1
    first = _add_vma(mm, mapped, number, VM_EXEC)
    ptes = view(m, Slot, mm.pgd, mm.nr_slots)["value"]
    for index in range(mapped):
        ptes[first + index] = _pte(owned.pfns[index], owned.bits[index], PTE_FILE)
    mm.rss_stat[MM_SHMEMPAGES if kind == AS_SHMEM else MM_FILEPAGES].counter = mapped
    mm.total_vm += mapped


def _give_tables(m: Machine, pages: Pages, spaces: int) -> None:
    """Page tables for all areas, as far as the state's pages of that kind go."""
    tables = iter(np.flatnonzero(pages["page_flags"] & PG_table).tolist())
    for mm in (_mm(m, mm_id) for mm_id in range(1, spaces + 1)):
        used = -(-int(mm.vmas[mm.nr_vmas - 1].end) // PTRS_PER_PTE)
        pmd = view(m, Slot, mm.pmd, max(used, 1))["value"]
        for at, pfn in zip(range(used), tables, strict=False):
            pmd[at] = pfn + 1
            mm.nr_page_tables += 1
