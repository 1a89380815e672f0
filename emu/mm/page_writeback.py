"""Throttling those who dirty pages (``mm/page-writeback.c`` (5.10)), and this room's words for dirty pages.

A task runs freely up to half-way between the background and the dirty threshold. Beyond, it sleeps after every few
pages so that it dirties ``dirty_ratelimit * pos_ratio`` pages a second, at most MAX_PAUSE at a time; at the limit it
sleeps until pages have been written.

Differs from 5.10: only a task's own pages count towards its next look at the limits, not those that many short-lived
tasks dirty on a CPU (``bdp_ratelimits``).
"""

from emu.cpu.wait import schedule_timeout_killable
from emu.mm.bandwidth import wb_update_bandwidth
from emu.mm.dirty_limits import (
    RATELIMIT_CALC_SHIFT, DirtyThrottle, dirty_freerun_ceiling, dirty_throttle, global_dirty_limits,
    over_bg_thresh, read_dirty, wb_position_ratio,
)  # fmt: skip
from emu.mm.page_dirty import (
    cancel_dirty_page, clear_page_dirty_for_io, end_page_writeback, set_page_dirty, set_page_writeback,
    test_clear_page_writeback, wait_on_page_writeback,
)  # fmt: skip
from emu.mm.page_io import AOP_WRITEPAGE_ACTIVATE, writepage
from emu.zone.mm_types import AS_FILE, Vm, file_at, file_record, vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import Task, task_at
from emu.zone.time import HZ, NS_PER_JIFFY, jiffies
from shm.atomic import fetch_or, load_acquire
from shm.core import core
from shm.point import point, site
from shm.waitqueue import wake_up

__all__ = [
    "AOP_WRITEPAGE_ACTIVATE", "balance_dirty_pages", "balance_dirty_pages_ratelimited", "cancel_dirty_page",
    "clear_page_dirty_for_io", "end_page_writeback", "global_dirty_limits", "over_bg_thresh", "set_page_dirty",
    "set_page_writeback", "test_clear_page_writeback", "wait_on_page_writeback", "wakeup_flusher_threads",
    "wb_start_background_writeback", "writepage",
]  # fmt: skip

MAX_PAUSE = HZ // 5
DIRTY_POLL_THRESH = 32
HZ_POW2 = 256  # roundup_pow_of_two(HZ)
WB_WRITEBACK_RUNNING = 1  # bits of Writeback.wb_state
WB_START_ALL = 2
WB_KICKED = 4  # the flusher is to look whether there is something to do
S_LIMITS = site("balance_dirty_pages:read dirty limits")
S_KICK = site("wb_wakeup:wake flusher")


# --- waking the flusher -----------------------------------------------------------------------------------------------


@core
def wb_start_background_writeback(m: Machine, cpu: Cpu) -> None:
    """``fs/fs-writeback.c:wb_start_background_writeback() (5.10)``: the flusher looks at the background threshold."""
    vm = vm_at(m, m.vm)
    point(cpu.party, S_KICK)
    fetch_or(vm.wb, "wb_state", WB_KICKED)
    wake_up(vm.flusher_wait)


@core
def wb_has_dirty_io(m: Machine, vm: Vm) -> bool:
    """``wb_has_dirty_io()``: a file is dirty."""
    for file in range(1, vm.nr_files + 1):
        mapping = file_record(m, file_at(m, vm, file))
        if mapping.kind == AS_FILE and load_acquire(mapping, "nr_dirty") > 0:
            return True
    return False


@core
def wakeup_flusher_threads(m: Machine, cpu: Cpu) -> None:
    """``fs/fs-writeback.c:wakeup_flusher_threads() (5.10)``: write all that is dirty now, if anything is."""
    vm = vm_at(m, m.vm)
    if not wb_has_dirty_io(m, vm) or load_acquire(vm.wb, "wb_state") & WB_START_ALL != 0:
        return
    point(cpu.party, S_KICK)
    fetch_or(vm.wb, "wb_state", WB_START_ALL | WB_KICKED)
    wake_up(vm.flusher_wait)


