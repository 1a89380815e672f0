"""Operations of tasks: their cpusets and policies, requests that are judged when they fail, ends of processes."""

from emu.cpu.cpuset import cpuset_own_mems, cpuset_set_mems
from emu.cpu.free import __free_pages
from emu.cpu.mempolicy import do_set_mempolicy
from emu.cpu.page_alloc import __alloc_pages_nodemask, alloc_pages
from emu.cpu.pageset import drain_local_pages, refresh_cpu_vm_stats
from emu.mm.filemap import create_file
from emu.mm.memory import touch
from emu.mm.offline_pages import offline_pages
from emu.mm.mmap import mm_create, mmap
from emu.mm.page_cache import find_or_create_page
from emu.mm.page_lock import unlock_page
from emu.mm.pagevec import lru_add_drain, put_page
from emu.mm.vma import file_offset
from emu.race.area import OpRecord, RaceArea
from emu.race.invariants_tasks import G_BELOW_MIN, G_NEEDLESS, G_VICTIM, has_victims_share, zone_that_serves
from emu.race.scenario import OpKind
from emu.reclaim.oom_exit import exit_task
from emu.zone.gfp import (
    __GFP_DIRECT_RECLAIM, __GFP_HIGH, __GFP_MEMALLOC, __GFP_NOWARN, __GFP_THISNODE, ALLOC_WMARK_MIN,
    GFP_HIGHUSER_MOVABLE, GFP_KERNEL, gfp_zone,
)  # fmt: skip
from emu.zone.mm_types import AS_FILE, AS_NONE, VM_WRITE, file_record
from emu.zone.mmzone import MAX_ORDER, ZONE_NORMAL, Cpu, Machine, Node, page_record
from emu.zone.page import NULL, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag
from emu.zone.sched import task_at, tsk_is_oom_victim, user_task
from emu.zone.vmstat import zone_page_state_snapshot
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.core import core

BASE = 64
(OP_REQUEST, OP_CPUSET_MEMS, OP_TASK_MEMS, OP_SET_MEMPOLICY, OP_TAKE, OP_OFFLINE, OP_CACHE, OP_SPAWN, OP_RUN_AS,
 OP_EXIT, OP_HOLES) = range(BASE, BASE + 11)  # fmt: skip

request = OpKind(
    "request", OP_REQUEST, (("slot", 0), ("order", 0), ("gfp", GFP_KERNEL)),
    "alloc_pages() by the task's policy into a slot; if it fails, note whether it had to",
)  # fmt: skip
cpuset_mems = OpKind("cpuset_mems", OP_CPUSET_MEMS, (("cpuset", 1), ("mems", 1)), "write cpuset.mems")
task_mems = OpKind("task_mems", OP_TASK_MEMS, (("cpu", 0), ("mems", 1)), "put a CPU's task into a cpuset of its own")
set_mempolicy = OpKind("set_mempolicy", OP_SET_MEMPOLICY, (("mode", 0), ("nodes", 0)), "do_set_mempolicy()")
take = OpKind("take", OP_TAKE, (("node", 0), ("leave", 0)), "allocate all but so many pages of a node, up to Normal")
offline = OpKind("offline", OP_OFFLINE, (("start", 0), ("pages", 1024)), "offline_pages()")
cache = OpKind(
    "cache", OP_CACHE, (("file", 1), ("first", 0), ("pages", 1), ("locked", 0)),
    "put clean pages into the page cache; locked ones can't be reclaimed",
)  # fmt: skip
spawn = OpKind("spawn", OP_SPAWN, (("task", 0), ("pages", 0)), "a process with so many anonymous pages")
run_as = OpKind("run_as", OP_RUN_AS, (("task", 0),), "the CPU runs this process from now on")
die = OpKind("die", OP_EXIT, (("task", 0),), "do_exit() of a process")
holes = OpKind(
    "holes", OP_HOLES, (("node", 0), ("order", 0)), "allocate a node's Normal zone, then free every second block"
)  # fmt: skip
TASK_OPS = (request, cpuset_mems, task_mems, set_mempolicy, take, offline, cache, spawn, run_as, die, holes)


