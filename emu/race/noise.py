"""Words of memory that a digest of the machine leaves out when it asks whether anything has changed: statistics, what
the scheduler itself keeps, sequence numbers of wake-ups, event rings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from emu.race.area import OpRecord, RaceArea
from emu.zone.mm_types import Kswapd, Vm
from emu.zone.mmzone import CPU_SIZE, Cpu, Machine
from emu.zone.sched import TASK_SIZE, Task
from shm.core import CHECKED
from shm.lockdep import Lockdep
from shm.point import Party
from shm.spinlock_types import Spinlock
from shm.struct import Struct, address_of, offset_of, size_of
from shm.waitqueue import WaitQueue

if TYPE_CHECKING:
    from emu.race.world import World

__all__ = ["checker_words", "noise_words"]

WHOLE: tuple[type[Struct], ...] = (Party, WaitQueue)
FIELDS: dict[type[Struct], tuple[str, ...]] = {
    Spinlock: ("tail", "head", "parked", "wakeups", "site", "acquisitions", "contentions", "stolen", "stat"),
    Cpu: ("vm_events", "irq_entries", "ticks", "work_head", "work_tail", "doorbell", "asleep", "works", "warned"),
    Task: ("retries", "retries_by", "restarts_by", "slowpaths", "slow"),
    Machine: ("trace_clock", "warned", "parent_bell"),
    Kswapd: ("runs", "cookie", "stolen_before"),
    Vm: ("slow_stat", "oom_rs", "nopage_rs"),
    OpRecord: (),
}


def _noise(cls: Any, at: int) -> Iterator[tuple[int, int]]:
    """Byte ranges of a struct's noise."""
    left_out = FIELDS.get(cls, ())
    for name, ctype in cast(Any, cls)._fields_:
        start = at + getattr(cls, name).offset
        if name in left_out or ctype in WHOLE:
            yield start, start + _size(ctype)
        elif hasattr(ctype, "_length_") and isinstance(ctype._type_, type) and issubclass(ctype._type_, Struct):
            for i in range(ctype._length_):
                yield from _noise_of(ctype._type_, start + i * _size(ctype._type_))
        elif isinstance(ctype, type) and issubclass(ctype, Struct):
            yield from _noise_of(ctype, start)


def _noise_of(cls: Any, at: int) -> Iterator[tuple[int, int]]:
    if cls in WHOLE:
        yield at, at + _size(cls)
    else:
        yield from _noise(cls, at)


def _size(ctype: Any) -> int:
    import ctypes

    return ctypes.sizeof(ctype)


def noise_words(world: "World") -> Iterator[int]:
    """Numbers of 64-bit words of the machine's segment. A word that is noise in part is left out as a whole."""
    m = world.m
    ranges = [*_noise(Machine, 0)]
    for i in range(m.nr_parties):
        ranges += _noise(Cpu, m.cpus + i * CPU_SIZE)
    for i in range(m.nr_tasks):
        ranges += _noise(Task, m.tasks + i * TASK_SIZE)
    ranges += _noise(Vm, m.vm)
    rings = world.cpu(1).event_ring - world.cpu(0).event_ring if m.nr_parties > 1 else 0
    ranges.append((m.rings, m.rings + rings * m.nr_parties))
    at = address_of(world.area) - address_of(m)
    ops = RaceArea.ops.offset  # type: ignore[attr-defined]
    for i in range(len(world.area.ops)):
        start = at + ops + i * size_of(OpRecord) + OpRecord.result.offset  # type: ignore[attr-defined]
        ranges.append((start, start + 8))
    yield from _words(ranges)


def checker_words(world: "World") -> Iterator[int]:
    """Words that the checker of locking rules keeps: what modes without one never write."""
    m = world.m
    ranges = []
    for i in range(m.nr_parties):
        at = m.cpus + i * CPU_SIZE + offset_of(Cpu, "party")
        for name in ("nr_held", "held"):
            field = getattr(Party, name)
            ranges.append((at + field.offset, at + field.offset + field.size))
    if CHECKED:
        at = m.cpus + world.cpu(0).party.lockdep
        ranges.append((at, at + size_of(Lockdep)))
    yield from _words(ranges)


def _words(ranges: list[tuple[int, int]]) -> Iterator[int]:
    for first, last in ranges:
        yield from range(first // 8, -(-last // 8))
