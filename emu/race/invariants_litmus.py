"""What litmus tests ask about their variables (``emu.race.ops_litmus``)."""

from emu.race.area import VARIABLES, RaceArea
from emu.race.scenario import Invariant
from shm.core import core

__all__ = ["LITMUS_INVARIANTS", "check_litmus", "outcome"]

INV_OUTCOME = 96

outcome = Invariant("outcome", INV_OUTCOME, "the variables are not as they must be in the end")
LITMUS_INVARIANTS = (outcome,)


@core(cold=True)
def check_litmus(a: RaceArea, code: int) -> int:
    """Required: number of the first that differs, counted from 1. Forbidden: 1 if none does."""
    for i in range(2 * VARIABLES):
        variable = a.variables[i]
        if variable.is_asked != 0 and variable.value != variable.asked:
            return 0 if a.forbidden != 0 else i + 1
    return a.forbidden
