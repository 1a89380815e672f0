"""The machine's daemons: which processes there are besides the CPUs, and what each does in a turn."""

from collections.abc import Callable
from dataclasses import dataclass

from emu.compact.kcompactd import kcompactd_round
from emu.mm.disk import disk_round
from emu.mm.flusher import flusher_round
from emu.reclaim.ctl import ctl_serve
from emu.reclaim.kswapd import kswapd_round
from emu.reclaim.oom_reaper import oom_reaper_round
from emu.zone.init import party_of
from emu.zone.init_vm import disk_party, flusher_party, kcompactd_party, kswapd_party, reaper_party, vm_of
from emu.zone.mm_types import MM_SIZE, MMF_OOM_REAP_DONE, Mm
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import Task, user_task
from shm.core import as_entries
from shm.struct import address_of, record_at

__all__ = ["DAEMON_ENTRIES", "Daemon", "daemons_idle", "daemons_of", "reaper_idle"]

DAEMON_ENTRIES = as_entries(kswapd_round, kcompactd_round, disk_round, flusher_round, oom_reaper_round)


@dataclass(frozen=True)
class Daemon:
    """A process: its name as in the kernel, its place among the parties, and one turn of its loop."""

    name: str
    index: int
    turn: Callable[[Machine, Cpu], bool]


def flusher_turn(m: Machine, cpu: Cpu) -> bool:
    """The flusher also serves requests from outside (``emu ctl``), as any kernel thread could."""
    served = ctl_serve(m, cpu)
    return flusher_round(m, cpu) or served


def daemons_of(m: Machine) -> list[Daemon]:
    """All daemons of a machine."""

    def of_node(turn: Callable[..., bool], nid: int) -> Callable[[Machine, Cpu], bool]:
        return lambda m, cpu: turn(m, cpu, m.nodes[nid])

    nodes = range(m.nr_nodes)
    return [
        *(Daemon(f"kswapd{nid}", kswapd_party(m, nid), of_node(kswapd_round, nid)) for nid in nodes),
        *(Daemon(f"kcompactd{nid}", kcompactd_party(m, nid), of_node(kcompactd_round, nid)) for nid in nodes),
        Daemon("disk", disk_party(m), disk_round),
        Daemon("flusher", flusher_party(m), flusher_turn),
        Daemon("oom_reaper", reaper_party(m), oom_reaper_round),
    ]


def reaper_idle(m: Machine) -> bool:
    """Whether the oom_reaper has nothing to come: no victim that it still has to look at, no killed task that no CPU
    runs, whose exit falls to its process. A victim that a CPU runs may live on.
    """
    vm, base = vm_of(m), address_of(m)
    running = {party_of(m, index).current for index in range(m.nr_parties)}
    for k in range(vm.nr_mms):
        at = user_task(m, k)
        task = record_at(Task, base + at)
        if task.dying or (task.fatal_signal and task.mm and at not in running):
            return False
        mm_id = task.oom_mm
        if mm_id and not record_at(Mm, base + vm.mms + (mm_id - 1) * MM_SIZE).mm_flags & MMF_OOM_REAP_DONE:
            return False
    return True


def daemons_idle(m: Machine) -> bool:
    """Whether all of them sleep with nothing left to do."""
    disk = vm_of(m).disk
    asleep = all(
        waits.state & 0xFFFFFFFF for node in m.nodes[: m.nr_nodes] for waits in (node.kswapd_wait, node.kcompactd_wait)
    )
    return asleep and disk.head == disk.tail and reaper_idle(m)
