"""Shrinkers: caches of objects give back what is not used (``mm/vmscan.c`` (5.10)).

The shrinkers are the caches of ``emu.mm.slab`` that have one, with the batch of a superblock's.

Differs from 5.10: they know nodes but no memory cgroups, so limit reclaim leaves them alone; none comes or goes while
others are at work.
"""

from emu.cpu.workqueue import cond_resched
from emu.mm.slab import count_objects, scan_objects
from emu.zone.event import EV_SHRINK_SLAB_END, EV_SHRINK_SLAB_START, record
from emu.zone.gfp import __GFP_FS
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine
from emu.zone.slab_types import NR_SLAB_CACHES, SLAB_SHRINKER, slab_area_at
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import SLABS_SCANNED
from shm.atomic import fetch_add, xchg
from shm.core import core
from shm.point import point, site

SHRINK_BATCH = 1024  # of super_cache_scan()
DEFAULT_SEEKS = 2
S_DEFERRED = site("do_shrink_slab:xchg nr_deferred")


@core
def slab_delta(freeable: int, priority: int) -> int:
    """How many objects this pass wants looked at: half as many, in proportion, as pages of the LRU lists."""
    return (freeable >> priority) * 4 // DEFAULT_SEEKS


@core
def slab_total_scan(nr: int, delta: int, freeable: int) -> int:
    """With what was deferred: not more than half of the cache unless this pass alone wants much of it, and never more
    than twice the cache."""
    total_scan = nr + delta
    if delta < freeable // 4:
        total_scan = min(total_scan, freeable // 2)
    return min(total_scan, freeable * 2)


@core
def do_shrink_slab(m: Machine, cpu: Cpu, gfp_mask: int, nid: int, cache: int, priority: int) -> int:
    """``mm/vmscan.c:do_shrink_slab() (5.10)``: objects freed. In whole batches; what is left over is deferred, and all
    of it by those who may not enter the file system. Ends early when the machine is stopped.
    """
    freeable = count_objects(m, cache, nid)
    if freeable <= 0:
        return 0
    deferred = slab_area_at(m, vm_at(m, m.vm).slab).caches[cache].nr_deferred[nid]
    point(cpu.party, S_DEFERRED)
    nr = xchg(deferred, "counter", 0)
    delta = slab_delta(freeable, priority)
    total_scan = slab_total_scan(nr, delta, freeable)
    next_deferred = nr + delta
    if cpu.trace != 0:
        a = freeable | delta << 32
        record(m, cpu, EV_SHRINK_SLAB_START, nr, priority, nid, gfp_mask, a, total_scan | cache << 48)
    freed = 0
    scanned = 0
    while (total_scan >= SHRINK_BATCH or total_scan >= freeable) and gfp_mask & __GFP_FS != 0:
        nr_to_scan = min(SHRINK_BATCH, total_scan)
        freed += scan_objects(m, cpu, cache, nid, nr_to_scan)
        __count_vm_events(cpu, SLABS_SCANNED, nr_to_scan)
        total_scan -= nr_to_scan
        scanned += nr_to_scan
        if not cond_resched(m, cpu):
            break
    left = max(next_deferred - scanned, 0)
    after = fetch_add(deferred, "counter", left) + left
    if cpu.trace != 0:
        record(m, cpu, EV_SHRINK_SLAB_END, nr, 0, nid, 0, freed | total_scan << 32, after | cache << 48)
    return freed


@core
def shrink_slab(m: Machine, cpu: Cpu, gfp_mask: int, nid: int, memcg: int, priority: int) -> int:
    """``mm/vmscan.c:shrink_slab() (5.10)``: objects freed from all caches of a node."""
    freed = 0
    area = slab_area_at(m, vm_at(m, m.vm).slab)
    if memcg == 0:
        for cache in range(NR_SLAB_CACHES):
            if area.caches[cache].cache_flags & SLAB_SHRINKER != 0:
                freed += do_shrink_slab(m, cpu, gfp_mask, nid, cache, priority)
        cond_resched(m, cpu)
    return freed
