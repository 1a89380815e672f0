"""LRU lists for reclaim to work on: pages of files and of address spaces, put there by the functions that do it."""

from emu.mm.alloc import alloc_page
from emu.mm.disk import disk_round
from emu.mm.filemap import create_file
from emu.mm.memcontrol import mem_cgroup_charge
from emu.mm.page_cache import add_to_page_cache_lru
from emu.mm.page_dirty import end_page_writeback, set_page_dirty, set_page_writeback
from emu.mm.page_lock import unlock_page
from emu.mm.page_table import pte_alloc
from emu.mm.pagevec import (
    lru_add_drain,
    lru_cache_add_inactive_or_unevictable,
    put_page,
)  # fmt: skip
from emu.mm.rmap_walk import page_add_file_rmap, page_add_new_anon_rmap
from emu.mm.vma import add_mm_counter, mm_offset, pte_offset
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.init_vm import disk_party
from emu.zone.list import list_move
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE,
    AS_FILE,
    AS_SHMEM,
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SIZE,
    PTE_DIRTY,
    PTE_FILE,
    PTE_PRESENT,
    PTE_SHIFT,
    PTE_WRITE,
    PTE_YOUNG,
    AddressSpace,
    Mm,
    Slot,
    SwapInfo,
    Vm,
    mm_record,
    slot_at,
)  # fmt: skip
from emu.zone.mmzone import (
    MAX_NR_ZONES,
    NODESTAT_SIZE,
    NR_LRU_LISTS,
    Cpu,
    Lruvec,
    Machine,
    Node,
    NodeStat,
    page_record,
)  # fmt: skip
from emu.zone.page import NULL, PG_swapbacked, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag, get_page
from emu.zone.snapshot import walk
from shm.core import as_entries, entry
from shm.struct import record_at
from tests.bench import Bench, _published

INACTIVE_ANON, ACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE, UNEVICTABLE = range(NR_LRU_LISTS)


@entry
def cache_page(m: Machine, cpu: Cpu, file: int, index: int, tmpfs: int, zone: int) -> int:
    """A page that was read into the page cache; its pfn or -1. ``zone``: __GFP_DMA32, or 0."""
    pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE | zone)
    if pfn == NULL:
        return -1
    page = page_record(m, pfn_to_page(m, pfn))
    if tmpfs != 0:
        SetPageFlag(page, PG_swapbacked)
    if add_to_page_cache_lru(m, cpu, pfn, file, index, GFP_HIGHUSER_MOVABLE) < 0:
        put_page(m, cpu, pfn)
        return -1
    SetPageFlag(page, PG_uptodate)
    unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)
    return pfn


@entry
def anon_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, vm_flags: int) -> int:
    """A page that was touched in an address space; its pfn or -1. Its table entry isn't young."""
    if not pte_alloc(m, cpu, mm_id, slot):
        return -1
    pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
    if pfn == NULL:
        return -1
    mm = mm_record(m, mm_offset(m, mm_id))
    mem_cgroup_charge(m, cpu, pfn, mm.memcg, GFP_HIGHUSER_MOVABLE)
    SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    page_add_new_anon_rmap(m, cpu, pfn, mm_id, slot)
    lru_cache_add_inactive_or_unevictable(m, cpu, pfn, vm_flags)
    slot_at(m, pte_offset(mm, slot)).value = pfn << PTE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_DIRTY
    add_mm_counter(mm, MM_ANONPAGES, 1)
    return pfn


@entry
def map_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, pfn: int) -> None:
    """Map a page of a file into an address space."""
    pte_alloc(m, cpu, mm_id, slot)
    mm = mm_record(m, mm_offset(m, mm_id))
    get_page(page_record(m, pfn_to_page(m, pfn)))
    page_add_file_rmap(m, cpu, pfn)
    slot_at(m, pte_offset(mm, slot)).value = pfn << PTE_SHIFT | PTE_PRESENT | PTE_FILE
    add_mm_counter(mm, MM_FILEPAGES, 1)


@entry
def requeue(m: Machine, lruvec: Lruvec, lru: int, pfn: int) -> None:
    """Make a page the first of its list, as if it had come last."""
    list_move(m, page_record(m, pfn_to_page(m, pfn)).lru, lruvec.lists[lru])


write_done = _published(end_page_writeback)
drain = _published(lru_add_drain)
dirty = _published(set_page_dirty)
writeback = _published(set_page_writeback)
LIST_ENTRIES = [
    cache_page,
    anon_page,
    map_page,
    requeue,
    drain,
    dirty,
    writeback,
    write_done,
    *as_entries(create_file, disk_round),
]


