"""How many pages may be dirty, and how hard those who dirty pages are slowed down (``mm/page-writeback.c`` (5.10)).

Differs from 5.10: there is one device and no writeback domain of a memory cgroup, so the device's share of the limit
is all of it; ``dirty_bytes`` and strict limits don't exist.
"""

from emu.zone.mm_types import Vm, vm_at
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine
from emu.zone.sched import task_at
from emu.zone.vmstat_items import NR_ACTIVE_FILE, NR_FILE_DIRTY, NR_FREE_PAGES, NR_INACTIVE_FILE, NR_WRITEBACK
from shm.atomic import load_acquire
from shm.core import OnStack, core
from shm.struct import Struct, i64, struct

PAGE_SIZE = 4096
UINT_MAX = 0xFFFFFFFF
RATELIMIT_CALC_SHIFT = 10


@struct
class DirtyThrottle(Struct):
    """``struct dirty_throttle_control``, and what ``balance_dirty_pages()`` works out from it."""

    avail: int = i64()
    dirty: int = i64()  # dirty and under writeback
    thresh: int = i64()
    bg_thresh: int = i64()
    wb_dirty: int = i64()
    wb_thresh: int = i64()
    pos_ratio: int = i64()
    nr_reclaimable: int = i64()
    dirty_ratelimit: int = i64()  # pages a second
    task_ratelimit: int = i64()
    max_pause: int = i64()  # jiffies
    min_pause: int = i64()
    nr_dirtied_pause: int = i64()
    exceeded: int = i64()


dirty_throttle = OnStack(DirtyThrottle)


@core
def global_node_page_state(m: Machine, item: int) -> int:
    """``global_node_page_state()``: all nodes' together, without differentials."""
    x = 0
    for nid in range(m.nr_nodes):
        x += load_acquire(m.nodes[nid].vm_stat[item], "counter")
    return max(x, 0)


@core
def global_zone_page_state(m: Machine, item: int) -> int:
    """``global_zone_page_state()``"""
    x = 0
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            x += load_acquire(m.nodes[nid].node_zones[zid].vm_stat[item], "counter")
    return max(x, 0)


@core
def global_dirtyable_memory(m: Machine) -> int:
    """``mm/page-writeback.c:global_dirtyable_memory() (5.10)``: free pages beyond the reserves, the page cache, and 1
    so that nobody divides by 0."""
    x = global_zone_page_state(m, NR_FREE_PAGES)
    x -= min(x, m.totalreserve_pages)
    return x + global_node_page_state(m, NR_INACTIVE_FILE) + global_node_page_state(m, NR_ACTIVE_FILE) + 1


@core
def domain_dirty_limits(m: Machine, cpu: Cpu, vm: Vm, dtc: DirtyThrottle) -> None:
    """``mm/page-writeback.c:domain_dirty_limits() (5.10)``: the two thresholds from ``avail``. The ratios are rounded
    to parts of PAGE_SIZE first; a real-time task may go a quarter further."""
    thresh = m.vm_dirty_ratio * PAGE_SIZE // 100 * dtc.avail // PAGE_SIZE
    bg_thresh = vm.dirty_background_ratio * PAGE_SIZE // 100 * dtc.avail // PAGE_SIZE
    if task_at(m, cpu.current).rt != 0:
        bg_thresh += bg_thresh // 4 + vm.wb.dirty_limit // 32
        thresh += thresh // 4 + vm.wb.dirty_limit // 32
    thresh = min(thresh, UINT_MAX)
    dtc.thresh = thresh
    dtc.bg_thresh = bg_thresh if bg_thresh < thresh else thresh // 2


@core
def global_dirty_limits(m: Machine, cpu: Cpu) -> int:
    """``mm/page-writeback.c:global_dirty_limits() (5.10)``: the dirty threshold | the background threshold << 32."""
    dtc = dirty_throttle()
    dtc.avail = global_dirtyable_memory(m)
    domain_dirty_limits(m, cpu, vm_at(m, m.vm), dtc)
    return dtc.thresh | dtc.bg_thresh << 32


