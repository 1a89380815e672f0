"""``emu stress slowpath``: CPUs that keep memory at its watermarks, and what each kind of allocation costs there.

Page cache takes whatever is free, a process of each CPU uses anonymous memory, and on top of that every CPU allocates
and frees blocks in bursts, of all kinds and orders. What it holds swings, so that the watermarks are crossed again and
again. The cost of an allocation is what the slow path's counters of the task have grown by meanwhile.
"""

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.mm.mmap import mmap
from emu.mm.truncate import truncate_inode_pages
from emu.mm.vfs import vfs_read
from emu.workload.process import alive, end_process, end_processes, fork, leave, step, switch_to
from emu.workload.run import SLOT_SIZE, Run, breathe, random_below, slot_at
from emu.zone.gfp import (
    __GFP_COMP,
    __GFP_NORETRY,
    __GFP_NOWARN,
    __GFP_RETRY_MAYFAIL,
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOWAIT,
)  # fmt: skip
from emu.zone.mm_types import COMMS, VM_WRITE
from emu.zone.mmzone import (
    MAX_NR_ZONES,
    MAX_NUMNODES,
    WMARK_LOW,
    WMARK_MIN,
    Cpu,
    Machine,
)  # fmt: skip
from emu.zone.sched import Task, task_at
from emu.zone.slow_types import SPENT_SLOWPATH, SlowCost
from emu.zone.vmstat import zone_page_state
from emu.zone.vmstat_items import NR_FREE_PAGES
from shm.atomic import load_acquire
from shm.core import as_entries, core, entry
from shm.lockstat import HISTOGRAM_SIZE, bucket, histogram_at
from shm.struct import Array, Struct, array, embed, i64, struct

__all__ = ["KINDS", "NR_CLASSES", "NR_ORDERS", "WATERMARK_ENTRIES", "ClassCost", "Watermark", "give_all", "settle_in",
           "watermark"]  # fmt: skip

