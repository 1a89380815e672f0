"""What tests of slow path statistics call: a failure at a given instant, the end of a drain, the waits."""

from emu.cpu.alloc_flags import gfp_to_alloc_flags
from emu.cpu.avoidable import count_failure
from emu.cpu.page_alloc import prepare_alloc_pages
from emu.cpu.workqueue import count_drain, cpus_with_pcps
from emu.mm.disk import congestion_wait, wait_iff_congested
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import Cpu, Machine
from shm.core import OnStack, as_entries, entry

contexts = OnStack(AllocContext)


@entry
def fail(m: Machine, cpu: Cpu, gfp: int, order: int) -> None:
    """``nopage`` of a request that fails now, whatever is free."""
    ac = contexts()
    prepare_alloc_pages(m, cpu, gfp, order, cpu.node, 0, ac)
    count_failure(m, cpu, gfp, order, ac, gfp_to_alloc_flags(m, cpu, gfp))


@entry
def end_of_drain(m: Machine, cpu: Cpu, mask: int) -> None:
    """A drain of all zones ends that had asked these CPUs."""
    asked = cpus_with_pcps()
    asked.cpus[0] = mask
    count_drain(m, cpu, 0, asked)


@entry
def wait(m: Machine, cpu: Cpu, conditionally: int) -> None:
    """``congestion_wait()`` or ``wait_iff_congested()``, 100 ms at most."""
    if conditionally != 0:
        wait_iff_congested(m, cpu, 100)
    else:
        congestion_wait(m, cpu, 100)


ENTRIES = as_entries(fail, end_of_drain, wait)
