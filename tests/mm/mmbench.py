"""What tests of the page cache, address spaces and LRU lists share: a machine with files, user tasks and swap."""

import contextlib
import threading  # noqa: TID251 - one process plays CPUs and disk, nothing is forked
import types
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from emu.mm import (
    alloc,
    filemap,
    memory,
    mlock,
    mmap,
    page_cache,
    page_dirty,
    page_lock,
    pagevec,
    readahead,
    rmap,
    shmem,
    swap_state,
    truncate,
    vfs,
    workingset,
    zap,
)  # fmt: skip
from emu.mm import exit as process_exit
from emu.mm.disk import disk_round
from emu.mm.memcontrol import set_memcg_limit
from emu.mm.page_io import writepage
from emu.mm.seams import page_mkclean
from emu.zone.board import Board
from emu.zone.boot import Shape
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE,
    AS_FILE,
    MM_SIZE,
    PTE_SHIFT,
    SLOT_SIZE,
    AddressSpace,
    Mm,
    Slot,
    Vm,
)  # fmt: skip
from emu.zone.mmzone import MAX_NR_ZONES, NR_LRU_LISTS, Cpu, Lruvec, Machine, Node
from emu.zone.page import PG_writeback
from emu.zone.sched import Task, user_task
from emu.zone.snapshot import pageset_of, view, walk
from emu.zone.vmstat import fold_node, fold_zone
from emu.zone.vmstat_items import NODE_STAT_NAMES, VM_EVENT_NAMES, ZONE_STAT_NAMES
from shm.core import entry
from shm.struct import record_at
from tests.bench import Bench, _published, bench, one_zone

KNOWN: tuple[tuple[Any, str], ...] = (
    (alloc, "alloc_page"),
    (process_exit, "do_exit exit_mmap"),
    (filemap, "generic_file_read generic_file_write"),
    (memory, "handle_mm_fault touch"),
    (mlock, "mlock munlock"),
    (mmap, "mmap munmap"),
    (page_cache, "add_to_page_cache_lru delete_from_page_cache find_get_page find_or_create_page"),
    (page_dirty, "set_page_dirty clear_page_dirty_for_io end_page_writeback set_page_writeback"),
    (page_lock, "lock_page lock_page_killable unlock_page wait_on_page_bit"),
    (pagevec, ("activate_page deactivate_file_page lru_add_drain lru_add_drain_all lru_cache_add "
              "lru_note_cost mark_page_accessed put_page rotate_reclaimable_page")),
    (readahead, "page_cache_sync_ra get_init_ra_size get_next_ra_size"),
    (rmap, "page_referenced page_referenced_unlocked remove_migration_ptes try_to_unmap"),
    (shmem, "shmem_getpage"),
    (swap_state, "add_to_swap delete_from_swap_cache try_to_free_swap"),
    (truncate, "invalidate_mapping_pages truncate_inode_pages truncate_setsize"),
    (vfs, "vfs_read vfs_write"),
    (workingset, "workingset_eviction workingset_refault"),
    (zap, "zap_page_range"),
)  # fmt: skip

mm = types.SimpleNamespace(**{name: _published(getattr(of, name)) for of, names in KNOWN for name in names.split()})


