"""``/proc/sys/vm/drop_caches`` (``fs/drop_caches.c``, ``mm/vmscan.c:drop_slab()`` (5.10))."""

from emu.mm.slab import count_objects, is_shrinkable, scan_objects
from emu.mm.truncate import drop_pagecache
from emu.zone.mmzone import Cpu, Machine
from emu.zone.slab_types import NR_SLAB_CACHES
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import DROP_SLAB
from shm.atomic import load_acquire
from shm.core import core, entry, seam

DROP_PAGE_CACHE = 1
DROP_SLAB_OBJECTS = 2


@seam
def shrink_slab_once(m: Machine, cpu: Cpu, nid: int) -> int:
    """``mm/vmscan.c:shrink_slab() (5.10)`` at priority 0: objects freed on a node. Without ``emu.reclaim`` every cache
    is
    scanned once over."""
    freed = 0
    for which in range(NR_SLAB_CACHES):
        if is_shrinkable(m, which):
            freed += scan_objects(m, cpu, which, nid, count_objects(m, which, nid))
    return freed


@core
def drop_slab(m: Machine, cpu: Cpu) -> int:
    """``mm/vmscan.c:drop_slab() (5.10)``: until a round frees no more than ten objects. Returns how many went."""
    total = 0
    for nid in range(m.nr_nodes):
        freed = 11
        while freed > 10 and load_acquire(m, "stop") == 0:
            freed = shrink_slab_once(m, cpu, nid)
            total += freed
    return total


@entry
def drop_caches(m: Machine, cpu: Cpu, what: int) -> int:
    """``drop_caches_sysctl_handler()``: 1: the page cache, 2: slab objects, 3: both. Returns pages and objects gone."""
    gone = 0
    if what & DROP_PAGE_CACHE != 0:
        gone += drop_pagecache(m, cpu)
    if what & DROP_SLAB_OBJECTS != 0:
        gone += drop_slab(m, cpu)
        __count_vm_events(cpu, DROP_SLAB, 1)
    return gone
