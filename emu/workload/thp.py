"""``thp``: regions backed by huge pages, with single pages where there are none."""

from emu.workload.run import Run, breathe, give_back, random_below, take
from emu.zone.gfp import __GFP_DIRECT_RECLAIM, __GFP_NORETRY, GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE_LIGHT
from emu.zone.mmzone import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Cpu, Machine
from shm.core import core, entry

HUGE_GFP = GFP_TRANSHUGE_LIGHT | __GFP_NORETRY
MADVISED_GFP = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM  # regions that asked for it: compacted for on the spot
FALLBACK_PAGES = 16


@core
def thp_step(m: Machine, cpu: Cpu, run: Run, limit: int) -> None:
    """Map one huge page, or a few single ones instead; or unmap something once ``limit`` pages are held."""
    if run.position >= limit or (run.held > 0 and random_below(run, 3) == 0) or run.held + 32 > run.nr_slots:
        for _ in range(min(run.held, 1 + random_below(run, 8))):
            before = run.held
            give_back(m, cpu, run, random_below(run, before))
        run.position = run.held * PAGEBLOCK_NR_PAGES >> 1
        return
    gfp = MADVISED_GFP if random_below(run, 4) == 0 else HUGE_GFP
    if run.position + PAGEBLOCK_NR_PAGES <= limit and take(m, cpu, run, gfp, PAGEBLOCK_ORDER):
        run.position += PAGEBLOCK_NR_PAGES
        return
    for _ in range(FALLBACK_PAGES):
        if not take(m, cpu, run, GFP_HIGHUSER_MOVABLE, 0):
            run.position = limit
            return
        run.position += 1


@entry
def thp(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of mapping and unmapping."""
    first = run.ops
    while run.ops - first < budget:
        thp_step(m, cpu, run, run.want)
        if not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