@entry
def io_write(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``writepage()``"""
    return writepage(m, cpu, pfn)


@entry
def mkclean(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``page_mkclean()``"""
    return page_mkclean(m, cpu, pfn)


@entry
def switch_to(m: Machine, cpu: Cpu, k: int) -> None:
    """The CPU runs user task ``k``."""
    cpu.current = user_task(m, k)


@entry
def fold(m: Machine, cpu: Cpu) -> None:
    """All of a party's differentials into the counters."""
    for nid in range(m.nr_nodes):
        fold_node(m, cpu, m.nodes[nid])
        for zid in range(MAX_NR_ZONES):
            if m.nodes[nid].node_zones[zid].present_pages != 0:
                fold_zone(m, cpu, m.nodes[nid].node_zones[zid])


@entry
def touch_range(m: Machine, cpu: Cpu, mm_id: int, start: int, nr: int, write: int) -> int:
    """Touch pages in order; ``VM_FAULT_*`` of the first that failed, or 0."""
    for slot in range(start, start + nr):
        met = one_touch(m, cpu, mm_id, slot, write)
        if met & 0x10047 & ~4 != 0:
            return met
    return 0


one_touch = memory.touch
Thread, Happened = threading.Thread, threading.Event
ENTRIES = [
    *vars(mm).values(), io_write, mkclean, switch_to, fold, touch_range, filemap.create_file, truncate.remove_file,
    truncate.drop_pagecache, mmap.mm_create, disk_round, set_memcg_limit,
]  # fmt: skip


class MmBench(Bench):
    """Short words for what tests do with files and address spaces. Functions of ``mm`` are methods: ``b.mmap(...)``."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(mm, name)
        return lambda *args, cpu=0: function(self.m, self.cpu(cpu), *args)

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.idle = Happened()

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.base + self.m.vm)

    def node(self, nid: int = 0) -> Node:
        return self.m.nodes[nid]

    def lruvec(self, memcg: int = 0, nid: int = 0) -> Lruvec:
        return self.m.nodes[nid].lruvecs[memcg]

    def lru(self, which: int, memcg: int = 0, nid: int = 0) -> list[int]:
        """Members of an LRU list, head first."""
        return list(walk(self.m, self.lruvec(memcg, nid).lists[which], self.m.max_pfn))

    def file_of(self, file: int) -> AddressSpace:
        return record_at(AddressSpace, self.base + self.vm.files + (file - 1) * ADDRESS_SPACE_SIZE)

    def mm_of(self, mm_id: int) -> Mm:
        return record_at(Mm, self.base + self.vm.mms + (mm_id - 1) * MM_SIZE)

    def pte(self, mm_id: int, slot: int) -> Slot:
        return record_at(Slot, self.base + self.mm_of(mm_id).pgd + slot * SLOT_SIZE)

    def slot(self, file: int, index: int) -> Slot:
        return record_at(Slot, self.base + self.file_of(file).i_pages + index * SLOT_SIZE)

    def mapped(self, mm_id: int, slot: int) -> int:
        """pfn in a page table entry."""
        return int(self.pte(mm_id, slot).value) >> PTE_SHIFT

    def cached(self, file: int, index: int) -> int:
        """pfn in a file's slot, -1: none."""
        value = int(self.slot(file, index).value)
        return value >> 2 if value & 3 == 1 else -1

    def user(self, k: int) -> Task:
        return record_at(Task, self.base + int(user_task(self.m, k)))

    def new_file(self, pages: int, kind: int = AS_FILE) -> int:
        made = int(filemap.create_file(self.m, kind, pages))
        assert made
        return made

    def remove_file(self, file: int) -> int:
        return int(truncate.remove_file(self.m, self.cpu(), file))

    def space(self, pages: int = 0, vm_flags: int = 2, file: int = 0, k: int = 0, memcg: int = 0, cpu: int = 0) -> int:
        """Task ``k`` runs on a CPU, with one area from slot 0 on."""
        mm_id = int(mmap.mm_create(self.m, self.cpu(cpu), k, memcg))
        assert mm_id
        if pages:
            assert self.map(mm_id, 0, pages, file, vm_flags) == 0
        switch_to(self.m, self.cpu(cpu), k)
        return mm_id

    def map(self, mm_id: int, start: int, pages: int, file: int = 0, vm_flags: int = 2, pgoff: int = 0) -> int:
        return int(mm.mmap(self.m, mm_id, start, pages, file, vm_flags, pgoff))

    def hiwater(self, mm_id: int) -> int:
        return int(self.mm_of(mm_id).hiwater_rss)

    def touch_all(self, mm_id: int, start: int, pages: int, write: int = 1, cpu: int = 0) -> int:
        return int(touch_range(self.m, self.cpu(cpu), mm_id, start, pages, write))

    def end(self, k: int = 0, cpu: int = 0) -> None:
        """The task exits; the CPU runs its own."""
        mm.do_exit(self.m, self.cpu(cpu), k)
        self.cpu(cpu).current = self.own_task(cpu)

    def own_task(self, cpu: int = 0) -> int:
        from emu.zone.sched import TASK_SIZE

        return int(self.m.tasks) + cpu * TASK_SIZE

    def fill(self, file: int, count: int, first: int = 0) -> list[int]:
        """Write pages of a file and make them clean, as if they had been on the disk: pfns."""
        for i in range(first, first + count):
            assert mm.vfs_write(self.m, self.cpu(), file, i) == 0
        pfns = [self.cached(file, i) for i in range(first, first + count)]
        for pfn in pfns:
            self.clean(pfn)
        return pfns

    def clean(self, pfn: int) -> None:
        """As writing it out would."""
        mm.lock_page(self.m, self.cpu(), pfn)
        mm.clear_page_dirty_for_io(self.m, self.cpu(), pfn)
        mm.unlock_page(self.m, self.cpu(), pfn)

    def flags(self, pfn: int) -> int:
        return int(self.page(pfn).page_flags)

    def event(self, name: str) -> int:
        """A vm event, of all CPUs."""
        at = VM_EVENT_NAMES.index(name)
        return sum(int(self.cpu(i).vm_events[at]) for i in range(self.m.nr_parties))

    def node_stat(self, name: str, nid: int = 0) -> int:
        """A node's counter with all differentials."""
        from emu.zone.mmzone import NODESTAT_SIZE, NodeStat

        at, node = NODE_STAT_NAMES.index(name), self.m.nodes[nid]
        stats = view(self.m, NodeStat, node.per_cpu_nodestats, self.m.nr_parties)
        assert NODESTAT_SIZE == stats.dtype.itemsize
        return int(node.vm_stat[at].counter) + int(stats["vm_node_stat_diff"][:, at].astype(np.int64).sum())

    def zone_stat(self, name: str) -> int:
        """A counter of the last zone with all differentials."""
        at, zone = ZONE_STAT_NAMES.index(name), self.zone()
        diffs = (pageset_of(self.m, zone, i).vm_stat_diff[at] for i in range(self.m.nr_parties))
        return int(zone.vm_stat[at].counter) + sum(int(d) for d in diffs)

    def lru_sizes(self, memcg: int = 0, nid: int = 0) -> list[int]:
        sizes = self.lruvec(memcg, nid).lru_zone_size
        return [sum(sizes[z * NR_LRU_LISTS + lru] for z in range(MAX_NR_ZONES)) for lru in range(NR_LRU_LISTS)]

    def written(self, pfn: int) -> None:
        """Wait until the disk has written a page and has nothing left to do. A completion holds the page for a moment
        after it woke who waits, and what it rotates stays in its party's pagevec until the queue is empty."""
        self.wait_on_page_bit(pfn, PG_writeback)
        for _ in range(2):  # a round without work may have begun before
            self.idle.clear()
            assert self.idle.wait(60)

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """The disk works meanwhile, in a thread: it takes no time."""
        self.vm.disk.latency_ns = self.vm.disk.page_ns = 0
        over = threading.Event()
        party = self.m.nr_cpus + 2 * self.m.nr_nodes

        def serve() -> None:
            while not over.is_set():
                if not disk_round(self.m, self.cpu(party)):
                    self.idle.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def mm_bench(of: Shape | None = None, swap: int = 0, files: int = 8, mms: int = 8, **tuning: Any) -> Iterator[MmBench]:
    """A machine with a few files and tasks, valid when the test is done with it."""
    with bench(replace(of or one_zone(), files=files, mms=mms, swap=swap), **tuning) as b:
        made = MmBench(b.board)
        yield made
        b.strict = made.strict
