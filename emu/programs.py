"""Everything that Python calls in the core, as one program: compiled together, kept as one object file."""

from emu.compact import direct as compact_direct
from emu.compact import fast_free, kcompactd
from emu.compact.cma import CMA_ENTRIES
from emu.cpu import cpu_hotplug, cpuset, dirty, slowpath
from emu.cpu.irq import IRQ_ENTRIES
from emu.cpu.process import PROCESS_ENTRIES
from emu.daemons import DAEMON_ENTRIES
from emu.mm import pagevec, rmap_walk, swap_state
from emu.mm.filemap import create_file
from emu.mm.memory_hotplug import HOTPLUG_ENTRIES
from emu.race.players import RACE_ENTRIES
from emu.reclaim import contig, direct, node_reclaim, oom_exit, oom_kill, oom_memcg
from emu.reclaim.ctl import CTL_ENTRIES
from emu.workload import driven_ops, replay_ops
from emu.workload.catalogue import WORKLOAD_ENTRIES
from emu.workload.command import COMMAND_ENTRIES
from emu.workload.irq_source import IRQ_SOURCE_ENTRIES
from emu.workload.pressure_bench import PRESSURE_ENTRIES
from emu.workload.script_run import run_free, run_ordered
from emu.workload.watermark import WATERMARK_ENTRIES
from emu.zone.boot import BOOT_ENTRIES
from emu.zone.sysctl import SYSCTL_ENTRIES
from shm import loader
from shm.core import Entry, as_entries
from shm.loader import Progress

__all__ = ["BODIES", "ENTRIES", "is_warm", "load_all"]

# seams of lower rooms get their bodies when these are imported
BODIES = (
    compact_direct, contig, cpu_hotplug, cpuset, direct, dirty, driven_ops, fast_free, kcompactd, node_reclaim,
    oom_exit, oom_kill, oom_memcg, pagevec, rmap_walk, slowpath, swap_state,
)  # fmt: skip

ENTRIES: tuple[Entry, ...] = as_entries(
    *BOOT_ENTRIES, *PROCESS_ENTRIES, *DAEMON_ENTRIES, *CTL_ENTRIES, *SYSCTL_ENTRIES,
    *HOTPLUG_ENTRIES, *cpu_hotplug.HOTPLUG_ENTRIES, *CMA_ENTRIES, create_file, *IRQ_ENTRIES, *IRQ_SOURCE_ENTRIES,
    *COMMAND_ENTRIES, *WORKLOAD_ENTRIES, *PRESSURE_ENTRIES, *WATERMARK_ENTRIES, run_ordered, run_free,
    replay_ops.replay_slice, *RACE_ENTRIES,
)  # fmt: skip


def load_all(progress: Progress | None = None) -> None:
    """Bind native code to every entry: from the cache in milliseconds, or compiled now."""
    loader.load(ENTRIES, progress)


def is_warm() -> bool:
    """Whether :func:`load_all` would find the object file."""
    return loader.is_warm(ENTRIES)
