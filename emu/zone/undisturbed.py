"""Looking at what ``zone->lock`` protects without taking it: who only watches a machine can't hold its locks."""

from collections.abc import Callable
from typing import TypeVar

from emu.zone.mmzone import Zone
from shm.spinlock_types import HOLDER

__all__ = ["undisturbed"]

T = TypeVar("T")


def undisturbed(zone: Zone, read: Callable[[], T], tries: int) -> T:
    """What ``read`` returns if nobody took the lock meanwhile, as under the lock; after so many tries, as it comes."""
    lock = zone.lock
    for _ in range(tries):
        before = lock.acquisitions  # counted right after it is taken
        if lock.word & HOLDER == 0:
            seen = read()
            if lock.word & HOLDER == 0 and lock.acquisitions == before:
                return seen
    return read()
