"""The core of a replay: small operations, executed in the recorded order or at will."""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.workqueue import cpu_at, poll, ring_doorbell
from emu.workload.script import HANDLE_SIZE, Handle, handle_at, let_go
from emu.workload.script_run import wait_turn
from emu.zone.mmzone import Cpu, Machine, cpu_record, page_record
from emu.zone.page import PG_head, clear_flag, compound_order, pfn_to_page
from emu.zone.snapshot import INDEX_BEFORE
from shm.atomic import cpu_relax, load_acquire, store_release
from shm.core import core, entry
from shm.struct import At, Struct, i16, i32, i64, size_of, struct, u8, u32

RP_ALLOC = 1
RP_FREE = 2
RP_SPLIT = 3  # the block will be freed in pieces
RP_FREE_PART = 4  # pages ``n`` .. of a split block
RP_FREE_PFN = 5  # page ``n`` of the state that the machine began with

PENDING, FAILED, FREED = -1, -2, -3  # what a handle's pfn may be instead of a page


@struct
class ReplayOp(Struct):
    """One operation of a replay, 16 bytes."""

    code: int = u8()
    order: int = u8()
    cpu: int = i16()
    gfp: int = u32()
    handle: int = i32()
    n: int = i32()


@struct
class ReplayResult(Struct):
    """What one CPU did."""

    _align_ = 64

    done: int = i64()
    allocs: int = i64()
    failed: int = i64()
    frees: int = i64()
    skipped: int = i64()  # frees of pages whose allocation failed here
    waits: int = i64()  # frees that had to wait for another CPU's allocation


replay_op_at = At(ReplayOp)
result_at = At(ReplayResult)
REPLAY_OP_SIZE = size_of(ReplayOp)
RESULT_SIZE = size_of(ReplayResult)


@core
def split(m: Machine, pfn: int, order: int) -> None:
    """``mm/page_alloc.c:split_page() (5.10)``: every page gets a reference of its own.

    Differs from 5.10: a compound page is taken apart first, as ``split_huge_page()`` would.
    """
    if compound_order(m, pfn) != 0:
        clear_flag(page_record(m, pfn_to_page(m, pfn)), PG_head)
    for i in range(1, 1 << order):
        page = page_record(m, pfn_to_page(m, pfn + i))
        page.mapping = 0
        page.lru.next = 0
        page.private = 0
        page.refcount = 1


@core
def do_part(m: Machine, cpu: Cpu, op: ReplayOp, handle: Handle, result: ReplayResult) -> None:
    """RP_SPLIT and RP_FREE_PART."""
    if handle.pfn < 0:
        result.skipped += 1
    elif op.code == RP_SPLIT:
        split(m, handle.pfn, handle.order)
    else:
        first = handle.pfn + op.n
        if op.order != 0:  # the other pages of the part go with its first one
            for i in range(1, 1 << op.order):
                page_record(m, pfn_to_page(m, first + i)).refcount = 0
        __free_pages(m, cpu, first, op.order)
        result.frees += 1


@core
def wait_for_page(m: Machine, cpu: Cpu, handle: Handle) -> bool:
    """The page is being allocated by another CPU that is behind; false when the machine is being stopped."""
    spins = 0
    while load_acquire(handle, "pfn") == PENDING:
        cpu_relax()
        spins += 1
        if spins & 1023 == 0:
            poll(m, cpu)
            if load_acquire(m, "stop") != 0:
                return False
    return True


@core(inline=True)
def replay_op(m: Machine, cpu: Cpu, op: ReplayOp, handle: Handle, result: ReplayResult) -> bool:
    """One operation; false when the machine is being stopped."""
    if op.code == RP_ALLOC:
        pfn = alloc_pages(m, cpu, op.gfp, op.order)
        handle.order = op.order
        result.allocs += 1
        if pfn < 0:
            result.failed += 1
            pfn = FAILED
        store_release(handle, "pfn", pfn)
        return True
    if op.code == RP_FREE_PFN:
        # a page that the kernel's compaction moved there may be another's, or free, here
        page = page_record(m, pfn_to_page(m, op.n))
        if page.index != INDEX_BEFORE or page.refcount == 0:
            result.skipped += 1
            return True
        let_go(m, op.n, op.order, 1)
        __free_pages(m, cpu, op.n, op.order)
        result.frees += 1
        return True
    pfn = load_acquire(handle, "pfn")
    if pfn == PENDING:
        result.waits += 1
        if not wait_for_page(m, cpu, handle):
            return False
        pfn = load_acquire(handle, "pfn")
    if op.code != RP_FREE:
        do_part(m, cpu, op, handle, result)
    elif pfn < 0:
        result.skipped += 1
    else:
        handle.pfn = FREED
        __free_pages(m, cpu, pfn, op.order)
        result.frees += 1
    return True


@entry
def replay_slice(
    m: Machine, cpu: Cpu, ops: int, handles: int, results: int, first: int, last: int, ordered: int
) -> int:
    """Execute this CPU's operations among ``[first, last)``; offsets of the three tables come first.

    ``ordered``: each run of operations of one CPU waits until all before it are done. Returns the operations done.
    """
    mine = cpu.party.index
    result = result_at(m, results + mine * RESULT_SIZE)
    done = 0
    at = first
    while at < last:
        if replay_op_at(m, ops + at * REPLAY_OP_SIZE).cpu != mine:
            at += 1
            continue
        if ordered != 0 and not wait_turn(m, cpu, at):
            break
        while at < last:
            op = replay_op_at(m, ops + at * REPLAY_OP_SIZE)
            if op.cpu != mine:
                break
            if not replay_op(m, cpu, op, handle_at(m, handles + op.handle * HANDLE_SIZE), result):
                return done
            done += 1
            at += 1
            if done & 63 == 0:
                cpu.party.heartbeat += 1
                result.done = done
                poll(m, cpu)
        if ordered != 0:
            store_release(m, "turn", at)
            if at < last:
                ring_doorbell(cpu_record(m, cpu_at(m, replay_op_at(m, ops + at * REPLAY_OP_SIZE).cpu)))
        elif load_acquire(m, "stop") != 0:
            break
    result.done = done
    return done
