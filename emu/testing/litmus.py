"""Litmus tests in one call: what can CPUs see of one another's variables?"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from emu.race.invariants_litmus import outcome
from emu.race.scenario import Op, Scenario, small

if TYPE_CHECKING:
    from emu.race.world import World

__all__ = ["litmus"]


def litmus(
    *programs: Sequence[Op], setup: "Callable[[World], None] | None" = None, irqs: Sequence[Op] = (),
    name: str = "LITMUS",
) -> Scenario:  # fmt: skip
    """A scenario with a CPU for each program, of operations of ``emu.race.ops_litmus``; ``irqs``: one interrupt on
    cpu0; ``setup``: ``require(...)`` or ``forbid(...)`` of the same module.

    >>> from emu.race.ops_litmus import add, increase, require
    >>> two = require(v0=2)
    >>> explore(litmus([add(0)], [add(0)], setup=two), strategy="exhaustive").found
    True
    >>> explore(litmus([increase(0)], [increase(0)], setup=two), strategy="exhaustive").coverage
    'exhaustive'
    """
    return Scenario(
        id=name, title="a litmus test", story="", shape=small(cpus=max(len(programs), 1)),
        programs={f"cpu{i}": tuple(ops) for i, ops in enumerate(programs)},
        irqs={"cpu0": (tuple(irqs),)} if irqs else {},
        invariants=(outcome,), setup=setup,
    )  # fmt: skip
