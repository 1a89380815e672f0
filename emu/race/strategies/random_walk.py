"""A random walk: at every decision each actor that can run is as likely as any other."""

from emu.race.plan import Plan, random_bit
from shm.baton import Baton
from shm.core import core

__all__ = ["choose_random"]


@core
def choose_random(b: Baton, plan: Plan) -> int:
    """Any of them."""
    return random_bit(plan, b.enabled)
