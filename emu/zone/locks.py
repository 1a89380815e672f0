"""The locks of a machine by name: what a dead or stuck process held, and what has to be free at rest."""

from collections.abc import Iterator

from emu.zone.init import party_of
from emu.zone.init_vm import vm_of
from emu.zone.mm_types import ADDRESS_SPACE_SIZE, MM_SIZE, AddressSpace, Mm
from emu.zone.mmzone import ZONE_NAMES, Machine
from emu.zone.report import comm
from emu.zone.sched import TASK_SIZE, Task
from emu.zone.slab_types import SLAB_CACHE_NAMES, SlabArea
from shm.spinlock_types import Spinlock
from shm.struct import address_of, record_at

__all__ = ["locks_of", "mutexes_of", "party_name"]


def party_name(m: Machine, index: int) -> str:
    """What the process of a CPU or a daemon is called."""
    return f"cpu{index}" if index < m.nr_cpus else comm(m, index)


def locks_of(m: Machine) -> Iterator[tuple[str, Spinlock]]:
    """All of them."""
    base, vm = address_of(m), vm_of(m)
    for nid in range(m.nr_nodes):
        for zone in m.nodes[nid].node_zones:  # those without pages too: for_each_zone() takes theirs as well
            yield f"zone->lock of node {nid} {ZONE_NAMES[zone.zid]}", zone.lock
        yield f"lru_lock of node {nid}", m.nodes[nid].lru_lock
        yield f"pi_lock of kswapd{nid}", vm.kswapds[nid].pi_lock
    for index in range(m.nr_parties):
        yield f"work_lock of {party_name(m, index)}", party_of(m, index).work_lock
    for at in range(m.nr_tasks):
        yield f"alloc_lock of task {at}", record_at(Task, base + m.tasks + at * TASK_SIZE).alloc_lock
    for at in range(vm.nr_mms):
        yield f"page_table_lock of mm {at + 1}", record_at(Mm, base + vm.mms + at * MM_SIZE).page_table_lock
    for at in range(vm.nr_files):
        file = record_at(AddressSpace, base + vm.files + at * ADDRESS_SPACE_SIZE)
        yield f"i_pages_lock of file {at + 1}", file.i_pages_lock
    area = record_at(SlabArea, base + vm.slab)
    yield "area_lock of the slab caches", area.area_lock
    for name, cache in zip(SLAB_CACHE_NAMES, area.caches, strict=True):
        yield f"lock of slab cache {name}", cache.lock
    yield from (
        ("si_lock of swap", vm.swap.si_lock), ("swap_lock of swap", vm.swap.swap_lock),
        ("queue_lock of the disk", vm.disk.queue_lock), ("bw_lock of writeback", vm.wb.bw_lock),
        ("bitmap_lock of CMA", vm.cma.bitmap_lock), ("oom_reaper_lock", vm.oom_reaper_lock),
    )  # fmt: skip


def mutexes_of(m: Machine) -> Iterator[tuple[str, int]]:
    """The sleeping locks, and those that are only ever tried: each one's owner, index + 1; 0: nobody."""
    vm = vm_of(m)
    yield from (
        ("pcpu_drain_mutex", m.drain_busy), ("cma_mutex", vm.cma.cma_mutex), ("oom_lock", vm.oom_lock),
        ("cpuset_mutex", vm.cpuset_mutex), ("mem_hotplug_lock", vm.mem_hotplug_lock),
        ("lock of nopage_rs", vm.nopage_rs.lock), ("lock of oom_rs", vm.oom_rs.lock),
    )  # fmt: skip
