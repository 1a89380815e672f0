"""The records behind ``Machine.vm``, and the daemons' places among the parties."""

from emu.zone.boot import Layout, Shape
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE, COMMS, MM_SIZE, PTRS_PER_PTE, SLOT_SIZE, AddressSpace, Mm, Vm,
)  # fmt: skip
from emu.zone.mmzone import Machine
from emu.zone.sched import Task, user_task
from shm.atomic import clock_ns
from shm.struct import address_of, record_at

__all__ = ["disk_party", "flusher_party", "init_vm_records", "kcompactd_party", "kswapd_party", "reaper_party"]


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


def init_vm_records(m: Machine, shape: Shape, layout: Layout) -> None:
    """Places and default sysctls. Locks are made by ``boot.init_vm``."""
    base = address_of(m)
    m.vm = layout.vm
    vm = record_at(Vm, base + m.vm)
    vm.files, vm.nr_files, vm.mms, vm.nr_mms = layout.files, shape.files, layout.mms, shape.mms
    vm.slab, vm.file_slots, vm.mm_slots = layout.slab, shape.slots, shape.slots
    vm.boot_ns = clock_ns()
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
    swap = vm.swap
    swap.pages = shape.swap and shape.swap - 1  # slot 0 is the header
    swap.swap_map, swap.swap_cache = layout.swap_map, layout.swap_cache
    swap.lowest_bit, swap.highest_bit, swap.cluster_next = 1, max(shape.swap - 1, 0), 1
    vm.disk.latency_ns, vm.disk.page_ns = 100_000, 10_000  # 0.1 ms, 400 MB/s
    vm.dirty_background_ratio, vm.dirty_expire_centisecs, vm.dirty_writeback_centisecs = 10, 3000, 500
    vm.page_cluster, vm.vfs_cache_pressure, vm.compaction_proactiveness = 3, 100, 20
    vm.extfrag_threshold, vm.compact_unevictable_allowed, vm.oom_dump_tasks = 500, 1, 1
    vm.min_unmapped_ratio, vm.min_slab_ratio = 1, 5
