"""Scripts: operations in shared memory that CPUs execute.

A script is an array of :class:`Op` in the segment's script area, followed by a table of handles (pages that operations
allocate and free). :mod:`emu.workload.script_run` executes it.
"""

from emu.cpu.free import S_FREE_LIST, __free_pages, free_unref_page_list, free_unref_page_prepare
from emu.cpu.mempolicy import do_set_mempolicy
from emu.cpu.page_alloc import __alloc_pages_nodemask, alloc_pages
from emu.cpu.pageset import (
    drain_local_pages,
    drain_pages_zone,
    drain_zone_pages,
    free_unref_page_commit,
    refresh_cpu_vm_stats,
)  # fmt: skip
from emu.cpu.workqueue import (
    cond_resched,
    cpu_at,
    drain_all_pages,
    poll,
    ring_doorbell,
    sleep_on_doorbell_until,
)  # fmt: skip
from emu.zone.event import trace_mm_page_free_batched
from emu.zone.gfp import PF_MEMALLOC, gfp_zone
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.list import INIT_LIST_HEAD, list_add_tail
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine, Zone, cpu_record, page_record, pageset_at, zone_at, zonelist_at
from emu.zone.page import PAGE_FLAGS_CHECK_AT_FREE, PG_head, PG_table, clear_flag, page_zone, pfn_to_page
from emu.zone.sched import task_at
from emu.zone.setup import set_threshold, setup_per_zone_wmarks
from emu.zone.time import NS_PER_MS
from emu.zone.vmstat import fold_zone
from emu.zone.vmstat_items import NR_FREE_PAGES, PGSTEAL_KSWAPD
from emu.zone.zonelist import node_zonelist
from shm.atomic import clock_ns, cpu_relax, fetch_add, load_acquire, store_release
from shm.core import core, seam
from shm.seqcount import write_seqcount_begin, write_seqcount_end
from shm.struct import At, Struct, i8, i16, i32, i64, size_of, struct, u8, u32
from shm.waitqueue import waitqueue_active

OP_NOP = 0
OP_ALLOC = 1  # nid < 0: under the task's policy
OP_FREE = 2
OP_FREE_LIST = 3  # handles h .. h + n - 1
OP_DRAIN_ALL = 4
OP_DRAIN_LOCAL = 5
OP_MIN_FREE = 6
OP_SCALE = 7
OP_BOOST = 8
OP_MEMALLOC = 9
OP_MEMPOLICY = 10
OP_MEMS_ALLOWED = 11
OP_FLIP_MEMS = 12  # another task's mems_allowed, under its seqcount
OP_FOLD = 13
OP_DRAIN_ZONE = 14  # this CPU's pages of zone (nid, zid)
OP_EXPIRE_ZONE = 15
OP_FOLD_ZONE = 16
OP_THRESHOLD = 17
OP_FREE_PFN = 18  # a page that no operation allocated: its owner is done with it
OP_PREPARE = 19  # the first half of free_unref_page_list() for one such page
OP_COMMIT = 20  # and the second
OP_MSLEEP = 21  # n milliseconds
OP_WAIT_KSWAPD = 22  # until the kswapd of node nid sleeps, n milliseconds at most; its result: how many it took
OP_KSWAPD_RUNS = 23  # the n-th run of the kswapd of node nid may begin now
OP_KSWAPD_RAN = 24  # it was over by now in the recorded kernel: wait for it, if there is one
OP_KSWAPD_STOLE = 25  # in the n-th run it had reclaimed ``nodemask`` pages by now
OP_DRIVEN = 26  # from here on: emu.workload.driven_ops

ENDS = 2  # Op.done of one after which the script makes no sense


@struct
class Op(Struct):
    """One operation: what to do, and what came of it."""

    code: int = u8()
    order: int = u8()
    cpu: int = i16()
    gfp: int = u32()
    handle: int = i32()
    nid: int = i16()
    zid: int = i16()
    nodemask: int = i64()
    n: int = i64()
    pfn: int = i64()  # in: the page of a foreign free; out: the page
    # results
    free: int = i64()
    boost: int = i64()
    highatomic: int = i64()
    freediff: int = i16()
    zone_flags: int = i16()
    pcp: int = i32()
    znid: int = i8()
    rzid: int = i8()
    done: int = i8()
    _hole: int = u8()
    task: int = i32()


@struct
class Handle(Struct):
    """A page that an operation holds."""

    pfn: int = i64()
    order: int = i64()


op_at = At(Op)
handle_at = At(Handle)
OP_SIZE = size_of(Op)
HANDLE_SIZE = size_of(Handle)
PACE_NS = 200_000_000
PACE_SLICE_NS = 20_000


@core
def op_state(m: Machine, cpu: Cpu, op: Op, zone: Zone) -> None:
    """What the zone looks like right after the operation, as the recorded cases note it."""
    pset = pageset_at(m, zone.pageset + cpu.pageset_offset)
    op.znid = zone.node
    op.rzid = zone.zid
    op.free = zone.vm_stat[NR_FREE_PAGES].counter
    op.freediff = pset.vm_stat_diff[NR_FREE_PAGES]
    op.pcp = pset.count
    op.boost = zone.watermark_boost
    op.highatomic = zone.nr_reserved_highatomic
    op.zone_flags = zone.zone_flags


