"""``frag``: break memory into pieces, then ask for large ones."""

from emu.workload.run import Run, breathe, give_back, random_below, take
from emu.zone.gfp import __GFP_RETRY_MAYFAIL
from emu.zone.mmzone import Cpu, Machine
from shm.core import entry

FILL, HOLES, LARGE, CLEAR = 0, 1, 2, 3
LARGE_ORDERS = 9


@entry
def frag(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice: fill with single pages, free a random half, ask for as much in orders 1 to 9, free all, again.

    Nobody is killed for a large block.
    """
    done = 0
    while done < budget:
        if run.phase == FILL:
            if run.held >= run.want or not take(m, cpu, run, run.gfp, 0):
                run.phase = HOLES
                run.position = run.held >> 1
        elif run.phase == HOLES:
            if run.held <= run.position:
                run.phase = LARGE
                run.room = run.want - run.held
                run.position = 0
            else:
                give_back(m, cpu, run, random_below(run, run.held))
        elif run.phase == LARGE:
            if run.position >= LARGE_ORDERS * 16 or run.held >= run.nr_slots:
                run.phase = CLEAR
            else:
                order = 1 + run.position % LARGE_ORDERS
                if 1 << order <= run.room and take(m, cpu, run, run.gfp | __GFP_RETRY_MAYFAIL, order):
                    run.room -= 1 << order
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
