"""``network``: bursts of packets from atomic context."""

from emu.workload.run import Run, breathe, give_back, random_below, take
from emu.zone.gfp import __GFP_COMP, __GFP_NOWARN, GFP_ATOMIC
from emu.zone.mmzone import Cpu, Machine
from shm.core import core, entry

PACKET_GFP = GFP_ATOMIC | __GFP_COMP | __GFP_NOWARN
BURST = 32
QUEUED = 256  # packets that wait to be consumed, of two pages on average


@core
def burst(m: Machine, cpu: Cpu, run: Run) -> None:
    """One interrupt's worth: up to 32 buffers of order 0 to 3 arrive, and as many old ones are consumed."""
    for _ in range(1 + random_below(run, BURST)):
        shape = random_below(run, 16)
        order = 0 if shape < 10 else 1 if shape < 13 else 2 if shape < 15 else 3
        if run.held < run.nr_slots:
            take(m, cpu, run, PACKET_GFP, order)
    for _ in range(random_below(run, BURST + 2)):
        if run.held > 0:
            give_back(m, cpu, run, random_below(run, run.held))
    while run.held > min(QUEUED, run.want >> 1):
        give_back(m, cpu, run, 0)


@entry
def network(m: Machine, cpu: Cpu, run: Run, budget: int) -> int:
    """A slice of bursts."""
    first = run.ops
    while run.ops - first < budget:
        burst(m, cpu, run)
        if not breathe(m, cpu):
            break
    return max(run.ops - first, 1)
