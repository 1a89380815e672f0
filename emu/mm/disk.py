"""The disk: a queue of one-page requests, served in order by a process of its own (``block/``, ``mm/page_io.c``,
``mm/backing-dev.c`` (5.10)).

A request is transferred when those before it are, ``page_ns`` a page, and done ``latency_ns`` later; that is reckoned
in times, so a disk process that oversleeps catches up. Its completion runs as an interrupt's handler does.

Differs from 5.10: there is no I/O scheduler that merges or reorders requests, and no error. A full queue makes the
submitter wait, as a block device's request tags do. Like a multi-queue block device of 5.10 the disk never calls itself
congested, unless ``Disk.congested_at`` makes it do what NFS does.
"""

from emu.cpu.pageset import drain_local_pages
from emu.cpu.wait import schedule_timeout, sleep_on_timeout
from emu.cpu.workqueue import cond_resched, poll
from emu.mm.page_dirty import end_page_writeback
from emu.mm.page_lock import unlock_page
from emu.mm.pagevec import lru_add_drain
from emu.zone.irq import local_irq_restore, local_irq_save, spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import DISK_QUEUE, Disk, vm_at
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag
from emu.zone.slow_stat import add_spent, slow_clock
from emu.zone.slow_types import SPENT_CONGESTION, SPENT_WAIT_IFF
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGPGIN, PGPGOUT
from shm.atomic import clock_ns, fetch_add, load_acquire, store_release, xchg
from shm.core import core, entry
from shm.point import point, site
from shm.waitqueue import finish_wait, look_again, prepare_to_wait, wake_up, waitqueue_active

BIO_READ = 0
BIO_WRITE = 1
BIO_SWAP_READ = 2
BIO_SWAP_WRITE = 3
SECTORS = 8  # of a page: what pgpgin and pgpgout count
TICK_NS = 100 * NS_PER_MS
BATCH = 64  # requests in a turn
S_SUBMIT = site("submit_bio:queue_lock")
S_ROOM = site("submit_bio:wait for room")
S_TAKE = site("disk:queue_lock")
S_DONE = site("disk:bio_endio")
S_IDLE = site("disk:wait for requests")
S_CONGESTED = site("wait_iff_congested:read nr_wb_congested")


# --- congestion -------------------------------------------------------------------------------------------------------


@core
def set_wb_congested(m: Machine) -> None:
    """``mm/backing-dev.c:set_bdi_congested() (5.10)``: ask reclaim to be slower."""
    vm = vm_at(m, m.vm)
    if xchg(vm.disk, "congested", 1) == 0:
        fetch_add(vm.nr_wb_congested, "counter", 1)


@core
def clear_wb_congested(m: Machine) -> None:
    """``mm/backing-dev.c:clear_bdi_congested() (5.10)``: whoever waits for that is woken."""
    vm = vm_at(m, m.vm)
    if xchg(vm.disk, "congested", 0) != 0:
        fetch_add(vm.nr_wb_congested, "counter", -1)
    if waitqueue_active(vm.disk.congestion_wait):
        wake_up(vm.disk.congestion_wait)


@core
def congestion_wait(m: Machine, cpu: Cpu, timeout_ms: int) -> bool:
    """``mm/backing-dev.c:congestion_wait() (5.10)``: until congestion ends, or for the time given; true if woken."""
    since = slow_clock(m)
    woken = sleep_on_timeout(m, cpu, vm_at(m, m.vm).disk.congestion_wait, timeout_ms * NS_PER_MS)
    add_spent(m, cpu, SPENT_CONGESTION, since)
    return woken


@core
def wait_iff_congested(m: Machine, cpu: Cpu, timeout_ms: int) -> bool:
    """``mm/backing-dev.c:wait_iff_congested() (5.10)``: the same, if there is congestion."""
    vm = vm_at(m, m.vm)
    point(cpu.party, S_CONGESTED)
    if load_acquire(vm.nr_wb_congested, "counter") == 0:
        cond_resched(m, cpu)
        return True
    since = slow_clock(m)
    woken = sleep_on_timeout(m, cpu, vm.disk.congestion_wait, timeout_ms * NS_PER_MS)
    add_spent(m, cpu, SPENT_WAIT_IFF, since)
    return woken


@core(inline=True)
def look_at_congestion(m: Machine, disk: Disk) -> None:
    """A device that has ``congested_at``: congested from there on, no more below three quarters of it."""
    if disk.congested_at == 0:
        return
    queued = disk.head - disk.tail
    if queued >= disk.congested_at:
        set_wb_congested(m)
    elif queued < disk.congested_at * 3 // 4 and load_acquire(disk, "congested") != 0:
        clear_wb_congested(m)


# --- requests ---------------------------------------------------------------------------------------------------------


@core
def queue_bio(m: Machine, cpu: Cpu, disk: Disk, pfn: int, what: int, owner: int) -> bool:
    """Put a request into the queue; false if that is full."""
    flags = spin_lock_irqsave(cpu, disk.queue_lock, S_SUBMIT)
    room = disk.head - disk.tail < DISK_QUEUE
    if room:
        bio = disk.queue[disk.head % DISK_QUEUE]
        bio.pfn = pfn
        bio.what = what
        bio.owner = owner
        bio.submitted = clock_ns()
        store_release(disk, "head", disk.head + 1)
        look_at_congestion(m, disk)
    spin_unlock_irqrestore(m, cpu, disk.queue_lock, flags)
    return room


