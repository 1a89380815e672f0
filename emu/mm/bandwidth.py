"""How fast the device writes, and how fast a task may dirty pages then (``mm/page-writeback.c`` (5.10)).

Both are estimated every BANDWIDTH_INTERVAL from what was dirtied and written since.
"""

from emu.mm.dirty_limits import (
    RATELIMIT_CALC_SHIFT, DirtyThrottle, dirty_freerun_ceiling, global_node_page_state, hard_dirty_limit,
)  # fmt: skip
from emu.zone.mm_types import Vm, Writeback, vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.time import HZ, jiffies
from emu.zone.vmstat_items import NR_DIRTIED
from shm.atomic import load_acquire
from shm.core import core
from shm.point import site
from shm.spinlock import spin_lock, spin_unlock

BANDWIDTH_INTERVAL = HZ // 5
BITS_PER_LONG = 64
PERIOD_SHIFT = 10  # ilog2(roundup_pow_of_two(3 * HZ))
S_BANDWIDTH = site("wb_update_bandwidth:list_lock")


@core
def wb_update_write_bandwidth(wb: Writeback, elapsed: int, written: int) -> None:
    """``mm/page-writeback.c:wb_update_write_bandwidth() (5.10)``: a moving average over about 4 s, and one of that
    which follows it only while it keeps its direction."""
    period = 1 << PERIOD_SHIFT
    avg = wb.avg_write_bandwidth
    old = wb.write_bandwidth
    bw = (written - min(written, wb.written_stamp)) * HZ
    if elapsed > period:
        bw //= elapsed
        avg = bw
    else:
        bw = (bw + old * (period - elapsed)) >> PERIOD_SHIFT
        if avg > old and old >= bw:
            avg -= (avg - old) >> 3
        if avg < old and old <= bw:
            avg += (old - avg) >> 3
    wb.write_bandwidth = bw
    wb.avg_write_bandwidth = max(avg, 1)


@core
def domain_update_bandwidth(vm: Vm, dtc: DirtyThrottle, now: int) -> None:
    """``mm/page-writeback.c:domain_update_bandwidth() (5.10)`` with ``update_dirty_limit()``: the limit follows a
    falling threshold slowly, and not below what is dirty."""
    wb = vm.wb
    if now < wb.dirty_limit_tstamp + BANDWIDTH_INTERVAL:
        return
    wb.dirty_limit_tstamp = now
    limit = wb.dirty_limit
    if limit < dtc.thresh:
        wb.dirty_limit = dtc.thresh
        return
    thresh = max(dtc.thresh, dtc.dirty)
    if limit > thresh:
        wb.dirty_limit = limit - ((limit - thresh) >> 5)


@core
def wb_update_dirty_ratelimit(vm: Vm, dtc: DirtyThrottle, dirtied: int, elapsed: int) -> None:
    """``mm/page-writeback.c:wb_update_dirty_ratelimit() (5.10)``: a step towards the rate at which all dirtying tasks
    together keep up with the device, but only in the direction that brings the dirty pages to the setpoint too."""
    wb = vm.wb
    limit = hard_dirty_limit(vm, dtc.thresh)
    setpoint = (dirty_freerun_ceiling(dtc.thresh, dtc.bg_thresh) + limit) // 2
    ratelimit = wb.dirty_ratelimit
    dirty_rate = (dirtied - wb.dirtied_stamp) * HZ // elapsed
    task_ratelimit = (ratelimit * dtc.pos_ratio >> RATELIMIT_CALC_SHIFT) + 1
    balanced = min(task_ratelimit * wb.avg_write_bandwidth // (dirty_rate | 1), wb.avg_write_bandwidth)
    if dtc.dirty < setpoint:
        aim = min(wb.balanced_dirty_ratelimit, balanced)
        step = max(min(aim, task_ratelimit) - ratelimit, 0)
    else:
        aim = max(wb.balanced_dirty_ratelimit, balanced)
        step = max(ratelimit - max(aim, task_ratelimit), 0)
    shift = ratelimit // (2 * step + 1)
    step = ((step >> shift) + 7) // 8 if shift < BITS_PER_LONG else 0
    if ratelimit < balanced:
        ratelimit += step
    else:
        ratelimit -= step
    wb.dirty_ratelimit = max(ratelimit, 1)
    wb.balanced_dirty_ratelimit = balanced


@core
def __wb_update_bandwidth(
    m: Machine, vm: Vm, dtc: DirtyThrottle, start_time: int, now: int, update_ratelimit: int
) -> None:
    """``mm/page-writeback.c:__wb_update_bandwidth() (5.10)``: at most once in an interval; after a second without
    writeback only a new start is made."""
    wb = vm.wb
    elapsed = now - wb.bw_time_stamp
    if elapsed < BANDWIDTH_INTERVAL:
        return
    dirtied = global_node_page_state(m, NR_DIRTIED)
    written = load_acquire(wb.nr_written, "counter")
    if not (elapsed > HZ and wb.bw_time_stamp < start_time):
        if update_ratelimit != 0:
            domain_update_bandwidth(vm, dtc, now)
            wb_update_dirty_ratelimit(vm, dtc, dirtied, elapsed)
        wb_update_write_bandwidth(wb, elapsed, written)
    wb.dirtied_stamp = dirtied
    wb.written_stamp = written
    wb.bw_time_stamp = now


@core
def wb_update_bandwidth(m: Machine, cpu: Cpu, dtc: DirtyThrottle, start_time: int, update_ratelimit: int) -> None:
    """``mm/page-writeback.c:wb_update_bandwidth() (5.10)``; ``update_ratelimit``: for ``balance_dirty_pages()``."""
    vm = vm_at(m, m.vm)
    now = jiffies(m)
    if now < vm.wb.bw_time_stamp + BANDWIDTH_INTERVAL:
        return
    spin_lock(cpu.party, vm.wb.bw_lock, S_BANDWIDTH)
    __wb_update_bandwidth(m, vm, dtc, start_time, now, update_ratelimit)
    spin_unlock(cpu.party, vm.wb.bw_lock)
