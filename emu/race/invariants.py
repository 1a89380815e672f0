"""What must hold in every schedule, whatever the interleaving: the invariants of the catalogue.

Each is a core function ``(m, a) -> int``: 0, or a number that says what is wrong (a pfn, a difference). A scenario
names the ones it wants; its own are checked by the process that ends a schedule, so ten thousand schedules a second
can be judged.
"""

from emu.race.area import RaceArea
from emu.race.invariants_litmus import LITMUS_INVARIANTS, check_litmus
from emu.race.invariants_pages import PAGE_INVARIANTS, check_pages
from emu.race.invariants_reclaim import RECLAIM_INVARIANTS, check_reclaim
from emu.race.invariants_tasks import TASK_INVARIANTS, check_tasks
from emu.race.scenario import Invariant
from emu.zone.mmzone import Machine
from shm.core import core

FAMILY = 32  # codes of one family

INVARIANTS: dict[str, Invariant] = {
    i.name: i for i in (*PAGE_INVARIANTS, *RECLAIM_INVARIANTS, *TASK_INVARIANTS, *LITMUS_INVARIANTS)
}
"""By name."""


@core(cold=True)
def check_invariant(m: Machine, a: RaceArea, code: int) -> int:
    """0 if it holds."""
    family = code // FAMILY
    if family == 0:
        return check_pages(m, a, code)
    if family == 1:
        return check_reclaim(m, a, code)
    if family == 2:
        return check_tasks(m, a, code)
    return check_litmus(a, code)
