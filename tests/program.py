"""The program that tests call: everything that Python calls in the core, and what the benches of all rooms publish.

It is linked once for the whole suite. One that each test file had to itself would cost as much as the emulator's.
"""

import functools
import importlib

from emu.programs import ENTRIES
from shm import loader
from shm.core import Entry

ROOMS = ("tests.bench", "tests.cpu.entries", "tests.mm.mmbench", "tests.mm.iobench", "tests.mm.hot",
         "tests.reclaim.entries", "tests.reclaim.oom", "tests.compact.world",
         "tests.stress.entries")  # fmt: skip


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All of them, in the same order whatever was imported before."""
    found: dict[Entry, None] = dict.fromkeys(ENTRIES)
    for room in ROOMS:
        found.update(dict.fromkeys(importlib.import_module(room).ENTRIES))
    return tuple(found)


def load() -> None:
    """Bind native code to all of them."""
    loader.load(entries())
