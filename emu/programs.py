"""Everything that Python calls in the core, as one program: compiled together, kept as one object file."""

from emu.cpu import dirty as _dirty  # noqa: F401  (seams get their bodies by import)
from emu.cpu import slowpath as _slowpath  # noqa: F401
from emu.cpu.irq import IRQ_ENTRIES
from emu.cpu.process import PROCESS_ENTRIES
from emu.workload import driven_ops as _driven_ops  # noqa: F401
from emu.workload import replay_ops, script
from emu.workload.catalogue import WORKLOAD_ENTRIES
from emu.workload.command import COMMAND_ENTRIES
from emu.zone.boot import BOOT_ENTRIES
from shm import loader
from shm.core import Entry, as_entries
from shm.loader import Progress

__all__ = ["ENTRIES", "is_warm", "load_all"]

ENTRIES: tuple[Entry, ...] = as_entries(
    *BOOT_ENTRIES, *PROCESS_ENTRIES, *IRQ_ENTRIES, *COMMAND_ENTRIES, *WORKLOAD_ENTRIES,
    script.run_ordered, script.run_free, replay_ops.replay_slice,
)  # fmt: skip


def load_all(progress: Progress | None = None) -> None:
    """Bind native code to every entry: from the cache in milliseconds, or compiled now."""
    loader.load(ENTRIES, progress)


def is_warm() -> bool:
    """Whether :func:`load_all` would find the object file."""
    return loader.is_warm(ENTRIES)
