"""A machine's geometry, and filling its memory (``free_area_init()``, ``memblock_free_all()`` (5.10)).

:class:`Shape` says what the hardware is. :func:`lay_out` computes where everything lies in the segment, :func:`boot`
fills the records and hands all memory to the buddy system, lowest address first and to the tails of the lists.
"""

from dataclasses import dataclass, field

from emu.zone.buddy import FPI_TO_TAIL, __free_one_page
from emu.zone.event import Event
from emu.zone.irq_stat import IRQ_STAT_SIZE
from emu.zone.list import INIT_LIST_HEAD
from emu.zone.lock_class import (
    LOCK_CLASS_BANDWIDTH, LOCK_CLASS_CMA, LOCK_CLASS_DISK, LOCK_CLASS_I_PAGES, LOCK_CLASS_LRU, LOCK_CLASS_OOM_REAPER,
    LOCK_CLASS_PAGE_TABLE, LOCK_CLASS_PI, LOCK_CLASS_SWAP, LOCK_CLASS_SWAP_CACHE, LOCK_CLASS_ZONE,
)  # fmt: skip
from emu.zone.memcg_types import MAX_MEMCGS
from emu.zone.mmzone import (
    CPU_SIZE, MAX_CPUS, MAX_NR_ZONES, MAX_NUMNODES, MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_CMA, MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES, MIGRATE_TYPES, NODESTAT_SIZE, NR_LRU_LISTS, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PAGESET_SIZE,
    PAGE_EXT_SIZE, PAGE_SIZE_OF, ZONE_DMA, ZONE_DMA32, ZONE_MOVABLE, ZONE_NAMES, ZONE_NORMAL, Cpu, Machine, Node, Zone,
    page_record, pageset_at,
)  # fmt: skip
from emu.zone.sched import TASK_SIZE
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE, GATHER_SIZE, MAX_FILES, MAX_MMS, MM_SIZE, PTRS_PER_PTE, SLOT_SIZE, SWAP_COUNT_SIZE, VM_SIZE,
    file_at, file_record, mm_at, mm_record, vm_at,
)  # fmt: skip
from emu.zone.page import PG_reserved, pfn_to_page
from emu.zone.slab_types import slab_area_bytes
from emu.zone.pageblock import init_head, init_pageblock, set_pageblock_migratetype
from emu.zone.setup import (
    refresh_zone_stat_thresholds, setup_pagesets, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks,
)  # fmt: skip
from emu.zone.zonelist_build import __build_all_zonelists
from shm.core import CHECKED, as_entries, core, entry
from shm.lockdep import Lockdep
from shm.lockstat import HISTOGRAM_SIZE, LockHold
from shm.ring import ring_bytes
from shm.spinlock import spin_lock_init
from shm.struct import size_of

DMA_END = 16 << 8  # 16 MiB
MEMORY_BLOCK = 1 << 15  # pages: 128 MiB, a section
DMA32_END = 4 << 18  # 4 GiB


class ShapeError(ValueError):
    """An impossible machine: one line that says what is impossible."""


@dataclass(frozen=True)
class ZoneShape:
    """One populated zone. ``present`` and ``managed`` in pages; ``managed`` <= ``present`` <= ``spanned``."""

    nid: int
    zid: int
    start_pfn: int
    spanned: int
    present: int
    managed: int

    @property
    def name(self) -> str:
        return f"node {self.nid} {ZONE_NAMES[self.zid]}"


