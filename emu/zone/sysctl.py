"""``/proc/sys/vm`` of a running machine (``kernel/sysctl.c``, ``mm/page_alloc.c`` and others (5.10.262)).

The table says what there is and which values are taken; :func:`sysctl_write` changes one on a CPU of the machine, with
everything that follows from it. A value out of range is EINVAL and changes nothing.

Differs from 5.10: ``dirty_bytes`` and ``dirty_background_bytes`` don't exist, only the ratios do. What a write sets off
in higher rooms (``compact_memory``, ``drop_caches``, waking the flusher) is behind :func:`sysctl_action`.
"""

from dataclasses import dataclass

from emu.zone.mm_types import Vm
from emu.zone.mmzone import MAX_NR_ZONES, NR_NUMA_STATS, PAGESET_SIZE, Cpu, Machine, pageset_at
from emu.zone.setup import setup_pagesets, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks
from emu.zone.wmark_init import setup_min_slab_ratio, setup_min_unmapped_ratio
from shm.atomic import store_release
from shm.core import as_entries, core, entry, seam
from shm.struct import At, Struct, address_of, i32, offset_of, record_at, size_of, struct

__all__ = ["SYSCTLS", "SYSCTL_ENTRIES", "Sysctl", "sysctl_action", "sysctl_read", "sysctl_write"]

EACCES = 13
EINVAL = 22
INT_MAX = (1 << 31) - 1
INT_MIN = -(1 << 31)
MIN_PERCPU_PAGELIST_FRACTION = 8


@dataclass(frozen=True)
class Sysctl:
    """One file in ``/proc/sys/vm``: its number in the core, the field that holds it, what may be written."""

    number: int
    field: str  # of Vm, or m.FIELD of Machine; "": write-only
    low: int = INT_MIN
    high: int = INT_MAX
    count: int = 1


@struct
class CtlInt(Struct):
    """The ``int`` that an entry's ``data`` points to."""

    value: int = i32()


int_at = At(CtlInt)
INT_SIZE = size_of(CtlInt)


def _offset(sysctl: Sysctl) -> int:
    """Of the field in its record; -1 for none."""
    if not sysctl.field:
        return -1
    cls, name = (Machine, sysctl.field[2:]) if sysctl.field.startswith("m.") else (Vm, sysctl.field)
    assert getattr(cls, name).size == INT_SIZE * sysctl.count, f"{name} is no int"
    return offset_of(cls, name)


MIN_FREE_KBYTES = 0
WATERMARK_SCALE_FACTOR = 1
WATERMARK_BOOST_FACTOR = 2
LOWMEM_RESERVE_RATIO = 3
PERCPU_PAGELIST_FRACTION = 4
ZONE_RECLAIM_MODE = 5
MIN_UNMAPPED_RATIO = 6
MIN_SLAB_RATIO = 7
SWAPPINESS = 8
DIRTY_RATIO = 9
DIRTY_BACKGROUND_RATIO = 10
DIRTY_EXPIRE_CENTISECS = 11
DIRTY_WRITEBACK_CENTISECS = 12
VFS_CACHE_PRESSURE = 13
COMPACTION_PROACTIVENESS = 14
EXTFRAG_THRESHOLD = 15
COMPACT_UNEVICTABLE_ALLOWED = 16
PANIC_ON_OOM = 17
OOM_KILL_ALLOCATING_TASK = 18
OOM_DUMP_TASKS = 19
NUMA_STAT = 20
PAGE_CLUSTER = 21
COMPACT_MEMORY = 22
DROP_CACHES = 23

SYSCTLS: dict[str, Sysctl] = {
    "min_free_kbytes": Sysctl(MIN_FREE_KBYTES, "m.min_free_kbytes", 0),
    "watermark_scale_factor": Sysctl(WATERMARK_SCALE_FACTOR, "m.watermark_scale_factor", 1, 3000),
    "watermark_boost_factor": Sysctl(WATERMARK_BOOST_FACTOR, "m.watermark_boost_factor", 0),
    "lowmem_reserve_ratio": Sysctl(LOWMEM_RESERVE_RATIO, "m.lowmem_reserve_ratio", count=MAX_NR_ZONES),
    "percpu_pagelist_fraction": Sysctl(PERCPU_PAGELIST_FRACTION, "m.percpu_pagelist_fraction", 0),
    "zone_reclaim_mode": Sysctl(ZONE_RECLAIM_MODE, "m.node_reclaim_mode", 0),
    "min_unmapped_ratio": Sysctl(MIN_UNMAPPED_RATIO, "min_unmapped_ratio", 0, 100),
    "min_slab_ratio": Sysctl(MIN_SLAB_RATIO, "min_slab_ratio", 0, 100),
    "swappiness": Sysctl(SWAPPINESS, "m.swappiness", 0, 200),
    "dirty_ratio": Sysctl(DIRTY_RATIO, "m.vm_dirty_ratio", 0, 100),
    "dirty_background_ratio": Sysctl(DIRTY_BACKGROUND_RATIO, "dirty_background_ratio", 0, 100),
    "dirty_expire_centisecs": Sysctl(DIRTY_EXPIRE_CENTISECS, "dirty_expire_centisecs", 0),
    "dirty_writeback_centisecs": Sysctl(DIRTY_WRITEBACK_CENTISECS, "dirty_writeback_centisecs"),
    "vfs_cache_pressure": Sysctl(VFS_CACHE_PRESSURE, "vfs_cache_pressure", 0),
    "compaction_proactiveness": Sysctl(COMPACTION_PROACTIVENESS, "compaction_proactiveness", 0, 100),
    "extfrag_threshold": Sysctl(EXTFRAG_THRESHOLD, "extfrag_threshold", 0, 1000),
    "compact_unevictable_allowed": Sysctl(COMPACT_UNEVICTABLE_ALLOWED, "compact_unevictable_allowed", 0, 1),
    "panic_on_oom": Sysctl(PANIC_ON_OOM, "panic_on_oom", 0, 2),
    "oom_kill_allocating_task": Sysctl(OOM_KILL_ALLOCATING_TASK, "oom_kill_allocating_task"),
    "oom_dump_tasks": Sysctl(OOM_DUMP_TASKS, "oom_dump_tasks"),
    "numa_stat": Sysctl(NUMA_STAT, "m.numa_stat_enabled", 0, 1),
    "page-cluster": Sysctl(PAGE_CLUSTER, "page_cluster", 0),
    "compact_memory": Sysctl(COMPACT_MEMORY, ""),
    "drop_caches": Sysctl(DROP_CACHES, "", 1, 4),
}
NR_SYSCTLS = len(SYSCTLS)
IN_VM = tuple(int(not s.field.startswith("m.")) for s in SYSCTLS.values())
OFFSETS = tuple(_offset(s) for s in SYSCTLS.values())
LOW = tuple(s.low for s in SYSCTLS.values())
HIGH = tuple(s.high for s in SYSCTLS.values())
COUNT = tuple(s.count for s in SYSCTLS.values())


