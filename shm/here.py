"""What a process knows by itself: the seat it has in a scheduled run, or that it runs free.

Everything else lies in shared memory. This one number is a variable of the compiled program (of the process, when
interpreted), since what needs it most - waiting on a futex, reading the clock, relaxing in a spin loop - has no record
to ask. It is the seat's address: all processes of a scheduled run are forked from one parent, so that records of a
segment have one address in all of them.
"""

from typing import Any, Generic, TypeVar

from llvmlite import ir

from shm.core import primitive
from shm.struct import Struct

__all__ = ["HERE", "HereRecord", "free_running", "here", "load_here", "set_here"]

S = TypeVar("S", bound=Struct)
I64 = ir.IntType(64)
HERE = "shm_here"  # the variable's name in a compiled program
_address = 0


def _variable(b: Any) -> Any:
    known = b.module.globals.get(HERE)
    return known or ir.GlobalVariable(b.module, I64, HERE)


def load_here(b: Any) -> Any:
    """LLVM: the seat's address, 0 while free-running."""
    return b.load(_variable(b))


def _lower_here(b: Any) -> Any:
    return load_here(b)


def _lower_set(b: Any, value: Any) -> None:
    b.store(value, _variable(b))


@primitive(_lower_here)
def here() -> int:
    """Address of this process's seat; 0: it runs free."""
    return _address


@primitive(_lower_set, void=True)
def set_here(value: int) -> None:
    """Take a seat, or get up (0)."""
    global _address
    _address = value


def free_running() -> bool:
    """For primitives in interpreted mode."""
    return _address == 0


class HereRecord(Generic[S]):
    """``seat_here = HereRecord(Seat)``, then ``seat_here()``: the record at this process's seat; it must have one."""

    def __init__(self, cls: type[S]) -> None:
        self.cls = cls

    def __call__(self) -> S:
        return self.cls.from_address(_address)