@dataclass(frozen=True)
class Shape:
    """The hardware: CPUs with their nodes, zones, distances between nodes."""

    cpu_node: tuple[int, ...]
    zones: tuple[ZoneShape, ...]
    nodes: int
    distance: tuple[tuple[int, ...], ...] = field(default=())
    extra_parties: int = 0  # processes beyond the CPUs and daemons
    files: int = 64  # address spaces of files, at most
    mms: int = 64  # user tasks with an address space, at most
    swap: int = 0  # pages of the swap device
    hotplug: int = 0  # pages behind the last zone that have a struct page: room for memory plugged in at run time
    memory_block: int = 0  # pages that go offline and online together; 0: as large as in the kernel, if possible

    @property
    def daemons(self) -> int:
        """kswapd and kcompactd of each node, then the disk, the flusher and the oom_reaper."""
        return 2 * self.nodes + 3

    @property
    def slots(self) -> int:
        """Most pages of one file or address space: twice the memory, so that it can be over-committed."""
        pages = sum(z.present for z in self.zones) * 2
        return -(-pages // PAGEBLOCK_NR_PAGES) * PAGEBLOCK_NR_PAGES

    @property
    def max_pfn(self) -> int:
        """One past the last pfn, rounded up so that every buddy has a struct page."""
        end = max(z.start_pfn + z.spanned for z in self.zones)
        unit = self.block_pages if self.hotplug else MAX_ORDER_NR_PAGES
        return -(-end // unit) * unit + self.hotplug

    @property
    def block_pages(self) -> int:
        """``memory_block_size_bytes()`` in pages: 128 MiB, or the largest size down to 4 MiB of which each node has a
        whole block in one zone."""
        size = self.memory_block or MEMORY_BLOCK
        while not self.memory_block and size > MAX_ORDER_NR_PAGES:
            whole = {z.nid for z in self.zones if -(-z.start_pfn // size) * size + size <= z.start_pfn + z.spanned}
            if len(whole) == len({z.nid for z in self.zones}):
                break
            size >>= 1
        return size

    def far(self, a: int, b: int) -> int:
        """``node_distance()``"""
        return self.distance[a][b] if self.distance else (10 if a == b else 20)


def shape_of(cpus: int, node_pages: list[int], movable: int = 0) -> Shape:
    """A PC: node 0 has DMA, DMA32 and Normal as far as its memory goes; ``movable`` pages of each node are movable."""
    if not 1 <= cpus <= MAX_CPUS:
        raise ShapeError(f"{cpus} CPUs: a machine has 1 to {MAX_CPUS}")
    nodes = len(node_pages)
    if not 1 <= nodes <= MAX_NUMNODES:
        raise ShapeError(f"{nodes} nodes: a machine has 1 to {MAX_NUMNODES}")
    zones: list[ZoneShape] = []
    at = 0
    for nid, pages in enumerate(node_pages):
        pages -= pages % MAX_ORDER_NR_PAGES
        start, end = at, at + pages
        if pages < 4 * MAX_ORDER_NR_PAGES:
            raise ShapeError(f"node {nid}: {pages * 4} KiB of memory is too little, 16 MiB is the least")
        split = end - movable + movable % MAX_ORDER_NR_PAGES
        if split <= start or movable < 0:
            raise ShapeError(f"node {nid}: {movable * 4} KiB movable is all of its {pages * 4} KiB or more")
        borders = ((ZONE_DMA, DMA_END), (ZONE_DMA32, DMA32_END), (ZONE_NORMAL, split), (ZONE_MOVABLE, end))
        low = start
        for zid, border in borders:
            high = min(border, end if zid == ZONE_MOVABLE else split)
            if high > low:
                first = max(low, 1)  # page 0 belongs to the firmware
                zones.append(ZoneShape(nid, zid, first, high - first, high - first, high - first))
                low = high
        at = end
    return Shape(
        tuple(c * nodes // cpus for c in range(cpus)), tuple(zones), nodes,
        files=min(MAX_FILES, 2 * cpus + 16), mms=min(MAX_MMS, max(64, 8 * cpus)),
    )  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Byte offsets of the parts of a segment."""

    parties: int
    tasks: int
    pagesets: int
    nodestats: int
    rings: int
    pageblocks: int
    page_ext: int
    script: int
    mem_map: int
    vm: int
    files: int
    mms: int
    slab: int
    swap_map: int
    swap_cache: int
    file_slots: int
    mm_slots: int
    page_tables: int
    gathers: int
    cma_bitmap: int
    lockdep: int  # the checker of locking rules, in checked mode
    lock_stats: int  # two histograms of each zone->lock and lru_lock
    lock_rings: int
    irq_stats: int
    size: int
    nr_tasks: int
    ring_capacity: int
    script_size: int


def lay_out(shape: Shape, *, ring_capacity: int, script_size: int, tuning: "Tuning") -> Layout:
    """Where everything lies. Offsets are multiples of 4096, so each part starts on a page of its own."""
    cpus, zones = len(shape.cpu_node), shape.nodes * MAX_NR_ZONES
    parties = cpus + shape.daemons + shape.extra_parties
    tasks = parties + 1 + shape.mms
    at = 0

    def take(size: int) -> int:
        nonlocal at
        start = at
        at += -(-size // 4096) * 4096
        return start

    take(size_of(Machine))
    return Layout(
        parties=take((parties + 1) * CPU_SIZE), tasks=take(tasks * TASK_SIZE),
        pagesets=take(zones * parties * PAGESET_SIZE), nodestats=take(shape.nodes * parties * NODESTAT_SIZE),
        rings=take(parties * ring_bytes(ring_capacity, Event)),
        pageblocks=take(shape.max_pfn >> PAGEBLOCK_ORDER),
        page_ext=take(shape.max_pfn * PAGE_EXT_SIZE if tuning.page_debug else 0),
        script=take(script_size), mem_map=take(shape.max_pfn * PAGE_SIZE_OF),
        vm=take(VM_SIZE), files=take(shape.files * ADDRESS_SPACE_SIZE), mms=take(shape.mms * MM_SIZE),
        slab=take(slab_area_bytes(sum(z.present for z in shape.zones))),
        swap_map=take(shape.swap * SWAP_COUNT_SIZE), swap_cache=take(shape.swap * SLOT_SIZE),
        file_slots=take(shape.files * shape.slots * SLOT_SIZE), mm_slots=take(shape.mms * shape.slots * SLOT_SIZE),
        gathers=take(parties * GATHER_SIZE),
        page_tables=take(shape.mms * (shape.slots // PTRS_PER_PTE) * SLOT_SIZE),
        cma_bitmap=take(shape.max_pfn // 32 * SLOT_SIZE),
        lockdep=take(size_of(Lockdep) if CHECKED else 0),
        lock_stats=take(shape.nodes * (MAX_NR_ZONES + 1) * 2 * HISTOGRAM_SIZE if tuning.lock_stat else 0),
        lock_rings=take(parties * ring_bytes(ring_capacity, LockHold) if tuning.lock_events else 0),
        irq_stats=take(parties * IRQ_STAT_SIZE if tuning.irq_stat else 0),
        size=at, nr_tasks=tasks,
        ring_capacity=ring_capacity, script_size=script_size,
    )  # fmt: skip


@dataclass(frozen=True)
class Tuning:
    """Sysctls and boot parameters, named as in the kernel."""

    min_free_kbytes: int = -1  # -1: as 5.10 computes it
    watermark_boost_factor: int = 15000
    watermark_scale_factor: int = 10
    percpu_pagelist_fraction: int = 0
    zone_reclaim_mode: int = 0
    swappiness: int = 60
    dirty_ratio: int = 20
    lowmem_reserve_ratio: tuple[int, ...] = (256, 256, 32, 0)
    page_debug: int = 0  # PD_*
    debug_guardpage_minorder: int = 0
    page_reporting: bool = False
    transparent_hugepage: bool = True
    cma: int = 0  # pages reserved for CMA at the end of the highest zone
    deferred: bool = False  # leave most struct pages for later, as CONFIG_DEFERRED_STRUCT_PAGE_INIT does
    spin_limit: int = 1000  # looks at a lock before parking: some 20 us, less than it takes to wake a process
    lock_stat: bool = False
    lock_events: bool = False  # with lock_stat: each hold on record
    irq_stat: bool = False
    no_cpuset_cookie: bool = False
    no_zonelist_cookie: bool = False
    deviations: int = 0  # from 5.10.262, bits of emu.zone.deviations
    disk_latency_ns: int = 100_000
    disk_page_ns: int = 10_240  # 400 MB a second


@core
def init_zone(m: Machine, zone: Zone) -> None:
    """Empty lists, a free lock, empty pagesets."""
    zone.initialized = 1
    spin_lock_init(zone.lock, LOCK_CLASS_ZONE)
    for order in range(MAX_ORDER):
        area = zone.free_area[order]
        area.nr_free = 0
        for mt in range(MIGRATE_TYPES):
            INIT_LIST_HEAD(m, area.free_list[mt])
    for c in range(m.nr_parties):
        pset = pageset_at(m, zone.pageset + c * PAGESET_SIZE)
        pset.count = 0
        pset.batch = 1
        for mt in range(MIGRATE_PCPTYPES):
            INIT_LIST_HEAD(m, pset.lists[mt])


@core
def init_node(m: Machine, node: Node) -> None:
    """Empty LRU lists under a free lock."""
    spin_lock_init(node.lru_lock, LOCK_CLASS_LRU)
    for i in range(1 + MAX_MEMCGS):
        for lru in range(NR_LRU_LISTS):
            INIT_LIST_HEAD(m, node.lruvecs[i].lists[lru])


@core
def init_vm(m: Machine) -> None:
    """The locks of everything behind ``Machine.vm``."""
    vm = vm_at(m, m.vm)
    spin_lock_init(vm.swap.si_lock, LOCK_CLASS_SWAP)
    spin_lock_init(vm.swap.swap_lock, LOCK_CLASS_SWAP_CACHE)
    spin_lock_init(vm.wb.bw_lock, LOCK_CLASS_BANDWIDTH)
    spin_lock_init(vm.disk.queue_lock, LOCK_CLASS_DISK)
    spin_lock_init(vm.oom_reaper_lock, LOCK_CLASS_OOM_REAPER)
    spin_lock_init(vm.cma.bitmap_lock, LOCK_CLASS_CMA)
    for nid in range(m.nr_nodes):
        spin_lock_init(vm.kswapds[nid].pi_lock, LOCK_CLASS_PI)
    for i in range(vm.nr_files):
        spin_lock_init(file_record(m, file_at(m, vm, i + 1)).i_pages_lock, LOCK_CLASS_I_PAGES)
    for i in range(vm.nr_mms):
        spin_lock_init(mm_record(m, mm_at(m, vm, i + 1)).page_table_lock, LOCK_CLASS_PAGE_TABLE)


@entry
def init_zones(m: Machine) -> None:
    """:func:`init_zone` for all zones, populated or not."""
    init_vm(m)
    for nid in range(m.nr_nodes):
        init_node(m, m.nodes[nid])
        for zid in range(MAX_NR_ZONES):
            init_zone(m, m.nodes[nid].node_zones[zid])


@core
def free_block(m: Machine, cpu: Cpu, zone: Zone, pfn: int, order: int) -> None:
    """One aligned block to the buddy system; its struct pages are made now only if it is smaller than a pageblock."""
    migratetype = MIGRATE_CMA if pfn >= zone.deferred_end_pfn - zone.cma_pages else MIGRATE_MOVABLE
    if order >= PAGEBLOCK_ORDER:
        init_head(m, zone, pfn)
    __free_one_page(m, cpu, pfn, zone, order, migratetype, FPI_TO_TAIL)


@entry
def memblock_free_all(m: Machine, cpu: Cpu, zone: Zone, start: int, end: int, deferred_from: int) -> None:
    """``memblock_free_all()`` for one zone's memory ``[start, end)``: largest aligned blocks first to last.

    From ``deferred_from`` on the pages are left to :func:`emu.zone.deferred.deferred_grow_zone`.
    """
    zone.deferred_end_pfn = end
    first = start & -PAGEBLOCK_NR_PAGES
    for pfn in range(first, end, PAGEBLOCK_NR_PAGES):
        mt = MIGRATE_CMA if pfn >= end - zone.cma_pages else MIGRATE_MOVABLE
        set_pageblock_migratetype(m, pfn, mt)
        if pfn < start or pfn + PAGEBLOCK_NR_PAGES > end:
            init_pageblock(m, zone, pfn)
    for pfn in range(first, start):
        page_record(m, pfn_to_page(m, pfn)).page_flags |= PG_reserved
    pfn = start
    while pfn < min(end, deferred_from):
        order = 0
        while order < MAX_ORDER - 1 and pfn & (1 << order) == 0:
            order += 1
        while pfn + (1 << order) > end:
            order -= 1
        free_block(m, cpu, zone, pfn, order)
        pfn += 1 << order
    zone.managed_pages = pfn - start
    zone.first_deferred_pfn = pfn if pfn < end else 0


BOOT_ENTRIES = as_entries(
    init_zones, __build_all_zonelists, memblock_free_all, setup_pagesets, setup_per_zone_wmarks,
    refresh_zone_stat_thresholds, setup_per_zone_lowmem_reserve,
)  # fmt: skip
