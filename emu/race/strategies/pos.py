"""POS: partial order sampling (Yuan, Yang, Gu, CAV 2018).

Every *event* - an actor's next step - has a random priority, and the highest that can run does. Then the priorities of
the events that race with it are drawn anew, so that both orders of a racing pair are likely, whatever else happens.

Differs from the paper: which events race is told by the names of their points (``read kswapd_order`` and ``write
kswapd_order``, or the same lock), not by what they access.
"""

from emu.race.plan import MAX_ACTORS, Plan, random_bits, variable_of
from emu.race.strategies.pct import highest
from shm.baton import SEAT_WAITS_CLEAR, Baton, stand_of
from shm.core import core

__all__ = ["begin_pos", "choose_pos"]


@core
def begin_pos(b: Baton, plan: Plan) -> None:
    """Priorities for everybody's first step."""
    for actor in range(MAX_ACTORS):
        plan.priority[actor] = random_bits(plan)


@core
def touches(b: Baton, plan: Plan, actor: int) -> int:
    """What an actor's next step touches: the lock's address, or the variable of its point."""
    seat = b.seats[actor & 15]
    if seat.context == actor >> 4 and seat.state == SEAT_WAITS_CLEAR:
        return seat.word
    return variable_of(plan, stand_of(b, actor))


@core
def choose_pos(b: Baton, plan: Plan) -> int:
    """The event with the highest priority; those that race with it get new ones, and so does its actor's next."""
    best = highest(b, plan)
    what = touches(b, plan, best)
    for actor in range(MAX_ACTORS):
        if b.enabled >> actor & 1 != 0 and (actor == best or touches(b, plan, actor) == what):
            plan.priority[actor] = random_bits(plan)
    return best
