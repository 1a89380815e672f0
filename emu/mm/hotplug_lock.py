"""What every change of memory at run time has in common: one at a time, announced, and reported (EV_HOTPLUG)."""

from emu.cpu.workqueue import poll
from emu.zone.event import EV_HOTPLUG, record
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import cmpxchg, futex_wait, futex_wake, load_acquire, store_release
from shm.core import core, seam
from shm.point import point, site
from shm.waitqueue import look_again

ENOENT, EINTR, EBUSY, EEXIST, EINVAL = 2, 4, 16, 17, 22
ANY = 0xFFFFFFFF
# why an operation failed, in the event's order
HOTPLUG_DONE = 0
HOTPLUG_HOLES = 1
HOTPLUG_MULTIZONE = 2
HOTPLUG_NOTIFIER = 3
HOTPLUG_ISOLATE = 4
HOTPLUG_SIGNAL = 5
HOTPLUG_UNMOVABLE = 6
HOTPLUG_PASSES = 7
EVENT_ONLINE = 1 << 62
MEM_ONLINE = 1
MEM_GOING_OFFLINE = 2
MEM_OFFLINE = 4
MEM_GOING_ONLINE = 8
MEM_CANCEL_ONLINE = 16
MEM_CANCEL_OFFLINE = 32
S_LOCK = site("mem_hotplug_begin:lock")
S_ISOLATED = site("offline_pages:nr_isolate_pageblock lock")


@seam
def memory_notify(m: Machine, cpu: Cpu, action: int, start_pfn: int, nr_pages: int, nid: int) -> int:
    """``memory_notify()``: MEM_* of a range; ``nid``: the node that gets its first memory or loses its last, else -1.
    A listener refuses MEM_GOING_* with -errno. Nobody listens: 0."""
    return 0


@core(cold=True)
def mem_hotplug_begin(m: Machine, cpu: Cpu) -> bool:
    """``mem_hotplug_begin()``: one operation at a time; false if the machine is stopped meanwhile."""
    vm = vm_at(m, m.vm)
    point(cpu.party, S_LOCK)
    while True:
        owner = cmpxchg(vm, "mem_hotplug_lock", 0, cpu.party.index + 1)
        if owner == 0:
            return True
        if load_acquire(m, "stop") != 0:
            return False
        poll(m, cpu)
        futex_wait(vm, "mem_hotplug_lock", owner, ANY, look_again(1_000_000))


@core(cold=True)
def mem_hotplug_done(m: Machine) -> None:
    """``mem_hotplug_done()``"""
    vm = vm_at(m, m.vm)
    store_release(vm, "mem_hotplug_lock", 0)
    futex_wake(vm, "mem_hotplug_lock", 1, ANY)


@core(cold=True)
def report(m: Machine, cpu: Cpu, start_pfn: int, nr_pages: int, online: int, why: int, page: int) -> None:
    """What was done or why not; ``page``: the one in the way, or -1."""
    record(m, cpu, EV_HOTPLUG, page, why, 0, 0, start_pfn, nr_pages | online)


@core
def aligned(m: Machine, start_pfn: int, nr_pages: int) -> bool:
    """Whole memory blocks inside the memory map."""
    unit = vm_at(m, m.vm).memory_block
    if start_pfn < 0 or nr_pages <= 0 or start_pfn + nr_pages > m.max_pfn:
        return False
    return (start_pfn | nr_pages) & (unit - 1) == 0