# --- pauses -----------------------------------------------------------------------------------------------------------


@core
def ilog2(value: int) -> int:
    """``ilog2()``; 0 for less than 2."""
    log = 0
    while value > 1:
        value >>= 1
        log += 1
    return log


@core(inline=True)
def wb_stat_error(m: Machine) -> int:
    """``wb_stat_error()``: what the CPUs' differentials of a device's counters may hide."""
    return m.nr_cpus * 8 * (1 + ilog2(m.nr_cpus))


@core
def dirty_poll_interval(dirty: int, thresh: int) -> int:
    """``mm/page-writeback.c:dirty_poll_interval() (5.10)``: pages a task may dirty before it looks again: about the
    root of what is left."""
    return 1 << (ilog2(thresh - dirty) >> 1) if thresh > dirty else 1


@core
def wb_max_pause(bandwidth: int, wb_dirty: int) -> int:
    """``mm/page-writeback.c:wb_max_pause() (5.10)``: an eighth of the time that the device needs for its pages, so
    that it doesn't run dry, and not longer than MAX_PAUSE."""
    return min(wb_dirty // (1 + bandwidth // 32) + 1, MAX_PAUSE)


@core
def wb_min_pause(vm: Vm, dtc: DirtyThrottle) -> int:
    """``mm/page-writeback.c:wb_min_pause() (5.10)``: a pause shorter than this isn't worth it; 10 ms for one task, more
    for many. Sets ``nr_dirtied_pause``, after how many pages the next will be due."""
    limit = dtc.dirty_ratelimit
    t = max(1, HZ // 100)
    more = ilog2(vm.wb.avg_write_bandwidth) - ilog2(limit)
    if more > 0:
        t += more * (10 * HZ) // 1024
    t = min(t, 1 + dtc.max_pause // 2)
    pages = limit * t // HZ_POW2
    if pages < DIRTY_POLL_THRESH:
        t = dtc.max_pause
        pages = limit * t // HZ_POW2
        if pages > DIRTY_POLL_THRESH:
            pages = DIRTY_POLL_THRESH
            t = HZ * DIRTY_POLL_THRESH // limit
    if HZ * pages // (dtc.task_ratelimit + 1) > dtc.max_pause:
        t = dtc.max_pause
        pages = dtc.task_ratelimit * t // HZ_POW2
    dtc.nr_dirtied_pause = pages
    return 1 + t // 2 if pages >= DIRTY_POLL_THRESH else t


@core
def run_freely(task: Task, dtc: DirtyThrottle, now: int) -> None:
    """Within the freerun ceiling: nothing to make up for."""
    task.dirty_paused_when = now
    task.nr_dirtied = 0
    task.nr_dirtied_pause = dirty_poll_interval(dtc.dirty, dtc.thresh)


@core
def dirty_rates(vm: Vm, dtc: DirtyThrottle) -> None:
    """What the task may do now: its rate and the bounds of its pause."""
    dtc.dirty_ratelimit = vm.wb.dirty_ratelimit
    dtc.task_ratelimit = dtc.dirty_ratelimit * dtc.pos_ratio >> RATELIMIT_CALC_SHIFT
    dtc.max_pause = wb_max_pause(vm.wb.avg_write_bandwidth, dtc.wb_dirty)
    dtc.min_pause = wb_min_pause(vm, dtc)


@core
def too_short(task: Task, dtc: DirtyThrottle, now: int, period: int, pause: int, pages_dirtied: int) -> bool:
    """Whether a pause isn't worth it. Time that the task was slower than it had to be counts for it, up to a second;
    what it owes is left for later."""
    if pause >= dtc.min_pause:
        return False
    if pause < -HZ:
        task.dirty_paused_when = now
        task.nr_dirtied = 0
    elif period != 0:
        task.dirty_paused_when += period
        task.nr_dirtied = 0
    elif task.nr_dirtied_pause <= pages_dirtied:
        task.nr_dirtied_pause += pages_dirtied
    return True


@core
def pause_dirtier(m: Machine, cpu: Cpu, task: Task, dtc: DirtyThrottle, now: int, pages_dirtied: int) -> bool:
    """One turn's pause: false if none was due."""
    pause = dtc.max_pause
    if dtc.task_ratelimit != 0:
        period = HZ * pages_dirtied // dtc.task_ratelimit
        pause = period
        if task.dirty_paused_when != 0:
            pause -= now - task.dirty_paused_when
        if too_short(task, dtc, now, period, pause, pages_dirtied):
            return False
        if pause > dtc.max_pause:
            now += min(pause - dtc.max_pause, dtc.max_pause)
            pause = dtc.max_pause
    schedule_timeout_killable(m, cpu, pause * NS_PER_JIFFY)
    task.dirty_paused_when = now + pause
    task.nr_dirtied = 0
    task.nr_dirtied_pause = dtc.nr_dirtied_pause
    return True


@core
def throttle_dirtier(m: Machine, cpu: Cpu, vm: Vm, dtc: DirtyThrottle, pages_dirtied: int) -> None:
    """The loop of ``balance_dirty_pages()``: until the task is within its rate. At the limit, where that is 0, it goes
    round until pages have been written, or it is killed."""
    task = task_at(m, cpu.current)
    start_time = jiffies(m)
    dtc.exceeded = 0
    while load_acquire(m, "stop") == 0:
        now = jiffies(m)
        point(cpu.party, S_LIMITS)
        read_dirty(m, cpu, vm, dtc)
        if dtc.dirty <= dirty_freerun_ceiling(dtc.thresh, dtc.bg_thresh):
            run_freely(task, dtc, now)
            return
        if load_acquire(vm.wb, "wb_state") & WB_WRITEBACK_RUNNING == 0:
            wb_start_background_writeback(m, cpu)
        dtc.exceeded = 1 if dtc.wb_dirty > dtc.wb_thresh and dtc.dirty > dtc.thresh else 0
        wb_position_ratio(vm, dtc)
        if dtc.exceeded != 0 and vm.wb.dirty_exceeded == 0:
            vm.wb.dirty_exceeded = 1
        wb_update_bandwidth(m, cpu, dtc, start_time, 1)
        dirty_rates(vm, dtc)
        if not pause_dirtier(m, cpu, task, dtc, now, pages_dirtied):
            return
        if dtc.task_ratelimit != 0 or dtc.wb_dirty <= wb_stat_error(m):
            return
        if load_acquire(task, "fatal_signal") != 0:
            return


@core(cold=True)
def balance_dirty_pages(m: Machine, cpu: Cpu, pages_dirtied: int) -> None:
    """``mm/page-writeback.c:balance_dirty_pages() (5.10)``: the current task has dirtied so many pages: does it have to
    wait?"""
    vm = vm_at(m, m.vm)
    dtc = dirty_throttle()
    throttle_dirtier(m, cpu, vm, dtc, pages_dirtied)
    if dtc.exceeded == 0 and vm.wb.dirty_exceeded != 0:
        vm.wb.dirty_exceeded = 0
    if load_acquire(vm.wb, "wb_state") & WB_WRITEBACK_RUNNING == 0 and dtc.nr_reclaimable > dtc.bg_thresh:
        wb_start_background_writeback(m, cpu)


@core
def balance_dirty_pages_ratelimited(m: Machine, cpu: Cpu, file: int) -> None:
    """``mm/page-writeback.c:balance_dirty_pages_ratelimited() (5.10)``: after a task has dirtied a page of a file; it
    looks at the limits every ``nr_dirtied_pause`` pages, and every 8 while they are exceeded."""
    vm = vm_at(m, m.vm)
    if file_record(m, file_at(m, vm, file)).kind != AS_FILE:
        return
    task = task_at(m, cpu.current)
    ratelimit = task.nr_dirtied_pause
    if vm.wb.dirty_exceeded != 0:
        ratelimit = min(ratelimit, DIRTY_POLL_THRESH >> 2)
    if task.nr_dirtied >= ratelimit:
        balance_dirty_pages(m, cpu, task.nr_dirtied)
