"""The workloads there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emu.mm.truncate import truncate_inode_pages
from emu.workload.bulk import bulk, rand, repeat
from emu.workload.filecache import filecache
from emu.workload.forkstorm import forkstorm
from emu.workload.frag import frag
from emu.workload.hog import hog
from emu.workload.mixed import mixed
from emu.workload.network import network
from emu.workload.orders import orders
from emu.workload.pagefault import pagefault
from emu.workload.process import end_processes
from emu.workload.run import SLOT_SIZE, Run, give_back, slot_at
from emu.workload.thp import thp
from emu.zone.critical import critical_enter, critical_exit
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mmzone import Cpu, Machine
from shm.core import as_entries, entry
from shm.point import site

__all__ = ["ORDER_WEIGHTS", "WORKLOADS", "WORKLOAD_ENTRIES", "Workload", "init_run", "release_held", "shares"]


S_EXIT = site("release_held:do_exit")


@dataclass(frozen=True)
class Workload:
    """An entry, what it does, and the flags and share of memory (per mille) it works with."""

    entry: Callable[[Machine, Cpu, Run, int], int]
    about: str
    gfp: int = GFP_KERNEL
    share: int = 500
    task: int = 0  # its first user task among a CPU's eight
    tasks: int = 0
    file: bool = False


WORKLOADS: dict[str, Workload] = {
    "bulk": Workload(bulk, "allocate half the memory, free it in order"),
    "repeat": Workload(repeat, "hold half the memory, allocate and free one block"),
    "rand": Workload(rand, "allocate half the memory, free it in random order"),
    "frag": Workload(frag, "break memory up, then ask for large blocks", GFP_HIGHUSER_MOVABLE, 800),
    "pagefault": Workload(pagefault, "processes that fault memory in and exit"),
    "network": Workload(network, "bursts of packets from atomic context", share=100),
    "thp": Workload(thp, "huge pages, single ones where there are none"),
    "mixed": Workload(mixed, "all of the above"),
    "hog": Workload(hog, "a process that fills its memory and uses it", share=1000, tasks=1),
    "filecache": Workload(filecache, "files read and written, larger than memory", share=1500, file=True),
    "forkstorm": Workload(forkstorm, "short-lived processes", share=100, task=2, tasks=4),
    "orders": Workload(orders, "blocks of several orders, held and freed at random", share=250),
}


ORDER_WEIGHTS = {0: 80, 1: 10, 2: 6, 3: 3, 9: 1}  # of ``orders``, unless told


@entry
def release_held(m: Machine, cpu: Cpu, run: Run) -> int:
    """Free everything that a workload still holds. Returns how many blocks that were."""
    given = 0
    critical_enter(cpu, S_EXIT)
    end_processes(m, cpu, run)
    if run.file != 0:
        truncate_inode_pages(m, cpu, run.file, 0)
        truncate_inode_pages(m, cpu, run.tmpfs, 0)
    critical_exit(cpu)
    while run.held > 0:
        if slot_at(m, run.slots + (run.held - 1) * SLOT_SIZE).pfn < 0:  # bulk and rand were freeing in order
            run.held -= 1
        else:
            give_back(m, cpu, run, run.held - 1)
            given += 1
    run.position = 0
    return given


def shares(parts: list[str]) -> dict[str, float]:
    """What part of a CPU's memory each workload wants: its own share, less where all together want more than there is.

    Pages without a process or a file can be neither killed nor reclaimed: a machine full of them panics, so those
    workloads leave a fifth.
    """
    if len(parts) == 1:
        return {name: WORKLOADS[name].share / 1000 for name in parts}
    kernel = sum(WORKLOADS[name].share for name in parts if not (WORKLOADS[name].tasks or WORKLOADS[name].file))
    total = max(sum(WORKLOADS[name].share for name in parts), 1000, kernel * 5 // 4)
    return {name: WORKLOADS[name].share / total for name in parts}


def init_run(
    run: Run, name: str, *, seed: int, pages: int, order: int = 0, weights: Mapping[int, int] = ORDER_WEIGHTS
) -> None:  # fmt: skip
    """Prepare a CPU's Run, which wants so many pages; ``weights`` of orders are for ``orders``."""
    run.workload = list(WORKLOADS).index(name)
    run.seed = run.random = (seed * 0x9E3779B97F4A7C15 + 1) & 0x7FFFFFFFFFFFFFFF or 1
    run.gfp, run.order = WORKLOADS[name].gfp, order
    run.want = pages
    for at, weight in weights.items():
        run.weights[at] = weight


WORKLOAD_ENTRIES = as_entries(*(w.entry for w in WORKLOADS.values()), release_held)
