"""Operations of reclaim."""

from emu.compact.frag import should_proactive_compact_node
from emu.cpu.cpu_hotplug import vmstat_cpu_dead
from emu.cpu.page_alloc import __alloc_pages_nodemask
from emu.cpu.pageset import refresh_cpu_vm_stats
from emu.mm.alloc import alloc_page
from emu.mm.filemap import create_file
from emu.mm.kswapd_run import kswapd_stop
from emu.mm.page_cache import add_to_page_cache_lru
from emu.mm.page_lock import unlock_page
from emu.mm.pagevec import lru_add_drain, put_page
from emu.race.area import OpRecord, RaceArea
from emu.race.scenario import OpKind
from emu.reclaim.direct import memalloc_noreclaim_restore, memalloc_noreclaim_save, set_zones, shrink_zones
from emu.reclaim.scan_control import SWAP_CLUSTER_MAX, scan_control, set_task_reclaim_state
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, gfp_zone
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.kswapd_wake import wakeup_kswapd
from emu.zone.mm_types import AS_FILE, vm_at
from emu.zone.alloc_context import NODEMASK_NONE
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import NULL, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag
from emu.zone.sched import task_at
from emu.zone.setup import set_pgdat_percpu_threshold
from emu.zone.zonelist import node_zonelist
from shm.core import core
from shm.point import point, site
from shm.waitqueue import prepare_to_wait

BASE = 32
(OP_WAKEUP, OP_PI_ALLOC, OP_SHRINK, OP_THRESHOLDS, OP_PRESSURE, OP_KSWAPD_STOP, OP_KCOMPACTD_LOOKS, OP_READ_FILE,
 OP_VMSTAT, OP_KILLED) = range(BASE, BASE + 10)  # fmt: skip
# a.ghost[] of this family
G_ORDER, G_ZONEIDX = 20, 21  # the most that was asked of kswapd
NORMAL = gfp_zone(GFP_KERNEL)
S_HOLD = site("try_to_wake_up:pi_lock held")
S_KILLED = site("throttle_direct_reclaim:prepare_to_wait killed")
S_REFRESH = site("refresh_zone_stat_thresholds:write stat_threshold")

wakeup = OpKind(
    "wakeup", OP_WAKEUP, (("order", 0), ("gfp", GFP_NOWAIT), ("node", 0), ("zoneidx", NORMAL)),
    "wakeup_kswapd() for a node, as every slow path does that may",
)  # fmt: skip
pi_alloc = OpKind(
    "pi_alloc", OP_PI_ALLOC, (("slot", 0), ("order", 0), ("gfp", 0), ("node", 0)),
    "__alloc_pages_nodemask() under kswapd's pi_lock, as debug objects of the scheduler need it",
)  # fmt: skip
shrink = OpKind(
    "shrink", OP_SHRINK, (("priority", 0), ("gfp", GFP_KERNEL), ("order", 0)),
    "shrink_zones() at one priority: a round of direct reclaim",
)  # fmt: skip
thresholds = OpKind("thresholds", OP_THRESHOLDS, (), "vmstat_cpu_dead(): refresh_zone_stat_thresholds()")
pressure = OpKind(
    "pressure", OP_PRESSURE, (("on", 1), ("node", 0)), "set_pgdat_percpu_threshold(): kswapd gets up, or goes to sleep"
)
stop_kswapd = OpKind("kswapd_stop", OP_KSWAPD_STOP, (("node", 0),), "kswapd_stop(): the node's last memory has gone")
kcompactd_looks = OpKind(
    "kcompactd_looks", OP_KCOMPACTD_LOOKS, (("node", 0),), "should_proactive_compact_node(), of kcompactd's half second"
)
read_file = OpKind("read_file", OP_READ_FILE, (("pages", 1),), "clean pages of a file, to the inactive list")
killed_throttled = OpKind(
    "killed_throttled", OP_KILLED, (("node", 0),),
    "throttle_direct_reclaim() of a task that is killed while it waits, and gets no processor to leave the queue",
)  # fmt: skip
vmstat = OpKind("vmstat", OP_VMSTAT, (), "refresh_cpu_vm_stats(): this CPU's counts into the zone's")
RECLAIM_OPS: tuple[OpKind, ...] = (
    wakeup, pi_alloc, shrink, thresholds, pressure, stop_kswapd, kcompactd_looks, read_file, vmstat,
    killed_throttled,
)  # fmt: skip


