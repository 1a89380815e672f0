"""Dirty limits and pauses: the core's arithmetic against the formulas written out again with fractions."""

from fractions import Fraction

import pytest

from emu.mm.dirty_limits import DirtyThrottle
from emu.zone.mm_types import AS_SHMEM
from emu.zone.vmstat_items import NR_ACTIVE_FILE, NR_FILE_DIRTY, NR_FREE_PAGES, NR_INACTIVE_FILE
from shm.struct import size_of
from tests.mm.iobench import IoBench, io, iobench

HZ = 250
UNIT = 1 << 10


def place(avail: int, dirty: int, **more: int) -> DirtyThrottle:
    return DirtyThrottle(avail=avail, dirty=dirty, wb_dirty=more.get("wb_dirty", dirty))


def worked_out(b: IoBench, avail: int, dirty: int, **more: int) -> DirtyThrottle:
    dtc = place(avail, dirty, **more)
    io["throttled"](b.m, b.cpu(), dtc)
    return dtc


@pytest.mark.parametrize(("ratio", "background", "rt"), [(20, 10, 0), (20, 10, 1), (1, 1, 0), (40, 60, 0), (0, 0, 0)])
def test_global_limits(ratio: int, background: int, rt: int) -> None:
    with iobench() as b:
        b.m.vm_dirty_ratio, b.vm.dirty_background_ratio, b.task().rt = ratio, background, rt
        b.stat(NR_FILE_DIRTY)
        node = b.m.nodes[0]
        free = sum(z.vm_stat[NR_FREE_PAGES].counter for z in node.node_zones)
        avail = free - b.m.totalreserve_pages + 1
        avail += node.vm_stat[NR_INACTIVE_FILE].counter + node.vm_stat[NR_ACTIVE_FILE].counter
        thresh, bg_thresh = (r * 4096 // 100 * avail // 4096 for r in (ratio, background))
        if rt:
            thresh, bg_thresh = thresh + thresh // 4, bg_thresh + bg_thresh // 4
        if bg_thresh >= thresh:
            bg_thresh = thresh // 2
        assert b.call("limits") == thresh | bg_thresh << 32


def ideal_ratio(setpoint: int, dirty: int, limit: int) -> Fraction:
    """1 + ((setpoint - dirty) / (limit - setpoint))^3, between 0 and 2."""
    return min(max(1 + Fraction(setpoint - dirty, (limit - setpoint) | 1) ** 3, Fraction(0)), Fraction(2))


@pytest.mark.parametrize("dirty", [1500, 1600, 1750, 1751, 1800, 1900, 1990, 1999])
def test_position_ratio_follows_the_cubic(dirty: int) -> None:
    with iobench() as b:
        b.m.vm_dirty_ratio, b.vm.dirty_background_ratio = 20, 10
        b.vm.wb.avg_write_bandwidth = 1 << 30  # so wide a span that the second line is flat
        dtc = worked_out(b, 10_003, dirty)
        # 10 % are 409 parts of 4096: so much less than half of 20 %
        assert (dtc.thresh, dtc.bg_thresh) == (2000, 998)
        setpoint = (1499 + 2000) // 2
        assert abs(Fraction(dtc.pos_ratio, UNIT) - ideal_ratio(setpoint, dirty, 2000)) < Fraction(1, 100)


def test_at_the_limit_nothing_may_be_dirtied() -> None:
    with iobench() as b:
        for dirty in (2000, 2001, 5000):
            dtc = worked_out(b, 10_003, dirty)
            assert (dtc.pos_ratio, dtc.task_ratelimit) == (0, 0)
        b.vm.wb.dirty_limit = 3000  # the threshold has fallen below what was allowed
        assert worked_out(b, 10_003, 2100).pos_ratio > 0


def test_a_device_with_few_pages_may_go_faster() -> None:
    with iobench() as b:
        dtc = worked_out(b, 10_003, 1800)
        assert worked_out(b, 10_003, 1800, wb_dirty=100).pos_ratio > 4 * dtc.pos_ratio


@pytest.mark.parametrize(("bandwidth", "wb_dirty", "pause"), [
    (25600, 800, 1 + 800 // 801), (25600, 40_000, 50), (25600, 8010, 11), (1, 10, 11), (1, 100, 50),
])  # fmt: skip
def test_max_pause(bandwidth: int, wb_dirty: int, pause: int) -> None:
    with iobench():
        assert io["wb_max_pause"](bandwidth, wb_dirty) == pause


def test_poll_interval_is_about_a_root() -> None:
    with iobench():
        for left, pages in ((1, 1), (3, 1), (4, 2), (100, 8), (1 << 16, 256), (0, 1), (-5, 1)):
            assert io["dirty_poll_interval"](1000, 1000 + left) == pages


def test_a_task_runs_freely_below_the_ceiling() -> None:
    with iobench() as b:
        file = b.new_file(8)
        task = b.task()
        task.nr_dirtied = 31
        b.call("balance_dirty_pages_ratelimited", file)
        assert task.nr_dirtied == 31  # 32 to start with
        task.nr_dirtied = 32
        b.call("balance_dirty_pages_ratelimited", file)
        thresh = b.call("limits") & 0xFFFFFFFF
        assert task.nr_dirtied == 0
        assert task.nr_dirtied_pause == 1 << ((thresh.bit_length() - 1) >> 1)


def test_tmpfs_is_not_throttled() -> None:
    with iobench() as b:
        file = b.new_file(8, AS_SHMEM)
        b.task().nr_dirtied = 1000
        b.call("balance_dirty_pages_ratelimited", file)
        assert b.task().nr_dirtied == 1000


def say_dirty(b: IoBench, pages: int) -> None:
    b.m.nodes[0].vm_stat[NR_FILE_DIRTY].counter += pages


def test_between_ceiling_and_limit_a_task_pauses() -> None:
    with iobench() as b:
        file = b.new_file(8)
        thresh, background = b.call("limits") & 0xFFFFFFFF, b.call("limits") >> 32
        dirty = ((thresh + background) // 2 + thresh) // 2
        say_dirty(b, dirty)
        b.vm.wb.avg_write_bandwidth = b.vm.wb.dirty_ratelimit = 1000
        b.vm.wb.bw_time_stamp = 1 << 40  # no new estimate now
        task = b.task()
        task.fatal_signal = 1  # which ends the pause at once
        task.nr_dirtied, task.nr_dirtied_pause = 24, 24
        b.call("balance_dirty_pages_ratelimited", file)
        dtc = worked_out(b, avail_of(b), dirty)
        period = HZ * 24 // dtc.task_ratelimit
        assert dtc.min_pause <= period <= dtc.max_pause
        assert (task.nr_dirtied, task.nr_dirtied_pause) == (0, dtc.nr_dirtied_pause)
        assert 0 < task.dirty_paused_when
        assert b.vm.wb.wb_state  # the flusher was asked for help
        say_dirty(b, -dirty)


def avail_of(b: IoBench) -> int:
    node = b.m.nodes[0]
    free = sum(z.vm_stat[NR_FREE_PAGES].counter for z in node.node_zones)
    return free - b.m.totalreserve_pages + 1


def test_a_pause_that_is_too_short_is_owed() -> None:
    with iobench() as b:
        file = b.new_file(8)
        thresh, background = b.call("limits") & 0xFFFFFFFF, b.call("limits") >> 32
        dirty = ((thresh + background) // 2 + thresh) // 2
        say_dirty(b, dirty)
        b.vm.wb.avg_write_bandwidth = b.vm.wb.dirty_ratelimit = 1000
        b.vm.wb.bw_time_stamp = 1 << 40
        task = b.task()
        task.nr_dirtied, task.nr_dirtied_pause = 8, 8
        b.call("balance_dirty_pages_ratelimited", file)
        dtc = worked_out(b, avail_of(b), dirty)
        period = HZ * 8 // dtc.task_ratelimit
        assert period < dtc.min_pause
        assert (task.nr_dirtied, task.nr_dirtied_pause, task.dirty_paused_when) == (0, 8, period)
        say_dirty(b, -dirty)


def test_a_slow_task_has_its_time_counted() -> None:
    with iobench() as b:
        file = b.new_file(8)
        thresh, background = b.call("limits") & 0xFFFFFFFF, b.call("limits") >> 32
        dirty = ((thresh + background) // 2 + thresh) // 2
        say_dirty(b, dirty)
        b.vm.wb.bw_time_stamp = 1 << 40
        task = b.task()
        task.nr_dirtied, task.nr_dirtied_pause, task.dirty_paused_when = 8, 8, -1000
        b.call("balance_dirty_pages_ratelimited", file)
        # it was slower than a second for these: a new start, and no pause
        assert task.nr_dirtied == 0
        assert task.dirty_paused_when >= 0
        assert task.nr_dirtied_pause == 8
        say_dirty(b, -dirty)


def ideal_bandwidth(bw: int, avg: int, stamp: int, elapsed: int, written: int) -> tuple[int, int]:
    """mm/page-writeback.c's two averages."""
    new = max(written - stamp, 0) * HZ
    if elapsed > 1024:
        return new // elapsed, new // elapsed
    new = (new + bw * (1024 - elapsed)) // 1024
    if avg > bw >= new:
        avg -= (avg - bw) // 8
    if avg < bw <= new:
        avg += (bw - avg) // 8
    return new, avg


@pytest.mark.parametrize(("bw", "avg", "elapsed", "written"), [
    (25600, 25600, 50, 0), (25600, 25600, 50, 10_000), (25600, 30_000, 50, 100), (25600, 20_000, 50, 50_000),
    (25600, 20_000, 50, 100), (25600, 20_000, 2000, 100_000),
])  # fmt: skip
def test_write_bandwidth(bw: int, avg: int, elapsed: int, written: int) -> None:
    with iobench() as b:
        wb = b.vm.wb
        wb.write_bandwidth, wb.avg_write_bandwidth, wb.written_stamp = bw, avg, 7
        b.ask("bandwidth_after", elapsed, written + 7)
        assert (wb.write_bandwidth, wb.avg_write_bandwidth) == ideal_bandwidth(bw, avg, 0, elapsed, written)


def test_the_rate_goes_to_what_keeps_the_balance() -> None:
    with iobench() as b:
        wb = b.vm.wb
        wb.avg_write_bandwidth = 1000
        wb.dirty_ratelimit = wb.balanced_dirty_ratelimit = 1000
        # four tasks at 1000 pages a second dirtied 4000 in a second, with more than the setpoint dirty
        dtc = worked_out(b, 10_003, 1900)
        io["ratelimit_after"](b.m, dtc, 4000, HZ)
        assert wb.balanced_dirty_ratelimit == (dtc.task_ratelimit + 1) * 1000 // (4000 | 1)
        assert wb.dirty_ratelimit == 1000  # one estimate isn't enough
        io["ratelimit_after"](b.m, dtc, 4000, HZ)
        assert 1 <= wb.dirty_ratelimit < 1000
        before = wb.dirty_ratelimit
        dtc = worked_out(b, 10_003, 1600)  # few are dirty: never slower
        io["ratelimit_after"](b.m, dtc, 4000, HZ)
        assert wb.dirty_ratelimit >= before


def test_the_throttle_is_small_enough_for_the_stack() -> None:
    assert size_of(DirtyThrottle) <= 128