class Lists:
    """A bench with files and address spaces."""

    def __init__(self, b: Bench) -> None:
        self.b, self.m = b, b.m

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.b.base + self.m.vm)

    @property
    def swap(self) -> SwapInfo:
        return self.vm.swap

    def node(self, nid: int = 0) -> Node:
        return self.m.nodes[nid]

    def lruvec(self, memcg: int = 0, nid: int = 0) -> Lruvec:
        return self.m.nodes[nid].lruvecs[memcg]

    def space(self, mm_id: int = 1, memcg: int = 0, vm_flags: int = 2, file: int = 0) -> Mm:
        """An address space with one area, that of a file or anonymous."""
        mm = record_at(Mm, self.b.base + self.vm.mms + (mm_id - 1) * MM_SIZE)
        mm.mm_users, mm.memcg, mm.nr_vmas = 1, memcg, 1
        mm.vmas[0].start, mm.vmas[0].end, mm.vmas[0].vm_flags = 0, self.vm.mm_slots, vm_flags
        mm.vmas[0].file = file
        mm.nr_slots = self.vm.mm_slots
        if file:
            mapping = self.mapping(file)
            mapping.i_mmap[mapping.nr_mmaps] = mm_id << 8
            mapping.nr_mmaps += 1
        return mm

    def mapping(self, file: int) -> AddressSpace:
        return record_at(AddressSpace, self.b.base + self.vm.files + (file - 1) * ADDRESS_SPACE_SIZE)

    def file(self, pages: int, kind: int = AS_FILE) -> int:
        made = int(create_file(self.m, kind, pages))
        assert made
        return made

    def fill_file(self, file: int, count: int, first: int = 0, cpu: int = 0, zone: int = 0) -> list[int]:
        """Pages of a file on the inactive list, the first at the tail."""
        tmpfs = int(self.mapping(file).kind == AS_SHMEM)
        pfns = [int(cache_page(self.m, self.b.cpu(cpu), file, first + i, tmpfs, zone)) for i in range(count)]
        assert min(pfns, default=0) >= 0
        self.drain(cpu)
        return pfns

    def fill_anon(self, count: int, mm_id: int = 1, first: int = 0, vm_flags: int = 0, cpu: int = 0) -> list[int]:
        """Anonymous pages on the inactive list, the first at the tail."""
        pfns = [int(anon_page(self.m, self.b.cpu(cpu), mm_id, first + i, vm_flags)) for i in range(count)]
        assert min(pfns, default=0) >= 0
        self.drain(cpu)
        return pfns

    def drain(self, cpu: int = 0) -> None:
        drain(self.m, self.b.cpu(cpu))

    def pte(self, mm_id: int, slot: int) -> Slot:
        mm = record_at(Mm, self.b.base + self.vm.mms + (mm_id - 1) * MM_SIZE)
        return record_at(Slot, self.b.base + mm.pgd + slot * 8)

    def run_disk(self) -> None:
        """All requests are done."""
        party = disk_party(self.m)
        while self.vm.disk.head != self.vm.disk.tail:
            disk_round(self.m, self.b.cpu(party))
        drain(self.m, self.b.cpu(party))

    def touch(self, mm_id: int, slot: int) -> None:
        """What the hardware does on an access."""
        self.pte(mm_id, slot).value |= PTE_YOUNG

    def flags(self, pfn: int) -> int:
        return int(self.b.page(pfn).page_flags)

    def on(self, lru: int, memcg: int = 0, nid: int = 0) -> list[int]:
        """The pages of a list, head first."""
        return list(walk(self.m, self.lruvec(memcg, nid).lists[lru], self.m.max_pfn))

    def sizes(self, memcg: int = 0, nid: int = 0) -> list[int]:
        lruvec = self.lruvec(memcg, nid)
        return [sum(lruvec.lru_zone_size[z * NR_LRU_LISTS + lru] for z in range(MAX_NR_ZONES)) for lru in range(5)]

    def count(self, item: int, cpu: int = 0) -> int:
        return int(self.b.cpu(cpu).vm_events[item])

    def node_state(self, item: int, nid: int = 0) -> int:
        """A node's counter with all differentials."""
        node = self.m.nodes[nid]
        total = node.vm_stat[item].counter
        for i in range(self.m.nr_parties):
            stat = record_at(NodeStat, self.b.base + node.per_cpu_nodestats + i * NODESTAT_SIZE)
            total += stat.vm_node_stat_diff[item]
        return int(total)
