"""What tests of swap, writeback, slab and memory cgroups share: a machine with a disk that tests drive by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import emu.mm.rmap_walk  # noqa: F401
from emu.mm import (
    disk,
    flusher,
    memcontrol,
    page_cache,
    page_dirty,
    page_io,
    page_lock,
    page_writeback,
    pagevec,
    slab,
    swap_state,
    swapfile,
)  # fmt: skip
from emu.mm.alloc import alloc_page
from emu.mm.bandwidth import wb_update_dirty_ratelimit, wb_update_write_bandwidth
from emu.mm.dirty_limits import (
    DirtyThrottle,
    domain_dirty_limits,
    global_dirty_limits,
    over_bg_thresh,
    wb_position_ratio,
)  # fmt: skip
from emu.mm.filemap import create_file
from emu.mm.page_writeback import dirty_rates
from emu.mm.swapon import swapoff, swapon
from emu.zone.boot import Shape
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE
from emu.zone.init_vm import disk_party, flusher_party
from emu.zone.mm_types import (
    AS_FILE,
    AS_SHMEM,
    PRIVATE_MEMCG_SHIFT,
    PRIVATE_SWAP_MASK,
    SLOT_SIZE,
    SWAP_COUNT_SIZE,
    AddressSpace,
    Slot,
    SwapCount,
    Vm,
    file_at,
    file_record,
    vm_at,
)  # fmt: skip
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine, page_record
from emu.zone.page import PAGE_MAPPING_ANON, PG_swapbacked, PG_uptodate, pfn_to_page, set_flag
from emu.zone.slab_types import SLAB_SIZE, Slab, SlabArea
from emu.zone.validate_io import IO_BOOT_RULES, IO_RULES
from emu.zone.vmstat import fold_node, fold_zone
from shm.core import entry
from shm.struct import record_at, size_of
from tests.bench import Bench, _published, bench, one_zone

KNOWN: tuple[tuple[Any, str], ...] = (
    (swapfile, "get_swap_page swap_free put_swap_page swap_duplicate swapcache_prepare free_swap_and_cache"),
    (swapfile, "get_nr_swap_pages total_swap_pages vm_swap_full"),
    (swap_state, "add_to_swap delete_from_swap_cache try_to_free_swap reuse_swap_page swapin"),
    (swap_state, "lookup_swap_cache __swapin_nr_pages"),
    (page_dirty, "set_page_dirty clear_page_dirty_for_io cancel_dirty_page set_page_writeback end_page_writeback"),
    (page_io, "writepage"),
    (page_lock, "unlock_page"),
    (pagevec, "lru_add_drain put_page"),
    (page_cache, "delete_from_page_cache"),
    (disk, "submit_read submit_write congestion_wait wait_iff_congested set_wb_congested clear_wb_congested"),
    (page_writeback, "balance_dirty_pages_ratelimited dirty_poll_interval wb_max_pause"),
    (page_writeback, "wakeup_flusher_threads wb_start_background_writeback"),
    (flusher, "write_cache_pages"),
    (slab, "count_objects scan_objects"),
    (memcontrol, "mem_cgroup_charge mem_cgroup_uncharge calculate_high_delay"),
)  # fmt: skip

mem_cgroup_charge, lru_cache_add, put_page = memcontrol.mem_cgroup_charge, pagevec.lru_cache_add, pagevec.put_page
lock_page, unlock_page = page_lock.lock_page, page_lock.unlock_page
add_to_page_cache_lru = page_cache.add_to_page_cache_lru


@entry
def anon_page(m: Machine, cpu: Cpu, mm_id: int, slot: int, memcg: int) -> int:
    """A page of an address space as a fault makes it: locked, on a pagevec, one reference for its table entry; -1: no
    memory, -12: over the group's limit."""
    pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
    if pfn < 0:
        return -1
    page = page_record(m, pfn_to_page(m, pfn))
    set_flag(page, PG_swapbacked | PG_uptodate)
    if mem_cgroup_charge(m, cpu, pfn, memcg, GFP_HIGHUSER_MOVABLE) != 0:
        put_page(m, cpu, pfn)
        return -12
    page.mapping = mm_id << 2 | PAGE_MAPPING_ANON
    page.index = slot
    lru_cache_add(m, cpu, pfn)
    lock_page(m, cpu, pfn)
    return pfn


@entry
def file_page(m: Machine, cpu: Cpu, file: int, index: int) -> int:
    """A page of a file, read already, with no other reference than the page cache's."""
    pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
    if file_record(m, file_at(m, vm_at(m, m.vm), file)).kind == AS_SHMEM:
        set_flag(page_record(m, pfn_to_page(m, pfn)), PG_swapbacked)
    if add_to_page_cache_lru(m, cpu, pfn, file, index, GFP_HIGHUSER_MOVABLE) != 0:
        put_page(m, cpu, pfn)
        return -1
    set_flag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
    unlock_page(m, cpu, pfn)
    put_page(m, cpu, pfn)
    return pfn


@entry
def fold(m: Machine, cpu: Cpu) -> None:
    """All of a party's differentials into the counters."""
    for nid in range(m.nr_nodes):
        fold_node(m, cpu, m.nodes[nid])
        for zid in range(MAX_NR_ZONES):
            if m.nodes[nid].node_zones[zid].present_pages != 0:
                fold_zone(m, cpu, m.nodes[nid].node_zones[zid])


