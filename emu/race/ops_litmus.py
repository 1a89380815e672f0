"""Operations that touch no page: variables, locks, queues, loops, and faults.

For litmus tests - what can two CPUs see of one another? - and for testing the tester: a deadlock, a lost wake-up or a
process that dies can be had on order. Variables are ``v0``... and each CPU may keep what it has read in registers
``r0``...; :func:`forbid` and :func:`require` are setups that say how they must not, or must, be in the end::

    Scenario(
        id="LOST", title="two increments, one lost", story="...", shape=small(),
        programs={"cpu0": (add(0),), "cpu1": (add(0),)}, setup=require(v0=2), invariants=(outcome,),
    )
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from emu.race.area import VARIABLES, OpRecord, RaceArea
from emu.race.ops_pages import zone_of_node
from emu.race.scenario import OpKind, ScenarioError
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.mmzone import Cpu, Machine, zone_at
from shm.atomic import clock_ns, cpu_relax, load_acquire, process_exit, smp_mb, store_release
from shm.baton import Seat, baton_at
from shm.core import core
from shm.here import HereRecord, here
from shm.point import point, point_loop, site
from shm.waitqueue import finish_wait, prepare_to_wait, schedule, waitqueue_active, wake_up

if TYPE_CHECKING:
    from emu.race.world import World

__all__ = [
    "LITMUS_OPS", "add", "crash", "fence", "forbid", "hang", "history", "increase", "lock", "nap", "read", "require",
    "retry", "run_litmus_op", "signal", "spin", "step", "unlock", "wander", "write",
]  # fmt: skip

BASE = 96
(OP_READ, OP_WRITE, OP_ADD, OP_INCREASE, OP_FENCE, OP_STEP, OP_LOCK, OP_UNLOCK, OP_SPIN, OP_RETRY, OP_NAP, OP_SIGNAL,
 OP_CRASH, OP_HANG, OP_HISTORY, OP_WANDER) = range(BASE, BASE + 16)  # fmt: skip
S_READ = tuple(site(f"litmus:read v{i}") for i in range(VARIABLES))
S_WRITE = tuple(site(f"litmus:write v{i}") for i in range(VARIABLES))
S_STEP = site("litmus:step")
S_LOCK = (site("litmus:lock zone"), site("litmus:lock lru"))
S_RETRY = site("litmus:retry")
S_QUEUE = site("litmus:prepare_to_wait")
S_SLEEP = site("litmus:schedule")
S_WAKE = site("litmus:wake_up")
S_FAULT = site("litmus:fault")
DIED = 71  # the exit status of a process that crashes

read = OpKind("read", OP_READ, (("var", 0), ("reg", 0)), "a variable into a register")
write = OpKind("write", OP_WRITE, (("var", 0), ("value", 1)), "a variable gets a value")
add = OpKind("add", OP_ADD, (("var", 0), ("by", 1)), "a variable is read, and written in another step")
increase = OpKind("increase", OP_INCREASE, (("var", 0), ("by", 1)), "a variable is read and written in one step")
fence = OpKind("fence", OP_FENCE, (), "smp_mb()")
step = OpKind("step", OP_STEP, (("points", 1),), "so many points, and nothing else")
lock = OpKind("lock", OP_LOCK, (("which", 0),), "take a lock of node 0, interrupts off: 0 zone->lock, 1 lru_lock")
unlock = OpKind("unlock", OP_UNLOCK, (("which", 0),), "give it back")
spin = OpKind("spin", OP_SPIN, (("var", 0),), "cpu_relax() until a variable isn't 0")
retry = OpKind("retry", OP_RETRY, (("var", 0),), "begin again, as a retry label does, until a variable isn't 0")
nap = OpKind(
    "nap", OP_NAP, (("var", 0), ("careful", 1), ("ns", -1)),
    "sleep until a variable isn't 0, for so long at most; careless: it is looked at before going on the queue",
)  # fmt: skip
signal = OpKind("signal", OP_SIGNAL, (("var", 0),), "a variable becomes 1, and whoever is on the queue is woken")
crash = OpKind("crash", OP_CRASH, (), "the process dies")
hang = OpKind("hang", OP_HANG, (), "the process comes to no other point")
history = OpKind(
    "history", OP_HISTORY, (("var", 0),), "a variable gets a number that isn't put back: schedules played so far"
)  # fmt: skip
wander = OpKind("wander", OP_WANDER, (("modulo", 2),), "as many points as that number modulo ``modulo``")
LITMUS_OPS: tuple[OpKind, ...] = (
    read, write, add, increase, fence, step, lock, unlock, spin, retry, nap, signal, crash, hang, history, wander,
)  # fmt: skip

seat_here = HereRecord(Seat)


@core(cold=True)
def look_at(a: RaceArea, var: int) -> int:
    """A variable now, whatever the compiler knows of it."""
    return load_acquire(a.variables[var], "value")


@core(cold=True)
def op_lock(m: Machine, cpu: Cpu, a: RaceArea, which: int) -> None:
    """The flags are kept where the operation that gives it back finds them."""
    if which == 0:
        a.lock_flags[0] = spin_lock_irqsave(cpu, zone_at(m, zone_of_node(m, 0)).lock, S_LOCK[0])
    else:
        a.lock_flags[1] = spin_lock_irqsave(cpu, m.nodes[0].lru_lock, S_LOCK[1])


@core(cold=True)
def op_unlock(m: Machine, cpu: Cpu, a: RaceArea, which: int) -> None:
    """``spin_unlock_irqrestore()``"""
    if which == 0:
        spin_unlock_irqrestore(m, cpu, zone_at(m, zone_of_node(m, 0)).lock, a.lock_flags[0])
    else:
        spin_unlock_irqrestore(m, cpu, m.nodes[0].lru_lock, a.lock_flags[1])


@core(cold=True)
def op_nap(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """0: the variable isn't 0 any more; -1: time is up. Careless, a wake-up is all that it waits for."""
    me = cpu.party
    var = op.args[0]
    wq = m.nodes[0].pfmemalloc_wait
    deadline = clock_ns() + op.args[2] if op.args[2] >= 0 else -1
    if op.args[1] == 0:
        point(me, S_READ[var])
        if look_at(a, var) != 0:
            return 0
    while True:
        point(me, S_QUEUE)
        cookie = prepare_to_wait(wq)
        if op.args[1] != 0 and look_at(a, var) != 0:
            finish_wait(wq, cookie)
            return 0
        point(me, S_SLEEP)
        woken = schedule(wq, cookie, deadline)
        finish_wait(wq, cookie)
        if not woken:
            return -1
        if op.args[1] == 0:
            return 0


