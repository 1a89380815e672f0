"""The console: a report with Mem-Info is printed while the machine still is in the state that it tells of.

The core only records that there is something to say; the text is made by the machine's parent, which reads the rings.
Meanwhile the reporter would go on, and a victim of the OOM killer exit: the text would say that there is plenty.
"""

from emu.zone.mm_types import vm_at
from emu.zone.mmzone import Cpu, Machine
from shm.atomic import clock_ns, fetch_add, futex_wait, futex_wake, load_acquire
from shm.core import core
from shm.point import point, site

CONSOLE_NS = 1_000_000_000  # then nobody reads the rings
WAKE_ALL, ANY = 0x7FFFFFFF, 0xFFFFFFFF
S_PRINT = site("console_unlock:printed")


@core(cold=True)
def console_unlock(m: Machine, cpu: Cpu) -> None:
    """``kernel/printk/printk.c:console_unlock() (5.10)``: what this CPU has recorded is printed when it returns.

    Where nobody prints, nobody waits.
    """
    vm = vm_at(m, m.vm)
    if vm.console == 0:
        return
    wanted = fetch_add(vm, "reports", 1) + 1
    fetch_add(m, "parent_bell", 1)
    futex_wake(m, "parent_bell", WAKE_ALL, ANY)
    deadline = clock_ns() + CONSOLE_NS
    while True:
        point(cpu.party, S_PRINT)
        printed = load_acquire(vm, "reports_printed")
        if printed >= wanted or load_acquire(m, "stop") != 0 or clock_ns() >= deadline:
            return
        futex_wait(vm, "reports_printed", printed, ANY, deadline)
