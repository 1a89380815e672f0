"""Did the nodes or zones change while an allocation looked at them? (``mm/page_alloc.c`` (5.10.262))

The slow path takes two cookies at its start: the sequence of the task's mems_allowed and that of the zonelists. Where
it is about to fail, to kill or to retry, it compares them and begins again. ``Vm.no_cpuset_cookie`` and
``no_zonelist_cookie`` remove a check everywhere, to see what it is for; the races R2, R2b and R6 of
``Machine.deviations`` where their fixes put it.
"""

from emu.zone.deviations import R6, deviates
from emu.zone.irq import irqs_come_in
from emu.zone.mm_types import vm_at
from emu.zone.alloc_context import NODEMASK_NONE, AllocContext
from emu.zone.mmzone import Cpu, Machine
from emu.zone.sched import RESTART_CPUSET, RESTART_NODEMASK, RESTART_ZONELIST, task_at
from emu.zone.zonelist import cpuset_nodemask_valid_mems_allowed, nodemask_of
from shm.atomic import cpu_relax, load_acquire, smp_mb
from shm.core import core
from shm.point import point, site
from shm.seqcount import read_seqcount_begin, read_seqcount_retry

S_CHECK = site("check_retry_cpuset:read_mems_allowed_retry")
S_ITER = site("zonelist_iter_begin:read_seqbegin")


@core(cold=True)
def read_mems_allowed_begin(m: Machine, cpu: Cpu) -> int:
    """``read_mems_allowed_begin()``: 0 until the first cpuset exists."""
    if m.cpusets_enabled == 0:
        return 0
    return read_seqcount_begin(task_at(m, cpu.current).mems_allowed_seq)


@core(inline=True)
def without_zonelist_cookie(m: Machine) -> bool:
    """Without 3d36424b3b58 (R6) nobody asks whether the zonelists are being rebuilt."""
    return vm_at(m, m.vm).no_zonelist_cookie != 0 or deviates(m, R6)


@core(cold=True)
def zonelist_iter_begin(m: Machine, cpu: Cpu) -> int:
    """``mm/page_alloc.c:zonelist_iter_begin() (5.10.262)``: waits while the zonelists are rebuilt.

    As with CONFIG_MEMORY_HOTREMOVE. Interrupts come in meanwhile; nothing else of this CPU runs. A machine that is
    stopped waits no longer.
    """
    vm = vm_at(m, m.vm)
    if without_zonelist_cookie(m):
        return 0
    point(cpu.party, S_ITER)
    while True:
        seq = load_acquire(vm, "zonelist_update_seq")
        if seq & 1 == 0 or load_acquire(m, "stop") != 0:
            return seq
        if cpu.irq_pending != 0:
            irqs_come_in(m, cpu)
        cpu_relax()


@core(cold=True)
def check_retry_cpuset(m: Machine, cpu: Cpu, cookie: int, ac: AllocContext) -> int:
    """``mm/page_alloc.c:check_retry_cpuset() (5.10)``: the cpuset or policy mask changed while we looked.

    Differs from 5.10: says which, RESTART_NODEMASK or RESTART_CPUSET; -1: neither.
    """
    if m.cpusets_enabled == 0 or vm_at(m, m.vm).no_cpuset_cookie != 0:
        return -1
    if ac.nodemask_kind != NODEMASK_NONE:
        if not cpuset_nodemask_valid_mems_allowed(m, cpu, nodemask_of(m, cpu, ac)):
            ac.nodemask_kind = NODEMASK_NONE
            return RESTART_NODEMASK
    if read_seqcount_retry(task_at(m, cpu.current).mems_allowed_seq, cookie):
        return RESTART_CPUSET
    return -1


@core(cold=True)
def check_retry_zonelist(m: Machine, cpu: Cpu, seq: int) -> bool:
    """``mm/page_alloc.c:check_retry_zonelist() (5.10.262)``: the zonelists have been rebuilt since."""
    if without_zonelist_cookie(m):
        return False
    smp_mb()
    return load_acquire(vm_at(m, m.vm), "zonelist_update_seq") != seq


@core(cold=True)
def check_retry(m: Machine, cpu: Cpu, cookie: int, seq: int, ac: AllocContext) -> int:
    """Both checks, in the kernel's order: why to begin again (RESTART_*), or -1.

    One point for both: neither sequence is written by who writes the other's memory.
    """
    point(cpu.party, S_CHECK)
    reason = check_retry_cpuset(m, cpu, cookie, ac)
    if reason < 0 and check_retry_zonelist(m, cpu, seq):
        return RESTART_ZONELIST
    return reason
