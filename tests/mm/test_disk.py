"""The disk: order, times, room, congestion."""

from emu.zone.page import PG_locked, PG_uptodate
from emu.zone.vmstat_items import PGPGIN
from shm.atomic import clock_ns
from tests.mm.iobench import IoBench, iobench


def reads(b: IoBench, count: int) -> list[int]:
    """Locked pages queued to be read."""
    file = b.new_file(64)
    pfns = [b.call("file_page", file, i) for i in range(count)]
    for pfn in pfns:
        b.page(pfn).page_flags = b.page(pfn).page_flags & ~PG_uptodate | PG_locked
        b.call("submit_read", pfn, file)
    return pfns


def done(b: IoBench, pfns: list[int]) -> list[bool]:
    return [b.flags(pfn) & (PG_uptodate | PG_locked) == PG_uptodate for pfn in pfns]


def test_reads_are_done_in_order() -> None:
    with iobench() as b:
        pfns = reads(b, 3)
        assert b.event(PGPGIN) == 3 * 8
        assert done(b, pfns) == [False] * 3
        assert b.disk() == 1
        assert done(b, pfns) == [True] * 3
        assert (b.vm.disk.reads, b.vm.disk.writes) == (3, 0)


def test_requests_take_their_time_one_after_the_other() -> None:
    with iobench() as b:
        pfns = reads(b, 3)
        disk = b.vm.disk
        disk.page_ns, disk.latency_ns = 300_000, 1_000_000
        first = disk.queue[0].submitted
        assert b.disk() == 1
        now = clock_ns()
        assert disk.busy_until == max(first, disk.queue[0].submitted) + 3 * 300_000
        assert now >= disk.busy_until + 1_000_000
        assert done(b, pfns) == [True] * 3


def test_a_late_disk_catches_up() -> None:
    with iobench() as b:
        pfns = reads(b, 3)
        disk = b.vm.disk
        disk.page_ns = 1_000_000
        for i in range(3):
            disk.queue[i].submitted -= 1_000_000_000
        at = disk.queue[0].submitted
        b.disk()
        assert disk.busy_until == at + 3_000_000  # reckoned from the requests' times, all past
        assert done(b, pfns) == [True] * 3


def test_a_request_far_ahead_is_left_for_a_later_turn() -> None:
    with iobench() as b:
        pfns = reads(b, 1)
        disk = b.vm.disk
        disk.busy_until = clock_ns() + 3_600_000_000_000
        from emu.mm.disk import disk_round
        from emu.zone.init_vm import disk_party

        b.m.stop = 1  # do not wait for the tick
        disk_round(b.m, b.cpu(disk_party(b.m)))
        assert (done(b, pfns), disk.tail) == ([False], 0)
        b.m.stop = 0
        disk.busy_until = 0
        b.disk()


def test_a_plain_disk_is_never_congested() -> None:
    with iobench() as b:
        reads(b, 60)
        assert b.vm.nr_wb_congested.counter == 0
        assert b.call("wait_iff_congested", 1 << 40)
        b.disk()


def test_a_device_that_asks_for_it_is() -> None:
    with iobench() as b:
        b.vm.disk.congested_at = 8
        pfns = reads(b, 7)
        assert b.vm.nr_wb_congested.counter == 0
        more = reads(b, 2)
        assert (b.vm.nr_wb_congested.counter, b.vm.disk.congested) == (1, 1)
        assert not b.call("wait_iff_congested", 1)
        b.disk()
        assert (b.vm.nr_wb_congested.counter, b.vm.disk.congested) == (0, 0)
        assert all(done(b, pfns + more))


def test_congestion_is_counted_once() -> None:
    with iobench() as b:
        for name in ("set_wb_congested", "set_wb_congested"):
            b.ask(name)
        assert b.vm.nr_wb_congested.counter == 1
        b.ask("clear_wb_congested")
        b.ask("clear_wb_congested")
        assert b.vm.nr_wb_congested.counter == 0
        assert not b.call("congestion_wait", 1)
