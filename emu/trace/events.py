"""The types of the trace events, by their kinds: layouts and texts of 5.10's ``include/trace/events/*.h``.

The kinds are those of ``emu.zone.event``, and those of locks (``emu.trace.types.lock``).

A struct page prints as its address in x86-64's vmemmap, ``0xffffea0000000000 + pfn * 64``: a kernel without KASLR and
without hashing of pointers prints the same. What the kernel has no trace point for is in the system ``emu``.
"""

from typing import Final

from emu.trace.event_type import EventType, Field, format_text
from emu.trace.types.compaction import COMPACTION
from emu.trace.types.kmem import KMEM
from emu.trace.types.lock import LOCK
from emu.trace.types.oom import OOM
from emu.trace.types.own import OWN
from emu.trace.types.vmscan import VMSCAN

__all__ = ["EVENTS", "EventType", "Field", "format_text"]

EVENTS: Final[dict[int, EventType]] = {**KMEM, **VMSCAN, **COMPACTION, **OOM, **OWN, **LOCK}