@core(cold=True)
def op_request(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """The pfn goes into the slot. A failure is judged at once: nobody else has made a step since."""
    order = op.args[1]
    gfp = op.args[2]
    before = zone_that_serves(m, cpu, order, gfp_zone(gfp), ALLOC_WMARK_MIN)
    pfn = alloc_pages(m, cpu, gfp, order)
    if pfn != NULL and before == 0 and gfp & (__GFP_DIRECT_RECLAIM | __GFP_HIGH) == 0:
        a.ghost[G_BELOW_MIN] = 1
    a.slots[op.args[0]] = pfn + 1
    if pfn == NULL:
        a.ghost[G_NEEDLESS] = zone_that_serves(m, cpu, order, gfp_zone(gfp), ALLOC_WMARK_MIN)
        if tsk_is_oom_victim(task_at(m, cpu.current)) and has_victims_share(m, cpu, order, gfp_zone(gfp)):
            a.ghost[G_VICTIM] = 1
    return pfn


@core(cold=True)
def free_of(m: Machine, node: Node) -> int:
    """Free pages of a node, up to Normal."""
    pages = 0
    for zid in range(ZONE_NORMAL + 1):
        if node.node_zones[zid].managed_pages != 0:
            pages += zone_page_state_snapshot(m, node.node_zones[zid], NR_FREE_PAGES)
    return pages


@core(cold=True)
def op_take(m: Machine, cpu: Cpu, nid: int, leave: int) -> int:
    """Largest blocks first, so that few calls do it; then all counters are up to date. Returns what is free."""
    gfp = __GFP_MEMALLOC | __GFP_NOWARN | __GFP_THISNODE
    order = MAX_ORDER - 1
    while order >= 0:
        enough = free_of(m, m.nodes[nid]) >= leave + (1 << order)
        if not enough or __alloc_pages_nodemask(m, cpu, gfp, order, nid, 0) == NULL:
            order -= 1
    refresh_cpu_vm_stats(m, cpu, 0)
    return free_of(m, m.nodes[nid])


@core(cold=True)
def op_holes(m: Machine, cpu: Cpu, nid: int, order: int) -> int:
    """Memory in pieces: half of it is free, and nothing larger than ``order``. Returns what is free."""
    gfp = __GFP_MEMALLOC | __GFP_NOWARN | __GFP_THISNODE
    while __alloc_pages_nodemask(m, cpu, gfp, order, nid, 0) != NULL:
        pass
    zone = m.nodes[nid].node_zones[ZONE_NORMAL]
    for pfn in range(zone.zone_start_pfn, zone.zone_start_pfn + zone.spanned_pages, 2 << order):
        __free_pages(m, cpu, pfn, order)
    drain_local_pages(m, cpu, 0)
    refresh_cpu_vm_stats(m, cpu, 0)
    return free_of(m, m.nodes[nid])


@core(cold=True)
def op_cache(m: Machine, cpu: Cpu, file: int, first: int, pages: int, locked: int) -> int:
    """As reading the file would leave them: clean, and on the inactive list; or have them (``locked``) while the disk
    still reads. Returns how many there are."""
    mapping = file_record(m, file_offset(m, file))
    if mapping.kind == AS_NONE:
        create_file(m, AS_FILE, 0)
    mapping.nr_slots = max(mapping.nr_slots, first + pages)
    for index in range(first, first + pages):
        pfn = find_or_create_page(m, cpu, file, index, GFP_HIGHUSER_MOVABLE, 0)
        if pfn == NULL:
            return index - first
        if locked == 0:
            SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
            unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
    lru_add_drain(m, cpu)
    return pages


@core(cold=True)
def op_spawn(m: Machine, cpu: Cpu, k: int, pages: int) -> int:
    """User task ``k`` gets an address space, and memory that it has written to. Returns how many pages it got."""
    before = cpu.current
    mm_id = mm_create(m, cpu, k, 0)
    cpu.current = user_task(m, k)
    mmap(m, mm_id, 0, pages, 0, VM_WRITE, 0)
    touched = 0
    while touched < pages and touch(m, cpu, mm_id, touched, 1) == 0:
        touched += 1
    lru_add_drain(m, cpu)
    cpu.current = before
    return touched


@core(cold=True)
def run_tasks_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """One operation of this family."""
    one = op.args[0]
    two = op.args[1]
    if op.code == OP_REQUEST:
        return op_request(m, cpu, a, op)
    if op.code == OP_CPUSET_MEMS:
        return cpuset_set_mems(m, cpu, one, two)
    if op.code == OP_TASK_MEMS:
        return cpuset_own_mems(m, cpu, one, two)
    if op.code == OP_SET_MEMPOLICY:
        return do_set_mempolicy(m, cpu, one, two)
    if op.code == OP_TAKE:
        return op_take(m, cpu, one, two)
    if op.code == OP_OFFLINE:
        return offline_pages(m, cpu, one, two)
    if op.code == OP_CACHE:
        return op_cache(m, cpu, one, two, op.args[2], op.args[3])
    if op.code == OP_SPAWN:
        return op_spawn(m, cpu, one, two)
    if op.code == OP_RUN_AS:
        cpu.current = user_task(m, one)
        return 0
    if op.code == OP_EXIT:
        return 1 if exit_task(m, cpu, one) else 0
    if op.code == OP_HOLES:
        return op_holes(m, cpu, one, two)
    return 0