@core
def submit_bio(m: Machine, cpu: Cpu, pfn: int, what: int, owner: int) -> None:
    """``submit_bio()``: queue a page for the disk, sleeping while there is no room. When the machine is being stopped
    the request may be dropped: nobody waits for it any more."""
    disk = vm_at(m, m.vm).disk
    if what == BIO_READ or what == BIO_SWAP_READ:
        __count_vm_events(cpu, PGPGIN, SECTORS)
    else:
        __count_vm_events(cpu, PGPGOUT, SECTORS)
    while not queue_bio(m, cpu, disk, pfn, what, owner):
        if load_acquire(m, "stop") != 0:
            return
        point(cpu.party, S_ROOM)
        cookie = prepare_to_wait(disk.room_wait)
        if load_acquire(disk, "head") - load_acquire(disk, "tail") >= DISK_QUEUE:
            schedule_timeout(m, cpu, disk.room_wait, cookie, clock_ns() + TICK_NS)
        finish_wait(disk.room_wait, cookie)
    wake_up(disk.disk_wait)


@core
def submit_read(m: Machine, cpu: Cpu, pfn: int, file: int) -> None:
    """Read a locked page of a file (its id), or a swap cache page (0). It is uptodate and unlocked when done."""
    submit_bio(m, cpu, pfn, BIO_READ if file != 0 else BIO_SWAP_READ, file)


@core
def submit_write(m: Machine, cpu: Cpu, pfn: int, what: int) -> None:
    """Write a page that is under writeback: BIO_WRITE or BIO_SWAP_WRITE. Its writeback ends when done."""
    submit_bio(m, cpu, pfn, what, 0)


# --- the disk's process -----------------------------------------------------------------------------------------------


@core
def bio_endio(m: Machine, cpu: Cpu, pfn: int, what: int) -> None:
    """A request is done (``end_swap_bio_read()``, ``mpage_end_io()``, ``end_swap_bio_write()``...): in an interrupt."""
    point(cpu.party, S_DONE)
    flags = local_irq_save(cpu, S_DONE)
    cpu.irq_nesting += 1
    if what == BIO_READ or what == BIO_SWAP_READ:
        SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
        unlock_page(m, cpu, pfn)
    else:
        end_page_writeback(m, cpu, pfn)
    cpu.irq_nesting -= 1
    local_irq_restore(m, cpu, flags)


@core
def sleep_until(m: Machine, cpu: Cpu, disk: Disk, deadline_ns: int) -> None:
    """Until the time has come; new requests don't matter."""
    while clock_ns() < deadline_ns and load_acquire(m, "stop") == 0:
        cookie = prepare_to_wait(disk.disk_wait)
        schedule_timeout(m, cpu, disk.disk_wait, cookie, deadline_ns)
        finish_wait(disk.disk_wait, cookie)


@core
def serve_bio(m: Machine, cpu: Cpu, disk: Disk) -> bool:
    """Do the oldest request: wait until it can be done, complete it, make room. False if it is due later than the
    next tick, or the machine is being stopped."""
    bio = disk.queue[disk.tail % DISK_QUEUE]
    pfn = bio.pfn
    what = bio.what
    done = max(bio.submitted, disk.busy_until) + disk.page_ns
    due = done + disk.latency_ns
    limit = clock_ns() + TICK_NS
    sleep_until(m, cpu, disk, min(due, limit))
    if due > limit or load_acquire(m, "stop") != 0:
        return False
    disk.busy_until = done
    if what == BIO_READ or what == BIO_SWAP_READ:
        disk.reads += 1
    else:
        disk.writes += 1
    bio_endio(m, cpu, pfn, what)
    flags = spin_lock_irqsave(cpu, disk.queue_lock, S_TAKE)
    store_release(disk, "tail", disk.tail + 1)
    look_at_congestion(m, disk)
    spin_unlock_irqrestore(m, cpu, disk.queue_lock, flags)
    wake_up(disk.room_wait)
    return True


@core
def disk_idle(m: Machine, cpu: Cpu, disk: Disk) -> None:
    """Nothing to do: give back the pages that completions left in this party's lists, sleep for at most a tick."""
    lru_add_drain(m, cpu)
    drain_local_pages(m, cpu, 0)
    point(cpu.party, S_IDLE)
    cookie = prepare_to_wait(disk.disk_wait)
    if load_acquire(disk, "head") == disk.tail:
        schedule_timeout(m, cpu, disk.disk_wait, cookie, look_again(TICK_NS))
    finish_wait(disk.disk_wait, cookie)


@entry
def disk_round(m: Machine, cpu: Cpu) -> bool:
    """One turn of the disk's process: up to BATCH requests; without any, sleep. True if something was done."""
    disk = vm_at(m, m.vm).disk
    if load_acquire(disk, "head") == disk.tail:
        disk_idle(m, cpu, disk)
        return False
    for _ in range(BATCH):
        if load_acquire(disk, "head") == disk.tail:
            break
        cpu.party.heartbeat += 1
        poll(m, cpu)
        if not serve_bio(m, cpu, disk):
            break
    if load_acquire(disk, "head") == disk.tail:
        lru_add_drain(m, cpu)
        drain_local_pages(m, cpu, 0)
    return True
