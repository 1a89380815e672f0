"""Executing a script: in one order on real processes, each CPU waiting for its turn, or each CPU at will."""

from emu.cpu.workqueue import (
    cpu_at,
    poll,
    ring_doorbell,
    run_work,
    sleep_on_doorbell,
)  # fmt: skip
from emu.workload.script import ENDS, OP_SIZE, do_op, op_at
from emu.zone.mmzone import Cpu, Machine, cpu_record
from shm.atomic import cpu_relax, load_acquire, store_release
from shm.core import core, entry

SPINS = 4000
OVER = 1 << 62  # a turn that nobody has


@core
def wait_turn(m: Machine, cpu: Cpu, turn: int) -> bool:
    """Wait until all operations before ``turn`` are done; false when the machine is being stopped, or one of them ended
    the script."""
    spins = 0
    while load_acquire(m, "turn") < turn:
        if load_acquire(m, "stop") != 0:
            return False
        if cpu.work_tail != load_acquire(cpu, "work_head"):
            run_work(m, cpu)
        spins += 1
        if spins < SPINS:
            cpu_relax()
            continue
        seen = load_acquire(cpu, "doorbell")
        if load_acquire(m, "turn") < turn and cpu.work_tail == load_acquire(cpu, "work_head"):
            sleep_on_doorbell(cpu, seen)
    return bool(load_acquire(m, "turn") == turn)


@core(inline=True)
def player(m: Machine, at: int, cpu: int, procs: int) -> int:
    """Which of ``procs`` processes plays CPU ``cpu`` at operation ``at``.

    With fewer processes than CPUs a process plays several; with more, a CPU moves from one to the next every 16
    operations, which nothing may notice since all of a CPU's state is in its record.
    """
    if procs <= m.nr_cpus:
        return cpu % procs
    return cpu + m.nr_cpus * ((at >> 4) % (procs // m.nr_cpus))


@core(inline=True)
def party_index(m: Machine, process: int) -> int:
    """The party of a process: CPUs come first, then the kswapds, then what is left."""
    return process if process < m.nr_cpus else process + m.nr_daemons


@core(cold=True)
def end_script(m: Machine, procs: int) -> None:
    """Nobody's turn comes any more."""
    store_release(m, "turn", OVER)
    for process in range(procs):
        ring_doorbell(cpu_record(m, cpu_at(m, party_index(m, process))))


@entry
def run_ordered(m: Machine, cpu: Cpu, ops: int, handles: int, first: int, last: int, procs: int, mine: int) -> int:
    """Execute the operations ``[first, last)`` of the CPUs that this process plays, each in its turn.

    ``ops`` and ``handles`` are offsets. ``procs`` processes share the CPUs (:func:`player`), ``mine`` is this one.
    Returns the operations done here; fewer than there are when the machine was stopped, or an operation ended it all.
    """
    done = 0
    for at in range(first, last):
        op = op_at(m, ops + at * OP_SIZE)
        if player(m, at, op.cpu, procs) != mine:
            continue
        if not wait_turn(m, cpu, at):
            break
        this = cpu_record(m, cpu_at(m, op.cpu))
        do_op(m, this, op, handles)
        done += 1
        cpu.party.heartbeat += 1
        if op.done == ENDS:
            end_script(m, procs)
            break
        store_release(m, "turn", at + 1)
        if at + 1 < last:
            other = player(m, at + 1, op_at(m, ops + (at + 1) * OP_SIZE).cpu, procs)
            if other != mine:
                ring_doorbell(cpu_record(m, cpu_at(m, party_index(m, other))))
    return done


@entry
def run_free(m: Machine, cpu: Cpu, ops: int, handles: int, first: int, last: int) -> int:
    """Execute this CPU's operations among ``[first, last)`` without waiting for anybody."""
    done = 0
    mine = cpu.party.index
    for at in range(first, last):
        op = op_at(m, ops + at * OP_SIZE)
        if op.cpu != mine:
            continue
        do_op(m, cpu, op, handles)
        done += 1
        if done & 63 == 0:
            cpu.party.heartbeat += 1
            poll(m, cpu)
            if load_acquire(m, "stop") != 0:
                break
    return done