@core(cold=True)
def op_signal(m: Machine, cpu: Cpu, a: RaceArea, var: int) -> None:
    """The variable first, then the wake-up."""
    me = cpu.party
    wq = m.nodes[0].pfmemalloc_wait
    point(me, S_WRITE[var])
    store_release(a.variables[var], "value", 1)
    point(me, S_WAKE)
    if waitqueue_active(wq):
        wake_up(wq)


@core(cold=True)
def op_loop(cpu: Cpu, a: RaceArea, op: OpRecord) -> None:
    """Until the variable isn't 0: spinning, beginning again, or without any point."""
    me = cpu.party
    var = op.args[0]
    if op.code == OP_HANG:
        point(me, S_FAULT)
        while look_at(a, var) >= 0:
            pass
    point(me, S_READ[var])
    while look_at(a, var) == 0:
        if op.code == OP_SPIN:
            cpu_relax()
        else:
            point_loop(me, S_RETRY, 0)


@core(cold=True)
def schedules_played() -> int:
    """A number that nobody puts back between schedules; 0 outside of one."""
    if here() == 0:
        return 0
    seat = seat_here()
    return baton_at(seat, seat.baton).generation


@core(cold=True)
def op_access(cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """Reads and writes. Returns what the variable was."""
    me = cpu.party
    var = op.args[0]
    point(me, S_WRITE[var] if op.code == OP_WRITE else S_READ[var])
    old = a.variables[var].value
    if op.code == OP_READ:
        a.variables[VARIABLES + op.args[1]].value = old
    elif op.code == OP_WRITE:
        a.variables[var].value = op.args[1]
    else:
        if op.code == OP_ADD:
            point(me, S_WRITE[var])
        a.variables[var].value = old + op.args[1]
    return old


@core(cold=True)
def run_litmus_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """One operation of this family."""
    me = cpu.party
    code = op.code
    if code <= OP_INCREASE:
        return op_access(cpu, a, op)
    if code == OP_FENCE:
        smp_mb()
    elif code == OP_LOCK:
        op_lock(m, cpu, a, op.args[0])
    elif code == OP_UNLOCK:
        op_unlock(m, cpu, a, op.args[0])
    elif code == OP_NAP:
        return op_nap(m, cpu, a, op)
    elif code == OP_SIGNAL:
        op_signal(m, cpu, a, op.args[0])
    elif code == OP_CRASH:
        point(me, S_FAULT)
        process_exit(DIED)
    elif code == OP_HISTORY:
        point(me, S_FAULT)
        a.variables[op.args[0]].value = schedules_played()
    elif code in (OP_STEP, OP_WANDER):
        points = op.args[0] if code == OP_STEP else schedules_played() % op.args[0]
        for _ in range(points):
            point(me, S_STEP)
    else:
        op_loop(cpu, a, op)
    return 0


# --- setups -----------------------------------------------------------------------------------------------------------


def _ask(forbidden: int, **values: int) -> "Callable[[World], None]":
    places = {f"{kind}{i}": i + at for kind, at in (("v", 0), ("r", VARIABLES)) for i in range(VARIABLES)}
    unknown = [name for name in values if name not in places]
    if unknown or not values:
        raise ScenarioError(f"litmus: {', '.join(unknown) or 'nothing'} is no variable v0... or register r0...")

    def setup(world: "World") -> None:
        world.area.forbidden = forbidden
        for name, value in values.items():
            variable = world.area.variables[places[name]]
            variable.asked, variable.is_asked = value, 1

    return setup


def forbid(**values: int) -> "Callable[[World], None]":
    """A setup: in the end they must not all be so, ``forbid(r0=0, r1=0)``."""
    return _ask(1, **values)


def require(**values: int) -> "Callable[[World], None]":
    """A setup: in the end they must all be so, ``require(v0=2)``."""
    return _ask(0, **values)
