"""The flusher: writes dirty files back, old ones now and then, all of them when too much is dirty
(``fs/fs-writeback.c``, ``mm/page-writeback.c`` (5.10)).

A process of its own stands for the device's writeback worker. Files wait in the order in which they became dirty
(``dirtied_when``); each gets a chunk of pages at a time, in index order from where the last chunk ended.

Differs from 5.10: files have no inode of their own to write, and nobody asks for integrity (``sync``), so every pass
is WB_SYNC_NONE.
"""

from emu.cpu.pageset import drain_local_pages
from emu.cpu.wait import schedule_timeout
from emu.cpu.workqueue import cond_resched
from emu.mm.bandwidth import wb_update_bandwidth
from emu.mm.dirty_limits import dirty_throttle, global_node_page_state, over_bg_thresh
from emu.mm.page_dirty import clear_page_dirty_for_io, page_file
from emu.mm.page_io import AOP_WRITEPAGE_ACTIVATE, writepage
from emu.mm.page_lock import lock_page, unlock_page
from emu.mm.page_writeback import WB_KICKED, WB_START_ALL, WB_WRITEBACK_RUNNING, wakeup_flusher_threads
from emu.mm.pagevec import lru_add_drain, put_page
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mm_types import (
    AS_FILE, AS_NONE, SLOT_SIZE, XA_PAGE, AddressSpace, Vm, file_at, file_record, slot_at, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_dirty, PG_writeback, pfn_to_page
from emu.zone.page_ref import get_page_unless_zero, test_flag
from emu.zone.time import HZ, NS_PER_MS, jiffies
from emu.zone.vmstat_items import NR_FILE_DIRTY
from shm.atomic import clock_ns, fetch_and, fetch_or, load_acquire
from shm.core import core, entry
from shm.point import point, site
from shm.waitqueue import finish_wait, look_again, prepare_to_wait

__all__ = ["flusher_round", "wakeup_flusher_threads", "write_cache_pages"]

MIN_WRITEBACK_PAGES = 1024
DIRTY_SCOPE = 8
PAGEVEC_SIZE = 15
TICK_NS = 100 * NS_PER_MS
NS_PER_CENTISEC = 10_000_000
KEEP = (1 << 32) - 1
# why pages are written
FOR_SYNC = 0
FOR_KUPDATE = 1
FOR_BACKGROUND = 2
S_LOOKUP = site("write_cache_pages:read slot")
S_CLEAN = site("requeue_inode:i_pages_lock")
S_SLEEP = site("wb_workfn:wait for work")


# --- one file ---------------------------------------------------------------------------------------------------------


@core
def next_dirty_page(m: Machine, cpu: Cpu, mapping: AddressSpace, index: int) -> int:
    """``pagevec_lookup_range_tag()`` of one page: the first dirty page from an index on, with a reference; NULL: none.
    Its index is the page's."""
    while index < mapping.nr_slots and load_acquire(mapping, "nr_dirty") > 0:
        slot = slot_at(m, mapping.i_pages + index * SLOT_SIZE)
        point(cpu.party, S_LOOKUP)
        value = load_acquire(slot, "value")
        if value & 3 == XA_PAGE:
            page = page_record(m, pfn_to_page(m, value >> 2))
            if test_flag(page, PG_dirty) and get_page_unless_zero(page):
                if load_acquire(slot, "value") == value:
                    return value >> 2
                put_page(m, cpu, value >> 2)
        index += 1
        if index & 1023 == 0 and not cond_resched(m, cpu):
            return NULL
    return NULL


@core
def write_cache_page(m: Machine, cpu: Cpu, pfn: int, file: int) -> bool:
    """One page of ``write_cache_pages()``: written, unless somebody else has done it or it is being written."""
    page = page_record(m, pfn_to_page(m, pfn))
    if not lock_page(m, cpu, pfn):
        return False
    busy = page_file(page) != file or not test_flag(page, PG_dirty) or test_flag(page, PG_writeback)
    if busy or not clear_page_dirty_for_io(m, cpu, pfn):
        unlock_page(m, cpu, pfn)
        return False
    if writepage(m, cpu, pfn) == AOP_WRITEPAGE_ACTIVATE:
        unlock_page(m, cpu, pfn)
    return True


@core
def write_cache_pages(m: Machine, cpu: Cpu, file: int, nr_to_write: int) -> int:
    """``mm/page-writeback.c:write_cache_pages() (5.10)``, cyclic: dirty pages of a file from ``writeback_index`` on to
    its end. Returns what is left of ``nr_to_write``; when the end was reached the next call begins at 0."""
    mapping = file_record(m, file_at(m, vm_at(m, m.vm), file))
    index = mapping.writeback_index
    done_index = 0
    looked = 0
    while nr_to_write > 0:
        pfn = next_dirty_page(m, cpu, mapping, index)
        if pfn == NULL:
            done_index = 0
            break
        done_index = page_record(m, pfn_to_page(m, pfn)).index
        index = done_index + 1
        if write_cache_page(m, cpu, pfn, file):
            nr_to_write -= 1
        put_page(m, cpu, pfn)
        looked += 1
        if looked % PAGEVEC_SIZE == 0 and not cond_resched(m, cpu):
            break
    mapping.writeback_index = done_index
    return nr_to_write


@core
def newest_dirty(m: Machine, vm: Vm, but: int) -> int:
    """``dirtied_when`` of the file that became dirty last, without one of them."""
    newest = 0
    for file in range(1, vm.nr_files + 1):
        mapping = file_record(m, file_at(m, vm, file))
        if file != but and mapping.kind == AS_FILE and mapping.nr_dirty > 0:
            newest = max(newest, mapping.dirtied_when)
    return newest


@core
def requeue_inode(m: Machine, cpu: Cpu, vm: Vm, file: int, left: int) -> None:
    """``fs/fs-writeback.c:requeue_inode() (5.10)``: a file that was written is clean; or its turn comes again, at once
    when its chunk ended, at its age's place otherwise (``redirty_tail()``), where it may become younger."""
    mapping = file_record(m, file_at(m, vm, file))
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_CLEAN)
    if load_acquire(mapping, "nr_dirty") <= 0:
        mapping.dirtied_when = 0
    elif left > 0 and mapping.dirtied_when < newest_dirty(m, vm, file):
        mapping.dirtied_when = clock_ns()
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)


