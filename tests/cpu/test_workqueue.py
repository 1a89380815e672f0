"""Work for a CPU is done by that CPU: two real processes drain and fold."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emu.cpu.workqueue import WORK_DRAIN, WORK_VMSTAT
from emu.zone.mmzone import WORKS
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.atomic import load_acquire
from tests.bench import Bench, bench, core, one_zone, two_nodes

PATIENCE = 20  # s


@contextmanager
def processor(b: Bench, index: int, before: Callable[[], object] = lambda: None) -> Iterator[int]:
    """A process that is a CPU: it does something, then polls until the machine stops."""
    cpu = b.cpu(index)
    pid = os.fork()
    if pid == 0:
        try:
            before()
            cpu.party.pid = os.getpid()
            while not load_acquire(b.m, "stop"):
                core.poll(b.m, cpu)
        finally:
            os._exit(0)
    try:
        deadline = time.monotonic() + PATIENCE
        while load_acquire(cpu.party, "pid") != pid:
            assert time.monotonic() < deadline
            os.sched_yield()
        yield pid
    finally:
        b.m.stop = 1
        os.waitpid(pid, 0)
        b.m.stop = 0


def fill(b: Bench, cpu: int, n: int = 3) -> Callable[[], None]:
    """Put pages on a CPU's list, as that CPU."""

    def work() -> None:
        for pfn in [b.alloc(cpu=cpu) for _ in range(n)]:
            b.free(pfn, cpu=cpu)

    return work


def test_drain_of_all_is_done_by_each_cpu_itself() -> None:
    with bench(two_nodes()) as b:
        fill(b, 0)()
        with processor(b, 1, fill(b, 1)):
            assert b.pcp(b.zone(2), 1).count > 0
            core.drain_all_pages(b.m, b.cpu(0), 0)
            assert [b.pcp(b.zone(z), c).count for z in (1, 2) for c in (0, 1)] == [0] * 4
        assert b.cpu(1).work_tail == b.cpu(1).work_head == 1
        assert b.m.drain_busy == 0
        assert sum(b.nr_free(b.zone(z)) for z in range(3)) == 3 * 8192


def test_cpu_without_pages_is_left_alone() -> None:
    with bench(two_nodes()) as b:
        fill(b, 0)()
        core.drain_all_pages(b.m, b.cpu(0), 0)  # nobody plays CPU 1, and nobody is waited for
        assert b.cpu(1).work_head == 0


def test_drain_of_one_zone_asks_those_with_its_pages() -> None:
    with bench(two_nodes()) as b:
        with processor(b, 1, fill(b, 1)):
            from shm.struct import address_of

            core.drain_all_pages(b.m, b.cpu(0), address_of(b.zone(1)) - b.base)
            assert b.pcp(b.zone(2), 1).count > 0
            core.drain_all_pages(b.m, b.cpu(0), address_of(b.zone(2)) - b.base)
            assert b.pcp(b.zone(2), 1).count == 0


def test_second_drain_of_everything_leaves_it_to_the_first() -> None:
    with bench(two_nodes()) as b:
        fill(b, 0)()
        b.m.drain_busy = 1
        core.drain_all_pages(b.m, b.cpu(0), 0)
        assert b.pcp(b.zone(1)).count > 0
        b.m.drain_busy = 0


def test_queue_holds_so_much_and_work_is_done_in_order() -> None:
    with bench(one_zone(8192, 2)) as b:
        fill(b, 1)()
        for _ in range(WORKS - 1):
            core.queue_work_on(b.m, b.cpu(0), 1, WORK_VMSTAT, 0)
        core.queue_work_on(b.m, b.cpu(0), 1, WORK_DRAIN, 0)
        assert b.cpu(1).work_head - b.cpu(1).work_tail == WORKS
        core.run_work(b.m, b.cpu(1))
        assert b.cpu(1).work_head == b.cpu(1).work_tail
        assert b.pcp(cpu=1).count == 0
        assert b.cpu(1).doorbell == WORKS


def test_full_queue_is_waited_for() -> None:
    with bench(one_zone(8192, 2)) as b:
        with processor(b, 1) as pid:
            os.kill(pid, signal.SIGSTOP)
            for _ in range(WORKS):
                core.queue_work_on(b.m, b.cpu(0), 1, WORK_VMSTAT, 0)
            os.kill(pid, signal.SIGCONT)
            for _ in range(3 * WORKS):
                core.queue_work_on(b.m, b.cpu(0), 1, WORK_VMSTAT, 0)
        assert b.cpu(1).work_head == 4 * WORKS


def test_vmstat_work_folds_the_counters_of_its_cpu() -> None:
    with bench(one_zone(8192, 2)) as b:
        b.alloc(cpu=0)
        b.alloc(cpu=1)
        core.queue_work_on(b.m, b.cpu(0), 1, WORK_VMSTAT, 0)
        core.poll(b.m, b.cpu(1))
        assert b.pcp(cpu=1).vm_stat_diff[NR_FREE_PAGES] == 0
        assert b.pcp(cpu=0).vm_stat_diff[NR_FREE_PAGES] != 0
