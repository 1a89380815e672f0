"""The records behind ``Machine.vm``, and the daemons' places among the parties."""

from emu.zone.boot import Layout, Shape, Tuning
from emu.zone.ctl_types import CS_MEM_EXCLUSIVE
from emu.zone.lock_class import LOCK_CLASS_SLAB, LOCK_CLASS_SLAB_AREA
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE, COMMS, MM_SIZE, PTRS_PER_PTE, SLOT_SIZE, AddressSpace, Mm, Slot, Vm,
)  # fmt: skip
from emu.zone.mmzone import Machine
from emu.zone.sched import TASK_SIZE, Task, user_task
from emu.zone.slab_types import SLAB_AREA_SIZE, SLAB_CACHE_SHAPES, SLAB_SIZE, SlabArea, slab_entries
from shm.atomic import clock_ns
from shm.struct import address_of, record_at

INIT_BW = 100 << 8  # pages a second: 100 MB/s until it has been measured
DIRTY_POLL_THRESH = 32

__all__ = ["disk_party", "flusher_party", "init_vm_records", "kcompactd_party", "kswapd_party", "reaper_party", "vm_of"]


def vm_of(m: Machine) -> Vm:
    """The record at ``Machine.vm``."""
    return record_at(Vm, address_of(m) + m.vm)


def kswapd_party(m: Machine, nid: int) -> int:
    """Index of a node's kswapd among the parties."""
    return m.nr_cpus + nid


def kcompactd_party(m: Machine, nid: int) -> int:
    """Index of a node's kcompactd."""
    return m.nr_cpus + m.nr_nodes + nid


def disk_party(m: Machine) -> int:
    """Index of the disk."""
    return m.nr_cpus + 2 * m.nr_nodes


def flusher_party(m: Machine) -> int:
    """Index of the flusher (writeback's kworker)."""
    return m.nr_cpus + 2 * m.nr_nodes + 1


def reaper_party(m: Machine) -> int:
    """Index of the oom_reaper."""
    return m.nr_cpus + 2 * m.nr_nodes + 2


def init_slab_records(m: Machine, shape: Shape, at: int) -> None:
    """Slab caches with their lists empty."""
    base = address_of(m)
    area = record_at(SlabArea, base + at)
    area.nr_slabs = slab_entries(sum(z.present for z in shape.zones))
    area.slabs = at + SLAB_AREA_SIZE
    area.objects = area.slabs + area.nr_slabs * SLAB_SIZE
    area.area_lock.lock_class = LOCK_CLASS_SLAB_AREA
    heads = [area.unused]
    for cache, (size, order, min_order, flags) in zip(area.caches, SLAB_CACHE_SHAPES, strict=True):
        cache.object_size, cache.oo_order, cache.min_order, cache.cache_flags = size, order, min_order, flags
        cache.min_partial = min(max((size.bit_length() - 1) // 2, 5), 10)
        cache.lock.lock_class = LOCK_CLASS_SLAB
        heads += [*cache.partial, *cache.lru]
    for head in heads:
        head.next = head.prev = (address_of(head) - base) >> 2


def init_vm_records(m: Machine, shape: Shape, layout: Layout, tuning: Tuning) -> None:
    """Places and default sysctls. Locks are made by ``boot.init_vm``."""
    base = address_of(m)
    m.vm = layout.vm
    vm = record_at(Vm, base + m.vm)
    vm.files, vm.nr_files, vm.mms, vm.nr_mms = layout.files, shape.files, layout.mms, shape.mms
    vm.gathers = layout.gathers
    vm.slab, vm.file_slots, vm.mm_slots = layout.slab, shape.slots, shape.slots
    vm.boot_ns = clock_ns()
    init_slab_records(m, shape, layout.slab)
    vm.memory_block, vm.offline_passes = shape.block_pages, 1000
    vm.cma.bitmap = layout.cma_bitmap
    for i in range(shape.files):
        file = record_at(AddressSpace, base + vm.files + i * ADDRESS_SPACE_SIZE)
        file.i_pages = layout.file_slots + i * shape.slots * SLOT_SIZE
    for i in range(shape.mms):
        mm = record_at(Mm, base + vm.mms + i * MM_SIZE)
        mm.pgd = layout.mm_slots + i * shape.slots * SLOT_SIZE
        mm.pmd = layout.page_tables + i * (shape.slots // PTRS_PER_PTE) * SLOT_SIZE
        task = record_at(Task, base + user_task(m, i))
        task.pid = task.tgid = 2000 + i
        task.comm = COMMS.index("user")
        task.mems_allowed = (1 << m.nr_nodes) - 1
        task.il_prev = 7
    for nid in {z.nid for z in shape.zones}:
        vm.kswapds[nid].task = m.tasks + kswapd_party(m, nid) * TASK_SIZE
    swap = vm.swap
    swap.pages = shape.swap and shape.swap - 1  # slot 0 is the header
    swap.swap_map, swap.swap_cache = layout.swap_map, layout.swap_cache
    swap.lowest_bit, swap.highest_bit, swap.cluster_next = 1, max(shape.swap - 1, 0), 1
    swap.ra_hits.counter = 4
    if swap.pages:
        record_at(Slot, base + swap.swap_cache).value = swap.pages << 2  # the header: see emu.mm.swapon
    vm.disk.latency_ns, vm.disk.page_ns = tuning.disk_latency_ns, tuning.disk_page_ns
    vm.no_cpuset_cookie, vm.no_zonelist_cookie = int(tuning.no_cpuset_cookie), int(tuning.no_zonelist_cookie)
    vm.dirty_background_ratio, vm.dirty_expire_centisecs, vm.dirty_writeback_centisecs = 10, 3000, 500
    vm.page_cluster, vm.vfs_cache_pressure, vm.compaction_proactiveness = 3, 100, 20
    vm.extfrag_threshold, vm.compact_unevictable_allowed, vm.oom_dump_tasks = 500, 1, 1
    vm.min_unmapped_ratio, vm.min_slab_ratio = 1, 5
    wb = vm.wb
    wb.write_bandwidth = wb.avg_write_bandwidth = INIT_BW
    wb.dirty_ratelimit = wb.balanced_dirty_ratelimit = INIT_BW
    for i in range(m.nr_tasks):
        record_at(Task, base + m.tasks + i * TASK_SIZE).nr_dirtied_pause = DIRTY_POLL_THRESH
    vm.oom_reaper_delay_ns = 2_000_000_000
    vm.oom_rs.interval_ns, vm.oom_rs.burst = 5_000_000_000, 10
    vm.nopage_rs.interval_ns, vm.nopage_rs.burst = 10_000_000_000, 1
    top = vm.cpusets[0]
    top.online, top.parent, top.cpuset_flags = 1, -1, CS_MEM_EXCLUSIVE
    top.mems_allowed = (1 << m.nr_nodes) - 1
    top.nr_tasks = m.nr_tasks
