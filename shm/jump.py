"""Leaving a call tree at once: ``setjmp()`` and ``longjmp()`` of the C library.

A process of a scheduled run may stand deep in the core when its schedule is over, and has to begin the next one from
the top. Core functions own nothing that must be given back on the way out, so a jump is all it takes. Interpreted, the
jump is an exception.
"""

from typing import Any

from llvmlite import ir

from shm.core import primitive

__all__ = ["JUMP_WORDS", "Jump", "long_jump", "set_jump"]

I32, I64 = ir.IntType(32), ir.IntType(64)
JUMP_WORDS = 64  # a jmp_buf has 25 on x86-64, 39 on aarch64


class Jump(BaseException):
    """Interpreted mode's way out; the value is what :func:`set_jump` would have returned."""


def _array(b: Any, rec: Any) -> Any:
    at, _ = rec.of.fields["jump"]
    return b.bitcast(b.gep(rec.value, [I64(at)]), ir.IntType(8).as_pointer())


def _function(b: Any, name: str, kind: Any, *attributes: str) -> Any:
    known = b.module.globals.get(name)
    if known is not None:
        return known
    made = ir.Function(b.module, kind, name)
    for attribute in attributes:
        made.attributes.add(attribute)
    return made


def _lower_set(b: Any, rec: Any) -> Any:
    buffer = _array(b, rec)
    kind = ir.FunctionType(I32, [buffer.type])
    return b.zext(b.call(_function(b, "_setjmp", kind, "returns_twice"), [buffer]), I64)


def _lower_jump(b: Any, rec: Any, value: Any) -> None:
    buffer = _array(b, rec)
    kind = ir.FunctionType(ir.VoidType(), [buffer.type, I32])
    b.call(_function(b, "longjmp", kind, "noreturn"), [buffer, b.trunc(value, I32)])


@primitive(_lower_set)
def set_jump(rec: Any) -> int:
    """Remember this place in ``rec.jump``: 0 now, and what :func:`long_jump` is given when it comes back here. The
    function that called it must not have returned meanwhile."""
    return 0


@primitive(_lower_jump, void=True)
def long_jump(rec: Any, value: int) -> None:
    """Back to where :func:`set_jump` was called, with a value other than 0."""
    raise Jump(value)
