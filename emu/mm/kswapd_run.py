"""Starting and stopping a node's kswapd (``mm/vmscan.c`` (5.10)): the pointer that says whether there is one.

Differs from 5.10: a process stands ready for each node all the time, and the pointer says whether 5.10 would have one.
With it cleared the process isn't asked to do anything, but may still do what it was asked for before, where
``kthread_stop()`` waits for the end of that first.
"""

from emu.cpu.workqueue import poll
from emu.zone.deviations import R20, deviates
from emu.zone.mm_types import Kswapd, vm_at
from emu.zone.mmzone import CPU_SIZE, MAX_NR_ZONES, Cpu, Machine, cpu_record
from shm.atomic import cmpxchg, futex_wait, futex_wake, load_acquire, store_release
from shm.core import core
from shm.point import point, site
from shm.waitqueue import look_again

__all__ = ["kswapd_run", "kswapd_stop", "pgdat_kswapd_lock", "pgdat_kswapd_unlock"]

ANY = 0xFFFFFFFF
S_LOCK = site("kswapd_stop:mutex_lock")
S_STOP = site("kswapd_stop:write pgdat->kswapd")


@core(cold=True)
def pgdat_kswapd_lock(m: Machine, cpu: Cpu, k: Kswapd, where: int) -> None:
    """``pgdat_kswapd_lock()`` of b4a0215e11dc, R20's remedy: a mutex around ``pgdat->kswapd``."""
    point(cpu.party, where)
    while True:
        owner = cmpxchg(k, "kswapd_lock", 0, cpu.party.index + 1)
        if owner == 0 or load_acquire(m, "stop") != 0:
            return
        poll(m, cpu)
        futex_wait(k, "kswapd_lock", owner, ANY, look_again(1_000_000))


@core(cold=True)
def pgdat_kswapd_unlock(cpu: Cpu, k: Kswapd) -> None:
    """``pgdat_kswapd_unlock()``; who gave up waiting because the machine stops hasn't got it."""
    if cmpxchg(k, "kswapd_lock", cpu.party.index + 1, 0) == cpu.party.index + 1:
        futex_wake(k, "kswapd_lock", 1, ANY)


@core(cold=True)
def kswapd_run(m: Machine, cpu: Cpu, nid: int) -> None:
    """``mm/vmscan.c:kswapd_run() (5.10)``: of a node that has memory now; what kswapd begins with."""
    node = m.nodes[nid]
    node.kswapd_order = 0
    node.kswapd_highest_zoneidx = MAX_NR_ZONES
    store_release(vm_at(m, m.vm).kswapds[nid], "task", cpu_record(m, m.cpus + (m.nr_cpus + nid) * CPU_SIZE).current)


@core(cold=True)
def kswapd_stop(m: Machine, cpu: Cpu, nid: int) -> None:
    """``mm/vmscan.c:kswapd_stop() (5.10)``: of a node that has no memory any more. kcompactd is stopped only then."""
    k = vm_at(m, m.vm).kswapds[nid]
    if not deviates(m, R20):
        point(cpu.party, S_STOP)
        store_release(k, "task", 0)
        return
    pgdat_kswapd_lock(m, cpu, k, S_LOCK)
    point(cpu.party, S_STOP)
    store_release(k, "task", 0)
    pgdat_kswapd_unlock(cpu, k)