@core
def first_zone(m: Machine, nid: int, gfp: int) -> int:
    """Offset of the first zone a request could use."""
    zonelist = zonelist_at(m, node_zonelist(m, nid, gfp))
    z = 0
    while zonelist.zonerefs[z].zone_idx > gfp_zone(gfp):
        z += 1
    return zonelist.zonerefs[z].zone


@core
def do_alloc(m: Machine, cpu: Cpu, op: Op, handles: int) -> None:
    """OP_ALLOC"""
    if op.nid >= 0:
        pfn = __alloc_pages_nodemask(m, cpu, op.gfp, op.order, op.nid, op.nodemask)
        nid = op.nid
    else:
        pfn = alloc_pages(m, cpu, op.gfp, op.order)
        nid = cpu.node
    op.pfn = pfn
    if op.handle >= 0:
        handle = handle_at(m, handles + op.handle * HANDLE_SIZE)
        handle.pfn = pfn
        handle.order = op.order
    zone = first_zone(m, nid, op.gfp)
    if pfn >= 0:
        zone = page_zone(m, page_record(m, pfn_to_page(m, pfn)))
    op_state(m, cpu, op, zone_at(m, zone))


@core
def do_free(m: Machine, cpu: Cpu, op: Op, handles: int) -> None:
    """OP_FREE; a handle without a page is left alone."""
    handle = handle_at(m, handles + op.handle * HANDLE_SIZE)
    pfn = handle.pfn
    op.pfn = pfn
    if pfn < 0:
        return
    zone = zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn))))
    __free_pages(m, cpu, pfn, handle.order)
    handle.pfn = -1
    op_state(m, cpu, op, zone)


@core
def do_free_list(m: Machine, cpu: Cpu, op: Op, handles: int) -> None:
    """OP_FREE_LIST: the order-0 pages among the handles, as one ``free_unref_page_list()``."""
    INIT_LIST_HEAD(m, cpu.batch)
    zone = 0
    for h in range(op.handle, op.handle + op.n):
        handle = handle_at(m, handles + h * HANDLE_SIZE)
        if handle.pfn < 0 or handle.order != 0:
            continue
        page = page_record(m, pfn_to_page(m, handle.pfn))
        zone = page_zone(m, page)
        if fetch_add(page, "refcount", -1) == 1:
            list_add_tail(m, page.lru, cpu.batch)
        handle.pfn = -1
    free_unref_page_list(m, cpu)
    if zone != 0:
        op_state(m, cpu, op, zone_at(m, zone))


@core
def flip_mems_allowed(m: Machine, cpu: Cpu, index: int, nodemask: int, pause: int) -> None:
    """``cpuset_change_task_nodemask()`` on the task of another CPU: new mask between two bumps of its
    seqcount; then a pause of so many ``cpu_relax()``."""
    task = task_at(m, cpu_record(m, cpu_at(m, index)).current)
    write_seqcount_begin(task.mems_allowed_seq)
    task.mems_allowed = nodemask
    write_seqcount_end(task.mems_allowed_seq)
    for _ in range(pause):
        cpu_relax()


@core
def let_go(m: Machine, pfn: int, order: int, references: int) -> None:
    """What the last owner does before it frees a page: off the LRU, unmapped, without flags and owner."""
    for at in range(pfn + 1, pfn + (1 << order)):
        clear_flag(page_record(m, pfn_to_page(m, at)), PAGE_FLAGS_CHECK_AT_FREE)
    page = page_record(m, pfn_to_page(m, pfn))
    if order == 0:
        clear_flag(page, PG_head)  # part of a compound page that was split
    clear_flag(page, PAGE_FLAGS_CHECK_AT_FREE | PG_table)
    page.mapcount = -1
    page.mapping = 0
    page.refcount = references


@core
def do_foreign_free(m: Machine, cpu: Cpu, op: Op, pfn: int) -> None:
    """OP_FREE_PFN, OP_PREPARE, OP_COMMIT: pages that the script holds no handle of."""
    op.pfn = pfn
    if op.code == OP_FREE_PFN:
        let_go(m, pfn, op.order, 1)
        __free_pages(m, cpu, pfn, op.order)
    elif op.code == OP_PREPARE:
        let_go(m, pfn, 0, 0)
        free_unref_page_prepare(m, cpu, pfn)
    else:
        flags = local_irq_save(cpu, S_FREE_LIST)
        trace_mm_page_free_batched(m, cpu, pfn)
        free_unref_page_commit(m, cpu, pfn)
        local_irq_restore(m, cpu, flags)


