"""The checker of locking rules: each rule has a planted fault that it alone finds, and what 5.10 does breaks none.

It exists in checked and interpreted mode only, so these run in a process of their own, interpreted.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANT = """
import sys
from emu.zone.board import Board
from emu.zone.boot import shape_of
from emu.zone.irq import local_irq_restore, local_irq_save, spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lockdep import dependencies, locking_faults
from emu.zone.validate import validate
from shm.point import site
from shm.spinlock import spin_lock, spin_trylock, spin_unlock

with Board.boot(shape_of(2, [1 << 14])) as b:
    m, cpu, other = b.m, b.cpu(0), b.cpu(1)
    me, you = cpu.party, other.party
    zone, dma, lru = m.nodes[0].node_zones[1].lock, m.nodes[0].node_zones[0].lock, m.nodes[0].lru_lock
    work = cpu.work_lock
    HERE, THERE, INSIDE = site("here:lock"), site("there:lock"), site("inside:lock")
    assert locking_faults(m) == [], locking_faults(m)

    def interrupt(lock, where):
        me.context, off, me.irqs_off = 1, me.irqs_off, 1
        spin_lock(me, lock, where)
        spin_unlock(me, lock)
        me.context, me.irqs_off = 0, off

    PLANTED
    assert set(locking_faults(m)) <= set(validate(m))
    print(len(dependencies(m)))
    print("\\n".join(locking_faults(m)))
"""
CIRCULAR = """
    spin_lock(me, lru, HERE); spin_lock(me, work, THERE); spin_unlock(me, work); spin_unlock(me, lru)
    spin_lock(you, work, HERE); spin_lock(you, lru, INSIDE); spin_unlock(you, lru); spin_unlock(you, work)
"""
LONG = """
    p = b.task(0).alloc_lock
    spin_lock(me, lru, HERE); spin_lock(me, work, THERE); spin_unlock(me, work); spin_unlock(me, lru)
    spin_lock(you, work, HERE); spin_lock(you, p, INSIDE); spin_unlock(you, p); spin_unlock(you, work)
    spin_lock(you, p, HERE); spin_lock(you, lru, INSIDE); spin_unlock(you, lru); spin_unlock(you, p)
"""
INCONSISTENT = """
    spin_lock(me, work, HERE); spin_unlock(me, work)
    interrupt(work, INSIDE)
"""
INVERSION = """
    interrupt(zone, INSIDE)
    flags = spin_lock_irqsave(cpu, zone, HERE)
    spin_lock(me, work, THERE); spin_unlock(me, work)
    spin_unlock_irqrestore(m, cpu, zone, flags)
    spin_lock(me, work, HERE); spin_unlock(me, work)
"""
RECURSIVE = "flags = spin_lock_irqsave(cpu, zone, HERE); spin_lock(me, dma, THERE)"
FOREIGN = "spin_lock(me, work, HERE); spin_unlock(you, work)"
TRIED = """
    spin_lock(me, lru, HERE); spin_trylock(me, work, THERE); spin_unlock(me, work); spin_unlock(me, lru)
    spin_lock(you, work, HERE); spin_lock(you, lru, INSIDE); spin_unlock(you, lru); spin_unlock(you, work)
"""
FINE = """
    interrupt(zone, INSIDE)
    for _ in range(3):
        flags = spin_lock_irqsave(cpu, zone, HERE); spin_unlock_irqrestore(m, cpu, zone, flags)
    spin_lock(me, work, HERE)
    interrupt(zone, INSIDE)  # on top of a lock that is held with interrupts on
    spin_unlock(me, work)
"""


def planted(what: str) -> tuple[int, str]:
    """Dependencies noted, and the report."""
    env = {**os.environ, "EMU_MODE": "interpreted", "PYTHONPATH": str(Path(__file__).parents[2])}
    code = PLANT.replace("    PLANTED\n", what if what.startswith("\n") else f"    {what}\n")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    return int(first), rest.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "title", "says"),
    [
        (
            CIRCULAR,
            "possible circular locking dependency",
            ["&pool->lock at there:lock", "&pgdat->lru_lock at inside:lock"],
        ),
        (
            LONG,
            "possible circular locking dependency",
            ["&p->alloc_lock at inside:lock, holding &pool->lock", "(cpu1)"],
        ),
        (INCONSISTENT, "inconsistent lock state", ["interrupts on at here:lock", "in an interrupt at inside:lock"]),
        (INVERSION, "HARDIRQ-safe -> HARDIRQ-unsafe", ["&zone->lock is taken in an interrupt at inside:lock"]),
        (RECURSIVE, "possible recursive locking", ["&zone->lock at there:lock", "&zone->lock from here:lock"]),
        (FOREIGN, "bad unlock balance", ["cpu1 is trying to release lock &pool->lock"]),
    ],
    ids=["circular", "circular over three", "inconsistent", "inversion", "recursive", "foreign"],
)
def test_a_planted_fault_is_found_with_both_paths(what: str, title: str, says: list[str]) -> None:
    _, text = planted(what)
    assert text.count("WARNING:") == 1
    assert f"WARNING: {title}" in text
    for words in says:
        assert words in text


@pytest.mark.slow
def test_what_cannot_deadlock_is_no_fault() -> None:
    assert planted(TRIED) == (1, "")
    assert planted(FINE) == (0, "")