@seam
def sysctl_action(m: Machine, cpu: Cpu, which: int, value: int) -> int:
    """What a write sets off beyond this room; its body is ``emu.reclaim.ctl``. Nothing: 0."""
    return 0


@core(cold=True)
def set_percpu_pagelist_fraction(m: Machine, cpu: Cpu, value: int) -> int:
    """``mm/page_alloc.c:percpu_pagelist_fraction_sysctl_handler() (5.10)``: a part that would be most of a zone is
    refused."""
    if value != 0 and value < MIN_PERCPU_PAGELIST_FRACTION:
        return -EINVAL
    if value != m.percpu_pagelist_fraction:
        m.percpu_pagelist_fraction = value
        setup_pagesets(m, cpu)
    return 0


@core(cold=True)
def set_numa_stat(m: Machine, value: int) -> None:
    """``mm/vmstat.c:sysctl_vm_numa_stat_handler() (5.10)``: switched off, the counters are cleared."""
    if value == m.numa_stat_enabled:
        return
    m.numa_stat_enabled = value
    if value != 0:
        return
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            for i in range(NR_NUMA_STATS):
                store_release(zone.numa_stat[i], "counter", 0)
                for c in range(m.nr_parties):
                    pageset_at(m, zone.pageset + c * PAGESET_SIZE).numa_stat_diff[i] = 0


@core(cold=True)
def store_value(m: Machine, which: int, index: int, value: int) -> None:
    """``*table->data``; nothing for a file that can only be written."""
    if OFFSETS[which] >= 0:
        base = m.vm if IN_VM[which] != 0 else 0
        int_at(m, base + OFFSETS[which] + index * INT_SIZE).value = value


@core(cold=True)
def follow_up(m: Machine, cpu: Cpu, which: int) -> None:
    """What the allocator computes from a value that has been stored."""
    if which == MIN_FREE_KBYTES:
        m.user_min_free_kbytes = m.min_free_kbytes
        setup_per_zone_wmarks(m, cpu)
    elif which == WATERMARK_SCALE_FACTOR:
        setup_per_zone_wmarks(m, cpu)
    elif which == LOWMEM_RESERVE_RATIO:
        setup_per_zone_lowmem_reserve(m)
    elif which == MIN_UNMAPPED_RATIO:
        setup_min_unmapped_ratio(m)
    elif which == MIN_SLAB_RATIO:
        setup_min_slab_ratio(m)


@entry
def sysctl_write(m: Machine, cpu: Cpu, which: int, index: int, value: int) -> int:
    """Write one value, ``index`` among several in one file: 0, or -EINVAL and nothing has changed."""
    if which < 0 or which >= NR_SYSCTLS or index < 0 or index >= COUNT[which]:
        return -EINVAL
    if value < LOW[which] or value > HIGH[which]:
        return -EINVAL
    if which == PERCPU_PAGELIST_FRACTION:
        return set_percpu_pagelist_fraction(m, cpu, value)
    if which == NUMA_STAT:
        set_numa_stat(m, value)
        return 0
    store_value(m, which, index, max(value, 0) if which == LOWMEM_RESERVE_RATIO else value)
    follow_up(m, cpu, which)
    return sysctl_action(m, cpu, which, value)


def sysctl_read(m: Machine, name: str) -> list[int]:
    """The values of a file. Those that can only be written have none."""
    what = SYSCTLS[name]
    if not what.field:
        raise PermissionError(EACCES, "write only", f"vm.{name}")
    holder = m if what.field.startswith("m.") else record_at(Vm, address_of(m) + m.vm)
    value = getattr(holder, what.field.removeprefix("m."))
    return [int(v) for v in value] if what.count > 1 else [int(value)]


SYSCTL_ENTRIES = as_entries(sysctl_write)