@core(inline=True)
def dirty_freerun_ceiling(thresh: int, bg_thresh: int) -> int:
    """``dirty_freerun_ceiling()``: up to here nobody is slowed down."""
    return (thresh + bg_thresh) // 2


@core(inline=True)
def hard_dirty_limit(vm: Vm, thresh: int) -> int:
    """``hard_dirty_limit()``: the threshold, which may have fallen faster than pages can be written."""
    return max(thresh, vm.wb.dirty_limit)


@core
def read_dirty(m: Machine, cpu: Cpu, vm: Vm, dtc: DirtyThrottle) -> None:
    """Where we are: all dirty pages and those under writeback, the device's own, and the limits."""
    dtc.nr_reclaimable = global_node_page_state(m, NR_FILE_DIRTY)
    dtc.avail = global_dirtyable_memory(m)
    dtc.dirty = dtc.nr_reclaimable + global_node_page_state(m, NR_WRITEBACK)
    domain_dirty_limits(m, cpu, vm, dtc)
    dtc.wb_thresh = dtc.thresh
    dtc.wb_dirty = dtc.nr_reclaimable + max(load_acquire(vm.wb.nr_writeback, "counter"), 0)


@core
def pos_ratio_polynom(setpoint: int, dirty: int, limit: int) -> int:
    """``mm/page-writeback.c:pos_ratio_polynom() (5.10)``: ``1 + ((setpoint - dirty) / (limit - setpoint))^3`` in
    fixed point, between 0 and 2. The division is C's: towards 0."""
    far = (setpoint - dirty) << RATELIMIT_CALC_SHIFT
    scale = (limit - setpoint) | 1
    x = far // scale if far >= 0 else -(-far // scale)
    ratio = x * x >> RATELIMIT_CALC_SHIFT
    ratio = (ratio * x >> RATELIMIT_CALC_SHIFT) + (1 << RATELIMIT_CALC_SHIFT)
    return min(max(ratio, 0), 2 << RATELIMIT_CALC_SHIFT)


@core
def wb_position_ratio(vm: Vm, dtc: DirtyThrottle) -> None:
    """``mm/page-writeback.c:wb_position_ratio() (5.10)``: by how much a task may go faster (up to twice) or slower than
    the device writes: the further from the setpoint, half-way from freerun to the limit, the more; at the limit 0.

    A second line does the same for the device's own pages, around its own setpoint.
    """
    dtc.pos_ratio = 0
    limit = hard_dirty_limit(vm, dtc.thresh)
    if dtc.dirty >= limit:
        return
    setpoint = (dirty_freerun_ceiling(dtc.thresh, dtc.bg_thresh) + limit) // 2
    pos_ratio = pos_ratio_polynom(setpoint, dtc.dirty, limit)
    wb_thresh = max(min(dtc.wb_thresh, dtc.thresh), (limit - dtc.dirty) // 8)
    x = (wb_thresh << 16) // (dtc.thresh | 1)
    wb_setpoint = setpoint * x >> 16
    span = max(dtc.thresh - wb_thresh + 8 * vm.wb.avg_write_bandwidth, 0) * x >> 16
    x_intercept = wb_setpoint + span
    if dtc.wb_dirty < x_intercept - span // 4:
        pos_ratio = pos_ratio * (x_intercept - dtc.wb_dirty) // ((x_intercept - wb_setpoint) | 1)
    else:
        pos_ratio //= 4
    x_intercept = wb_thresh // 2
    if dtc.wb_dirty < x_intercept:
        if dtc.wb_dirty > x_intercept // 8:
            pos_ratio = pos_ratio * x_intercept // dtc.wb_dirty
        else:
            pos_ratio *= 8
    dtc.pos_ratio = pos_ratio


@core
def over_bg_thresh(m: Machine, cpu: Cpu) -> bool:
    """``mm/page-writeback.c:wb_over_bg_thresh() (5.10)``: the flusher has to write."""
    vm = vm_at(m, m.vm)
    dtc = dirty_throttle()
    read_dirty(m, cpu, vm, dtc)
    return dtc.nr_reclaimable > dtc.bg_thresh
