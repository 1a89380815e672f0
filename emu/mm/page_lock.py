"""The page lock, and waiting for a bit of a page (``mm/filemap.c`` (5.10)).

Whoever waits for a page sleeps on one of the hashed queues of ``Vm.page_waits``, and sets PG_waiters so that the unlock
knows to look there.

Differs from 5.10: a wake-up takes all sleepers of a queue off it and each looks again, where the kernel hands the bit
to the first exclusive waiter once it has lost the race five times. When the machine is being stopped waits end without
their condition: :func:`lock_page` then returns false.
"""

from emu.cpu.wait import schedule_timeout
from emu.mm.pagevec import put_page
from emu.zone.mm_types import PAGE_WAIT_TABLE, vm_at
from emu.zone.mmzone import Cpu, Machine, Page, page_record
from emu.zone.page import PG_locked, PG_waiters, pfn_to_page
from emu.zone.page_ref import ClearPageFlag, SetPageFlag, TestSetPageFlag, test_flag
from emu.zone.sched import fatal_signal_pending, task_at
from shm.atomic import address, clock_ns, fetch_and, load_acquire
from shm.core import core
from shm.point import point, site
from shm.struct import At
from shm.waitqueue import WaitQueue, finish_wait, prepare_to_wait, wake_up

KEEP = (1 << 32) - 1
EINTR = 4
SECOND_NS = 1_000_000_000
S_LOCK = site("lock_page:trylock")
S_UNLOCK = site("unlock_page:clear PG_locked")
S_WAIT = site("wait_on_page_bit:prepare_to_wait")
S_LOOK = site("wait_on_page_bit:look again")

wait_queue_at = At(WaitQueue)


@core(inline=True)
def page_waitqueue(m: Machine, pfn: int) -> int:
    """``page_waitqueue()``: offset of the queue that a page's waiters share with other pages'."""
    vm = vm_at(m, m.vm)
    return address(vm.page_waits[(pfn * 0x9E3779B1 >> 16) % PAGE_WAIT_TABLE]) - address(m)


@core(inline=True)
def trylock_page(page: Page) -> bool:
    """``trylock_page()``"""
    return not TestSetPageFlag(page, PG_locked)


@core(cold=True)
def wake_up_page_bit(m: Machine, pfn: int) -> None:
    """``mm/filemap.c:wake_up_page_bit() (5.10)``"""
    ClearPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_waiters)
    wake_up(wait_queue_at(m, page_waitqueue(m, pfn)))


@core
def wake_up_page(m: Machine, pfn: int) -> None:
    """``mm/filemap.c:wake_up_page() (5.10)``: a bit that somebody may wait for was cleared."""
    if test_flag(page_record(m, pfn_to_page(m, pfn)), PG_waiters):
        wake_up_page_bit(m, pfn)


@core
def unlock_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/filemap.c:unlock_page() (5.10)``"""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_UNLOCK)
    if fetch_and(page, "page_flags", KEEP - PG_locked) & PG_waiters != 0:
        wake_up_page_bit(m, pfn)


@core(cold=True)
def wait_on_page_bit_common(m: Machine, cpu: Cpu, pfn: int, flag: int, killable: int, exclusive: int) -> int:
    """``mm/filemap.c:wait_on_page_bit_common() (5.10)``: 0 once the bit is clear, or taken when ``exclusive``;
    -EINTR when the task was killed (``killable``) or the machine is being stopped."""
    page = page_record(m, pfn_to_page(m, pfn))
    queue = wait_queue_at(m, page_waitqueue(m, pfn))
    while load_acquire(m, "stop") == 0:
        if killable != 0 and load_acquire(task_at(m, cpu.current), "fatal_signal") != 0:
            return -EINTR
        point(cpu.party, S_WAIT)
        cookie = prepare_to_wait(queue)
        SetPageFlag(page, PG_waiters)
        point(cpu.party, S_LOOK)
        done = not TestSetPageFlag(page, flag) if exclusive != 0 else not test_flag(page, flag)
        if done:
            finish_wait(queue, cookie)
            return 0
        schedule_timeout(m, cpu, queue, cookie, clock_ns() + SECOND_NS)
        finish_wait(queue, cookie)
    return -EINTR


@core
def lock_page(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``lock_page()``: false when the machine is being stopped."""
    point(cpu.party, S_LOCK)
    if trylock_page(page_record(m, pfn_to_page(m, pfn))):
        return True
    return wait_on_page_bit_common(m, cpu, pfn, PG_locked, 0, 1) == 0


@core
def lock_page_killable(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``lock_page_killable()``: 0 or -EINTR."""
    point(cpu.party, S_LOCK)
    if trylock_page(page_record(m, pfn_to_page(m, pfn))):
        return 0
    return wait_on_page_bit_common(m, cpu, pfn, PG_locked, 1, 1)


@core
def wait_on_page_bit(m: Machine, cpu: Cpu, pfn: int, flag: int) -> None:
    """``mm/filemap.c:wait_on_page_bit() (5.10)``: until a flag of the page is clear. A reference is held."""
    if test_flag(page_record(m, pfn_to_page(m, pfn)), flag):
        wait_on_page_bit_common(m, cpu, pfn, flag, 0, 0)


@core
def wait_on_page_locked_killable(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``wait_on_page_locked_killable()``: 0 or -EINTR."""
    if not test_flag(page_record(m, pfn_to_page(m, pfn)), PG_locked):
        return 0
    return wait_on_page_bit_common(m, cpu, pfn, PG_locked, 1, 0)


@core(cold=True)
def put_and_wait_on_page_locked(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/filemap.c:put_and_wait_on_page_locked() (5.10)``: the reference is dropped before the wait, so that it isn't
    in the way of what the lock's holder does; the page may be another's afterwards."""
    page = page_record(m, pfn_to_page(m, pfn))
    queue = wait_queue_at(m, page_waitqueue(m, pfn))
    point(cpu.party, S_WAIT)
    cookie = prepare_to_wait(queue)
    SetPageFlag(page, PG_waiters)
    locked = test_flag(page, PG_locked)
    put_page(m, cpu, pfn)
    if locked:
        schedule_timeout(m, cpu, queue, cookie, clock_ns() + SECOND_NS)
    finish_wait(queue, cookie)


@core(inline=True)
def dying(m: Machine, cpu: Cpu) -> bool:
    """Whether the current task has SIGKILL pending, or the machine is being stopped."""
    return fatal_signal_pending(task_at(m, cpu.current)) or load_acquire(m, "stop") != 0
