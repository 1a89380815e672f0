"""What a scenario keeps in the machine's script area: its programs, and what operations hand to one another.

It is part of the machine's memory, so it goes back to its first state with it before every schedule.
"""

from emu.zone.mmzone import Machine
from shm.core import core
from shm.struct import Array, At, Struct, array, i32, i64, size_of, struct

SLOTS, GHOSTS, MAX_OPS, MAX_PROGRAMS = 64, 64, 160, 48
ARGS = 6
VARIABLES = 8  # of litmus tests, and as many registers behind them


@struct
class OpRecord(Struct):
    """One operation: a code of a family in ``emu.race.ops`` and its arguments."""

    _raw_ = True

    code: int = i32()
    actor: int = i32()
    args: Array[int] = array(i64, ARGS)
    result: int = i64()  # what it returned, where that is worth knowing
    done: int = i64()  # how often it was done: 0 or 1


@struct
class Program(Struct):
    """The operations of one actor: a task, or the interrupts of a CPU (each up to an ``iret``)."""

    _raw_ = True

    first: int = i32()
    count: int = i32()
    next: int = i32()  # the operation that is to be done next, counted from ``first``
    _hole: int = i32()


@struct
class Variable(Struct):
    """A word of a litmus test, and what it must not, or must, be in the end."""

    value: int = i64()
    asked: int = i64()
    is_asked: int = i32()
    _hole: int = i32()


@struct
class RaceArea(Struct):
    """The script area of a machine that plays a scenario."""

    slots: Array[int] = array(i64, SLOTS)  # pfn + 1 of a block, or another value; 0: nothing
    ghost: Array[int] = array(i64, GHOSTS)  # what invariants remember
    programs: Array[Program] = array(Program, MAX_PROGRAMS)  # by actor
    ops: Array[OpRecord] = array(OpRecord, MAX_OPS)
    variables: Array[Variable] = array(Variable, 2 * VARIABLES)  # v0..., then r0...
    forbidden: int = i64()  # 1: they must not be as asked
    lock_flags: Array[int] = array(i64, 2)  # of the locks that litmus tests hold


AREA_SIZE = size_of(RaceArea)
area_at = At(RaceArea)


@core(inline=True)
def race_area(m: Machine) -> int:
    """Offset of the machine's :class:`RaceArea`."""
    return m.script