# --- passes over all files --------------------------------------------------------------------------------------------


@core
def next_expired(m: Machine, vm: Vm, after: int, before_ns: int) -> int:
    """The next dirty file in order of age: ``dirtied_when << 8 | id`` beyond ``after`` and dirtied before a time; 0:
    none. Ids break ties."""
    best = 0
    for file in range(1, vm.nr_files + 1):
        mapping = file_record(m, file_at(m, vm, file))
        when = load_acquire(mapping, "dirtied_when")
        if mapping.kind != AS_FILE or when == 0 or when > before_ns:
            continue
        key = when << 8 | file
        if key > after and (best == 0 or key < best):
            best = key
    return best


@core
def writeback_chunk_size(vm: Vm, nr_pages: int) -> int:
    """``fs/fs-writeback.c:writeback_chunk_size() (5.10)``: what the device writes in half a second, no more than an
    eighth of the limit, in units of 4 MiB."""
    pages = min(vm.wb.avg_write_bandwidth // 2, vm.wb.dirty_limit // DIRTY_SCOPE)
    pages = min(pages, nr_pages) + MIN_WRITEBACK_PAGES
    return pages - pages % MIN_WRITEBACK_PAGES


@core
def writeback_inodes(m: Machine, cpu: Cpu, vm: Vm, nr_pages: int, before_ns: int) -> int:
    """``fs/fs-writeback.c:writeback_sb_inodes() (5.10)``: a chunk of each file that is old enough, oldest first, for
    100 ms or ``nr_pages``. Returns pages written."""
    started = clock_ns()
    wrote = 0
    key = next_expired(m, vm, 0, before_ns)
    while key != 0 and wrote < nr_pages and load_acquire(m, "stop") == 0:
        file = key & 255
        chunk = writeback_chunk_size(vm, nr_pages - wrote)
        left = write_cache_pages(m, cpu, file, chunk)
        wrote += chunk - left
        requeue_inode(m, cpu, vm, file, left)
        if clock_ns() - started > TICK_NS:
            break
        key = next_expired(m, vm, key, before_ns)
    return wrote


@core
def wb_writeback(m: Machine, cpu: Cpu, nr_pages: int, why: int) -> int:
    """``fs/fs-writeback.c:wb_writeback() (5.10)``: passes over the files until ``nr_pages`` are written, the background
    threshold is kept, or nothing more can be done. Returns pages written."""
    vm = vm_at(m, m.vm)
    dtc = dirty_throttle()
    start = jiffies(m)
    before_ns = clock_ns()
    wrote = 0
    while wrote < nr_pages and load_acquire(m, "stop") == 0:
        if why == FOR_BACKGROUND and not over_bg_thresh(m, cpu):
            break
        if why == FOR_KUPDATE:
            before_ns = clock_ns() - vm.dirty_expire_centisecs * NS_PER_CENTISEC
        elif why == FOR_BACKGROUND:
            before_ns = clock_ns()
        progress = writeback_inodes(m, cpu, vm, nr_pages - wrote, before_ns)
        wb_update_bandwidth(m, cpu, dtc, start, 0)
        if progress == 0:
            break
        wrote += progress
        cpu.party.heartbeat += 1
    return wrote


@core
def old_flush_due(m: Machine, vm: Vm) -> bool:
    """``vm.dirty_writeback_centisecs`` have passed since the last look for old pages; 0: never."""
    if vm.dirty_writeback_centisecs == 0:
        return False
    return jiffies(m) >= vm.wb.last_old_flush + vm.dirty_writeback_centisecs * HZ // 100


@core
def get_nr_dirty_pages(m: Machine, vm: Vm) -> int:
    """``fs/fs-writeback.c:get_nr_dirty_pages() (5.10)``: dirty pages, and one for each file."""
    nr_pages = global_node_page_state(m, NR_FILE_DIRTY)
    for file in range(1, vm.nr_files + 1):
        if file_record(m, file_at(m, vm, file)).kind != AS_NONE:
            nr_pages += 1
    return nr_pages


@core
def wb_do_writeback(m: Machine, cpu: Cpu, vm: Vm) -> int:
    """``fs/fs-writeback.c:wb_do_writeback() (5.10)``: what ``wakeup_flusher_threads()`` asked for, old pages every
    now and then, then down to the background threshold. Returns pages written."""
    fetch_or(vm.wb, "wb_state", WB_WRITEBACK_RUNNING)
    wrote = 0
    if load_acquire(vm.wb, "wb_state") & WB_START_ALL != 0:
        wrote += wb_writeback(m, cpu, get_nr_dirty_pages(m, vm), FOR_SYNC)
        fetch_and(vm.wb, "wb_state", KEEP - WB_START_ALL)
    if old_flush_due(m, vm):
        vm.wb.last_old_flush = jiffies(m)
        wrote += wb_writeback(m, cpu, get_nr_dirty_pages(m, vm), FOR_KUPDATE)
    if over_bg_thresh(m, cpu):
        wrote += wb_writeback(m, cpu, 1 << 40, FOR_BACKGROUND)
    fetch_and(vm.wb, "wb_state", KEEP - WB_WRITEBACK_RUNNING)
    return wrote


@core
def wait_for_work(m: Machine, cpu: Cpu, vm: Vm) -> None:
    """Nothing to do: give back what is in this party's lists, sleep until woken or for a tick."""
    lru_add_drain(m, cpu)
    drain_local_pages(m, cpu, 0)
    point(cpu.party, S_SLEEP)
    cookie = prepare_to_wait(vm.flusher_wait)
    if load_acquire(vm.wb, "wb_state") & WB_KICKED == 0:
        schedule_timeout(m, cpu, vm.flusher_wait, cookie, look_again(TICK_NS))
    finish_wait(vm.flusher_wait, cookie)


@entry
def flusher_round(m: Machine, cpu: Cpu) -> bool:
    """One turn of ``fs/fs-writeback.c:wb_workfn() (5.10)``: write what there is to write, if somebody asked or it is
    time; otherwise sleep. True if something was written.

    Differs from 5.10: in scheduled mode it sleeps until it is woken; no timer does.
    """
    vm = vm_at(m, m.vm)
    kicked = fetch_and(vm.wb, "wb_state", KEEP - WB_KICKED) & WB_KICKED != 0
    if kicked or old_flush_due(m, vm):
        return wb_do_writeback(m, cpu, vm) != 0
    wait_for_work(m, cpu, vm)
    return False
