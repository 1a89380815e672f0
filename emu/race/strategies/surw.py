"""SURW: selectively uniform random walk (Zhao, Wolff, Mathur, Roychoudhury, ASPLOS 2025).

A random walk prefers short programs' orders: who has many steps left is starved by who has few. Weighted by the number
of *interesting* events that each actor has left, every order of the interesting events is as likely as any other.
Interesting are, in each schedule anew, the events on one variable, drawn from those that schedules have met.

Differs from the paper: how many events an actor will have is the count of its last schedules, not of one profile run;
the variable is drawn from the points at which the actors of the last schedule stood.
"""

from emu.race.plan import MAX_ACTORS, Plan, random_below, random_bit, variable_of
from shm.baton import Baton, stand_of
from shm.core import core

__all__ = ["begin_surw", "choose_surw", "count_surw"]


@core
def begin_surw(b: Baton, plan: Plan) -> None:
    """Every event counts in one schedule out of four; else those on the drawn variable."""
    for actor in range(MAX_ACTORS):
        plan.left[actor] = plan.expected[actor]
    plan.intended = -1


@core
def count_surw(b: Baton, plan: Plan) -> None:
    """At the end of a schedule: draw the next variable from its steps, and count whose steps touch it."""
    plan.interest = 0
    if b.steps > 0 and random_below(plan, 4) != 0:
        plan.interest = variable_of(plan, b.log[random_below(plan, b.steps)].site)
    for actor in range(MAX_ACTORS):
        plan.expected[actor] = 0
    for i in range(b.steps):
        if plan.interest == 0 or variable_of(plan, b.log[i].site) == plan.interest:
            plan.expected[b.log[i].actor] += 1


@core
def is_interesting(b: Baton, plan: Plan, actor: int) -> bool:
    """Whether an actor's next step is one of those that are to be ordered uniformly."""
    return plan.interest == 0 or variable_of(plan, stand_of(b, actor)) == plan.interest


@core
def draw_intended(b: Baton, plan: Plan) -> int:
    """Whose interesting event comes next: by the number that each has left."""
    total = 0
    for actor in range(MAX_ACTORS):
        if b.enabled >> actor & 1 != 0:
            total += max(plan.left[actor], 0)
    if total == 0:
        return random_bit(plan, b.enabled)
    at = random_below(plan, total)
    for actor in range(MAX_ACTORS):
        if b.enabled >> actor & 1 != 0:
            at -= max(plan.left[actor], 0)
            if at < 0:
                return actor
    return random_bit(plan, b.enabled)


@core
def choose_surw(b: Baton, plan: Plan) -> int:
    """Uninteresting steps go on at random; an interesting one is made only by the actor whose turn was drawn."""
    if plan.intended < 0 or b.enabled >> plan.intended & 1 == 0:
        plan.intended = draw_intended(b, plan)
    held = 0  # actors that stand at an interesting step that isn't theirs to make yet
    for actor in range(MAX_ACTORS):
        if b.enabled >> actor & 1 != 0 and actor != plan.intended and is_interesting(b, plan, actor):
            held |= 1 << actor
    actor = random_bit(plan, b.enabled & ~held)
    if is_interesting(b, plan, actor):
        plan.left[actor] -= 1
        plan.intended = -1
    return actor
