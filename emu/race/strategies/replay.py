"""Replay: a schedule again, switch by switch.

Between two switches the fallback decides, as it did when the schedule was written down. A switch names an actor, the
point at which it stands and how often it has stood there, so points that come and go elsewhere don't matter. What can't
be done as written is *drift*: the replay is given up and says which switch it was. Lenient, for the minimiser, it
leaves the switch out.
"""

from emu.race.plan import Plan
from shm.baton import Baton, fallback, stand_of
from shm.core import core

__all__ = ["begin_replay", "choose_replay", "end_replay"]


@core
def begin_replay(b: Baton, plan: Plan) -> None:
    """From the first switch on."""
    plan.next_switch = 0
    plan.drift = 0


@core
def visits(b: Baton, actor: int, where: int) -> int:
    """How often the actor has stood at a point after one of its steps, this time counted."""
    count = 1
    for i in range(b.steps):
        if b.log[i].before == actor and b.log[i].stand == where:
            count += 1
    return count


@core
def choose_replay(b: Baton, plan: Plan) -> int:
    """The switch that is due here, if any; else the fallback."""
    current = b.current
    where = stand_of(b, current)
    end = plan.nr_switches if plan.lenient != 0 else min(plan.nr_switches, plan.next_switch + 1)
    for i in range(plan.next_switch, end):
        switch = plan.switches[i]
        if switch.actor != current or switch.site != where or visits(b, current, where) != switch.visit:
            continue
        if b.enabled >> switch.target & 1 != 0:
            plan.next_switch = i + 1
            return switch.target
        if plan.lenient == 0:
            plan.drift = i + 1
            return -1
    return fallback(b)


@core
def end_replay(plan: Plan) -> None:
    """The schedule is over: a switch that never came is drift."""
    if plan.lenient == 0 and plan.drift == 0 and plan.next_switch < plan.nr_switches:
        plan.drift = plan.next_switch + 1
