"""``frag``: break memory into pieces, then ask for large ones."""

from emu.workload.run import Run, breathe, give_back, random_below, take
from emu.zone.mmzone import Cpu, Machine
from shm.core import entry

FILL, HOLES, LARGE, CLEAR = 0, 1, 2, 3
LARGE_ORDERS = 9


@entry
def frag(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: fill with single pages, free a random half, try orders 1 to 9 in turn, free all, again."""
    done = 0
    while done < budget:
        if run.phase == FILL:
            if run.held >= run.want or not take(m, cpu, run, run.gfp, 0):
                run.phase = HOLES
                run.position = run.held >> 1
        elif run.phase == HOLES:
            if run.held <= run.position:
                run.phase = LARGE
                run.position = 0
            else:
                give_back(m, cpu, run, random_below(run, run.held))
        elif run.phase == LARGE:
            if run.position >= LARGE_ORDERS * 16 or run.held >= run.nr_slots:
                run.phase = CLEAR
            else:
                take(m, cpu, run, run.gfp, 1 + run.position % LARGE_ORDERS)
                run.position += 1
        elif run.held == 0:
            run.phase = FILL
            run.rounds += 1
        else:
            give_back(m, cpu, run, run.held - 1)
        done += 1
        if done & 63 == 0 and not breathe(m, cpu):
            break
    return done
