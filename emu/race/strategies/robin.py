"""Round robin: at every decision the next actor in turn. One schedule, always the same."""

from emu.race.plan import MAX_ACTORS, Plan
from shm.baton import Baton
from shm.core import core

__all__ = ["choose_robin"]


@core
def choose_robin(b: Baton, plan: Plan) -> int:
    """The first that can run after the one that did."""
    at = (b.current + 1) % MAX_ACTORS
    while b.enabled >> at & 1 == 0:
        at = (at + 1) % MAX_ACTORS
    return at