@entry
def throttled(m: Machine, cpu: Cpu, dtc: DirtyThrottle) -> None:
    """What ``balance_dirty_pages()`` works out of ``avail``, ``dirty`` and ``wb_dirty``."""
    vm = vm_at(m, m.vm)
    domain_dirty_limits(m, cpu, vm, dtc)
    dtc.wb_thresh = dtc.thresh
    wb_position_ratio(vm, dtc)
    dirty_rates(vm, dtc)


@entry
def ratelimit_after(m: Machine, dtc: DirtyThrottle, dirtied: int, elapsed: int) -> None:
    """``wb_update_dirty_ratelimit()``"""
    wb_update_dirty_ratelimit(vm_at(m, m.vm), dtc, dirtied, elapsed)


@entry
def bandwidth_after(m: Machine, elapsed: int, written: int) -> None:
    """``wb_update_write_bandwidth()``"""
    wb_update_write_bandwidth(vm_at(m, m.vm).wb, elapsed, written)


@entry
def limits(m: Machine, cpu: Cpu) -> int:
    """``global_dirty_limits()``"""
    return global_dirty_limits(m, cpu)


@entry
def over_background(m: Machine, cpu: Cpu) -> bool:
    """``wb_over_bg_thresh()``"""
    return over_bg_thresh(m, cpu)


io: dict[str, Any] = {name: _published(getattr(module, name)) for module, names in KNOWN for name in names.split()}
for _fn in (anon_page, file_page, fold, throttled, ratelimit_after, bandwidth_after, limits, over_background,
            create_file, swapon, swapoff, disk.disk_round, flusher.flusher_round, memcontrol.set_memcg_limit,
            slab.kmem_cache_alloc,
            slab.kmem_cache_free, slab.object_get, slab.object_put):  # fmt: skip
    io[_fn.__name__] = _fn
ENTRIES = list(io.values())


class IoBench(Bench):
    """A bench with files, swap and a disk that takes no time."""

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.base + self.m.vm)

    def call(self, name: str, *args: Any, cpu: int = 0) -> int:
        """A function of the core that takes the machine and a CPU first."""
        return int(io[name](self.m, self.cpu(cpu), *args) or 0)

    def ask(self, name: str, *args: Any) -> int:
        """One that takes the machine, and no CPU."""
        return int(io[name](self.m, *args) or 0)

    def new_file(self, pages: int, kind: int = AS_FILE) -> int:
        return int(create_file(self.m, kind, pages))

    def file(self, file: int) -> AddressSpace:
        return record_at(AddressSpace, self.base + self.vm.files + (file - 1) * size_of(AddressSpace))

    def slot(self, file: int, index: int) -> int:
        return record_at(Slot, self.base + self.file(file).i_pages + index * SLOT_SIZE).value

    def swap_count(self, entry: int) -> SwapCount:
        return record_at(SwapCount, self.base + self.vm.swap.swap_map + entry * SWAP_COUNT_SIZE)

    def swap_slot(self, entry: int) -> Slot:
        return record_at(Slot, self.base + self.vm.swap.swap_cache + entry * SLOT_SIZE)

    def flags(self, pfn: int) -> int:
        return self.page(pfn).page_flags

    def entry_of(self, pfn: int) -> int:
        return self.page(pfn).private & PRIVATE_SWAP_MASK

    def memcg_of(self, pfn: int) -> int:
        return self.page(pfn).private >> PRIVATE_MEMCG_SHIFT

    def area(self) -> SlabArea:
        return record_at(SlabArea, self.base + self.vm.slab)

    def slab(self, obj: int) -> Slab:
        return record_at(Slab, self.base + self.area().slabs + (obj - 1) // 32 * SLAB_SIZE)

    def disk(self) -> int:
        """Turns of the disk until its queue is empty."""
        turns = 0
        while self.vm.disk.head != self.vm.disk.tail:
            disk.disk_round(self.m, self.cpu(disk_party(self.m)))
            turns += 1
        return turns

    def flush(self) -> bool:
        return bool(flusher.flusher_round(self.m, self.cpu(flusher_party(self.m))))

    def stat(self, item: int, nid: int = 0) -> int:
        """A node's counter with all differentials folded into it."""
        for party in range(self.m.nr_parties):
            fold(self.m, self.cpu(party))
        return self.m.nodes[nid].vm_stat[item].counter

    def event(self, item: int) -> int:
        return sum(self.cpu(party).vm_events[item] for party in range(self.m.nr_parties))

    def findings(self) -> list[str]:
        """What the rules of this room say."""
        return [text for rule in (*IO_RULES, *IO_BOOT_RULES) for text in rule(self.m)]


@contextmanager
def iobench(of: Shape | None = None, swap: int = 0, **tuning: Any) -> Iterator[IoBench]:
    """Boot one. The rules of swap, writeback, slab and memory cgroups hold at its end."""
    shape = of or one_zone()
    with bench(replace(shape, swap=swap), **tuning) as made:
        made.__class__ = IoBench
        b: IoBench = made  # type: ignore[assignment]
        b.vm.disk.latency_ns = b.vm.disk.page_ns = 0
        yield b
        if b.strict:
            assert b.findings() == []