KINDS = ("GFP_KERNEL", "GFP_KERNEL|__GFP_NORETRY", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", "GFP_ATOMIC", "GFP_NOWAIT")
KIND_GFP = (
    GFP_KERNEL | __GFP_NOWARN, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN,
    GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN, GFP_ATOMIC | __GFP_NOWARN, GFP_NOWAIT | __GFP_NOWARN,
)  # fmt: skip
RETRY_MAYFAIL = 2
ATOMIC = 3
NR_KINDS = 5
NR_ORDERS = 7
NR_CLASSES = NR_KINDS * NR_ORDERS
COMM_HOG = COMMS.index("hog")
STORM = 6  # a burst of packets is so much longer: nothing else gets below half of the min watermark
PATIENCE = 32  # failures that end a burst
READS = 24  # pages read between bursts, at most
TOUCHES = 8  # pages touched between bursts, at most


@struct
class ClassCost(Struct):
    """What the allocations of one kind and order came to."""

    attempts: int = i64()
    succeeded: int = i64()
    failed: int = i64()
    fast: int = i64()  # without the slow path
    slow: int = i64()
    retries: int = i64()
    most_retries: int = i64()
    ns: int = i64()  # in the slow path
    longest_ns: int = i64()
    retries_by: Array[int] = array(i64, 4)  # RETRY_*
    restarts_by: Array[int] = array(i64, 3)  # RESTART_*
    failed_for: Array[int] = array(i64, 5)  # FAILED_*


@struct
class Watermark(Struct):
    """Parameters, results and state of one CPU."""

    _align_ = 64

    run: Run = embed(Run)
    anon: int = i64()  # pages of its process
    file_pages: int = i64()  # of the shared file
    burst: int = i64()  # blocks at a time, at most
    histograms: int = i64()  # offset from this record: for each class retries and ns
    read_at: int = i64()
    pages: int = i64()  # held
    killed: int = i64()
    looks: int = i64()
    lowest: Array[int] = array(i64, MAX_NUMNODES * MAX_NR_ZONES)  # free pages seen, by zone
    below_low: Array[int] = array(i64, MAX_NUMNODES * MAX_NR_ZONES)  # looks that saw less than the low watermark
    below_min: Array[int] = array(i64, MAX_NUMNODES * MAX_NR_ZONES)
    boosted: Array[int] = array(i64, MAX_NUMNODES * MAX_NR_ZONES)  # looks that saw a boost
    before: Array[int] = array(i64, 16)  # the task's counters when the present allocation began
    classes: Array[ClassCost] = array(ClassCost, NR_CLASSES)


RETRIES, RETRIES_BY, RESTARTS_BY, FAILED_FOR, SPENT = 0, 1, 5, 8, 13  # places in Watermark.before


@core
def look(m: Machine, w: Watermark) -> None:
    """How much is free in each zone, by the counter that watermark checks read; the marks are those without boost."""
    w.looks += 1
    for nid in range(m.nr_nodes):
        for zid in range(MAX_NR_ZONES):
            zone = m.nodes[nid].node_zones[zid]
            if zone.managed_pages == 0:
                continue
            at = zone.zone_id
            free = zone_page_state(zone, NR_FREE_PAGES)
            if free < w.lowest[at]:
                w.lowest[at] = free
            if zone.watermark_boost != 0:
                w.boosted[at] += 1
            if free < zone.watermark[WMARK_LOW]:
                w.below_low[at] += 1
            if free < zone.watermark[WMARK_MIN]:
                w.below_min[at] += 1


@core
def remember(w: Watermark, task: Task, cost: SlowCost) -> None:
    """The counters before an allocation."""
    w.before[RETRIES] = task.slowpaths
    w.before[SPENT] = cost.spent[SPENT_SLOWPATH]
    for i in range(4):
        w.before[RETRIES_BY + i] = task.retries_by[i]
    for i in range(3):
        w.before[RESTARTS_BY + i] = task.restarts_by[i]
    for i in range(5):
        w.before[FAILED_FOR + i] = cost.failed_for[i]


@core(cold=True)
def count_slow(w: Watermark, c: ClassCost, which: int, task: Task, cost: SlowCost) -> None:
    """An allocation has been through the slow path: what it took there."""
    c.slow += 1
    retries = 0
    for i in range(4):
        more = task.retries_by[i] - w.before[RETRIES_BY + i]
        c.retries_by[i] += more
        retries += more
    for i in range(3):
        c.restarts_by[i] += task.restarts_by[i] - w.before[RESTARTS_BY + i]
    for i in range(5):
        c.failed_for[i] += cost.failed_for[i] - w.before[FAILED_FOR + i]
    c.retries += retries
    c.most_retries = max(c.most_retries, retries)
    at = w.histograms + 2 * which * HISTOGRAM_SIZE
    histogram_at(w, at).counts[bucket(retries)] += 1
    spent = cost.spent[SPENT_SLOWPATH] - w.before[SPENT]
    histogram_at(w, at + HISTOGRAM_SIZE).counts[bucket(spent)] += 1
    c.ns += spent
    c.longest_ns = max(c.longest_ns, spent)


@core
def attempt(m: Machine, cpu: Cpu, w: Watermark, kind: int, order: int) -> bool:
    """One allocation, counted with its class."""
    run = w.run
    which = kind * NR_ORDERS + order
    c = w.classes[which]
    task = task_at(m, cpu.current)
    cost = task.slow
    remember(w, task, cost)
    gfp = KIND_GFP[kind] | (__GFP_COMP if order != 0 else 0)
    pfn = alloc_pages(m, cpu, gfp, order)
    run.ops += 1
    run.allocs += 1
    c.attempts += 1
    if task.slowpaths == w.before[RETRIES]:
        c.fast += 1
    else:
        count_slow(w, c, which, task, cost)
        look(m, w)
    if pfn < 0:
        c.failed += 1
        run.failed += 1
        return False
    c.succeeded += 1
    slot = slot_at(m, run.slots + run.held * SLOT_SIZE)
    slot.pfn = pfn
    slot.order = order
    run.held += 1
    run.by_order[order] += 1
    w.pages += 1 << order
    return True


@core
def put(m: Machine, cpu: Cpu, w: Watermark, index: int) -> None:
    """Free a block; the last one moves into the gap."""
    run = w.run
    slot = slot_at(m, run.slots + index * SLOT_SIZE)
    pfn = slot.pfn
    order = slot.order
    run.held -= 1
    last = slot_at(m, run.slots + run.held * SLOT_SIZE)
    slot.pfn = last.pfn
    slot.order = last.order
    run.ops += 1
    run.frees += 1
    w.pages -= 1 << order
    __free_pages(m, cpu, pfn, order)


@core
def any_block(m: Machine, cpu: Cpu, w: Watermark) -> bool:
    """One of 64: 18 GFP_KERNEL, 12 of them that don't retry, 4 that may fail (half of those costly: orders 4 to 6), 16
    atomic, 14 that may not wait. Of 16 nine are single pages, four of order 1, two of order 2, one of order 3."""
    what = random_below(w.run, 64)
    shape = random_below(w.run, 16)
    order = 0 if shape < 9 else 1 if shape < 13 else 2 if shape < 15 else 3
    kind = 0 if what < 18 else 1 if what < 30 else RETRY_MAYFAIL if what < 34 else ATOMIC if what < 50 else 4
    if w.run.turn < NR_KINDS:
        kind = w.run.turn
    if kind == RETRY_MAYFAIL and shape & 1 != 0:
        order = 4 + random_below(w.run, 3)
    return attempt(m, cpu, w, kind, order)


@core
def read_on(m: Machine, cpu: Cpu, w: Watermark, pages: int) -> None:
    """Read so many pages of the shared file, from where this CPU has come to."""
    for _ in range(pages):
        if w.file_pages == 0 or vfs_read(m, cpu, w.run.file, w.read_at % w.file_pages) < 0:
            return
        w.read_at += 1


@core
def allocate(m: Machine, cpu: Cpu, w: Watermark) -> None:
    """A burst of allocations, faster than kswapd wakes up: of all kinds, or of one, as when packets come in, which
    takes more of the reserves. Some are given back at once."""
    run = w.run
    run.turn = random_below(run, 2 * NR_KINDS)
    failed = 0
    longest = w.burst * STORM if run.turn == ATOMIC else w.burst
    for _ in range(1 + random_below(run, longest)):
        if run.held < run.nr_slots and failed < PATIENCE:
            failed += 0 if any_block(m, cpu, w) else 1
        if run.held > 0 and random_below(run, 4) == 0:
            put(m, cpu, w, random_below(run, run.held))
    look(m, w)


@core
def give_way(m: Machine, cpu: Cpu, w: Watermark) -> None:
    """Free a part of what it holds, and let page cache have it."""
    run = w.run
    pages = w.pages
    for _ in range(1 + random_below(run, w.burst)):
        if run.held > 0:
            put(m, cpu, w, random_below(run, run.held))
    read_on(m, cpu, w, pages - w.pages)


@core
def burst(m: Machine, cpu: Cpu, w: Watermark) -> None:
    """It fills up, then it empties."""
    if w.pages >= w.run.want or w.run.held >= w.run.nr_slots:
        w.run.phase = 1
    elif w.pages <= w.run.want >> 3:
        w.run.phase = 0
    if w.run.phase == 0:
        allocate(m, cpu, w)
    else:
        give_way(m, cpu, w)


@core
def new_hog(m: Machine, cpu: Cpu, w: Watermark) -> bool:
    """A new process with its memory; false: not now."""
    run = w.run
    run.mm = fork(m, cpu, run, run.first_task, COMM_HOG)
    run.position = 0
    return run.mm != 0 and mmap(m, run.mm, 0, w.anon, 0, VM_WRITE, 0) >= 0


@core
def use_anon(m: Machine, cpu: Cpu, w: Watermark, touches: int) -> None:
    """The CPU's process writes to some of its pages, all of them once and then any; when the OOM killer has taken it
    another one begins."""
    run = w.run
    if run.nr_tasks == 0 or w.anon == 0 or (run.mm == 0 and not new_hog(m, cpu, w)):
        return
    switch_to(m, cpu, run.first_task)
    going = alive(m, cpu, run, run.first_task)
    while going and touches > 0:
        slot = run.position if run.position < w.anon else random_below(run, w.anon)
        run.position += 1
        touches -= 1
        if not step(m, cpu, run, run.mm, slot, 1):
            touches = 0
        going = breathe(m, cpu) and alive(m, cpu, run, run.first_task)
    leave(m, cpu)
    if not going:
        end_process(m, cpu, run, run.first_task)
        run.mm = 0


@entry
def settle_in(m: Machine, cpu: Cpu, w: Watermark, pages: int) -> int:
    """Fill this CPU's share of memory: its process, then so many pages of the file. Pages read."""
    for i in range(MAX_NUMNODES * MAX_NR_ZONES):
        w.lowest[i] = 1 << 62
    while w.run.nr_tasks != 0 and w.run.position < w.anon and load_acquire(m, "stop") == 0:
        use_anon(m, cpu, w, 64)
    first = w.read_at
    while w.read_at - first < pages and breathe(m, cpu):
        before = w.read_at
        read_on(m, cpu, w, 64)
        if w.read_at == before:
            break
    return w.read_at - first


@entry
def watermark(m: Machine, cpu: Cpu, w: Watermark, budget: int) -> int:
    """A slice of bursts with reads and touches in between."""
    run = w.run
    first = run.ops
    while run.ops - first < budget:
        burst(m, cpu, w)
        read_on(m, cpu, w, random_below(run, READS))
        use_anon(m, cpu, w, random_below(run, TOUCHES))
        if not breathe(m, cpu):
            break
    return max(run.ops - first, 1)


@entry
def give_all(m: Machine, cpu: Cpu, w: Watermark, file: int) -> int:
    """Free everything; ``file``: also the page cache of this one. Blocks freed."""
    end_processes(m, cpu, w.run)
    w.run.mm = 0
    given = 0
    while w.run.held > 0:
        put(m, cpu, w, w.run.held - 1)
        given += 1
    if file != 0:
        truncate_inode_pages(m, cpu, file, 0)
    return given


WATERMARK_ENTRIES = as_entries(settle_in, watermark, give_all)