@core(cold=True)
def op_wakeup(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """What is asked for is remembered first."""
    order = op.args[0]
    zoneidx = op.args[3]
    a.ghost[G_ORDER] = max(a.ghost[G_ORDER], order)
    a.ghost[G_ZONEIDX] = max(a.ghost[G_ZONEIDX], zoneidx)
    wakeup_kswapd(m, cpu, m.nodes[op.args[2]].node_zones[zoneidx], op.args[1], order, zoneidx)
    return 0


@core(cold=True)
def op_pi_alloc(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """``debug_object_activate()`` in a timer or a wake-up, which has the scheduler's locks: it refills its pool."""
    pi_lock = vm_at(m, m.vm).kswapds[op.args[3]].pi_lock
    flags = spin_lock_irqsave(cpu, pi_lock, S_HOLD)
    pfn = __alloc_pages_nodemask(m, cpu, op.args[2], op.args[1], op.args[3], 0)
    spin_unlock_irqrestore(m, cpu, pi_lock, flags)
    a.slots[op.args[0]] = pfn + 1
    return pfn


@core(cold=True)
def op_shrink(m: Machine, cpu: Cpu, op: OpRecord) -> int:
    """Returns the pages reclaimed."""
    sc = scan_control()
    sc.nr_to_reclaim = SWAP_CLUSTER_MAX
    sc.gfp_mask = op.args[1]
    sc.reclaim_idx = gfp_zone(sc.gfp_mask)
    sc.order = op.args[2]
    sc.priority = op.args[0]
    sc.may_writepage = 1
    sc.may_unmap = 1
    sc.may_swap = 1
    set_zones(m, cpu, sc, node_zonelist(m, cpu.node, sc.gfp_mask), 0, NODEMASK_NONE)
    set_task_reclaim_state(m, cpu, sc)
    flags = memalloc_noreclaim_save(m, cpu)
    shrink_zones(m, cpu, sc)
    memalloc_noreclaim_restore(m, cpu, flags)
    return sc.nr_reclaimed


@core(cold=True)
def op_read_file(m: Machine, cpu: Cpu, pages: int) -> int:
    """Returns how many there are now."""
    file = create_file(m, AS_FILE, pages)
    done = 0
    while done < pages:
        pfn = alloc_page(m, cpu, GFP_HIGHUSER_MOVABLE)
        if pfn == NULL:
            break
        if add_to_page_cache_lru(m, cpu, pfn, file, done, GFP_HIGHUSER_MOVABLE) < 0:
            put_page(m, cpu, pfn)
            break
        SetPageFlag(page_record(m, pfn_to_page(m, pfn)), PG_uptodate)
        unlock_page(m, cpu, pfn)
        put_page(m, cpu, pfn)
        done += 1
    lru_add_drain(m, cpu)
    return done


@core(cold=True)
def run_reclaim_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """One operation of this family."""
    if op.code == OP_WAKEUP:
        return op_wakeup(m, cpu, a, op)
    if op.code == OP_PI_ALLOC:
        return op_pi_alloc(m, cpu, a, op)
    if op.code == OP_SHRINK:
        return op_shrink(m, cpu, op)
    if op.code == OP_THRESHOLDS:
        point(cpu.party, S_REFRESH)
        vmstat_cpu_dead(m)
    elif op.code == OP_PRESSURE:
        set_pgdat_percpu_threshold(m, m.nodes[op.args[1]], op.args[0])
    elif op.code == OP_KSWAPD_STOP:
        kswapd_stop(m, cpu, op.args[0])
    elif op.code == OP_KCOMPACTD_LOOKS:
        return 1 if should_proactive_compact_node(m, cpu, m.nodes[op.args[0]]) else 0
    elif op.code == OP_READ_FILE:
        return op_read_file(m, cpu, op.args[0])
    elif op.code == OP_VMSTAT:
        refresh_cpu_vm_stats(m, cpu, 0)
    elif op.code == OP_KILLED:
        point(cpu.party, S_KILLED)
        task_at(m, cpu.current).throttled = op.args[0] + 1
        task_at(m, cpu.current).fatal_signal = 1
        prepare_to_wait(m.nodes[op.args[0]].pfmemalloc_wait)
    return 0
