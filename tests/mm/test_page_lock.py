"""The page lock hands itself over, and every wait ends."""

import time

from emu.zone.page import PG_locked, PG_waiters, PG_writeback
from shm.atomic import load_acquire
from tests.bench import one_zone
from tests.mm.mmbench import MmBench, Thread, mm_bench


def waits(b: MmBench, pfn: int) -> None:
    """Until somebody waits for a page."""
    while not load_acquire(b.page(pfn), "page_flags") & PG_waiters:
        time.sleep(0)


def test_unlock_wakes_the_waiter() -> None:
    with mm_bench(one_zone(cpus=2)) as b:
        pfn = b.alloc()
        assert b.lock_page(pfn)
        got: list[bool] = []
        thread = Thread(target=lambda: got.append(bool(b.lock_page(pfn, cpu=1))))
        thread.start()
        waits(b, pfn)
        assert got == []
        b.unlock_page(pfn)
        thread.join()
        assert got == [True]
        assert b.flags(pfn) & PG_locked
        b.unlock_page(pfn, cpu=1)
        assert not b.flags(pfn) & (PG_locked | PG_waiters)
        b.free(pfn)


def test_killed_task_gives_up() -> None:
    with mm_bench(one_zone(cpus=2)) as b:
        pfn = b.alloc()
        b.lock_page(pfn)
        b.space(cpu=1)
        got: list[int] = []
        thread = Thread(target=lambda: got.append(int(b.lock_page_killable(pfn, cpu=1))))
        b.user(0).fatal_signal = 1
        thread.start()
        thread.join()
        assert got == [-4]
        b.unlock_page(pfn)
        assert b.lock_page_killable(pfn, cpu=1) == 0  # without a wait a killed task has it, too
        b.unlock_page(pfn)
        b.free(pfn)
        b.end(cpu=1)


def test_stopped_machine_ends_the_wait_without_the_lock() -> None:
    with mm_bench(one_zone(cpus=2)) as b:
        pfn = b.alloc()
        b.lock_page(pfn)
        got: list[bool] = []
        thread = Thread(target=lambda: got.append(bool(b.lock_page(pfn, cpu=1))))
        thread.start()
        waits(b, pfn)
        b.m.stop = 1
        thread.join()
        assert got == [False]
        b.m.stop = 0
        b.unlock_page(pfn)
        b.free(pfn)


def test_end_of_writeback_wakes_too() -> None:
    with mm_bench(one_zone(cpus=2)) as b:
        file = b.new_file(1)
        pfn = b.fill(file, 1)[0]
        b.set_page_writeback(pfn)
        thread = Thread(target=lambda: b.wait_on_page_bit(pfn, PG_writeback, cpu=1))
        thread.start()
        waits(b, pfn)
        assert thread.is_alive()
        b.end_page_writeback(pfn)
        thread.join()
        b.wait_on_page_bit(pfn, PG_writeback)  # without anything to wait for