@core
def do_control(m: Machine, cpu: Cpu, op: Op) -> None:
    """The operations that neither allocate nor free by handle."""
    code = op.code
    if code == OP_DRAIN_ALL:
        drain_all_pages(m, cpu, 0)
    elif code == OP_DRAIN_LOCAL:
        drain_local_pages(m, cpu, 0)
    elif code == OP_MIN_FREE:
        m.min_free_kbytes = op.n
        setup_per_zone_wmarks(m, cpu)
    elif code == OP_SCALE:
        m.watermark_scale_factor = op.n
        setup_per_zone_wmarks(m, cpu)
    elif code == OP_BOOST:
        m.watermark_boost_factor = op.n
    elif code == OP_MEMALLOC:
        task = task_at(m, cpu.current)
        if op.n != 0:
            task.process_flags = task.process_flags | PF_MEMALLOC
        else:
            task.process_flags = task.process_flags & (0xFFFFFFFF - PF_MEMALLOC)
    elif code == OP_MEMPOLICY:
        op.pfn = do_set_mempolicy(m, cpu, op.n, op.nodemask)
    elif code == OP_MEMS_ALLOWED:
        task_at(m, cpu.current).mems_allowed = op.nodemask
    elif code == OP_FLIP_MEMS:
        flip_mems_allowed(m, cpu, op.n, op.nodemask, max(op.handle, 0))
    elif code == OP_FOLD:
        refresh_cpu_vm_stats(m, cpu, op.n)
    else:
        do_zone_control(m, cpu, op, m.nodes[op.nid].node_zones[op.zid])


@core
def do_zone_control(m: Machine, cpu: Cpu, op: Op, zone: Zone) -> None:
    """Operations on one zone, which others than the script's author caused in the recorded kernel."""
    code = op.code
    if code == OP_DRAIN_ZONE:
        drain_pages_zone(m, cpu, zone)
    elif code == OP_EXPIRE_ZONE:
        drain_zone_pages(m, cpu, zone)
    elif code == OP_FOLD_ZONE:
        fold_zone(m, cpu, zone)
    elif code == OP_THRESHOLD:
        set_threshold(m, zone, op.n)


@core
def do_wait(m: Machine, cpu: Cpu, op: Op) -> int:
    """OP_MSLEEP, OP_WAIT_KSWAPD: milliseconds slept."""
    waited = 0
    while waited < op.n and cond_resched(m, cpu):
        if op.code == OP_WAIT_KSWAPD and waitqueue_active(m.nodes[op.nid].kswapd_wait):
            break
        end = clock_ns() + NS_PER_MS
        while clock_ns() < end and load_acquire(m, "stop") == 0:
            sleep_on_doorbell_until(cpu, load_acquire(cpu, "doorbell"), end)
            poll(m, cpu)
        waited += 1
    return waited


@core
def pace_kswapd(m: Machine, cpu: Cpu, op: Op) -> None:
    """OP_KSWAPD_RUNS, OP_KSWAPD_RAN: kswapd and the script get on as they did in the recorded kernel."""
    k = vm_at(m, m.vm).kswapds[op.nid]
    kswapd = cpu_record(m, cpu_at(m, m.nr_cpus + op.nid))
    if op.code == OP_KSWAPD_RUNS:
        store_release(k, "may_run", op.n)
        ring_doorbell(kswapd)
        return
    deadline = clock_ns() + (PACE_NS if op.code == OP_KSWAPD_RAN else PACE_NS // 50)
    while load_acquire(k, "runs") < op.n and clock_ns() < deadline and cond_resched(m, cpu):
        if waitqueue_active(m.nodes[op.nid].kswapd_wait):
            if op.code == OP_KSWAPD_RAN:
                store_release(k, "runs", op.n)  # it had no reason to run here
            return
        stolen = kswapd.vm_events[PGSTEAL_KSWAPD] - k.stolen_before
        if op.code == OP_KSWAPD_STOLE and k.runs == op.n - 1 and stolen >= op.nodemask:
            return
        sleep_on_doorbell_until(cpu, load_acquire(cpu, "doorbell"), clock_ns() + PACE_SLICE_NS)


@seam
def do_driven(m: Machine, cpu: Cpu, op: Op, given: int) -> None:
    """Operations from OP_DRIVEN on; their bodies are in ``emu.workload.driven_ops``. ``given`` is the op's pfn."""


@core
def do_op(m: Machine, cpu: Cpu, op: Op, handles: int) -> None:
    """Execute one operation on this CPU."""
    given = op.pfn
    op.pfn = -1
    op.znid = -1
    if op.code == OP_ALLOC:
        do_alloc(m, cpu, op, handles)
    elif op.code == OP_FREE:
        do_free(m, cpu, op, handles)
    elif op.code == OP_FREE_LIST:
        do_free_list(m, cpu, op, handles)
    elif op.code >= OP_DRIVEN:
        do_driven(m, cpu, op, given)
    elif op.code >= OP_KSWAPD_RUNS:
        pace_kswapd(m, cpu, op)
    elif op.code >= OP_MSLEEP:
        op.pfn = do_wait(m, cpu, op)
    elif op.code >= OP_FREE_PFN:
        do_foreign_free(m, cpu, op, given)
    elif op.code != OP_NOP:
        do_control(m, cpu, op)
    op.done = max(op.done, 1)
